"""The engines of search: the nearest codes of a gallery, ties in the order of rows.

    flat      faiss, every code compared; exact
    ivf       faiss, inverted lists: a part of the codes compared; for millions and more

Those run in this process; a server does it in gallery/milvus.py. Codes are the numbers that
evaluation.packing makes. A row is a code's place in the gallery.
"""

import contextlib
import zlib
from typing import NamedTuple

import faiss
import numpy as np

from evaluation import packing
from runtime import files
from runtime.array_file import read_arrays
from runtime.errors import UserError

SAMPLE = 100  # queries that recall is measured with
SAMPLE_TOP = 50
SAMPLE_FLIP = 0.02  # share of a stored code's bits that are flipped to make a query of it
SCAN = 1 << 22  # codes compared at once where all distances are wanted
# Fewer comparisons than this are done by one thread: the others cost more than they do.
THREADED_PAIRS = 1 << 27
ALL_THREADS = faiss.omp_get_max_threads()  # all cores, unless OMP_NUM_THREADS says otherwise
# From so many codes on, lists are worth building; until then a query takes milliseconds anyway.
IVF_ITEMS = 4000000
GOOD_RECALL = 0.999
COUNTING_BYTES = 1 << 28  # that faiss may take while it counts distances
LISTS = "lists.npz"  # of an IvfIndex, in the gallery's folder


class Neighbours(NamedTuple):
    """The nearest codes of some queries, the nearest first, ties in the order of rows."""

    distances: np.ndarray  # int32 [Q, top]
    rows: np.ndarray  # int64 [Q, top]


class Index:
    """What every engine has. One object serves several threads.

    Args:
        codes: uint64 [n], n >= 1; kept, not copied.
        num_bits: K.
    """

    name = None
    exact = True
    recall = 1.0

    def __init__(self, codes, num_bits):
        self.codes = codes
        self.num_bits = num_bits

    def search(self, queries, top):
        """The Neighbours of queries, uint64 [Q]: the `top` nearest codes, or all there are."""
        top = min(top, len(self.codes))
        if not len(queries):
            return Neighbours(np.zeros((0, top), np.int32), np.zeros((0, top), np.int64))
        set_threads(len(queries) * len(self.codes))
        return self._search(np.ascontiguousarray(queries, np.uint64), top)

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

    def candidates(self, code, activations, count):
        """Rows of faces that are worth comparing by more than their codes: int64, ascending.

        Args:
            code: uint64, of the query.
            activations: float [K], what it was made of: they tell apart faces that tie by code.
            count: of the rows.
        """
        apart = packing.weighted_distances(activations, self.codes)
        return np.sort(np.argpartition(apart, count - 1)[:count])

    def _completed(self, queries, distances, rows, short):
        """Neighbours of what an engine found in any order; `short` queries are searched exactly."""
        order = np.lexsort((rows, distances), axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
        for query in short:
            exact = self.within(queries[query], self.num_bits)
            distances[query], rows[query] = (part[:rows.shape[1]] for part in exact)
        return Neighbours(distances, rows)

    def _all_distances(self, query):
        """Yields (first row, int32 distances) of stretches of the codes."""
        for start in range(0, len(self.codes), SCAN):
            yield start, _scan(query, self.codes[start:start + SCAN])


def measured_recall(index):
    """Recall of an Index against exact search, on SAMPLE stored codes with some bits flipped.

    Returns:
        Mean share of an engine's SAMPLE_TOP nearest that lie no farther than the exact search's
        last. Which of several codes at one distance is found does not matter.
    """
    rng = np.random.RandomState(0)
    rows = rng.randint(0, len(index.codes), SAMPLE)
    flips = packing.pack(np.where(rng.rand(SAMPLE, index.num_bits) < SAMPLE_FLIP, 1, -1))
    queries = np.asarray(index.codes[rows]) ^ flips
    found = index.search(queries, SAMPLE_TOP).distances
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
    faiss.omp_set_num_threads(1 if pairs < THREADED_PAIRS else ALL_THREADS)


class FlatIndex(Index):
    """faiss compares a query with every code."""

    name = "flat"

    def __init__(self, codes, num_bits):
        super().__init__(codes, num_bits)
        self._index = faiss.IndexBinaryFlat(packing.MAX_BITS)
        self._index.use_heap = False  # results are the same; counting distances is faster
        self._index.add(packing.as_bytes(codes))

    def _search(self, queries, top):
        # A query takes room for `top` rows at each of 65 distances.
        block = max(1, COUNTING_BYTES // (8 * (packing.MAX_BITS + 1) * top))
        parts = [self._index.search(packing.as_bytes(queries[start:start + block]), top)
                 for start in range(0, len(queries), block)]
        return Neighbours(*(np.concatenate(part) for part in zip(*parts)))


class IvfIndex(Index):
    """faiss' inverted lists: codes are grouped around centers; some groups are searched.

    Args:
        codes, num_bits: see Index.
        centers: uint64 [lists], codes.
        lists: int32 [n], the list of each code.
        probes: lists that a query searches.
        recall: that was measured with them, or None.

    Raises:
        ValueError: they are not of these codes.
    """

    name = "ivf"
    exact = False

    def __init__(self, codes, num_bits, centers, lists, probes, recall=None):
        super().__init__(codes, num_bits)
        self.centers, self.lists, self._recall = centers, lists, recall
        if not (centers.ndim == 1 and len(centers) and lists.shape == codes.shape
                and 0 <= lists.min() and lists.max() < len(centers) and probes >= 1):
            raise ValueError("the lists are not of these codes")
        quantizer = faiss.IndexBinaryFlat(packing.MAX_BITS)
        quantizer.add(packing.as_bytes(centers))
        self._faiss = faiss.IndexBinaryIVF(quantizer, packing.MAX_BITS, len(centers))
        self._faiss.own_fields = True
        quantizer.this.disown()
        self._faiss.is_trained = True
        self._faiss.nprobe = int(min(probes, len(centers)))
        for start in range(0, len(codes), SCAN):
            part = packing.as_bytes(codes[start:start + SCAN])
            places = np.ascontiguousarray(lists[start:start + SCAN], np.int64)
            self._faiss.add_core(len(part), faiss.swig_ptr(part), None, faiss.swig_ptr(places))

    @property
    def probes(self):
        """Lists that a query searches."""
        return self._faiss.nprobe

    @probes.setter
    def probes(self, count):
        self._faiss.nprobe, self._recall = count, None

    @property
    def recall(self):
        """Recall against exact search; see measured_recall."""
        if self._recall is None:
            self._recall = measured_recall(self)
        return self._recall

    @classmethod
    def build(cls, codes, num_bits):
        """Trains the centers, fills the lists, and sets how many are searched.

        That number is doubled until the recall on a sample is good.
        """
        num_lists = num_lists_for(len(codes))
        quantizer = faiss.IndexBinaryFlat(packing.MAX_BITS)
        trainer = faiss.IndexBinaryIVF(quantizer, packing.MAX_BITS, num_lists)
        trainer.cp.min_points_per_centroid = 1  # fewer than it likes are no reason to warn
        set_threads(len(codes) * num_lists)
        chosen = np.random.RandomState(0).permutation(len(codes))[:50 * num_lists]
        trainer.train(packing.as_bytes(codes[np.sort(chosen)]))
        centers = np.concatenate([quantizer.reconstruct(number) for number in range(num_lists)])
        centers = centers.view(np.uint64)
        built = cls(codes, num_bits, centers, _nearest_centers(codes, centers),
                    max(1, num_lists // 64))
        while built.recall < GOOD_RECALL and built.probes < num_lists:
            built.probes = min(2 * built.probes, num_lists)
        return built

    @classmethod
    def open(cls, path, codes, num_bits):
        """The lists in a file (a Path), with codes that were added to its own at the end; else new.

        They are written to the file where it can be written.
        """
        index = cls._read(path, codes, num_bits)
        if index is not None and index.is_stored:
            return index
        index = index or cls.build(codes, num_bits)
        with contextlib.suppress(UserError), files.replacing(path) as temporary, open(
                temporary, "wb") as stream:  # else they are made again next time
            np.savez(stream, centers=index.centers, lists=index.lists, probes=index.probes,
                     recall=index.recall, crc32=zlib.crc32(packing.as_bytes(codes)))
        return index

    @classmethod
    def _read(cls, path, codes, num_bits):
        """The index of a file's lists, which may be of the first of these codes; or None."""
        try:
            stored = read_arrays(path, ("centers", "lists", "probes", "recall", "crc32"))
            lists = stored["lists"].astype(np.int32)
            count = len(lists)
            if not count <= len(codes) <= 2 * count or stored["crc32"] != zlib.crc32(
                    packing.as_bytes(codes[:count])):
                return None
            centers = stored["centers"].astype(np.uint64)
            recall = float(stored["recall"])
            if count < len(codes):
                lists = np.concatenate([lists, _nearest_centers(codes[count:], centers)])
                recall = None
            index = cls(codes, num_bits, centers, lists, int(stored["probes"]), recall)
        except (UserError, ValueError, TypeError):  # missing, damaged, or not of this gallery
            return None
        index.is_stored = count == len(codes)
        return index

    def _search(self, queries, top):
        distances, rows = self._faiss.search(packing.as_bytes(queries), top)
        # Lists that are searched may hold fewer codes than `top`: search those queries exactly.
        return self._completed(queries, distances, rows, np.flatnonzero(rows[:, -1] < 0))


def _nearest_centers(codes, centers):
    """The nearest center of each code: uint64 [n], uint64 [lists] -> int32 [n]."""
    index = faiss.IndexBinaryFlat(packing.MAX_BITS)
    index.add(packing.as_bytes(centers))
    set_threads(len(codes) * len(centers))
    return np.concatenate([
        index.search(packing.as_bytes(codes[start:start + SCAN]), 1)[1][:, 0].astype(np.int32)
        for start in range(0, len(codes), SCAN)])


ENGINES = {kind.name: kind for kind in (FlatIndex, IvfIndex)}


def choose_engine(num_items, has_vectors=False):
    """Name of the engine that suits a gallery. Where embeddings decide, no lists are needed."""
    return FlatIndex.name if num_items < IVF_ITEMS or has_vectors else IvfIndex.name


def open_index(gallery, engine=None):
    """An index of a gallery's codes, by one of ENGINES: the gallery's own, or the one that suits.

    Raises:
        UserError: the gallery is empty.
    """
    if not len(gallery):
        raise UserError(f"{gallery.path} is empty; python search.py add puts photographs into it")
    engine = engine or gallery.info["engine"]
    if engine not in ENGINES:  # none was chosen, or a gallery of an older version names its own
        engine = choose_engine(len(gallery), gallery.has_vectors)
    if engine == IvfIndex.name:
        return IvfIndex.open(gallery.path / LISTS, gallery.codes, gallery.num_bits)
    return build_index(engine, gallery.codes, gallery.num_bits)


def build_index(engine, codes, num_bits):
    """An index of codes, by the name of its engine (one of ENGINES)."""
    kind = ENGINES[engine]
    return kind.build(codes, num_bits) if kind is IvfIndex else kind(codes, num_bits)


def num_lists_for(num_items):
    """How many lists so many codes are grouped into: a power of two near the square root."""
    return 1 << max(0, int(round(np.log2(max(num_items, 1)) / 2 + 0.1)))
