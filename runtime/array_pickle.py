"""Pickled pairs of numeric arrays, read without doing anything that the file asks for.

A pickle is a program for a stack machine, which can name any function and have it called. The
standard library's unpickler in Python, pickle._Unpickler, runs it here with three changes:

- It knows no opcodes but those that a pair of arrays needs: no objects, dicts, sets, persistent
  ids or extension codes.
- What a stream names are stand-ins of this module, which record a shape, a numeric type and bytes.
  No callable of numpy or Python is ever on the stack or in the memo. An array is made by
  np.frombuffer, once its shape times the size of its type equals the bytes that are there.
- Work is bounded by the file. An opcode takes constant time, or time proportional to the bytes or
  the part of the stack that it consumes; what functions make of texts read before may not exceed
  the file altogether. Nothing is allocated by a size that is only claimed. At most MAX_OPERATIONS
  opcodes are run, which bounds the stack and the memo. Nothing recurses: of the result two levels
  of lists are looked at, and these may hold no more numbers than the file has bytes.
"""

import os
import pickle
import re
import types

import numpy as np

from runtime.array_file import MAX_DIMENSIONS, Refused, in_one_line
from runtime.errors import one_line
from runtime.files import open_regular

# 67,177 images as separate arrays of one row each take 1.8 million.
MAX_OPERATIONS = 1 << 22
MAX_LINE = 200  # bytes of a number or a name in protocol 0
NUMERIC_TYPE = re.compile(r"b1|[iu][1248]|f[248]")
BYTEARRAY8 = b"\x96"  # of protocol 5, which Python 3.7 does not know
TEXT_LINES = pickle.STRING + pickle.UNICODE  # opcodes whose line may be as long as the file
# Opcodes of pickle._Unpickler that are safe as they are; _ArrayUnpickler changes others.
OPCODES = (b"NIJKMGLF" + b"\x88\x89\x8a" + b"STUVXBC" + b"\x8c\x8d\x8e"  # values
           + b"()]lt" + b"\x85\x86\x87" + b"ae"  # tuples and lists; only lists can be added to
           + b"pqrghj" + b"\x94"  # the memo
           + b"c" + b"\x93" + b".")  # names, and the end


def read_array_pair(path, row_length):
    """Reads a file that holds one pickled pair of rows and their labels.

    Args:
        path: file written by Python 2 or 3 and numpy 1 or 2, any protocol from 0 to 5. Each of the
            two is an array, or a list or tuple of numbers or of equally long rows.
        row_length: values that each row must have.

    Returns:
        rows: [n, ...] of an integer or floating type, `row_length` values in each row, in the
            shape that the file has; it may be read-only.
        labels: [n] of an integer or floating type, whole numbers.

    Raises:
        UserError: unreadable, truncated, hostile, not such a pair.
    """
    with in_one_line(path, "not a whole pickle file; download or prepare it again"):
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            pair = _read_pair(stream, size)
        return _check_shapes(*[_as_array(part, size) for part in pair], row_length)


def _read_pair(stream, size):
    """The two values of the pickle that fills a file of `size` bytes."""
    pair = _ArrayUnpickler(stream, size).load()
    if type(pair) not in (tuple, list) or len(pair) != 2:
        raise Refused("holds no pair (images, labels)")
    rest = size - stream.tell()
    if rest:
        raise Refused(f"{rest} bytes follow the pickled pair"
                      f"{' (a second pickle?)' if rest > 1 else ''}; a file holds one pair")
    return pair


def _as_array(part, size):
    """The array of an _Array, of a list of numbers or of a list of rows."""
    if type(part) is _Array:
        if part.value is None:
            raise Refused("an array in it has no content")
        return part.value
    if type(part) not in (list, tuple):
        raise Refused("holds no pair (images, labels)")
    rows = [row.value if type(row) is _Array else row for row in part]
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
    """Numbers in a row; None if it is not a row."""
    if type(row) in (list, tuple) or type(row) is np.ndarray and row.ndim == 1:
        return len(row)
    return None


def _check_shapes(rows, labels, row_length):
    """The pair, labels as [n] also if they are a column."""
    if (rows.dtype.kind not in "uif" or rows.ndim < 2
            or np.prod(rows.shape[1:], dtype=float) != row_length):
        raise Refused(f"images must be numbers of shape (n, {row_length}), not {rows.dtype} of "
                      f"shape {rows.shape}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(rows):
        raise Refused(f"{len(rows)} images but labels of shape {labels.shape}")
    if labels.dtype.kind not in "uif" or not np.all(np.isfinite(labels)) or np.any(
            labels != np.floor(labels)):
        raise Refused(f"labels must be whole numbers, not {labels.dtype}")
    return rows, labels


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's unpickler, of arrays alone; it is its own table of opcodes and file.

    Args:
        stream: the file, open for reading.
        size: its length in bytes.
    """

    def __init__(self, stream, size):
        self.stream, self.size, self.operations, self.made, self.opcode = stream, size, 0, 0, 0
        super().__init__(types.SimpleNamespace(read=self.read_exactly, readline=self.read_line),
                         encoding="bytes")
        self.dispatch = self

    def __getitem__(self, opcode):
        """The function that carries out an opcode."""
        self.opcode, self.operations = opcode, self.operations + 1
        if self.operations > MAX_OPERATIONS:
            raise Refused(f"holds more than {MAX_OPERATIONS} pickled values; store images and "
                          f"labels as arrays")
        if opcode not in _FUNCTIONS_OF_OPCODES:
            raise Refused(f"byte 0x{opcode:02x} at {self.stream.tell() - 1} is not part of a "
                          f"pickled pair of arrays (damaged, hostile or another kind of file)")
        return _FUNCTIONS_OF_OPCODES[opcode]

    def read_exactly(self, length):
        """The next bytes; a length that the file cannot have is refused before it is allocated."""
        data = self.stream.read(length) if length <= self.size else b""
        if len(data) != length:
            raise Refused("not a whole pickle file, it ends in the middle; download or prepare it "
                          "again" if self.size else "the file is empty")
        return data

    def read_line(self):
        """The next line with its end: a long one only of text, for numbers take quadratic time."""
        line = self.stream.readline(-1 if self.opcode in TEXT_LINES else MAX_LINE)
        if not line.endswith(b"\n"):
            raise Refused("a line in it has no end")
        return line

    def find_class(self, module, name):
        """What stands for the function or type of a module's name and its own."""
        name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if name not in STAND_INS:
            raise Refused(f"it asks for {one_line(name[:80])}, which arrays have no need of (a "
                          f"hostile file?); it was not loaded")
        return STAND_INS[name]

    def call(self):
        """REDUCE, of a stand-in and a tuple alone: others are unpacked first, however long."""
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not types.FunctionType or type(args) is not tuple:
            raise Refused("it calls what is not a function (a hostile file?)")
        result = function(*args)
        self.made += len(result) if type(result) is bytes else 0
        if self.made > self.size:
            raise Refused("it uses one text again and again (a hostile file?)")
        self.append(result)

    def set_state(self):
        """BUILD, of what has a state alone: it would set attributes of anything."""
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Array, _Type) or type(state) is not tuple:
            raise Refused("it sets the state of what has none (a hostile file?)")
        self.stack[-1].set_state(*state)


_FUNCTIONS_OF_OPCODES = {code: pickle._Unpickler.dispatch[code] for code in OPCODES}
_FUNCTIONS_OF_OPCODES.update({
    pickle.PROTO[0]: lambda machine: machine.read(1),  # Python 3.7 refuses protocol 5
    pickle.FRAME[0]: lambda machine: machine.read(8),  # a frame would be copied
    BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,  # 3.8 and later allocate what is claimed
    pickle.REDUCE[0]: _ArrayUnpickler.call,
    pickle.BUILD[0]: _ArrayUnpickler.set_state,
})


# Stand-ins


class _Type:
    """Stands for a numpy.dtype: a code such as "u1" and a byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code):
        self.code, self.order = code, None

    def set_state(self, version, order, *rest):
        """Takes over the state that numpy pickles with a type."""
        if self.order is not None or version != 3 or rest != (None, None, None, -1, -1, 0):
            raise Refused("its array does not hold plain numbers")
        self.order = _text(order)
        if self.order not in ("<", ">", "|"):
            raise Refused("a type in it has no byte order")

    def dtype(self):
        """The np.dtype; only numeric codes ever get here."""
        return np.dtype((self.order or "=") + self.code)


class _Array:
    """Stands for a numpy.ndarray; `value` is the array once its state came."""

    __slots__ = ("value",)

    def __init__(self, value=None):
        self.value = value

    def set_state(self, version, shape, kind, fortran_order, data):
        """Takes over the state that numpy pickles with an array."""
        if self.value is not None or version != 1:
            raise Refused("an array in it is not stored the way numpy stores one")
        self.value = _array(data, kind, shape, "F" if fortran_order is True else "C")


def _array(data, kind, shape, order):
    """The array of `shape` whose content is the bytes `data`, not copied."""
    if type(kind) is not _Type or type(data) is not bytes or type(shape) is not tuple:
        raise Refused("an array in it is not stored the way numpy stores one")
    if len(shape) > MAX_DIMENSIONS or not all(
            type(length) is int and length >= 0 for length in shape):
        raise Refused("an array in it has no valid shape")
    dtype, size = kind.dtype(), 1
    for length in shape:
        size *= length
    if size * dtype.itemsize != len(data):
        raise Refused(f"an array in it claims {size:.6g} values of {dtype.itemsize} bytes but "
                      f"comes with {len(data)} bytes")
    # numpy 1.16 makes no array of an empty buffer.
    values = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
    return values.reshape(shape, order=order)


def _text(value):
    """A code of a few letters, which Python 2 wrote as bytes and Python 3 as either."""
    if type(value) not in (bytes, str) or len(value) > 10:
        raise Refused("a type in it is not stored the way numpy stores one")
    return value.decode("latin1") if type(value) is bytes else value


def _ndarray(*_):
    raise Refused("it calls numpy.ndarray (a hostile file?)")


def _reconstruct(array_type, shape, _):
    """The empty array whose state comes next."""
    if array_type is not _ndarray or shape != (0,):
        raise Refused("an array in it is not built the way numpy builds one (a hostile file?)")
    return _Array()


def _frombuffer(data, kind, shape, order, axes=None):
    """Protocol 5's way to carry an array."""
    if order not in ("C", "F") or axes is not None:
        raise Refused("an array in it has no valid order")
    return _Array(_array(data, kind, shape, order))


def _dtype(code, *_):
    code = _text(code)
    if not NUMERIC_TYPE.fullmatch(code):
        raise Refused(f"it holds an array of type {code!r}, not of a boolean, integer or floating "
                      f"type")
    return _Type(code)


def _scalar(kind, data):
    """A numpy number, as Python 2.7 pickles each label of list(array)."""
    return _array(data, kind, (), "C").item()


def _encode(text, codec):
    """Python 3's way to carry bytes in protocols 0 to 2: latin1, and no other codec."""
    if _text(codec) not in ("latin1", "latin-1") or type(text) is not str:
        raise Refused("it asks for a codec, which arrays have no need of (a hostile file?)")
    return text.encode("latin1")


def _bytes():
    """Python 3's way to carry empty bytes in protocols 0 to 2."""
    return b""


STAND_INS = {
    "numpy.ndarray": _ndarray,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _bytes,
    "builtins.bytes": _bytes,
}
