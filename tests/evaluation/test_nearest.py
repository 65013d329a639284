"""The nearest faces by cosine distance, against plain loops."""

import numpy as np
import pytest

from evaluation import floats
from evaluation.floats import nearest, unit_vectors


def naive(query, gallery, rows, count):
    """(row, distance) of the nearest, by float64 and Python's sort."""
    def distance(row):
        lengths = np.linalg.norm(query) * np.linalg.norm(gallery[row])
        return 1 - (float(query.dot(gallery[row])) / lengths if lengths else 0)
    return sorted(((distance(row), row) for row in rows))[:count]


@pytest.mark.parametrize("most", [1, 130, 1000])  # one query at once, two, all
@pytest.mark.parametrize("count", [1, 6, 61, 200])
def test_all_faces_are_compared(monkeypatch, most, count):
    monkeypatch.setattr(floats, "MOST_DISTANCES", most)
    rng = np.random.RandomState(count)
    gallery, queries = rng.standard_normal((61, 9)), rng.standard_normal((5, 9))
    gallery[40] = 0
    rows, distances = nearest(unit_vectors(queries), unit_vectors(gallery), count)
    assert rows.shape == distances.shape == (5, min(count, 61))
    for query, found, away in zip(queries, rows, distances):
        expected = naive(query, gallery, range(61), count)
        assert found.tolist() == [row for _, row in expected]
        np.testing.assert_allclose(away, [distance for distance, _ in expected], atol=1e-6)


def test_equal_faces_come_in_the_order_of_their_rows():
    gallery = unit_vectors([[0, 1], [1, 0], [2, 0], [0, 3], [5, 0], [-1, 0], [0.5, 0]])
    rows, distances = nearest(unit_vectors([[4, 0]]), gallery, 3)
    assert rows.tolist() == [[1, 2, 4]] and distances.tolist() == [[0, 0, 0]]


def test_half_floats_keep_the_ranking():
    embeddings = np.random.RandomState(1).standard_normal((300, 128)) / 8
    queries, half_floats = unit_vectors(embeddings[:20]), embeddings.astype(np.float16)
    exact, _ = nearest(queries, unit_vectors(embeddings), 10)
    half, _ = nearest(queries, unit_vectors(half_floats), 10)
    assert np.mean([np.isin(*pair).mean() for pair in zip(exact, half)]) > 0.98
    assert unit_vectors(half_floats).dtype == np.float32
