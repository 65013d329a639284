"""Several workers against one process, on the same joint batches: as processes of their own."""

import json
import os
import subprocess
import sys

import joint_steps
import numpy as np
import pytest

import losses
import model
from model import build_network
from runtime.tensorflow import make_session, tf
from training.distributed.cluster import free_addresses
from training.distributed.joint_step import share_of

# Gradients that are zero but for rounding: batch norm follows these.
BEFORE_BATCH_NORM = ("/descriptor/bias", "/divide_and_encode/bias")


@pytest.mark.parametrize("count, workers, shares", [
    (10, 3, [(0, 4), (4, 7), (7, 10)]),
    (4, 2, [(0, 2), (2, 4)]),
    (2, 4, [(0, 1), (1, 2), (2, 2), (2, 2)]),
    (7, 1, [(0, 7)])])
def test_shares_are_contiguous_and_even(count, workers, shares):
    assert [share_of(count, index, workers) for index in range(workers)] == shares


def run_workers(count, folder):
    """What joint_steps computes as `count` processes: a dict of arrays for each."""
    addresses = free_addresses(count)
    processes = [subprocess.Popen(
        [sys.executable, joint_steps.__file__, str(folder)], stdin=subprocess.DEVNULL,
        env=dict(os.environ, TF_CONFIG=json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})))
        for index in range(count)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
            process.wait()
    results = []
    for index in range(count):
        with np.load(folder / f"worker_{index}.npz") as arrays:
            results.append({name: arrays[name] for name in arrays.files})
    return results


@pytest.fixture(scope="module")
def one_process():
    """What one process computes; batch norm is the joint batch's in any case."""
    return joint_steps.run_steps(joint_steps.case_config("synchronous"))


@pytest.fixture(scope="module", params=[3, pytest.param(2, marks=pytest.mark.slow)])
def workers(request, tmp_path_factory):
    return run_workers(request.param, tmp_path_factory.mktemp("workers"))


def worst_difference(ours, theirs):
    """The largest difference of two arrays, relative to the largest value."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def test_synchronous_workers_are_one_process(workers, one_process):
    """Losses and gradients, centers, moving statistics and Adam's moments, over 20 steps.

    Measured: losses within 4e-6; one process alone whose images are multiplied by 1 + 2e-7 is off
    by 1.3e-6. Single moments are off by more where an activation crosses zero.
    """
    for name, expected in one_process.items():
        ours = workers[0]["synchronous/" + name]
        assert ours.shape == expected.shape
        if name.startswith("step/"):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, err_msg=name)
        elif name.endswith(BEFORE_BATCH_NORM) and name.startswith("gradient/"):
            assert np.abs(ours).max() < 1e-5
        elif name.startswith("gradient/"):
            assert worst_difference(ours, expected) < 2e-4, name
        elif name.endswith(("/Adam", "/Adam_1")):
            assert np.abs(ours - expected).max() < 1e-3, name
        else:  # a bias before batch norm has moved by noise alone
            assert (np.abs(ours).max() < 1e-3 if name.endswith(BEFORE_BATCH_NORM)
                    else worst_difference(ours, expected) < 2e-3), name
    centers = "variable/ddh/centers"
    assert worst_difference(workers[0]["synchronous/" + centers], one_process[centers]) < 1e-4


def test_all_workers_hold_the_same(workers):
    for other in workers[1:]:
        assert set(other) == set(workers[0])
        for name, values in workers[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)
    assert list(workers[0]["heard"]) == [f"worker {index}" for index in range(len(workers))]


def first_step_by_shares(config, num_workers):
    """Losses and gradients of the first joint batch, in one plain graph: a pass for each share."""
    images, labels = next(joint_steps.batches())
    shares = [share_of(len(labels), index, num_workers) for index in range(num_workers)]
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.seed)
        total = {}
        for start, end in shares:
            network = build_network(tf.constant(images[start:end]), config, True,
                                    joint_steps.NUM_CLASSES)
            batch = losses.Batch(network, 0.5, tf.constant(labels[start:end]),
                                 joint_steps.NUM_CLASSES, 1.0, 0)
            with tf.variable_scope(config.method, reuse=tf.AUTO_REUSE):
                terms, _ = losses.DCBH(config).terms(batch)
            terms = losses.with_total(terms, model.weight_kernels(), config.weight_decay)
            for name, value in terms.items():
                factor = {"center": 1.0, "weight_decay": 1.0 / num_workers}.get(
                    name, (end - start) / len(labels))
                total.setdefault(name, []).append(factor * value)
        terms = {name: tf.add_n(values) for name, values in total.items()}
        variables = tf.trainable_variables()
        gradients = [tf.convert_to_tensor(gradient) for gradient in tf.gradients(
            tf.add_n([value for name, value in terms.items() if name != "total"]), variables)]
        initialize = tf.global_variables_initializer()
        with make_session(graph) as session:
            session.run(initialize)
            values, gradients = session.run((terms, gradients))
    return values, {variable.op.name: gradient for variable, gradient in zip(variables, gradients)}


def test_local_batch_norm_is_that_of_each_share(workers, one_process):
    values, gradients = first_step_by_shares(joint_steps.case_config("local"), len(workers))
    ours = {name.split("/", 1)[1]: values for name, values in workers[0].items()
            if name.startswith("local/")}
    for name in set(values) - {"total"}:
        np.testing.assert_allclose(ours["step/" + name][0], values[name], rtol=1e-5)
    for name, expected in gradients.items():
        if not name.endswith(BEFORE_BATCH_NORM):
            assert worst_difference(ours["gradient/" + name], expected) < 2e-4, name
    # It is not the joint batch's: the losses tell the two apart from the first step on.
    difference = np.abs(ours["step/total"] / one_process["step/total"] - 1)
    assert difference[0] > 1e-5 and difference.max() > 0.01
    assert all(np.isfinite(values).all() for name, values in ours.items())
