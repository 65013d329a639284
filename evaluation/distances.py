"""How many gallery items lie at each Hamming distance from each query. Needs numpy alone."""

from typing import NamedTuple

import numpy as np

from evaluation.codes import distinct

# So many queries and gallery items are compared at once: the product, indices and histogram of such
# a block fit into a processor's second-level cache, and memory is bounded.
QUERY_BLOCK, GALLERY_BLOCK = 256, 4096
# If the distinct codes are fewer than this share of the gallery, only those are compared.
DISTINCT_SHARE = 0.5


class DistanceCounts(NamedTuple):
    """Numbers of gallery items at each distance from each query.

    Attributes:
        items: int64 [Q, K + 1], n_d: gallery items at each Hamming distance 0..K.
        relevant: int64 [Q, K + 1], r_d: those with the query's label.
    """

    items: np.ndarray
    relevant: np.ndarray

    @property
    def items_before(self):
        """N_d: int64 [Q, K + 1]."""
        return np.cumsum(self.items, axis=1) - self.items

    @property
    def relevant_before(self):
        """R_d: int64 [Q, K + 1]."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @property
    def num_relevant(self):
        """R: int64 [Q]."""
        return self.relevant.sum(axis=1)


def count_distances(codes):
    """DistanceCounts of Codes. Needs four times the memory of the gallery's codes for itself."""
    if codes.numbers:
        return _equality_counts(codes)
    gallery, weights, _ = distinct(codes.gallery_codes)
    if len(gallery) > DISTINCT_SHARE * len(codes.gallery_codes):
        gallery, weights = codes.gallery_codes, None
    queries, _, origin = distinct(codes.query_codes)
    return DistanceCounts(_histograms(gallery, weights, queries)[origin], _relevant_counts(codes))


def _histograms(gallery, weights, queries):
    """n_d for each query: int64 [Q, K + 1]; each gallery row counts `weights` times (None: once).

    d = (K - <q, g>) / 2. A further column adds the start of the query's own part of a flat
    histogram to the matrix product. All are whole numbers below 2^24, and so exact in float32.
    """
    num_bits = gallery.shape[1]
    width = num_bits + 1
    with_one = np.ones((width, len(gallery)), np.float32)
    with_one[:num_bits] = gallery.T
    result = np.empty((len(queries), width), np.int64)
    for start in range(0, len(queries), QUERY_BLOCK):
        block = queries[start:start + QUERY_BLOCK]
        offsets = np.arange(len(block))[:, None] * width + num_bits / 2.0
        halves = np.concatenate([block * -0.5, offsets], axis=1).astype(np.float32)
        counts = np.zeros(len(block) * width)
        for column in range(0, len(gallery), GALLERY_BLOCK):
            columns = slice(column, column + GALLERY_BLOCK)
            slots = np.matmul(halves, with_one[:, columns]).astype(np.int64)
            repeated = None if weights is None else np.broadcast_to(
                weights[columns], slots.shape).ravel()
            counts += np.bincount(slots.ravel(), repeated, minlength=len(counts))
        result[start:start + QUERY_BLOCK] = counts.reshape(len(block), width)
    return result


def _relevant_counts(codes):
    """r_d for each query, from the gallery items of its own label alone: int64 [Q, K + 1]."""
    result = np.zeros((len(codes.query_codes), codes.query_codes.shape[1] + 1), np.int64)
    gallery_order = np.argsort(codes.gallery_labels, kind="mergesort")
    gallery_labels = codes.gallery_labels[gallery_order]
    query_order = np.argsort(codes.query_labels, kind="mergesort")
    labels, starts = np.unique(codes.query_labels[query_order], return_index=True)
    firsts = np.searchsorted(gallery_labels, labels, side="left")
    lasts = np.searchsorted(gallery_labels, labels, side="right")
    for rows, first, last in zip(np.split(query_order, starts[1:]), firsts, lasts):
        if first < last:
            same = codes.gallery_codes[gallery_order[first:last]]
            result[rows] = _histograms(same, None, codes.query_codes[rows])
    return result


def _equality_counts(codes):
    """DistanceCounts of codes that are numbers: distance 0 if they are equal, else K."""
    numbers = distinct(np.concatenate([codes.gallery_codes, codes.query_codes]))[2]
    labels = np.unique(np.concatenate([codes.gallery_labels, codes.query_labels]),
                       return_inverse=True)[1].reshape(-1)
    both = np.unique(numbers * (labels.max() + 1) + labels, return_inverse=True)[1].reshape(-1)
    equal, relevant, all_relevant = [
        _times(values, len(codes.gallery_codes)) for values in (numbers, both, labels)]
    shape = len(codes.query_codes), codes.query_codes.shape[1] + 1
    counts = DistanceCounts(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    counts.items[:, 0], counts.items[:, -1] = equal, len(codes.gallery_codes) - equal
    counts.relevant[:, 0], counts.relevant[:, -1] = relevant, all_relevant - relevant
    return counts


def _times(values, num_gallery):
    """How often each query's value occurs in the gallery, whose values come first: int64 [Q]."""
    return np.bincount(values[:num_gallery], minlength=values.max() + 1)[values[num_gallery:]]
