"""A run that one environment trained goes on in the other: TensorFlow 1.14 and TensorFlow 2.

Here a run of the other environment goes on; the other environment's tests do the opposite, and -m
slow both. The other environment is the one that `make run` makes beside this checkout (`.venv` for
TensorFlow 1, `.venv-tf2` for 2), or the Python that the environment variable OTHER_PYTHON names;
without one the tests are skipped.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, clean_environment, tiny_faces, write_pickle

from runtime.run_folder import RunFolder

OTHER_TF = 2 if sys.version_info < (3, 8) else 1

# What one Python does in the folder of the test: the writer first trains `run`, three steps. One
# batch is the whole training set: each epoch is one step, and its loss is that of the weights
# before it. So the first epoch after a resume shows the restored weights alone.
SCRIPT = """
import shutil, sys
import numpy as np
import data_loader, evaluate, main
from methods.table import resolve
from reports import page
from runtime.run_folder import RunFolder
from runtime.tensorflow import make_session, tf
from training.checkpoints import restore
from training.graph import build_step_graph

page.embedded = lambda *_: []  # figures take most of the time
name = sys.argv[1]
if name == "writer":
    main.main("--dataset_flag 1 --data_dir data --num_bits 8 --batch_size 30 --evaluate_every 1000 "
              "--epochs 3 --run_dir run".split())

folder = RunFolder.open("run")
config, dataset = resolve(folder.read_settings())
_, test = data_loader.load_dataset(dataset)
graph = build_step_graph(config, dataset.num_identities)
with make_session(graph.graph) as session:
    restore(graph.saver, session, folder, "last")
    with graph.graph.as_default():
        values = {variable.op.name: variable for variable in tf.global_variables()}
    values["query_activations"] = graph.inference.hash_activations
    np.savez(name + ".npz", **session.run(values, {graph.images: test.images}))

shutil.copytree("run", name)
main.main(["--resume", "--run_dir", name, "--epochs", "6"])
if name == "reader":
    shutil.copytree("run", "evaluated")
    for file in ("codes.npz", "results.json"):
        (RunFolder("evaluated").path / file).unlink()
    evaluate.main(["evaluated"])
"""


def other_python():
    """The other environment's Python, or None. A half-made environment does not count."""
    if os.environ.get("OTHER_PYTHON"):
        return os.environ["OTHER_PYTHON"]
    environment = ROOT / {1: ".venv", 2: ".venv-tf2"}[OTHER_TF]
    return str(environment / "bin/python") if (environment / "installed").exists() else None


@pytest.fixture(scope="module", params=[
    "there to here", pytest.param("here to there", marks=pytest.mark.slow)])
def crossing(request, tmp_path_factory):
    """The folder in which a writer and then a reader, of two environments, have run SCRIPT."""
    other = other_python()
    if other is None:
        pytest.skip(f"there is no second environment; make run TF={OTHER_TF} makes it")
    folder = tmp_path_factory.mktemp("crossing")
    train, test = tiny_faces()
    write_pickle(folder / "data/train_folder_facescrub/part1", *train)
    write_pickle(folder / "data/test_folder_facescrub/part1", *test)
    pythons = [sys.executable, other]
    for name, python in zip(("writer", "reader"),
                            pythons if request.param == "here to there" else pythons[::-1]):
        process = subprocess.run(
            [python, "-c", SCRIPT, name], cwd=str(folder), stdin=subprocess.DEVNULL,
            env=clean_environment(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True)
        assert process.returncode == 0, process.stderr
        assert "resuming after epoch 3, step 0" in process.stdout
    return folder


def load(path):
    with np.load(str(path), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_every_variable_is_restored_exactly(crossing):
    theirs, ours = load(crossing / "writer.npz"), load(crossing / "reader.npz")
    activations = theirs.pop("query_activations")
    assert np.ptp(activations) > 0.01
    np.testing.assert_allclose(ours.pop("query_activations"), activations, rtol=0, atol=1e-5)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    # Adam's state is among them, after three steps.
    assert theirs["beta1_power"] == pytest.approx(0.9 ** 4)
    assert np.any(theirs["dcbh/centers/Adam"]) and np.any(theirs["dcbh/centers/Adam_1"])


def test_resumes_with_the_same_losses(crossing):
    theirs, ours = [RunFolder.open(crossing / name).history.read() for name in ("writer", "reader")]
    versions = [entry["tensorflow"][0]
                for entry in RunFolder.open(crossing / "reader").provenance()]
    assert sorted(versions) == ["1", "2"]  # this run did cross
    assert ours[:3] == theirs[:3] and len(ours) == len(theirs) == 6
    for row, expected, tolerance in zip(ours[3:], theirs[3:], (1e-5, 1e-4, 1e-3)):
        for name in set(expected) - {"images_per_second", "seconds"}:
            assert row[name] == pytest.approx(expected[name], rel=tolerance, abs=0), name


def test_evaluates_the_others_run(crossing):
    theirs, ours = load(crossing / "run/codes.npz"), load(crossing / "evaluated/codes.npz")
    for name in theirs:  # all but what lies on the threshold to a rounding
        assert np.mean(ours[name] == theirs[name]) > 0.99, name
