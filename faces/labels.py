"""Lists that people write (who is in which photograph), and names that people type.

    for line in read_labels(path): line.number, line.file, line.identity
    names = Names(file.relative for file in files)
    names.find("Zoë\\1.jpg")         # "Zoë/1.jpg", in whatever Unicode form the file's name has
    names.difference("zoë/1.jpg")   # why it is not found, for a message

Spreadsheets, editors and operating systems write the same text in different ways. What can be told
apart for certain is matched; for all else the message says what is different.
"""

import codecs
import csv
import difflib
import io
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from typing import NamedTuple

from runtime import files
from runtime.errors import UserError, one_line

COLUMNS = ("file", "identity")
SEPARATORS = (",", ";", "\t")
MOST_BYTES = 1 << 28  # of a list; a million lines have less than half of it
MOST_COMPARED = 50000  # pairs of names compared letter by letter, which takes about a second


class Label(NamedTuple):
    """One line of a list.

    Attributes:
        number: int, of the line in its file, from 1.
        file: str, the photograph as it is written there.
        identity: str, name of the person, in Unicode's composed form (NFC).
    """

    number: int
    file: str
    identity: str


def read_labels(path):
    """Reads a list of photographs and people.

    The text is UTF-8 (with or without byte order mark), UTF-16 or cp1252. Columns are separated by
    commas, semicolons or tabs; the first line names them, `file` and `identity` among them.

    Args:
        path: Path of the list.

    Returns:
        List of Labels, in the order of the file; empty lines are left out.

    Raises:
        UserError: the list cannot be read, is not such a list, or a line lacks one of the two; the
            message names file and line.
    """
    text = read_text(path)
    lines = io.StringIO(text, newline="")
    skipped = 0
    start = text[:6].lower()
    if start.startswith("sep=") and text[5:6] in ("\r", "\n"):  # which Excel understands
        lines.readline()
        skipped = 1
    place = lines.tell()
    for separator in SEPARATORS:
        lines.seek(place)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
        except csv.Error:
            continue
        if all(header.count(name) == 1 for name in COLUMNS):
            return _labels(reader, [header.index(name) for name in COLUMNS], path, skipped)
    raise UserError(f"{path}: its first line must name the columns file and identity, as in "
                    "file,identity (or with semicolons or tabs)")


def _labels(reader, columns, path, skipped):
    labels = []
    try:
        for row in reader:
            number = reader.line_num + skipped
            if not any(cell.strip() for cell in row):
                continue
            file, identity = [row[column].strip() if column < len(row) else ""
                              for column in columns]
            if not file or not identity:
                raise UserError(f"{path}, line {number}: the file or the identity is missing")
            labels.append(Label(number, file, unicodedata.normalize("NFC", identity)))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + skipped}: {error}; is a quotation mark "
                        "left open?")
    return labels


def read_text(path):
    """The text of a list; see read_labels for the encodings.

    Raises:
        UserError: it cannot be read, is not a regular file (a pipe may never end), or not text.
    """
    with files.open_regular(path) as stream, files.reading(path):
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is too large for a list: more than {MOST_BYTES >> 20} MB")
    encoding = _wide_encoding(content)
    try:
        text = content.decode(encoding) if encoding else _decode_lines(content)
    except ValueError as error:
        raise UserError(f"{path} is not text: {error}")
    if "\0" in text:
        raise UserError(f"{path} is not text: it has NUL characters")
    return text.lstrip("\ufeff")


def _wide_encoding(content):
    """utf-16 where a byte order mark or the zeros of Latin letters say so; else None."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = content[:200]
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 4 and zeros.count(0) > 0.8 * len(zeros):
            return encoding
    return None


def _decode_lines(content):
    """UTF-8; where that is damaged, line by line the one or else cp1252."""
    try:
        return content.decode("utf-8")
    except ValueError:
        return "".join(_decode_line(line) for line in content.splitlines(True))


def _decode_line(line):
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except ValueError:
            pass
    return line.decode("latin-1")  # which has a letter for each byte


class Names:
    """Names that there are (of files or people), to find typed ones among.

    Args:
        names: of str, such as places of photographs with "/" between the parts.
        root: Path of the folder that they lie below: typed names may begin with it. None if they
            are not files.
    """

    def __init__(self, names, root=None):
        self._names = list(dict.fromkeys(names))
        self._all = set(self._names)
        self._tables = {}
        self._compared = 0
        self._roots = () if root is None else tuple(dict.fromkeys(
            str(path).rstrip("/") + "/" for path in (
                root, os.path.abspath(root), os.path.realpath(root))))

    def find(self, typed):
        """The one name that is meant by a typed one; None if there is none, or more than one.

        Unicode's normal forms, \\ for /, a ./ before it and the folder's own path make no
        difference; nor do bytes that are no UTF-8 where the list has them in cp1252.
        """
        found = self._matches(typed)
        return found[0] if len(found) == 1 else None

    def difference(self, typed):
        """What is different between a typed name that `find` does not find, and the likeliest one.

        Returns:
            (kind, text): what is different, the same str for all of a kind; and a str that adds
            the names, for a message.
        """
        shown = one_line(typed, 100)
        found = self._matches(typed)
        if len(found) > 1:
            return "may mean several", f"{shown} may be {_either(found)}"
        plain = _plain(typed)
        for kind, key in DIFFERENCES:
            found = self._table(key).get(key(plain), ())
            if found:
                return kind, f"{shown}: there is {_either(found)}"
        if self._compared + len(self._names) <= MOST_COMPARED:
            self._compared += len(self._names)
            found = difflib.get_close_matches(plain, self._names, n=2, cutoff=0.75)
            if found:
                return "are spelled differently", f"{shown}: there is {_either(found)}"
        return "are not there", shown

    def _matches(self, typed):
        """All names that a typed one can mean; of several ways to match, the closest."""
        if typed in self._all:
            return [typed]
        plain = _plain(typed)
        for start in self._roots:
            if plain.startswith(start):
                plain = _plain(plain[len(start):])
                break
        for key in (_composed, _compatible):
            found = self._table(key).get(key(plain), ())
            if found:
                return found
        return []

    def _table(self, key):
        """{key of a name: names}, made on first use."""
        if key not in self._tables:
            table = self._tables[key] = defaultdict(list)
            for name in self._names:
                table[key(_readable(name))].append(name)
        return self._tables[key]


def _plain(typed):
    """A typed name with one "/" between its parts, and without . and .. where they say nothing."""
    return posixpath.normpath(re.sub(r"[\\/]+", "/", typed))


def _readable(name):
    """A file's name as text: bytes that are no UTF-8 as cp1252, as decode reads them."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = _decode_line(os.fsencode(name))
    return name.replace("\\", "/")


def _composed(name):
    return unicodedata.normalize("NFC", name)


def _compatible(name):
    return unicodedata.normalize("NFKC", name)


def _folded(name):
    return unicodedata.normalize("NFC", _compatible(name).casefold())


def _squeezed(name):
    return "".join(_folded(name).replace("_", " ").replace("-", " ").split())


def _bare(name):
    return "".join(letter for letter in unicodedata.normalize("NFD", _squeezed(name))
                   if not unicodedata.combining(letter))


# How a typed name may differ from one that there is, and by what key both are then the same.
DIFFERENCES = (
    ("differ in upper and lower case", _folded), ("differ in blanks or _", _squeezed),
    ("differ in accents or marks", _bare),
    ("differ in their ending", lambda name: os.path.splitext(_folded(name))[0]),
    ("lie in another folder", lambda name: _composed(name).rsplit("/", 1)[-1]),
    ("lie in another folder", lambda name: _folded(name).rsplit("/", 1)[-1]))


def _either(names):
    """The first names of a list in words."""
    shown = [one_line(name, 100) for name in names[:3]]
    if len(set(shown)) < len(shown):  # one letter in two Unicode forms
        shown = [ascii(name) for name in names[:3]]
    return " or ".join(shown) + (", ..." if len(names) > 3 else "")
