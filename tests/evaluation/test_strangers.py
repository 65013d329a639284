"""How often strangers are named, against enumerated galleries and plain loops."""

import itertools
import json

import numpy as np
import pytest

from evaluation import strangers
from evaluation.strangers import Strangers, chance_of_any, measure, measured_strangers
from faces.embedding_network import WEIGHTS_SHA256

DISTANCES = (0.05, 0.3, 0.6, 0.9)


def people(count, seed=0):
    """Embeddings and labels of people, of 3 to 6 faces each, in no order."""
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(count), rng.randint(3, 7, count))
    rng.shuffle(labels)
    return (rng.standard_normal((count, 3))[labels] + rng.normal(0, 0.3, (len(labels), 3)), labels)


def naive_distance(first, second):
    return 1 - first.dot(second) / np.linalg.norm(first) / np.linalg.norm(second)


@pytest.mark.parametrize("close,others,size", [
    (0, 5, 3), (2, 6, 1), (2, 6, 3), (4, 6, 3), (6, 6, 2), (1, 7, 7)])
def test_the_chance_is_that_of_all_draws(close, others, size):
    draws = list(itertools.combinations(range(others), size))
    expected = np.mean([any(face < close for face in draw) for draw in draws])
    assert chance_of_any(np.array([close]), np.array([others]), size)[0] == pytest.approx(expected)


def test_rates_are_those_of_plain_loops():
    embeddings, labels = people(22)
    found = measure(embeddings, labels, DISTANCES, [1, 2], [1, 2])
    np.testing.assert_array_equal(found.distances, DISTANCES)
    for number, distance in enumerate(DISTANCES):
        strange, known = {1: [], 2: []}, {1: [], 2: []}
        for person in range(22):
            rows = {1: [], 2: []}
            own = {1: [], 2: []}
            for query in np.flatnonzero(labels == person):
                close = [naive_distance(embeddings[query], face) < distance for face in embeddings]
                others = [close[row] for row in np.flatnonzero(labels != person)]
                mine = [close[row] for row in np.flatnonzero(labels == person) if row != query]
                for size in (1, 2):
                    rows[size].append(np.mean([any(draw) for draw in
                                               itertools.combinations(others, size)]))
                    if len(mine) >= size:
                        own[size].append(np.mean([any(draw) for draw in
                                                  itertools.combinations(mine, size)]))
            for size in (1, 2):
                strange[size].append(np.mean(rows[size]))
                known[size].append(np.mean(own[size]))
        for place, size in enumerate((1, 2)):
            assert found.rates[place, number] == pytest.approx(np.mean(strange[size]))
            assert found.known_rates[place, number] == pytest.approx(np.mean(known[size]))


def test_the_interval_is_a_jackknife_over_groups_of_people(monkeypatch):
    monkeypatch.setattr(strangers, "GROUPS", 4)
    embeddings, labels = people(12, seed=3)
    found = measure(embeddings, labels, [0.9, 1.2], [2], [1])
    without = [np.log(measure(embeddings[labels % 4 != group], labels[labels % 4 != group],
                              [0.9, 1.2], [2], [1]).rates[0, 0]) for group in range(4)]
    expected = np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
    assert found.errors[0, 0] == pytest.approx(expected)
    rate = found.rate(0.9, 2)
    assert rate.rate == pytest.approx(found.rates[0, 0])
    assert np.log(rate.high / rate.rate) == pytest.approx(1.96 * expected)
    assert np.log(rate.rate / rate.low) == pytest.approx(1.96 * expected)


def test_distances_that_few_people_reach_are_left_out():
    # Faces of four pairs of people lie within 0.1 of each other, those of all others far apart.
    angles = np.array([0, 1, 2, 3, 4, 5]) * 0.2
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # neighbours: 0.02 apart
    labels = np.array([0, 1, 2, 3, 4, 4])
    found = measure(np.tile(embeddings, (2, 1)), np.tile(labels, 2), [0.01, 0.03, 0.1, 0.2],
                    [1], [1])
    assert found.distances.tolist() == [0.1, 0.2]
    assert found.known_distances.tolist() == [0.01, 0.03, 0.1, 0.2]


SMALL = Strangers(np.array([0.1, 0.2]), np.array([1, 10, 100]),
                  np.array([[0.001, 0.01], [0.01, 0.05], [0.04, 0.2]]), np.full((3, 2), 0.5),
                  np.array([0.1, 0.3]), np.array([1, 5]), np.array([[0.5, 0.7], [0.8, 1]]), 2.0)


def test_rates_by_threshold_and_gallery():
    assert SMALL.rate(0.2, 10).rate == pytest.approx(0.05)
    assert SMALL.rate(0.5, 10).rate == pytest.approx(0.05)  # beyond what was measured
    assert SMALL.rate(0.1, 1).rate == pytest.approx(0.001)
    assert SMALL.rate(0.1, 1000).rate == pytest.approx(1 - 0.96 ** 10)
    assert SMALL.rate(0.05, 100).rate == pytest.approx(0.04 / 4)  # the square of half
    assert SMALL.rate(0, 100).rate == 0
    assert 0.01 < SMALL.rate(0.1, 30).rate < 0.04 and 0.05 < SMALL.rate(0.15, 100).rate < 0.2
    assert SMALL.rate(0.2, 10 ** 9).high == 1
    np.testing.assert_allclose(SMALL.known(0.2), [0.6, 0.9])
    np.testing.assert_allclose(SMALL.known(0.05), [0.5, 0.8])


@pytest.mark.parametrize("faces", [1, 7, 100, 5000, 10 ** 6])
@pytest.mark.parametrize("limit", [0.001, 0.01, 0.1])
def test_a_threshold_names_the_share_that_was_asked_for(faces, limit):
    for known in (SMALL, measured_strangers()):
        threshold = known.threshold(faces, limit)
        if threshold < known.distances[-1]:
            assert known.rate(threshold, faces).rate == pytest.approx(limit)
        else:
            assert known.rate(threshold, faces).rate < limit * (1 + 1e-9)


def test_the_file_holds_rates_that_rise():
    values = json.loads(strangers.FILE.read_text())
    assert values["network_sha256"] == WEIGHTS_SHA256 and values["people"] == 158
    known = measured_strangers()
    for rates in (known.rates, known.known_rates):
        assert (np.diff(rates, axis=0) > 0).all() and (np.diff(rates, axis=1) > 0).all()
        assert rates.min() > 0 and rates.max() < 1
    assert known.known(known.threshold(1000)).shape == known.known_sizes.shape
    assert known.sizes[0] == 1 and known.errors.min() > 0
    assert values["faces"] > 4000 and strangers.FILE.stat().st_size < 20000
    assert strangers.from_json(json.loads(json.dumps(SMALL.to_json()))).rate(0.1, 10) \
        == SMALL.rate(0.1, 10)
