"""evaluate.py on codes from elsewhere, without TensorFlow, and what it refuses."""

import os

import numpy as np
import pytest
from conftest import assert_refused, run_script

import evaluate
from evaluation import metrics
from evaluation.codes import checked_codes
from runtime.errors import UserError
from runtime.output_folder import OutputFolder

CODES = checked_codes(
    np.array([[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, 1]]), np.array([0, 0, 1, 1]),
    np.array([[1, 1, 1], [1, -1, -1], [1, 1, 1]]), np.array([0, 1, 1]))


@pytest.fixture
def codes_file(tmp_path):
    path = tmp_path / "codes.npz"
    np.savez(path, **CODES.arrays())
    return path


def test_codes_from_elsewhere_without_tensorflow(tmp_path, codes_file):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise ImportError('not here')")
    process = run_script("evaluate.py", "--codes", codes_file, "--out", tmp_path / "out",
                         "--authors_evaluation", "--map_at", 2, cwd=tmp_path,
                         env={"PYTHONPATH": str(blocked)}, fresh=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    results = OutputFolder(tmp_path / "out").read_json("results.json")
    expected = metrics.evaluate_codes(CODES, map_at=2, authors_evaluation=True).results
    assert {name: results[name] for name in expected} == dict(expected)
    assert f"{results['mAP_authors_evaluation']:.4f}" in process.stdout
    for name in ("curves_at_n.csv", "curves_within_radius.csv", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert_refused(run_script("evaluate.py", tmp_path, cwd=tmp_path), tmp_path)


@pytest.mark.parametrize("arguments, names", [
    ([], ["--codes"]),
    (["run", "--codes", "x.npz"], ["--codes"]),
    (["--codes", "missing.npz", "--out", "out"], ["missing.npz"]),
    (["--codes", "codes.npz"], ["--out"]),
    (["--codes", "text.npz", "--out", "out"], ["text.npz"]),
    (["--codes", "empty.npz", "--out", "out"], ["empty.npz"]),
    (["--codes", "half.npz", "--out", "out"], ["half.npz"]),
    (["--codes", "objects.npz", "--out", "out"], ["objects.npz"]),
    (["--codes", "lacking.npz", "--out", "out"], ["lacking.npz", "query_labels"]),
    (["--codes", "nan.npz", "--out", "out"], ["nan.npz", "gallery_codes"]),
    (["--codes", "codes.npz", "--out", "text.npz"], ["text.npz"]),
    (["--codes", "codes.npz", "--out", "out", "--map_at", "0"], ["map_at"]),
    (["--codes", "codes.npz", "--out", "out", "--map_at", str(2 ** 63 - 1)], ["map_at"]),
    (["--codes", "pipe.npz", "--out", "out"], ["pipe.npz"]),
    (["--codes", "codes.npz", "--out", "out", "--map", "5"], ["--map"]),
    (["a", "b"], ["a"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))
def test_user_errors(tmp_path, codes_file, monkeypatch, arguments, names):
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "empty.npz").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "half.npz").write_bytes(codes_file.read_bytes()[:300])
    with np.load(codes_file) as arrays:
        good = dict(arrays)
    np.savez(tmp_path / "objects.npz", **dict(good, gallery_labels=np.array([{}] * 4)))
    np.savez(tmp_path / "nan.npz", **dict(good, gallery_codes=np.full((4, 3), np.nan)))
    del good["query_labels"]
    np.savez(tmp_path / "lacking.npz", **good)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        evaluate.main(arguments)
    assert error.value.exit_code == 2
    for name in names:
        assert name in str(error.value)
    assert not (tmp_path / "out" / "report.html").exists()
