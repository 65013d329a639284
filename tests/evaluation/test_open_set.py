"""Open-set identification, against naive loops and against an answer worked out by hand."""

import numpy as np
import pytest

from evaluation.codes import Codes
from evaluation.floats import Floats
from evaluation.metrics import evaluate_codes
from evaluation.open_set import Probes, detection_rate, folds_of_people, nearest, open_set_results
from evaluation.vectors import unseen_results


def random_codes(people, gallery, queries, num_bits, seed, noise=0.2):
    """Codes of some people, each with a pattern of its own, some bits of which flip."""
    rng = np.random.RandomState(seed)
    patterns = rng.randint(0, 2, (people, num_bits))
    parts = []
    for count in (gallery, queries):
        labels = rng.permutation(np.repeat(np.arange(people), count))
        bits = patterns[labels] ^ (rng.rand(len(labels), num_bits) < noise)
        parts += [(bits * 2 - 1).astype(np.int8), labels]
    return Codes(*parts)


def naive_rate(enrolled, known, unknown, limit):
    """(DIR, FAR, threshold) by loops; each argument but the last is a list of (code, label)."""
    def ranked(code):
        distances = [sum(a != b for a, b in zip(code, other)) for other, _ in enrolled]
        least = min(distances)
        return least, [label for (_, label), distance in zip(enrolled, distances)
                       if distance == least]
    best = 0.0, 0.0, None
    for threshold in range(len(enrolled[0][0]) + 1):
        accepted = sum(ranked(code)[0] <= threshold for code, _ in unknown)
        if accepted / len(unknown) > limit:
            break
        detected = 0.0
        for code, label in known:
            distance, labels = ranked(code)
            if distance <= threshold:
                detected += labels.count(label) / len(labels)
        best = detected / len(known), accepted / len(unknown), threshold
    return best


@pytest.mark.parametrize("num_bits, people, seed", [(4, 7, 0), (10, 9, 1), (13, 12, 2), (24, 6, 3)])
def test_rates_are_those_of_naive_loops(num_bits, people, seed):
    seen = random_codes(people, 5, 4, num_bits, seed)
    unseen = random_codes(5, 2, 3, num_bits, seed + 50)
    results = open_set_results(seen, unseen)
    is_known = folds_of_people(people, 3) != 0

    def items(codes, labels, wanted):
        return [(code.tolist(), label) for code, label in zip(codes, labels)
                if is_known[label] == wanted]
    enrolled = items(seen.gallery_codes, seen.gallery_labels, True)
    known = items(seen.query_codes, seen.query_labels, True)
    known_unknown = items(seen.query_codes, seen.query_labels, False)
    strangers = [(code.tolist(), None) for code in unseen.query_codes]
    for name, unknown in (("o1", known_unknown), ("o2", strangers),
                          ("o3", known_unknown + strangers)):
        for text, limit in (("1_percent", 0.01), ("10_percent", 0.1)):
            found = [results[f"open_set_{name}_{part}_at_{text}"]
                     for part in ("dir", "far", "threshold")]
            expected = naive_rate(enrolled, known, unknown, limit)
            assert found[:2] == pytest.approx(expected[:2]) and found[2] == expected[2]
    assert results["open_set_num_known"] == is_known.sum()
    assert results["open_set_num_known_unknown"] == (~is_known).sum()
    assert results["open_set_num_known_queries"] == len(known)
    assert results["open_set_num_known_unknown_queries"] == len(known_unknown)


def test_an_answer_worked_out_by_hand():
    """Enrolled: Ann 000000, Ann 000001, Bo 000001, Bo 111111."""
    gallery = np.array([[0] * 6, [0] * 5 + [1], [0] * 5 + [1], [1] * 6], np.int8) * 2 - 1
    labels = np.array([0, 0, 1, 1])
    queries = np.array([[0] * 6,               # Ann, distance 0, right
                        [0] * 5 + [1],         # Ann, distance 0, one of two
                        [0, 0, 0, 0, 1, 1],    # Bo, distance 1, one of two
                        [0, 1, 1, 1, 1, 1],    # Bo, distance 1, right
                        [1, 1, 1, 1, 0, 0]],   # Ann, distance 2, wrong
                       np.int8) * 2 - 1
    known = nearest(Codes(gallery, labels, queries, np.array([0, 0, 1, 1, 0])))
    assert known.distances.tolist() == [0, 0, 1, 1, 2]
    assert known.right.tolist() == [1.0, 0.5, 0.5, 1.0, 0.0]
    unknown = np.array([1, 2, 2, 3] + [3] * 6)  # of ten, one lies within 1, three within 2
    assert detection_rate(known, unknown, 0.01) == (pytest.approx(1.5 / 5), 0.0, 0)
    assert detection_rate(known, unknown, 0.1) == (pytest.approx(3 / 5), 0.1, 1)
    assert detection_rate(known, unknown, 0.25) == (pytest.approx(3 / 5), 0.1, 1)
    assert detection_rate(known, unknown, 0.3) == (pytest.approx(3 / 5), 0.3, 2)


def test_where_distance_0_accepts_too_many_nobody_is_accepted():
    known = Probes(np.array([0, 1]), np.array([1.0, 1.0]))
    assert detection_rate(known, np.array([0, 0, 5]), 0.1) == (0.0, 0.0, None)
    # An unknown query just at the limit still counts as allowed: 1 of 10, whatever 0.1 is in bits.
    assert detection_rate(known, np.array([0] + [4] * 9), 0.1) == (1.0, 0.1, 3)
    assert detection_rate(known, np.array([0] * 3 + [4] * 27), 0.1) == (1.0, 0.1, 3)


def as_floats(codes):
    return Floats(codes.gallery_codes.astype(np.float32), codes.gallery_labels,
                  codes.query_codes.astype(np.float32) * 3, codes.query_labels)


@pytest.mark.parametrize("num_bits, seed", [(5, 0), (16, 1), (33, 2)])
def test_vectors_of_signs_have_the_rates_of_codes(num_bits, seed):
    """The cosine distance of two codes is 2/K of their Hamming distance, whatever the lengths."""
    seen, unseen = random_codes(9, 5, 4, num_bits, seed), random_codes(5, 2, 3, num_bits, seed + 9)
    expected = open_set_results(seen, unseen)
    found = open_set_results(as_floats(seen), as_floats(unseen))
    assert list(found) == list(expected)
    for name, value in expected.items():
        if "threshold" not in name:
            assert found[name] == pytest.approx(value)
        elif value is None:
            assert found[name] is None
        else:  # up to a whole distance; below a cosine distance, that of the next one that occurs
            assert found[name] == pytest.approx(2 / num_bits * (value + 1))


def test_numbers_are_accepted_whole():
    """Codes that are numbers are equal or not: a query of an enrolled number is always accepted."""
    seen = random_codes(9, 5, 4, 16, 3, noise=0.0)._replace(numbers=1)
    unseen = seen._replace(query_codes=-seen.query_codes)
    results = open_set_results(seen, unseen)
    assert results["open_set_o3_dir_at_1_percent"] == 1.0
    assert results["open_set_o3_far_at_1_percent"] == 0.0
    seen = seen._replace(gallery_codes=seen.gallery_codes[:1].repeat(45, axis=0))
    same = open_set_results(seen, seen._replace(query_codes=seen.gallery_codes[:36]))
    assert same["open_set_o2_threshold_at_10_percent"] is None


def test_order_and_names_of_people_do_not_matter():
    seen, unseen = random_codes(8, 5, 3, 16, 4), random_codes(4, 2, 3, 16, 9)
    results = open_set_results(seen, unseen)
    order = np.random.RandomState(0).permutation(len(seen.gallery_labels))
    mixed = seen._replace(gallery_codes=seen.gallery_codes[order],
                          gallery_labels=seen.gallery_labels[order])
    assert open_set_results(mixed, unseen) == results
    named = seen._replace(gallery_labels=seen.gallery_labels * 10 + 3,
                          query_labels=seen.query_labels * 10 + 3)
    assert open_set_results(named, unseen) == results


def test_too_few_people_have_no_open_set():
    assert not open_set_results(random_codes(2, 5, 3, 8, 0), random_codes(4, 2, 3, 8, 1))


def test_unseen_people_are_evaluated_among_themselves():
    seen, unseen = random_codes(8, 5, 3, 16, 4), random_codes(4, 6, 3, 16, 9)
    results = unseen_results(seen, unseen)
    expected = evaluate_codes(unseen).results
    for name in ("mAP", "mAP_worst_case", "mAP_best_case", "top_1_accuracy", "r_precision"):
        assert results["unseen_" + name] == expected[name]
    assert [results["unseen_num_" + name] for name in ("identities", "gallery", "queries")] == [
        4, 24, 12]
    assert "open_set_o3_dir_at_10_percent" in results
