"""Losses that compare the images of a batch with each other.

Dimensions: B images of a batch, K bits. u is an image's activation vector [K], before any squashing
and of any range; its signs are the code. s_ij is 1 where images i and j show one person, else 0.
Pairs are those of two different images of the batch (some papers pair the batch with all training
images); sums over pairs become means, so that a weight has one effect at every batch size.
"""

import dataclasses

from losses import Loss
from runtime.settings import setting
from runtime.tensorflow import tf


@dataclasses.dataclass(frozen=True)
class DSH(Loss):
    """Deep Supervised Hashing (Liu et al., CVPR 2016), equation 3.

    With d_ij = ||u_i - u_j||^2 and m the margin:

        mean over pairs of  s_ij d_ij / 2 + (1 - s_ij) max(m - d_ij, 0) / 2
        + alpha * mean over images of  2 || |u_i| - 1 ||_1

    (each image is in two places of each of its pairs). m = 2 K and alpha = 0.01 as published.
    """

    title = "DSH"
    compares_images = True
    margin: float = setting(2.0, "DSH: squared distance up to which unlike pairs are pushed "
                            "apart, in multiples of num_bits", 0)
    quantization_weight: float = setting(0.01, "DSH: weight alpha of the quantization term", 0)

    def terms(self, batch):
        """See Loss."""
        u, similar = batch.activations, batch.similar()
        distances = squared_distances(u)
        margin = self.margin * int(u.shape[1])
        pairs = (similar * distances + (1 - similar) * tf.nn.relu(margin - distances)) / 2
        quantization = 2 * tf.reduce_mean(tf.reduce_sum(tf.abs(tf.abs(u) - 1), axis=1))
        return dict(pairs=mean_over_pairs(pairs),
                    quantization=self.quantization_weight * quantization), None


@dataclasses.dataclass(frozen=True)
class DPSH(Loss):
    """Deep Pairwise-Supervised Hashing (Li, Wang, Kang, IJCAI 2016), equation 4.

    With theta_ij = u_i . u_j / 2:

        mean over pairs of  log(1 + exp(theta_ij)) - s_ij theta_ij
        + eta * mean over images and bits of  (sign(u) - u)^2

    The paper uses sums. With some thousand training images paired with each image, its eta of 10
    corresponds to about 0.1 with the means used here.
    """

    title = "DPSH"
    compares_images = True
    quantization_weight: float = setting(0.1, "DPSH: weight eta of the quantization term", 0)

    def terms(self, batch):
        """See Loss."""
        u = batch.activations
        theta = tf.matmul(u, u, transpose_b=True) / 2  # [B, B]
        pairs = tf.nn.sigmoid_cross_entropy_with_logits(labels=batch.similar(), logits=theta)
        return dict(pairs=mean_over_pairs(pairs),
                    quantization=self.quantization_weight * sign_loss(u)), None


@dataclasses.dataclass(frozen=True)
class HashNet(Loss):
    """HashNet (Cao, Long, Wang, Yu, ICCV 2017), equations 4 and 5.

    With h = tanh(beta u) and theta_ij = alpha h_i . h_j / K:

        sum over pairs of  w_ij (log(1 + exp(theta_ij)) - s_ij theta_ij)  /  number of pairs

    w_ij balances the two kinds of pairs: pairs / similar pairs where s_ij is 1, pairs / unlike
    pairs elsewhere, counted in the batch. The continuation lets beta grow, so that tanh becomes the
    sign and no quantization term is needed. Left open by the paper: how beta grows; here linearly
    from 1, over the whole training.
    """

    title = "HashNet"
    compares_images = True
    alpha: float = setting(10.0, "HashNet: alpha; the pairs' sigmoid has steepness alpha / "
                           "num_bits", 0)
    final_beta: float = setting(10.0, "HashNet: beta at the end of training", 1)

    def terms(self, batch):
        """See Loss."""
        u, similar = batch.activations, batch.similar()
        h = tf.tanh((1 + (self.final_beta - 1) * batch.progress) * u)
        theta = self.alpha / int(u.shape[1]) * tf.matmul(h, h, transpose_b=True)
        pairs = tf.nn.sigmoid_cross_entropy_with_logits(labels=similar, logits=theta)
        share = mean_over_pairs(similar)  # of similar pairs; a batch may have none
        weights = similar / tf.maximum(share, 1e-6) + (1 - similar) / tf.maximum(1 - share, 1e-6)
        return dict(pairs=mean_over_pairs(weights * pairs)), None


@dataclasses.dataclass(frozen=True)
class DTSH(Loss):
    """Deep Supervised Hashing with Triplet Labels (Wang, Shi, Kitani, ACCV 2016), equation 6.

    For all triplets of a batch (an image q, another image p of the same person, an image n of
    another) with theta_ij = u_i . u_j / 2 and d = theta_qp - theta_qn - alpha:

        mean over triplets of  log(1 + exp(d)) - d  + lambda * mean over images and bits of
        (sign(u) - u)^2

    alpha is K / 2 as published; lambda is 1 there, beside sums. A batch without triplets has the
    quantization term alone.
    """

    title = "DTSH"
    compares_images = True
    margin: float = setting(0.5, "DTSH: margin alpha, in multiples of num_bits", 0)
    quantization_weight: float = setting(1.0, "DTSH: weight lambda of the quantization term", 0)

    def terms(self, batch):
        """See Loss."""
        u, similar = batch.activations, batch.similar()
        theta = tf.matmul(u, u, transpose_b=True) / 2
        positive = similar - tf.eye(tf.shape(u)[0])  # an image is no partner of its own
        triplets = positive[:, :, None] * (1 - similar)[:, None, :]  # [q, p, n]
        d = theta[:, :, None] - theta[:, None, :] - self.margin * int(u.shape[1])
        likelihood = tf.reduce_sum(triplets * tf.nn.softplus(-d)) / tf.maximum(
            tf.reduce_sum(triplets), 1)
        return dict(triplets=likelihood,
                    quantization=self.quantization_weight * sign_loss(u)), None


def squared_distances(u):
    """float32 [B, K] -> [B, B]: squared Euclidean distance of each pair."""
    norms = tf.reduce_sum(tf.square(u), axis=1)
    return tf.nn.relu(norms[:, None] + norms[None, :] - 2 * tf.matmul(u, u, transpose_b=True))


def mean_over_pairs(values):
    """Mean of float32 [B, B] off the diagonal; 0 for one image."""
    count = tf.cast(tf.shape(values)[0], tf.float32)
    off_diagonal = tf.reduce_sum(values) - tf.reduce_sum(tf.matrix_diag_part(values))
    return off_diagonal / tf.maximum(count * (count - 1), 1)


def sign_loss(u):
    """Mean squared distance of activations from their signs: float32 [B, K] -> scalar."""
    return tf.reduce_mean(tf.square(tf.stop_gradient(tf.sign(u)) - u))
