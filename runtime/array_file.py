"""Arrays of .npz and .npy files, read within bounds that the file's own claims cannot move.

numpy.load trusts the header of an array: it allocates what the header claims, unpacks whatever a
few compressed bytes blow up to, and evaluates the header's text. Here an array is allocated only if
its shape times the size of its type is what the archive's entry holds, and what is compressed may
unpack to MAX_UNPACKED bytes altogether. The header is matched, not evaluated.
"""

import contextlib
import io
import os
import re
import struct
import zipfile

import numpy as np

from runtime.errors import UserError, one_line
from runtime.files import regular_opener

MAX_UNPACKED = 1 << 30  # bytes; codes of 64 bits for 16 million images
MAX_HEADER = 10000  # bytes, numpy's own limit
MAX_DIMENSIONS = 8
CHUNK = 1 << 20  # bytes read at once
ENCRYPTED = 0x1  # bit of an entry's flags
HEADER = re.compile(
    rb"\{\s*'descr':\s*'(?P<type>[^']{1,20})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    rb"\s*'shape':\s*\((?P<shape>[0-9L, ]*)\),?\s*\}\s*")
ARRAY_TYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][0-9]{1,4})")


class Refused(Exception):
    """The file does not hold the arrays that are sought; the text says why."""


class _BoundedFile(io.FileIO):
    """A file that is read in pieces of a few chunks: zipfile asks for sizes that it claims."""

    def __init__(self, path):
        super().__init__(path, opener=regular_opener)

    def read(self, size=-1):
        if size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > 2 * CHUNK:
            raise Refused("its list of entries is too long or damaged")
        return super().read(max(size, 0))


def read_arrays(path, names, optional_names=()):
    """Reads arrays of numbers or strings from an .npz file.

    Args:
        path: file written by numpy.savez or numpy.savez_compressed.
        names: arrays that it must have.
        optional_names: arrays that it may have. Others in the file are not looked at.

    Returns:
        dict of arrays by name.

    Raises:
        UserError: unreadable, damaged, encrypted or oversized, or an array is missing or holds
            neither numbers nor strings.
    """
    with in_one_line(path, "not a whole .npz file"), _BoundedFile(path) as stream, \
            zipfile.ZipFile(stream) as archive:
        entries = _find_entries(archive, names, optional_names)
        _check_sizes(entries, os.fstat(stream.fileno()).st_size)
        arrays = {}
        for name, entry in entries.items():
            with archive.open(entry) as part:
                arrays[name] = _read_stream(part, entry.file_size, name)
        return arrays


def read_array(path):
    """Reads an array of numbers from an .npy file.

    Args:
        path: file written by numpy.save.

    Raises:
        UserError: unreadable, damaged, or no array of numbers or strings.
    """
    with in_one_line(path, "not a whole .npy file"), _BoundedFile(path) as stream:
        return _read_stream(stream, os.fstat(stream.fileno()).st_size, "it")


@contextlib.contextmanager
def in_one_line(path, damaged):
    """Raises a UserError that names the file in place of whatever reading it raises."""
    try:
        yield
        return
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
    except UserError:
        raise
    except Refused as error:
        reason = str(error)
    except MemoryError:
        reason = "does not fit into memory"
    except Exception as error:  # zipfile, zlib, numpy and unpickling raise nearly anything
        reason = f"{damaged} ({type(error).__name__}: {error})"
    raise UserError(f"{path}: {one_line(reason, 200)}")


def _find_entries(archive, names, optional_names):
    """The archive's entries of arrays by name, looked at before any is read."""
    present = {entry.filename: entry for entry in archive.infolist()}
    missing = [name for name in names if name + ".npy" not in present]
    if missing:
        raise Refused(f"has no {', '.join(missing)}; an .npz file with {', '.join(names)} is "
                      f"needed")
    entries = {name: present[name + ".npy"] for name in list(names) + list(optional_names)
               if name + ".npy" in present}
    for name, entry in entries.items():
        if entry.flag_bits & ENCRYPTED:
            raise Refused(f"{name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{name} is compressed in a way that numpy does not use")
    return entries


def _check_sizes(entries, file_size):
    """Raises Refused for entries that hold more than the file, or unpack to too much."""
    for name, entry in entries.items():
        if entry.compress_size > file_size or (
                entry.compress_type == zipfile.ZIP_STORED
                and entry.compress_size != entry.file_size):
            raise Refused(f"{name} claims more bytes than the file has")
    unpacked = sum(entry.file_size for entry in entries.values()
                   if entry.compress_type == zipfile.ZIP_DEFLATED)
    if unpacked > MAX_UNPACKED:
        raise Refused(f"its arrays unpack to {unpacked / 1e9:.3g} GB, above the limit of "
                      f"{MAX_UNPACKED / 1e9:.3g} GB; store them uncompressed (numpy.savez)")


def _read_stream(stream, file_size, name):
    """The array of a stream that holds `file_size` bytes."""
    dtype, shape, order, header_size = _read_header(stream, name)
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size != file_size - header_size:
        raise Refused(f"{name} claims shape ({', '.join(map(str, shape))}) of {dtype}, but the "
                      f"file holds {file_size - header_size} bytes of it")
    values = _read_values(stream, size, name)
    if dtype.kind == "b" and np.any(values > 1):
        raise Refused(f"{name} holds truth values other than 0 and 1")
    if dtype.kind == "U" and np.any(
            values.view(np.dtype("u4").newbyteorder(dtype.byteorder)) > 0x10ffff):
        raise Refused(f"{name} holds letters that do not exist")
    return values.view(dtype).reshape(shape, order=order)


def _read_header(stream, name):
    """The dtype, shape, order ("C" or "F") and length in bytes of an array's header."""
    start = stream.read(8)
    layout = {b"\x01\x00": "<H", b"\x02\x00": "<I", b"\x03\x00": "<I"}.get(start[6:])
    if start[:6] != b"\x93NUMPY" or layout is None:
        raise Refused(f"{name} is not an array of numpy")
    length, = struct.unpack(layout, stream.read(struct.calcsize(layout)))
    header = HEADER.fullmatch(stream.read(length)) if length <= MAX_HEADER else None
    if header is None:
        raise Refused(f"{name} has a header that is not one of a plain array")
    code = header.group("type").decode("latin1")
    if not ARRAY_TYPE.fullmatch(code):
        raise Refused(f"{name} holds {code!r}, neither numbers nor strings")
    lengths = header.group("shape").replace(b"L", b"").replace(b",", b" ").split()
    if len(lengths) > MAX_DIMENSIONS or any(len(digits) > 18 for digits in lengths):
        raise Refused(f"{name} has no valid shape")
    order = "F" if header.group("fortran") == b"True" else "C"
    return (np.dtype(code), tuple(int(digits) for digits in lengths), order,
            8 + struct.calcsize(layout) + length)


def _read_values(stream, size, name):
    """The next `size` bytes, which end the entry: uint8 [size]."""
    values = np.empty(size, np.uint8)
    view = memoryview(values)
    done = 0
    while done < size:
        count = stream.readinto(view[done:done + CHUNK])
        if not count:
            raise Refused(f"{name} ends in the middle")
        done += count
    if stream.read(1):  # reading to the end also compares the checksum
        raise Refused(f"{name} is longer than its header says")
    return values

