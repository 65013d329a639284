"""Pickled pairs of numeric arrays, read without doing anything that the file asks for.

A pickle is a program for a stack machine, which can name any function and have it called. Python's
own unpickler can be told which functions to admit, but not what to do with them: with nothing but
numpy's array types it allocates any size, takes raw bytes for pointers, and builds lists that
hold themselves. runtime.pickle_interpreter therefore interprets the few opcodes that a
pair of arrays needs, and nothing else exists there to be reached:

- What a stream may name are the stand-ins of runtime.array_stand_ins: no callable of numpy or
  Python is ever on the stack or in the memo.
- Work is bounded by the file. An opcode takes constant time, or time proportional to the bytes or
  the part of the stack that it consumes; what functions make of texts read before may not exceed
  the file altogether. Nothing is allocated by a size that is only claimed. At most MAX_OPERATIONS
  opcodes are run, which bounds the stack and the memo, and whole numbers have at most 8 bytes.
- Nothing recurses. The interpreter is a loop; of the result two levels of lists are looked
  at, and these may hold no more numbers than the file has bytes, however often they share rows.
"""

import os
import struct

import numpy as np

from runtime.array_stand_ins import Array, Refused
from runtime.errors import UserError, one_line
from runtime.files import open_regular
from runtime.pickle_interpreter import Interpreter


def read_array_pair(path, row_length):
    """Reads a file that holds one pickled pair of rows and their labels.

    Args:
        path: file written by Python 2 or 3 and numpy 1 or 2, any protocol from 0 to 5. Each of the
            two is an array, or a list or tuple of numbers or of equally long rows.
        row_length: values that each row must have.

    Returns:
        rows: [n, row_length] of an integer or floating type; it may be read-only.
        labels: [n] of an integer or floating type, whole numbers.

    Raises:
        UserError: unreadable, truncated, hostile, not such a pair.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            pair = _read_pair(stream, size)
        return _check_shapes(*[_as_array(part, size) for part in pair], row_length)
    except OSError as error:
        reason = "cannot be read (%s)" % (error.strerror or error)
    except Refused as error:
        reason = "%s" % error
    except MemoryError:
        reason = "does not fit into memory"
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        # An opcode that finds something else on the stack than any pickler puts there.
        reason = ("not a whole pickle file (%s: %s); download or prepare it again"
                  % (type(error).__name__, error))
    raise UserError("%s: %s" % (path, one_line(reason, 200)))


def _read_pair(stream, size):
    """The two values of the pickle that fills a file of `size` bytes."""
    pair = Interpreter(stream, size).run()
    if type(pair) not in (tuple, list) or len(pair) != 2:
        raise Refused("holds no pair (images, labels)")
    rest = size - stream.tell()
    if rest:
        raise Refused("%d bytes follow the pickled pair%s; a file holds one pair"
                      % (rest, " (a second pickle?)" if rest > 1 else ""))
    return pair


def _as_array(part, size):
    """The array of an Array, of a list of numbers or of a list of rows."""
    if type(part) is Array:
        if part.value is None:
            raise Refused("an array in it has no content")
        return part.value
    if type(part) not in (list, tuple):
        raise Refused("holds no pair (images, labels)")
    rows = [row.value if type(row) is Array else row for row in part]
    lengths = {_row_length(row) for row in rows} or {None}
    if len(lengths) > 1:
        raise Refused("its rows are not equally long")
    length = lengths.pop()
    if len(rows) * (length or 1) > size:
        raise Refused("its lists hold more numbers than the file has bytes (a hostile file?)")
    for row in [rows] if length is None else rows:
        if type(row) is not np.ndarray and not all(
                type(value) in (int, float, bool) for value in row):
            raise Refused("its lists do not hold plain numbers")
    return np.array(rows)


def _row_length(row):
    """Numbers in a row; None for what is no row."""
    if type(row) in (list, tuple) or type(row) is np.ndarray and row.ndim == 1:
        return len(row)
    return None


def _check_shapes(rows, labels, row_length):
    """The pair, labels as [n] also if they are a column."""
    if rows.dtype.kind not in "uif" or rows.ndim != 2 or rows.shape[1] != row_length:
        raise Refused("images must be numbers of shape (n, %d), not %s of shape %s"
                      % (row_length, rows.dtype, rows.shape))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(rows):
        raise Refused("%d images but labels of shape %s" % (len(rows), labels.shape))
    if labels.dtype.kind not in "uif" or not np.all(np.isfinite(labels)) or np.any(
            labels != np.floor(labels)):
        raise Refused("labels must be whole numbers, not %s" % labels.dtype)
    return rows, labels
