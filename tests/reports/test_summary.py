"""What a page says first: warnings, notes on the end of a run, people never seen."""

import numpy as np
import pytest

from evaluation.codes import checked_codes
from evaluation.metrics import evaluate_codes
from evaluation.vectors import save_evaluation
from reports import columns, runs, summary
from runtime.output_folder import OutputFolder

# Training that went on for too long


def rows(accuracies, maps):
    return [dict(epoch=float(epoch), accuracy=accuracy, mAP=maps.get(epoch))
            for epoch, accuracy in enumerate(accuracies, 1)]


LEARNED = [0.5, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("history", [
    [],
    rows(LEARNED, {}),
    rows(LEARNED, {8: 0.6}),
    rows(LEARNED, {4: 0.6, 8: 0.61}),  # codes got better
    rows(LEARNED, {4: 0.6, 8: 0.596}),  # or nearly stayed
    rows([0.5] * 6 + [1.0] * 2, {4: 0.6, 8: 0.5}),  # learned just before the end
    rows(LEARNED[:-1] + [0.9], {4: 0.6, 8: 0.5}),  # still learning
    [dict(epoch=1.0, accuracy=None, mAP=0.5), dict(epoch=2.0, accuracy=None, mAP=0.4)],
])
def test_no_warning(history):
    assert summary.overfitting(history) is None


def test_a_warning_names_epochs_and_map():
    sentence = summary.overfitting(rows(LEARNED, {2: 0.6123, 4: 0.7, 6: 0.65, 8: 0.6}))
    for part in ("epoch 3 of 8", "0.7000", "epoch 4", "0.6000", "--recipe tuned"):
        assert part in sentence


# Known people who are missed


def searched(gallery, queries):
    """Codes from lists of (number in binary, label), of 10 bits."""
    def split(items):
        numbers, labels = zip(*items)
        return np.array(numbers)[:, None] >> np.arange(10) & 1, np.array(labels)

    (gallery_bits, gallery_labels), (query_bits, query_labels) = split(gallery), split(queries)
    return checked_codes(gallery_bits * 2 - 1, gallery_labels, query_bits * 2 - 1, query_labels)


# Ten bits: person 0 is near 0, person 1 near 0b1111111111.
GALLERY = [(0b0, 0), (0b1111111111, 1)]
NEAR, FAR, WRONG = (0b1, 0), (0b1111, 0), (0b1111111, 0)  # 1, 4 and 7 bits from their own person


@pytest.mark.parametrize("queries, missed", [
    # The nearest stranger is at distance 6, so the threshold is 5.
    ([NEAR] * 5 + [FAR] * 5, None),
    # WRONG is at 3 from person 1: the threshold is 2, and FAR is missed, too.
    ([NEAR] * 9 + [WRONG], None),  # 1 of 10
    ([NEAR] * 6 + [FAR] * 3 + [WRONG], 40),
    ([NEAR] * 100 + [WRONG] * 100, 50),
    # 1 of 100 strangers may be named: with a threshold of 3 or more all FAR are found.
    ([NEAR] * 50 + [FAR] * 49 + [WRONG], None),
    ([NEAR] * 50 + [FAR] * 48 + [WRONG], 49),  # 49 of 99
])
def test_missed_people(queries, missed):
    note = summary.missed_people(searched(GALLERY, queries))
    assert (note is not None) == (missed is not None)
    if note:
        assert f" {missed} % " in note and "search.py find" in note


def test_nobody_is_missed_where_nobody_is_known_or_strange():
    assert summary.missed_people(searched([(0, 0)], [WRONG])) is None  # no stranger
    assert summary.missed_people(searched(GALLERY, [(0b11111, 2)])) is None  # nobody known


# People never seen


def codes(people, seed):
    rng = np.random.RandomState(seed)
    labels, query_labels = np.repeat(np.arange(people), 4), np.repeat(np.arange(people), 3)
    return checked_codes(np.sign(rng.randn(len(labels), 9)), labels,
                         np.sign(rng.randn(len(query_labels), 9)), query_labels)


@pytest.fixture
def evaluated(tmp_path):
    """(folder, results, codes) of 9 seen and 3 unseen people."""
    folder = OutputFolder.create(tmp_path / "out", "evaluation")
    seen = codes(9, 0)
    return folder, save_evaluation(folder, seen, {}, codes(3, 1)).results, seen


def test_tables_hold_the_results(evaluated):
    part = summary.unseen_people(*evaluated)
    results = evaluated[1]
    rows = {row[0]: row[1:] for row in part.retrieval.rows}
    assert rows["people"] == ["9", "3"] and rows["gallery images"] == ["36", "12"]
    assert rows["queries"] == ["27", "9"]
    assert rows["mAP"] == [f"{results[name]:.4f}" for name in ("mAP", "unseen_mAP")]
    sentence = part.retrieval.sentence
    assert f"{results['unseen_mAP']:.4f}" in sentence and "9 queries" in sentence
    seen_chance, unseen_chance = map(float, rows["mAP of a random order"])
    assert 1 / 9 < seen_chance < unseen_chance < 1  # among fewer people chance is higher
    o1, o2, o3 = part.open_set.rows
    assert [row[1:3] for row in (o1, o2, o3)] == [["18", "9"], ["18", "9"], ["18", "18"]]
    for row, name in ((o1, "o1"), (o2, "o2"), (o3, "o3")):
        assert len(row) == len(part.open_set.heads)
        assert row[3] == f"{results[f'open_set_{name}_dir_at_1_percent']:.4f}"
        threshold = results[f"open_set_{name}_threshold_at_10_percent"]
        assert row[8] == ("none" if threshold is None else str(threshold))


def test_nothing_is_said_if_everybody_is_in_the_training_set(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "evaluation")
    seen = codes(4, 0)
    results = save_evaluation(folder, seen, {}).results
    assert summary.unseen_people(folder, results, seen) is None
    assert not (folder.path / "unseen_codes.npz").exists()
    assert not [name for name in results if name.startswith(("unseen", "open_set"))]


def test_names_and_groups(evaluated):
    groups = columns.grouped(evaluated[1])
    names = [name for name, _, _ in groups["people never seen"]]
    assert sorted(names) == sorted(name for name in evaluated[1]
                                   if name.startswith(("unseen_", "open_set_")))
    titles = [title for rows in groups.values() for _, title, _ in rows]
    assert len(set(titles)) == len(titles)


def test_a_comparison_evaluates_saved_codes_of_unseen_people(evaluated):
    folder, results, seen = evaluated
    run = runs.compared_run(folder.path, evaluate_codes(seen), seen)
    for name, value in results.items():
        if name.startswith(("unseen_", "open_set_")):
            assert run.evaluation.results[name] == value
    names, _ = columns.comparison({"a": run.evaluation.results, "b": {"mAP": 0.5}})
    assert "unseen_mAP" in names and "unseen_top_1_accuracy" in names
