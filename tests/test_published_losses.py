"""The losses of other publications: values by naive loops, gradients by differences, learning."""

import numpy as np
import pytest

import losses
import model
from config import Config
from experiments.grid import GRID_METHODS
from methods.run import load_run
from methods.table import METHODS, resolve
from published_losses.pointwise import person_codes
from published_losses.table import LOSSES, loss_of, settings_of
from runtime.errors import UserError
from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph, run_network

# Four images of two people, and one of a third, K = 3.
ACTIVATIONS = np.array([[0.9, -1.2, 0.3], [0.4, -0.7, -0.2], [-1.1, 0.8, 0.6], [0.5, 1.4, 0.1],
                        [-0.3, -0.9, -1.6]])
LABELS = np.array([0, 0, 2, 2, 1])
PEOPLE, BITS = 4, 3
PAIRS = [(i, j) for i in range(5) for j in range(5) if i != j]
PROGRESS = 0.25


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(logits):
    return np.mean([np.log(np.sum(np.exp(row))) - row[label]
                    for row, label in zip(logits, LABELS)])


def mean_over_pairs(value):
    return np.mean([value(i, j, LABELS[i] == LABELS[j]) for i, j in PAIRS])


def sign_loss(u):
    return np.mean((np.where(u > 0, 1, -1) - u) ** 2)


def dsh(u, _variables):
    def pair(i, j, same):
        distance = np.sum((u[i] - u[j]) ** 2)
        return distance / 2 if same else max(2.0 * BITS - distance, 0) / 2
    quantization = np.mean([np.sum(np.abs(np.abs(row) - 1)) for row in u])
    return dict(pairs=mean_over_pairs(pair), quantization=0.01 * 2 * quantization)


def dpsh(u, _variables):
    def pair(i, j, same):
        theta = u[i] @ u[j] / 2
        return np.log(1 + np.exp(theta)) - same * theta
    return dict(pairs=mean_over_pairs(pair), quantization=0.1 * sign_loss(u))


def hashnet(u, _variables):
    h = np.tanh((1 + 9 * PROGRESS) * u)
    similar = sum(LABELS[i] == LABELS[j] for i, j in PAIRS)

    def pair(i, j, same):
        theta = 10 / BITS * h[i] @ h[j]
        weight = len(PAIRS) / (similar if same else len(PAIRS) - similar)
        return weight * (np.log(1 + np.exp(theta)) - same * theta)
    return dict(pairs=mean_over_pairs(pair))


def dtsh(u, _variables):
    terms = []
    for q, p in PAIRS:
        for n in range(5):
            if LABELS[q] == LABELS[p] != LABELS[n]:
                d = u[q] @ u[p] / 2 - u[q] @ u[n] / 2 - BITS / 2
                terms.append(np.log(1 + np.exp(d)) - d)
    assert len(terms) == 12
    return dict(triplets=np.mean(terms), quantization=sign_loss(u))


def ssdh(u, variables):
    a = sigmoid(u)
    logits = a @ variables["classifier/kernel"] + variables["classifier/bias"]
    return dict(classification=cross_entropy(logits),
                binary=-np.mean([np.sum((row - 0.5) ** 2) / BITS for row in a]),
                balance=np.mean([(np.mean(row) - 0.5) ** 2 for row in a]))


def greedyhash(u, variables):
    signs = np.where(u >= 0, 1, -1)
    logits = signs @ variables["classifier/kernel"] + variables["classifier/bias"]
    return dict(classification=cross_entropy(logits),
                penalty=0.1 * np.mean(np.abs(u - signs) ** 3))


def csq(u, _variables):
    h, c = (np.tanh(u) + 1) / 2, (person_codes(PEOPLE, BITS, 5)[LABELS] + 1) / 2
    central = -np.mean(c * np.log(h) + (1 - c) * np.log(1 - h))
    quantization = np.mean(np.sum(np.log(np.cosh(np.abs(2 * h - 1) - 1)), axis=1))
    return dict(central_similarity=central, quantization=0.0001 * quantization)


def dpn(u, _variables):
    t = person_codes(PEOPLE, BITS, 5)[LABELS]
    return dict(polarization=np.mean([
        sum(max(1 - u[i, k] * t[i, k], 0) for k in range(BITS)) for i in range(5)]))


def orthohash(u, _variables):
    codes = person_codes(PEOPLE, BITS, 5)
    logits = np.array([[4 * (row @ code / np.linalg.norm(row) / np.linalg.norm(code)
                             - 0.2 * (person == label)) for person, code in enumerate(codes)]
                       for row, label in zip(u, LABELS)])
    return dict(classification=cross_entropy(logits))


def dcdh(u, variables):
    h, centers = np.tanh(u), np.tanh(variables["centers"])
    between = [max(0, centers[j] @ centers[k] / BITS)
               for j in range(PEOPLE) for k in range(PEOPLE) if j != k]
    return dict(
        intra=np.mean((h - centers[LABELS]) ** 2), inter=np.mean(between),
        regression=0.1 * np.mean((h - variables["regression"][LABELS]) ** 2),
        quantization=0.1 * np.mean((np.abs(h) - 1) ** 2))


def batch_of(activations, progress=0.0):
    """A Batch of which the losses here see activations and labels alone."""
    network = model.Network(*[None] * 4, activations, *[None] * 3)
    return losses.Batch(network, 1.0, tf.constant(LABELS), PEOPLE, progress, 5)


NAIVE = dict(dsh=dsh, dpsh=dpsh, hashnet=hashnet, dtsh=dtsh, ssdh=ssdh, greedyhash=greedyhash,
             csq=csq, dpn=dpn, orthohash=orthohash, dcdh=dcdh)
# Gradients that are passed on through a sign are no derivative of the value.
STRAIGHT_THROUGH = {"greedyhash"}


@pytest.mark.parametrize("method", sorted(LOSSES))
def test_value_and_gradient(method):
    """Each term by naive loops in numpy; the gradient of their sum by central differences."""
    assert method in NAIVE, f"write the naive form of {method} into NAIVE"
    loss, naive = loss_of(Config(method=method)), NAIVE[method]
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        u = tf.placeholder(tf.float32, [None, BITS])
        batch = batch_of(u, tf.constant(PROGRESS))
        terms, logits = loss.terms(batch)
        total = losses.with_total(terms, [], 0.0)["total"]
        gradient = tf.gradients(total, u)[0]
        initialize = tf.global_variables_initializer()
    assert logits is None or logits.shape.as_list()[1] == PEOPLE
    assert (logits is None) == loss.compares_images
    with make_session(graph) as session, graph.as_default():
        session.run(initialize)
        variables = {variable.op.name: value for variable, value in zip(
            tf.trainable_variables(), session.run(tf.trainable_variables()))}
        values, gradient = session.run((terms, gradient), {u: ACTIVATIONS})
    expected = naive(ACTIVATIONS, variables)
    assert values == pytest.approx(expected, rel=1e-5, abs=1e-7)
    if method in STRAIGHT_THROUGH:
        return
    for place in np.ndindex(ACTIVATIONS.shape):
        step = np.zeros_like(ACTIVATIONS)
        step[place] = 1e-5
        difference = (sum(naive(ACTIVATIONS + step, variables).values())
                      - sum(naive(ACTIVATIONS - step, variables).values())) / 2e-5
        assert gradient[place] == pytest.approx(difference, rel=1e-3, abs=1e-5)


def test_greedy_hash_passes_the_gradient_through_the_sign():
    """By hand: of the classifier at b = sign(u), plus 3 * 0.1 (u - b) |u - b| / (B K)."""
    with tf.Graph().as_default() as graph:
        u = tf.placeholder(tf.float32, [None, BITS])
        terms, logits = loss_of(Config(method="greedyhash")).terms(
            batch_of(u))
        gradient = tf.gradients(tf.add_n(list(terms.values())), u)[0]
        initialize = tf.global_variables_initializer()
    with make_session(graph) as session, graph.as_default():
        session.run(initialize)
        kernel = session.run(tf.trainable_variables()[0])
        gradient, logits = session.run((gradient, logits), {u: ACTIVATIONS})
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gap = ACTIVATIONS - np.where(ACTIVATIONS >= 0, 1, -1)
    expected = ((probabilities - np.eye(PEOPLE)[LABELS]) @ kernel.T / 5
                + 0.3 * gap * np.abs(gap) / 15)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_codes_of_people():
    hadamard = person_codes(30, 16, 0)
    assert set(np.unique(hadamard @ hadamard.T)) == {-16, 0, 16}  # orthogonal, or opposite
    random = person_codes(40, 12, 0)
    assert set(np.unique(random)) == {-1, 1} and len(np.unique(random, axis=0)) == 40
    np.testing.assert_array_equal(random, person_codes(40, 12, 0))
    assert np.any(random != person_codes(40, 12, 1))


def test_accuracy_without_logits_counts_images_that_have_a_partner():
    """Nearest by inner product, by hand: 0 and 1 find each other, 3 finds 2, 2 finds 4 (another
    person); 4 has no partner in the batch."""
    activations = np.array([[1, 0], [2, 0], [0, 1], [-1, 0.5], [0.1, 3]], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        nearest = np.argmax(activations @ activations.T - 99 * np.eye(5), axis=1)
        np.testing.assert_array_equal(nearest, [1, 0, 4, 4, 2])
        accuracy = losses.batch_accuracy(batch_of(tf.constant(activations)), None)
        assert session.run(accuracy) == pytest.approx(2 / 4)


@pytest.mark.parametrize("method", sorted(LOSSES))
def test_every_loss_is_a_method(method):
    """Its settings are the command line's, by name, and those of other losses do not affect it."""
    config, _ = resolve(dict(method=method, num_bits=12))
    applicable = METHODS[method].applicable_settings(config.to_dict())
    own = settings_of(method)
    assert set(own) <= applicable and method in GRID_METHODS
    others = {name for other in (*LOSSES, "dcbh") if other != method for name in settings_of(other)}
    assert not others & applicable
    assert config.hash_layer == LOSSES[method].hash_layer
    for name in own:
        changed = resolve({"method": method, name: 0.125 if name != "hashnet_final_beta" else 2})[0]
        assert getattr(loss_of(changed), name[len(method) + 1:]) == getattr(changed, name)
    with pytest.raises(UserError, match="codeword_share"):
        resolve(dict(method=method, codeword_share=0.5))


@pytest.mark.parametrize("method", sorted(name for name in LOSSES if LOSSES[name].compares_images))
def test_workers_cannot_share_a_loss_of_pairs(method):
    with pytest.raises(UserError, match="workers"):
        METHODS[method].check_workers(resolve(dict(method=method))[0])


@pytest.mark.parametrize("hash_layer", ["block", "dense"])
def test_another_hash_layer(hash_layer):
    graph = build_step_graph(Config(method="csq", hash_layer=hash_layer, num_bits=4,
                                    block_length=3), PEOPLE)
    assert graph.inference.code_activations.shape.as_list() == [None, 4]


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(LOSSES))
def test_learns_faces(method):
    """Sixty steps on ten people of ORL: their images are then nearer each other than others'."""
    config, dataset = resolve(dict(method=method, num_bits=24, batch_size=35))
    run = load_run(config, dataset)
    chosen = run.train.labels < 10
    images, labels = run.train.images[chosen], run.train.labels[chosen]
    graph = build_step_graph(config, 10)
    rng = np.random.RandomState(0)
    with make_session(graph.graph) as session:
        session.run(graph.initialize)
        for step in range(60):
            part = rng.permutation(len(labels))[:35]
            session.run(graph.step, {graph.images: images[part], graph.labels: labels[part],
                                     graph.progress: step / 60})
        codes = np.where(run_network(session, graph.inference, graph.inference.code_activations,
                                     images, 70) >= 0, 1.0, -1.0)
    likeness = codes @ codes.T / 24 - 9 * np.eye(len(codes))
    nearest = labels[np.argmax(likeness, axis=1)]
    assert np.mean(nearest == labels) > 0.8
