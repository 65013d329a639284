"""Images -> named tensors: the network and the block hashing layer.

Dimensions: B batch, K number of bits, L block length, D = K * L descriptor size, C identities.
"""

import zlib
from typing import NamedTuple

from config import IMAGE_CHANNELS, IMAGE_SIZE
from tensorflow_setup import global_avg_pool, tf

# Output channels of the 3x3 convolutions of each group; a 2x2 max-pooling ends each group.
GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))


class Network(NamedTuple):
    """Tensors of one pass through the network, all float32.

    Attributes:
        images: [B, 32, 32, 3], the input.
        groups: outputs of the four groups: [B, 16, 16, 64], [B, 8, 8, 128], [B, 4, 4, 256],
            [B, 2, 2, 512].
        multi_scale_feature: [B, 768].
        descriptor: [B, D], not negative.
        hash_activations: [B, K], in [tanh(1/L - 0.5), tanh(0.5)]; for L = 6 [-0.3215, 0.4621].
        hash_logits: [B, C], the hash classifier's, on the hash activations.
        descriptor_logits: [B, C], the descriptor classifier's.
        update_moving_statistics: an op to run once with each training step; None for inference.
    """

    images: tf.Tensor
    groups: tuple
    multi_scale_feature: tf.Tensor
    descriptor: tf.Tensor
    hash_activations: tf.Tensor
    hash_logits: tf.Tensor
    descriptor_logits: tf.Tensor
    update_moving_statistics: object


class BatchNorm:
    """Batch normalisation with TensorFlow's moving statistics as the release has them.

    The moving mean is zero-debiased: after n updates it is the exponentially weighted mean of n
    batches with weights that sum to 1, whatever its start value. The moving variance starts at 1
    and is not debiased; it takes the batch's unbiased variance (divisor count - 1).

    One object serves a whole pass through the network, since all its layers share one counter.

    Args:
        training: Python bool; batch statistics (and updates collected) or moving ones.
        decay: weight of the old value at an update.
        epsilon: added to the variance.
    """

    def __init__(self, training, decay, epsilon):
        self.training = training
        self.epsilon = epsilon
        self.updates = []
        with tf.variable_scope("batch_norm"):
            self._count = _variable("num_updates", [], tf.zeros_initializer(), trainable=False)
        if training:
            count = self._count.read_value() + 1.0
            self._variance_rate = 1.0 - decay
            # With this rate the plain update m += rate * (batch - m) keeps m debiased:
            # (1 - decay) / (1 - decay ** n) is 1 at the first update and falls to 1 - decay.
            self._mean_rate = (1.0 - decay) / (1.0 - tf.pow(decay, count))
            with tf.control_dependencies([count]):
                self.updates.append(self._count.assign_add(1.0, read_value=False))

    def __call__(self, values):
        """Normalises float32 [B, height, width, channels] over all axes but the last."""
        channels = [int(values.shape[-1])]
        with tf.variable_scope("batch_norm"):
            gamma = _variable("gamma", channels, tf.ones_initializer())
            beta = _variable("beta", channels, tf.zeros_initializer())
            mean = _variable("moving_mean", channels, tf.zeros_initializer(), trainable=False)
            variance = _variable(
                "moving_variance", channels, tf.ones_initializer(), trainable=False)
            if not self.training:
                return tf.nn.fused_batch_norm(
                    values, gamma, beta, mean, variance, epsilon=self.epsilon,
                    is_training=False)[0]
            # In training the op returns the unbiased batch variance, as its second statistic.
            normalised, batch_mean, batch_variance = tf.nn.fused_batch_norm(
                values, gamma, beta, epsilon=self.epsilon, is_training=True)
            for moving, batch, rate in ((mean, batch_mean, self._mean_rate),
                                        (variance, batch_variance, self._variance_rate)):
                self.updates.append(moving.assign_sub(
                    rate * (moving.read_value() - batch), read_value=False))
            return normalised


def build_network(images, *, num_bits, block_length, num_classes, training,
                  batch_norm_decay=0.9, batch_norm_epsilon=0.001):
    """Builds the network in the current graph; a second call shares the first one's variables.

    Initial weights hang on the graph's seed (tf.set_random_seed) and each variable's name.

    Args:
        images: float32 [B, 32, 32, 3], normalised as in data_loader.normalise.
        num_bits: K.
        block_length: L.
        num_classes: C.
        training: Python bool; whether batch norm uses the batch's statistics.
        batch_norm_decay, batch_norm_epsilon: see BatchNorm.

    Returns:
        A Network.

    Raises:
        ValueError: images have another shape.
    """
    images.shape.assert_is_compatible_with([None, IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS])
    with tf.variable_scope("dcbh", reuse=tf.AUTO_REUSE):
        batch_norm = BatchNorm(training, batch_norm_decay, batch_norm_epsilon)
        groups = []
        features = images
        for number, channels in enumerate(GROUPS, 1):
            with tf.variable_scope("group%d" % number):
                features = convolution_group(features, channels, batch_norm)
            groups.append(features)

        # The paper's figure draws the second pooling on the last convolution before max-pooling;
        # the release takes it after (README, table of deviations: as released).
        multi_scale_feature = tf.concat(
            [global_avg_pool(groups[3], name="pool_group4"),
             global_avg_pool(groups[2], name="pool_group3")], axis=1)  # [B, 512 + 256]

        with tf.variable_scope("descriptor"):
            descriptor = linear(multi_scale_feature, num_bits * block_length)
            descriptor = batch_norm(descriptor[:, None, None, :])[:, 0, 0, :]
            descriptor = tf.nn.relu(descriptor)  # [B, D]

        hash_activations = block_hashing(descriptor, num_bits, block_length)  # [B, K]
        with tf.variable_scope("hash_classifier"):
            hash_logits = linear(hash_activations, num_classes)  # [B, C]
        with tf.variable_scope("descriptor_classifier"):
            descriptor_logits = linear(descriptor, num_classes)  # [B, C]
    return Network(images, tuple(groups), multi_scale_feature, descriptor, hash_activations,
                   hash_logits, descriptor_logits,
                   tf.group(*batch_norm.updates) if training else None)


def convolution_group(features, channels, batch_norm):
    """3x3 convolutions without bias, each with batch norm and ReLU; then 2x2 max-pooling.

    Args:
        features: float32 [B, height, width, in].
        channels: output channels of each convolution.
        batch_norm: a BatchNorm.

    Returns:
        float32 [B, height / 2, width / 2, channels[-1]].
    """
    for number, out in enumerate(channels, 1):
        with tf.variable_scope("conv%d" % number):
            kernel = _variable("kernel", [3, 3, int(features.shape[-1]), out])
            features = tf.nn.conv2d(features, kernel, strides=[1, 1, 1, 1], padding="SAME")
            features = tf.nn.relu(batch_norm(features))
    return tf.nn.max_pool(
        features, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME", name="max_pool")


def linear(values, size):
    """float32 [B, in] -> [B, size], with bias."""
    kernel = _variable("kernel", [int(values.shape[-1]), size])
    bias = _variable("bias", [size], tf.zeros_initializer())
    return tf.matmul(values, kernel) + bias


def block_hashing(descriptor, num_bits, block_length):
    """The block hashing layer: one bit from each block of the descriptor, without parameters.

    h_k = tanh(max(softmax(block_k)) - 0.5). A bit is on (h >= 0) when one of its block's values
    takes at least half of the softmax's mass.

    Args:
        descriptor: float32 [B, K * L].
        num_bits: K.
        block_length: L.

    Returns:
        float32 [B, K], in [tanh(1/L - 0.5), tanh(0.5)].

    Raises:
        ValueError: the descriptor's size is not K * L.
    """
    if int(descriptor.shape[-1]) != num_bits * block_length:
        raise ValueError("descriptor %r has %s values, not num_bits * block_length = %d"
                         % (descriptor.name, descriptor.shape[-1], num_bits * block_length))
    with tf.name_scope("block_hashing"):
        # [B, K * L] -> [B, K, L]
        blocks = tf.reshape(descriptor, [-1, num_bits, block_length])
        strongest = tf.reduce_max(tf.nn.softmax(blocks), axis=2)
        return tf.tanh(strongest - 0.5)  # [B, K]


def class_centers(num_classes, descriptor_size):
    """The trainable variable that holds one center a class: float32 [C, D], Xavier uniform."""
    with tf.variable_scope("dcbh", reuse=tf.AUTO_REUSE):
        return _variable("centers", [num_classes, descriptor_size])


def codes_from_activations(hash_activations):
    """Hash activations -> bits as numpy int8 of the same shape: +1 where h >= 0, else -1."""
    return (hash_activations >= 0).astype("int8") * 2 - 1


def weight_kernels():
    """The kernels of convolutions and linear layers, on which weight decay acts."""
    return [variable for variable in tf.trainable_variables()
            if variable.op.name.endswith("/kernel")]


def _variable(name, shape, initializer=None, trainable=True):
    """A float32 resource variable, whose reads and writes happen in the order the graph states.

    The default initializer is Xavier (Glorot) uniform, seeded by the variable's full name: with
    one seed for all, kernels of the same shape would start equal; with TensorFlow's own choice,
    they would hang on the order in which the graph was built.
    """
    if initializer is None:
        full_name = "%s/%s" % (tf.get_variable_scope().name, name)
        initializer = tf.glorot_uniform_initializer(
            seed=zlib.crc32(full_name.encode()) & 0x7fffffff)
    return tf.get_variable(name, shape, tf.float32, initializer, trainable=trainable,
                           use_resource=True)
