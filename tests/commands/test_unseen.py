"""People never seen, in whole runs: they have no part in training, and are evaluated apart."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import tiny_faces, write_pickle

import evaluate
import main
from evaluation.open_set import folds_of_people

PEOPLE, FOLD = 12, 1
UNSEEN = folds_of_people(PEOPLE) == FOLD
NAMES = [f"P{person}" for person in range(PEOPLE)]
OPTIONS = ["--num_bits", "8", "--epochs", "1", "--batch_size", "9", "--data_dir", "data"]


def of_people(split, people):
    """The rows and labels of some people, numbered from 0."""
    rows, labels = split
    chosen = np.isin(labels, people)
    return rows[chosen], np.searchsorted(people, labels[chosen])


def write_names(path, people):
    path.write_text("".join(NAMES[person] + "\n" for person in people), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/whole: 12 people; data/seen: those not in a fold; data/kept: the fold beside them."""
    path = tmp_path_factory.mktemp("unseen")
    splits = tiny_faces(PEOPLE, train=4, test=2, seed=1)
    everybody, seen, unseen = np.arange(PEOPLE), np.flatnonzero(~UNSEEN), np.flatnonzero(UNSEEN)
    for name, people in (("whole", everybody), ("seen", seen), ("kept", seen)):
        counts = {"num_identities": len(people)}
        for split, images in zip(("train", "test"), splits):
            rows, labels = of_people(images, people)
            write_pickle(path / "data" / name / split / "part", rows, labels)
            counts["num_" + split] = len(labels)
        write_names(path / "data" / name / "labels.txt", people)
        if name == "kept":
            counts["num_unseen_identities"] = len(unseen)
            for split, images in zip(("unseen_gallery", "unseen_queries"), splits):
                rows, labels = of_people(images, unseen)
                write_pickle(path / "data" / name / split / "part", rows, labels)
                counts["num_" + split] = len(labels)
            write_names(path / "data" / name / "unseen_labels.txt", unseen)
        (path / "data" / name / "manifest.json").write_text(json.dumps(counts))
    return path


def arrays(path):
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def results(run_dir):
    """Everything of the results that does not depend on speed."""
    return {name: value for name, value in
            json.loads((run_dir / "results.json").read_text()).items()
            if not name.endswith("_seconds") and name != "dataset"}


def assert_equal(first, second):
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("method", ["itq", "ddh"])
def test_people_never_seen_have_no_part_in_training(folder, monkeypatch, capsys, method):
    """A fold, a set that keeps the same people apart and one without them give the same codes."""
    monkeypatch.chdir(str(folder))
    words = OPTIONS + ["--method", method, "--dataset_flag"]
    main.main(words + ["whole", "--unseen_split", str(FOLD)])
    main.main(words + ["kept"])
    main.main(words + ["seen"])
    fold, kept, seen = [folder / "runs" / run for run in (
        f"whole_{method}_8bits_seed0_unseen1", f"kept_{method}_8bits_seed0",
        f"seen_{method}_8bits_seed0")]
    for run_dir in (fold, kept):
        assert_equal(arrays(run_dir / "codes.npz"), arrays(seen / "codes.npz"))
    assert_equal(arrays(fold / "unseen_codes.npz"), arrays(kept / "unseen_codes.npz"))
    assert results(fold) == results(kept)
    found = results(fold)
    assert (found["unseen_num_identities"], found["unseen_num_gallery"],
            found["unseen_num_queries"], found["num_gallery"]) == (3, 12, 6, 36)
    assert 0 < found["unseen_mAP"] <= 1 and "open_set_o3_dir_at_1_percent" in found
    without = results(seen)
    assert {name: value for name, value in found.items()
            if not name.startswith(("unseen_", "open_set_"))} == without
    assert re.search("fold 1.*12 gallery images, 6 queries, 3 people", capsys.readouterr().out)
    assert "never seen in training" in (fold / "report.html").read_text(encoding="utf-8")

    evaluate.main([str(fold)])
    assert results(fold) == found
    evaluate.main([str(fold), str(kept), "--out", "compared_" + method])
    compared = json.loads((folder / ("compared_" + method) / "comparison.json").read_text())
    assert [run["unseen_mAP"] for run in compared.values()] == [found["unseen_mAP"]] * 2
    evaluate.main([str(fold), "--export", "encoder_" + method])
    metadata = json.loads((folder / ("encoder_" + method) / "encoder.json").read_text())
    assert metadata["identities"] == [name for name, out in zip(NAMES, UNSEEN) if not out]
    if method == "ddh":
        resumed = shutil.copytree(fold, folder / "resumed")  # this process may still lock the run
        main.main(["--resume", "--run_dir", str(resumed), "--epochs", "2"])
        rows = (resumed / "history.csv").read_text().splitlines()
        assert len(rows) == 3 and float(rows[-1].split(",")[rows[0].split(",").index("mAP")]) == \
            pytest.approx(results(resumed)["mAP"])  # that of the people who are seen
