"""Near duplicates: by hand, against comparing everything, and many equal ones."""

import imagehash
import numpy as np
from face_pictures import photo

from faces import duplicates


def distance(first, second):
    return bin(int(first) ^ int(second)).count("1")


def clustered_hashes(count, seed=0):
    """Different hashes, many of which lie within a few bits of one another."""
    rng = np.random.RandomState(seed)
    hashes = []
    for _ in range(count // 4):
        center = int(rng.randint(0, 2 ** 32)) << 32 | int(rng.randint(0, 2 ** 32))
        for flips in (0, 2, 5, 9):
            hashes.append(center ^ sum(1 << int(bit) for bit in rng.permutation(64)[:flips]))
    return np.unique(np.array(hashes, np.uint64))


def test_the_hash_is_imagehashs():
    for seed in range(5):
        assert int(duplicates.perceptual_hash(photo(seed))) == int(
            str(imagehash.phash(photo(seed))), 16)


def test_near_hashes_are_those_that_comparing_all_finds(monkeypatch):
    hashes = clustered_hashes(200)
    for bits in (0, 3, 6, 10):
        expected = [[first, second] for first in range(len(hashes))
                    for second in range(first + 1, len(hashes))
                    if distance(hashes[first], hashes[second]) <= bits]
        assert duplicates.near_hashes(hashes, bits).tolist() == expected
    whole = duplicates.near_hashes(hashes).tolist()
    assert len(whole) > 40
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 3)
    assert duplicates.near_hashes(hashes).tolist() == whole
    assert duplicates.near_hashes(hashes[:1]).shape == (0, 2)
    assert duplicates.near_hashes(hashes[:0]).shape == (0, 2)


def test_near_pairs_by_hand():
    hashes = np.array([0, 0b111111, 0b1111111, 2 ** 64 - 1], np.uint64)
    assert duplicates.near_pairs(hashes, [0, 0, 0, 0]).tolist() == [[0, 1], [1, 2]]
    assert duplicates.near_pairs(hashes, [0, 1, 0, 0]).tolist() == [[0, 1], [1, 2]]
    # five equal ones, three of group 0 and two of group 1, and a near one of group 1
    hashes = np.array([5, 5, 5, 5, 5, 4], np.uint64)
    assert duplicates.near_pairs(hashes, [0, 1, 0, 1, 0, 1]).tolist() == [
        [0, 1], [0, 2], [0, 4], [1, 3], [1, 5]]
    assert duplicates.near_pairs([], []).shape == (0, 2)


def test_many_equal_images_do_not_make_pairs_of_all():
    hashes = np.full(20000, 7, np.uint64)
    hashes[:1000] = np.random.RandomState(0).randint(0, 2 ** 62, 1000).astype(np.uint64)
    pairs = duplicates.near_pairs(hashes, np.zeros(20000, int))
    assert len(pairs) == 18999 and set(pairs[:, 0]) == {1000}


def test_near_across_by_hand():
    same = duplicates.near_across(
        np.array([0, 1, 2 ** 40 - 1, 9], np.uint64), np.array([0, 1, 2, 3]),
        np.array([0, 3, 2 ** 64 - 1], np.uint64), np.array([0, 0, 2]))
    assert same.tolist() == [True, False, False, False]
