"""Tensors -> scalars: what a loss is, DCBH's loss, its terms and the centers' own update.

Dimensions: B batch, K number of bits, D descriptor size, C identities. labels are int32 [B].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model import Network, variable
from runtime.tensorflow import tf


class Batch(NamedTuple):
    """What a loss is computed from.

    Attributes:
        network: the model.Network of the batch, built for training.
        magnitude: float, |activation| of a bit that is clear; block hashing: model.BLOCK_MAGNITUDE.
        labels: int32 [B].
        num_classes: C.
        progress: float32 scalar, share of the training's steps that are done.
        seed: int, the run's.
    """

    network: Network
    magnitude: float
    labels: tf.Tensor
    num_classes: int
    progress: object
    seed: int

    @property
    def activations(self):
        """float32 [B, K]: the hash activations, scaled so that bits are about -1 and +1."""
        return self.network.hash_activations / self.magnitude

    def similar(self):
        """float32 [B, B]: 1 where two images show one person, else 0."""
        return tf.cast(tf.equal(self.labels[:, None], self.labels[None, :]), tf.float32)


class Loss:
    """What a network is trained to minimise. DCBH's is below; others are in published_losses/.

    A loss with settings is a frozen dataclass whose fields are made by runtime.settings.setting. A
    loss may have variables (model.variable), which are trained with the network's.

    Attributes:
        title: what people call it.
        hash_layer: the default of the setting hash_layer.
        has_classifiers: whether it uses the classifiers that model.build_network can add.
        compares_images: whether it compares the images of a batch with each other, so that several
            workers cannot share one.
        summed_terms: names of the terms that are sums over the batch; the others are means.
    """

    title = None
    hash_layer = "linear"
    has_classifiers = False
    compares_images = False
    summed_terms = ()

    def terms(self, batch):
        """The weighted terms, and the logits from which accuracy is computed.

        Args:
            batch: a Batch.

        Returns:
            (dict of float32 scalars by name, logits): logits are float32 [B, C], highest for the
            person that an image is taken for; None of a loss that has no such thing.
        """
        raise NotImplementedError

    def own_updates(self, descriptors, labels):
        """Ops that change variables of the loss by a rule of its own, before the optimizer's step.

        Args:
            descriptors: float32 [B, D], of the joint batch of all workers.
            labels: int32 [B], likewise.
        """
        return []


class DCBH(Loss):
    """DCBH's terms; a weight of 0 removes the descriptor classifier or the centers.

    Args:
        config: a config.Config, or anything with the settings named in `settings`.
    """

    title = "DCBH"
    hash_layer = "block"
    has_classifiers = True
    summed_terms = ("center",)
    settings = ("descriptor_classification_weight", "quantization_weight", "quantization_target",
                "center_weight", "hash_temperature", "temperature_share", "codeword_share")

    def __init__(self, config):
        self._config = config
        self._centers = self._centers_before = None

    def terms(self, batch):
        """See Loss."""
        config, network = self._config, batch.network
        temperature = self._hash_temperature(batch.progress)
        # The factor keeps the gradient at equal logits the same for every temperature.
        terms = dict(hash_classification=temperature * classification_loss(
            network.hash_logits / temperature, batch.labels))
        if network.descriptor_logits is not None:
            terms["descriptor_classification"] = (
                config.descriptor_classification_weight
                * classification_loss(network.descriptor_logits, batch.labels))
        terms["quantization"] = config.quantization_weight * quantization_loss(
            network.hash_activations, config.quantization_target)
        if config.center_weight > 0:
            self._centers = variable(
                "centers", [batch.num_classes, int(network.descriptor.shape[1])])
            self._centers_before = self._centers.read_value()
            terms["center"] = config.center_weight * center_loss(
                network.descriptor, self._centers_before, batch.labels)
        return terms, network.hash_logits

    def _hash_temperature(self, progress):
        """From hash_temperature to 1 over temperature_share of the steps, by equal factors."""
        start, share = self._config.hash_temperature, self._config.temperature_share
        if start == 1 or not share:
            return 1.0
        return tf.pow(start, tf.nn.relu(1 - progress / share))

    def own_updates(self, descriptors, labels):
        """Moves the centers by their own rule; see center_updates."""
        if self._centers is None:
            return []
        updates = center_updates(descriptors, self._centers_before, labels)
        return [self._centers.scatter_sub(tf.IndexedSlices(updates, labels))]


def with_total(terms, kernels, weight_decay):
    """A loss's terms, weight decay as another one unless it is 0, and before them their "total".

    Args:
        terms: dict of float32 scalars.
        kernels: what weight decay acts on (model.weight_kernels).
        weight_decay: float.
    """
    if weight_decay:
        terms = dict(terms, weight_decay=weight_decay * weight_decay_loss(kernels))
    return dict(total=tf.add_n(list(terms.values())), **terms)


def batch_accuracy(batch, logits):
    """Accuracy on a batch: a float32 scalar.

    With logits: the share of images whose highest logit is that of their person. Without (None):
    the nearest other image is the one with the largest inner product of activations; of the images
    whose person has another image in the batch, the share whose nearest is of the same person.
    """
    if logits is not None:
        hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), batch.labels)
        return tf.reduce_mean(tf.cast(hits, tf.float32))
    likeness = tf.matmul(batch.activations, batch.activations, transpose_b=True)
    likeness = tf.matrix_set_diag(likeness, tf.fill(tf.shape(batch.labels), -np.inf))
    nearest = tf.gather(batch.labels, tf.argmax(likeness, axis=1))
    hits = tf.cast(tf.equal(nearest, batch.labels), tf.float32)
    paired = tf.cast(tf.reduce_sum(batch.similar(), axis=1) > 1, tf.float32)
    return tf.reduce_sum(hits * paired) / tf.maximum(tf.reduce_sum(paired), 1)


# The terms of DCBH


def classification_loss(logits, labels):
    """Mean softmax cross-entropy: float32 [B, C] and int [B] -> scalar."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels))


def quantization_loss(hash_activations, target=0.5):
    """Mean over B and K of | target - |h| |: float32 [B, K] -> scalar."""
    return tf.reduce_mean(tf.abs(target - tf.abs(hash_activations)))


def center_loss(descriptors, centers, labels):
    """0.5 * sum over the batch of the squared distance between a descriptor and its class's center.

    A sum, as released: it grows with the batch.

    Args:
        descriptors: float32 [B, D].
        centers: float32 [C, D], their values before any move.
        labels: int [B].

    Returns:
        A float32 scalar.
    """
    return 0.5 * tf.reduce_sum(tf.square(descriptors - tf.gather(centers, labels)))


def center_updates(descriptors, centers, labels):
    """How far each center moves by its own rule (Wen et al., ECCV 2016, equation 4).

    For class j with n_j descriptors f_i in the batch:
    update_j = sum_i (c_j - f_i) / (1 + n_j), to be subtracted from c_j: their rate alpha is 1, as
    released.

    Args:
        descriptors: float32 [B, D].
        centers: float32 [C, D].
        labels: int [B].

    Returns:
        float32 [B, D]: each image's share of its class's update; shares of a class add up.
    """
    # [B, B] -> [B]: how often each image's class is in the batch
    counts = tf.reduce_sum(
        tf.cast(tf.equal(labels[:, None], labels[None, :]), tf.float32), axis=1)
    differences = tf.gather(centers, labels) - descriptors
    return differences / (1.0 + counts)[:, None]


def weight_decay_loss(kernels):
    """Sum over the kernels of half their squared L2 norm: a scalar."""
    return tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
