"""Engines against a naive search: same distances, ties by row, at all lengths of the paper."""

import numpy as np
import pytest

from evaluation import packing
from evaluation.codes import signs
from gallery import engines
from gallery.index import measured_recall
from runtime.errors import UserError

LENGTHS = (12, 16, 24, 36, 48, 64)


def clustered(num_codes, num_bits, seed=0, num_centers=20):
    """Codes around centers, as trained ones lie: int8 [n, K]."""
    rng = np.random.RandomState(seed)
    centers = signs(rng.standard_normal((num_centers, num_bits)))
    flips = np.where(rng.rand(num_codes, num_bits) < 0.05, -1, 1)
    return (centers[rng.randint(num_centers, size=num_codes)] * flips).astype(np.int8)


def naive(gallery, queries):
    """(distances, rows) of all codes, sorted by distance, then row; from the codes themselves."""
    distances = (gallery.shape[1] - queries.astype(int).dot(gallery.T.astype(int))) // 2
    rows = np.argsort(distances, axis=1, kind="mergesort")
    return np.take_along_axis(distances, rows, axis=1), rows


def every_engine(codes, num_bits):
    names = [name for name in engines.ENGINES
             if name != "buckets" or num_bits <= engines.MOST_BUCKET_BITS]
    return [engines.build_index(name, codes, num_bits) for name in names]


@pytest.mark.parametrize("num_bits", LENGTHS)
def test_engines_find_what_a_naive_search_finds(num_bits):
    gallery, queries = np.split(clustered(1538, num_bits), [1501])
    distances, rows = naive(gallery, queries)
    packed = packing.pack(gallery)
    for index in every_engine(packed, num_bits):
        assert measured_recall(index) >= engines.GOOD_RECALL
        if not index.exact:
            index.faiss_index.nprobe = index.faiss_index.nlist
        for top in (1, 53):
            found = index.search(packing.pack(queries), top)
            np.testing.assert_array_equal(found.distances, distances[:, :top])
            if index.exact:
                np.testing.assert_array_equal(found.rows, rows[:, :top])


@pytest.mark.parametrize("num_bits", (12, 48))
def test_nearest_settles_ties_by_row_and_counts_the_rest(num_bits):
    gallery = np.repeat(clustered(40, num_bits), 30, axis=0)  # thirty of each
    distances, rows = naive(gallery, gallery[5:6])
    for index in every_engine(packing.pack(gallery), num_bits):
        found, chosen, more = index.nearest(index.codes[5], 17)
        np.testing.assert_array_equal(found, distances[0, :17])
        np.testing.assert_array_equal(chosen, rows[0, :17])
        assert more == np.count_nonzero(distances[0] == distances[0, 16]) - np.count_nonzero(
            distances[0, :17] == distances[0, 16])
        assert index.nearest(index.codes[5], 5000)[2] == 0
        for radius in (0, 3, num_bits):
            found, chosen = index.within(index.codes[5], radius)
            count = np.count_nonzero(distances[0] <= radius)
            np.testing.assert_array_equal(found, distances[0, :count])
            np.testing.assert_array_equal(chosen, rows[0, :count])


def test_lists_are_read_back_and_refuse_other_codes(tmp_path):
    packed = packing.pack(clustered(900, 24))
    index = engines.build_index("ivf", packed, 24)
    index.write(tmp_path / "lists")
    again = engines.IvfIndex.read(tmp_path / "lists", packed, 24)
    assert again.faiss_index.nprobe == index.faiss_index.nprobe
    np.testing.assert_array_equal(again.search(packed[:9], 7).rows,
                                  index.search(packed[:9], 7).rows)
    with pytest.raises(UserError):
        engines.IvfIndex.read(tmp_path / "lists", packed[:-1], 24)
    whole = (tmp_path / "lists").read_bytes()
    (tmp_path / "lists").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError):
        engines.IvfIndex.read(tmp_path / "lists", packed, 24)


def test_lists_that_hold_too_few_codes_are_searched_exactly():
    gallery = clustered(300, 36)
    index = engines.build_index("ivf", packing.pack(gallery), 36)
    index.faiss_index.nprobe = 1
    found = index.search(index.codes[:4], 300)
    np.testing.assert_array_equal(found.distances, naive(gallery, gallery[:4])[0])


def test_engine_follows_size_and_bits():
    assert engines.choose_engine(10 ** 8, 12) == "buckets"
    assert engines.choose_engine(280, 48) == "flat"
    assert engines.choose_engine(10 ** 7, 48) == "ivf"
    assert engines.num_lists_for(10 ** 7) == 4096
    with pytest.raises(UserError):
        engines.build_index("buckets", packing.pack(clustered(5, 24)), 24)


@pytest.mark.parametrize("num_bits", (1, 7, 12, 48, 64))
def test_packing_keeps_codes_and_distances(num_bits):
    codes = clustered(33, num_bits)
    packed = packing.pack(codes)
    np.testing.assert_array_equal(packing.unpack(packed, num_bits), codes)
    np.testing.assert_array_equal(packing.distances(packed[:, None], packed[None]),
                                  (num_bits - codes.astype(int).dot(codes.T.astype(int))) // 2)
    assert packing.from_text(packing.to_text(packed[3])) == packed[3]
    with pytest.raises(ValueError):
        packing.from_text("12")
    with pytest.raises(ValueError):
        packing.pack(codes[0])
