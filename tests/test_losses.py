"""Each loss term against numpy, the centers' rule, and the order of a training step."""

import numpy as np
import pytest

import losses
from config import Config
from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph


def value(tensor_of, *arrays):
    """Runs a function of tensors on arrays."""
    with tf.Graph().as_default() as graph:
        tensor = tensor_of(*[tf.constant(array) for array in arrays])
        with make_session(graph) as session:
            return session.run(tensor)


def test_classification_loss():
    logits = np.array([[2, 0, 0], [0, 0, 0], [0, np.log(8), 0]], np.float32)
    labels = np.array([0, 2, 1])
    # -log of the softmax at the label, by hand: e^2/(e^2+2), 1/3, 8/10
    expected = -(np.log(np.exp(2) / (np.exp(2) + 2)) + np.log(1 / 3) + np.log(0.8)) / 3
    assert value(losses.classification_loss, logits, labels) == pytest.approx(expected, rel=1e-6)


def test_quantization_loss():
    activations = np.array([[0.5, -0.5, 0.0], [0.4, -0.3, 0.1]], np.float32)
    expected = (0 + 0 + 0.5 + 0.1 + 0.2 + 0.4) / 6
    assert value(losses.quantization_loss, activations) == pytest.approx(expected, rel=1e-6)


DESCRIPTORS = np.array([[1, 2], [3, 4], [5, 5]], np.float32)
CENTERS = np.array([[0, 0], [4, 4], [7, 7]], np.float32)
LABELS = np.array([0, 0, 1])  # class 0 twice, class 1 once, class 2 never


def test_center_loss_is_a_sum_over_the_batch():
    # 0.5 * ((1 + 4) + (9 + 16) + (1 + 1))
    assert value(losses.center_loss, DESCRIPTORS, CENTERS, LABELS) == pytest.approx(16.0)


def test_center_updates_with_a_class_twice_once_and_never():
    moves = value(losses.center_updates, DESCRIPTORS, CENTERS, LABELS)
    moved = CENTERS.copy()
    np.subtract.at(moved, LABELS, moves)
    # class 0: 0 - ((0-1) + (0-3)) / 3, 0 - ((0-2) + (0-4)) / 3; class 1: 4 - (4-5) / 2
    np.testing.assert_allclose(moved, [[4 / 3, 2], [4.5, 4.5], [7, 7]], rtol=1e-6)


def test_weight_decay():
    def decay(kernel):
        return losses.weight_decay_loss([kernel, 2 * kernel])
    kernel = np.array([[1, 2], [3, 0]], np.float32)
    assert value(decay, kernel) == pytest.approx((14 + 56) / 2)


def test_known_cluster_centers_are_recovered():
    rng = np.random.RandomState(0)
    true = rng.normal(0, 5, (4, 3))
    labels = rng.randint(0, 4, 4000)
    features = (true[labels] + rng.normal(0, 0.1, (4000, 3))).astype(np.float32)
    with tf.Graph().as_default() as graph:
        f, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int32, [None])
        centers = tf.get_variable("centers", [4, 3], use_resource=True)
        move = centers.scatter_sub(
            tf.IndexedSlices(losses.center_updates(f, centers.read_value(), y), y))
        initialize = tf.global_variables_initializer()
    with make_session(graph) as session:
        session.run(initialize)
        for start in range(0, 4000, 50):
            session.run(move, {f: features[start:start + 50], y: labels[start:start + 50]})
        np.testing.assert_allclose(session.run(centers), true, atol=0.1)


def test_quantization_target():
    # | 1 - |h| | of -0.75, 0.25, 1: 0.25, 0.75, 0
    activations = np.array([[-0.75, 0.25, 1.0]], np.float32)
    assert value(losses.quantization_loss, activations, 1.0) == pytest.approx(1 / 3, rel=1e-6)


# Training steps


@pytest.fixture(scope="module")
def graphs():
    """StepGraphs of a small network: (with all parts, with all optional weights zero)."""
    return [build_step_graph(Config(
        method="ddh", num_bits=3, block_length=4, center_weight=weight,
        descriptor_classification_weight=weight, weight_decay=decay), 4)
        for weight, decay in ((0.25, 0.0002), (0.0, 0.0))]


@pytest.fixture
def batch():
    rng = np.random.RandomState(3)
    return rng.normal(0, 0.1, (5, 32, 32, 3)).astype(np.float32), np.array([0, 2, 2, 1, 2])


@pytest.mark.parametrize("learning_rate", [0.0, 0.01])
def test_order_of_a_step(graphs, batch, learning_rate):
    """The loss from the old centers, then their move, then Adam on the moved ones."""
    graph = graphs[0]
    images, labels = batch
    with graph.graph.as_default(), make_session(graph.graph) as session:
        session.run(graph.initialize)
        centers = [v for v in tf.trainable_variables() if v.op.name == "ddh/centers"][0]
        kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("kernel")]
        before, kernels = session.run((centers, kernels))
        _, terms, descriptors = session.run(
            (graph.step, graph.losses, graph.network.descriptor),
            {graph.images: images, graph.labels: labels, graph.learning_rate: learning_rate})
        after = session.run(centers)

    differences = before[labels] - descriptors
    assert terms["center"] == pytest.approx(0.25 * 0.5 * np.sum(differences ** 2), rel=1e-5)
    assert terms["weight_decay"] == pytest.approx(
        0.0002 * 0.5 * sum(np.sum(k.astype(np.float64) ** 2) for k in kernels), rel=1e-5)
    assert terms["total"] == pytest.approx(
        sum(v for name, v in terms.items() if name != "total"), rel=1e-6)

    expected = before.astype(np.float64)
    gradient = np.zeros_like(expected)
    for label in range(4):
        own = differences[labels == label]
        expected[label] -= own.sum(axis=0) / (1 + len(own))
        gradient[label] = 0.25 * own.sum(axis=0)  # of the loss, at the old centers
    root = np.sqrt(1 - 0.999)
    # Adam's first step from zero moments
    expected -= learning_rate * root * gradient / (root * np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(after[3], before[3])  # a class that is not in the batch


@pytest.mark.parametrize("term, variable", [
    ("center", "ddh/centers"),
    ("descriptor_classification", "ddh/descriptor_classifier/kernel"),
    ("weight_decay", None)])
def test_a_weight_of_zero_leaves_a_part_out(graphs, term, variable):
    for graph, there in zip(graphs, (True, False)):
        with graph.graph.as_default():
            names = [v.op.name for v in tf.trainable_variables()]
        assert (term in graph.losses) == there
        assert variable is None or (variable in names) == there
