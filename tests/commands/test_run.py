"""Whole runs as processes: training, evaluation, killing, resuming, refusing."""

import csv
import ctypes
import json
import os
import re
import shutil
import signal
import time

import forked
import numpy as np
import pytest
from conftest import (
    ROOT,
    assert_refused,
    clean_environment,
    run_script,
    tiny_faces,
    tree,
    write_pickle,
)

import main
from config import DATASETS
from methods.table import resolve
from runtime.errors import UserError

# A small network: 30 images, 4 bits.
TINY = ("--dataset_flag", 1, "--data_dir", "data", "--method", "ddh", "--num_bits", 4,
        "--batch_size", 7, "--evaluate_every", 2)
RUN_FILES = {"config.json", "provenance.json", "history.csv", "tensorboard", "checkpoints",
             "results.json", "codes.npz", "curves_at_n.csv", "curves_within_radius.csv",
             "report.html", "figures", "lock", ".dcbh.json"}


def history(run_dir):
    with open(run_dir / "history.csv") as stream:
        return list(csv.DictReader(stream))


def losses(run_dir):
    """Everything of the history that does not depend on speed."""
    return [{name: value for name, value in row.items()
             if name not in ("seconds", "images_per_second", "mAP")} for row in history(run_dir)]


def codes(run_dir):
    with np.load(run_dir / "codes.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def results(run_dir):
    """Everything of the results that does not depend on speed."""
    return {name: value for name, value in
            json.loads((run_dir / "results.json").read_text()).items()
            if not name.endswith("_seconds")}


def assert_same_run(one, other):
    assert losses(one) == losses(other)
    for name, array in codes(one).items():
        np.testing.assert_array_equal(array, codes(other)[name])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, run folder) of an uninterrupted tiny run of four epochs."""
    folder = tmp_path_factory.mktemp("finished")
    train, test = tiny_faces()
    write_pickle(folder / "data/train_folder_facescrub/part1", *train)
    write_pickle(folder / "data/test_folder_facescrub/part1", *test)
    process = run_script("main.py", *TINY, "--epochs", 4, cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder, folder / "runs/facescrub_ddh_4bits_seed0"


def test_orl_end_to_end(tmp_path):
    process = run_script("main.py", "--epochs", 2, "--num_bits", 12, cwd=tmp_path, fresh=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # no TensorFlow noise
    assert len(re.findall(r"^TensorFlow .* on ", process.stdout, re.M)) == 1
    assert len(re.findall(r"^epoch \d+/2 ", process.stdout, re.M)) == 2
    run_dir = tmp_path / "runs/orl_12bits_seed0"
    assert {path.name for path in run_dir.iterdir()} - {"uncommitted.diff"} == RUN_FILES

    first = results(run_dir)
    assert (first["num_gallery"], first["num_queries"], first["num_bits"]) == (280, 120, 12)
    assert first["dataset"] == "orl" and first["epoch"] <= first["trained_epochs"] == 2
    assert 0 < first["mAP_worst_case"] <= first["mAP"] <= first["mAP_best_case"] < 1
    arrays = codes(run_dir)
    assert arrays["gallery_codes"].dtype == np.int8
    assert arrays["gallery_codes"].shape == (280, 12) and arrays["query_codes"].shape == (120, 12)
    assert set(np.unique(arrays["gallery_codes"])) <= {-1, 1}
    assert np.bincount(arrays["gallery_labels"]).tolist() == [7] * 40

    rows = history(run_dir)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        terms = [float(row[name]) for name in ("hash_classification", "descriptor_classification",
                                               "quantization", "center")]
        assert float(row["total"]) == pytest.approx(sum(terms), rel=1e-5)
    assert float(rows[1]["total"]) < float(rows[0]["total"])
    assert json.loads((run_dir / "config.json").read_text()) == resolve(dict(
        dataset_flag=2, epochs=2, num_bits=12))[0].to_dict()
    entry = json.loads((run_dir / "provenance.json").read_text())[0]
    assert entry["ended_by"] == "finished" and entry["tensorflow"] and "main.py" in str(entry)

    (run_dir / "results.json").unlink()
    (run_dir / "codes.npz").unlink()
    process = run_script("evaluate.py", run_dir, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert results(run_dir) == first
    for name, array in codes(run_dir).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_same_seed_gives_the_same_run_in_the_next_free_folder(finished):
    folder, run_dir = finished
    process = run_script("main.py", *TINY, "--epochs", 4, cwd=folder,
                         env=clean_environment(CUDA_VISIBLE_DEVICES="-1"))
    assert process.returncode == 0, process.stderr
    assert f"{run_dir}_2\n" in process.stdout
    assert "CPU (CUDA_VISIBLE_DEVICES='-1' hides every GPU)" in process.stdout
    assert_same_run(run_dir, folder / "runs/facescrub_ddh_4bits_seed0_2")


def start(folder, *arguments, script=ROOT / "main.py"):
    """A forked.Process of a tiny run, or of another script with its arguments."""
    return forked.Process([str(word) for word in (script, *TINY, *arguments)], folder)


def wait_for_line(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"process ended without {text!r}: {process.communicate()}")


def test_killed_again_and_again(finished, tmp_path):
    """kill -9 at whatever moment; in the end the run equals one that was left alone."""
    folder, whole = finished
    run_dir = tmp_path / "run"
    rng = np.random.RandomState(0)
    arguments = ["--epochs", 4, "--run_dir", run_dir]
    kills = 0
    # Before anything is saved, then some way into an epoch after one was saved.
    for line, longest in (("run folder", 1.5), ("epoch", 0.15), ("epoch", 0.15)):
        process = start(folder, *arguments, *(["--resume"] if run_dir.exists() else []))
        wait_for_line(process, line)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    process = run_script("main.py", *TINY, *arguments, "--resume", cwd=folder)
    assert process.returncode == 0, process.stderr
    assert_same_run(whole, run_dir)
    assert results(run_dir) == results(whole)
    assert not list(run_dir.rglob("*.tmp*"))
    prefixes = {path.name.split(".")[0] for path in (run_dir / "checkpoints").iterdir()}
    index = json.loads((run_dir / "checkpoints/index.json").read_text())
    assert prefixes == {"index"} | {entry["checkpoint"] for entry in index.values()}


def main_after(folder, before):
    """A script that runs the lines `before`, then does what main.py does."""
    path = folder / "main.py"
    path.write_text(f"{before}\nimport main\nfrom runtime.command_line import run_command\n"
                    "run_command(main.main)\n")
    return path


SLOW_DISK = """
import os, time
fsync = os.fsync

def slow_fsync(number):
    if "checkpoints" in os.readlink(f"/proc/self/fd/{number}"):
        time.sleep(0.5)
    fsync(number)

os.fsync = slow_fsync
"""
FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10 ** 6, 10 ** 6))
"""


def test_killed_while_a_checkpoint_is_written_beside_the_next_epoch(finished, tmp_path):
    """It costs the epoch that was not safe yet, and no more; the resumed run is the same run."""
    folder, whole = finished
    run_dir = tmp_path / "run"
    arguments = ["--epochs", 4, "--run_dir", run_dir]
    process = start(folder, *arguments, script=main_after(tmp_path, SLOW_DISK))
    wait_for_line(process, "epoch 2/4")
    process.kill()
    process.communicate()
    index = json.loads((run_dir / "checkpoints/index.json").read_text())
    assert index["last"]["state"]["epoch"] == 1 and len(history(run_dir)) == 2
    process = run_script("main.py", *TINY, *arguments, "--resume", cwd=folder)
    assert process.returncode == 0, process.stderr
    assert_same_run(whole, run_dir)


@pytest.mark.parametrize("number", [
    signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stops_on_request_within_an_epoch(finished, tmp_path, number):
    folder, whole = finished
    run_dir = tmp_path / "run"
    # Batches of one image: an epoch of 30 steps, so that the signal falls within it.
    process = start(folder, "--batch_size", 1, "--epochs", 500, "--run_dir", run_dir)
    wait_for_line(process, "epoch 2/500")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert f"--resume --run_dir {run_dir}" in err and "Traceback" not in err
    done = len(history(run_dir))
    state = json.loads((run_dir / "checkpoints/index.json").read_text())["last"]["state"]
    assert state["epoch"] == done
    entry = json.loads((run_dir / "provenance.json").read_text())[0]
    assert entry["ended_by"] == "stopped by " + signal.Signals(number).name

    process = run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", done + 1,
                         cwd=folder)
    assert process.returncode == 0, process.stderr
    assert f"resuming after epoch {done}, step {state['step']}" in process.stdout
    assert [int(row["epoch"]) for row in history(run_dir)] == list(range(1, done + 2))
    whole = tmp_path / "whole"
    process = run_script("main.py", *TINY, "--batch_size", 1, "--epochs", done + 1,
                         "--run_dir", whole, cwd=folder)
    assert_same_run(whole, run_dir)


def test_resume_with_fewer_epochs_than_are_done(finished, tmp_path):
    """Stopped inside epoch 5, then asked for 3 in all: nothing to train, the best is evaluated."""
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    index = json.loads((run_dir / "checkpoints/index.json").read_text())
    index["last"]["state"].update(step=2, seconds=1.5, sums={"total": 8.0, "accuracy": 3.0})
    (run_dir / "checkpoints/index.json").write_text(json.dumps(index))
    (run_dir / "results.json").unlink()
    process = run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", 3, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert results(run_dir) == results(whole)
    seconds = [json.loads((path / "results.json").read_text())["training_seconds"]
               for path in (run_dir, whole)]
    assert seconds[0] == pytest.approx(seconds[1] + 1.5, abs=0.01)  # of the begun epoch
    assert json.loads((run_dir / "provenance.json").read_text())[-1]["ended_by"] == "finished"


def test_data_that_was_moved(finished, tmp_path):
    """A finished run is evaluated, or resumed, which only evaluates, where its data is now."""
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    shutil.copytree(folder / "data", tmp_path / "moved")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    values = json.loads((run_dir / "config.json").read_text())
    assert values["data_dir"] == str(folder / "data")  # found from any working directory
    (run_dir / "config.json").write_text(json.dumps(dict(values, data_dir="gone")))
    assert_refused(run_script("evaluate.py", run_dir, cwd=elsewhere), "gone")
    for arguments in (("evaluate.py", run_dir), ("main.py", "--resume", "--run_dir", run_dir)):
        (run_dir / "results.json").unlink()
        process = run_script(*arguments, "--data_dir", tmp_path / "moved", cwd=elsewhere)
        assert process.returncode == 0, process.stderr
        assert results(run_dir) == results(whole)
    assert losses(run_dir) == losses(whole)


def test_a_run_folder_of_the_old_form(finished, tmp_path):
    """As versions before the marker wrote it: opens, evaluates, goes on; is never overwritten."""
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    (run_dir / ".dcbh.json").unlink()
    values = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(dict(values, data_dir="data")))
    index = json.loads((run_dir / "checkpoints/index.json").read_text())
    for entry in index.values():
        for name in ("seconds", "pixel_range", "crop"):
            entry["state"].pop(name)
    (run_dir / "checkpoints/index.json").write_text(json.dumps(index))
    lines = [line.rsplit(",", 1)[0] for line in (run_dir / "history.csv").read_text().splitlines()]
    (run_dir / "history.csv").write_text("".join(line + "\n" for line in lines))
    (run_dir / "results.json").unlink()
    process = run_script("evaluate.py", run_dir, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert results(run_dir) == results(whole)
    refused = run_script("main.py", *TINY, "--run_dir", run_dir, "--overwrite", cwd=folder)
    assert_refused(refused, run_dir)
    process = run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", 6, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert len(history(run_dir)) == 6 and history(run_dir)[5]["mAP"]
    assert losses(run_dir)[:4] == losses(whole)


ENCODE = """
import sys
import numpy as np
from methods.export import Encoder
from runtime.tensorflow import tf

images = np.load(sys.argv[2])
with Encoder.open(sys.argv[1]) as encoder:
    codes, lone = encoder.encode(images), encoder.encode(images[3:4])
with tf.Session(graph=tf.Graph()) as session:
    loaded = tf.saved_model.load(session, ["serve"], sys.argv[1] + "/saved_model")
    signature = loaded.signature_def["serving_default"]
    served = session.run(signature.outputs["codes"].name,
                         {signature.inputs["images"].name: images})
np.savez(sys.argv[3], codes=codes, lone=lone, served=served)
"""


def test_an_exported_encoder_gives_the_runs_codes(finished, tmp_path):
    """In a process that has the export alone, bit by bit; a lone image by the training set's mean.
    """
    folder, whole = finished
    export = tmp_path / "encoder"
    process = run_script("evaluate.py", whole, "--export", export, cwd=folder)
    assert process.returncode == 0, process.stderr
    size = sum(path.stat().st_size for path in export.rglob("*.data*"))
    checkpoint = sum(path.stat().st_size for path in (whole / "checkpoints").glob("*.data*"))
    assert size < 0.4 * checkpoint  # neither centers, classifiers nor Adam's slots
    metadata = json.loads((export / "encoder.json").read_text())
    assert (metadata["method"], metadata["num_bits"], metadata["dataset"]) == (
        "ddh", 4, "facescrub")

    train, _ = tiny_faces()
    images = train[0].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "encode.py").write_text(ENCODE)
    process = run_script(tmp_path / "encode.py", export, tmp_path / "images.npy",
                         tmp_path / "encoded.npz", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    expected = codes(whole)["gallery_codes"]
    with np.load(tmp_path / "encoded.npz") as encoded:
        np.testing.assert_array_equal(encoded["codes"], expected)
        np.testing.assert_array_equal(encoded["served"], expected)
        np.testing.assert_array_equal(encoded["lone"], expected[3:4])
        assert encoded["served"].dtype == np.int8
    refused = run_script("evaluate.py", whole, "--export", whole, cwd=folder)
    assert_refused(refused, whole)
    own = export / "saved_model/assets.extra/warm_up"  # what TensorFlow Serving is warmed up with
    own.parent.mkdir()
    own.write_text("mine")
    before = tree(export)
    assert_refused(run_script("evaluate.py", whole, "--export", export, cwd=folder), own)
    assert tree(export) == before
    own.unlink()
    process = run_script("evaluate.py", whole, "--export", export, cwd=folder)
    assert process.returncode == 0, process.stderr


def test_evaluates_a_run_that_is_going_on(finished, tmp_path):
    folder, _ = finished
    run_dir = tmp_path / "run"
    process = start(folder, "--epochs", 5000, "--evaluate_every", 5000, "--run_dir", run_dir)
    try:
        wait_for_line(process, "epoch 2/5000")  # the checkpoint of epoch 1 is written
        evaluation = run_script("evaluate.py", run_dir, cwd=folder)
        assert evaluation.returncode == 0, evaluation.stderr
        assert results(run_dir)["epoch"] >= 1
        second = run_script("main.py", "--resume", "--run_dir", run_dir, cwd=folder)
        assert_refused(second, run_dir, "in use")
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL  # it was still training


def test_loss_that_is_not_finite(finished, tmp_path):
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    # The settings' own file is the way to change the rate of a run that has a checkpoint.
    values = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(dict(values, learning_rate=1e38)))
    process = run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", 9, cwd=folder)
    assert_refused(process, "epoch 5, step", "finite" if "finite" in process.stderr else "loss is",
                   "checkpoint of epoch 4", code=1)
    entry = json.loads((run_dir / "provenance.json").read_text())[-1]
    assert entry["ended_by"].startswith("error: epoch 5")
    evaluation = run_script("evaluate.py", run_dir, cwd=folder)
    assert evaluation.returncode == 0  # the last good checkpoint is whole
    assert results(run_dir) == results(whole)


def test_no_room_for_a_checkpoint(finished, tmp_path):
    """A limit on the size of files stands in for a full disk."""
    folder, _ = finished
    run_dir = tmp_path / "run"
    process = run_script(main_after(tmp_path, FULL_DISK), *TINY, "--epochs", 2, "--run_dir",
                         run_dir, cwd=folder)
    assert_refused(process, run_dir, "cannot be written", "File too large", code=1)
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == []


# Mistakes


def drop_override():
    """Makes root obey file permissions in the new process, as everybody else does."""
    pr_capbset_drop, cap_dac_override = 24, 1
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)


def test_run_folder_that_cannot_be_written(faces_dir):
    locked = faces_dir / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    process = run_script("main.py", *TINY, "--run_dir", locked / "run", cwd=faces_dir,
                         fresh=True, preexec_fn=drop_override)
    assert_refused(process, locked, "cannot be written")
    locked.chmod(0o755)


def test_folder_that_holds_a_run_or_something_else(finished, tmp_path):
    folder, whole = finished
    process = run_script("main.py", *TINY, "--run_dir", whole, cwd=folder)
    assert_refused(process, whole, "--resume", "--overwrite")
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    for flag in ([], ["--overwrite"]):
        process = run_script("main.py", *TINY, "--run_dir", tmp_path, *flag, cwd=folder)
        assert_refused(process, "thesis.tex")
    process = run_script("main.py", *TINY, "--run_dir", precious, cwd=folder)
    assert_refused(process, "is a file")
    assert precious.read_text() == "years of work"


def test_overwrite_replaces_a_run_only_when_the_new_one_can_start(finished, tmp_path):
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    process = run_script("main.py", *TINY, "--data_dir", "nowhere", "--run_dir", run_dir,
                         "--overwrite", cwd=folder)
    assert_refused(process, "nowhere")
    assert losses(run_dir) == losses(whole)
    process = run_script("main.py", *TINY, "--epochs", 1, "--run_dir", run_dir, "--overwrite",
                         cwd=folder)
    assert process.returncode == 0 and len(history(run_dir)) == 1


def test_resume_keeps_the_settings(finished):
    folder, whole = finished
    process = run_script("main.py", "--resume", "--run_dir", whole, "--num_bits", 12, cwd=folder)
    assert_refused(process, "num_bits 4", "epochs")
    process = run_script("main.py", "--resume", "--run_dir", folder / "nothing", cwd=folder)
    assert_refused(process, "nothing", "no such run folder")
    process = run_script("main.py", "--resume", "--seed", 77, cwd=folder)
    assert_refused(process, "seed77", "no run to resume")


def damage_missing(folder):
    shutil.rmtree(folder / "data/test_folder_facescrub")
    return ["test_folder_facescrub", "no such folder", "data/README.md"]


def damage_empty(folder):
    (folder / "data/train_folder_facescrub/part1").unlink()
    return ["train_folder_facescrub", "empty"]


def damage_truncated(folder):
    path = folder / "data/train_folder_facescrub/part1"
    path.write_bytes(path.read_bytes()[:5000])
    return [path.relative_to(folder), "not a whole pickle"]


def damage_row_length(folder):
    write_pickle(folder / "data/train_folder_facescrub/part2", np.zeros((2, 3000)), np.zeros(2))
    return ["part2", "3072"]


def damage_label_range(folder):
    write_pickle(folder / "data/train_folder_facescrub/part2", np.zeros((1, 3072)),
                 np.array([530]))
    return ["part2", "0 to 529"]


def damage_label_count(folder):
    write_pickle(folder / "data/test_folder_facescrub/part1", np.zeros((3, 3072)), np.zeros(2))
    return ["part1", "3 images"]


def damage_nan(folder):
    write_pickle(folder / "data/test_folder_facescrub/part1", np.full((1, 3072), np.nan),
                 np.zeros(1))
    return ["part1", "NaN"]


@pytest.mark.parametrize("damage", [
    damage_missing, damage_empty, damage_truncated, damage_row_length, damage_label_range,
    damage_label_count, damage_nan])
def test_bad_data(faces_dir, damage, monkeypatch):
    words = damage(faces_dir)
    monkeypatch.chdir(faces_dir)
    with pytest.raises(UserError) as refused:
        main.main([str(argument) for argument in TINY])
    assert all(str(word) in str(refused.value) for word in words)
    assert not (faces_dir / "runs").exists()


def test_evaluate_without_a_run(tmp_path, finished):
    assert_refused(run_script("evaluate.py", tmp_path / "none", cwd=tmp_path), "none")
    assert_refused(run_script("evaluate.py", tmp_path, cwd=tmp_path), "not a run folder")
    folder, whole = finished
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    for path in (run_dir / "checkpoints").glob("*.data*"):
        os.truncate(path, 1000)
    assert_refused(run_script("evaluate.py", run_dir, cwd=folder), "checkpoint", "cannot be read")
    (run_dir / "checkpoints/index.json").unlink()
    assert_refused(run_script("evaluate.py", run_dir, cwd=folder), "no checkpoint")


def test_another_run_is_compared(finished, tmp_path):
    """One that does not go back to the best weights, with the finished one."""
    folder, whole = finished
    run_dir = tmp_path / "other"
    process = run_script("main.py", *TINY, "--epochs", 4, "--seed", 1, "--run_dir", run_dir,
                         "--continue_from_best", "false", "--shuffle", "true", cwd=folder)
    assert process.returncode == 0, process.stderr
    assert len(history(run_dir)) == 4
    best = min(history(run_dir), key=lambda row: float(row["total"]))
    assert results(run_dir)["epoch"] == int(best["epoch"])

    process = run_script("evaluate.py", whole, run_dir, "--out", tmp_path / "out", cwd=folder)
    assert process.returncode == 0, process.stderr
    table = json.loads((tmp_path / "out/comparison.json").read_text())
    for path in (whole, run_dir):
        assert table[str(path)]["mAP"] == results(path)["mAP"]
        assert path.name in process.stdout
    (run_dir / "codes.npz").unlink()
    assert_refused(run_script("evaluate.py", whole, run_dir, cwd=folder), run_dir, "no codes.npz")


def test_dataset_flag_in_main_py_is_what_runs():
    assert main.dataset_flag in DATASETS
    options, given, _ = main.parse_command_line([])
    assert main.open_run(options, given)[0].dataset_flag == main.dataset_flag
