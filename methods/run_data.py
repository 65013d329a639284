"""What a run reads: images of the people it learns, and of people it never sees.

People are never seen where prepare.py --unseen has kept them out of a data set, or where the
setting unseen_split keeps a fold of a data set's people out of training. Needs no TensorFlow.
"""

from typing import NamedTuple, Optional

import numpy as np

import data_loader
from config import METHODS, Config, Dataset
from data_loader import ImageSet
from evaluation.folds import FOLDS, folds_of_people
from faces.embedding import read_embeddings
from runtime.errors import UserError

FEWEST_PEOPLE = 2 * FOLDS  # among fewer than two of a fold, nobody can be mistaken


class RunData(NamedTuple):
    """What a run reads.

    Attributes:
        config, dataset: its settings, complete, and its data set, with num_identities as below.
        train, test: ImageSets of the people that are seen, labels 0..num_identities-1.
        names: their names by label, or None.
        digest: data_loader.data_digest of all images, those of `unseen` included.
        unseen: (gallery, queries) of the people that are not seen, two ImageSets with labels of
            their own from 0 up, normalised with the statistics of `train`, as a photograph that
            comes alone is; None where there are none.
        unseen_names: their names by label, or None.
    """

    config: Config
    dataset: Dataset
    train: ImageSet
    test: ImageSet
    names: Optional[list]
    digest: str
    unseen: Optional[tuple] = None
    unseen_names: Optional[list] = None


def load_run_data(config, dataset):
    """Loads the images that a run of these settings reads.

    With unseen_split, what prepare.py --unseen has kept out is not even read, so that choices can
    be made on folds and judged on the rest.

    Args:
        config: a complete Config.
        dataset: its whole config.Dataset.

    Returns:
        A RunData.

    Raises:
        UserError: files missing or malformed, or too few people for a fold.
    """
    names = data_loader.identity_names(dataset)
    if config.unseen_split is not None:
        return _with_fold(config, dataset, names)
    train, test = data_loader.load_dataset(dataset)
    unseen = unseen_names = None
    others = dataset.unseen
    if others:
        unseen_names = data_loader.identity_names(others)
        unseen = tuple(data_loader.normalise(*split, statistics=(train.mean, train.std))
                       for split in data_loader.read_dataset(others))
    if METHODS[config.method].inputs == "embeddings":
        train, test = _with_embeddings(dataset, [[train], [test]])
        unseen = unseen and _with_embeddings(others, [[split] for split in unseen])
    return _run_data(config, dataset, train, test, names, unseen, unseen_names)


def _with_fold(config, dataset, names):
    """The RunData of a run that leaves a fold of the people out."""
    if dataset.num_identities < FEWEST_PEOPLE:
        raise UserError("unseen_split needs at least %d people, two for each fold; %s has %d"
                        % (FEWEST_PEOPLE, dataset.title, dataset.num_identities))
    is_unseen = folds_of_people(dataset.num_identities) == config.unseen_split
    splits = data_loader.read_dataset(dataset)
    seen = [_of_people(*split, people=np.flatnonzero(~is_unseen)) for split in splits]
    unseen = [_of_people(*split, people=np.flatnonzero(is_unseen)) for split in splits]
    if not all(len(labels) for _, labels, _, _ in seen + unseen):
        raise UserError("%s: fold %d or the rest has no training or no test images; name another "
                        "unseen_split" % (dataset.title, config.unseen_split))
    del splits
    train, test = [_normalised(split) for split in seen]
    unseen = tuple(_normalised(split, (train.mean, train.std)) for split in unseen)
    if METHODS[config.method].inputs == "embeddings":
        train, unseen_gallery, test, unseen_queries = _with_embeddings(
            dataset, [[train, unseen[0]], [test, unseen[1]]])
        unseen = unseen_gallery, unseen_queries
    # Where people have no names, their numbers in the whole data set are those they are known by.
    names = names or ["%s %d" % (dataset.name, label) for label in range(dataset.num_identities)]
    names, unseen_names = [[name for name, chosen in zip(names, people) if chosen]
                           for people in (~is_unseen, is_unseen)]
    return _run_data(config, dataset._replace(
        num_identities=int(np.count_nonzero(~is_unseen)), num_train=len(train.labels),
        num_test=len(test.labels)), train, test, names, unseen, unseen_names)


def _of_people(images, labels, pixel_range, people):
    """The images of some people, who are numbered from 0: (images, labels, pixel_range, rows)."""
    rows = np.flatnonzero(np.isin(labels, people))
    return images[rows], np.searchsorted(people, labels[rows]), pixel_range, rows


def _normalised(split, statistics=None):
    images, labels, pixel_range, rows = split
    return data_loader.normalise(images, labels, pixel_range, statistics)._replace(rows=rows)


def _with_embeddings(dataset, splits):
    """ImageSets with their embeddings.

    Args:
        dataset: the config.Dataset that they are of.
        splits: two lists, of ImageSets that are all of the training and of the test images.

    Returns:
        A tuple of them all, in order.
    """
    if dataset.embedding is None:
        raise UserError("%s has no face embeddings: %s" % (dataset.title, (
            "prepare it again with --embedding" if dataset.source == "prepared" else
            "only data sets that prepare.py --embedding makes of photographs have")))
    found = []
    for folder, parts in zip((dataset.train_folder, dataset.test_folder), splits):
        embeddings = read_embeddings(folder, sum(len(part.labels) for part in parts))
        found += [part._replace(embeddings=embeddings if part.rows is None
                                else embeddings[part.rows]) for part in parts]
    return tuple(found)


def _run_data(config, dataset, train, test, names, unseen, unseen_names):
    return RunData(config, dataset, train, test, names,
                   data_loader.data_digest(train, test, *unseen or ()), unseen, unseen_names)
