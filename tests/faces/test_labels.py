"""Lists that people write, and names that people type."""

import os
import unicodedata

import pytest

from faces.labels import Names, read_labels
from runtime.errors import UserError

ROWS = [("Zoë/1.jpg", "Zoë"), ("Bo, Jr./2.jpg", "Bo; \"B\""), ("x y.png", "Ann")]


def written(path, rows, separator=",", encoding="utf-8", line_end="\n", head=""):
    """A list as a spreadsheet writes it: cells with separators or quotation marks are quoted."""
    def cell(text):
        return '"' + text.replace('"', '""') + '"' if separator in text or '"' in text else text
    lines = [separator.join(map(cell, row)) for row in [("file", "Identity ")] + rows]
    path.write_bytes((head + line_end.join(lines) + line_end).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
                                      "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_and_separators(tmp_path, encoding, separator, line_end):
    path = written(tmp_path / "list.csv", ROWS, separator, encoding, line_end)
    assert [(label.number, label.file, label.identity) for label in read_labels(path)] == [
        (number, *row) for number, row in enumerate(ROWS, 2)]


def test_columns_may_stand_anywhere_and_excels_hint_is_understood(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"sep=;\r\nid;identity;note;file\r\n1;Ann;x;a.jpg\r\n;;;\r\n3;Bo;;b.jpg\r\n")
    assert [(label.number, label.file, label.identity) for label in read_labels(path)] == [
        (3, "a.jpg", "Ann"), (5, "b.jpg", "Bo")]


def test_one_name_in_two_unicode_forms_is_one_person(tmp_path):
    forms = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    path = written(tmp_path / "l.csv", [("1.jpg", forms[0]), ("2.jpg", forms[1])])
    assert {label.identity for label in read_labels(path)} == {"Zoë"}


def test_lines_of_two_encodings(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes("file,identity\nZoë.jpg,A\n".encode() + "Bö.jpg,B\n".encode("cp1252"))
    assert [label.file for label in read_labels(path)] == ["Zoë.jpg", "Bö.jpg"]


@pytest.mark.parametrize("content", [
    b"", b"file;name\n", b"file,file,identity\n", b"file,identity\na.jpg\n",
    b"file,identity\n,Ann\n", b"file,identity\na.jpg,\"Ann\n", b"\xff\xfe\0\0", b"\xff\xfea",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"file,identity\n" + b"x" * 200000 + b",Ann\n"])
def test_damaged_lists_are_refused_by_name(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="list.csv"):
        read_labels(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "none", "x" * 300, "device"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, kind):
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=kind):
        read_labels(path)


@pytest.mark.parametrize("there", [unicodedata.normalize(form, "Zoë/é 1.jpg")
                                   for form in ("NFC", "NFD", "NFKC", "NFKD")])
def test_any_unicode_form_and_separator(tmp_path, there):
    names = Names([there, "Bo/1.jpg"], tmp_path)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        typed = unicodedata.normalize(form, "Zoë/é 1.jpg")
        for text in (typed, typed.replace("/", "\\"), "./" + typed, typed.replace("/", "//"),
                     f"{tmp_path}/{typed}"):
            assert names.find(text) == there


def test_names_of_bytes_that_are_no_text():
    there = os.fsdecode(b"B\xf6/1.jpg")
    assert Names([there, "Bo/1.jpg"]).find("Bö/1.jpg") == there
    assert Names([there]).find(there) == there


def test_two_files_in_two_forms_are_told_apart():
    forms = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    names = Names(forms)
    assert [names.find(form) for form in forms] == forms
    assert Names(["ﬁ.jpg", "fi.jpg"]).find("fi.jpg") == "fi.jpg"
    assert Names(["ﬁ.jpg"]).find("fi.jpg") == "ﬁ.jpg"
    angstroms = Names(["\u212b.jpg", "A\u030a.jpg"])
    assert angstroms.find("\xc5.jpg") is None
    assert angstroms.difference("\xc5.jpg")[0] == "may mean several"


@pytest.mark.parametrize("typed, kind, mention", [
    ("ann lee/1.jpg", "case", "Ann Lee/1.jpg"), ("Ann_Lee/1.jpg", "blanks", "Ann Lee/1.jpg"),
    ("Ann Lee/1.png", "ending", "Ann Lee/1.jpg"), ("Zoe/2.jpg", "accents", "Zoë/2.jpg"),
    ("old/3.JPG", "folder", "Bo/3.jpg"), ("C:\\photos\\3.jpg", "folder", "Bo/3.jpg"),
    ("Ann Lee/11.jpg", "spelled", "Ann Lee/1.jpg"), ("other", "not there", "other")])
def test_what_is_different_is_said(typed, kind, mention):
    names = Names(["Ann Lee/1.jpg", "Zoë/2.jpg", "Bo/3.jpg"])
    assert names.find(typed) is None
    found = names.difference(typed)
    assert kind in found[0] and mention in found[1]
