"""A run that one environment trained goes on in the other: TensorFlow 1.14 and TensorFlow 2.

Each test runs in both directions. The other environment is the one that `make run` makes beside
this checkout (`.venv` for TensorFlow 1, `.venv-tf2` for 2), or the Python that the environment
variable OTHER_PYTHON names; without one the tests are skipped.
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, clean_environment, run_script, tiny_faces, write_pickle

from runtime.run_folder import RunFolder

OTHER_TF = 2 if sys.version_info < (3, 8) else 1

# One batch is the whole training set: each epoch is one step, and its loss is that of the weights
# before it. So the first epoch after a resume shows the restored weights alone.
ONE_STEP_EPOCHS = ("--dataset_flag", 1, "--data_dir", "data", "--num_bits", 8, "--batch_size", 30,
                   "--evaluate_every", 1000)

# What a checkpoint restores to: weights, statistics and Adam's slots, and what comes of them.
SAVE_RESTORED = """
import sys
import numpy as np
import data_loader
from methods.table import resolve
from runtime.run_folder import RunFolder
from runtime.tensorflow import make_session, tf
from training.checkpoints import restore
from training.graph import build_step_graph

folder = RunFolder.open(sys.argv[1])
config, dataset = resolve(folder.read_settings())
_, test = data_loader.load_dataset(dataset)
graph = build_step_graph(config, dataset.num_identities)
with make_session(graph.graph) as session:
    restore(graph.saver, session, folder, "last")
    with graph.graph.as_default():
        values = {variable.op.name: variable for variable in tf.global_variables()}
    values["query_activations"] = graph.inference.hash_activations
    np.savez(sys.argv[2], **session.run(values, {graph.images: test.images}))
"""


def other_python():
    """The other environment's Python, or None. A half-made environment does not count."""
    if os.environ.get("OTHER_PYTHON"):
        return os.environ["OTHER_PYTHON"]
    environment = ROOT / {1: ".venv", 2: ".venv-tf2"}[OTHER_TF]
    return str(environment / "bin/python") if (environment / "installed").exists() else None


@pytest.fixture(scope="module", params=["here to there", "there to here"])
def crossing(request, tmp_path_factory):
    """(writer, reader, folder): two Pythons; the writer's run of three steps is folder/run."""
    other = other_python()
    if other is None:
        pytest.skip("there is no second environment; make run TF=%d makes it" % OTHER_TF)
    writer, reader = [sys.executable, other][::1 if request.param == "here to there" else -1]
    folder = tmp_path_factory.mktemp("crossing")
    train, test = tiny_faces()
    write_pickle(folder / "data/train_folder_facescrub/part1", *train)
    write_pickle(folder / "data/test_folder_facescrub/part1", *test)
    process = run_script("main.py", *ONE_STEP_EPOCHS, "--epochs", 3, "--run_dir", "run",
                         cwd=folder, python=writer)
    assert process.returncode == 0, process.stderr
    return writer, reader, folder


def restored(python, folder, path):
    """What the run's last checkpoint restores to under a Python: a dict of arrays."""
    process = subprocess.run(
        [python, "-c", SAVE_RESTORED, "run", str(path)], cwd=str(folder),
        env=clean_environment(PYTHONPATH=str(ROOT)), stderr=subprocess.PIPE,
        universal_newlines=True)
    assert process.returncode == 0, process.stderr
    with np.load(str(path), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_every_variable_is_restored_exactly(crossing, tmp_path):
    writer, reader, folder = crossing
    theirs = restored(writer, folder, tmp_path / "theirs.npz")
    ours = restored(reader, folder, tmp_path / "ours.npz")
    activations = theirs.pop("query_activations")
    assert np.ptp(activations) > 0.01
    np.testing.assert_allclose(ours.pop("query_activations"), activations, rtol=0, atol=1e-5)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    # Adam's state is among them, after three steps.
    assert theirs["beta1_power"] == pytest.approx(0.9 ** 4)
    assert np.any(theirs["dcbh/centers/Adam"]) and np.any(theirs["dcbh/centers/Adam_1"])


def test_resumes_with_the_same_losses(crossing, tmp_path):
    writer, reader, folder = crossing
    histories = []
    for name, python in (("theirs", writer), ("ours", reader)):
        run_dir = tmp_path / name
        shutil.copytree(str(folder / "run"), str(run_dir))
        process = run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", 6,
                             cwd=folder, python=python)
        assert process.returncode == 0, process.stderr
        assert "resuming after epoch 3, step 0" in process.stdout
        histories.append(RunFolder.open(run_dir).read_history())
    versions = [entry["tensorflow"][0] for entry in RunFolder.open(run_dir).provenance()]
    assert sorted(versions) == ["1", "2"]  # this run did cross
    theirs, ours = histories
    assert ours[:3] == theirs[:3] and len(ours) == len(theirs) == 6
    for row, expected, tolerance in zip(ours[3:], theirs[3:], (1e-5, 1e-4, 1e-3)):
        for name in set(expected) - {"images_per_second", "seconds"}:
            assert row[name] == pytest.approx(expected[name], rel=tolerance, abs=0), name


def test_evaluates_the_other_s_run(crossing, tmp_path):
    _, reader, folder = crossing
    shutil.copytree(str(folder / "run"), str(tmp_path / "run"))
    process = run_script("evaluate.py", tmp_path / "run", cwd=folder, python=reader)
    assert process.returncode == 0, process.stderr
    for name in ("codes.npz", "results.json"):  # written again, by the reader
        assert (tmp_path / "run" / name).stat().st_mtime > (folder / "run" / name).stat().st_mtime
    with np.load(str(folder / "run/codes.npz")) as theirs, \
            np.load(str(tmp_path / "run/codes.npz")) as ours:
        for name in theirs.files:  # all but what lies on the threshold to a rounding
            assert np.mean(ours[name] == theirs[name]) > 0.99, name
