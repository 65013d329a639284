"""Training steps of one process or of one of several workers, with all that can be compared.

    python joint_steps.py FOLDER    worker TF_CONFIG says; writes FOLDER/worker_INDEX.npz

No test: tests/training/test_distribution.py runs it.
"""

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from config import Config
from runtime.tensorflow import make_session, tf
from training.distributed.cluster import WorkerSettings, read_cluster
from training.graph import build_step_graph

NUM_CLASSES = 5
# Images of the joint batches: shares are uneven, and empty in the third and fifth.
BATCH_SIZE = 17
COUNTS = (17, 17, 1, 17, 2, 16) + 14 * (17,)
CASES = {"synchronous": dict(sync_batch_norm=True), "local": dict(sync_batch_norm=False)}


def case_config(name):
    """The smallest network with all there is: batch norm of images and of vectors, centers, decay.

    Adam's released epsilon makes steps of full size out of gradients that are rounding noise (a
    bias before batch norm); that of run_steps does not.
    """
    return Config(method="ddh", num_bits=3, block_length=4, batch_size=BATCH_SIZE,
                  hash_layer="divide_and_encode", center_weight=0.01, weight_decay=0.001,
                  learning_rate=0.003, **CASES[name])


def batches():
    """Yields the joint batches: (images, labels)."""
    rng = np.random.RandomState(3)
    for count in COUNTS:
        labels = rng.randint(0, NUM_CLASSES, count).astype(np.int32)
        patterns = np.random.RandomState(4).normal(0, 0.2, (NUM_CLASSES, 32, 32, 3))
        images = patterns[labels] + rng.normal(0, 0.1, (count, 32, 32, 3))
        yield images.astype(np.float32), labels


def run_steps(config, workers=None):
    """Dict of arrays: losses and accuracy by step, the first step's gradients, all variables.

    Args:
        config: a Config.
        workers: a training.distributed.coordination.Workers; None for one process.
    """
    with mock.patch("training.graph.ADAM_EPSILON", 0.1):
        graph = build_step_graph(config, NUM_CLASSES, workers)
    joint = graph.joint if workers else None
    with graph.graph.as_default():
        variables = tf.global_variables()
        gradients = [tf.convert_to_tensor(gradient) for gradient, _ in graph.gradients]
        local = tf.local_variables_initializer()
    results = {}
    with (workers.session if workers else make_session)(graph.graph) as session:
        run = session.run_jointly if workers else session.run
        session.run((graph.initialize, local))
        for step, (images, labels) in enumerate(batches()):
            feed = (joint.feed(graph, images, labels, [0, 0]) if joint
                    else {graph.images: images, graph.labels: labels})
            losses, accuracy, _, first = run(
                (graph.losses, graph.accuracy, graph.step, gradients if step == 0 else ()), feed)
            for name, value in list(losses.items()) + [("accuracy", accuracy)]:
                results.setdefault("step/" + name, []).append(value)
            if step == 0:
                for (_, variable), gradient in zip(graph.gradients, first):
                    results["gradient/" + variable.op.name] = gradient
        for variable, value in zip(variables, session.run(variables)):
            results["variable/" + variable.op.name] = value
    return {name: np.array(value) for name, value in results.items()}


def main(folder):
    """One worker: all cases, and what it hears from the others."""
    from training.distributed.coordination import Workers
    workers = Workers(read_cluster(WorkerSettings(worker_timeout=60)))
    results = {}
    for name in CASES:
        for key, value in run_steps(case_config(name), workers).items():
            results[f"{name}/{key}"] = value
    heard = workers.exchange(f"worker {workers.index}")
    np.savez(Path(folder) / f"worker_{workers.index}.npz", heard=heard, **results)


if __name__ == "__main__":
    from training.distributed.workers import end_at_once
    end_at_once(lambda: main(sys.argv[1]))
