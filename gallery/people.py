"""Who is who, and who goes: changes of a gallery's people and faces, one transaction each.

All but `remove` are steps, which `undo` takes back, the last one first. They take the path of a
gallery, ids of faces, and names as somebody types them. An id, name, group or file that is not
there, and a name that is empty, raise UserError; nothing is changed then. So does what would give
two faces of one photograph one name.
"""

import itertools
import json
import os
import re
from pathlib import Path
from typing import NamedTuple, Optional

from faces.labels import Names
from gallery import steps
from gallery.groups import regroup
from gallery.store import GIVEN, Writer, below, clean_name
from runtime.command_line import counted
from runtime.errors import UserError, one_line

# Faces (?1, as JSON) and others of the same photograph, as SQL.
SAME_PHOTOGRAPH = (
    "FROM faces JOIN faces AS other ON other.photograph = faces.photograph AND other.id != faces.id"
    f" JOIN photographs ON photographs.id = faces.photograph WHERE faces.id {GIVEN}")
PARTED = 50  # faces of a group from which another one's are noted to be apart, each


class Naming(NamedTuple):
    """What a change of names did."""

    name: Optional[str]  # of the person now
    faces: int  # whose name has changed
    merged: bool = False  # whether two people became one


def rename(path, old, new):
    """Gives a person another name; two people become one if the name is another person's.

    Folders and lists that call the person by the old name still mean the same person. Returns a
    Naming.
    """
    new = _checked_name(new)
    with steps.step(path) as writer:
        person, old = _person(writer, old)
        other = writer.rows("SELECT id FROM people WHERE name = ? AND id != ?", new, person)
        steps.begin(writer, f"{one_line(old, 60)} is {one_line(new, 60)}")
        count = len(_faces_of(writer, person)) if new != old else 0
        if other:
            _merge(writer, person, other[0][0])
        else:
            writer.run("UPDATE people SET name = ? WHERE id = ?", new, person)
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
    """Says who some faces are (None: nobody). Returns a Naming.

    `add` leaves such names alone, also where a photograph moves.
    """
    name = None if name is None else _checked_name(name)
    with steps.step(path) as writer:
        ids = _checked_ids(writer, ids)
        steps.begin(writer, f"{_faces_are(ids)} {one_line(name or 'nobody', 60)}")
        return name_in(writer, ids, name)


def name_in(writer, ids, name):
    """name_faces as part of a step."""
    person = None if name is None else writer.named(name)
    if person is not None:
        _check_once(writer, ids, person)
    some = json.dumps(ids)
    writer.run(f"UPDATE faces SET person = ?2, by_hand = 1 WHERE id {GIVEN}", some, person)
    writer.run(f"DELETE FROM rejected WHERE face {GIVEN} AND person = ?2", some, person)
    writer.run(f"DELETE FROM groups WHERE face {GIVEN}", some)
    writer.faces_changed(len(ids))
    regroup(writer)
    return Naming(name, len(ids))


def _faces_are(ids):
    return counted(len(ids), "face is", "faces are")


def _check_once(writer, ids, person):
    """Makes sure that some faces (ids) may all have one name: a photograph has it once.

    Where another face of a photograph has the name by its likeness alone, it loses it.

    Args:
        person: id, or None of a group without a name.
    """
    values = json.dumps(ids), person
    _leave(writer, [face for face, in writer.rows(
        f"SELECT other.id {SAME_PHOTOGRAPH} AND other.person = ?2 AND other.by_hand = 0 AND "
        "other.id IN (SELECT face FROM groups)", *values)])
    twice = writer.rows(
        f"SELECT path, faces.id, other.id {SAME_PHOTOGRAPH} AND (other.person = ?2 OR "
        f"other.id {GIVEN}) ORDER BY faces.id LIMIT 1", *values)
    if twice:
        file, face, other = twice[0]
        raise UserError(
            f"{one_line(os.fsdecode(file))} would show one person twice: faces {face} and {other}; "
            "first name or reject one of them: python search.py name, or reject")


def name_group(path, who, name):
    """Says who all faces of a group, or person, are; see merge and name_faces."""
    name = _checked_name(name)
    with steps.step(path) as writer:
        found = _who(writer, who)
        steps.begin(writer, f"{found.said} is {one_line(name, 60)}")
        return name_in(writer, found.ids, name)


def merge(path, who, into):
    """Makes two people, or groups, one.

    Args:
        who, into: names, or groups, as "group 7" or "7". The one that has a name gives it to the
            other; of two names the second stays.

    Returns:
        Naming; its name is None if neither has one.
    """
    with steps.step(path) as writer:
        first, second = _two(writer, who, into)
        steps.begin(writer, f"{first.said} and {second.said} are one person")
        first, second = _named_last(first, second)
        if first.person is not None:
            _merge(writer, first.person, second.person)
        elif second.person is not None:
            name_in(writer, first.ids, second.said)
        else:
            _check_once(writer, first.ids + second.ids, None)
            _keep_together(writer, first.ids, second.number)
        return Naming(second.said if second.person is not None else None, len(first.ids), True)


def keep_apart(path, who, other):
    """Notes that two people, or groups, are not one: they are neither grouped nor suggested."""
    with steps.step(path) as writer:
        first, second = _two(writer, who, other)
        steps.begin(writer, f"{first.said} and {second.said} are two people")
        first, second = _named_last(first, second)
        if first.person is None and second.person is not None:
            _reject(writer, first.ids, second.person)
        else:
            _part(writer, first.ids, second.ids)


def split(path, ids):
    """Says that some faces are somebody else than the rest of their groups: one other person.

    Returns:
        int, the number of the group that they are now.
    """
    with steps.step(path) as writer:
        ids = _checked_ids(writer, ids)
        _check_once(writer, ids, None)
        steps.begin(writer, f"{_faces_are(ids)} somebody else")
        for some in _by_group(writer, ids):
            _take_out(writer, some)
        number = writer.next_group()
        _keep_together(writer, ids, number)
        return number


def reject(path, ids, name=None):
    """Says that faces are not whom they are taken for. They stay rejected.

    Args:
        name: of the person that they are not; None for the person or group that each is in now.

    Returns:
        int, how many faces left a person or group.
    """
    with steps.step(path) as writer:
        ids = _checked_ids(writer, ids)
        steps.begin(writer, f"{_faces_are(ids)} "
                            + ("rejected" if name is None else f"not {one_line(name, 60)}"))
        if name is None:
            left = len(ids)
            for some in _by_group(writer, ids):
                _take_out(writer, some)
        else:
            left = _reject(writer, ids, _person(writer, name)[0])
        regroup(writer)
        return left


def undo(path):
    """Takes the last step back. Returns what it was, str.

    There is none any more once the gallery has followed its folders.
    """
    with steps.step(path) as writer:
        text = steps.undo(writer)
        if text is None:
            raise UserError(f"{path} has no step to undo; index, add and remove are not undone")
        return text


class _Who(NamedTuple):
    """A person, or a group without a name."""

    person: Optional[int]  # id
    number: Optional[int]  # of the group
    ids: list  # of its faces
    said: str  # how people say it


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


def _named_last(first, second):
    """Two _Whos; if one alone has a name, that is the second."""
    swapped = first.person is not None and second.person is None
    return (second, first) if swapped else (first, second)


def _by_group(writer, ids):
    """Faces sorted by the people and groups that they are in: list of lists of ids.

    Raises:
        UserError: a face is in none.
    """
    found = {}
    for face in ids:
        now = _now(writer, face)
        if now == (None, None):
            raise UserError(f"face {face} has no name and is in no group")
        found.setdefault(now, []).append(face)
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
    _part(writer, ids, [face for face in _in_group(writer, number) if face not in set(ids)])
    _leave(writer, ids)


def _reject(writer, ids, person):
    """Notes that faces are not a person; returns how many had the name, which they lose."""
    writer.run("INSERT OR IGNORE INTO rejected SELECT value, ?2 FROM json_each(?1)",
               json.dumps(ids), person)
    had = set(_faces_of(writer, person))
    left = [face for face in ids if face in had]
    _leave(writer, left)
    return len(left)


def _part(writer, ids, others):
    """Notes that two lots of faces are two people's: each with some of the other lot."""
    for pair in {*itertools.product(ids, others[:PARTED]),
                 *itertools.product(ids[:PARTED], others)}:
        writer.run("INSERT OR IGNORE INTO apart VALUES (?, ?)", *sorted(pair))


def _leave(writer, ids):
    """Takes name and group from faces; regroup looks at them again."""
    some = json.dumps(ids)
    writer.run(f"UPDATE faces SET person = NULL, by_hand = 0 WHERE id {GIVEN}", some)
    writer.run(f"DELETE FROM groups WHERE face {GIVEN}", some)
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
    """Removes faces, with their thumbnails and names; returns how many.

    Of a photograph whose last face goes, only salted hashes stay, so that `add` leaves it out until
    the file changes.

    Args:
        ids: of faces.
        names: of people, whose faces all go.
        files: photographs, or folders of them, that go with their faces.
    """
    with Writer(path) as writer:
        before = writer.count("faces")
        faces = _checked_ids(writer, ids)
        for name in names:
            person, _ = _person(writer, name)
            faces += _faces_of(writer, person)
            writer.run("DELETE FROM rejected WHERE person = ?", person)
        photographs = photographs_at(writer, files)
        some = json.dumps(faces)
        touched = writer.rows(f"SELECT DISTINCT photograph FROM faces WHERE id {GIVEN} AND "
                              "photograph IS NOT NULL ORDER BY photograph", some)
        writer.run("UPDATE photographs SET removed = removed || (SELECT group_concat(number || ',',"
                   f" '') FROM faces WHERE photograph = photographs.id AND id {GIVEN}) WHERE id IN "
                   f"(SELECT photograph FROM faces WHERE id {GIVEN})", some)
        writer.remove_faces(faces)
        writer.shut_out(photographs + [photograph for photograph, in touched if not writer.rows(
            "SELECT 1 FROM faces WHERE photograph = ? LIMIT 1", photograph)])
        count = before - writer.count("faces")
        writer.commit()
        return count


def _faces_of(writer, person):
    return [face for face, in writer.rows("SELECT id FROM faces WHERE person = ?", person)]


def _checked_ids(writer, ids):
    """Ids of faces as whole numbers of Python's, each once."""
    ids = list(dict.fromkeys(map(int, ids)))
    known = {face for face, in writer.rows(f"SELECT id FROM faces WHERE id {GIVEN}",
                                           json.dumps(ids))}
    for face in ids:
        if face not in known:
            raise UserError(f"{writer.path} holds no face with the id {face}")
    return ids


def _checked_name(name):
    name = clean_name(name)
    if not name:
        raise UserError("a name must not be empty")
    return name


def _person(writer, typed):
    """(id, name) of the person of a name that somebody typed."""
    people = {name: person for person, name in writer.rows(
        "SELECT id, name FROM people ORDER BY name")}
    names = Names(people)
    found = names.find(typed) if typed.strip() else None
    if found is None:
        raise UserError(f"{writer.path} holds nobody named {one_line(typed, 60)!r}"
                        + _difference(names, typed))
    return people[found], found


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
            names = Names(sorted(paths.union(
                str(folder) for path in paths for folder in Path(path).parents)))
            path = names.find(typed) or names.find(os.path.abspath(typed.replace("\\", "/")))
            if path is None:
                raise UserError(f"{writer.path} holds no photograph {one_line(typed)}"
                                + _difference(names, os.path.abspath(typed)))
            ids = _at(writer, path)
        found += ids
    return found


def _at(writer, path):
    where, *values = below(path)
    return [photograph for photograph, in writer.rows(
        f"SELECT id FROM photographs WHERE path = ? OR ({where})", os.fsencode(path), *values)]


def _difference(names, typed):
    kind, text = names.difference(typed)
    # Less what was typed, which the message has named.
    return "" if kind == "are not there" else "; " + text[len(one_line(typed, 100)):].lstrip(": ")
