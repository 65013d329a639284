"""Images -> named tensors: DCBH's network, DDH's, and the hash layers.

Dimensions: B batch, K number of bits, L block length, D = K * L descriptor size, C identities.
"""

from __future__ import annotations

import zlib
from typing import Callable, NamedTuple

import numpy as np

from runtime.tensorflow import global_avg_pool, tf

# Output channels of the 3x3 convolutions of each group, which 2x2 max-pooling ends.
GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))
# DDH: (output channels, kernel size) of its convolutions, and the locally connected layer after.
DDH_CONVOLUTIONS = ((20, 3), (40, 2), (60, 2))
DDH_LOCAL_CHANNELS = 80


BATCH_NORM_DECAY = 0.9  # of the moving statistics, a step
BATCH_NORM_EPSILON = 0.001


class Network(NamedTuple):
    """Tensors of one pass through the network, all float32.

    Attributes:
        images: [B, 32, 32, 3], the input; of embedding_features [B, 128].
        groups: outputs of the convolution groups. DCBH: [B, 16, 16, 64], [B, 8, 8, 128],
            [B, 4, 4, 256], [B, 2, 2, 512]. DDH: [B, 15, 15, 20], [B, 7, 7, 40], [B, 3, 3, 60] and
            its locally connected layer, [B, 2, 2, 80].
        multi_scale_feature: what the last two groups give together: [B, 768]; DDH: [B, 860];
            DCBH without multi_scale: [B, 512], of group 4 alone.
        descriptor: [B, D], not negative.
        hash_activations: [B, K]; the range is the hash layer's.
        hash_logits: [B, C], the hash classifier's, on the hash activations; None without one.
        descriptor_logits: [B, C], the descriptor classifier's; None without one.
        update_moving_statistics: an op to run once with each training step; None for inference.
        code_activations: [B, K], its signs are the code: the hash activations; in inference with
            flip_averaging, the mean of those of the images and of their mirror images.
    """

    images: tf.Tensor
    groups: tuple
    multi_scale_feature: tf.Tensor
    descriptor: tf.Tensor
    hash_activations: tf.Tensor
    hash_logits: tf.Tensor
    descriptor_logits: tf.Tensor
    update_moving_statistics: object
    code_activations: tf.Tensor = None


class BatchNorm:
    """Batch normalisation with TensorFlow's moving statistics as the release has them.

    The moving mean is zero-debiased: after n updates it is the exponentially weighted mean of n
    batches with weights that sum to 1, whatever its start value. The moving variance starts at 1
    and is not debiased; it takes the batch's unbiased variance (divisor count - 1).
    One object serves a whole pass, since all layers share one counter.

    Args:
        training: Python bool; batch statistics (noted for the moving ones) or moving ones.
    """

    def __init__(self, training):
        self.training = training
        self._statistics = []  # (moving statistic, the batch's, rate)
        if training:
            self._updates = variable("batch_norm/num_updates", [], tf.zeros_initializer(), False)
            self._count = self._updates.read_value() + 1.0
            self._variance_rate = 1.0 - BATCH_NORM_DECAY
            # With this rate the plain update m += rate * (batch - m) keeps m debiased:
            # (1 - decay) / (1 - decay ** n) is 1 at the first update and falls to 1 - decay.
            self._mean_rate = self._variance_rate / (1.0 - tf.pow(BATCH_NORM_DECAY, self._count))

    def __call__(self, values, gain=1.0):
        """Normalises [B, height, width, channels] or float32 [B, channels]; gamma's start: gain.

        bfloat16 comes and goes as such; statistics and the computation are in float32.
        """
        if values.shape.ndims == 2:
            return self(values[:, None, None, :], gain)[:, 0, 0, :]
        channels = [int(values.shape[-1])]
        with tf.variable_scope("batch_norm"):
            gamma = variable("gamma", channels, tf.constant_initializer(gain))
            beta = variable("beta", channels, tf.zeros_initializer())
            mean = variable("moving_mean", channels, tf.zeros_initializer(), False)
            variance = variable("moving_variance", channels, tf.ones_initializer(), False)
            if not self.training:
                return tf.nn.fused_batch_norm(values, gamma, beta, mean, variance,
                                              BATCH_NORM_EPSILON, is_training=False)[0]
            normalised, *batch_statistics = self.normalise(values, gamma, beta, mean)
            self._statistics += zip((mean, variance), batch_statistics,
                                    (self._mean_rate, self._variance_rate))
            return normalised

    def normalise(self, values, gamma, beta, _moving_mean):
        """Normalised [B, height, width, channels], its mean and its unbiased variance."""
        return tf.nn.fused_batch_norm(values, gamma, beta, epsilon=BATCH_NORM_EPSILON,
                                      is_training=True)

    def update_moving_statistics(self):
        """An op that moves the statistics by the pass's; to run once with each training step."""
        with tf.control_dependencies([self._count]):
            updates = [self._updates.assign_add(1.0, read_value=False)]
        updates += [moving.assign_sub(rate * (moving.read_value() - batch), read_value=False)
                    for moving, batch, rate in self._statistics]
        return tf.group(*updates)


def build_network(images, settings, training, num_classes=None, batch_norm_class=BatchNorm):
    """Builds the network in the current graph; a second call shares the first one's variables.

    Initial weights depend on the graph's seed (tf.set_random_seed) and each variable's name alone.

    Args:
        images: float32 [B, 32, 32, 3], normalised as in data_loader.normalise, or what else the
            method's backbone takes.
        settings: anything with method, hash_layer, num_bits, block_length, multi_scale,
            descriptor_gain, descriptor_classification_weight, flip_averaging and compute_dtype of
            config.Config.
            The method is the variable scope of the whole; checkpoints carry it.
        training: Python bool; whether batch norm uses the batch's statistics.
        num_classes: C; None leaves out both classifiers, which codes do not need.
        batch_norm_class: BatchNorm or a subclass.

    Returns:
        A Network.
    """
    network = _one_pass(images, settings, training, num_classes, batch_norm_class)
    if training or not settings.flip_averaging:
        return network
    # A face and its mirror image are of one person: they share one code, that of their mean.
    mirrored = _one_pass(tf.reverse(images, [2]), settings, training, None, batch_norm_class)
    return network._replace(
        code_activations=(network.hash_activations + mirrored.hash_activations) / 2)


def _one_pass(images, settings, training, num_classes, batch_norm_class):
    """See build_network; without flip averaging."""
    with tf.variable_scope(settings.method, reuse=tf.AUTO_REUSE):
        batch_norm = batch_norm_class(training)
        groups, feature = backbone_of(settings.method).build(images, batch_norm, settings)
        with tf.variable_scope("descriptor"):
            size = settings.num_bits * settings.block_length
            descriptor = tf.nn.relu(batch_norm(
                linear(feature, size), settings.descriptor_gain))  # [B, D]
        hash_activations = HASH_LAYERS[settings.hash_layer](
            descriptor, settings.num_bits, batch_norm)  # [B, K]
        hash_logits = descriptor_logits = None
        if num_classes:
            with tf.variable_scope("hash_classifier"):
                hash_logits = linear(hash_activations, num_classes)  # [B, C]
        if num_classes and settings.descriptor_classification_weight > 0:
            with tf.variable_scope("descriptor_classifier"):
                descriptor_logits = linear(descriptor, num_classes)  # [B, C]
    return Network(images, tuple(groups), feature, descriptor, hash_activations,
                   hash_logits, descriptor_logits,
                   batch_norm.update_moving_statistics() if training else None, hash_activations)


# Convolutions

def dcbh_features(images, batch_norm, settings):
    """DCBH's VGG-style groups: float32 [B, 32, 32, 3] -> (list of 4 groups, [B, 768 or 512])."""
    groups, features = [], images
    for number, channels in enumerate(GROUPS, 1):
        with tf.variable_scope(f"group{number}"):
            for layer, out in enumerate(channels, 1):
                with tf.variable_scope(f"conv{layer}"):
                    features = convolution(features, out, batch_norm, settings.compute_dtype)
            features = max_pool(features)
        groups.append(tf.cast(features, tf.float32))
    # The paper's figure draws the second pooling on the last convolution before max-pooling;
    # the release takes it after (docs/reproduction.md, deviation l: as released).
    pooled = [global_avg_pool(groups[3], name="pool_group4")]
    if settings.multi_scale:
        pooled.append(global_avg_pool(groups[2], name="pool_group3"))
    return groups, tf.concat(pooled, axis=1)  # [B, 512 + 256]


def ddh_features(images, batch_norm, settings):
    """DDH's convolutions: float32 [B, 32, 32, 3] -> (list of 4 layers' outputs, [B, 860]).

    Known of DDH are sizes and channels. Chosen here: no padding (30, 15, 14, 7, 6, 3, 2 pixels a
    side); batch norm and ReLU after the locally connected layer, too; merged means concatenated.
    """
    groups, features = [], images
    for number, (channels, size) in enumerate(DDH_CONVOLUTIONS, 1):
        with tf.variable_scope(f"conv{number}"):
            features = max_pool(convolution(
                features, channels, batch_norm, settings.compute_dtype, size, "VALID"))
        groups.append(tf.cast(features, tf.float32))
    with tf.variable_scope("local"):
        features = locally_connected(groups[2], DDH_LOCAL_CHANNELS)
        groups.append(tf.nn.relu(batch_norm(features)))
    return groups, tf.concat([flatten(groups[2]), flatten(groups[3])], axis=1)  # [B, 540 + 320]


def embedding_features(embeddings, _batch_norm, _settings):
    """The embedding of another, trained network: float32 [B, 128] -> ([], [B, 128])."""
    return [], embeddings


class Backbone(NamedTuple):
    """What a network has before its descriptor.

    Attributes:
        build: function of the input [B, ...], a BatchNorm and settings (see build_network); returns
            a list of the groups' outputs, and the feature [B, F] that the descriptor is a linear
            function of.
        input_shape: of one input.
    """

    build: Callable
    input_shape: tuple


BACKBONES = {  # by method
    "dcbh": Backbone(dcbh_features, (32, 32, 3)),
    "ddh": Backbone(ddh_features, (32, 32, 3)),
    "embedding_dcbh": Backbone(embedding_features, (128,)),
}


def backbone_of(method):
    """The Backbone of a method that trains a network: DCBH's, unless BACKBONES has another."""
    return BACKBONES.get(method, BACKBONES["dcbh"])


def convolution(features, channels, batch_norm, compute_dtype="float32", size=3, padding="SAME"):
    """Convolution of stride 1 without bias, batch norm, ReLU.

    Args:
        features: [B, height, width, in], float32 or compute_dtype.
        channels: output channels.
        batch_norm: a BatchNorm.
        compute_dtype: "float32", or "bfloat16": the products of the convolution and of its
            gradients are then taken from values rounded to 8 bits of precision.
        size: rows and columns of the kernel.
        padding: "SAME" or "VALID".

    Returns:
        [B, height, width, channels] of compute_dtype; size - 1 fewer rows and columns for "VALID".
    """
    kernel = variable("kernel", [size, size, int(features.shape[-1]), channels])
    dtype = tf.as_dtype(compute_dtype)
    features = tf.nn.conv2d(tf.cast(features, dtype), tf.cast(kernel, dtype),
                            strides=[1, 1, 1, 1], padding=padding)
    return tf.nn.relu(batch_norm(features))


def max_pool(features):
    """2x2 max-pooling: [B, height, width, channels] -> [B, height / 2, width / 2, channels]."""
    return tf.nn.max_pool(features, [1, 2, 2, 1], [1, 2, 2, 1], "SAME", name="max_pool")


def locally_connected(features, channels):
    """A 2x2 convolution whose kernel is another one at each position, with bias, unpadded.

    Args:
        features: float32 [B, height, width, in].
        channels: output channels.

    Returns float32 [B, height - 1, width - 1, channels].
    """
    height, width = int(features.shape[1]) - 1, int(features.shape[2]) - 1
    outputs = []
    for row in range(height):
        for column in range(width):
            with tf.variable_scope(f"row{row}_column{column}"):
                window = features[:, row:row + 2, column:column + 2, :]
                outputs.append(linear(flatten(window), channels))
    return tf.reshape(tf.stack(outputs, axis=1), [-1, height, width, channels])


def flatten(features):
    """float32 [B, height, width, channels] -> [B, height * width * channels]."""
    return tf.reshape(features, [-1, int(np.prod(features.shape.as_list()[1:]))])


def linear(values, size):
    """float32 [B, in] -> [B, size], with bias."""
    kernel = variable("kernel", [int(values.shape[-1]), size])
    bias = variable("bias", [size], tf.zeros_initializer())
    return tf.matmul(values, kernel) + bias


# Hash layers: (descriptor float32 [B, K * L], num_bits, batch_norm) -> hash activations [B, K]. A
# bit is on where its activation is not negative (evaluation.codes.signs).

def block_hashing(descriptor, num_bits, _batch_norm=None):
    """DCBH's block hashing: one bit from each block of the descriptor, without parameters.

    h_k = tanh(max(softmax(block_k)) - 0.5), in [tanh(1/L - 0.5), tanh(0.5)]; for L = 6
    [-0.3215, 0.4621]. A bit is on when one of its block's values takes at least half of the
    softmax's mass; of two values one always does: L = 2 says nothing.

    Args:
        descriptor: float32 [B, K * L].
        num_bits: K.

    Returns:
        float32 [B, K].

    Raises:
        ValueError: the descriptor's size is no multiple of K.
    """
    with tf.name_scope("block_hashing"):
        strongest = tf.reduce_max(tf.nn.softmax(_blocks(descriptor, num_bits)), axis=2)
        return tf.tanh(strongest - 0.5)  # [B, K]


def divide_and_encode(descriptor, num_bits, batch_norm):
    """DDH's divide-and-encode: one dense unit a block (L + 1 parameters), batch norm, tanh.

    Args:
        descriptor: float32 [B, K * L].
        num_bits: K.
        batch_norm: a BatchNorm.

    Returns:
        float32 [B, K], in (-1, 1).

    Raises:
        ValueError: the descriptor's size is no multiple of K.
    """
    with tf.variable_scope("divide_and_encode"):
        blocks = _blocks(descriptor, num_bits)
        kernel = variable("kernel", blocks.shape.as_list()[1:])  # [K, L]
        bias = variable("bias", [num_bits], tf.zeros_initializer())
        return tf.tanh(batch_norm(tf.reduce_sum(blocks * kernel, axis=2) + bias))  # [B, K]


def dense_hashing(descriptor, num_bits, batch_norm):
    """One dense layer over the whole descriptor, batch norm, tanh; see divide_and_encode."""
    return tf.tanh(linear_batch_norm(descriptor, num_bits, batch_norm))


def linear_batch_norm(descriptor, num_bits, batch_norm):
    """One dense layer over the whole descriptor and batch norm: any range."""
    with tf.variable_scope("dense_hashing"):
        return batch_norm(linear(descriptor, num_bits))  # [B, K]


def linear_hashing(descriptor, num_bits, _batch_norm=None):
    """One dense layer over the whole descriptor, and nothing after it: any range."""
    with tf.variable_scope("dense_hashing"):
        return linear(descriptor, num_bits)  # [B, K]


HASH_LAYERS = {
    "block": block_hashing,
    "divide_and_encode": divide_and_encode,
    "dense": dense_hashing,
    "linear": linear_hashing,
    "linear_batch_norm": linear_batch_norm,
}
BLOCK_MAGNITUDE = 0.5  # about the largest that block hashing's activations become


def _blocks(descriptor, num_bits):
    """[B, K * L] -> [B, K, L]: consecutive values make a block."""
    size = int(descriptor.shape[-1])
    if size % num_bits:
        raise ValueError(f"descriptor {descriptor.name!r} has {size} values, no multiple of "
                         f"num_bits = {num_bits}")
    return tf.reshape(descriptor, [-1, num_bits, size // num_bits])


def weight_kernels():
    """The kernels of all convolutions and linear layers, on which weight decay acts."""
    return [variable for variable in tf.trainable_variables()
            if variable.op.name.endswith("/kernel")]


def variable(name, shape, initializer=None, trainable=True):
    """A float32 resource variable: its reads and writes happen in the order the graph states.

    The default initializer is Xavier (Glorot) uniform, seeded by the variable's full name: with one
    seed, kernels of one shape would start equal; with none, depend on the order of building.
    """
    if initializer is None:
        full_name = f"{tf.get_variable_scope().name}/{name}"
        initializer = tf.glorot_uniform_initializer(
            seed=zlib.crc32(full_name.encode()) & 0x7fffffff)
    return tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable,
                           use_resource=True)
