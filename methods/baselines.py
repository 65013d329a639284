"""Pixels -> codes by a projection: LSH, PCA hashing and ITQ, what deep hashing is compared with.

All three take bit k = +1 where <image - mean, column k of a projection> >= 0, else -1. They use no
labels. Dimensions: N images, P = 3072 pixel values, K bits.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from evaluation.codes import signs
from runtime.errors import UserError

ITQ_ITERATIONS = 50  # as in Gong and Lazebnik
CHUNK = 4096  # images converted to float64 at a time


class Projection(NamedTuple):
    """A fitted baseline.

    Attributes:
        mean: float64 [P], of the training images.
        columns: float64 [P, K].
    """

    mean: np.ndarray
    columns: np.ndarray

    def encode(self, images):
        """Codes of images [N, ...] of P values each: int8 [N, K], -1 or +1."""
        return np.concatenate([signs(projected) for projected in self._projected(images)])

    def _projected(self, images):
        flat = images.reshape(len(images), -1)
        for start in range(0, len(flat), CHUNK):
            yield (flat[start:start + CHUNK] - self.mean).dot(self.columns)


def fit_lsh(images, num_bits, seed):
    """Locality-sensitive hashing by random hyperplanes through the mean (Charikar, STOC 2002).

    Bits of two images differ with probability angle / pi, the angle taken at the mean.
    """
    flat = images.reshape(len(images), -1)
    columns = np.random.RandomState(seed).standard_normal((flat.shape[1], num_bits))
    return Projection(flat.mean(axis=0, dtype=np.float64), columns)


def fit_pcah(images, num_bits, seed=None):  # noqa: ARG001  every fit takes a seed
    """PCA hashing: the signs of the K leading principal components.

    Raises:
        UserError: there are no more than K images.
    """
    flat = images.reshape(len(images), -1)
    if len(flat) <= num_bits:
        raise UserError("num_bits is %d; %d training images have fewer principal components"
                        % (num_bits, len(flat)))
    mean = flat.mean(axis=0, dtype=np.float64)
    if len(flat) <= flat.shape[1]:
        _, _, rows = np.linalg.svd(flat - mean, full_matrices=False)
        return Projection(mean, rows[:num_bits].T)
    scatter = np.zeros((flat.shape[1], flat.shape[1]))
    for start in range(0, len(flat), CHUNK):
        centered = flat[start:start + CHUNK] - mean
        scatter += centered.T.dot(centered)
    size = len(scatter)
    _, vectors = scipy.linalg.eigh(  # in ascending order
        scatter, subset_by_index=(size - num_bits, size - 1))
    return Projection(mean, vectors[:, ::-1])


def fit_itq(images, num_bits, seed):
    """Iterative quantization (Gong and Lazebnik, CVPR 2011): PCA, then a rotation.

    The rotation R lowers ||B - V R||^2, V the K principal components of the images, in turns:
    B = sign(V R) for a fixed R, then R from the singular vectors of B^T V (orthogonal Procrustes).
    The first R is random.
    """
    principal = fit_pcah(images, num_bits)
    components = np.concatenate(list(principal._projected(images)))  # V [N, K]
    rotation = np.linalg.qr(
        np.random.RandomState(seed).standard_normal((num_bits, num_bits)))[0]
    for _ in range(ITQ_ITERATIONS):
        bits = np.where(components.dot(rotation) >= 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(bits.T.dot(components))
        rotation = left.dot(right).T
    return Projection(principal.mean, principal.columns.dot(rotation))
