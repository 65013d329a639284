"""People dealt out in parts that are the same in every run. Needs numpy alone."""

import numpy as np

FOLDS = 4  # of unseen_split
SEED = 20181202  # of every shuffle: the parts do not depend on a run's own seed


def folds_of_people(num_identities, folds=FOLDS):
    """The fold of each person: int64 [C], 0..folds-1; it depends on C and `folds` alone.

    The people are shuffled once and dealt out in turns, so that sizes differ by one at most.
    """
    result = np.empty(num_identities, np.int64)
    result[np.random.RandomState(SEED).permutation(num_identities)] = (
        np.arange(num_identities) % folds)
    return result
