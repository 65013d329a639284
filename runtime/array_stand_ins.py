"""What stands for arrays, types and functions while runtime.array_pickle reads a pickle.

A stream can name them, call them and set their state, and gets no further: they only record a
shape, a numeric type and bytes. An array is made by np.frombuffer, once its shape times the size of
its type equals the bytes that are there.
"""

import re

import numpy as np

MAX_DIMENSIONS = 8
NUMERIC_TYPE = re.compile(r"b1|[iu][1248]|f[248]")


class Refused(Exception):
    """A file is no pickle of two arrays; the text says why."""


class Function:
    """Stands for a function or type that a stream names; `apply` does what we do in its place."""

    __slots__ = ("name", "apply")

    def __init__(self, name, apply):
        self.name, self.apply = name, apply


class Type:
    """Stands for a numpy.dtype: a code such as "u1" and a byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code):
        self.code, self.order = code, None

    def build(self, state):
        """Takes over the state that numpy pickles with a type."""
        if self.order is not None or len(state) != 8 or state[0] != 3:
            raise Refused("a type in it is not stored the way numpy stores one")
        if any(value is not None for value in state[2:5]) or state[5:] != (-1, -1, 0):
            raise Refused("its array does not hold plain numbers")
        self.order = _text(state[1])
        if self.order not in ("<", ">", "|"):
            raise Refused("a type in it has no byte order")

    def dtype(self):
        """The np.dtype; only numeric codes ever get here."""
        return np.dtype((self.order or "=") + self.code)


class Array:
    """Stands for a numpy.ndarray; `value` is the array once its state came."""

    __slots__ = ("value",)

    def __init__(self):
        self.value = None

    def build(self, state):
        """Takes over the state that numpy pickles with an array."""
        if self.value is not None or len(state) != 5 or state[0] != 1:
            raise Refused("an array in it is not stored the way numpy stores one")
        _, shape, kind, fortran_order, data = state
        self.value = _array(data, kind, shape, "F" if fortran_order is True else "C")


def _array(data, kind, shape, order):
    """The array of `shape` whose content is the bytes `data`, not copied."""
    if type(kind) is not Type or type(data) is not bytes or type(shape) is not tuple:
        raise Refused("an array in it is not stored the way numpy stores one")
    if len(shape) > MAX_DIMENSIONS or not all(
            type(length) is int and length >= 0 for length in shape):
        raise Refused("an array in it has no valid shape")
    dtype, size = kind.dtype(), 1
    for length in shape:
        size *= length
    if size * dtype.itemsize != len(data):
        raise Refused("an array in it claims %.6g values of %d bytes but comes with %d bytes"
                      % (size, dtype.itemsize, len(data)))
    # numpy 1.16 makes no array of an empty buffer.
    values = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
    return values.reshape(shape, order=order)


def _text(value):
    """A code of a few letters, which Python 2 wrote as bytes and Python 3 as either."""
    if type(value) not in (bytes, str) or len(value) > 10:
        raise Refused("a type in it is not stored the way numpy stores one")
    return value.decode("latin1") if type(value) is bytes else value


# What is done in place of the functions that a stream names; args is a tuple


def _reconstruct(args):
    """The empty array that BUILD then fills."""
    array_type, shape, _ = args
    if array_type is not _NDARRAY or shape != (0,):
        raise Refused("an array in it is not built the way numpy builds one (a hostile file?)")
    return Array()


def _frombuffer(args):
    """Protocol 5's way to carry an array."""
    data, kind, shape, order = args[:4]
    if order not in ("C", "F") or args[4:] not in ((), (None,)):
        raise Refused("an array in it has no valid order")
    array = Array()
    array.value = _array(data, kind, shape, order)
    return array


def _dtype(args):
    code = _text(args[0])
    if not NUMERIC_TYPE.fullmatch(code):
        raise Refused("it holds an array of type %r, not of a boolean, integer or floating type"
                      % code)
    return Type(code)


def _scalar(args):
    """A numpy number, as Python 2.7 pickles each label of list(array)."""
    kind, data = args
    return _array(data, kind, (), "C").item()


def _encode(args):
    """Python 3's way to carry bytes in protocols 0 to 2: latin1, and no other codec."""
    text, codec = args
    if _text(codec) not in ("latin1", "latin-1") or type(text) is not str:
        raise Refused("it asks for a codec, which arrays have no need of (a hostile file?)")
    return text.encode("latin1")


def _bytes(args):
    """Python 3's way to carry empty bytes in protocols 0 to 2."""
    if args != ():
        raise Refused("it asks for bytes of a size (a hostile file?)")
    return b""


def _uncallable(_args):
    raise Refused("it calls numpy.ndarray (a hostile file?)")


_NDARRAY = Function("numpy.ndarray", _uncallable)
FUNCTIONS = {function.name: function for function in (
    _NDARRAY,
    Function("numpy.dtype", _dtype),
    Function("numpy.core.multiarray._reconstruct", _reconstruct),
    Function("numpy.core.multiarray.scalar", _scalar),
    Function("numpy.core.numeric._frombuffer", _frombuffer),
    Function("_codecs.encode", _encode),
    Function("__builtin__.bytes", _bytes),
    Function("builtins.bytes", _bytes),
)}
