"""Codes of images and their mirror images: the graph, a run's codes, the exported encoder's."""

import numpy as np
import pytest
from conftest import tiny_faces

import main
from config import Config
from evaluation.codes import load_codes
from methods.export import Encoder, export_encoder
from methods.run import open_run
from model import build_network
from runtime.run_folder import RunFolder
from runtime.tensorflow import make_session, tf
from training.graph import build_inference_graph

# Half of a dense layer's bits are on before any training; block hashing's are all off.
SETTINGS = dict(num_bits=32, hash_layer="dense", flip_averaging=True)


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
    names = []
    for flag in (True, False):
        graph = build_inference_graph(Config(**dict(SETTINGS, flip_averaging=flag))).graph
        with graph.as_default():
            names.append([variable.op.name for variable in tf.global_variables()])
    assert names[0] == names[1]


@pytest.mark.usefixtures("without_figures")
def test_a_run_and_its_encoder(faces_dir):
    """Codes that the run, the encoder and TensorFlow Serving's signature agree on."""
    run, export = faces_dir / "run", faces_dir / "encoder"
    main.main(["--dataset_flag", "1", "--data_dir", str(faces_dir / "data"), "--epochs", "2",
               "--run_dir", str(run), "--batch_size", "10"]
              + [f"--{name}={value}" for name, value in SETTINGS.items()])
    export_encoder(open_run(RunFolder.open(run)), export)
    rows, _ = tiny_faces()[0]
    pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    expected = load_codes(run / "codes.npz").gallery_codes
    assert len(np.unique(expected)) == 2
    others = pixels.copy()  # half of one person, half of another: not alike in the mirror
    others[:, :, :16] = pixels[::-1, :, :16]
    with Encoder.open(export) as encoder:
        np.testing.assert_array_equal(encoder.encode(pixels), expected)
        np.testing.assert_array_equal(encoder.encode(others[:, :, ::-1]), encoder.encode(others))
    with tf.Session(graph=tf.Graph()) as session:
        signature = tf.saved_model.load(
            session, ["serve"], str(export / "saved_model")).signature_def["serving_default"]
        served = session.run(signature.outputs["codes"].name,
                             {signature.inputs["images"].name: pixels})
    np.testing.assert_array_equal(served, expected)
