"""Who is who, and who goes: changes of a gallery's people and faces, one transaction each."""

import os
from typing import NamedTuple

from faces.labels import Names
from gallery.store import Writer, below, clean_name
from runtime.errors import UserError, one_line


class Naming(NamedTuple):
    """What a change of names did.

    Attributes:
        name: str of the person now.
        faces: int, whose name has changed.
        merged: bool, whether two people became one.
    """

    name: str
    faces: int
    merged: bool = False


def rename(path, old, new):
    """Gives a person another name; two people become one if the name is another person's.

    Folders and lists that call the person by the old name still mean the same person.

    Args:
        path: of the gallery.
        old, new: names, str.

    Returns:
        Naming.

    Raises:
        UserError: there is nobody of the old name, or the new one is empty.
    """
    new = _checked_name(new)
    with Writer(path) as writer:
        person, old = _person(writer, old)
        count = len(_faces_of(writer, person)) if new != old else 0
        other = writer.rows("SELECT id FROM people WHERE name = ?", new)
        if other and other[0][0] != person:
            _merge(writer, person, other[0][0])
        else:
            writer.run("UPDATE people SET name = ? WHERE id = ?", new, person)
        writer.commit()
        return Naming(new, count, bool(other) and other[0][0] != person)


def _merge(writer, person, into):
    for table in ("labels", "probes", "faces"):
        writer.run(f"UPDATE {table} SET person = ? WHERE person = ?", into, person)
    writer.faces_changed(len(_faces_of(writer, into)))


def name_faces(path, ids, name):
    """Says who some faces are. `add` leaves such names alone, also where a photograph moves.

    Args:
        path: of the gallery.
        ids: of faces.
        name: of a person, new or known; None for nobody.

    Returns:
        Naming.

    Raises:
        UserError: an id that is not there, or an empty name; nothing is changed then.
    """
    name = None if name is None else _checked_name(name)
    with Writer(path) as writer:
        ids = _checked_ids(writer, ids)
        person = None if name is None else writer.named(name)
        for face in ids:
            writer.faces_changed(writer.run(
                "UPDATE faces SET person = ?, by_hand = 1 WHERE id = ?", person, face).rowcount)
        writer.commit()
        return Naming(name, len(ids))


def remove(path, ids=(), names=(), files=()):
    """Removes faces, with their thumbnails and names.

    Of a photograph whose last face goes, only salted hashes stay, so that `add` leaves it out until
    the file changes.

    Args:
        path: of the gallery.
        ids: of faces.
        names: of people, whose faces all go.
        files: photographs, or folders of them, that go with their faces.

    Returns:
        int, how many faces are gone.

    Raises:
        UserError: an id, name or file that is not there; nothing is removed then.
    """
    with Writer(path) as writer:
        before = _count(writer)
        faces = _checked_ids(writer, ids)
        for name in names:
            faces += _faces_of(writer, _person(writer, name)[0])
        photographs = _photographs(writer, files)
        _remove_faces(writer, faces)
        writer.shut_out(photographs)
        count = before - _count(writer)
        writer.commit()
        return count


def _remove_faces(writer, faces):
    """Removes faces (ids); photographs that have none left are shut out."""
    touched = set()
    for face in faces:
        for photograph, number in writer.rows(
                "SELECT photograph, number FROM faces WHERE id = ?", face):
            writer.run("DELETE FROM faces WHERE id = ?", face)
            writer.faces_changed(1)
            if photograph is not None:
                touched.add(photograph)
                writer.run("UPDATE photographs SET removed = removed || ? WHERE id = ?",
                           f"{number},", photograph)
    writer.shut_out([photograph for photograph in sorted(touched) if not writer.rows(
        "SELECT 1 FROM faces WHERE photograph = ? LIMIT 1", photograph)])


def _count(writer):
    return writer.rows("SELECT count(*) FROM faces")[0][0]


def _faces_of(writer, person):
    return [face for face, in writer.rows("SELECT id FROM faces WHERE person = ?", person)]


def _checked_ids(writer, ids):
    """Ids of faces as whole numbers of Python's, each once."""
    ids = list(dict.fromkeys(map(int, ids)))
    for face in ids:
        if not -2 ** 63 <= face < 2 ** 63 or not writer.rows(
                "SELECT 1 FROM faces WHERE id = ?", face):
            raise UserError(f"{writer.path} holds no face with the id {face}")
    return ids


def _checked_name(name):
    name = clean_name(name)
    if not name:
        raise UserError("a name must not be empty")
    return name


def _person(writer, typed):
    """(id, name) of the person of a name that somebody typed."""
    names = Names(name for name, in writer.rows("SELECT name FROM people ORDER BY name"))
    found = names.find(typed) if typed.strip() else None
    if found is None:
        raise UserError(f"{writer.path} holds nobody named {one_line(typed, 60)!r}: "
                        f"{_difference(names, typed)}")
    return writer.rows("SELECT id FROM people WHERE name = ?", found)[0][0], found


def _photographs(writer, files):
    """Ids of the photographs that typed paths, of files or folders, mean."""
    found = []
    for typed in files:
        if not typed.strip():
            raise UserError("--file names nothing; name a photograph, or a folder of them")
        ids = [photograph for path in dict.fromkeys((os.path.abspath(typed),
                                                     os.path.realpath(typed)))
               for photograph in _at(writer, path)]
        if not ids:  # another Unicode form, or \ for /
            paths = {os.fsdecode(path) for path, in writer.rows("SELECT path FROM photographs")}
            folders = {parent for path in paths for parent in _parents(path)}
            names = Names(sorted(paths | folders))
            path = names.find(typed) or names.find(os.path.abspath(typed.replace("\\", "/")))
            if path is None:
                raise UserError(f"{writer.path} holds no photograph {one_line(typed)}: "
                                + _difference(names, os.path.abspath(typed)))
            ids = _at(writer, path)
        found += ids
    return found


def _at(writer, path):
    where, values = below(path)
    return [photograph for photograph, in writer.rows(
        f"SELECT id FROM photographs WHERE path = ? OR ({where})", os.fsencode(path), *values)]


def _parents(path):
    while os.path.dirname(path) != path:
        path = os.path.dirname(path)
        yield path


def _difference(names, typed):
    kind, text = names.difference(typed)
    return "it is not there" if kind == "are not there" else text
