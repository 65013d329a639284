"""Figures and pages: what they say, and that they ask for nothing outside."""

import re
from collections import Counter, OrderedDict

import numpy as np
import pytest
from conftest import assert_refused, run_script, tiny_faces
from PIL import Image

import data_loader
from config import UserError
from evaluate import load_codes
from reports import figures, report
from retrieval import metrics
from runtime.run_folder import RunFolder

CODES = metrics.checked_codes(
    np.array([[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, 1]]), np.array([0, 0, 1, 1]),
    np.array([[1, 1, 1], [1, -1, -1], [1, 1, 1]]), np.array([0, 1, 1]))


@pytest.fixture
def splits():
    train, test = tiny_faces(num_identities=2, train=2, test=2)
    return [data_loader.normalise(data_loader.channels_last(rows)[:count], labels[:count])
            for (rows, labels), count in ((train, 4), (test, 3))]


def page_checks(page):
    assert not re.search(r"""(src|href)=(?!['"]?(data:|#))""", page)
    assert not re.search(r"url\((?!#)|@import|<script|<link", page)
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [name for name, count in ids.items() if count > 1] == []
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert target in ids
    assert "prefers-color-scheme: dark" in page and "viewport" in page


def test_report_of_codes_with_images(tmp_path, splits):
    evaluation = metrics.evaluate_codes(CODES)
    path = report.write_report(RunFolder.output(tmp_path / "out"), evaluation, CODES, splits,
                               names=["<Ann>", "Bob"])
    page = path.read_text(encoding="utf-8")
    page_checks(page)
    assert "%.4f" % evaluation.results["mAP"] in page
    drawn = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert drawn == {name + ".png" for name in (
        "precision_recall", "precision_at_n", "recall_at_n", "distances", "bit_balance",
        "bit_correlation", "retrievals")}
    for name in drawn:
        with Image.open(str(tmp_path / "out/figures" / name)) as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_queries_in_the_gallery_are_warned_of(tmp_path):
    codes = CODES._replace(gallery_fingerprints=np.arange(4), query_fingerprints=np.arange(3))
    page = report.write_report(RunFolder.output(tmp_path), metrics.evaluate_codes(codes),
                               codes).read_text(encoding="utf-8")
    assert "3 queries are also in the gallery" in page


def test_comparison_escapes_names(tmp_path):
    evaluation = metrics.evaluate_codes(CODES)
    page = report.write_comparison(RunFolder.output(tmp_path), OrderedDict([
        ("runs/<one>", evaluation), ("runs/two", evaluation)])).read_text(encoding="utf-8")
    page_checks(page)
    assert "runs/&lt;one&gt;" in page and "<one>" not in page


def test_comparison_table_marks_what_a_run_lacks():
    table = report.comparison_table(OrderedDict([("a", {"mAP": 0.5}), ("b", {"num_bits": 12})]))
    rows = [line.split() for line in table.splitlines()]
    assert rows == [["a", "b"], ["mAP", "0.5000", "-"], ["num", "bits", "-", "12"]]


def test_bit_correlation_by_hand():
    # bit 1 is constant; bits 2 and 3 are independent over the four gallery codes
    np.testing.assert_allclose(metrics.bit_correlation(CODES.gallery_codes),
                               [[0, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_nearest_keeps_gallery_order_inside_ties():
    indices, distances = figures.nearest(CODES, 0, 3)
    assert indices.tolist() == [0, 1, 3] and distances.tolist() == [0, 1, 1]


def test_example_queries():
    values = np.array([0.9, 0.1, 0.5, 0.6, 0.4, 1.0, 0.0, 0.55, 0.2])
    ap = metrics.AveragePrecision(values, values, values)
    # by AP: 5 0 3 7 2 4 8 1 6; the middle is 2
    assert figures.example_queries(ap, np.arange(9), count=2) == [
        ("best", 5), ("best", 0), ("typical", 2), ("typical", 7), ("worst", 6), ("worst", 1)]
    labels = np.array([1, 2, 3, 4, 5, 1, 2, 7, 8])  # 5 and 0 are one person, so are 6 and 1
    assert figures.example_queries(ap, labels, count=2) == [
        ("best", 5), ("best", 3), ("typical", 2), ("typical", 7), ("worst", 6), ("worst", 8)]
    assert len(figures.example_queries(ap, np.zeros(9), count=4)) == 9


def test_contact_sheet_frames(splits):
    evaluation = metrics.evaluate_codes(CODES)
    sheet = np.asarray(figures.contact_sheet(evaluation, CODES, *splits, count=2))
    colours = {tuple(pixel) for pixel in sheet.reshape(-1, 3)}
    assert figures.RIGHT in colours and figures.WRONG in colours


# The command, on codes from elsewhere


@pytest.fixture
def codes_file(tmp_path):
    path = tmp_path / "codes.npz"
    np.savez(str(path), **{name: array for name, array in CODES._asdict().items()
                           if array is not None})
    return path


def test_codes_from_elsewhere_without_tensorflow(tmp_path, codes_file):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise ImportError('not here')")
    process = run_script("evaluate.py", "--codes", codes_file, "--out", tmp_path / "out",
                         "--authors_evaluation", "--map_at", 2, cwd=tmp_path,
                         env={"PYTHONPATH": str(blocked)})
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    results = RunFolder(tmp_path / "out").read_json("results.json")
    expected = metrics.evaluate_codes(CODES, map_at=2, authors_evaluation=True).results
    assert {name: results[name] for name in expected} == dict(expected)
    assert "mAP authors evaluation" in process.stdout
    for name in ("curves_at_n.csv", "curves_within_radius.csv", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    refused = run_script("evaluate.py", tmp_path, cwd=tmp_path)
    assert_refused(refused, "not a run folder")


@pytest.mark.parametrize("arguments, words", [
    ([], ["run folders or --codes"]),
    (["run", "--codes", "x.npz"], ["run folders or --codes"]),
    (["--codes", "missing.npz", "--out", "out"], ["missing.npz", "no such file"]),
    (["--codes", "codes.npz"], ["--out"]),
    (["--codes", "text.npz", "--out", "out"], ["text.npz", "not an .npz"]),
    (["--codes", "empty.npz", "--out", "out"], ["empty.npz"]),
    (["--codes", "half.npz", "--out", "out"], ["half.npz"]),
    (["--codes", "objects.npz", "--out", "out"], ["objects.npz"]),
    (["--codes", "lacking.npz", "--out", "out"], ["lacking.npz", "query_labels"]),
    (["--codes", "nan.npz", "--out", "out"], ["nan.npz", "gallery_codes", "-1 or +1"]),
    (["--codes", "codes.npz", "--out", "text.npz"], ["text.npz", "cannot be written"]),
    (["--codes", "codes.npz", "--out", "out", "--map_at", "0"], ["map_at"]),
    (["--codes", "codes.npz", "--out", "out", "--map", "5"], ["--map"]),
    (["a", "b"], ["a", "no such run folder"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))
def test_mistakes(tmp_path, codes_file, arguments, words):
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "half.npz").write_bytes(codes_file.read_bytes()[:300])
    with np.load(str(codes_file)) as arrays:
        good = dict(arrays)
    np.savez(str(tmp_path / "objects.npz"), **dict(good, gallery_labels=np.array([{}] * 4)))
    np.savez(str(tmp_path / "nan.npz"), **dict(good, gallery_codes=np.full((4, 3), np.nan)))
    del good["query_labels"]
    np.savez(str(tmp_path / "lacking.npz"), **good)
    assert_refused(run_script("evaluate.py", *arguments, cwd=tmp_path), *words)


def test_codes_file_round_trip(codes_file):
    loaded = load_codes(codes_file)
    for name, array in CODES._asdict().items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    with pytest.raises(UserError, match="nowhere"):
        load_codes("nowhere.npz")
