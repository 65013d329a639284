"""The network: sizes, counts, the block hashing layer, batch norm's moving statistics."""

import numpy as np
import pytest

import model
from config import DATASETS, Config
from evaluation.codes import signs
from methods.table import METHODS, resolve
from model import HASH_LAYERS
from published_losses.table import LOSSES
from runtime.tensorflow import make_session, tf
from training.graph import build_inference_graph, build_step_graph

# Batch sizes are odd and unlike every other dimension, so that a swapped axis cannot pass.
BATCH = 7


def build_dcbh(images, **options):
    training, classes = options.pop("training"), options.pop("num_classes")
    return model.build_network(images, Config(**options), training, classes)


@pytest.mark.parametrize("flag, num_bits, count", [
    (1, 48, 8191780), (1, 12, 7777204), (0, 48, 8858470), (0, 12, 7945474)])
def test_parameter_counts(flag, num_bits, count):
    with tf.Graph().as_default():
        classes = DATASETS[flag].num_identities
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        build_dcbh(images, num_bits=num_bits, block_length=6, num_classes=classes, training=True)
        weights = sum(np.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
        assert weights + classes * num_bits * 6 == count  # the centers are the loss's


@pytest.fixture(scope="module")
def passes():
    """Named tensors of a training and an inference pass, K = 5, L = 3, C = 11."""
    rng = np.random.RandomState(0)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        images = tf.placeholder(tf.float32, [None, 32, 32, 3])
        networks = [build_dcbh(images, num_bits=5, block_length=3, num_classes=11, training=mode)
                    for mode in (True, False)]
        initialize = tf.global_variables_initializer()
    with make_session(graph) as session:
        session.run(initialize)
        feed = {images: rng.standard_normal((BATCH, 32, 32, 3))}
        yield [session.run(network._replace(update_moving_statistics=images), feed)
               for network in networks]


@pytest.mark.parametrize("mode", [0, 1], ids=["training", "inference"])
def test_shapes(passes, mode):
    network = passes[mode]
    assert [group.shape for group in network.groups] == [
        (BATCH, 16, 16, 64), (BATCH, 8, 8, 128), (BATCH, 4, 4, 256), (BATCH, 2, 2, 512)]
    assert network.multi_scale_feature.shape == (BATCH, 768)
    assert network.descriptor.shape == (BATCH, 15)
    assert network.hash_activations.shape == (BATCH, 5)
    assert network.hash_logits.shape == network.descriptor_logits.shape == (BATCH, 11)


def test_multi_scale_feature_is_group_4_then_group_3(passes):
    network = passes[0]
    expected = np.concatenate([network.groups[3].mean((1, 2)), network.groups[2].mean((1, 2))], 1)
    np.testing.assert_allclose(network.multi_scale_feature, expected, rtol=1e-5, atol=1e-6)


def test_value_ranges(passes):
    network = passes[0]
    assert network.descriptor.min() == 0 and network.descriptor.max() > 0
    assert network.hash_activations.min() >= np.tanh(1 / 3 - 0.5) - 1e-6
    assert network.hash_activations.max() <= np.tanh(0.5)


def block_hash(descriptor, num_bits):
    with tf.Graph().as_default() as graph:
        values = tf.constant(np.asarray(descriptor, np.float32))
        activations = model.block_hashing(values, num_bits)
        with make_session(graph) as session:
            return session.run(activations)


def test_block_hashing_by_hand():
    # softmax(log 3, 0) = (3/4, 1/4); softmax(0, log 4) = (1/5, 4/5); softmax(0, 0) = (1/2, 1/2)
    activations = block_hash([[np.log(3), 0, 0, np.log(4), 0, 0]], 3)
    np.testing.assert_allclose(activations, [[0.24491866, 0.29131261, 0.0]], atol=1e-7)
    assert signs(activations).tolist() == [[1, 1, 1]]


def test_block_hashing_range_of_six():
    even, sharp = block_hash([[0.0] * 6, [0.0] * 5 + [50.0]], 1)
    assert even[0] == pytest.approx(-0.3215127, abs=1e-6)  # tanh(1/6 - 1/2)
    assert sharp[0] == pytest.approx(0.4621172, abs=1e-6)  # tanh(1/2)


def test_a_block_of_two_is_always_on():
    descriptor = np.random.RandomState(0).normal(0, 3, (50, 8))
    assert block_hash(descriptor, 4).min() >= 0


def test_blocks_are_consecutive():
    descriptor = np.zeros((1, 12))
    descriptor[0, 6:9] = [9, 0, 0]  # inside the third of four blocks of three
    assert np.argmax(block_hash(descriptor, 4)) == 2


def test_zero_gives_bit_plus_one():
    codes = signs(np.array([[0.0, -0.0, -1e-7, 1e-7]], np.float32))
    assert codes.tolist() == [[1, 1, -1, 1]] and codes.dtype == np.int8


def test_block_hashing_refuses_another_size():
    with pytest.raises(ValueError, match="num_bits"):
        block_hash(np.zeros((1, 11)), 2)


@pytest.mark.parametrize("name", ["divide_and_encode", "dense"])
def test_learned_hash_layers_against_numpy(name):
    """From random weights, K = 3, L = 4: products, batch norm (start values), tanh."""
    rng = np.random.RandomState(2)
    descriptor = rng.standard_normal((BATCH, 12)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        with tf.variable_scope("test", reuse=tf.AUTO_REUSE):
            activations = HASH_LAYERS[name](
                tf.constant(descriptor), 3, model.BatchNorm(True))
        kernel, bias = [[v for v in tf.trainable_variables() if v.op.name.endswith(end)][0]
                        for end in ("/kernel", "/bias")]
        initialize = tf.global_variables_initializer()
        with make_session(graph) as session:
            session.run(initialize)
            bias.load([0.5, -1.0, 2.0], session)  # which batch norm takes away again
            activations, kernel = session.run((activations, kernel))
    expected = np.zeros((BATCH, 3))
    for bit in range(3):
        for value in range(12):
            if name == "dense":
                expected[:, bit] += descriptor[:, value] * kernel[value, bit]
            elif value // 4 == bit:  # each bit sees its own block alone
                expected[:, bit] += descriptor[:, value] * kernel[bit, value % 4]
    assert kernel.size == (36 if name == "dense" else 12)
    expected = (expected - expected.mean(0)) / np.sqrt(expected.var(0) + 0.001)
    np.testing.assert_allclose(activations, np.tanh(expected), atol=1e-5)


def test_every_method_that_trains_has_a_backbone():
    trained = {name for name, method in METHODS.items() if method.trains}
    assert trained == {*model.BACKBONES, *LOSSES}
    for name in trained:
        assert model.backbone_of(name).input_shape == METHODS[name].input_shape


def test_hash_layers_are_chosen_by_name():
    scopes = {}
    for name in HASH_LAYERS:
        graph = build_inference_graph(Config(num_bits=4, hash_layer=name))
        with graph.graph.as_default():
            scopes[name] = {v.op.name.split("/")[1] for v in tf.trainable_variables()}
        assert graph.inference.hash_activations.shape.as_list() == [None, 4]
    assert scopes["divide_and_encode"] - scopes["block"] == {"divide_and_encode"}
    assert scopes["dense"] - scopes["block"] == {"dense_hashing"}


def test_single_scale_pools_group_4_alone():
    graph, network, _ = build_inference_graph(Config(num_bits=4, multi_scale=False))
    feature = network.multi_scale_feature
    assert feature.shape.as_list() == [None, 512]
    rng = np.random.RandomState(0)
    with graph.as_default(), make_session(graph) as session:
        session.run(tf.global_variables_initializer())
        group, feature = session.run((network.groups[3], feature), {
            network.images: rng.standard_normal((BATCH, 32, 32, 3))})
    np.testing.assert_allclose(feature, group.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_locally_connected_against_a_loop():
    rng = np.random.RandomState(3)
    values = rng.standard_normal((BATCH, 3, 4, 2)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        with tf.variable_scope("local"):
            output = model.locally_connected(tf.constant(values), 5)
        kernels = {v.op.name.split("/")[1]: v for v in model.weight_kernels()}
        initialize = tf.global_variables_initializer()
        with make_session(graph) as session:
            session.run(initialize)
            output, kernels = session.run((output, kernels))
    assert output.shape == (BATCH, 2, 3, 5) and len(kernels) == 6
    for row in range(2):
        for column in range(3):
            window = values[:, row:row + 2, column:column + 2].reshape(BATCH, 8)
            np.testing.assert_allclose(
                output[:, row, column], window.dot(kernels[f"row{row}_column{column}"]),
                atol=1e-5)


@pytest.mark.skipif(tf.VERSION.startswith("1."), reason="TensorFlow 1.14 has no such convolution")
def test_bfloat16_rounds_the_convolutions_alone():
    """Variables, gradients and losses stay float32, and near those of float32."""
    rng = np.random.RandomState(0)
    images, labels = rng.normal(0, 0.1, (BATCH, 32, 32, 3)), np.arange(BATCH) % 3
    values = {}
    for dtype in ("float32", "bfloat16"):
        graph = build_step_graph(Config(num_bits=4, compute_dtype=dtype), 3)
        assert {gradient.dtype for gradient, _ in graph.gradients} == {tf.float32}
        convolutions = [op for op in graph.graph.get_operations() if op.type.startswith("Conv2D")]
        assert {op.outputs[0].dtype.name for op in convolutions} == {dtype}
        with make_session(graph.graph) as session:
            session.run(graph.initialize)
            values[dtype] = session.run(
                (graph.network.groups[0], graph.losses["total"]),
                {graph.images: images, graph.labels: labels})
    (exact, exact_loss), (rounded, rounded_loss) = values["float32"], values["bfloat16"]
    assert np.any(exact != rounded)
    assert np.abs(exact - rounded).mean() < 0.02 * np.abs(exact).mean()
    assert rounded_loss == pytest.approx(exact_loss, rel=0.01)


def test_ddh():
    """Sizes by hand: 32 -> 30, 15 -> 14, 7 -> 6, 3 -> 2; 3*3*60 + 2*2*80 = 860; then 4 a bit."""
    config = resolve(dict(method="ddh", num_bits=6))[0]
    graph = build_step_graph(config, 11)
    network = graph.network
    assert [group.shape.as_list()[1:] for group in network.groups] == [
        [15, 15, 20], [7, 7, 40], [3, 3, 60], [2, 2, 80]]
    assert network.multi_scale_feature.shape.as_list() == [None, 860]
    assert network.descriptor.shape.as_list() == [None, 24]
    assert network.descriptor_logits is None
    assert set(graph.losses) == {"total", "hash_classification", "quantization", "weight_decay"}
    convolutions = 9 * 3 * 20 + 4 * 20 * 40 + 4 * 40 * 60 + 2 * (20 + 40 + 60)  # with batch norm
    local = 4 * (4 * 60 * 80 + 80) + 2 * 80
    rest = 860 * 24 + 24 + 2 * 24 + (4 + 1) * 6 + 2 * 6 + 6 * 11 + 11
    assert graph.num_parameters == convolutions + local + rest


def test_batch_norm_statistics_against_numpy():
    rng = np.random.RandomState(1)
    data = rng.normal(3, 2, (4, BATCH, 2, 3, 5)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        values = tf.placeholder(tf.float32, [None, 2, 3, 5])
        with tf.variable_scope("dcbh", reuse=tf.AUTO_REUSE):
            trained = model.BatchNorm(True)
            output = trained(values)
            inferred = model.BatchNorm(False)(values)
        update, initialize = trained.update_moving_statistics(), tf.global_variables_initializer()
    biased_mean, variance = np.zeros(5), np.ones(5)
    with make_session(graph) as session:
        session.run(initialize)
        for count, batch in enumerate(data, 1):
            normalised, _ = session.run((output, update), {values: batch})
            flat = batch.reshape(-1, 5)
            np.testing.assert_allclose(
                normalised.reshape(-1, 5), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 0.001),
                atol=1e-4)
            biased_mean = 0.9 * biased_mean + 0.1 * flat.mean(0)
            variance = 0.9 * variance + 0.1 * flat.var(0, ddof=1)
            mean = biased_mean / (1 - 0.9 ** count)  # zero-debiased
            np.testing.assert_allclose(
                session.run(inferred, {values: batch}).reshape(-1, 5),
                (flat - mean) / np.sqrt(variance + 0.001), atol=1e-4)


def test_initial_weights_depend_on_the_seed_and_differ_between_layers():
    def kernels(graph):
        with graph.as_default(), make_session(graph) as session:
            session.run(tf.global_variables_initializer())
            return session.run({v.op.name: v for v in model.weight_kernels()})

    def network_alone(seed):
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(seed)
            images = tf.placeholder(tf.float32, [None, 32, 32, 3])
            build_dcbh(images, num_bits=4, num_classes=3, training=True)
        return graph
    first = kernels(build_step_graph(Config(num_bits=4, seed=1), 3).graph)
    again, other = kernels(network_alone(1)), kernels(network_alone(2))
    name, twin = "dcbh/group3/conv2/kernel", "dcbh/group3/conv3/kernel"
    assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first[name], other[name])
    assert first[name].shape == first[twin].shape and not np.array_equal(first[name], first[twin])
    bound = np.sqrt(6 / (9 * 256 + 9 * 256))  # Xavier uniform
    assert np.abs(first[name]).max() == pytest.approx(bound, rel=1e-3)


def unreachable_ops(graph):
    """Names of ops that nothing which is ever run depends on, TensorFlow's own helpers left out."""
    ends = [graph.step, graph.accuracy.op, graph.weights_finite.op, graph.initialize,
            graph.restart_hash_classifier, graph.inference.code_activations.op,
            graph.progress.op]  # DCBH as released does not look at it
    if graph.inference.descriptor_logits is not None:
        ends.append(graph.inference.descriptor_logits.op)
    ends += [loss.op for loss in graph.losses.values()]
    names = graph.saver.as_saver_def()
    ends += [graph.graph.get_operation_by_name(name.split(":")[0])
             for name in (names.save_tensor_name, names.restore_op_name)]
    reached = set()
    while ends:
        op = ends.pop()
        if op not in reached:
            reached.add(op)
            ends += list(op.control_inputs) + [tensor.op for tensor in op.inputs]
    # Left out: gradients' bookkeeping, and the reads and shapes that library functions offer.
    return [op.name for op in graph.graph.get_operations() if op not in reached
            and not op.name.startswith("gradients/")
            and op.type not in ("ReadVariableOp", "VarIsInitializedOp", "Shape")]


def test_no_op_of_the_training_graph_is_unreachable():
    for method in ("ddh", "dcbh"):
        config = resolve(dict(method=method, num_bits=4, weight_decay=0.0002))[0]
        graph = build_step_graph(config, 3)
        assert unreachable_ops(graph) == []
    with graph.graph.as_default():
        tf.square(graph.accuracy, name="forgotten")
    assert unreachable_ops(graph) == ["forgotten"]
