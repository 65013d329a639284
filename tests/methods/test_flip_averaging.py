"""Codes of images and their mirror images: the graph, a run's codes, the exported encoder's."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script, tiny_faces

from config import Config
from evaluation.codes import load_codes
from methods.export import Encoder
from model import build_network
from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph

# Half of a dense layer's bits are on before any training; block hashing's are all off.
SETTINGS = dict(num_bits=32, hash_layer="dense", flip_averaging=True)
LOAD = """
import sys
import numpy as np
from runtime.tensorflow import tf
with tf.Session(graph=tf.Graph()) as session:
    outputs = tf.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    np.save(sys.argv[3], session.run(outputs.outputs["codes"].name,
                                     {outputs.inputs["images"].name: np.load(sys.argv[2])}))
"""


def activations(flip_averaging, images, training=False):
    """(hash_activations, code_activations) of freshly started weights."""
    config = Config(**dict(SETTINGS, flip_averaging=flip_averaging))
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(3)
        network = build_network(tf.constant(images), config, training)
        with make_session(graph) as session:
            session.run(tf.global_variables_initializer())
            return session.run((network.hash_activations, network.code_activations))


@pytest.fixture(scope="module")
def images():
    """Coarse patterns, which look another way in the mirror."""
    coarse = np.random.RandomState(0).uniform(-1, 1, (9, 4, 4, 3)).astype(np.float32)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_the_mean_with_the_mirror_image(images):
    plain, codes = activations(False, images)
    np.testing.assert_array_equal(codes, plain)
    mirrored, _ = activations(False, images[:, :, ::-1])
    same, averaged = activations(True, images)
    np.testing.assert_array_equal(same, plain)
    np.testing.assert_allclose(averaged, (plain + mirrored) / 2, atol=1e-6)
    assert np.abs(averaged - plain).max() > 0.001  # the mirror image is another one
    np.testing.assert_allclose(activations(True, images[:, :, ::-1])[1], averaged, atol=1e-6)


def test_training_sees_no_mirror_image_of_it(images):
    np.testing.assert_array_equal(*activations(True, images, training=True))


def test_no_variable_is_added():
    graphs = [build_step_graph(Config(**dict(SETTINGS, flip_averaging=flag)), 3)
              for flag in (True, False)]
    assert graphs[0].num_parameters == graphs[1].num_parameters


def test_a_run_and_its_encoder(faces_dir):
    """Codes that evaluate.py, the encoder and TensorFlow Serving's signature agree on."""
    run, export = faces_dir / "run", faces_dir / "encoder"
    words = ["--%s=%s" % pair for pair in SETTINGS.items()]
    for arguments in (["main.py", "--dataset_flag", "1", "--data_dir", faces_dir / "data",
                       "--epochs", "2", "--run_dir", run, "--batch_size", "10"] + words,
                      ["evaluate.py", run, "--export", export]):
        process = run_script(*arguments, cwd=faces_dir)
        assert process.returncode == 0, process.stderr
    rows, _ = tiny_faces()[0]
    pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    expected = load_codes(run / "codes.npz").gallery_codes
    assert len(np.unique(expected)) == 2
    others = pixels.copy()  # half of one person, half of another: not alike in the mirror
    others[:, :, :16] = pixels[::-1, :, :16]
    with Encoder.open(export) as encoder:
        np.testing.assert_array_equal(encoder.encode(pixels), expected)
        np.testing.assert_array_equal(encoder.encode(others[:, :, ::-1]), encoder.encode(others))
    np.save(faces_dir / "pixels.npy", pixels)
    subprocess.run([sys.executable, "-c", LOAD, str(export / "saved_model"),
                    str(faces_dir / "pixels.npy"), str(faces_dir / "served.npy")], check=True,
                   cwd=ROOT)
    np.testing.assert_array_equal(np.load(faces_dir / "served.npy"), expected)
