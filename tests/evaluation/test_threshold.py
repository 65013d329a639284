"""The calibrated threshold: counts by hand, copies that are not strangers, held-out people."""

import numpy as np
import pytest

from evaluation import packing, threshold
from evaluation.codes import signs
from evaluation.floats import unit_vectors
from evaluation.threshold import Calibration, calibrate


def pack(codes):
    return packing.pack(np.array(codes)) if len(codes) else np.zeros(0, np.uint64)


def test_calibration_by_hand():
    # Person 1: 0000 twice, 0001. Person 2: 0111.
    codes = pack([[-1, -1, -1, -1]] * 2 + [[-1, -1, -1, 1], [-1, 1, 1, 1]])
    people = np.array([1, 1, 1, 2])
    found = calibrate(codes, people, 4)
    # As strangers: 1's faces lie 3, 3 and 2 from 2's, and 2's lies 2 from the nearest of 1's.
    assert found.accepted == [0, 0, 2, 4, 4] and found.probes == 4
    # As known: 1's lie 0, 0 and 1 from another of theirs; 2 has no other.
    assert found.missed == [1, 0, 0, 0, 0] and found.known == 3
    assert found.source == threshold.GALLERY and not found.is_held_out
    assert found.threshold(0.01) == 1 and found.threshold(0.5) == 2 and found.threshold(1) == 4
    # A query of 2, 1111: 3 from person 1, 1 from their own.
    queries = calibrate(codes, people, 4, (pack([[1, 1, 1, 1]]), np.array([2])))
    assert queries.accepted == [0, 0, 0, 1, 1] and queries.missed == [1, 0, 0, 0, 0]
    assert queries.source == threshold.QUERIES and queries.threshold(0.01) == 2
    # With somebody whom the encoder has never seen, 0110: 1 from person 2.
    unseen = calibrate(codes, people, 4, (pack([[1, 1, 1, 1], [-1, 1, 1, -1]]), np.array([2, 0])))
    assert unseen.accepted == [0, 1, 1, 1, 1] and unseen.missed == queries.missed
    assert unseen.source == threshold.UNSEEN and unseen.is_held_out
    assert calibrate(codes[:3], people[:3], 4) is None  # one person is nobody's stranger
    assert calibrate(codes[:0], people[:0], 4) is None


def people_and_copies(copies, seed=0):
    """Codes, people and hashes of 6 people with 20 faces each; the last one is a copy of the first.

    Args:
        copies: how many of their 20 faces are copies.
    """
    rng = np.random.RandomState(seed)
    people = np.repeat(np.arange(1, 7), 20)
    centers = signs(rng.standard_normal((7, 48)))
    codes = pack(centers[people] * np.where(rng.rand(120, 48) < 0.05, -1, 1))
    hashes = rng.randint(2 ** 62, size=120).astype(np.uint64)
    codes[100:100 + copies], hashes[100:100 + copies] = codes[:copies], hashes[:copies]
    return codes, people, hashes


@pytest.mark.parametrize("changed_bits", (0, 3))
def test_copies_under_another_name_are_no_strangers(changed_bits):
    codes, people, hashes = people_and_copies(20)
    without = calibrate(codes, people, 48)
    assert without.accepted[0] == 40 and without.threshold(0.01) is None
    assert without.closest[0] == (1, 6, 40)
    hashes[100:] ^= np.uint64((1 << changed_bits) - 1)  # resized, or compressed again
    found = calibrate(codes, people, 48, hashes=hashes)
    apart = calibrate(codes[:100], people[:100], 48, hashes=hashes[:100])
    assert found.probes == 120 and found.accepted[:12] == [0] * 12 and found.closest == []
    assert abs(found.threshold(0.01) - apart.threshold(0.01)) <= 1


def test_one_copy_makes_two_people_one():
    codes, people, hashes = people_and_copies(1)
    found = calibrate(codes, people, 48, hashes=hashes)
    assert found.accepted[0] == 0
    both = people <= 1
    both[100:] = True
    assert calibrate(codes[both], people[both], 48, hashes=hashes[both]) is None
    # A copy does not count as another face of the same person.
    own = np.array([1, 1, 2])
    three = np.array([codes[0], codes[0], codes[40]])
    for second, known in ((7, 0), (2 ** 60 - 1, 2)):
        hashes = np.array([7, second, 0x5555 << 40], np.uint64)
        assert calibrate(three, own, 48, hashes=hashes).known == known


def test_people_that_the_encoder_was_not_trained_on_come_first():
    rng = np.random.RandomState(0)
    people = np.repeat(np.arange(1, 9), 10)
    codes = pack(signs(rng.standard_normal((80, 24))))
    trained = people <= 4
    codes[~trained] = codes[40]  # strangers whom the encoder cannot tell apart
    found = calibrate(codes, people, 24, trained=trained)
    assert found.source == threshold.HELD_OUT and found.is_held_out
    assert found.probes == 40 == found.accepted[0] and found.threshold(0.05) is None
    few = people < 7
    few[60:62] = True
    assert calibrate(codes[few], people[few], 24,
                     trained=people[few] <= 6).source == threshold.GALLERY
    assert calibrate(codes, people, 24, trained=np.ones(80, bool)).probes == 80


@pytest.mark.parametrize("num_bits", (3, 12, 48))
def test_against_every_pair(num_bits):
    """A naive loop over all pairs, with many equal codes and some people who share copies."""
    rng = np.random.RandomState(1)
    people = rng.randint(1, 8, 150)
    codes = pack(signs(rng.standard_normal((150, num_bits))))
    hashes = rng.randint(2 ** 62, size=150).astype(np.uint64)
    codes[people == 7] = codes[0]
    copies = np.flatnonzero(people == 2)[:3], np.flatnonzero(people == 3)[:3]
    codes[copies[0]], hashes[copies[0]] = codes[copies[1]], hashes[copies[1]]
    found = calibrate(codes, people, num_bits, hashes=hashes)
    linked = {2: (2, 3), 3: (2, 3)}
    apart = packing.distances(codes[:, None], codes[None])
    nearest = [apart[face][~np.isin(people, linked.get(people[face], people[face]))].min()
               for face in range(150)]
    own = [apart[face][(people == people[face]) & (np.arange(150) != face)].min()
           for face in range(150)]
    steps = range(num_bits + 1)
    assert found.accepted == [sum(distance <= step for distance in nearest) for step in steps]
    assert found.missed == [sum(distance > step for distance in own) for step in steps]


def test_vectors_against_every_pair(monkeypatch):
    """The same of vectors; people 2 and 3 share copies, 4 and 5 have nearly the same faces."""
    rng = np.random.RandomState(1)
    people = rng.randint(1, 8, 150)
    vectors = unit_vectors(rng.rand(150, 20) * (rng.rand(150, 20) < 0.3))
    hashes = rng.randint(2 ** 62, size=150).astype(np.uint64)
    codes = pack(signs(rng.standard_normal((150, 12))))
    twos, threes, fours, fives = (np.flatnonzero(people == person)[:3] for person in (2, 3, 4, 5))
    vectors[twos], codes[twos], hashes[twos] = vectors[threes], codes[threes], hashes[threes]
    vectors[fours] = unit_vectors(vectors[fives] + 0.01)
    hashes[fours] = hashes[fives] ^ np.uint64(7)
    monkeypatch.setattr(threshold, "PAIRS_AT_ONCE", 1000)  # several blocks
    found = calibrate(codes, people, 12, hashes=hashes, vectors=vectors)
    linked = {2: (2, 3), 3: (2, 3), 4: (4, 5), 5: (4, 5)}
    apart = 1 - vectors.astype(np.float64).dot(vectors.T.astype(np.float64))
    nearest = [apart[face][~np.isin(people, linked.get(people[face], people[face]))].min()
               for face in range(150)]
    own = [apart[face][(people == people[face]) & (np.arange(150) != face)].min()
           for face in range(150)]
    assert len(found.accepted) == len(found.missed) == 1001
    for step in range(5, 1000, 5):
        assert found.accepted[step] == sum(distance <= step / 1000 for distance in nearest)
        assert found.missed[step] == sum(distance > step / 1000 for distance in own)
    # Those who are in the gallery's stead: one of person 1, and one whom nobody knows.
    probes = vectors[[0, 9]], np.array([people[0], 0])
    held_out = calibrate(codes, people, 12, probes, hashes, vectors=vectors)
    assert held_out.source == threshold.UNSEEN and held_out.accepted[1] == 1
    assert held_out.known == 1 and held_out.missed[1] == 0


def test_confidence_of_a_rate():
    none_of_300 = Calibration(threshold.UNSEEN, 300, [0, 3, 300], 0, [], [])
    assert none_of_300.highest_rate(0) == pytest.approx(1 - 0.05 ** (1 / 300))  # rule of three
    assert none_of_300.highest_rate(2) == 1 and none_of_300.miss_rate(0) is None
    # Three of 300: the binomial tail at the bound is 5 %.
    rate = none_of_300.highest_rate(1)
    tail = sum(np.exp(sum(np.log(np.arange(300 - k + 1, 301))) - sum(np.log(np.arange(1, k + 1))))
               * rate ** k * (1 - rate) ** (300 - k) for k in range(4))
    assert tail == pytest.approx(0.05)


def test_what_is_no_calibration_is_refused():
    good = calibrate(pack([[1, 1], [-1, 1]]), np.array([1, 2]), 2)._asdict()
    assert Calibration.checked(dict(good), 2).probes == 2
    for change in (dict(probes=0), dict(probes=1.5), dict(accepted=[0, 0]), dict(known=None),
                   dict(missed=[0, 0, "0"]), dict(source="x"), dict(closest=[[1, 2]]),
                   dict(accepted=[0, 1, 77]), dict(more=1)):
        with pytest.raises(ValueError):
            Calibration.checked(dict(good, **change), 2)
