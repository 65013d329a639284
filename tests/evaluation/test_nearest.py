"""The nearest faces by cosine, of all and of candidates, against plain loops."""

import numpy as np
import pytest

from evaluation import nearest as module
from evaluation.nearest import candidate_recall, nearest, rerank, unit_vectors


def naive(query, gallery, rows, count):
    """(row, distance) of the nearest, by float64 and Python's sort."""
    def distance(row):
        lengths = np.linalg.norm(query) * np.linalg.norm(gallery[row])
        return 1 - (float(query.dot(gallery[row])) / lengths if lengths else 0)
    return sorted(((distance(row), row) for row in rows))[:count]


@pytest.mark.parametrize("most", [1, 130, 1000])  # one query at once, two, all
@pytest.mark.parametrize("count", [1, 6, 61, 200])
def test_all_faces_are_compared(monkeypatch, most, count):
    monkeypatch.setattr(module, "MOST_DISTANCES", most)
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
    rows, distances = rerank(unit_vectors([[4, 0]])[0], gallery, np.array([6, 5, 4, 0]), 3)
    assert rows.tolist() == [4, 6, 0] and distances.tolist() == [0, 0, 1]


def test_candidates_are_ranked_as_all_are():
    rng = np.random.RandomState(0)
    gallery, query = unit_vectors(rng.standard_normal((80, 5))), unit_vectors(rng.randn(1, 5))
    all_rows, all_distances = nearest(query, gallery, 80)
    candidates = rng.permutation(80)[:30]
    rows, distances = rerank(query[0], gallery, candidates, 12)
    inside = np.isin(all_rows[0], candidates)
    np.testing.assert_array_equal(rows, all_rows[0][inside][:12])
    np.testing.assert_allclose(distances, all_distances[0][inside][:12], atol=1e-6)


def test_recall_counts_exact_answers_among_candidates():
    found = candidate_recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 9], [6, 4]]))
    assert found.tolist() == [0.5, 1]


def test_half_floats_keep_the_ranking():
    embeddings = np.random.RandomState(1).standard_normal((300, 128)) / 8
    queries, half_floats = unit_vectors(embeddings[:20]), embeddings.astype(np.float16)
    exact, _ = nearest(queries, unit_vectors(embeddings), 10)
    half, _ = nearest(queries, unit_vectors(half_floats), 10)
    assert candidate_recall(half, exact).mean() > 0.98
    assert unit_vectors(half_floats).dtype == np.float32
