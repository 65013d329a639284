"""One interface for what runs compare: binary codes (Codes) or floating-point vectors (Floats).

A run's folder holds codes.npz or floats.npz, whichever its method makes.
"""

import numpy as np

from evaluation import floats, metrics
from evaluation.codes import Codes, load_codes
from evaluation.distances import count_distances
from runtime.errors import UserError

UNSEEN = "unseen_"  # prefix of the file of people who are not in training


def file_name(vectors):
    """The name of the file that holds such vectors in a run's folder."""
    return "codes.npz" if isinstance(vectors, Codes) else "floats.npz"


def load_vectors(folder):
    """The Codes or Floats that a run has saved.

    Args:
        folder: an OutputFolder.

    Raises:
        UserError: there are none yet, or the file is damaged.
    """
    found = _load(folder, "")
    if found is None:
        raise UserError(f"{folder} has no codes.npz yet; run: python evaluate.py {folder}")
    return found


def load_unseen(folder):
    """The Codes or Floats of people who are not in training; None if a run has none.

    Args:
        folder: an OutputFolder.

    Raises:
        UserError: the file is damaged.
    """
    return _load(folder, UNSEEN)


def _load(folder, prefix):
    for name, load in (("codes.npz", load_codes), ("floats.npz", floats.load_floats)):
        path = folder.path / (prefix + name)
        if path.exists():
            try:
                return load(path)
            except UserError as error:
                raise UserError(f"{error}; evaluate the run again: python evaluate.py {folder}")
    return None


def evaluate(vectors, **options):
    """The metrics.Evaluation of Codes or Floats; options are those of metrics.evaluate_codes."""
    if isinstance(vectors, Codes):
        return metrics.evaluate_codes(vectors, **options)
    return floats.evaluate_floats(vectors, **options)


def precision_recall_at(vectors, ranks):
    """Expected macro precision and recall of the first N ranks; see metrics.precision_recall_at."""
    if isinstance(vectors, Codes):
        return metrics.precision_recall_at(count_distances(vectors), ranks)
    return floats.precision_recall_at(vectors, ranks)


def distances_of(vectors, query):
    """The distance of one query to every gallery item: Hamming, or cosine of Floats.

    Args:
        vectors: Codes or Floats.
        query: the query's index.

    Returns:
        int or float64 [N].
    """
    if not isinstance(vectors, Codes):
        return floats.cosine_distances(vectors.query_vectors[query:query + 1],
                                       vectors.gallery_vectors)[0]
    distances = np.count_nonzero(vectors.gallery_codes != vectors.query_codes[query], axis=1)
    return np.where(distances > 0, vectors.gallery_codes.shape[1], 0) if vectors.numbers \
        else distances
