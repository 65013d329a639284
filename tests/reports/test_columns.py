"""What results are called, how they are written, and how runs stand beside one another."""

import pytest

from reports import columns


@pytest.mark.parametrize("seconds, text", [
    (0, "0 s"), (0.0123, "0.012 s"), (1.04, "1.0 s"), (9.96, "10 s"), (41.4, "41 s"),
    (161.2, "2 min 41 s"), (11100, "3 h 05 min")])
def test_durations(seconds, text):
    assert columns.duration(seconds) == text


@pytest.mark.parametrize("count, text", [
    (980, "980"), (1000, "1.0 k"), (61234, "61.2 k"), (999990, "1.0 M"), (7901234, "7.9 M"),
    (1.2e9, "1.2 G")])
def test_large_counts(count, text):
    assert columns.large(count) == text


@pytest.mark.parametrize("name, value, text", [
    ("mAP", 0.98654, "0.9865"), ("num_gallery", 67177, "67,177"), ("parameters", 8191780, "8.2 M"),
    ("training_seconds", 161.0, "2 min 41 s"), ("method", "dcbh", "dcbh"), ("epoch", None, ""),
    ("mAP_at_1000", 0.5, "0.5000"), ("unheard_of", 3, "3")])
def test_values(name, value, text):
    assert columns.shown(name, value) == text


def test_three_groups_hold_every_result_once():
    results = dict(training_seconds=2.0, mAP_at_10=0.4, mAP=0.5, num_bits=12, stranger="x")
    groups = columns.grouped(results)
    assert list(groups) == ["quality", "codes", "cost"]
    assert {name for name, _, _ in groups["quality"]} == {"mAP_at_10", "mAP"}
    assert sorted(name for rows in groups.values() for name, _, _ in rows) == sorted(results)
    text = columns.results_text(results)
    assert [line for line in text.splitlines() if not line.startswith(" ")] == list(groups)
    assert "2.0 s" in text and "0.4000" in text


RUNS = {
    "runs/a/one": dict(mAP=0.5, top_1_accuracy=0.9, num_bits=12, training_seconds=100.0),
    "runs/a/two": dict(mAP=0.75, top_1_accuracy=0.9, num_bits=12),
    "runs/b": dict(mAP=0.25, top_1_accuracy=0.8, num_bits=12, training_seconds=50.0)}


def test_comparison_sorts_by_map_and_marks_the_best():
    names, rows = columns.comparison(RUNS)
    assert names == ["mAP", "top_1_accuracy", "num_bits", "training_seconds"]
    assert [row.name for row in rows] == ["runs/a/two", "runs/a/one", "runs/b"]
    assert [row.place for row in rows] == [1, 2, 3]
    best = [[entry.best for entry in row.entries] for row in rows]
    # equal texts are equally good; fewer seconds are better; bits are neither
    assert best == [[True, True, False, False], [False, True, False, False],
                    [False, False, False, True]]
    assert rows[0].entries[3].text == ""


def test_comparison_as_text_is_one_row_a_run():
    many = {f"runs/grid/{number:02d}_{'name' * number}": dict(RUNS["runs/b"], mAP=number / 20)
            for number in range(15)}
    lines = columns.comparison_text(many).splitlines()
    assert len(lines) == 1 + 15 + 2  # head, runs, what * means, the folder that they share
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert [line.split()[-1] for line in lines[1:16]] == [
        name[len("runs/grid/"):] for name in reversed(list(many))]
    assert lines[-1].endswith("runs/grid")
    assert max(len(line) for line in lines[:-1]) - 15 * 4 < 80


@pytest.mark.parametrize("paths, prefix, names", [
    (["runs/a", "runs/b"], "runs", ["a", "b"]),
    (["runs/a/", "runs/a/b"], "runs", ["a", "a/b"]),
    (["/x/y/a1", "/x/y/a2"], "/x/y", ["a1", "a2"]),
    (["a", "b"], "", ["a", "b"]),
    (["runs/a"], "", ["runs/a"])])
def test_common_folders(paths, prefix, names):
    assert columns.without_common_folder(paths) == (prefix, names)
