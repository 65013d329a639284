"""What every engine of search has: the nearest codes of a gallery, ties in the order of rows.

Codes are the numbers that evaluation.packing makes. A row is a code's place in the gallery.
"""

import functools
import os
from typing import NamedTuple

import faiss
import numpy as np

from evaluation import packing

SAMPLE = 100  # queries that recall is measured with
SAMPLE_TOP = 50
SAMPLE_FLIP = 0.02  # share of a stored code's bits that are flipped to make a query of it
SCAN = 1 << 22  # codes compared at once where all distances are wanted
# Fewer comparisons than this are done by one thread: the others cost more than they do.
THREADED_PAIRS = 1 << 27


class Neighbours(NamedTuple):
    """The nearest codes of some queries, the nearest first, ties in the order of rows.

    Attributes:
        distances: int32 [Q, top].
        rows: int64 [Q, top].
    """

    distances: np.ndarray
    rows: np.ndarray


class Index:
    """What every engine has. One object serves several threads.

    Args:
        codes: uint64 [n], n >= 1; kept, not copied.
        num_bits: K.
    """

    name = None
    exact = True

    def __init__(self, codes, num_bits):
        self.codes = codes
        self.num_bits = num_bits

    def search(self, queries, top):
        """The `top` nearest codes of each query, all if there are fewer.

        Args:
            queries: uint64 [Q].
            top: >= 1.

        Returns:
            Neighbours.
        """
        top = min(top, len(self.codes))
        if not len(queries):
            return Neighbours(np.zeros((0, top), np.int32), np.zeros((0, top), np.int64))
        set_threads(len(queries) * len(self.codes))
        return self._search(np.ascontiguousarray(queries, np.uint64), top)

    def _search(self, queries, top):
        raise NotImplementedError

    def within(self, query, radius):
        """All codes within a Hamming radius of one query: (distances, rows), in search's order."""
        found = [(start + np.flatnonzero(part <= radius), part[part <= radius])
                 for start, part in self._all_distances(query)]
        rows = np.concatenate([rows for rows, _ in found])
        distances = np.concatenate([part for _, part in found])
        order = np.argsort(distances, kind="mergesort")  # the stable one
        return distances[order], rows[order]

    def nearest(self, query, top):
        """The `top` nearest codes of one query, and how many more tie with the last of them.

        Of codes that tie with the last, those of the lowest rows are taken, whatever the engine.

        Returns:
            (distances int32 [top], rows int64 [top], count of further ties).
        """
        found = self.search(np.array([query], np.uint64), top)
        distances, rows = found.distances[0], found.rows[0]
        last = distances[-1]
        kept = int(np.count_nonzero(distances < last))
        tied, count = [], 0
        for start, part in self._all_distances(query):
            at_last = np.flatnonzero(part == last)
            count += len(at_last)
            if sum(map(len, tied)) < len(rows) - kept:
                tied.append(start + at_last[:len(rows) - kept])
        rows = np.concatenate([rows[:kept]] + tied)[:len(rows)]
        return distances, rows, count - (len(rows) - kept)

    def _all_distances(self, query):
        """Yields (first row, int32 distances) of stretches of the codes."""
        for start in range(0, len(self.codes), SCAN):
            yield start, _scan(query, self.codes[start:start + SCAN])

    def close(self):
        """Frees what is held outside this process."""


def measured_recall(index, top=SAMPLE_TOP, count=SAMPLE):
    """Recall of an engine against exact search, on stored codes with some bits flipped.

    Args:
        index: an Index.
        top: nearest codes that are looked at.
        count: queries.

    Returns:
        Mean share of an engine's `top` that lie no farther than the exact search's last. Which of
        several codes at one distance is found does not matter.
    """
    rng = np.random.RandomState(0)
    rows = rng.randint(0, len(index.codes), count)
    flips = packing.pack(np.where(rng.rand(count, index.num_bits) < SAMPLE_FLIP, 1, -1))
    queries = np.asarray(index.codes[rows]) ^ flips
    found = index.search(queries, top).distances
    shares = []
    for query, distances in zip(queries, found):
        nearer = np.zeros(index.num_bits + 1, np.int64)
        for _, part in index._all_distances(query):
            nearer += np.bincount(part, minlength=len(nearer))
        last = np.searchsorted(np.cumsum(nearer), len(distances))
        shares.append(np.mean(distances <= last))
    return float(np.mean(shares))


def _scan(query, codes):
    """Distances of one query to codes: uint64, uint64 [n] -> int32 [n]."""
    one, many = packing.as_bytes([query]), packing.as_bytes(codes)
    result = np.empty(len(many), np.int32)
    faiss.hammings(faiss.swig_ptr(one), faiss.swig_ptr(many), 1, len(many), packing.CODE_BYTES,
                   faiss.swig_ptr(result))
    return result


def set_threads(pairs):
    """Lets faiss use all cores in this thread's calls if there is enough to do."""
    faiss.omp_set_num_threads(1 if pairs < THREADED_PAIRS else _all_threads())


@functools.lru_cache(maxsize=None)
def _all_threads():
    """What OpenMP takes by itself: all cores, unless OMP_NUM_THREADS says otherwise."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) else os.cpu_count() or 1
