"""Tensors -> scalars: the loss terms, the total, and the centers' own update.

Dimensions: B batch, K number of bits, D descriptor size, C identities. labels are int32 [B].
"""

from runtime.tensorflow import tf


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


def weighted_losses(network, labels, centers, kernels, config, hash_temperature=1.0):
    """All terms of the objective, weighted, and their sum.

    Args:
        network: a model.Network built for training.
        labels: int [B].
        centers: float32 [C, D], values before the move; None without a center-clustering loss.
        kernels: what weight decay acts on.
        config: anything with the loss settings of config.Config.
        hash_temperature: of the hash classifier's softmax, float or scalar.

    Returns:
        A dict of float32 scalars: "total" first, then each term that adds up to it. Terms
        whose part the network lacks, and a weight decay of 0, are left out.
    """
    terms = {}
    # The factor keeps the gradient at equal logits the same for every temperature.
    terms["hash_classification"] = hash_temperature * classification_loss(
        network.hash_logits / hash_temperature, labels)
    if network.descriptor_logits is not None:
        terms["descriptor_classification"] = (
            config.descriptor_classification_weight
            * classification_loss(network.descriptor_logits, labels))
    terms["quantization"] = config.quantization_weight * quantization_loss(
        network.hash_activations, config.quantization_target)
    if centers is not None:
        terms["center"] = config.center_weight * center_loss(network.descriptor, centers, labels)
    if config.weight_decay:
        terms["weight_decay"] = config.weight_decay * weight_decay_loss(kernels)
    return dict(total=tf.add_n(list(terms.values())), **terms)
