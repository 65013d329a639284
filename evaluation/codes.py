"""Binary codes: made from real values, checked and read from files. Needs numpy alone."""

import os
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from runtime.array_file import read_array, read_arrays
from runtime.errors import UserError, one_line
from runtime.files import open_regular

MAX_VALUES = 1 << 31  # of an array in a MATLAB file, whose header can claim any number
MAX_BITS = 4096  # of codes from files; float32 products of signs are exact far beyond


class Codes(NamedTuple):
    """Gallery and queries, as codes.npz holds them.

    Attributes:
        gallery_codes: int8 [N, K], -1 or +1.
        gallery_labels: [N], integers or strings.
        query_codes: int8 [Q, K].
        query_labels: [Q].
        gallery_fingerprints, query_fingerprints: uint64 [N] and [Q], equal for equal images; None
            if the images are unknown.
        numbers: 1 if a code is a number in binary (see number_codes) and compared as a whole: the
            distance is 0 if two are equal, else K. 0 for other codes.
    """

    gallery_codes: np.ndarray
    gallery_labels: np.ndarray
    query_codes: np.ndarray
    query_labels: np.ndarray
    gallery_fingerprints: Optional[np.ndarray] = None
    query_fingerprints: Optional[np.ndarray] = None
    numbers: int = 0

    file_name = "codes.npz"

    @property
    def has_bits(self):
        """Whether they are compared bit by bit."""
        return not self.numbers

    def arrays(self):
        """The arrays of an .npz file: a dict."""
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
                  source="codes", notes=None):
    """The arrays as Codes.

    Args:
        gallery_codes, query_codes: [N, K] and [Q, K] of any numeric type, with values -1 and +1; or
            0 and 1, or False and True, which stand for -1 and +1.
        gallery_labels, query_labels: [N] and [Q], integers or strings.
        gallery_fingerprints, query_fingerprints, numbers: see Codes.
        source: name of the arrays in error messages.
        notes: list; takes a sentence if 0 and 1 were read as -1 and +1.

    Raises:
        UserError: an array is empty, holds other values, or its shape does not fit the others'.
    """
    def refuse(message):
        raise UserError(f"{source}: {message}")

    splits = []
    for name, codes, labels, fingerprints in (
            ("gallery", gallery_codes, gallery_labels, gallery_fingerprints),
            ("query", query_codes, query_labels, query_fingerprints)):
        codes, labels = np.asarray(codes), _comparable(np.asarray(labels), name, refuse)
        if codes.ndim != 2 or 0 in codes.shape:
            refuse(f"{name}_codes must have shape [images, num_bits], neither of them 0; it has "
                   f"{codes.shape}")
        if codes.shape[1] > MAX_BITS:
            refuse(f"{name}_codes has {codes.shape[1]} bits; at most {MAX_BITS} are taken")
        if labels.shape != codes.shape[:1]:
            refuse(f"{name}_codes has {len(codes)} rows but {name}_labels has shape "
                   f"{labels.shape}; give one label per row")
        if labels.dtype.kind not in "iU":
            refuse(f"{name}_labels must be integers or strings, not {labels.dtype}")
        if fingerprints is not None and np.shape(fingerprints) != labels.shape:
            refuse(f"{name}_fingerprints must have shape {labels.shape}")
        splits.append((codes, labels, fingerprints))
    (gallery, gallery_labels, _), (queries, query_labels, _) = splits
    gallery, queries = _as_signs(gallery, queries, refuse, [] if notes is None else notes)
    if gallery.shape[1] != queries.shape[1]:
        refuse(f"gallery_codes has {gallery.shape[1]} bits, query_codes {queries.shape[1]}; make "
               "both with one encoder")
    if (gallery_labels.dtype.kind == "i") != (query_labels.dtype.kind == "i"):
        refuse(f"gallery_labels holds {gallery_labels.dtype} but query_labels "
               f"{query_labels.dtype}")
    if np.shape(numbers) or numbers not in (0, 1):
        refuse("numbers must be 0 or 1")
    return Codes(gallery, gallery_labels, queries, query_labels,
                 gallery_fingerprints, query_fingerprints, int(numbers))


def _as_signs(gallery, queries, refuse, notes):
    """Gallery and queries as int8, -1 or +1; 0 and 1 in both stand for these."""
    zeros = ones_alone = True
    for name, codes in (("gallery_codes", gallery), ("query_codes", queries)):
        if codes.dtype.kind not in "biuf":
            refuse(f"{name} holds {codes.dtype}, which is not numeric")
        is_sign, is_zero = codes == 1, codes == 0
        if codes.dtype.kind in "if":
            is_sign |= codes == -1
        zeros &= bool((is_zero | (codes == 1)).all())
        ones_alone &= bool((codes == 1).all())
        if not (is_sign | is_zero).all():
            _refuse_values(name, codes, ~(is_sign | is_zero), refuse)
    if zeros and not ones_alone:
        notes.append("codes of 0 and 1 (or False and True) are taken as -1 and +1")
        return signs(gallery - np.float32(0.5)), signs(queries - np.float32(0.5))
    for name, codes in (("gallery_codes", gallery), ("query_codes", queries)):
        if (codes == 0).any():
            _refuse_values(name, codes, codes == 0, refuse)
    return gallery.astype(np.int8), queries.astype(np.int8)


def _refuse_values(name, codes, wrong, refuse):
    """Refuses codes: names a wrong value, where it is, and how to mend it."""
    row, bit = np.argwhere(wrong)[0]
    count = wrong.sum()
    found = (f"{name} holds {codes[row, bit]} at row {row}, bit {bit}"
             + f", the first of {count} such values" * (count > 1))
    if codes.dtype == np.uint8 and codes.max() > 1:
        refuse(f"{found}: these look like bits packed into bytes; unpack them with codes = "
               "np.unpackbits(codes, axis=1)[:, :num_bits]")
    if codes.dtype.kind == "f" and np.isnan(codes).any():
        refuse(f"{found}: drop such images, from the labels as well, with keep = "
               "~np.isnan(codes).any(axis=1); codes, labels = codes[keep], labels[keep]")
    refuse(f"{found}: codes are -1 or +1 (or 0 and 1 throughout); take the signs with codes = "
           "np.where(codes >= 0, 1, -1)")


def _comparable(labels, name, refuse):
    """Labels as int64 or Unicode strings; other types do not compare as expected."""
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            refuse(f"{name}_labels holds bytes that are not UTF-8")
    if labels.dtype.kind in "iu":
        if labels.size and labels.dtype.kind == "u" and labels.max() > np.iinfo(np.int64).max:
            refuse(f"{name}_labels holds whole numbers above 2^63 - 1")
        return labels.astype(np.int64, copy=False)
    return labels


def distinct(codes):
    """Distinct rows of codes [N, K], how often each occurs (float64), each row's index among them.
    """
    packed = np.ascontiguousarray(np.packbits(codes > 0, axis=1))  # MATLAB's arrays go by columns
    keys = packed.view(f"V{packed.shape[1]}")[:, 0]
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
    """How many bits of codes (int8 [N, K]) carry information.

    Returns:
        (varying, independent): number of bits that are not constant, and the rank of their
        correlation matrix, to which a linear combination of other bits (a copy, a complement) does
        not add.
    """
    correlation = bit_correlation(codes)
    varying = int(np.count_nonzero(np.diag(correlation)))
    return varying, int(np.linalg.matrix_rank(correlation)) if varying else 0


def load_codes(path, notes=None):
    """Codes from an .npz or .mat file, or from a folder with one .npy file per array.

    Args:
        path: of the file or folder; its arrays are named like the fields of Codes.
        notes: see checked_codes.

    Raises:
        UserError: the file is missing, damaged or malformed.
    """
    path = Path(path)
    if os.path.isdir(path):
        arrays = {name: read_array(path / f"{name}.npy") for name in Codes._fields[:4]}
    elif path.suffix.lower() == ".mat":
        arrays = _read_mat(path)
    else:
        arrays = read_arrays(path, Codes._fields[:4], Codes._fields[4:])
    return checked_codes(source=path, notes=notes, **arrays)


def _read_mat(path):
    """The arrays of a MATLAB file: a dict. Vectors lose the second axis that MATLAB adds."""
    from scipy import io  # late: all else here needs numpy alone

    try:
        with open_regular(path) as stream:
            sizes = {name: np.prod(shape, dtype=np.float64)
                     for name, shape, _ in io.whosmat(stream)}
            missing = [name for name in Codes._fields[:4] if name not in sizes]
            if missing:
                held = one_line(", ".join(sizes) or "nothing", 200)
                raise UserError(f"{path} has no variable {missing[0]}; it needs "
                                f"{', '.join(Codes._fields[:4])}, and holds {held}")
            if max(sizes[name] for name in Codes._fields[:4]) > MAX_VALUES:
                raise UserError(f"{path} holds an array of more than {MAX_VALUES} values")
            stream.seek(0)
            found = io.loadmat(stream, variable_names=Codes._fields[:4])
    except UserError:
        raise
    except NotImplementedError:  # version 7.3 is HDF5
        raise UserError(f"{path} is a MATLAB file of version 7.3; save it with save(..., '-v7')")
    except Exception as error:  # a damaged file can raise anything in scipy
        raise UserError(f"{path} cannot be read as a MATLAB file: {one_line(error, 100)}")
    arrays = {name: found[name] for name in Codes._fields[:4]}
    for name in ("gallery_labels", "query_labels"):
        labels = arrays[name]
        if labels.ndim == 2 and 1 in labels.shape:
            labels = labels.reshape(-1)
        if labels.dtype.kind == "f" and (labels == np.rint(labels)).all():  # MATLAB's numbers
            labels = labels.astype(np.int64)
        if labels.dtype.kind == "O" and all(  # a cell array of names
                isinstance(cell, np.ndarray) and cell.dtype.kind == "U" and cell.size == 1
                for cell in labels.flat):
            labels = np.array([cell.item() for cell in labels.flat])
        if labels.dtype.kind == "U":  # a char matrix pads its rows
            labels = np.char.rstrip(labels)
        arrays[name] = labels
    return arrays
