"""Floating-point vectors: their distances, the nearest, and the metrics of evaluation.metrics.

Gallery items at the same distance from a query are a tie, as with codes; vectors hardly ever tie
unless they are equal. The same counts and closed forms apply. Needs numpy alone.
"""

from typing import NamedTuple, Optional

import numpy as np

from evaluation import metrics
from evaluation.distances import DistanceCounts
from runtime.array_file import read_arrays
from runtime.errors import UserError

# Pairs of query and gallery item that are ranked at once; each takes about 200 bytes.
PAIRS_AT_ONCE = 1 << 19
GALLERY_BLOCK = 4096  # gallery vectors converted to float64 at once
MOST_DISTANCES = 1 << 24  # held at once by `nearest`
# Distances of a query that differ by less than this share of its largest count as equal: rounding.
RESOLUTION = 2.0 ** -26


class Floats(NamedTuple):
    """Gallery and queries, as floats.npz holds them.

    Attributes:
        gallery_vectors: float32 [N, P].
        gallery_labels: [N], integers or strings.
        query_vectors: float32 [Q, P].
        query_labels: [Q].
        gallery_fingerprints, query_fingerprints: see evaluation.codes.Codes.
    """

    gallery_vectors: np.ndarray
    gallery_labels: np.ndarray
    query_vectors: np.ndarray
    query_labels: np.ndarray
    gallery_fingerprints: Optional[np.ndarray] = None
    query_fingerprints: Optional[np.ndarray] = None

    file_name = "floats.npz"
    has_bits = False

    def arrays(self):
        """What an .npz file holds of it: a dict of arrays."""
        return {name: array for name, array in self._asdict().items() if array is not None}


def load_floats(path):
    """Floats from an .npz file. Raises UserError if it is missing, damaged or malformed."""
    floats = Floats(**read_arrays(path, Floats._fields[:4], Floats._fields[4:]))
    for name in ("gallery", "query"):
        vectors, labels, fingerprints = [getattr(floats, f"{name}_{part}")
                                         for part in ("vectors", "labels", "fingerprints")]
        if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype.kind != "f":
            raise UserError(f"{path}: {name}_vectors must be floating-point numbers [images, "
                            f"values], not {vectors.dtype} {vectors.shape}")
        if not np.isfinite(vectors).all():
            raise UserError(f"{path}: {name}_vectors holds values that are not finite")
        if labels.shape != vectors.shape[:1] or np.shape(fingerprints) not in ((), labels.shape):
            raise UserError(f"{path}: {name}_vectors has {len(vectors)} rows, unlike its labels or "
                            "fingerprints")
    if floats.gallery_vectors.shape[1] != floats.query_vectors.shape[1] or (
            floats.gallery_labels.dtype.kind != floats.query_labels.dtype.kind):
        raise UserError(f"{path}: gallery and queries hold vectors of different sizes, or labels "
                        "of different types")
    return floats


def unit_vectors(vectors, dtype=np.float32):
    """Vectors scaled to length 1: float [n, P] -> `dtype` [n, P].

    A row of zeros stays zero, at distance 1 from everything.
    """
    vectors = np.asarray(vectors, dtype)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def cosine_distances(queries, gallery):
    """1 - cosine of the angle: float [Q, P], [N, P] -> float64 [Q, N]; 1 for a zero vector."""
    queries = unit_vectors(queries, np.float64)
    return _in_columns(gallery, len(queries),
                       lambda block: 1 - queries.dot(unit_vectors(block, np.float64).T))


def euclidean_distances(queries, gallery):
    """Lengths of the differences: float [Q, P], [N, P] -> float64 [Q, N]."""
    queries = np.asarray(queries, np.float64)
    squares = np.square(queries).sum(axis=1)[:, None]

    def distances(block):
        block = np.asarray(block, np.float64)
        return np.sqrt(np.maximum(
            squares + np.square(block).sum(axis=1) - 2 * queries.dot(block.T), 0))

    return _in_columns(gallery, len(queries), distances)


def _in_columns(gallery, num_queries, distances):
    """The distances to a gallery, one block of it at a time: float64 [Q, N]."""
    result = np.empty((num_queries, len(gallery)))
    for start in range(0, len(gallery), GALLERY_BLOCK):
        result[:, start:start + GALLERY_BLOCK] = distances(gallery[start:start + GALLERY_BLOCK])
    return result


def nearest(queries, gallery, count):
    """The nearest faces of a whole gallery.

    Args:
        queries: float32 [Q, D], of unit_vectors.
        gallery: float32 [n, D], of unit_vectors.
        count: number of faces, at least 1.

    Returns:
        (rows, distances): int64 and float32 [Q, min(count, n)]: rows of the gallery and their
        cosine distances (1 - cosine, 0..2), the nearest first, equal ones by row.
    """
    count = min(count, len(gallery))
    rows = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float32)
    step = max(1, MOST_DISTANCES // max(len(gallery), 1))
    for start in range(0, len(queries), step):
        block = 1 - queries[start:start + step].dot(gallery.T)  # [queries of the block, n]
        for place, apart in enumerate(block, start):
            # All faces as far as the last one stay, so that of equal ones the first are taken.
            chosen = np.arange(len(apart)) if count == len(apart) else np.flatnonzero(
                apart <= np.partition(apart, count - 1)[count - 1])
            order = np.argsort(apart[chosen], kind="stable")[:count]
            rows[place], distances[place] = chosen[order], apart[chosen[order]]
    return rows, distances


def count_ties(distances, relevant):
    """Counts the ties in the ranking of the gallery for each query.

    Args:
        distances: float64 [Q, N], not negative.
        relevant: bool [Q, N], whether an item has the query's label.

    Returns:
        A DistanceCounts of N columns: the ties in ascending order of distance, then zeros.
    """
    largest = np.maximum(distances.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    steps = np.rint(distances / largest / RESOLUTION).astype(np.int32)
    order = np.argsort(steps, axis=1)
    steps = np.take_along_axis(steps, order, axis=1)
    slots = np.zeros(steps.shape, np.int64)
    np.cumsum(np.diff(steps, axis=1) > 0, axis=1, out=slots[:, 1:])
    slots += np.arange(len(slots))[:, None] * slots.shape[1]
    hits = np.take_along_axis(relevant, order, axis=1)
    items, hits = [np.bincount(found, minlength=slots.size).reshape(slots.shape)
                   for found in (slots.ravel(), slots[hits])]
    return DistanceCounts(items, hits)


def ranked_blocks(floats, distances):
    """Yields DistanceCounts of a few queries at a time, in order, which bounds memory.

    Args:
        floats: Floats.
        distances: cosine_distances or euclidean_distances.
    """
    rows = max(1, PAIRS_AT_ONCE // len(floats.gallery_vectors))
    for start in range(0, len(floats.query_vectors), rows):
        some = slice(start, start + rows)
        yield count_ties(distances(floats.query_vectors[some], floats.gallery_vectors),
                         floats.query_labels[some, None] == floats.gallery_labels)


def mean_average_precision(floats, distances):
    """Expected mAP of a ranking by `distances`: cosine_distances or euclidean_distances."""
    return float(np.mean(np.concatenate(
        [metrics.average_precision(counts).expected
         for counts in ranked_blocks(floats, distances)])))


def evaluate_floats(floats, map_at=1000, authors_evaluation=False):  # noqa: ARG001  codes have it
    """The metrics of vectors ranked by cosine distance, and mAP by Euclidean distance.

    Args:
        floats: Floats.
        map_at: R of mAP@R.
        authors_evaluation: ignored; metrics.evaluate_codes takes it.

    Returns:
        A metrics.Evaluation without the parts on Hamming radii.
    """
    evaluation = metrics.evaluate_rankings(ranked_blocks(floats, cosine_distances), floats, map_at)
    return evaluation._replace(results=metrics.plain(dict(
        evaluation.results, num_values=floats.gallery_vectors.shape[1],
        mAP_euclidean=np.float64(mean_average_precision(floats, euclidean_distances)))))
