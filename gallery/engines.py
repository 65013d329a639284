"""The engines of search that run in this process.

    buckets   up to 16 bits: a table of all codes; exact
    flat      faiss, every code compared; exact
    ivf       faiss, inverted lists: a part of the codes compared; for millions and more

A server does it in gallery/milvus.py.
"""

from collections import OrderedDict

import faiss
import numpy as np

from evaluation import packing
from gallery.index import SCAN, Index, Neighbours, measured_recall, set_threads
from runtime.errors import UserError

MOST_BUCKET_BITS = 16
# From so many codes on, lists are worth building; until then a query takes milliseconds anyway.
IVF_ITEMS = 4000000
GOOD_RECALL = 0.999
COUNTING_BYTES = 1 << 28  # that faiss may take while it counts distances


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


class BucketIndex(Index):
    """Codes of up to 16 bits: for each of the 2^K codes the rows that have it."""

    name = "buckets"

    def __init__(self, codes, num_bits):
        super().__init__(codes, num_bits)
        if num_bits > MOST_BUCKET_BITS:
            raise UserError("the engine buckets takes codes of up to %d bits, not %d; choose flat"
                            % (MOST_BUCKET_BITS, num_bits))
        keys = self._keys(codes)
        self._rows = np.argsort(keys, kind="mergesort")  # stable: rows ascend in a bucket
        self._sizes = np.bincount(keys, minlength=1 << num_bits)
        self._starts = np.cumsum(self._sizes) - self._sizes
        masks = np.arange(1 << num_bits)
        weights = packing.distances(masks.astype(np.uint64), np.uint64(0))
        self._masks = [masks[weights == weight] for weight in range(num_bits + 1)]

    def _keys(self, codes):
        """The first K bits of codes as int64 numbers below 2^K."""
        first = packing.as_bytes(codes)[:, :2].astype(np.int64)
        return (first[:, 0] * 256 + first[:, 1]) >> (MOST_BUCKET_BITS - self.num_bits)

    def _search(self, queries, top):
        keys, origin = np.unique(self._keys(queries), return_inverse=True)
        distances = np.empty((len(keys), top), np.int32)
        rows = np.empty((len(keys), top), np.int64)
        have = np.zeros(len(keys), np.int64)
        for distance, masks in enumerate(self._masks):
            open_ = np.flatnonzero(have < top)
            # Blocks, so that queries x masks stays small.
            for block in np.array_split(open_, 1 + len(open_) * len(masks) // (1 << 22)):
                self._collect(keys, block, masks, distance, distances, rows, have)
            if not len(open_):
                break
        return Neighbours(distances[origin.reshape(-1)], rows[origin.reshape(-1)])

    def _collect(self, keys, block, masks, distance, distances, rows, have):
        """Adds the rows at one distance to the results of a block of queries."""
        if not len(block):
            return
        top = rows.shape[1]
        buckets = keys[block, None] ^ masks
        sizes = np.minimum(self._sizes[buckets], (top - have[block])[:, None])
        owners = np.repeat(np.arange(len(block)), sizes.sum(axis=1))
        sizes, starts = sizes.ravel(), self._starts[buckets].ravel()
        inside = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found = self._rows[np.repeat(starts, sizes) + inside]
        order = np.lexsort((found, owners))
        owners, found = owners[order], found[order]
        counts = np.bincount(owners, minlength=len(block))
        places = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        places += have[block][owners]
        good = places < top
        rows[block[owners[good]], places[good]] = found[good]
        distances[block[owners[good]], places[good]] = distance
        have[block] = np.minimum(have[block] + counts, top)


class IvfIndex(Index):
    """faiss' inverted lists: codes are grouped around centers; some groups are searched.

    Args:
        codes, num_bits: see Index.
        faiss_index: a faiss.IndexBinaryIVF of these codes.
    """

    name = "ivf"
    exact = False

    def __init__(self, codes, num_bits, faiss_index):
        super().__init__(codes, num_bits)
        self.faiss_index = faiss_index
        if faiss_index.ntotal != len(codes) or faiss_index.d != packing.MAX_BITS:
            raise UserError("the stored lists are of %d codes, the gallery has %d"
                            % (faiss_index.ntotal, len(codes)))

    @classmethod
    def build(cls, codes, num_bits):
        """Trains the centers, fills the lists, and sets how many are searched.

        That number is doubled until the recall on a sample is good.
        """
        num_lists = num_lists_for(len(codes))
        quantizer = faiss.IndexBinaryFlat(packing.MAX_BITS)
        index = faiss.IndexBinaryIVF(quantizer, packing.MAX_BITS, num_lists)
        index.own_fields = True
        index.cp.min_points_per_centroid = 1  # fewer than it likes are no reason to warn
        quantizer.this.disown()
        set_threads(len(codes) * num_lists)
        chosen = np.random.RandomState(0).permutation(len(codes))[:50 * num_lists]
        index.train(packing.as_bytes(codes[np.sort(chosen)]))
        for start in range(0, len(codes), SCAN):
            index.add(packing.as_bytes(codes[start:start + SCAN]))
        index.nprobe = max(1, num_lists // 64)
        built = cls(codes, num_bits, index)
        while measured_recall(built) < GOOD_RECALL and index.nprobe < num_lists:
            index.nprobe = min(2 * index.nprobe, num_lists)
        return built

    @classmethod
    def read(cls, path, codes, num_bits):
        """The lists that `write` has written, of these codes."""
        try:
            index = faiss.read_index_binary(str(path))
        except RuntimeError as error:
            raise UserError("%s cannot be read as lists of codes: %s" % (path, error))
        return cls(codes, num_bits, index)

    def extended(self, codes):
        """The index of these codes, which begin with those of this one; it is used up."""
        set_threads((len(codes) - len(self.codes)) * self.faiss_index.nlist)
        for start in range(len(self.codes), len(codes), SCAN):
            self.faiss_index.add(packing.as_bytes(codes[start:start + SCAN]))
        return IvfIndex(codes, self.num_bits, self.faiss_index)

    def write(self, path):
        """Writes the lists, and how many of them are searched, to a file."""
        try:
            faiss.write_index_binary(self.faiss_index, str(path))
        except RuntimeError as error:
            raise UserError("%s cannot be written: %s" % (path, error))

    def _search(self, queries, top):
        distances, rows = self.faiss_index.search(packing.as_bytes(queries), top)
        # Lists that are searched may hold fewer codes than `top`: search those queries exactly.
        short = np.flatnonzero(rows[:, -1] < 0)
        order = np.lexsort((rows, distances), axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
        for query in short:
            all_distances, all_rows = self.within(queries[query], self.num_bits)
            distances[query], rows[query] = all_distances[:top], all_rows[:top]
        return Neighbours(distances, rows)


ENGINES = OrderedDict((kind.name, kind) for kind in (BucketIndex, FlatIndex, IvfIndex))


def choose_engine(num_items, num_bits):
    """Name of the engine that suits a gallery's size and its codes."""
    if num_bits <= MOST_BUCKET_BITS:
        return BucketIndex.name
    return FlatIndex.name if num_items < IVF_ITEMS else IvfIndex.name


def build_index(engine, codes, num_bits):
    """An index of codes, by the name of its engine (one of ENGINES)."""
    if engine == IvfIndex.name:
        return IvfIndex.build(codes, num_bits)
    return ENGINES[engine](codes, num_bits)


def num_lists_for(num_items):
    """How many lists so many codes are grouped into: a power of two near the square root."""
    return 1 << max(0, int(round(np.log2(max(num_items, 1)) / 2 + 0.1)))
