"""Binary codes: how they are made of real values, checked and read. Needs numpy alone."""

from typing import NamedTuple, Optional

import numpy as np

from runtime.array_file import read_arrays
from runtime.errors import UserError

MAX_BITS = 4096  # of codes from elsewhere; float32 products of signs are exact far beyond it


class Codes(NamedTuple):
    """Gallery and queries, as codes.npz holds them.

    Attributes:
        gallery_codes: int8 [N, K], -1 or +1.
        gallery_labels: [N], integers or strings.
        query_codes: int8 [Q, K].
        query_labels: [Q].
        gallery_fingerprints, query_fingerprints: uint64 [N] and [Q], equal for equal images; None
            where the images are unknown.
        numbers: 1 where a code is a number in binary (see number_codes), which is compared as a
            whole: the distance of two is 0 if they are equal, else K. 0 of other codes.
    """

    gallery_codes: np.ndarray
    gallery_labels: np.ndarray
    query_codes: np.ndarray
    query_labels: np.ndarray
    gallery_fingerprints: Optional[np.ndarray] = None
    query_fingerprints: Optional[np.ndarray] = None
    numbers: int = 0

    def arrays(self):
        """What an .npz file holds of it: a dict of arrays."""
        return {name: array for name, array in self._asdict().items()
                if array is not None and (name != "numbers" or array)}


def signs(values):
    """The codes of real values: int8 of the same shape, +1 where a value is >= 0, else -1."""
    return (values >= 0).astype(np.int8) * 2 - 1


def number_codes(numbers, count):
    """Numbers 0..count-1 in binary, the lowest bit first: int [n] -> int8 [n, ceil(log2 count)]."""
    num_bits = max(int(count - 1).bit_length(), 1)
    return signs((np.asarray(numbers)[:, None] >> np.arange(num_bits) & 1) - 0.5)


def checked_codes(gallery_codes, gallery_labels, query_codes, query_labels,
                  gallery_fingerprints=None, query_fingerprints=None, numbers=0,
                  source="codes"):
    """The arrays as Codes.

    Args:
        gallery_codes, query_codes: [N, K] and [Q, K], of values -1 and +1, any numeric type.
        gallery_labels, query_labels: [N] and [Q], integers or strings.
        gallery_fingerprints, query_fingerprints, numbers: see Codes.
        source: what to call the arrays in an error message.

    Raises:
        UserError: an array is empty, holds other values, or its shape does not fit the others'.
    """
    def refuse(message, *values):
        raise UserError("%s: %s" % (source, message % values))

    splits = []
    for name, codes, labels, fingerprints in (
            ("gallery", gallery_codes, gallery_labels, gallery_fingerprints),
            ("query", query_codes, query_labels, query_fingerprints)):
        codes, labels = np.asarray(codes), _comparable(np.asarray(labels), name, refuse)
        if codes.ndim != 2 or 0 in codes.shape:
            refuse("%s_codes must have shape [images, num_bits], neither of them 0; it has %s",
                   name, codes.shape)
        if codes.shape[1] > MAX_BITS:
            refuse("%s_codes has %d bits; at most %d are taken", name, codes.shape[1], MAX_BITS)
        if codes.dtype.kind not in "iuf" or not np.all(np.abs(codes) == 1):
            refuse("%s_codes must be -1 or +1 everywhere", name)
        if labels.shape != codes.shape[:1]:
            refuse("%s_codes has %d rows but %s_labels has shape %s",
                   name, len(codes), name, labels.shape)
        if labels.dtype.kind not in "iU":
            refuse("%s_labels must be integers or strings, not %s", name, labels.dtype)
        if fingerprints is not None and np.shape(fingerprints) != labels.shape:
            refuse("%s_fingerprints must have shape %s", name, labels.shape)
        splits.append((codes.astype(np.int8), labels, fingerprints))
    (gallery, gallery_labels, _), (queries, query_labels, _) = splits
    if gallery.shape[1] != queries.shape[1]:
        refuse("gallery_codes has %d bits, query_codes %d", gallery.shape[1], queries.shape[1])
    if (gallery_labels.dtype.kind == "i") != (query_labels.dtype.kind == "i"):
        refuse("gallery_labels holds %s but query_labels %s",
               gallery_labels.dtype, query_labels.dtype)
    if np.shape(numbers) or numbers not in (0, 1):
        refuse("numbers must be 0 or 1")
    return Codes(gallery, gallery_labels, queries, query_labels,
                 gallery_fingerprints, query_fingerprints, int(numbers))


def _comparable(labels, name, refuse):
    """Labels as int64 or as Unicode: other types compare as something else than they are."""
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            refuse("%s_labels holds bytes that are no UTF-8", name)
    if labels.dtype.kind in "iu":
        if labels.size and labels.dtype.kind == "u" and labels.max() > np.iinfo(np.int64).max:
            refuse("%s_labels holds whole numbers above 2^63 - 1", name)
        return labels.astype(np.int64, copy=False)
    return labels


def distinct(codes):
    """Distinct rows of codes [N, K], how often each occurs (float64), each row's index among them.
    """
    packed = np.packbits(codes > 0, axis=1)
    keys = packed.view("V%d" % packed.shape[1])[:, 0]
    _, first, origin, counts = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True)
    return codes[first], counts.astype(np.float64), origin.reshape(-1)


def bit_correlation(codes):
    """Correlation between bits: int8 [N, K] -> float64 [K, K]; 0 for a constant bit."""
    bits = codes.astype(np.float32)  # sums of up to 2^24 signs are exact
    mean = bits.sum(axis=0).astype(np.float64) / len(bits)
    covariance = bits.T.dot(bits).astype(np.float64) / len(bits) - np.outer(mean, mean)
    deviations = np.sqrt(np.diag(covariance))
    scale = np.where(deviations > 0, deviations, np.inf)
    return covariance / scale[:, None] / scale


def effective_bits(codes):
    """How many bits of codes (int8 [N, K]) carry anything.

    Returns:
        (varying, independent): bits that are not constant, and the rank of their correlation. The
        rank counts a bit out that is a linear combination of others (a copy, a complement).
    """
    correlation = bit_correlation(codes)
    varying = int(np.count_nonzero(np.diag(correlation)))
    return varying, int(np.linalg.matrix_rank(correlation)) if varying else 0


def load_codes(path):
    """Codes from an .npz file. Raises UserError if it is missing, damaged or malformed."""
    return checked_codes(source=path, **read_arrays(path, Codes._fields[:4], Codes._fields[4:]))
