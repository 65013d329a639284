"""What a run's page says of people never seen: its numbers are those of results.json."""

import numpy as np
import pytest

from evaluation.codes import checked_codes
from evaluation.metrics import evaluate_codes
from evaluation.saving import save_evaluation
from reports import columns, runs
from reports.unseen import unseen_part
from runtime.output_folder import OutputFolder


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
    part = unseen_part(*evaluated)
    results = evaluated[1]
    rows = {row[0]: row[1:] for row in part.rows}
    assert rows["people"] == ["9", "3"] and rows["gallery images"] == ["36", "12"]
    assert rows["queries"] == ["27", "9"]
    assert rows["mAP"] == ["%.4f" % results[name] for name in ("mAP", "unseen_mAP")]
    assert "%.4f" % results["unseen_mAP"] in part.sentence and "9 queries" in part.sentence
    seen_chance, unseen_chance = map(float, rows["mAP of a random order"])
    assert 1 / 9 < seen_chance < unseen_chance < 1  # among fewer people chance is higher
    o1, o2, o3 = part.open_rows
    assert [row[1:3] for row in (o1, o2, o3)] == [["18", "9"], ["18", "9"], ["18", "18"]]
    for row, name in ((o1, "o1"), (o2, "o2"), (o3, "o3")):
        assert len(row) == len(part.open_heads)
        assert row[3] == "%.4f" % results["open_set_%s_dir_at_1_percent" % name]
        threshold = results["open_set_%s_threshold_at_10_percent" % name]
        assert row[8] == ("none" if threshold is None else str(threshold))


def test_where_everybody_trained_there_is_no_such_part(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "evaluation")
    seen = codes(4, 0)
    results = save_evaluation(folder, seen, {}).results
    assert unseen_part(folder, results, seen) is None
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
