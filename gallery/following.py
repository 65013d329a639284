"""How a gallery follows its folders: what is new, changed, moved and gone.

A photograph is known by its path, size and time; where those have changed, by its content. So one
that was moved or renamed keeps its faces and gets its name from the new folder. One that has
changed is read again; faces that look the same at the same place stay the same faces. One that is
gone is removed.

First all is looked at, then it is written: while files are compared and read, people can go on
saying who is who.
"""

import contextlib
import itertools
import os
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image
from tqdm import tqdm

from config import Config
from evaluation import packing
from faces import walker
from faces.cropping import overlap
from faces.duplicates import perceptual_hash
from faces.labels import Names, read_labels
from faces.photographs import PhotographError, open_photograph, quiet_pillow
from faces.reading import one_thread_a_call
from gallery.questions import (
    FaceCache,
    cut_out,
    embed,
    encoded,
    face_in_box,
    find_photographs,
    is_more_than_a_face,
)
from gallery.store import MARKED, below, clean_name
from runtime.errors import UserError, first_few, one_line
from runtime.files import digest_of

BATCH = 256  # faces encoded and written at once
AHEAD = 64  # photographs that are read before their faces are encoded
EMBEDDED = 64  # photographs whose faces are embedded at once
COMMITTED = 30.0  # seconds after which what was read is written, however few faces it has
DATA_DIR = Config.data_dir  # where prepare.py keeps what it finds in photographs
SHOWN = 20  # photographs that are looked at before a run without a crop takes them for faces
# Of a face before and after its photograph was changed: what its boxes share of their union, and
# the bits in which its perceptual hashes differ.
SAME_OVERLAP, SAME_BITS = 0.5, 2
FOLDERS, NO_PEOPLE = "folders", "none"  # where names come from; else a list's path


class Report:
    """What a change did.

    Attributes:
        counts: {text: int}, in the order in which they are said.
        notes: lines for people.
    """

    def __init__(self, notes=()):
        self.counts = Counter()
        self.notes = list(notes)

    def note_examples(self, what, examples):
        """Adds a note on some things, with the first of them; none if there are none."""
        if examples:
            shown = first_few(examples, lambda example: one_line(example, 200))
            self.notes.append(f"{what} ({len(examples)}): {shown}")


class Found(NamedTuple):
    """A photograph's file as it lies on the disk: see store.Photograph."""

    path: str
    size: int
    time: int
    label: Optional[str]
    other_disk: int


class Reading(NamedTuple):
    """The result for a file: its faces, or the reason why there are none.

    `marked` is {id: face} of those that somebody has marked there: what is in their boxes now.
    """

    found: Found
    faces: list
    reason: str
    sha256: bytes
    marked: dict = {}


class Follower:
    """One comparison of a gallery with its folders.

    Args:
        writer: store.Writer; where `in_steps`, one that pauses or has committed.
        report: Report, to which it adds.
        open_encoder: function that gives the encoder, called where there is something to encode.
        in_steps: whether what was read is committed in between. The last step is left open.
        keep_missing, rehash, restore: see add.
        data_dir: see index_photographs.
    """

    def __init__(self, writer, report, open_encoder, in_steps=True, keep_missing=False,
                 rehash=False, restore=False, data_dir=None):
        self.writer, self.report, self.open_encoder = writer, report, open_encoder
        report.counts.update(new=0, changed=0, moved=0, gone=0)  # which are said in any case
        self.in_steps, self.keep_missing = in_steps, keep_missing
        self.rehash, self.restore = rehash, restore
        self.data_dir = Path(data_dir or DATA_DIR)
        self.faces, self.people = writer.info["faces"], writer.info["people"]
        self.lines = [] if self.people in (FOLDERS, NO_PEOPLE) else read_labels(Path(self.people))
        self.unmatched = {}  # number of a line -> how it differs, or None where it is found
        self.earlier = {}  # path -> store.Photograph that is read again
        self.fresh = []  # contents that were read or moved: sha256
        self.plan = None  # what to write first; see _begin
        self.withdrawn = set()  # people whose name was taken from a photograph

    def follow(self, folders):
        """Walks folders (real paths; empty: the sources) and changes what is different."""
        old = self.writer.sources()
        if not old and not folders:
            raise UserError(f"{self.writer.path} was made without photographs; name some with "
                            "--images")
        sources = outermost(old + folders)
        found, known, left_out = self._walk(folders or sources, sources, old)
        if not folders or set(folders) == set(sources):
            self._note_labels(found)
        if self.people == FOLDERS and (folders or not known):
            self.report.note_examples("folders taken for people; if they are not: --people none",
                                      sorted({file.label for file in found.values()} - {None}))
        gone = {path: photograph for path, photograph in known.items() if path not in found}
        same, dirty = self._compare(found, known)
        moves, rest = self._moves(dirty, known, gone)
        self.report.counts["changed"] += sum(file.path in known for file in rest)
        self.report.counts["new"] += sum(file.path not in known for file in rest)
        moving = {photograph.id for photograph, _ in moves}
        replaced = {file.path: known[file.path] for file in dirty
                    if file.path in known and known[file.path].id not in moving}
        for file in rest:
            if file.path in replaced:
                self.earlier[file.path] = replaced.pop(file.path)
        for photograph, file in same + moves:
            if self._chooses_otherwise(photograph, file):
                self.earlier[file.path] = photograph
                rest.append(file)
        lost = [photograph.id for photograph in replaced.values()] + self._lost(gone, sources)
        self.plan = sources, left_out, same, moves, lost
        if rest:
            self._read(rest)
        self._begin()
        self._withdraw()
        self._note_shared()

    def _begin(self):
        """Begins to write, or goes on: first what needs no reading."""
        self.writer.begin()
        if self.plan is None:
            return
        sources, left_out, same, moves, lost = self.plan
        self.plan = None
        set_sources(self.writer, sources)
        for folder, items in left_out:
            self._note_left_out(folder, items)
        self.writer.remove_photographs(lost)
        for photograph, file in moves:  # two may change places
            if photograph.path != file.path:
                self.writer.run("UPDATE photographs SET path = ? WHERE id = ?",
                                b"\0%d" % photograph.id, photograph.id)
        for photograph, file in same + moves:
            self._file(photograph, file)

    def _walk(self, folders, sources, old):
        """What lies below folders, and what the gallery knows there.

        Returns:
            (found, known, left_out): {path: Found} and {path: store.Photograph}, less what lies
            below folders that are missing or empty; list of (folder, what is left out there).
        """
        found, known, all_left_out = {}, {}, []
        for folder in outermost(folders):
            source = next(source for source in sources if _is_inside(folder, source))
            below_it = {photograph.path: photograph for photograph in self.writer.read_photographs(
                *below(folder))}
            photographs, left_out = [], []
            if folder not in old and not below_it:
                photographs, left_out = find_photographs(folder)
            elif os.path.isdir(folder):
                photographs, left_out = walker.walk(Path(folder))
            if not photographs:
                self.report.counts["left alone"] += len(below_it)
                self.report.notes.append(
                    f"{one_line(folder)} is missing or holds no photographs: the "
                    f"{len(below_it)} that were there are left alone; mount its disk, or remove "
                    f"them: python search.py remove {self.writer.path} --file FOLDER")
                continue
            self.report.notes += walker.notes(left_out)
            all_left_out.append((folder, left_out))
            device, start = os.stat(source).st_dev, os.path.relpath(folder, source)
            places = {str(file.path): file.relative if start == "." else f"{start}/{file.relative}"
                      for file in photographs}
            labels = self._labels(places, source)
            self._note_nested(places.values(), folder)
            for file in photographs:
                path = str(file.path)
                with contextlib.suppress(OSError):
                    other = int(os.stat(file.path).st_dev != device)
                    found[path] = Found(path, file.size, file.mtime_ns, labels.get(path), other)
            known.update(below_it)
        return found, known, all_left_out

    def _note_nested(self, places, folder):
        """Says where the people seem to be, if all photographs bear the name of one folder."""
        parts = [place.split("/") for place in places]
        if self.people == FOLDERS and all(len(part) > 2 for part in parts) and (
                len({part[0] for part in parts}) == 1 < len({part[-2] for part in parts})):
            self.report.notes.append(
                f"all photographs get the name {parts[0][0]}, the one folder in "
                f"{one_line(folder)}; if each folder further down is a person, index with --images "
                f"{one_line(os.path.join(folder, *parts[0][:-2]))}")

    def _labels(self, places, source):
        """Labels of people: {path: label}, of {path: place below the source, with "/" inside}."""
        if self.people == NO_PEOPLE:
            return {}
        if self.people == FOLDERS:
            return {path: clean_name(place.split("/")[0])
                    for path, place in places.items() if "/" in place}
        by_place = {place: path for path, place in places.items()}
        names, labels = Names(by_place, source), {}
        for line in self.lines:
            place = names.find(line.file)
            if place is None:
                self.unmatched.setdefault(line.number, names.difference(line.file))
                continue
            self.unmatched[line.number] = None
            label = labels.setdefault(by_place[place], clean_name(line.identity))
            if label != clean_name(line.identity):
                raise UserError(f"{self.people}, line {line.number}: {line.file} is both {label} "
                                f"and {line.identity}; keep one of the lines")
        return labels

    def _note_labels(self, found):
        """Says which lines of the list name no photograph, and which photographs have no line."""
        texts = {}
        for kind, text in filter(None, self.unmatched.values()):
            texts.setdefault(kind, []).append(text)
        for kind, some in texts.items():
            self.report.note_examples(f"files that {self.people} names {kind}", some)
        unnamed = [path for path, file in found.items() if file.label is None]
        if self.lines:
            self.report.note_examples(f"photographs that {self.people} does not name", unnamed)

    def _note_left_out(self, folder, left_out):
        """Keeps what is left out, for `info --left-out`; only where it has changed."""
        rows = {os.fsencode(f"{folder}/{item.relative}"): (item.reason, item.count)
                for item in left_out}
        where, *values = below(folder)
        if rows != {path: tuple(rest) for path, *rest in self.writer.rows(
                f"SELECT path, reason, count FROM left_out WHERE {where}", *values)}:
            self.writer.run(f"DELETE FROM left_out WHERE {where}", *values)
            for path, (reason, count) in rows.items():
                self.writer.run("INSERT OR REPLACE INTO left_out VALUES (?, ?, ?)",
                                path, reason, count)

    def _compare(self, found, known):
        """What is as it was by path, size and time: [(photograph, Found)]; and other Founds."""
        same, dirty = [], []
        for path, file in found.items():
            photograph = known.get(path)
            if photograph is None:
                was_removed = not self.restore and self.writer.rows(
                    "SELECT 1 FROM removed_photographs WHERE path = ? AND size = ? AND time = ?",
                    self.writer.salted(os.fsencode(path)), file.size, file.time)
                if was_removed and not self.rehash:
                    self.report.counts["removed earlier"] += 1
                else:
                    dirty.append(file)
            elif self.rehash or (photograph.size, photograph.time) != (file.size, file.time):
                dirty.append(file)
            else:
                same.append((photograph, file))
        return same, dirty

    def _file(self, photograph, file):
        """Files a photograph, whose content is the same, under its place and label."""
        counts, is_moved = self.report.counts, file.path != photograph.path
        is_relabelled = file.label != photograph.label
        counts["moved"] += is_moved
        if is_relabelled and photograph.label is not None:
            self.withdrawn.add(self.writer.person(photograph.label))
        if file.path in self.earlier:  # it is filed once it is read
            self.writer.run("UPDATE photographs SET path = ? WHERE id = ?",
                            os.fsencode(file.path), photograph.id)
            return
        if file != (photograph.path, photograph.size, photograph.time, photograph.label,
                    photograph.other_disk):
            self.writer.run(
                "UPDATE photographs SET path = ?, size = ?, time = ?, label = ?, other_disk = ? "
                "WHERE id = ?", os.fsencode(file.path), *file[1:], photograph.id)
        if is_relabelled:
            self.writer.name_by_label(photograph.id, self.writer.person(file.label))
            self.fresh.append(photograph.sha256)
            counts["relabelled"] += not is_moved
        counts["unchanged"] += not is_moved and not is_relabelled

    def _withdraw(self):
        """Takes names by likeness from faces where nobody is left whom they are like."""
        for person in self.withdrawn:
            if not self.writer.rows("SELECT 1 FROM faces WHERE person = ? AND id NOT IN "
                                    "(SELECT face FROM groups)", person):
                self.writer.run("DELETE FROM groups WHERE face IN "
                                "(SELECT id FROM faces WHERE person = ?)", person)
                self.writer.faces_changed(self.writer.run(
                    "UPDATE faces SET person = NULL WHERE person = ?", person).rowcount)

    def _chooses_otherwise(self, photograph, file):
        """Whether another choice of a photograph's faces follows from its new label."""
        return photograph.found > 1 and self._takes_all(photograph.label) != self._takes_all(
            file.label)

    def _takes_all(self, label):
        return self.faces == "all" or (self.faces == "auto" and label is None)

    def _moves(self, dirty, known, gone):
        """Finds photographs that lie elsewhere now, or were only touched; they leave `gone`.

        Returns:
            (moves, rest) of `dirty`: [(photograph, Found)], and the Founds that have to be read.
        """
        hashed = self._hash([file for file in dirty if self.rehash or self.writer.rows(
            "SELECT 1 FROM photographs WHERE size = ? LIMIT 1", file.size)])
        contents = {file.path: hashed.get(file.path) for file in dirty}
        free = {}  # sha256 -> photographs whose content is not at their path any more
        for sha256 in set(hashed.values()):
            for photograph in self.writer.read_photographs("sha256 = ?", sha256):
                path = photograph.path
                is_there = (contents[path] == sha256 if path in contents
                            else path in known and path not in gone or (
                                path not in known and os.path.lexists(path)))
                if not is_there:
                    free.setdefault(sha256, deque()).append(photograph)
        moves, rest = [], []
        for file in dirty:
            photograph, sha256 = known.get(file.path), contents[file.path]
            if photograph is not None and photograph.sha256 == sha256:
                moves.append((photograph, file))  # to where it is
            elif free.get(sha256):
                moves.append((free[sha256].popleft(), file))
            else:
                rest.append(file)
        for photograph, _ in moves:
            gone.pop(photograph.path, None)
        return moves, rest

    def _hash(self, found):
        """{path: sha256} of files, by several threads; those that cannot be read are left out."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = pool.map(_digest_of, [file.path for file in found])
            return {file.path: digest for file, digest in zip(found, tqdm(
                digests, total=len(found), unit=" photographs", desc="comparing", disable=None))
                if digest}

    def _lost(self, gone, sources):
        """Ids of those photographs that are not on the disk any more that are to go."""
        unmounted = [path for path, photograph in gone.items()
                     if photograph.other_disk and not _is_mounted(path, sources)]
        if unmounted:
            self.report.counts["left alone"] += len(unmounted)
            self.report.note_examples("photographs left alone, whose disk is not mounted",
                                      unmounted)
        lost = [gone[path].id for path in gone.keys() - set(unmounted)]
        self.report.counts["missing, kept" if self.keep_missing else "gone"] += len(lost)
        return [] if self.keep_missing else lost

    def _read(self, found):
        """Reads photographs, finds and encodes their faces, and adds them."""
        encoder = self.open_encoder()
        encoder.check_embedder()
        if encoder.metadata["crop"] is None:
            _check_cut_out([file.path for file in found[:SHOWN]], self.writer.info["run"])
        waiting, written = [], time.monotonic()
        with FaceCache(self.data_dir, encoder) as cache:
            marked = {path: self._marked(photograph) for path, photograph in self.earlier.items()}
            readings = _embedded(_read_ahead(found, encoder, cache, marked), cache)
            for reading in tqdm(readings, total=len(found), unit=" photographs", desc="indexing",
                                disable=None):
                waiting.append(reading)
                if (sum(len(reading.faces) for reading in waiting) >= BATCH
                        or time.monotonic() - written >= COMMITTED):
                    self._add(encoder, waiting)
                    if self.in_steps:
                        self.writer.commit()
                    waiting, written = [], time.monotonic()
        self._add(encoder, waiting)

    def _marked(self, photograph):
        """{id: box} of the faces of a photograph that somebody has marked."""
        return {row[0]: row[1:] for row in self.writer.rows(
            "SELECT id, box_left, box_top, box_right, box_bottom FROM faces WHERE photograph = ? "
            "AND number >= ?", photograph.id, MARKED)}

    def _add(self, encoder, readings):
        """Encodes the faces of some Readings and adds them."""
        chosen = [(reading, [(number, face) for number, face in enumerate(reading.faces)
                             if (number == 0 or self._takes_all(reading.found.label))
                             and str(number) not in self._removed(reading).split(",")])
                  for reading in readings]
        faces = iter(encoded([face for _, some in chosen for _, face in some], encoder))
        self._begin()
        for reading, some in chosen:
            self._add_photograph(reading, [(number, next(faces)) for number, _ in some])

    def _removed(self, reading):
        """Numbers of faces that were removed from a photograph, as long as it is the same."""
        earlier = self.earlier.get(reading.found.path)
        return earlier.removed if earlier and earlier.sha256 == reading.sha256 else ""

    def _add_photograph(self, reading, faces):
        """Adds a photograph with some of its faces: (number, face)."""
        file, removed = reading.found, self._removed(reading)
        earlier = self.earlier.pop(file.path, None)
        path = os.fsencode(file.path)
        if self.restore:
            self.writer.run("DELETE FROM removed_photographs WHERE path = ? OR content = ?",
                            self.writer.salted(path), self.writer.salted(reading.sha256))
        elif self.writer.rows("SELECT 1 FROM removed_photographs WHERE content = ?",
                              self.writer.salted(reading.sha256)):
            self.writer.keep_out(path, reading.sha256, file.size, file.time)
            self.writer.remove_photographs([earlier.id] if earlier else [])
            self.report.counts["new"] -= 1
            self.report.counts["removed earlier"] += 1
            return
        self.writer.run("DELETE FROM removed_photographs WHERE path = ?", self.writer.salted(path))
        if reading.reason:
            self.report.counts[reading.reason.split(":")[0]] += 1
        for condition in ("turned", "incomplete"):
            if any(getattr(face, condition) for face in reading.faces):
                self.report.counts[f"{condition}, and read"] += 1
        self.report.counts["faces"] += len(faces)
        values = (reading.sha256, file.size, file.time, file.label, file.other_disk,
                  len(reading.faces), reading.reason)
        if earlier:
            photograph = earlier.id
            self.writer.run(
                "UPDATE photographs SET sha256 = ?, size = ?, time = ?, label = ?, other_disk = ?, "
                "found = ?, reason = ?, removed = ? WHERE id = ?", *values, removed, photograph)
        else:
            photograph = self.writer.add_photograph(file.path, *values)
        old = self._old_faces(reading, earlier)
        for number, face in faces:
            image_hash = perceptual_hash(Image.fromarray(face.pixels))
            same = next((known for known in old if _is_same_face(known, face, image_hash)), None)
            if same:
                old.remove(same)
            self.writer.add_face(photograph, number, None, face.code, image_hash, face.thumbnail,
                                 face.box, face.vector, known=same and same[0])
        self.writer.remove_faces([known[0] for known in old])
        self.writer.run("UPDATE photographs SET reason = '' WHERE id = ? AND id IN "
                        "(SELECT photograph FROM faces)", photograph)
        self.writer.name_by_label(photograph, self.writer.person(file.label))
        self.fresh.append(reading.sha256)

    def _old_faces(self, reading, earlier):
        """Faces of a photograph that is read again: list of (id, hash, box).

        Faces that somebody has marked, and that are there still, are not among them.
        """
        if earlier is None:
            return []
        old = []
        for face, number, image_hash, *box in self.writer.rows(
                "SELECT id, number, hash, box_left, box_top, box_right, box_bottom FROM faces "
                "WHERE photograph = ?", earlier.id):
            known, marked = (face, image_hash, box), reading.marked.get(face)
            # One that was marked since the photograph was read is there, too.
            is_there = number >= MARKED and (marked is None or _is_same_face(
                known, marked, perceptual_hash(Image.fromarray(marked.pixels))))
            if not is_there:
                old.append(known)
        return old

    def _note_shared(self):
        """Says which contents of those that came lie in two people's folders."""
        shared = []
        for sha256 in dict.fromkeys(self.fresh):
            people = {self.writer.person(photograph.label): photograph
                      for photograph in self.writer.read_photographs(
                          "sha256 = ? AND label IS NOT NULL AND reason = ''", sha256)}
            if len(people) > 1:
                shared.append(" and ".join(f"{photograph.path} ({photograph.label})"
                                           for photograph in people.values()))
        self.report.note_examples("photographs filed under two people", shared)


def real_folder(path):
    """The real path of a folder that somebody typed. Raises UserError if it is empty."""
    if not str(path).strip():
        raise UserError("--images names nothing; name a folder of photographs")
    return os.path.realpath(path)


def outermost(folders):
    """Real paths less those inside others, each once: names come from the place below these."""
    folders = list(dict.fromkeys(folders))
    return [folder for folder in folders if not any(
        other != folder and _is_inside(folder, other) for other in folders)]


def set_sources(writer, sources):
    """Notes the folders (real paths) that a gallery is made of."""
    if set(sources) != set(writer.sources()):
        writer.run("DELETE FROM sources")
        for source in sources:
            writer.run("INSERT INTO sources VALUES (?)", os.fsencode(source))


def _is_inside(folder, other):
    return folder == other or folder.startswith(other.rstrip("/") + "/")


def people_source(people):
    """Where names come from: FOLDERS, NO_PEOPLE, or a list's whole path. Raises UserError."""
    if people in (FOLDERS, NO_PEOPLE):
        return people
    if not os.path.isfile(people):
        raise UserError(f"--people is {one_line(people, 80)!r}; it must be {FOLDERS}, {NO_PEOPLE} "
                        "or a list (file, identity)")
    return os.path.abspath(people)


def _is_mounted(path, sources):
    """Whether the disk of a missing photograph, another one than its source's, is there."""
    source = next((source for source in sources if _is_inside(path, source)), None)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return source is None or os.stat(path).st_dev != os.stat(source).st_dev


def _digest_of(path):
    """The sha256 of a file, bytes; None if it cannot be read."""
    with contextlib.suppress(UserError):
        return digest_of(path)


def _check_cut_out(paths, run):
    """Raises UserError if most of some images show more than a face that was cut out."""
    wide = 0
    for path in paths:
        with contextlib.suppress(PhotographError), quiet_pillow():
            wide += is_more_than_a_face(open_photograph(Path(path)))
    if 2 * wide > len(paths):
        raise UserError(
            f"run {one_line(run)} takes each image for a face, but these are photographs that show "
            f"more ({wide} of the first {len(paths)}); index them without a run: python search.py "
            "index --images DIR --out GALLERY")


def _is_same_face(known, face, image_hash):
    """Whether a face (id, hash, box) of a photograph's earlier state is a QueryFace of its now."""
    _, known_hash, box = known
    return overlap(box, face.box) >= SAME_OVERLAP and packing.distances(
        np.int64(known_hash).astype(np.uint64), image_hash) <= SAME_BITS


def _read_ahead(found, encoder, cache, marked):
    """Yields the Readings of Founds in order; a few are read ahead, by threads.

    Args:
        marked: {path: {id: box}} of faces that somebody has marked.
    """
    waiting = deque()
    with quiet_pillow(), one_thread_a_call(), ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for file in found:
                waiting.append(pool.submit(_read, file, encoder, cache,
                                           marked.get(file.path, {})))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _embedded(readings, cache):
    """Yields Readings whose faces have their embeddings."""
    for some in iter(lambda: list(itertools.islice(readings, EMBEDDED)), []):
        faces = iter(embed([face for reading in some for face in reading.faces], cache))
        for reading in some:
            yield reading._replace(faces=list(itertools.islice(faces, len(reading.faces))))


def _read(found, encoder, cache, marked):
    try:
        photograph = open_photograph(Path(found.path))
        faces = cut_out(photograph, encoder, cache)
        reason = "incomplete, no face found" if photograph.incomplete else "no face found"
        return Reading(found, faces, "" if faces else reason, bytes.fromhex(photograph.sha256),
                       {face: face_in_box(photograph, box, encoder)
                        for face, box in marked.items()})
    except PhotographError as error:
        reason = "too large" if error.code == "too_large" else "no whole image"
        return Reading(found, [], f"{reason}: {error.detail}", _digest_of(found.path) or b"")
