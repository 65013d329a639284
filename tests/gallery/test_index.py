"""Engines against a naive search: same distances, ties by row, at all lengths of the paper."""

import zlib

import numpy as np
import pytest

from evaluation import packing
from evaluation.codes import signs
from gallery import engines
from gallery.engines import measured_recall

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
    return [engines.build_index(name, codes, num_bits) for name in engines.ENGINES]


@pytest.mark.parametrize("num_bits", LENGTHS)
def test_engines_find_what_a_naive_search_finds(num_bits):
    gallery, queries = np.split(clustered(1538, num_bits), [1501])
    distances, rows = naive(gallery, queries)
    packed = packing.pack(gallery)
    for index in every_engine(packed, num_bits):
        assert measured_recall(index) >= engines.GOOD_RECALL
        if not index.exact:
            index.probes = len(index.centers)
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


def test_lists_are_kept_and_grow_and_are_made_again(tmp_path):
    path, packed = tmp_path / "lists.npz", packing.pack(clustered(900, 24))

    def opened(codes):
        index = engines.IvfIndex.open(path, codes, 24)
        np.testing.assert_array_equal(  # as flat search finds, whatever became of the lists
            index.search(codes[:9], 7).distances,
            engines.build_index("flat", codes, 24).search(codes[:9], 7).distances)
        return index

    index = opened(packed[:800])
    written = path.read_bytes()
    again = opened(packed[:800])
    assert path.read_bytes() == written and again.probes == index.probes
    np.testing.assert_array_equal(again.lists, index.lists)
    longer = opened(packed)  # codes that were added at the end go to the same lists
    np.testing.assert_array_equal(longer.lists[:800], index.lists)
    assert path.read_bytes() != written and opened(packed).recall == longer.recall
    opened(packed[1:])  # other codes: lists of their own
    for damaged in (written[:len(written) // 2], b"", b"\0" * 100):
        path.write_bytes(damaged)
        opened(packed)
    np.savez(str(path), centers=np.arange(3), lists=np.full(900, 77), probes=1, recall=1,
             crc32=zlib.crc32(packing.as_bytes(packed)))  # lists that there are none of
    opened(packed)


def test_lists_that_hold_too_few_codes_are_searched_exactly():
    gallery = clustered(300, 36)
    index = engines.build_index("ivf", packing.pack(gallery), 36)
    index.probes = 1
    found = index.search(index.codes[:4], 300)
    np.testing.assert_array_equal(found.distances, naive(gallery, gallery[:4])[0])


def test_engine_follows_size():
    assert engines.choose_engine(280) == engines.choose_engine(10 ** 7, True) == "flat"
    assert engines.choose_engine(10 ** 7) == "ivf"
    assert engines.num_lists_for(10 ** 7) == 4096


@pytest.mark.parametrize("num_bits", (1, 7, 12, 48, 64))
def test_distances_are_weighted_by_activations(num_bits):
    codes, activations = clustered(33, num_bits), np.random.RandomState(1).randn(num_bits)
    packed = packing.pack(codes)
    expected = [sum(abs(value) for bit, value in zip(code, activations) if bit * value < 0)
                for code in codes]
    np.testing.assert_allclose(packing.weighted_distances(activations, packed), expected, rtol=1e-5)
    np.testing.assert_array_equal(packing.weighted_distances(codes[0], packed),
                                  packing.distances(packed, packed[0]))
    index = engines.build_index("flat", packed, num_bits)
    rows = index.candidates(packed[0], activations, 5)
    assert rows.tolist() == sorted(rows) and max(np.array(expected)[rows]) <= sorted(expected)[4]


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
