"""What a ranking's curves are held against: chance, and the best that the gallery allows."""

from typing import NamedTuple, Optional

import numpy as np

from evaluation import metrics, vectors
from evaluation.distances import DistanceCounts

CURVE_POINTS = 150  # of a curve over all ranks of a gallery larger than metrics' own curves


class Ranking(NamedTuple):
    """Macro precision and recall of the first N ranks, and their bounds.

    Attributes:
        ranks: int [M], the values of N, from 1 up.
        precision, recall: float64 [M], expected.
        precision_ceiling, recall_ceiling: float64 [M], means of min(1, R / N) and min(1, N / R)
            over queries with R relevant items; None where R is not known.
        chance: precision of a random order at any N; None where R is not known.
        gallery: N of the whole gallery.
    """

    ranks: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    precision_ceiling: Optional[np.ndarray] = None
    recall_ceiling: Optional[np.ndarray] = None
    chance: Optional[float] = None
    gallery: Optional[int] = None


def ranking(evaluation, codes):
    """The Ranking of codes over the whole gallery.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats.
    """
    gallery = len(codes.gallery_labels)
    known = len(evaluation.precision_at)
    ranks = np.arange(1, known + 1)
    precision, recall = evaluation.precision_at, evaluation.recall_at
    if known < gallery:  # beyond metrics' own curves: some ranks up to the last
        more = np.unique(np.round(np.geomspace(known + 1, gallery, CURVE_POINTS)).astype(int))
        beyond = vectors.precision_recall_at(codes, more)
        ranks = np.concatenate([ranks, more])
        precision, recall = [np.concatenate(parts) for parts in zip((precision, recall), beyond)]
    # Queries of equal R have equal bounds.
    relevant, times = np.unique(relevant_items(codes), return_counts=True)
    weights = times / times.sum()
    ratio = relevant[:, None] / ranks
    inverse = np.where(relevant[:, None] > 0, ranks / np.maximum(relevant, 1)[:, None], 0)
    return Ranking(ranks, precision, recall, weights.dot(np.minimum(1, ratio)),
                   weights.dot(np.minimum(1, inverse)), float(weights.dot(relevant) / gallery),
                   gallery)


def relevant_items(codes):
    """R of each query, the gallery items with its label: int64 [Q]."""
    labels, counts = np.unique(codes.gallery_labels, return_counts=True)
    place = np.minimum(np.searchsorted(labels, codes.query_labels), len(labels) - 1)
    return np.where(labels[place] == codes.query_labels, counts[place], 0)


def chance_map(codes):
    """mAP of codes that say nothing: all of the gallery is one tie."""
    relevant, times = np.unique(relevant_items(codes), return_counts=True)
    gallery = np.full_like(relevant, len(codes.gallery_labels))
    expected = metrics.average_precision(
        DistanceCounts(gallery[:, None], relevant[:, None])).expected
    return float(np.average(expected, weights=times))
