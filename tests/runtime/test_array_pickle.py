"""Pickled pairs: what Python and numpy ever wrote is read, everything else is refused at no cost.

Hostile files are tried in this process where they could at worst fail, and those that would take
memory or time in one child process with a limit on both.
"""

import base64
import io
import os
import pickle
import struct
import sys
import warnings
import zlib
from collections import Counter

import numpy as np
import pytest
from bombs import count_refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import array_pickle
from runtime.array_pickle import read_array_pair
from runtime.errors import UserError

ROWS = np.array([[0, 127, 255], [10, 13, 200]], np.uint8)  # 10 and 13 are ends of lines
LABELS = np.array([1, 0])
# What Python 2.7.18 with numpy 1.16.6 wrote by cPickle.dumps(value, protocol) of
# "array": (ROWS, LABELS), "list": (ROWS, list(LABELS)), "empty": no rows of them,
# "floats": (np.asfortranarray(ROWS / np.float32(255)), LABELS.astype(">i4")).
PYTHON_2 = {
    ("array", 0): (
        "eNqdzr0OwiAQwPH9XgQWG2jVdvAFWDrYlcS09CNNlBI8Epr48J5tY4yDg8MN5P7wgxsbbm5OzOS75BauONbe1z"
        "NcfGcme0cfDIKTwNcObLvuXQpcCcCKNQzw7DI6UqVSUBngFrc4uw7cHnjFgmRAFyii+kBlBhV7MCjLUu0kLEPv"
        "NUoIWugohI55r2Pfa6u9jqYgpxnIGL7o45vGYaHG4oPKN+r0g5Ir99+8voWugOQJwKpbPg=="),
    ("array", 2): (
        "eNprYErOK80tqNRLzi9K1cstzSnJTCwqSqzkii9KTc7PKy4pKk0u4SpkhKjiykuByBYyeTO0hjImtQcVMmt4M3"
        "ozeTO3QZWklFQWpHIVsoQylRp6M3gzApWwangzhzLW+Pn5ef0HAjDhzVCS1BnKxlD/n4v3RElSBmMGwkg2sJGt"
        "GUAzMi2gZrCDzbDBYoYAIwMqKElqK+TQAwCd7kh/"),
    ("list", 0): (
        "eNqFj8sKwjAQRff3R5KNJbE+KvgD2XRhtwFJYytCrUNMoQU/3rEVEVRc3MUwZ+bMSN92ZxoSfwlVcu6aeHIhuA"
        "H7UPlLe42h8xGkIScO7WHq0xzSKMRClAJxRymXTJk5TIr4hA9xoAq0gCxEpwV4gCGml0ymKMRNIM9zM9MYw/tK"
        "oxQ3bK+U7de17evatjbY3mfsKWVDK/w4+epd4wJoDXkclafsTZk9ldtP5ajTk/J7xhc3cMfH7ux1358BreAiaY"
        "3kDsQmZpY="),
    ("list", 1): (
        "eNp1jk0KwjAQRpNWa4x4j1mVunPhBTTQhZClSJoWWuhf0umiIHg9b1VjW3AhfotZzPfmMaDrvmqHUDc2C6u+xE"
        "JZqwZ+t5lu6g5tr5EbCjPG63SujQeCoKQJXo0PgoLwhI8LlOLQZtysQHr9QRBBHbQG4Uv6iOP4MrpMwxmScxRx"
        "GZDnyPcvTG4mgD8PdVqVynKzgfwjLo6LmE3i049YMkrmOGibuzMmGfmueIZmF74BCCpTsA=="),
    ("list", 2): (
        "eNprYErOK80tqNRLzi9K1cstzSnJTCwqSqzkii9KTc7PKy4pKk0u4SpkhKjiykuByBYyeTO0hjImtQcVMmt4M3"
        "ozeTO3QZWklFQWpHIVsoQylRp6M3gzApWwangzhzLW+Pn5ef0HAjDhzVCS1BnKxlD/n4v3RElSbCGbBg6XFCcn"
        "5iQWcRWyZwDNzLSAmskBNtMGw8xQDkYGCGgLKuTMYM/gCOVgQIhwpbYVcusBAEPQU1o="),
    ("empty", 0): (
        "eNp9jTsOgzAQRPu5iN3EwiEfilzADUU4QAQGIaQAK7MuLOXwMQZFUYoUW8zO0xtpJz9SUHZ2nRr9k4fauTrg4T"
        "o7Tws7bxmkITcOU7v1dIQ0GbgSjQDfKY9Rp5fJwTvccqAOdIKshNcCa6tX+hzJHJV4CZRlaQ4a6aKvMVkWi+hs"
        "+ujrf2Yunxnuk3YovrTXXXv7p2UqoN7C2UCt"),
    ("empty", 2): (
        "eNprYErOK80tqNRLzi9K1cstzSnJTCwqSqzkii9KTc7PKy4pKk0u4SpkhKjiykuByBYyeTO0hjImtQcVMmt4M3"
        "ozeDO3QZWklFQWpHIVsoQylRoCxRmBSlg1vJlDGWv8/Py8/gMBmPBmKEnqDAUSGYwZCMPYwIa1ZgB1Z1pAdbOD"
        "ddtg191WyKEHAHNHRgc="),
    ("floats", 0): (
        "eNptjj0PgjAQQPf7FW5lkbSAiongahdiZCUxUD5CItjUI4F/7wHG7+EN7b32nqXartGDra6msJvugnVqTDrA2R"
        "Tq2t7QdApBC7BmD9p8nmsHLMkBY5YxwJN26UiWdEC6gA85x0EXoD2wYlZ6DOgBSWSvyHQhZjsGURTJpYAJ+i+T"
        "XNAg6Tn/JBUEXwRJX5ZEMRImfU7XOT8GL9Hn+6RXW8I/7Kktq6ir+spdP3OxmvLq97zNIy/8l8d/88R37rgWtQ"
        "/2Hb87YcA="),
    ("floats", 2): (
        "eNprYErOK80tqNRLzi9K1cstzSnJTCwqSqzkii9KTc7PKy4pKk0u4SpkhKjiykuByBYyeTO0hjImtQcVMmt4M3"
        "ozeTO3QZWklFQWpHIVsoQypZl4M3gzApWwangzhzLa+Pn5ef0HAjDhzVCS1BEqwQAECxco2P7/98/u4oUAWwaG"
        "BvuTJzzsS5IyGDMQlrCBLWnNAJqaCTOVHWyqHYapnaEcQEMZQSaXJLUVcugBADOeT7k="),
}
CASES = Counter()  # how many cases each generated test tried
GENERATED = settings(max_examples=300, deadline=None, derandomize=True, database=None,
                     suppress_health_check=[HealthCheck.function_scoped_fixture,
                                            HealthCheck.too_slow, HealthCheck.data_too_large])


def read(tmp_path, data, row_length=3):
    path = tmp_path / "part"
    path.write_bytes(data)
    return read_array_pair(path, row_length)


def refusal(tmp_path, data, row_length=3):
    """The one line that refuses these bytes."""
    with pytest.raises(UserError) as raised:
        read(tmp_path, data, row_length)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'part'}: ") and message.isprintable()
    assert len(message) < 300 + len(str(tmp_path))
    return message


def read_or_refused(tmp_path, data):
    """True if the bytes are read as a sound pair, False if they are refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of escapes like \q in protocol 0
        try:
            rows, labels = read(tmp_path, data)
        except UserError as error:
            assert str(error).startswith(str(tmp_path)) and str(error).isprintable()
            return False
    assert rows.ndim == 2 and rows.shape[1] == 3 and labels.shape == rows.shape[:1]
    assert rows.dtype.kind in "uif" and labels.dtype.kind in "uif"
    assert rows.nbytes + labels.nbytes <= 8 * len(data)
    assert len(rows.tobytes()) == rows.nbytes  # all of it can be read
    return True


def python_2(name, protocol):
    return zlib.decompress(base64.b64decode(PYTHON_2[name, protocol]))


def samples():
    """Honest files by name: of Python 2, and of every protocol of this Python."""
    found = {("python 2",) + key: python_2(*key) for key in sorted(PYTHON_2)}
    pairs = {"array": (ROWS, LABELS), "list": (ROWS, list(LABELS)), "empty": (ROWS[:0], LABELS[:0]),
             "floats": (np.asfortranarray(ROWS / np.float32(255)), LABELS.astype(">i4")),
             "numbers": [ROWS.tolist(), tuple(LABELS.tolist())],
             "rows": (list(ROWS), LABELS[:, None])}
    for name, pair in sorted(pairs.items()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            found["python 3", name, protocol] = pickle.dumps(pair, protocol)
    return found


SAMPLES = samples()


def protocol_5(rows, labels):
    """The pair as Python 3.8 and newer write it in protocol 5, also where this one is older."""
    def array(values):
        data = values.tobytes()
        return (b"\x8c\x12numpy.core.numeric\x8c\x0b_frombuffer\x93(\x96" +
                struct.pack("<Q", len(data)) + data + b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02"
                + values.dtype.str[1:].encode() + b"\x89\x88\x87R(K\x03\x8c\x01"
                + values.dtype.str[:1].encode() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb("
                + b"".join(b"K" + bytes([length]) for length in values.shape) + b"t\x8c\x01CtR")
    return b"\x80\x05" + array(rows) + array(labels) + b"\x86."


# What is read


@pytest.mark.parametrize("key", sorted(SAMPLES), ids=str)
def test_reads_what_pickle_and_cpickle_write(tmp_path, key):
    rows, labels = read(tmp_path, SAMPLES[key])
    kept = 0 if key[1] == "empty" else 2
    expected = ROWS / np.float32(255) if key[1] == "floats" else ROWS
    np.testing.assert_array_equal(rows, expected[:kept])
    np.testing.assert_array_equal(labels, LABELS[:kept])
    if key[1] not in ("numbers", "floats"):
        assert rows.dtype == np.uint8


def test_reads_protocol_5_with_any_python(tmp_path):
    data = protocol_5(ROWS, LABELS)
    if sys.version_info >= (3, 8):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy.core is numpy._core now
            np.testing.assert_array_equal(pickle.loads(data)[0], ROWS)  # numpy reads it alike
    rows, labels = read(tmp_path, data)
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">i2", "<i4", ">u4", "<i8", ">u8", "<f2",
                                  ">f4", "<f8", ">f8"])
def test_reads_every_numeric_type(tmp_path, kind):
    pair = (ROWS // 2).astype(kind), LABELS.astype(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        rows, labels = read(tmp_path, pickle.dumps(pair, protocol))
        np.testing.assert_array_equal(rows, pair[0])
        np.testing.assert_array_equal(labels, pair[1])
        assert rows.dtype == pair[0].dtype


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_reads_the_names_of_numpy_1_and_2(tmp_path, module):
    data = pickle.dumps((ROWS, LABELS), 3)
    for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        data = data.replace(b"c" + name + b"\n", b"c" + module + b"\n")
    np.testing.assert_array_equal(read(tmp_path, data)[0], ROWS)


# What is refused


class Hostile:
    """Creates a file when it is loaded by an unrestricted unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_named_and_not_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    data = pickle.dumps(Hostile(trap), protocol=protocol)
    pickle.loads(data)
    assert trap.exists()  # the attack works
    trap.unlink()
    assert "system" in refusal(tmp_path, data)
    assert not trap.exists()


NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY_ARRAY = RECONSTRUCT + b"(" + NDARRAY + b"(I0\ntS'b'\ntR"
BYTES_TYPE = DTYPE + b"(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"


def array(shape, data, kind=BYTES_TYPE):
    """An array as a stream; shape and data are opcodes."""
    return EMPTY_ARRAY + b"(I1\n(" + shape + b"t" + kind + b"I00\n" + data + b"tb"


GOOD = array(b"K\x02K\x03", b"U\x06" + ROWS.tobytes())
GOOD_LABELS = b"(lI1\naI0\na"
REFUSED = {
    "empty file": b"",
    "only an end": b".",
    "no pickle": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "an archive": b"PK\x03\x04" + bytes(100),
    "text": b"label,pixels\n0,1\n",
    "eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "getattr": b"cbuiltins\ngetattr\n(S'1'\ntR.",
    "numpy.load": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    "several lines in a name": b"\x8c\x05a\nb\rc\x8c\x04d\x00\x1be\x93.",
    "surrogates in a name": b"\x8c\x03\xed\xb2\x80\x8c\x01a\x93.",
    "a name of 2,000 letters": b"c" + b"x" * 2000 + b"\nload\n.",
    "names that are no text": b"K\x01K\x02\x93.",
    "ndarray is called": NDARRAY + b"(I1000000\ntR.",
    "dtype of a size": DTYPE + b"(S'V1000000000'\ntR.",
    "dtype of objects": DTYPE + b"(S'O8'\nI0\nI1\ntR.",
    "dtype of a comma list": DTYPE + b"(S'i4,i4'\nI0\nI1\ntR.",
    "dtype of a list": DTYPE + b"(]I0\nI1\ntR.",
    "fields in a dtype": array(b"K\x02", b"U\x02ab", BYTES_TYPE.replace(b"NNN", b"N(S'a'\ntN")),
    "flags in a dtype": array(b"K\x02", b"U\x02ab", BYTES_TYPE.replace(b"I0\ntb", b"I63\ntb")),
    "a dtype's state twice": BYTES_TYPE + b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb.",
    "an array's state twice": GOOD + b"(I1\n(K\x00t" + BYTES_TYPE + b"I00\nU\x00tb.",
    "an array without state": EMPTY_ARRAY + GOOD_LABELS + b"\x86.",
    "a reconstructed size": EMPTY_ARRAY.replace(b"(I0\nt", b"(L1000000000000L\nt") + b".",
    "another reconstructed type": EMPTY_ARRAY.replace(NDARRAY, DTYPE) + b".",
    "uninitialised memory": array(b"K\x28M\x00\x0c", b"U\x00") + GOOD_LABELS + b"\x86.",
    "a size of 2^80": array(b"J\xff\xff\xff\x7f" * 3, b"U\x00") + GOOD_LABELS + b"\x86.",
    "a negative size": array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff", b"U\x01a") + b".",
    "a size that is a truth value": array(b"\x88K\x03", b"U\x03abc") + b".",
    "1,000 dimensions": array(b"K\x01" * 1000, b"U\x01a") + b".",
    "a shape that is a list": GOOD.replace(b"(K\x02K\x03t", b"(K\x02K\x03l") + b".",
    "content that is a list": array(b"K\x02", b"(K\x01K\x02l") + b".",
    "state of a list": b"](I1\ntb.",
    "state of a function": NDARRAY + b"(I1\ntb.",
    "state that is a dict": EMPTY_ARRAY + b"}b.",
    "an object": b"(i__main__\nX\n.",
    "an instance": b"(cnumpy\nndarray\no.",
    "newobj": NDARRAY + b")\x81.",
    "newobj with names": NDARRAY + b")}\x92.",
    "an instance of a mark": b"(" + NDARRAY + b"o.",
    "inst of a type that there is": b"(inumpy\nndarray\n.",
    "an extension code of 2 bytes": b"\x83\x01\x00.",
    "attributes of a stand-in": NDARRAY + b"N}X\x08\x00\x00\x00__code__K\x01s\x86b.",
    "state of a function, a tuple": NDARRAY + b"(K\x01K\x02tb.",
    "methods of a stand-in": b"cnumpy\nndarray.__globals__\n.",
    "a stand-in's module": b"cruntime.array_pickle\n_bytes\n.",
    "an array is called": EMPTY_ARRAY + b")R.",
    "a text is called": b"U\x01a)R.",
    "a dict of marks": b"(K\x01K\x02d.",
    "a frozenset": b"(K\x01\x91.",
    "a set": b"\x8f(K\x01\x90.",
    "pop": b"K\x01K\x020.",
    "pop of a mark": b"K\x01(K\x021.",
    "dup": b"K\x012.",
    "items of a dict": b"}K\x01K\x02s.",
    "read-only buffers": b"\x98.",
    "a dict": b"}.",
    "a persistent id": b"Pid of\x1b several\n.",
    "a persistent id on the stack": b"K\x01Q.",
    "an extension code": b"\x82\x01.",
    "an extension code of 4 bytes": b"\x84\x01\x00\x00\x00.",
    "a buffer that is elsewhere": b"\x97.",
    "a whole number of 100 bytes": b"\x8a\x64" + b"\x7f" * 100 + b".",
    "a whole number of 64 bits": b"(l\x8a\x09" + b"\x00" * 8 + b"\x01a.",
    "a whole number of 1 GB": b"\x8b\x00\x00\x00\x40.",
    "10,000 digits": b"I" + b"9" * 10000 + b"\n.",
    "150 digits": b"L" + b"9" * 150 + b"L\n.",
    "no number": b"Fone\n.",
    "no letters": b"X\x02\x00\x00\x00\xff\xfe.",
    "a text without quotes": b"Sabc\n.",
    "a text of one quote": b"S'\n.",
    "an escape that is none": b"S'\\x1'\n.",
    "bytes beyond the end": b"\x8e" + b"\xff" * 8 + b".",
    "a bytearray beyond the end": b"\x96" + b"\x00" * 7 + b"\x10.",
    "letters beyond the end": b"\x8d" + b"\x00" * 6 + b"\x01\x00.",
    "a text of negative length": b"T\xff\xff\xff\xff.",
    "bytes of a size": b"c__builtin__\nbytes\n(I1000000000\ntR.",
    "another codec": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
    "a codec of bytes": b"c_codecs\nencode\n(U\x01aU\x06latin1tR.",
    "arguments that are no tuple": b"c_codecs\nencode\n]R.",
    "a number is called": b"K\x01)R.",
    "the memo lacks it": b"h\x07.",
    "no mark": b"K\x01t.",
    "an empty stack": b"\x86.",
    "append to a tuple": b")K\x01a.",
    "no pair but a number": b"K\x01.",
    "no pair but an array": GOOD + b".",
    "three parts": b"(" + GOOD + GOOD_LABELS + b"K\x01t.",
    "texts for labels": b"(" + GOOD + b"(lU\x01aaU\x01bat.",
    "rows of two lengths": b"((K\x01K\x02l(K\x01ll" + GOOD_LABELS + b"\x86.",
    "numbers beside rows": b"((K\x01lK\x01l" + GOOD_LABELS + b"\x86.",
    "a list that holds itself": b"]q\x00h\x00ah\x00\x86.",
    "a list in a list in a list": b"]q\x00]]a]aah\x00\x86.",
    "trailing bytes": GOOD + GOOD_LABELS + b"\x86.\n",
    "a second pickle": (GOOD + GOOD_LABELS + b"\x86.") * 2,
    "labels of another number": GOOD + b"(lI1\na\x86.",
    "labels that are fractions": GOOD + b"(lF0.5\naI1\na\x86.",
    "labels that are no number": GOOD + b"(lFnan\naI1\na\x86.",
    "labels that are truth values": GOOD + b"(l\x88a\x89a\x86.",
    "a length that is another": array(b"K\x02K\x04", b"U\x08abcdefgh") + GOOD_LABELS + b"\x86.",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_hand_made_files_are_refused_in_one_line(tmp_path, name):
    refusal(tmp_path, REFUSED[name])


def test_the_parts_of_the_hand_made_files_are_good(tmp_path):
    rows, labels = read(tmp_path, GOOD + GOOD_LABELS + b"\x86.")
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("pair", [
    (ROWS.astype(object), LABELS), (ROWS, LABELS.astype(object)), (ROWS, LABELS > 0),
    (ROWS, np.array(["a", "b"])), (ROWS.astype(complex), LABELS), (ROWS, np.array([0.5, 1])),
    (ROWS, np.array([np.nan, 1])), (ROWS[:, :2], LABELS),
    (ROWS[:, :, None].repeat(2, axis=2), LABELS),
    (ROWS, LABELS[:1]), (ROWS,), (ROWS, LABELS, LABELS), {"x": ROWS, "y": LABELS}, ROWS,
    (ROWS, np.array([(1, 2)] * 2, [("a", "i4"), ("b", "i4")])),
    (ROWS, np.array(["2001-01-01"] * 2, "M8[D]")), (ROWS, None), (ROWS, "01"), (ROWS, b"01"),
    (ROWS, {0, 1}), (ROWS, [0, None]), (ROWS, 5), (ROWS > 5, LABELS),
    (ROWS, np.ma.masked_array(LABELS)),
], ids=lambda pair: str(pair)[:40].replace("\n", " "))
def test_other_values_are_refused(tmp_path, pair):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refusal(tmp_path, pickle.dumps(pair, protocol))


def test_files_that_cannot_be_opened(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / ("x" * 300), tmp_path / "pipe",
                 "/dev/zero", "a\0b"):
        with pytest.raises(UserError):
            read_array_pair(path, 3)


# Generated files


def test_every_truncation_is_refused(tmp_path):
    for data in SAMPLES.values():
        for length in range(0, len(data), 7):
            refusal(tmp_path, data[:length])
            CASES["truncated"] += 1
    assert CASES["truncated"] > 150


@GENERATED
@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_files_are_read_soundly_or_refused(tmp_path, key, other, data):
    damaged = bytearray(SAMPLES[key])
    for kind in data.draw(st.lists(st.sampled_from(["bit", "byte", "cut", "splice"]),
                                   min_size=1, max_size=4)):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        if kind == "bit" and damaged:
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            damaged[place:place + 1] = data.draw(st.binary(max_size=9))
        elif kind == "cut":
            del damaged[place:place + data.draw(st.integers(1, 20))]
        else:
            part = SAMPLES[other]
            start = data.draw(st.integers(0, len(part) - 1))
            damaged[place:place] = part[start:start + data.draw(st.integers(1, 200))]
    CASES["damaged, read" if read_or_refused(tmp_path, bytes(damaged)) else "damaged"] += 1


def test_every_changed_bit_is_read_soundly_or_refused(tmp_path):
    for key in (("python 2", "list", 2), ("python 3", "array", 2), ("python 3", "floats", 4)):
        for place in range(len(SAMPLES[key])):
            damaged = bytearray(SAMPLES[key])
            damaged[place] ^= 1 << place % 8
            read_or_refused(tmp_path, bytes(damaged))
            CASES["changed bits"] += 1
    assert CASES["changed bits"] > 150


PIECES = [GOOD, GOOD_LABELS, EMPTY_ARRAY, BYTES_TYPE, NDARRAY, DTYPE, RECONSTRUCT,
          b"c_codecs\nencode\n", b"c__builtin__\nbytes\n", b"cnumpy.core.multiarray\nscalar\n",
          b"cnumpy.core.numeric\n_frombuffer\n", b"U\x06latin1", b"X\x03\x00\x00\x00abc", b"U\x01<",
          b"K\x00", b"K\x03", b"M\x00\x10", b"J\xff\xff\xff\xff", b"h\x00", b"h\x01", b"q\x00",
          b"q\x01", b"I01\n", b"L5L\n", b"F1.5\n", b"G" + b"\x7f" * 8, b"\x8a\x01\xff", b"S'a'\n"]


@GENERATED
@given(st.lists(st.sampled_from(PIECES + [b"(", b"t", b"l", b"]", b")", b"\x85", b"\x86", b"\x87",
                                          b"R", b"b", b"a", b"e", b"N", b"\x88", b"\x93"]),
                max_size=25))
def test_streams_of_any_opcodes_are_read_soundly_or_refused(tmp_path, pieces):
    CASES["streams"] += 1
    read_or_refused(tmp_path, b"".join(pieces) + b"\x86.")


def test_the_generated_cases_are_many():
    assert CASES["streams"] > 150 and CASES["damaged"] > 150, CASES
    assert sum(CASES.values()) > 1000, CASES


# Files that would take memory or time


def nested_lists(depth, width):
    """Lists of lists, each shared `width` times: width ** depth numbers if written out."""
    stream = io.BytesIO()
    stream.write(b"]q\x00K\x01a")
    for level in range(1, depth):
        stream.write(b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * width + b"e")
    return stream.getvalue() + b"h\x00\x86."


def bombs():
    """Files of up to 12 MB that make a simple reader allocate or work without end.

    For a process of its own, in which it lowers the limit on operations: those take seconds.
    """
    array_pickle.MAX_OPERATIONS //= 10
    text = b"X" + struct.pack("<I", 10 ** 7) + b"a" * 10 ** 7 + b"q\x00"
    row = b"(" + b"K\x01" * 10 ** 5 + b"lq\x00"
    many = array_pickle.MAX_OPERATIONS + 10
    yield "list that holds itself", b"]q\x00h\x00ah\x00\x86."
    yield "nested shared lists", nested_lists(20, 4)
    yield "nested shared lists, wide", nested_lists(200, 9)
    yield "nested lists", b"]" * 10 ** 6 + b"a" * (10 ** 6 - 1) + b"K\x01\x86."
    yield "nested tuples", b")" + b"\x85" * 10 ** 6 + b"K\x01\x86."
    yield "nested tuples as a shape", array(b")" + b"\x85" * 10 ** 5, b"U\x00") + b"."
    yield "marks", b"(" * many
    yield "memo", b"]\x94" * many
    yield "claimed bytes", b"\x8e" + struct.pack("<Q", 1 << 40)
    yield "claimed bytearray", b"\x96" + struct.pack("<Q", 1 << 62)
    yield "claimed letters", b"X" + struct.pack("<I", (1 << 32) - 1)
    yield "claimed shape", array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f", b"U\x00") + b"."
    yield "shape of no bytes", array(b"K\x00J\xff\xff\xff\x7f" * 3, b"U\x00") + b"(l\x86."
    yield "a text encoded again and again", text + (
        b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 1000) + b"."
    yield "a long text as a type", text + (DTYPE + b"(h\x00tR") * 1000 + b"."
    yield "a long text as a name", text + b"h\x00\x93."
    yield "rows shared", row + b"(" + b"h\x00" * 10 ** 5 + b"l" + GOOD_LABELS + b"\x86."
    yield "arrays shared", array(b"J\x40\x42\x0f\x00", b"T\x40\x42\x0f\x00" + b"a" * 10 ** 6) + (
        b"q\x00(" + b"h\x00" * 10 ** 5 + b"l" + GOOD_LABELS + b"\x86.")
    yield "digits", b"I" + b"9" * 10 ** 7 + b"\n."
    yield "hexadecimal digits", b"I0x" + b"f" * 10 ** 7 + b"\n."
    yield "digits of a long", b"L" + b"9" * 10 ** 7 + b"L\n."
    yield "a name of 10 MB", b"c" + b"a" * 10 ** 7 + b"\nb\n."
    yield "an index of the memo of 10 MB", b"]p" + b"9" * 10 ** 7 + b"\n."
    yield "a claimed frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"."
    yield "frames in frames", b"\x95" + (struct.pack("<Q", 10 ** 6) + b"\x95") * 10 ** 5 + b"."
    yield "a long text as arguments", text + b"0" + (NDARRAY + b"h\x00R") * 1000 + b"."
    yield "a long list as arguments", row + (DTYPE + b"h\x00R") * 1000 + b"."
    yield "a list that grows by itself", b"]q\x00K\x01a(" + b"h\x00h\x00eh\x00(" * 10 ** 5 + b"."
    yield "a text as a list", text + b"(K\x01e" * 1000 + b"."
    yield "states of many fields", NDARRAY + b"}(" + b"X\x01\x00\x00\x00aK\x01" * 10 ** 5 + b"ub."
    yield "an object's bytes as pointers", array(
        b"K\x02", b"U\x10" + b"\x41" * 16, BYTES_TYPE.replace(b"u1", b"O8")) + GOOD_LABELS + b"."


def read_bomb(path):
    read_array_pair(path, 3)


def test_bombs_take_neither_memory_nor_time(tmp_path):
    assert count_refused(__name__, tmp_path) > 30
