"""Ranking by floating-point vectors, and by numbers: against Hamming ranking, naive loops, hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluation import floats, metrics, vectors
from evaluation.codes import Codes, checked_codes, load_codes, number_codes
from evaluation.distances import count_distances
from evaluation.floats import Floats, cosine_distances, euclidean_distances
from runtime.errors import UserError

RANKED = ("mAP", "mAP_best_case", "mAP_worst_case", "mAP_at_7", "precision_at_50",
          "top_1_accuracy", "r_precision", "num_gallery", "num_queries",
          "queries_without_relevant", "queries_also_in_gallery")


def random_floats(seed=0, num_gallery=41, num_queries=13, size=5):
    rng = np.random.RandomState(seed)
    labels = [rng.randint(0, 4, count) for count in (num_gallery, num_queries)]
    return Floats(rng.standard_normal((num_gallery, size)).astype(np.float32), labels[0],
                  rng.standard_normal((num_queries, size)).astype(np.float32), labels[1])


def test_signs_as_floats_rank_as_hamming_does():
    """Cosine and Euclidean distance of -1/+1 vectors grow with Hamming distance, ties included."""
    rng = np.random.RandomState(3)
    codes = checked_codes(rng.choice([-1, 1], (90, 11)), rng.randint(0, 6, 90),
                          rng.choice([-1, 1], (17, 11)), rng.randint(0, 7, 17),
                          rng.randint(0, 50, 90).astype(np.uint64),
                          rng.randint(0, 50, 17).astype(np.uint64))
    same = Floats(codes.gallery_codes.astype(np.float32), codes.gallery_labels,
                  codes.query_codes.astype(np.float32) * 3, codes.query_labels,
                  codes.gallery_fingerprints, codes.query_fingerprints)
    expected = metrics.evaluate_codes(codes, map_at=7)
    got = floats.evaluate_floats(same, map_at=7)
    for name in RANKED:
        assert got.results[name] == pytest.approx(expected.results[name], abs=1e-12), name
    assert got.results["mAP_euclidean"] == pytest.approx(expected.results["mAP"], abs=1e-12)
    assert got.results["num_values"] == 11 and "num_bits" not in got.results
    np.testing.assert_allclose(got.precision_at, expected.precision_at, atol=1e-12)
    np.testing.assert_allclose(got.recall_at, expected.recall_at, atol=1e-12)
    np.testing.assert_allclose(got.average_precision.expected,
                               expected.average_precision.expected, atol=1e-12)
    ranks = np.array([1, 30, 90])
    np.testing.assert_allclose(vectors.precision_recall_at(same, ranks),
                               vectors.precision_recall_at(codes, ranks), atol=1e-12)


def test_distances_and_ties_against_naive_loops():
    found = random_floats()
    gallery = np.concatenate([found.gallery_vectors, found.gallery_vectors[:9], np.zeros((2, 5))])
    for distances, naive in (
            (cosine_distances, lambda q, g: 1 - (
                q.dot(g) / np.linalg.norm(q) / np.linalg.norm(g) if g.any() else 0)),
            (euclidean_distances, lambda q, g: np.linalg.norm(q - g))):
        expected = np.array([[naive(*pair) for pair in ((q.astype(float), g) for g in gallery)]
                             for q in found.query_vectors])
        got = distances(found.query_vectors, gallery)
        np.testing.assert_allclose(got, expected, atol=1e-12)
        relevant = np.random.RandomState(1).rand(*got.shape) < 0.3
        counts = floats.count_ties(got, relevant)
        for row, hits, items, found_hits in zip(expected, relevant, *counts):
            ties = {}
            for distance, hit in zip(row, hits):
                tie = ties.setdefault(round(distance, 6), [0, 0])
                tie[0] += 1
                tie[1] += hit
            sizes, naive_hits = np.array([tie for _, tie in sorted(ties.items())]).T
            assert items[:len(sizes)].tolist() == sizes.tolist() and not items[len(sizes):].any()
            assert found_hits[:len(sizes)].tolist() == naive_hits.tolist()


def test_agrees_with_scikit_learn_where_there_are_no_ties():
    found = random_floats(seed=2)
    for distances, name in ((cosine_distances, "mAP"), (euclidean_distances, "mAP_euclidean")):
        table = distances(found.query_vectors, found.gallery_vectors)
        expected = [average_precision_score(found.gallery_labels == label, -row)
                    for label, row in zip(found.query_labels, table)]
        assert floats.evaluate_floats(found).results[name] == pytest.approx(np.mean(expected))


def test_by_hand():
    # cosine: (6, 0) first, then (1, 1) and (2, 2) tied, (0, 1) last;
    # Euclidean from (1, 0): (1, 1) at 1, (0, 1) at sqrt 2, (2, 2) at sqrt 5, (6, 0) at 5.
    found = Floats(np.float32([[6, 0], [1, 1], [2, 2], [0, 1]]), np.array([1, 0, 1, 0]),
                   np.float32([[1, 0]]), np.array([1]))
    results = floats.evaluate_floats(found).results
    assert results["mAP"] == pytest.approx((1 + (1 + (2 / 3)) / 2) / 2)  # 2nd or 3rd of the tie
    assert results["mAP_best_case"] == 1
    assert results["mAP_worst_case"] == pytest.approx((1 + 2 / 3) / 2)
    assert results["mAP_euclidean"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert results["top_1_accuracy"] == 1 and results["r_precision"] == 0.75


def test_blocks_and_the_order_of_the_gallery_change_nothing(monkeypatch):
    found = random_floats(seed=4)
    whole = floats.evaluate_floats(found)
    order = np.random.RandomState(0).permutation(41)
    monkeypatch.setattr(floats, "PAIRS_AT_ONCE", 100)
    monkeypatch.setattr(floats, "GALLERY_BLOCK", 7)
    got = floats.evaluate_floats(found._replace(gallery_vectors=found.gallery_vectors[order],
                                                gallery_labels=found.gallery_labels[order]))
    for name, value in whole.results.items():
        assert got.results[name] == pytest.approx(value, abs=1e-12), name
    np.testing.assert_allclose(got.precision_at, whole.precision_at, atol=1e-12)


def test_files(tmp_path):
    found = random_floats()._replace(gallery_fingerprints=np.arange(41, dtype=np.uint64))
    path = tmp_path / "floats.npz"
    np.savez(path, **found.arrays())
    for name, array in floats.load_floats(path).arrays().items():
        np.testing.assert_array_equal(array, getattr(found, name))
    for change in (dict(gallery_vectors=found.gallery_vectors[:, :4]),
                   dict(query_vectors=np.float32(np.full((13, 5), np.nan))),
                   dict(query_vectors=np.ones((13, 5), int)), dict(query_vectors=np.ones(13)),
                   dict(gallery_labels=found.gallery_labels[:9]),
                   dict(gallery_labels=found.gallery_labels.astype(str)),
                   dict(gallery_fingerprints=np.arange(3))):
        np.savez(path, **dict(found.arrays(), **change))
        with pytest.raises(UserError, match="floats.npz: "):
            floats.load_floats(path)


# Numbers


def test_number_codes_by_hand():
    assert number_codes([0, 1, 6], 7).tolist() == [[-1, -1, -1], [1, -1, -1], [-1, 1, 1]]
    assert [number_codes([0], count).shape[1] for count in (1, 2, 3, 4, 5, 530, 1595)] == [
        1, 1, 2, 2, 3, 10, 11]


def numbered(gallery, gallery_labels, queries, query_labels, count):
    return Codes(number_codes(gallery, count), np.array(gallery_labels),
                 number_codes(queries, count), np.array(query_labels), numbers=1)


def test_numbers_are_equal_or_as_far_as_can_be():
    rng = np.random.RandomState(0)
    gallery, queries = rng.randint(0, 20, 60), rng.randint(0, 20, 12)
    labels = [np.array([f"p{person}" for person in rng.randint(0, most, count)])
              for most, count in ((9, 60), (12, 12))]
    codes = numbered(gallery, labels[0], queries, labels[1], 20)
    items, relevant = np.zeros((12, 6), int), np.zeros((12, 6), int)
    for query in range(12):
        for item in range(60):
            distance = 0 if queries[query] == gallery[item] else 5
            items[query, distance] += 1
            relevant[query, distance] += labels[0][item] == labels[1][query]
            assert vectors.distances_of(codes, query)[item] == distance
    counts = count_distances(codes)
    np.testing.assert_array_equal(counts.items, items)
    np.testing.assert_array_equal(counts.relevant, relevant)


def test_numbers_by_hand(tmp_path):
    # Three people, two images each. Of the three images of the first query's number, two are of
    # its person. The second query has a number under which nobody of its person lies.
    codes = numbered([0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [1, 0], [1, 2], 3)
    evaluation = metrics.evaluate_codes(codes, authors_evaluation=True)
    first = np.mean([(1 / a + 2 / b) / 2 for a, b in ((1, 2), (1, 3), (2, 3))])
    # of the second, both lie among the last 5 of 6 in random order
    rest = [(rank_a, rank_b) for rank_a in range(2, 7) for rank_b in range(rank_a + 1, 7)]
    second = np.mean([(1 / a + 2 / b) / 2 for a, b in rest])
    assert evaluation.average_precision.expected == pytest.approx([first, second])
    results = evaluation.results
    assert results["num_bits"] == 2 and results["mAP"] == pytest.approx((first + second) / 2)
    assert results["precision_radius_2"] == pytest.approx((2 / 3 + 0) / 2)  # the same number
    assert results["recall_radius_2"] == 0.5
    assert "mAP_authors_evaluation" not in results  # it would compare bit by bit
    path = tmp_path / "codes.npz"
    np.savez(path, **codes.arrays())
    again = load_codes(path)
    assert again.numbers == 1 and metrics.evaluate_codes(again).results == results
    np.savez(path, **dict(codes.arrays(), numbers=np.arange(2)))
    with pytest.raises(UserError, match="numbers"):
        load_codes(path)
    assert "numbers" not in codes._replace(numbers=0).arrays()
