"""Metrics against hand-worked tables, naive loops and all orders of a tie."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import evaluation.distances
from evaluation import authors_evaluation, metrics
from evaluation.codes import bit_correlation, checked_codes, effective_bits
from evaluation.distances import DistanceCounts, count_distances
from runtime.errors import UserError


def counts(items, relevant):
    return DistanceCounts(np.array(items), np.array(relevant))


def ranked_precision(relevance):
    """AP of one ranked list of 0/1, by the definition."""
    hits, total = 0, 0.0
    for rank, relevant in enumerate(relevance, 1):
        if relevant:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0


def all_rankings(items, relevant):
    """Every order of relevant and other items that agrees with the distances."""
    groups = [sorted(set(itertools.permutations([1] * r + [0] * (n - r))))
              for n, r in zip(items, relevant)]
    # distinct patterns of one group are equally likely, so plain means over them are expectations
    return [sum(ranking, ()) for ranking in itertools.product(*groups)]


ties = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).map(
    lambda pair: (max(pair), min(pair))), min_size=1, max_size=4).filter(
        lambda groups: sum(n for n, _ in groups) > 0)


def test_effective_bits():
    rng = np.random.RandomState(0)
    bits = np.where(rng.standard_normal((500, 4)) >= 0, 1, -1).astype(np.int8)
    constant, copy, complement = np.ones((500, 1), np.int8), bits[:, :1], -bits[:, 1:2]
    assert effective_bits(bits) == (4, 4)
    assert effective_bits(np.hstack([bits, constant, -constant])) == (4, 4)
    assert effective_bits(np.hstack([bits, copy, constant, complement])) == (6, 4)
    assert effective_bits(constant) == (0, 0)


def test_bit_correlation_is_numpys():
    rng = np.random.RandomState(1)
    bits = np.where(rng.standard_normal((300, 5)) >= [0, 1, -1, 0.3, 2], 1, -1).astype(np.int8)
    np.testing.assert_allclose(bit_correlation(bits), np.corrcoef(bits.T), atol=1e-12)


def test_average_precision_by_hand():
    # distance 0: one relevant of two; distance 1: one relevant of one.
    # orders: 1 0 1 -> (1 + 2/3) / 2 = 5/6; 0 1 1 -> (1/2 + 2/3) / 2 = 7/12
    got = metrics.average_precision(counts([[2, 1]], [[1, 1]]))
    assert got.best_case[0] == pytest.approx(5 / 6)
    assert got.worst_case[0] == pytest.approx(7 / 12)
    assert got.expected[0] == pytest.approx((5 / 6 + 7 / 12) / 2)


@settings(max_examples=150, deadline=None)
@given(ties)
def test_average_precision_against_all_orders_of_ties(groups):
    items, relevant = zip(*groups)
    values = [ranked_precision(ranking) for ranking in all_rankings(items, relevant)]
    got = metrics.average_precision(counts([items], [relevant]))
    assert got.expected[0] == pytest.approx(np.mean(values), abs=1e-12)
    assert got.best_case[0] == pytest.approx(max(values), abs=1e-12)
    assert got.worst_case[0] == pytest.approx(min(values), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(ties, st.integers(1, 25))
def test_top_ranks_against_all_orders_of_ties(groups, cutoff):
    items, relevant = zip(*groups)
    rankings = np.array(all_rankings(items, relevant))
    total = sum(relevant)
    table = counts([items], [relevant])

    top = rankings[:, :cutoff]
    precision = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    expected = (precision * top).sum(axis=1).mean() / max(min(total, cutoff), 1)
    assert metrics.average_precision_at(table, cutoff)[0] == pytest.approx(expected, abs=1e-12)

    hits = metrics.expected_hits(table, np.array([cutoff]))[0, 0]
    assert hits == pytest.approx(top.sum(axis=1).mean(), abs=1e-12)
    assert metrics.r_precision(table)[0] == pytest.approx(
        rankings[:, :total].sum(axis=1).mean() / max(total, 1), abs=1e-12)
    assert metrics.nearest_accuracy(table)[0] == pytest.approx(rankings[:, 0].mean())


def random_codes(rng, num_gallery, num_queries, num_bits, num_labels=5, distinct=None):
    pool = rng.randint(0, 2, (distinct or 10 ** 4, num_bits)) * 2 - 1
    def draw(n):
        return pool[rng.randint(0, len(pool), n)].astype(np.int8)
    return checked_codes(draw(num_gallery), rng.randint(0, num_labels, num_gallery),
                                  draw(num_queries), rng.randint(0, num_labels, num_queries))


def naive_counts(codes):
    items = np.zeros((len(codes.query_codes), codes.query_codes.shape[1] + 1), int)
    relevant = np.zeros_like(items)
    for q, (query, label) in enumerate(zip(codes.query_codes, codes.query_labels)):
        for item, item_label in zip(codes.gallery_codes, codes.gallery_labels):
            distance = sum(a != b for a, b in zip(query, item))
            items[q, distance] += 1
            relevant[q, distance] += label == item_label
    return items, relevant


@pytest.mark.parametrize("num_bits", [1, 2, 7, 8, 9, 12, 33, 48, 63, 64])
@pytest.mark.parametrize("distinct", [None, 3], ids=["distinct", "collapsed"])
def test_counts_against_a_double_loop(num_bits, distinct):
    codes = random_codes(np.random.RandomState(num_bits), 37, 11, num_bits, distinct=distinct)
    items, relevant = naive_counts(codes)
    got = count_distances(codes)
    np.testing.assert_array_equal(got.items, items)
    np.testing.assert_array_equal(got.relevant, relevant)


def assert_equal(one, other):
    assert one.results == other.results
    for name, value in one._asdict().items():
        if name != "results":
            np.testing.assert_array_equal(value, getattr(other, name))


def test_blocks_change_nothing(monkeypatch):
    codes = random_codes(np.random.RandomState(0), 101, 23, 12)
    whole = metrics.evaluate_codes(codes, authors_evaluation=True)
    monkeypatch.setattr(evaluation.distances, "QUERY_BLOCK", 5)
    monkeypatch.setattr(evaluation.distances, "GALLERY_BLOCK", 7)
    monkeypatch.setattr(authors_evaluation, "PAIRS_AT_ONCE", 300)
    assert_equal(metrics.evaluate_codes(codes, authors_evaluation=True), whole)


def test_order_of_the_gallery_changes_nothing():
    rng = np.random.RandomState(1)
    codes = random_codes(rng, 50, 9, 8)
    order = rng.permutation(50)
    shuffled = codes._replace(gallery_codes=codes.gallery_codes[order],
                              gallery_labels=codes.gallery_labels[order])
    assert_equal(metrics.evaluate_codes(shuffled), metrics.evaluate_codes(codes))


def unary_codes(distances, num_bits):
    """Codes at the given distances from the query whose bits are all -1."""
    return np.where(np.arange(num_bits) < np.asarray(distances)[:, None], 1, -1)


def test_agrees_with_scikit_learn_where_there_are_no_ties():
    rng = np.random.RandomState(0)
    for _ in range(20):
        distances = rng.permutation(41)[:30]
        labels = rng.randint(0, 3, 30)
        labels[0] = 1
        codes = checked_codes(unary_codes(distances, 40), labels,
                                       unary_codes([0], 40), np.array([1]))
        got = metrics.average_precision(count_distances(codes))
        expected = average_precision_score(labels == 1, -distances)
        for value in got:
            assert value[0] == pytest.approx(expected, abs=1e-12)


def test_table_by_hand():
    # Query A (label 0): distances 0, 1, 1, 3 with labels 0, 0, 1, 0. Query B (label 9): the same
    # gallery, nothing relevant.
    codes = checked_codes(unary_codes([0, 1, 1, 3], 4), np.array([0, 0, 1, 0]),
                                   unary_codes([0, 0], 4), np.array([0, 9]))
    results = metrics.evaluate_codes(codes).results
    best, worst = (1 + 1 + 3 / 4) / 3, (1 + 2 / 3 + 3 / 4) / 3
    assert results["mAP_best_case"] == pytest.approx(best / 2)
    assert results["mAP_worst_case"] == pytest.approx(worst / 2)
    assert results["mAP"] == pytest.approx((best + worst) / 4)
    assert results["precision_at_50"] == pytest.approx(3 / 4 / 2)  # all four of the gallery
    assert results["precision_radius_2"] == pytest.approx(2 / 3 / 2)
    assert results["recall_radius_2"] == pytest.approx(2 / 3 / 2)
    assert results["top_1_accuracy"] == 0.5
    assert results["queries_without_relevant"] == 1
    assert (results["num_gallery"], results["num_queries"], results["num_bits"]) == (4, 2, 4)
    assert results["distinct_gallery_codes"] == 3


def test_a_query_that_retrieves_nothing_has_precision_0_within_the_radius():
    codes = checked_codes(unary_codes([3, 4], 5), np.array([0, 0]),
                                   unary_codes([0], 5), np.array([0]))
    precision, recall, nonempty = metrics.precision_recall_within(
        count_distances(codes))
    assert precision.tolist() == [0, 0, 0, 1, 1, 1]
    assert recall.tolist() == [0, 0, 0, 0.5, 1, 1]
    assert nonempty.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("labels", [
    (np.array(["ann", "bob", "ann"]), np.array(["ann", "eve with a long name"])),
    (np.array([-5, 7, -5]), np.array([-5, -1]))])
def test_labels_of_any_kind(labels):
    gallery = np.array([[1, 1], [1, -1], [-1, -1]])
    codes = checked_codes(gallery, labels[0], gallery[:2], labels[1])
    assert count_distances(codes).relevant.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_one_query_and_one_gallery_item():
    one = np.array([[1, -1, 1]])
    results = metrics.evaluate_codes(checked_codes(one, [4], one, [4])).results
    assert results["mAP"] == results["top_1_accuracy"] == results["precision_at_50"] == 1.0


GOOD = dict(gallery_codes=np.ones((3, 4)), gallery_labels=np.zeros(3, int),
            query_codes=np.ones((2, 4)), query_labels=np.zeros(2, int))


@pytest.mark.parametrize("change, words", [
    (dict(gallery_codes=np.ones((0, 4)), gallery_labels=np.zeros(0, int)), "gallery_codes"),
    (dict(query_codes=np.ones((2, 5))), "gallery_codes has 4 bits, query_codes 5"),
    (dict(query_fingerprints=np.zeros(5, np.uint64)), "query_fingerprints"),
    (dict(query_codes=np.ones(8)), "query_codes"),
    (dict(gallery_codes=np.full((3, 4), np.nan)), "isnan"),
    (dict(gallery_codes=np.array([[0, -1, 1, 1]] * 3)), "holds 0 at row 0, bit 0"),
    (dict(gallery_codes=np.array([["a"] * 4] * 3)), "not numeric"),
    (dict(gallery_labels=np.zeros(2, int)), "gallery_labels"),
    (dict(query_labels=np.zeros((2, 1), int)), "query_labels"),
    (dict(query_labels=np.zeros(2)), "integers or strings"),
    (dict(query_labels=np.array(["a", "b"])), "query_labels"),
])
def test_malformed_codes(change, words):
    with pytest.raises(UserError, match=words):
        checked_codes(**dict(GOOD, **change))


def test_macro_curves_by_hand():
    # One query; gallery at distances 0, 1, 1 with labels right, right, wrong.
    codes = checked_codes(unary_codes([0, 1, 1], 3), np.array([0, 0, 1]),
                                  unary_codes([0], 3), np.array([0]))
    got = metrics.evaluate_codes(codes)
    assert got.precision_at.tolist() == [1, 3 / 4, 2 / 3]  # 1/1, (1 + 1/2)/2, 2/3
    assert got.recall_at.tolist() == [1 / 2, 3 / 4, 1]
    assert got.same.tolist() == [1, 1, 0, 0] and got.different.tolist() == [0, 1, 0, 0]
    assert got.precision_within.tolist() == [1, 2 / 3, 2 / 3, 2 / 3]


def test_authors_evaluation_loses_one_bit_in_eight():
    # Query: all bits on. Gallery A (relevant): bit 0 differs. Gallery B: bit 7 differs.
    # As bytes: query 255 -> 2 * 255 - 255 = 255; A 254 -> 253; B 127 -> -1 mod 256 = 255.
    query, a, b = np.ones((3, 8), int)
    a[0], b[7] = -1, -1
    packed = authors_evaluation._authors_bytes(np.array([query, a, b]))
    assert packed.tolist() == [[255], [253], [255]]
    codes = checked_codes([a, b], np.array([1, 2]), [query], np.array([1]))
    # Both are at Hamming distance 1: expected AP (1 + 1/2) / 2. The release sees B at distance 0.
    results = metrics.evaluate_codes(codes, authors_evaluation=True).results
    assert results["mAP"] == 0.75
    assert results["mAP_authors_evaluation"] == 0.5


def test_authors_evaluation_counts_the_last_bit_of_an_incomplete_byte_more_than_once():
    for num_bits, weight in ((12, 4), (36, 4), (9, 7), (15, 1), (24, 0), (48, 0)):
        on, off = np.ones(num_bits, int), np.ones(num_bits, int)
        off[-1] = -1
        one, other = authors_evaluation._authors_bytes(np.array([on, off]))
        assert sum(bin(x ^ y).count("1") for x, y in zip(one, other)) == weight


def test_authors_evaluation_against_a_loop_over_ranks():
    codes = random_codes(np.random.RandomState(3), 60, 13, 20)
    gallery, queries = [authors_evaluation._authors_bytes(part)
                        for part in (codes.gallery_codes, codes.query_codes)]
    expected = []
    for query, label in zip(queries, codes.query_labels):
        distances = np.array([sum(bin(a ^ b).count("1") for a, b in zip(query, item))
                              for item in gallery], np.uint16)
        order = np.argsort(distances)
        expected.append(ranked_precision(codes.gallery_labels[order] == label))
    np.testing.assert_allclose(
        authors_evaluation.authors_average_precision(codes), expected, rtol=1e-12)


def test_images_in_gallery_and_queries_are_counted():
    codes = random_codes(np.random.RandomState(0), 5, 3, 4)._replace(
        gallery_fingerprints=np.array([1, 2, 3, 4, 5], np.uint64),
        query_fingerprints=np.array([9, 4, 4], np.uint64))
    assert metrics.evaluate_codes(codes).results["queries_also_in_gallery"] == 2


def test_map_at_more_ranks_than_the_gallery_has_is_map():
    codes = random_codes(np.random.RandomState(0), 30, 9, 6)
    results = metrics.evaluate_codes(codes, map_at=30).results
    assert results["mAP_at_30"] == pytest.approx(results["mAP"], abs=1e-12)
