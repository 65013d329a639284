"""Losses of single images: by a classifier, by fixed codes of the people, by learned centers.

Dimensions: B images of a batch, K bits, C people. u is an image's activation vector [K], before any
squashing and of any range; its signs are the code. y is its person.
"""

import dataclasses
import zlib

import numpy as np

from losses import Loss, classification_loss
from model import linear, variable
from runtime.settings import setting
from runtime.tensorflow import tf

MOST_DRAWS = 100  # of codes, among which those that lie farthest apart are taken


@dataclasses.dataclass(frozen=True)
class SSDH(Loss):
    """Supervised Semantics-preserving Deep Hashing (Yang, Lin, Chen, TPAMI 2018), equation 6.

    With a = sigmoid(u), a softmax classifier on a, and the mean of a over its bits:

        cross-entropy - beta * mean over images of  || a - 1/2 ||^2 / K
        + gamma * mean over images of  (mean(a) - 1/2)^2

    All weights are 1 as published. Without the last two terms it is DLBHC (Lin et al., CVPR
    workshops 2015).
    """

    title = "SSDH"
    binary_weight: float = setting(1.0, "SSDH: weight of the term that drives activations to 0 "
                                   "or 1 (DLBHC: 0)", 0)
    balance_weight: float = setting(1.0, "SSDH: weight of the term that keeps half of an image's "
                                    "bits on (DLBHC: 0)", 0)

    def terms(self, batch):
        """See Loss."""
        a = tf.sigmoid(batch.activations)
        logits = _classifier(a, batch.num_classes)
        terms = dict(classification=classification_loss(logits, batch.labels))
        if self.binary_weight:
            terms["binary"] = -self.binary_weight * tf.reduce_mean(tf.square(a - 0.5))
        if self.balance_weight:
            terms["balance"] = self.balance_weight * tf.reduce_mean(
                tf.square(tf.reduce_mean(a, axis=1) - 0.5))
        return terms, logits


@dataclasses.dataclass(frozen=True)
class GreedyHash(Loss):
    """Greedy Hash (Su, Zhang, Han, Tian, NeurIPS 2018), section 3.

    b = sign(u) goes into a softmax classifier, and its gradient is passed on to u as it is:

        cross-entropy(classifier(b)) + alpha * mean over images and bits of  |u - sign(u)|^3

    alpha is 0.1 times a factor that depends on the data set in the paper; 0.1 here.
    """

    title = "GreedyHash"
    penalty_weight: float = setting(0.1, "GreedyHash: weight alpha of the penalty", 0)

    def terms(self, batch):
        """See Loss."""
        u = batch.activations
        signs = tf.stop_gradient(tf.where(u >= 0, tf.ones_like(u), -tf.ones_like(u)))
        logits = _classifier(u + tf.stop_gradient(signs - u), batch.num_classes)
        return dict(classification=classification_loss(logits, batch.labels),
                    penalty=self.penalty_weight * tf.reduce_mean(
                        tf.pow(tf.abs(u - signs), 3))), logits


@dataclasses.dataclass(frozen=True)
class CSQ(Loss):
    """Central Similarity Quantization (Yuan et al., CVPR 2020), equations 4 to 6.

    Each person has a fixed code c in {0, 1}^K. With h = (tanh(u) + 1) / 2:

        - mean over images and bits of  c log h + (1 - c) log(1 - h)
        + lambda * mean over images of  sum over bits of  log cosh(|2 h - 1| - 1)

    Codes: rows of a Hadamard matrix and their negatives where K is a power of 2 and C at most 2 K,
    else random ones (see person_codes), as published. lambda = 0.0001 as published.
    """

    title = "CSQ"
    quantization_weight: float = setting(0.0001, "CSQ: weight lambda of the quantization term", 0)

    def terms(self, batch):
        """See Loss."""
        u = batch.activations
        codes = person_codes(batch.num_classes, int(u.shape[1]), batch.seed)
        centers = tf.gather(tf.constant((codes + 1) / 2, tf.float32), batch.labels)
        # sigmoid(2 u) = (tanh(u) + 1) / 2
        central = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(
            labels=centers, logits=2 * u))
        gap = tf.abs(tf.tanh(u)) - 1
        quantization = tf.reduce_mean(tf.reduce_sum(tf.log(tf.cosh(gap)), axis=1))
        return (dict(central_similarity=central,
                     quantization=self.quantization_weight * quantization),
                tf.matmul(tf.tanh(u), tf.constant(codes.T, tf.float32)))


@dataclasses.dataclass(frozen=True)
class DPN(Loss):
    """Deep Polarized Network (Fan, Ng, Ju, Zhang, Chan, IJCAI 2020), equation 2.

    Each person has a fixed random code t in {-1, +1}^K:

        mean over images of  sum over bits of  max(m - u t, 0)

    m = 1 as published.
    """

    title = "DPN"
    margin: float = setting(1.0, "DPN: margin m of each bit", 0)

    def terms(self, batch):
        """See Loss."""
        u = batch.activations
        codes = tf.constant(person_codes(batch.num_classes, int(u.shape[1]), batch.seed),
                            tf.float32)
        polarization = tf.nn.relu(self.margin - u * tf.gather(codes, batch.labels))
        return (dict(polarization=tf.reduce_mean(tf.reduce_sum(polarization, axis=1))),
                tf.matmul(u, codes, transpose_b=True))


@dataclasses.dataclass(frozen=True)
class OrthoHash(Loss):
    """OrthoHash (Hoe et al., NeurIPS 2021), equations 5 and 7.

    Each person has a fixed random code o in {-1, +1}^K. With cos_c = u . o_c / (|u| |o_c|):

        cross-entropy of  s (cos_c - m [c = y])

    m = 0.2. Left open: the scale; here s = sqrt(2) log(C - 1), that of AdaCos (at least 4).
    """

    title = "OrthoHash"
    hash_layer = "linear_batch_norm"
    margin: float = setting(0.2, "OrthoHash: margin m of the cosine", 0, 2)

    def terms(self, batch):
        """See Loss."""
        codes = person_codes(batch.num_classes, int(batch.activations.shape[1]), batch.seed)
        directions = tf.constant(codes.T / codes.shape[1] ** 0.5, tf.float32)
        cosines = tf.matmul(tf.nn.l2_normalize(batch.activations, axis=1), directions)  # [B, C]
        scale = max(4.0, 2 ** 0.5 * np.log(max(2, batch.num_classes - 1)))
        own = tf.one_hot(batch.labels, batch.num_classes)
        loss = classification_loss(scale * (cosines - self.margin * own), batch.labels)
        return dict(classification=loss), cosines


@dataclasses.dataclass(frozen=True)
class DCDH(Loss):
    """Deep Center-based Dual-constrained Hashing (Zhang, Zhe, Chen, Yan, Pattern Recognition 2021).

    As far as its public description goes: each person has a learnable center c in the space of
    codes, images gather around theirs, centers of two people are kept far apart in Hamming
    distance, and a regression matrix W maps each person to the codes of that person's images. With
    h = tanh(u):

        mean over images of  ||h - c_y||^2 / K
        + inter * mean over pairs of people of  max(0, c_j . c_k / K)
        + regression * mean over images of  ||h - W_y||^2 / K
        + quantization * mean over images and bits of  (|h| - 1)^2

    Chosen here: the form of each term, centers squashed by tanh as codes are, all weights, and that
    centers start at the codes of CSQ: small random ones stay together, and so do all codes.
    """

    title = "DCDH"
    inter_weight: float = setting(1.0, "DCDH: weight of the distance between centers", 0)
    regression_weight: float = setting(0.1, "DCDH: weight of the regression term", 0)
    quantization_weight: float = setting(0.1, "DCDH: weight of the quantization term", 0)

    def terms(self, batch):
        """See Loss."""
        h, (people, bits) = tf.tanh(batch.activations), (batch.num_classes,
                                                         int(batch.activations.shape[1]))
        # One-hot products instead of gathers: their gradients are dense, and add up.
        own = tf.one_hot(batch.labels, people)  # [B, C]
        apart = tf.constant_initializer(person_codes(people, bits, batch.seed))
        centers = tf.tanh(variable("centers", [people, bits], apart))
        matrix = variable("regression", [people, bits])
        likeness = tf.matmul(centers, centers, transpose_b=True) / bits  # [C, C]
        between = tf.nn.relu(likeness) * (1 - tf.eye(people))
        return dict(
            intra=tf.reduce_mean(tf.square(h - tf.matmul(own, centers))),
            inter=self.inter_weight * tf.reduce_sum(between) / max(1, people * (people - 1)),
            regression=self.regression_weight * tf.reduce_mean(
                tf.square(h - tf.matmul(own, matrix))),
            quantization=self.quantization_weight * tf.reduce_mean(tf.square(tf.abs(h) - 1)),
        ), tf.matmul(h, centers, transpose_b=True)


def _classifier(values, num_classes):
    with tf.variable_scope("classifier"):
        return linear(values, num_classes)  # [B, C]


def person_codes(num_classes, num_bits, seed):
    """A fixed code for each person: float64 [C, K] of -1 and +1.

    Rows of a Hadamard matrix and their negatives where K is a power of 2 and C at most 2 K. Else
    each bit is on with probability 1/2, and of 100 draws the one is taken whose nearest two codes
    are farthest apart.

    Args:
        num_classes: C.
        num_bits: K.
        seed: int, of the run.
    """
    if num_bits & (num_bits - 1) == 0 and num_classes <= 2 * num_bits:
        rows = np.ones((1, 1))
        while len(rows) < num_bits:
            rows = np.block([[rows, rows], [rows, -rows]])
        return np.concatenate([rows, -rows])[:num_classes]
    rng = np.random.RandomState(zlib.crc32(f"codes of people, seed {seed}".encode()))
    best, farthest = None, -1
    for _ in range(MOST_DRAWS):
        codes = rng.randint(0, 2, (num_classes, num_bits)) * 2.0 - 1
        products = codes @ codes.T - 2 * num_bits * np.eye(num_classes)
        nearest = num_bits - products.max() if num_classes > 1 else 0
        if nearest > farthest:
            best, farthest = codes, nearest
    return best
