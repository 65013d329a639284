"""What training a network costs on this machine, from a few steps on random images."""

import time
from typing import NamedTuple

import numpy as np

from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph

MEASURED_STEPS = 2


class Cost(NamedTuple):
    """What a network costs on this machine.

    Attributes:
        start: seconds from building its graph to the end of the first step.
        image: seconds of training an image.
        operations: floating-point operations of training an image.
    """

    start: float
    image: float
    operations: float


def measure_cost(config, dataset):
    """The Cost of training the network of a Config on a Dataset, from a few steps on noise."""
    classes = dataset.num_identities
    rng = np.random.RandomState(0)
    size = min(config.batch_size, dataset.num_train)
    started = time.perf_counter()
    graph = build_step_graph(config, classes)
    feed = {graph.images: rng.standard_normal((size,) + tuple(graph.images.shape.as_list()[1:])),
            graph.labels: rng.randint(0, classes, size)}
    with make_session(graph.graph) as session:
        session.run(graph.initialize)
        times = [time.perf_counter()]
        for _ in range(1 + MEASURED_STEPS):
            session.run((graph.step, graph.losses), feed)
            times.append(time.perf_counter())
    return Cost(times[1] - started, (times[-1] - times[1]) / MEASURED_STEPS / size,
                3 * forward_operations(graph))


def device_kind():
    """What TensorFlow computes on here: "GPU" or "CPU"."""
    with make_session(tf.Graph()) as session:
        kinds = {device.device_type for device in session.list_devices()}
    return "GPU" if "GPU" in kinds else "CPU"


def forward_operations(graph):
    """Floating-point operations of one image's forward pass: 2 for each product with a weight.

    The backward pass takes the same products twice more, for the gradients of input and weight.
    """
    total = 0
    for op in ancestors(graph.losses["total"].op):
        if op.type in ("Conv2D", "MatMul"):
            outputs, inputs = op.outputs[0].shape.as_list()[1:], op.inputs[1].shape.as_list()[:-1]
            if None not in outputs + inputs:  # a product of images with each other has no weight
                # An int of Python: a grid's operations exceed 64 bits.
                total += 2 * int(np.prod(outputs) * np.prod(inputs))
    return total


def ancestors(op):
    """All operations that `op` depends on, and itself."""
    reached, ends = set(), [op]
    while ends:
        current = ends.pop()
        if current not in reached:
            reached.add(current)
            ends += [tensor.op for tensor in current.inputs]
    return reached
