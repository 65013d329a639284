"""Archives of arrays: what numpy writes is read, all claims are checked before they cost anything.
"""

import io
import os
import re
import struct
import zipfile
from collections import Counter

import numpy as np
import pytest
from bombs import count_refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.array_file import MAX_UNPACKED, read_array, read_arrays
from runtime.errors import UserError

NAMES = ("codes", "labels")
CODES = np.array([[1, -1, 1], [-1, -1, 1]], np.int8)
LABELS = np.array(["Zo\u00eb", "Bo Lee"])
CASES = Counter()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def header(text, version=b"\x01\x00"):
    """The head of an array file with any text as its header."""
    text = text.encode("latin1") + b"\n"
    layout = "<H" if version == b"\x01\x00" else "<I"
    return b"\x93NUMPY" + version + struct.pack(layout, len(text)) + text


def plain(shape, kind="|i1"):
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}")


def archive(entries, compression=zipfile.ZIP_STORED):
    """A zip file of {name: content}, as bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return stream.getvalue()


def with_codes(content, compression=zipfile.ZIP_STORED):
    return archive({"codes.npy": content, "labels.npy": npy(LABELS)}, compression)


def changed_entry(data, offset, layout, value, names=("codes.npy",)):
    """An archive whose central directory says something else of the named entries."""
    data = bytearray(data)
    for found in re.finditer(b"PK\x01\x02", bytes(data)):
        place = found.start()
        length, = struct.unpack_from("<H", data, place + 28)
        if bytes(data[place + 46:place + 46 + length]).decode() in names:
            struct.pack_into(layout, data, place + offset, value)
    return bytes(data)


def read(tmp_path, data, names=NAMES, optional_names=("extra",)):
    path = tmp_path / "codes.npz"
    path.write_bytes(data)
    return read_arrays(path, names, optional_names)


def refusal(tmp_path, data):
    with pytest.raises(UserError) as raised:
        read(tmp_path, data)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'codes.npz'}: ") and message.isprintable()
    return message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(tmp_path, save):
    arrays = {"codes": CODES, "labels": LABELS, "unasked": np.array([None]),
              "extra": np.asfortranarray(np.arange(6.0).reshape(2, 3).astype(">f4"))}
    stream = io.BytesIO()
    save(stream, **arrays)
    found = read(tmp_path, stream.getvalue())
    assert sorted(found) == ["codes", "extra", "labels"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


@pytest.mark.parametrize("array", [
    np.zeros((0, 5), np.int8), np.array(7), np.arange(3, dtype="<u8"), np.array([b"a", b"bc"]),
    np.array([1e30, -1e300]), np.zeros((2, 3, 4), np.float16), np.array([], "U5")],
    ids=lambda array: f"{array.dtype} {array.shape}")
def test_reads_every_type_of_numbers_and_strings(tmp_path, array):
    found = read(tmp_path, with_codes(npy(array)))["codes"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_reads_headers_of_later_versions_and_of_python_2(tmp_path):
    for version in (b"\x02\x00", b"\x03\x00"):
        head = header("{'descr': '|i1', 'fortran_order': False, 'shape': (2, 3), }", version)
        np.testing.assert_array_equal(
            read(tmp_path, with_codes(head + CODES.tobytes()))["codes"], CODES)
    np.testing.assert_array_equal(
        read(tmp_path, with_codes(plain("(2L, 3L)") + CODES.tobytes()))["codes"], CODES)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_objects_are_not_unpickled(tmp_path):
    trap = tmp_path / "trap"
    refusal(tmp_path, with_codes(npy(np.array([Trap(trap)]))))
    assert not trap.exists()


SMALL = CODES.tobytes()
REFUSED = {
    "empty": b"",
    "no archive": b"codes",
    "a single array": npy(CODES),
    "no entries": archive({}),
    "one array is missing": archive({"codes.npy": npy(CODES)}),
    "names with paths": archive({"../codes.npy": npy(CODES), "/labels.npy": npy(LABELS)}),
    "names without an ending": archive({"codes": npy(CODES), "labels": npy(LABELS)}),
    "a claimed shape of 10^12": with_codes(plain("(1000000000000,)") + SMALL),
    "a claimed shape of 10^30": with_codes(plain(f"({10 ** 30},)") + SMALL),
    "shapes whose product is 2^64": with_codes(plain("(4294967296, 4294967296)") + SMALL),
    "a negative shape": with_codes(plain("(-2, -3)") + SMALL),
    "a shape of truth values": with_codes(plain("(True, 6)") + SMALL),
    "a shape of 40 dimensions": with_codes(plain("(" + "1, " * 40 + ")") + b"a"),
    "a shape of no items but huge": with_codes(plain("(0, 999999999999999999, 99999999999)")),
    "too little content": with_codes(plain("(2, 3)") + SMALL[:-1]),
    "too much content": with_codes(plain("(2, 3)") + SMALL + b"a"),
    "objects": with_codes(npy(np.array([None, {}]))),
    "records": with_codes(npy(np.zeros(2, [("a", "i4")]))),
    "dates": with_codes(npy(np.zeros(2, "M8[D]"))),
    "complex numbers": with_codes(npy(np.zeros(2, complex))),
    "truth values of 2": with_codes(plain("(2,)", "|b1") + b"\1\2"),
    "letters that do not exist": with_codes(plain("(2,)", "<U1") + b"\xff" * 8),
    "swapped letters that do not exist": with_codes(plain("(1,)", ">U1") + b"a\0\0\0"),
    "strings of no length": with_codes(plain("(2,)", "<U0")),
    "strings of any length": with_codes(plain("(2,)", "<U99999999") + SMALL),
    "no array": with_codes(b"codes"),
    "an empty entry": with_codes(b""),
    "a later version": with_codes(b"\x93NUMPY\x09\x00" + plain("(2, 3)")[8:] + SMALL),
    "a header of 60 kB": with_codes(header("{" + " " * 60000 + "}")),
    "a header of 4 GB": with_codes(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"{" * 10000),
    "a header of brackets": with_codes(header("(" * 9000)),
    "a header that is code": with_codes(header("__import__('os').system('true')")),
    "a header of several lines": with_codes(header("{'descr': '\n\x1b', 'fortran_order': False, "
                                                   "'shape': (2, 3), }")),
    "a header without a shape": with_codes(header("{'descr': '|i1', 'fortran_order': False}")),
    "a header that ends": with_codes(plain("(2, 3)")[:30]),
    "bzip2": with_codes(npy(CODES), zipfile.ZIP_BZIP2),
    "lzma": with_codes(npy(CODES), zipfile.ZIP_LZMA),
    "an unknown compression": changed_entry(with_codes(npy(CODES)), 10, "<H", 99),
    "an encrypted entry": changed_entry(with_codes(npy(CODES)), 8, "<H", 1),
    "a strongly encrypted entry": changed_entry(with_codes(npy(CODES)), 8, "<H", 0x41),
    "a patch": changed_entry(with_codes(npy(CODES)), 8, "<H", 0x20),
    "another checksum": changed_entry(with_codes(npy(CODES)), 16, "<I", 1),
    "another size": changed_entry(with_codes(npy(CODES)), 24, "<I", 1 << 31),
    "another compressed size": changed_entry(with_codes(npy(CODES)), 20, "<I", 1 << 31),
    "another place": changed_entry(with_codes(npy(CODES)), 42, "<I", 1 << 31),
    "a later format": changed_entry(with_codes(npy(CODES)), 6, "<H", 999),
    "a long list of entries": archive({f"x{place}" + "y" * 1000: b"" for place in range(2500)}),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_hostile_and_damaged_archives_are_refused_in_one_line(tmp_path, name):
    refusal(tmp_path, REFUSED[name])


def test_the_parts_of_the_hand_made_archives_are_good(tmp_path):
    data = with_codes(plain("(2, 3)") + SMALL, zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read(tmp_path, data)["codes"], CODES)
    assert changed_entry(data, 24, "<I", len(plain("(2, 3)") + SMALL)) == data


def test_files_that_cannot_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.npz", tmp_path / ("x" * 300)):
        with pytest.raises(UserError):
            read_arrays(path, NAMES)


@settings(max_examples=300, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]), st.data())
def test_damaged_archives_are_read_soundly_or_refused(tmp_path, compression, data):
    whole = with_codes(npy(CODES), compression)
    damaged = bytearray(whole)
    for kind in data.draw(st.lists(st.sampled_from(["bit", "byte", "cut", "splice", "end"]),
                                   min_size=1, max_size=3)):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        if kind == "bit" and damaged:
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            damaged[place:place + 1] = data.draw(st.binary(max_size=5))
        elif kind == "cut":
            del damaged[place:place + data.draw(st.integers(1, 30))]
        elif kind == "end":
            del damaged[place:]
        else:
            start = data.draw(st.integers(0, len(whole) - 1))
            damaged[place:place] = whole[start:start + data.draw(st.integers(1, 300))]
    CASES["damaged"] += 1
    try:
        found = read(tmp_path, bytes(damaged))
    except UserError as error:
        assert str(error).startswith(str(tmp_path)) and str(error).isprintable()
    else:  # whatever the names and order of the rest, checksums hold the content
        np.testing.assert_array_equal(found["codes"], CODES)
        np.testing.assert_array_equal(found["labels"], LABELS)


def test_every_changed_byte_is_read_soundly_or_refused(tmp_path):
    whole = with_codes(npy(CODES), zipfile.ZIP_DEFLATED)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xff
        CASES["changed bytes"] += 1
        try:
            np.testing.assert_array_equal(read(tmp_path, bytes(damaged))["codes"], CODES)
        except UserError as error:
            assert str(error).isprintable()
    assert CASES["changed bytes"] > 150 and CASES["damaged"] > 150


def bombs():
    """Small archives that would unpack to much."""
    zeros = plain(f"({MAX_UNPACKED + 1},)")
    claims = with_codes(zeros + bytes(10 ** 6), zipfile.ZIP_DEFLATED)
    yield "claims more than may be unpacked", changed_entry(
        claims, 24, "<I", MAX_UNPACKED + 1 + len(zeros))
    half = plain(f"({MAX_UNPACKED // 16},)") + bytes(MAX_UNPACKED // 16)
    yield "unpacks to more than it says", changed_entry(
        with_codes(half, zipfile.ZIP_DEFLATED), 24, "<I", 1000)
    yield "stored, claims 10^9", changed_entry(changed_entry(with_codes(
        plain("(1000000000,)") + SMALL), 24, "<I", 10 ** 9), 20, "<I", 10 ** 9)


def read_bomb(path):
    read_arrays(path, NAMES)


def test_bombs_take_no_memory(tmp_path):
    assert count_refused(__name__, tmp_path) == 3


def test_an_array_alone_is_whole_or_refused(tmp_path):
    """Cut off at each byte, or with a byte of its header changed: refused, or read as it was."""
    path, values = tmp_path / "values.npy", np.arange(12, dtype=np.float32).reshape(3, 4)
    content = npy(values)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_array(path), values)
    damaged = [content[:length] for length in range(len(content))] + [content + b"more"]
    rng = np.random.RandomState(0)
    for place in range(128):
        changed = bytearray(content)
        changed[place] ^= rng.randint(1, 256)
        damaged.append(bytes(changed))
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        try:
            found = read_array(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            continue
        assert number >= len(content) and found.size == values.size
