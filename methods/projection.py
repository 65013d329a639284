"""Codes by a projection that is fitted without labels: LSH, PCA hashing and ITQ.

Deep hashing is compared with these. Bit k = +1 where <input - mean, column k of a projection> >= 0,
else -1. Dimensions: N images, P values of each (3072 pixels, or an embedding), K bits.
"""

import time
from typing import NamedTuple

import numpy as np
import scipy.linalg

from evaluation.codes import signs
from evaluation.floats import Floats
from methods.method import Encoded, Method, codes_of, run_metadata
from runtime.array_file import read_arrays
from runtime.errors import UserError

ITQ_ITERATIONS = 50  # as in Gong and Lazebnik
CHUNK = 4096  # images converted to float64 at a time


class Projection(NamedTuple):
    """A fitted projection.

    Attributes:
        mean: float64 [P], of the training images.
        columns: float64 [P, K].
    """

    mean: np.ndarray
    columns: np.ndarray

    @property
    def num_parameters(self):
        """Values that were fitted."""
        return self.columns.size + self.mean.size

    def encode(self, inputs):
        """Codes of inputs [N, ...] of P values each: int8 [N, K], -1 or +1."""
        return np.concatenate([signs(projected) for projected in self._parts(inputs)])

    def project(self, inputs):
        """What is binarised to codes: float64 [N, K]."""
        return np.concatenate(list(self._parts(inputs)))

    def _parts(self, inputs):
        """Yields float64 [n, K] for a chunk of n inputs after the other."""
        flat = inputs.reshape(len(inputs), -1)
        for start in range(0, len(flat), CHUNK):
            yield (flat[start:start + CHUNK] - self.mean).dot(self.columns)


def check_count(fit, count, num_bits):
    """Raises UserError if a fit cannot have so many bits of so many training images."""
    if fit is not fit_lsh and count <= num_bits:
        raise UserError(f"num_bits is {num_bits}; {count} training images allow at most "
                        f"{count - 1}: set num_bits, or add photographs")


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
    check_count(fit_pcah, len(flat), num_bits)
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
    components = principal.project(images)  # V [N, K]
    rotation = np.linalg.qr(
        np.random.RandomState(seed).standard_normal((num_bits, num_bits)))[0]
    for _ in range(ITQ_ITERATIONS):
        bits = np.where(components.dot(rotation) >= 0, 1.0, -1.0)
        # numpy's divide and conquer is slower at this size: its threads wait for each other, on
        # busy cores for seconds in all.
        left, _, right = scipy.linalg.svd(bits.T.dot(components), lapack_driver="gesvd")
        rotation = left.dot(right).T
    return Projection(principal.mean, principal.columns.dot(rotation))


def fit_to_gallery(embeddings, num_bits):
    """A Projection for faces without names: ITQ, and random hyperplanes where ITQ has too few.

    ITQ needs more faces than bits, and from there on is better (docs/evaluation.md).

    Args:
        embeddings: float [n, D], n >= 1, num_bits <= D.
    """
    fit = fit_itq if len(embeddings) > num_bits else fit_lsh
    return fit(embeddings, num_bits, 0)


def read_projection(folder, size, num_bits):
    """The Projection in an encoder's folder, of so many values of a face to so many bits.

    Raises:
        UserError: missing, damaged, or of another size.
    """
    projection = Projection(**read_arrays(folder.path / "projection.npz", Projection._fields))
    if projection.columns.shape != (size, num_bits) or projection.mean.shape != (size,):
        raise UserError(f"{folder}/projection.npz does not match encoder.json; export again")
    return projection


class ProjectionMethod(Method):
    """Fits a projection of pixels or embeddings.

    Args:
        title, inputs: see Method.
        fit: function of inputs [N, ...], num_bits and seed that returns a Projection, as fit_itq.
    """

    def __init__(self, title, fit, inputs="images"):
        super().__init__(title, inputs=inputs)
        self.fit = fit

    def start_up(self, run):
        check_count(self.fit, len(run.train.labels), run.config.num_bits)

    def make_codes(self, run, evaluate, workers=None):
        run.folder.begin(None, f"CPU (numpy {np.__version__})", run.digest, 1)
        encoded = self.encode(run)
        return encoded, evaluate(encoded)

    def encode(self, run):
        """Fits the projection, which takes no longer than reading the data, and encodes."""
        started = time.perf_counter()
        projection = self._fitted(run)
        fitted = time.perf_counter()
        codes, unseen_codes = [pair and codes_of(*pair, encode=lambda split: projection.encode(
            self.given(split))) for pair in ((run.train, run.test), run.unseen)]
        return Encoded(codes, unseen_codes, run_metadata(
            run, parameters=projection.num_parameters,
            training_seconds=round(fitted - started, 3),
            encoding_seconds=round(time.perf_counter() - fitted, 3)))

    def export(self, run, path):
        return self._fitted(run), {}

    def open_encoder(self, folder, config, metadata):
        size = int(np.prod(self.input_shape))
        projection = read_projection(folder, size, config.num_bits)
        return lambda inputs: (projection.project(inputs), None), lambda: None

    def _fitted(self, run):
        return self.fit(self.given(run.train), run.config.num_bits, run.config.seed)


class EmbeddingMethod(Method):
    """No codes: compares the embeddings of faces as they are."""

    is_searchable = False

    def __init__(self, title):
        super().__init__(title, inputs="embeddings")

    make_codes = ProjectionMethod.make_codes

    def encode(self, run):
        vectors, unseen_vectors = [pair and codes_of(*pair, self.given, Floats)
                                   for pair in ((run.train, run.test), run.unseen)]
        return Encoded(vectors, unseen_vectors,
                       run_metadata(run, training_seconds=0.0, encoding_seconds=0.0))
