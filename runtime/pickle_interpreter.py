"""An interpreter of the few pickle opcodes that a pair of arrays needs.

A pickle is a program for a stack machine. runtime.array_pickle says why this one is our own, and
why no file makes it work or allocate without bounds.
"""

import codecs
import pickle
import struct

from runtime.array_stand_ins import FUNCTIONS, Array, Function, Refused, Type
from runtime.errors import one_line

# 67,177 images as separate arrays of one row each take 1.8 million.
MAX_OPERATIONS = 1 << 22
MAX_LINE = 200  # bytes of a number or a name in protocol 0
BYTEARRAY8 = b"\x96"  # of protocol 5, which Python 3.7 does not know


class Interpreter:
    """Runs one pickle.

    Attributes:
        stream: the file, open for reading.
        size: its length in bytes.
        stack: what opcodes push and take.
        marks: heights of the stack at which tuples and lists begin.
        memo: dict of what opcodes keep for use again.
        made: bytes that functions have made.
    """

    def __init__(self, stream, size):
        self.stream, self.size = stream, size
        self.stack, self.marks, self.memo, self.made = [], [], {}, 0

    def run(self):
        """Executes opcodes up to STOP; what is on top of the stack then."""
        for _ in range(MAX_OPERATIONS):
            opcode = self.stream.read(1)
            if opcode == pickle.STOP:
                return self.stack.pop()
            if opcode not in _OPERATIONS:
                self.refuse_opcode(opcode)
            operation, argument = _OPERATIONS[opcode]
            operation(self, argument)
        raise Refused("holds more than %d pickled values; store images and labels as arrays"
                      % MAX_OPERATIONS)

    def refuse_opcode(self, opcode):
        if not opcode:
            raise Refused("not a whole pickle file, it ends in the middle; download or prepare it "
                          "again" if self.size else "the file is empty")
        raise Refused("byte 0x%02x at %d is not part of a pickled pair of arrays (damaged, "
                      "hostile or another kind of file)" % (ord(opcode), self.stream.tell() - 1))

    # Reading

    def read(self, length):
        """The next bytes; a length that the file cannot have is refused before it is allocated."""
        data = self.stream.read(length) if length <= self.size else b""
        if len(data) != length:
            self.refuse_opcode(b"")
        return data

    def number(self, layout):
        """The next binary number."""
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def line(self, limit=MAX_LINE):
        """The next line without its end."""
        line = self.stream.readline(limit)
        if not line.endswith(b"\n"):
            raise Refused("a line in it has no end")
        return line[:-1]

    # Opcodes; each takes the argument that _OPERATIONS gives it

    def skip(self, length):
        self.read(length)

    def push(self, value):
        self.stack.append(value)

    def push_number(self, layout):
        self.stack.append(self.number(layout))

    def push_bytes(self, layout):
        self.stack.append(self.read(self.number(layout)))

    def push_text(self, layout):
        self.stack.append(self.read(self.number(layout)).decode("utf-8"))

    def push_line(self, convert):
        self.stack.append(convert(self.line(-1 if convert in _LONG_LINES else MAX_LINE)))

    def push_long(self, layout):
        self.stack.append(_int64(int.from_bytes(self.read(self.number(layout)), "little",
                                                signed=True)))

    def push_list(self, _):
        self.stack.append([])

    def mark(self, _):
        self.marks.append(len(self.stack))

    def take_marked(self):
        """Takes off the stack what was pushed since the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def marked(self, container):
        self.stack.append(container(self.take_marked()))

    def tuple_of(self, length):
        if len(self.stack) < length:
            raise IndexError("stack too short")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def append(self, _):
        self.extend([self.stack.pop()])

    def append_marked(self, _):
        self.extend(self.take_marked())

    def extend(self, items):
        if type(self.stack[-1]) is not list:
            raise TypeError("no list to append to")
        self.stack[-1] += items

    def put(self, read_index):
        self.memo[read_index(self)] = self.stack[-1]

    def get(self, read_index):
        self.stack.append(self.memo[read_index(self)])

    def named(self, read_names):
        """Pushes what stands for the function or type of a module's name and its own."""
        name = ".".join(read_names(self)).replace("numpy._core.", "numpy.core.")
        if name not in FUNCTIONS:
            raise Refused("it asks for %s, which arrays have no need of (a hostile file?); it was "
                          "not loaded" % one_line(name[:80]))
        self.stack.append(FUNCTIONS[name])

    def call(self, _):
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Function or type(args) is not tuple:
            raise Refused("it calls what is no function (a hostile file?)")
        result = function.apply(args)
        if type(result) is bytes:
            self.made += len(result)
            if self.made > self.size:
                raise Refused("it uses one text again and again (a hostile file?)")
        self.stack.append(result)

    def build(self, _):
        state = self.stack.pop()
        if type(self.stack[-1]) not in (Array, Type) or type(state) is not tuple:
            raise Refused("it sets the state of what has none (a hostile file?)")
        self.stack[-1].build(state)


def _int64(value):
    if not -2 ** 63 <= value < 2 ** 63:
        raise Refused("it holds a whole number of more than 64 bits")
    return value


def _number_or_flag(line):
    """The argument of INT, which Python 2 also wrote truth values with."""
    return line == b"01" if line in (b"00", b"01") else _int64(int(line))


def _long(line):
    return _int64(int(line.rstrip(b"L")))


def _quoted_bytes(line):
    """The bytes of a Python 2 string literal."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise Refused("a text in it has no end")
    return codecs.escape_decode(line[1:-1])[0]


def _escaped_text(line):
    return line.decode("raw_unicode_escape")


_LONG_LINES = (_quoted_bytes, _escaped_text)

# Opcode -> method of Interpreter and its argument. What is not here is refused: dicts, sets and
# objects, persistent ids, extension codes, whole numbers of more than 255 bytes, and what only
# containers that hold themselves need.
_OPERATIONS = {
    pickle.PROTO: (Interpreter.skip, 1), pickle.FRAME: (Interpreter.skip, 8),
    pickle.NONE: (Interpreter.push, None), pickle.EMPTY_TUPLE: (Interpreter.push, ()),
    pickle.NEWTRUE: (Interpreter.push, True), pickle.NEWFALSE: (Interpreter.push, False),
    pickle.BININT: (Interpreter.push_number, "<i"),
    pickle.BININT1: (Interpreter.push_number, "<B"),
    pickle.BININT2: (Interpreter.push_number, "<H"),
    pickle.BINFLOAT: (Interpreter.push_number, ">d"),
    pickle.LONG1: (Interpreter.push_long, "<B"),
    pickle.INT: (Interpreter.push_line, _number_or_flag),
    pickle.LONG: (Interpreter.push_line, _long),
    pickle.FLOAT: (Interpreter.push_line, float),
    pickle.STRING: (Interpreter.push_line, _quoted_bytes),
    pickle.UNICODE: (Interpreter.push_line, _escaped_text),
    pickle.BINSTRING: (Interpreter.push_bytes, "<I"),
    pickle.SHORT_BINSTRING: (Interpreter.push_bytes, "<B"),
    pickle.BINBYTES: (Interpreter.push_bytes, "<I"),
    pickle.SHORT_BINBYTES: (Interpreter.push_bytes, "<B"),
    pickle.BINBYTES8: (Interpreter.push_bytes, "<Q"),
    BYTEARRAY8: (Interpreter.push_bytes, "<Q"),
    pickle.BINUNICODE: (Interpreter.push_text, "<I"),
    pickle.SHORT_BINUNICODE: (Interpreter.push_text, "<B"),
    pickle.BINUNICODE8: (Interpreter.push_text, "<Q"),
    pickle.MARK: (Interpreter.mark, None), pickle.EMPTY_LIST: (Interpreter.push_list, None),
    pickle.TUPLE: (Interpreter.marked, tuple), pickle.LIST: (Interpreter.marked, list),
    pickle.TUPLE1: (Interpreter.tuple_of, 1), pickle.TUPLE2: (Interpreter.tuple_of, 2),
    pickle.TUPLE3: (Interpreter.tuple_of, 3),
    pickle.APPEND: (Interpreter.append, None),
    pickle.APPENDS: (Interpreter.append_marked, None),
    pickle.PUT: (Interpreter.put, lambda machine: int(machine.line())),
    pickle.BINPUT: (Interpreter.put, lambda machine: machine.number("<B")),
    pickle.LONG_BINPUT: (Interpreter.put, lambda machine: machine.number("<I")),
    pickle.MEMOIZE: (Interpreter.put, lambda machine: len(machine.memo)),
    pickle.GET: (Interpreter.get, lambda machine: int(machine.line())),
    pickle.BINGET: (Interpreter.get, lambda machine: machine.number("<B")),
    pickle.LONG_BINGET: (Interpreter.get, lambda machine: machine.number("<I")),
    pickle.GLOBAL: (Interpreter.named, lambda machine: [
        machine.line().decode("utf-8"), machine.line().decode("utf-8")]),
    pickle.STACK_GLOBAL: (Interpreter.named, lambda machine: [
        machine.stack.pop(-2), machine.stack.pop()]),
    pickle.REDUCE: (Interpreter.call, None), pickle.BUILD: (Interpreter.build, None),
}
