"""Who is who, and who goes: changes of a gallery's people and faces, one transaction each.

All but `remove` are steps, which `undo` takes back, the last one first.
"""

import itertools
import json
import os
import re
from typing import NamedTuple, Optional

from faces.labels import Names
from gallery import steps
from gallery.groups import regroup
from gallery.store import Writer, below, clean_name
from runtime.errors import UserError, one_line

# Faces (?1, as JSON) and others of the same photograph, as SQL.
SAME_PHOTOGRAPH = (
    "FROM faces JOIN faces AS other ON other.photograph = faces.photograph AND other.id != faces.id"
    " JOIN photographs ON photographs.id = faces.photograph "
    "WHERE faces.id IN (SELECT value FROM json_each(?1))")
PARTED = 50  # faces of a group from which another one's are noted to be apart, each


class Naming(NamedTuple):
    """What a change of names did.

    Attributes:
        name: str of the person now, or None.
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
        UserError: there is nobody of the old name, the new one is empty, or one photograph shows
            both people.
    """
    new = _checked_name(new)
    with Writer(path) as writer:
        person, old = _person(writer, old)
        other = writer.rows("SELECT id FROM people WHERE name = ? AND id != ?", new, person)
        steps.begin(writer, f"{one_line(old, 60)} is {one_line(new, 60)}")
        count = len(_faces_of(writer, person)) if new != old else 0
        if other:
            _merge(writer, person, other[0][0])
        else:
            writer.run("UPDATE people SET name = ? WHERE id = ?", new, person)
        writer.commit()
        return Naming(new, count, bool(other))


def _merge(writer, person, into):
    """Makes two people (ids) one."""
    _check_once(writer, _faces_of(writer, person), into)
    for table in ("labels", "probes", "faces"):
        writer.run(f"UPDATE {table} SET person = ? WHERE person = ?", into, person)
    writer.run("UPDATE OR IGNORE rejected SET person = ? WHERE person = ?", into, person)
    writer.run("DELETE FROM rejected WHERE person = ?", person)
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
        UserError: an id that is not there, an empty name, or one photograph would have the name
            twice; nothing is changed then.
    """
    name = None if name is None else _checked_name(name)
    with Writer(path) as writer:
        ids = _checked_ids(writer, ids)
        steps.begin(writer, f"{len(ids)} faces are {one_line(name or 'nobody', 60)}")
        name_in(writer, ids, name)
        writer.commit()
        return Naming(name, len(ids))


def name_in(writer, ids, name):
    """name_faces as part of a change: writer is a gallery.store.Writer in a step."""
    person = None if name is None else writer.named(name)
    if person is not None:
        _check_once(writer, ids, person)
    for face in ids:
        writer.run("UPDATE faces SET person = ?, by_hand = 1 WHERE id = ?", person, face)
        writer.run("DELETE FROM rejected WHERE face = ? AND person = ?", face, person)
        writer.run("DELETE FROM groups WHERE face = ?", face)
    writer.faces_changed(len(ids))
    regroup(writer)


def _check_once(writer, ids, person):
    """Makes sure that some faces (ids) may all have one name: a photograph has it once.

    Where another face of a photograph has the name by its likeness alone, it loses it.

    Args:
        person: id, or None of a group without a name.
    """
    values = json.dumps(ids), person
    guessed = [face for face, in writer.rows(
        f"SELECT other.id {SAME_PHOTOGRAPH} AND other.person = ?2 AND other.by_hand = 0 AND "
        "other.id IN (SELECT face FROM groups)", *values)]
    _leave(writer, guessed)
    twice = writer.rows(
        f"SELECT path, faces.id, other.id {SAME_PHOTOGRAPH} AND (other.person = ?2 OR other.id IN "
        "(SELECT value FROM json_each(?1))) ORDER BY faces.id LIMIT 1", *values)
    if twice:
        file, face, other = twice[0]
        raise UserError(
            f"{one_line(os.fsdecode(file))} would show one person twice: faces {face} and {other}; "
            "say first who one of them is, or is not: python search.py name, or reject")


def name_group(path, who, name):
    """Says who all faces of a group are; see name_faces.

    Args:
        who: a group without a name, or a person; see merge.
    """
    name = _checked_name(name)
    with Writer(path) as writer:
        found = _who(writer, who)
        steps.begin(writer, f"{found.said} is {one_line(name, 60)}")
        name_in(writer, found.ids, name)
        writer.commit()
        return Naming(name, len(found.ids))


def merge(path, who, into):
    """Makes two people, or groups, one.

    Args:
        path: of the gallery.
        who, into: names, or groups, as "group 7" or "7". The one that has a name gives it to the
            other; of two names the second stays.

    Returns:
        Naming; its name is None if neither has one.

    Raises:
        UserError: there is no such person or group, or one photograph shows both.
    """
    with Writer(path) as writer:
        first, second = _two(writer, who, into)
        steps.begin(writer, f"{first.said} and {second.said} are one person")
        if first.person is not None and second.person is None:
            first, second = second, first
        if first.person is not None:
            _merge(writer, first.person, second.person)
        elif second.person is not None:
            name_in(writer, first.ids, second.said)
        else:
            _check_once(writer, first.ids + second.ids, None)
            _keep_together(writer, first.ids, second.number)
        writer.commit()
        return Naming(second.said if second.person is not None else None, len(first.ids), True)


def keep_apart(path, who, other):
    """Notes that two people, or groups, are not one: they are neither grouped nor suggested.

    Args, Raises: see merge.
    """
    with Writer(path) as writer:
        first, second = _two(writer, who, other)
        steps.begin(writer, f"{first.said} and {second.said} are two people")
        if first.person is not None and second.person is None:
            first, second = second, first
        if first.person is None and second.person is not None:
            _reject(writer, first.ids, second.person)
        else:
            _part(writer, first.ids, second.ids)
        writer.commit()


def split(path, ids):
    """Says that some faces are somebody else than the rest of their groups: one other person.

    Args:
        path: of the gallery.
        ids: of faces.

    Returns:
        int, the number of the group that they are now.

    Raises:
        UserError: an id that is not there, or two faces of one photograph.
    """
    with Writer(path) as writer:
        ids = _checked_ids(writer, ids)
        _check_once(writer, ids, None)
        steps.begin(writer, f"{len(ids)} faces are somebody else")
        for some in _by_group(writer, ids):
            _take_out(writer, some)
        number = writer.next_group()
        _keep_together(writer, ids, number)
        writer.commit()
        return number


def reject(path, ids, name=None):
    """Says that faces are not whom they are taken for. They stay rejected.

    Args:
        path: of the gallery.
        ids: of faces.
        name: of the person that they are not; None for the person or group that each is in now.

    Returns:
        int, how many faces left a person or group.

    Raises:
        UserError: an id or name that is not there, or a face that is in no group.
    """
    with Writer(path) as writer:
        ids = _checked_ids(writer, ids)
        steps.begin(writer, f"{len(ids)} faces are not {one_line(name or 'who they were', 60)}")
        if name is None:
            left = len(ids)
            for some in _by_group(writer, ids):
                _take_out(writer, some)
        else:
            person, _ = _person(writer, name)
            left = len(set(ids) & set(_faces_of(writer, person)))
            _reject(writer, ids, person)
        regroup(writer)
        writer.commit()
        return left


def undo(path):
    """Takes the last step back: a naming, merging, splitting, rejecting or marking.

    Returns:
        str, what it was.

    Raises:
        UserError: there is none, or the gallery has followed its folders since.
    """
    with Writer(path) as writer:
        text = steps.undo(writer)
        if text is None:
            raise UserError(f"{path} has no step to undo; index, add and remove are not undone")
        writer.commit()
        return text


class _Who(NamedTuple):
    """A person, or a group without a name: id, or number; ids of its faces; how people say it."""

    person: Optional[int]
    number: Optional[int]
    ids: list
    said: str


def _who(writer, typed):
    """The _Who that somebody typed: a name, or a group, as "group 7" or "7"."""
    typed = str(typed)
    match = re.match(r"(group )?([0-9]{1,18})\Z", typed)
    if match and not writer.rows("SELECT 1 FROM people WHERE name = ?", typed):
        number = int(match.group(2))
        ids = _in_group(writer, number)
        if not ids:
            raise UserError(f"{writer.path} has no group {number}; python search.py groups lists "
                            "them")
        return _Who(None, number, ids, f"group {number}")
    person, name = _person(writer, typed)
    return _Who(person, None, _faces_of(writer, person), name)


def _two(writer, who, other):
    """Two different _Whos."""
    first, second = _who(writer, who), _who(writer, other)
    if first == second:
        raise UserError(f"{first.said} is named twice; name two people, or groups")
    return first, second


def _by_group(writer, ids):
    """Faces sorted by the people and groups that they are in: list of lists of ids.

    Raises:
        UserError: a face is in none.
    """
    found = {}
    for face in ids:
        person, number = _now(writer, face)
        if person is None and number is None:
            raise UserError(f"face {face} has no name and is in no group")
        found.setdefault((person, number), []).append(face)
    return list(found.values())


def _now(writer, face):
    """(person, number) of a face: id of its person and number of its group, or None."""
    return writer.rows("SELECT person, groups.number FROM faces LEFT JOIN groups ON face = id "
                       "WHERE id = ?", face)[0]


def _take_out(writer, ids):
    """Takes some faces (ids) of one person or group out of it, for good."""
    person, number = _now(writer, ids[0])
    if person is not None:
        _reject(writer, ids, person)
        return
    rest = [face for face in _in_group(writer, number) if face not in set(ids)]
    _part(writer, ids, rest)
    _leave(writer, ids)


def _reject(writer, ids, person):
    """Notes that faces are not a person; those that had the name lose it."""
    for face in ids:
        writer.run("INSERT OR IGNORE INTO rejected VALUES (?, ?)", face, person)
    had = set(_faces_of(writer, person))
    _leave(writer, [face for face in ids if face in had])


def _part(writer, ids, others):
    """Notes that two lots of faces are two people's: each with some of the other lot."""
    for pair in {*itertools.product(ids, others[:PARTED]),
                 *itertools.product(ids[:PARTED], others)}:
        writer.run("INSERT OR IGNORE INTO apart VALUES (?, ?)", *sorted(pair))


def _leave(writer, ids):
    """Takes name and group from faces; regroup looks at them again."""
    for face in ids:
        writer.run("UPDATE faces SET person = NULL, by_hand = 0 WHERE id = ?", face)
        writer.run("DELETE FROM groups WHERE face = ?", face)
    writer.faces_changed(len(ids))


def _keep_together(writer, ids, number):
    """Puts faces without a name into a group."""
    for face in ids:
        writer.set_group(face, number)


def _in_group(writer, number):
    return [face for face, in writer.rows(
        "SELECT face FROM groups JOIN faces ON id = face WHERE groups.number = ? AND "
        "person IS NULL ORDER BY face", number)]


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
            person, _ = _person(writer, name)
            faces += _faces_of(writer, person)
            writer.run("DELETE FROM rejected WHERE person = ?", person)
        photographs = photographs_at(writer, files)
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


def photographs_at(writer, files):
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
