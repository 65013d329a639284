"""Suspected mislabelled images, against every distance computed."""

import numpy as np

from faces.mislabelled import suspects


def test_a_planted_wrong_label_is_found():
    rng = np.random.RandomState(0)
    centers = rng.choice([-1, 1], (5, 48))
    labels = np.repeat(np.arange(5), 12) * 10  # with gaps between the labels
    codes = np.where(rng.rand(60, 48) < 0.1, -1, 1) * centers[labels // 10]
    assert suspects(codes.astype(np.int8), labels) == []
    labels[7] = 30
    found, = suspects(codes.astype(np.int8), labels)
    assert (found.index, found.label, found.other) == (7, 30, 0)


def test_distances_are_the_means_of_all():
    rng = np.random.RandomState(1)
    codes = rng.choice([-1, 1], (40, 12)).astype(np.int8)
    labels = rng.randint(0, 4, 40)
    found = {suspect.index: suspect for suspect in suspects(codes, labels)}
    between = (codes[:, None] != codes[None]).sum(axis=2)
    for index in range(40):
        own = np.flatnonzero((labels == labels[index]) & (np.arange(40) != index))
        own_distance = between[index, own].mean()
        others = [between[index, labels == other].mean() if other != labels[index] else np.inf
                  for other in range(4)]
        if own_distance > min(others) + 1e-9:
            suspect = found.pop(index)
            np.testing.assert_allclose([suspect.own_distance, suspect.other_distance],
                                       [own_distance, min(others)])
            assert suspect.other == np.argmin(others)
    assert found == {}
    gaps = [suspect.own_distance - suspect.other_distance for suspect in suspects(codes, labels)]
    assert gaps == sorted(gaps, reverse=True)
    assert len(suspects(codes, labels, least_gap=1.0)) == sum(gap > 1 for gap in gaps)


def test_too_little_to_tell():
    codes = np.ones((3, 4), np.int8)
    assert suspects(codes, np.zeros(3, int)) == []
    assert suspects(codes, np.arange(3)) == []
    assert suspects(codes[:0], np.zeros(0, int)) == []
