"""A gallery's folder: one SQLite file, and the encoder that made its codes.

    GALLERY/gallery.db       photographs, faces, people (the tables are in SCHEMA)
    GALLERY/encoder/         the exported encoder (methods/export.py): a run's, or one that was
                             fitted to the gallery's own embeddings
    GALLERY/lists.npz        inverted lists of a large gallery; made again when they are stale

A Gallery is one state. After a change, open it again: an id that was removed since raises KeyError
in `faces` and `thumbnail`. One Gallery serves several threads.

gallery/indexing.py and gallery/people.py have the changes that commands make:

    with Writer(path) as writer:
        writer.add_face(...)
        writer.run("DELETE FROM faces WHERE id = ?", 7)
        writer.commit()  # without it, nothing has changed

A change is one transaction with synchronous=FULL: killed at any moment, a process leaves the old
state or the new one. The file is in WAL mode, so readers never wait for a writer, and removed
content is overwritten (secure_delete). One process at a time follows the folders or removes, by the
folder's lock. What people say of faces (gallery/steps.py) needs no lock but the transaction, and
waits for it: `add` has none while it reads photographs. Where the folder cannot be written, SQLite
is told that the file is immutable.

Everything in a gallery may have been written by somebody else: it is checked, and used as data.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import sqlite3
import stat
import threading
import unicodedata
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from config import Config
from evaluation import packing
from evaluation.floats import unit_vectors
from evaluation.threshold import STEPS, Calibration, calibrate
from methods.export import SAVED_MODEL_FILE, Encoder
from runtime import files
from runtime.errors import Failed, UserError, one_line
from runtime.output_folder import MARKER, OutputFolder
from runtime.settings import setting_names

FILE = "gallery.db"
APPLICATION = 0x44434248  # "DCBH", in the file's header
UNFINISHED = "indexing stopped before its first photograph"
NOBODY = 0  # in `people`: nobody has said who this is
NO_GROUP = 0
MARKED = 1000000  # from here on, numbers of faces of a photograph that somebody has marked
# As SQL. An image of a data set counts as a photograph of its own.
PERSON, PHOTOGRAPH = f"coalesce(person, {NOBODY})", "coalesce(photograph, -id - 1)"
GIVEN = "IN (SELECT value FROM json_each(?1))"  # ids, as JSON
LOCK_SECONDS = 30  # that a transaction waits for another process's
EXACT_VALUES = 128000000  # of vectors that are all compared; they take 512 MB in memory
READ_AT_ONCE = 1 << 16  # vectors
MOST_VECTOR = 1 << 14  # values
MOST_THUMBNAIL = 1 << 20  # bytes
PRAGMAS = "PRAGMA synchronous = FULL", "PRAGMA secure_delete = ON"  # of who writes
# Calibrated again once more than one labelled face in so many has changed.
CALIBRATED_FACES = 1000
ENCODER = re.compile(r"encoder(-[0-9]{1,9})?\Z")
ENCODER_FILE = re.compile(
    rf"(encoder\.json|projection\.npz|saved_model/({SAVED_MODEL_FILE.pattern}))\Z", re.ASCII)

# Of the tables below. A file says its own in user_version; MIGRATIONS make this one of older ones.
VERSION = 4
PROBES = """
    -- Faces that the gallery does not hold, to calibrate the threshold with.
    CREATE TABLE probes (
        code INTEGER NOT NULL,
        person INTEGER REFERENCES people ON DELETE CASCADE,  -- NULL: a stranger
        vector TEXT) STRICT;  -- hexadecimal, so that a step can note it; see `embeddings`
    CREATE INDEX probes_of_person ON probes (person);
"""
SCHEMA = """
    CREATE TABLE info (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- Folders that the gallery is made of.
    CREATE TABLE sources (path BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE) STRICT;
    -- What folders and lists call people: a renamed or merged person keeps its labels.
    CREATE TABLE labels (
        label TEXT PRIMARY KEY,
        person INTEGER NOT NULL REFERENCES people ON DELETE CASCADE) STRICT, WITHOUT ROWID;
    CREATE INDEX labels_of_person ON labels (person);
    CREATE TABLE photographs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        sha256 BLOB NOT NULL,
        size INTEGER NOT NULL,
        time INTEGER NOT NULL,          -- of the last change, nanoseconds
        label TEXT,                     -- of the person, by folder or list
        other_disk INTEGER NOT NULL,    -- whether it lay on another disk than its source
        found INTEGER NOT NULL,         -- faces found, also those that are not kept
        removed TEXT NOT NULL,          -- numbers of faces that were removed, with commas
        reason TEXT NOT NULL) STRICT;   -- why no face is kept; empty where one is
    CREATE INDEX photographs_by_content ON photographs (sha256);
    CREATE INDEX photographs_by_size ON photographs (size);
    CREATE TABLE faces (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        photograph INTEGER REFERENCES photographs ON DELETE CASCADE,  -- NULL: a data set's image
        number INTEGER NOT NULL,        -- which face of its photograph, or the data set's row
        person INTEGER REFERENCES people,
        by_hand INTEGER NOT NULL,       -- whether somebody named this very face
        code INTEGER NOT NULL,          -- evaluation.packing, as a signed number
        hash INTEGER NOT NULL,          -- perceptual hash of the face, likewise
        box_left REAL NOT NULL, box_top REAL NOT NULL,
        box_right REAL NOT NULL, box_bottom REAL NOT NULL) STRICT;
    CREATE INDEX faces_of_photograph ON faces (photograph);
    -- A name stands at most once in a photograph.
    CREATE UNIQUE INDEX faces_of_person ON faces (person, photograph);
    -- A table of its own, so that codes are read without it.
    CREATE TABLE face_images (
        face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
        thumbnail BLOB NOT NULL) STRICT;
    -- The vectors of faces, float16: embeddings, or a network's descriptors.
    CREATE TABLE embeddings (
        face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
        embedding BLOB NOT NULL) STRICT;
    -- Photographs that stay out, by salted hashes of their paths and contents.
    CREATE TABLE removed_photographs (
        path BLOB PRIMARY KEY, content BLOB NOT NULL,
        size INTEGER NOT NULL, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX removed_by_content ON removed_photographs (content);
    -- Files below the sources that are not photographs to read, and why.
    CREATE TABLE left_out (
        path BLOB PRIMARY KEY, reason TEXT NOT NULL, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
# Later than version 2, and so far empty in galleries of that.
GROUP_TABLES = """
    -- Faces without a name that seem to be one person's have one number, from 1. 0: a face that has
    -- its name by likeness alone. Faces with other names are not listed, nor those not looked at.
    CREATE TABLE groups (
        face INTEGER PRIMARY KEY REFERENCES faces ON DELETE CASCADE,
        number INTEGER NOT NULL) STRICT;
    CREATE INDEX groups_by_number ON groups (number);
    -- Faces that are not this person.
    CREATE TABLE rejected (
        face INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
        person INTEGER NOT NULL REFERENCES people ON DELETE CASCADE,
        PRIMARY KEY (face, person)) STRICT, WITHOUT ROWID;
    CREATE INDEX rejected_by_person ON rejected (person);
    -- Pairs of faces that are not one person's: no group may hold both.
    CREATE TABLE apart (
        face INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
        other INTEGER NOT NULL REFERENCES faces ON DELETE CASCADE,
        PRIMARY KEY (face, other)) STRICT, WITHOUT ROWID;
    CREATE INDEX apart_by_other ON apart (other);
    -- What the last steps changed, row by row, so that they can be undone: gallery/steps.py.
    CREATE TABLE steps (step INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
    CREATE TABLE changes (
        id INTEGER PRIMARY KEY,
        step INTEGER NOT NULL REFERENCES steps ON DELETE CASCADE,
        name TEXT NOT NULL,             -- of the table
        old TEXT, new TEXT) STRICT;     -- JSON lists; NULL where there was, or is, no row
    CREATE INDEX changes_of_step ON changes (step);
"""
SCHEMA += PROBES + GROUP_TABLES
MIGRATIONS = {2: """
    UPDATE faces SET person = NULL, by_hand = 0 WHERE EXISTS (
        SELECT 1 FROM faces AS other WHERE other.photograph = faces.photograph
        AND other.person = faces.person AND other.id < faces.id);
    DROP INDEX faces_of_person;
    CREATE UNIQUE INDEX faces_of_person ON faces (person, photograph);
""" + GROUP_TABLES, 3: f"""
    DROP INDEX probes_of_person;
    ALTER TABLE probes RENAME TO earlier_probes;
    {PROBES}
    INSERT INTO probes SELECT code, person, NULL FROM earlier_probes;
    DROP TABLE earlier_probes;
    DELETE FROM changes;  -- which noted probes without their vectors
    DELETE FROM steps;
"""}

# What a gallery is: rows of the table info, as JSON.
INFO = {
    "id": str,                              # hexadecimal, of the gallery
    "change": int,                          # counts the changes
    "method": str, "num_bits": int, "crop": (dict, type(None)), "dataset": str, "run": str,
    "vectors": (str, type(None)),           # "embeddings", "descriptor", or None
    "results": str,                         # sha256 of the run's results.json, of its own images
    "encoder": str, "encoder_id": str,      # its folder, and whose it is
    "encoder_files": dict,                  # {name: sha256}
    "engine": (str, type(None)),            # None: the one that suits
    "people": str,                          # "folders", "none" or a list's path
    "faces": str,                           # see indexing.FACES
    # Of codes; and of vectors, unless those are embeddings.
    "calibration": (dict, type(None)), "vector_calibration": (dict, type(None)),
    "uncalibrated": int,
    "unused": list,                         # folders of encoders to remove
}
CHANGED_BY_STEPS = "change", "calibration", "vector_calibration", "uncalibrated"  # of these


class Face(NamedTuple):
    """One face of a gallery."""

    id: int  # from 0; an id is never given twice
    name: Optional[str]  # of the person
    photograph: Optional[str]  # path; None for an image of a data set
    sha256: Optional[bytes]  # of the photograph's file
    number: int  # which face of its photograph, from 0; of a data set, the image's row
    box: tuple  # left, top, right, bottom in pixels of the photograph
    place: str  # where the face comes from, for people


class Photograph(NamedTuple):
    """A photograph as the gallery knows it; see the table `photographs`."""

    id: int
    path: str
    sha256: bytes
    size: int
    time: int
    label: Optional[str]
    other_disk: bool
    found: int
    removed: str
    reason: str


class _Opened:
    """What Gallery and Writer share: a gallery.db that is open.

    Attributes:
        path: Path of the gallery's folder.
    """

    def __init__(self, path):
        self.path, self._connection, self._lock = path, None, threading.RLock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, sql, *values):
        """Runs one statement of SQL; returns the cursor."""
        with self._errors():
            return self._connection.execute(sql, values)

    def rows(self, sql, *values):
        """The rows that one query gives: list of tuples."""
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def count(self, table, where="1"):
        """How many rows a table has for which a condition of SQL holds."""
        return self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]

    def sources(self):
        """Paths (str) of the folders that the gallery is made of."""
        return [os.fsdecode(path) for path, in self.rows("SELECT path FROM sources ORDER BY path")]

    def read_photographs(self, where="1", *values):
        """Photographs that a condition of SQL chooses: list of Photographs."""
        return [Photograph(row[0], os.fsdecode(row[1]), *row[2:]) for row in self.rows(
            # +id: with id alone, SQLite would walk through the whole table in its order.
            f"SELECT * FROM photographs WHERE {where} ORDER BY +id", *values)]

    def kept_apart(self):
        """Pairs that are not one person's.

        Returns:
            (pairs, rejected): int64 [n, 2], ids of two faces; and [m, 2], of a face and a person.
        """
        with self._errors():
            return tuple(np.array(_columns(self._connection, table, "face", other)).T
                         for table, other in (("apart", "other"), ("rejected", "person")))

    @contextlib.contextmanager
    def _errors(self):
        """One thread at a time; SQLite's errors become one line."""
        with self._lock, errors(self.path / FILE):
            yield


class Gallery(_Opened):
    """One state of a gallery. Get one by `open`.

    Attributes:
        info: dict, see INFO.
        version: str, another one after every change.
        ids: int64 [n], ascending.
        codes: uint64 [n], see evaluation.packing.
        people: int64 [n], ids of people; NOBODY where nobody has said who it is.
        photographs: int64 [n], numbers that are equal for faces of one photograph.
        names: {id of a person: str}, of those who have faces.
        groups: int64 [n], numbers of the faces' groups; NO_GROUP where a name, or nothing yet, says
            whose they are.
        calibration: evaluation.threshold.Calibration of the codes, or None.
        vector_calibration: likewise, of vectors that are no embeddings.
        vector_size: V, values of the vector that each face has; 0 without vectors.
    """

    def __init__(self, path):
        super().__init__(path)
        self._connection, self._status, self._immutable = _connect(path / FILE)
        self._vectors = self._encoder = None

    @classmethod
    def open(cls, path):
        """The gallery in a folder, as it is now. UserError: there is none, or it is damaged."""
        path = _path_of(path)
        check_folder(path)
        _migrate(path)
        for _ in range(3):
            gallery = cls(path)
            try:
                gallery._load()
                if not gallery._immutable or gallery.is_current():
                    return gallery
            except BaseException:
                gallery.close()
                raise
            gallery.close()
        raise Failed(f"{path} changes too fast to be read; try again")

    def _load(self):
        with self._errors(), self._connection:
            self._connection.execute("BEGIN")
            self.info = read_info(self._connection)
            self.ids, self.codes, self.people, self.photographs = _columns(
                self._connection, "faces", "id", "code", PERSON, PHOTOGRAPH)
            self.names = dict(self.rows("SELECT id, name FROM people WHERE EXISTS "
                                        "(SELECT 1 FROM faces WHERE person = people.id)"))
            faces, numbers = _columns(self._connection, "groups", "face", "number")
            self.groups = np.full(len(self.ids), NO_GROUP, np.int64)
            places = np.searchsorted(self.ids, faces)
            self.groups[places[places < len(self.ids)]] = numbers[places < len(self.ids)]
            self.vector_size = _vector_size(self._connection)
        self.version = f"{self.info['id']}-{self.info['change']}"
        self.calibration, self.vector_calibration = [
            self.info[name] and Calibration(**self.info[name])
            for name in ("calibration", "vector_calibration")]

    def close(self):
        """Closes the file."""
        with self._lock:
            self._connection.close()
            if self._encoder is not None:
                self._encoder.close()

    def __len__(self):
        return len(self.ids)

    @property
    def num_bits(self):
        """K."""
        return self.info["num_bits"]

    def is_current(self):
        """Whether the gallery on the disk is still in this state. UserError: there is none now."""
        status = _status(self.path / FILE)
        if self._immutable or status[:2] != self._status[:2]:
            return status == self._status
        return self.rows("SELECT value FROM info WHERE name = 'change'") == [
            (str(self.info["change"]),)]

    def row_of(self, face_id):
        """The row of an id in the arrays. Raises KeyError where there is none."""
        row = int(self.ids.searchsorted(face_id))
        if row == len(self.ids) or self.ids[row] != face_id:
            raise KeyError(face_id)
        return row

    def name(self, row):
        """Name of the person of the face in a row of the arrays, or None."""
        return self.names.get(int(self.people[row]))

    def faces(self, ids):
        """The Faces of some ids, in their order. Raises KeyError for an id that is not there."""
        ids = [int(face_id) for face_id in ids]
        found = {row[0]: self._face(*row) for row in self.rows(
            "SELECT faces.id, people.name, photographs.path, sha256, number, "
            "box_left, box_top, box_right, box_bottom FROM faces "
            "LEFT JOIN people ON people.id = faces.person "
            "LEFT JOIN photographs ON photographs.id = faces.photograph "
            f"WHERE faces.id {GIVEN}", json.dumps(ids))}
        return [found[face_id] for face_id in ids]

    def _face(self, face_id, name, path, sha256, number, *box):
        if path is None:
            place = f"{self.info['dataset']}, image {number}"
        else:
            path = os.fsdecode(path)
            place = f"{path}, face {number + 1}" if number else path
            if number >= MARKED:
                place = f"{path}, marked face {number - MARKED + 1}"
        if not np.isfinite(box).all():
            raise _damaged(self.path / FILE, f"the box of face {face_id} is not finite")
        return Face(face_id, name, path, sha256, number, tuple(map(float, box)), place)

    def thumbnail(self, face_id):
        """The bytes of a face's thumbnail, a JPEG or PNG. Raises KeyError; UserError: damaged."""
        rows = self.rows("SELECT thumbnail FROM face_images WHERE face = ? AND "
                          "length(thumbnail) <= ?", int(face_id), MOST_THUMBNAIL)
        if not rows:
            raise KeyError(face_id)
        if not rows[0][0].startswith((b"\x89PNG", b"\xff\xd8")):
            raise _damaged(self.path / FILE, f"the thumbnail of face {face_id} is not an image")
        return rows[0][0]

    @property
    def has_vectors(self):
        """Whether faces have vectors, so that those can decide."""
        return self.vector_size > 0

    @property
    def has_embeddings(self):
        """Whether these are embeddings, which also tell people apart whom nobody has named."""
        return self.has_vectors and self.info["vectors"] == "embeddings"

    @property
    def compares_all(self):
        """Whether all vectors are compared; of a larger gallery, codes find some first."""
        return self.has_vectors and len(self) * self.vector_size <= EXACT_VALUES

    def vectors(self):
        """The vectors of all faces: float32 [n, V], unit vectors. Read when first needed.

        Raises KeyError if a face was removed since.
        """
        with self._lock:
            if self._vectors is None:
                with self._errors():
                    ids, found = _read_vectors(self._connection, int(self.ids[-1]),
                                                  unit_vectors)
                self._check_all(np.array_equal(ids, self.ids))
                self._vectors = found
            return self._vectors

    def vectors_of(self, rows):
        """Those of the faces in some rows of the arrays: float32 [n, V]; see vectors."""
        if self._vectors is not None:
            return self._vectors[rows]
        ids = self.ids[rows].tolist()
        found = dict(self.rows(f"SELECT face, embedding FROM embeddings WHERE face {GIVEN}",
                               json.dumps(ids)))
        self._check_all(len(found) == len(set(ids)))
        with errors(self.path / FILE):
            return unit_vectors(_as_array([found[face] for face in ids], self.vector_size))

    def _check_all(self, all_are_there):
        """Raises KeyError if a face's vector has gone since, UserError if it was never there."""
        if not all_are_there:
            if self.is_current():
                raise _damaged(self.path / FILE, "a face has no vector")
            raise KeyError("a face was removed")

    def take_vectors(self, other):
        """Takes the vectors that another Gallery has read, if they are of the same faces.

        Where a face's photograph has changed, its code has, too, unless it looks quite the same.
        """
        if np.array_equal(self.ids, other.ids) and np.array_equal(self.codes, other.codes):
            self._vectors = other._vectors

    def same_photographs(self, sha256):
        """Paths (str) of the gallery's photographs whose file has these contents (bytes)."""
        return sorted(photograph.path for photograph in self.read_photographs("sha256 = ?", sha256))

    def last_step(self):
        """What the last step that can be undone was, as text; or None."""
        steps = self.rows("SELECT text FROM steps ORDER BY step DESC LIMIT 1")
        return steps[0][0] if steps else None

    def named_faces(self):
        """[(Photograph, faces)] of all photographs; faces with a name: list of (name, box)."""
        named = {}
        for photograph, *face in self.rows(
                "SELECT photograph, name, box_left, box_top, box_right, box_bottom FROM faces JOIN "
                "people ON people.id = person WHERE photograph IS NOT NULL ORDER BY faces.id"):
            named.setdefault(photograph, []).append((face[0], tuple(face[1:])))
        return [(one, named.get(one.id, ())) for one in self.read_photographs()]

    def photograph(self, number):
        """The Photograph of a number. Raises KeyError where there is none."""
        found = self.read_photographs("id = ?", number)
        if not found:
            raise KeyError(number)
        return found[0]

    def without_face(self, offset, count):
        """Some photographs in which no face was found: list of (number, path)."""
        return [(number, os.fsdecode(path)) for number, path in self.rows(
            "SELECT id, path FROM photographs WHERE reason LIKE '%no face found' "
            "ORDER BY path LIMIT ? OFFSET ?", count, offset)]

    def left_out(self):
        """Files below the sources without a face in the gallery: list of (path, reason, count)."""
        return [(os.fsdecode(path), reason, count) for path, reason, count in self.rows(
            "SELECT path, reason, count FROM left_out UNION ALL "
            "SELECT path, reason, 1 FROM photographs WHERE reason != '' ORDER BY path")]

    def open_encoder(self):
        """The encoder that made the codes; see store.open_encoder."""
        encoder = open_encoder(self.path, self.info)
        if self.has_vectors and self.vector_size != encoder.vector_size:
            encoder.close()
            raise _damaged(self.path / FILE, f"its vectors have {self.vector_size} values, those "
                           f"of its encoder {encoder.vector_size}")
        return encoder

    def vector_of(self, face_id):
        """The vector of a face as it was made, float32 [V], or None. Raises KeyError."""
        self.row_of(face_id)
        rows = self.rows("SELECT embedding FROM embeddings WHERE face = ?", int(face_id))
        with errors(self.path / FILE):
            return _as_array([rows[0][0]], self.vector_size)[0] if rows else None

    def activate(self, code, vector):
        """What the code of a face with a vector (float [V]) is made of, if that is an embedding.

        Else the code (uint64) itself. float [K].
        """
        if not self.has_embeddings:
            return packing.unpack(np.array([code], np.uint64), self.num_bits)[0].astype(float)
        with self._lock:
            if self._encoder is None:
                self._encoder = self.open_encoder()
            return self._encoder.activate(np.asarray(vector, np.float32)[None])[0]

    def check(self):
        """Reads everything. Raises UserError for what is damaged first."""
        check_encoder(self.path, self.info)
        for pragma in ("integrity_check", "foreign_key_check"):
            problem = self.rows(f"PRAGMA {pragma}")
            if problem not in ([], [("ok",)]):
                raise _damaged(self.path / FILE, one_line(problem[0][0], 100))
        if self.has_vectors:
            with self._errors():
                ids = [faces for faces, _ in _vector_parts(self._connection)]
            self._check_all(np.array_equal(np.concatenate(ids), self.ids))
        for face_id in self.ids:
            self.thumbnail(face_id)


class Writer(_Opened):
    """A change of a gallery, whole or not at all; `commit` makes it happen. Use as a context.

    Args:
        path: the gallery's folder.
        make: whether to make the gallery where there is none, or in place of a damaged one.
        is_step: whether this change can be undone (gallery/steps.py); it does not take the folder's
            lock. After other changes, the steps before cannot be undone either.

    Attributes:
        info: dict, see INFO; `commit` stores it. Empty in a gallery that was just made.
        notes: lines for the user.

    Raises:
        UserError: there is no gallery, the folder holds something else, or is being written to.
    """

    def __init__(self, path, make=False, is_step=False):
        super().__init__(_path_of(path))
        self.is_step, self._folder, self.notes = is_step, OutputFolder(self.path), []
        _mark_again(self._folder)
        if make:
            _refuse_old_form(self.path)
        else:
            check_folder(self.path)
        if is_step and not os.access(self.path, os.W_OK):  # SQLite would not say why
            raise UserError(f"{self.path} cannot be written (a read-only disk, or no right to it); "
                            "copy the gallery elsewhere")
        _migrate(self.path)
        if make:
            self._folder = OutputFolder.create(self.path, "gallery")
        elif not is_step:
            self._folder.lock()
        try:
            self._open(make)
        except BaseException:
            self.close()
            raise

    def _open(self, make):
        path = self.path / FILE
        try:
            self._connect(make)
        except Failed:
            raise
        except UserError as error:  # missing or damaged: what is made now takes its place
            if not make:
                raise
            self._disconnect()
            kept = path.with_name(path.name + ".damaged")  # names given by hand are nowhere else
            if path.exists() and path.stat().st_size:
                self.notes.append(f"{one_line(error).partition('; ')[0]}; it is kept as "
                                  f"{kept.name}, the only copy of names given by hand")
            for ending in ("", "-wal", "-shm"):
                with files.writing(path), contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{ending}", f"{kept}{ending}")
            with errors(path):
                _make(path)
            self._connect(make)

    def _connect(self, make):
        self._connection, _, _ = _connect(self.path / FILE, write=True)
        self.info = {}
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            self._changes = self._connection.total_changes
            if self.count("info"):
                self.info = read_info(self._connection)
            elif not make:
                raise ValueError(UNFINISHED)

    def begin(self):
        """Goes on after `commit` or `pause`; nobody else can write from here on."""
        if not self._connection.in_transaction:
            self.run("BEGIN IMMEDIATE")
            self._changes = self._connection.total_changes
            with self._errors():
                now = read_info(self._connection)
            self.info.update({name: now[name] for name in CHANGED_BY_STEPS})

    def pause(self):
        """Ends the transaction, in which nothing was changed: others can write until `begin`."""
        self.run("ROLLBACK")

    def close(self):
        """Ends the change; without `commit`, nothing has changed."""
        self._disconnect()
        self._folder.unlock()

    def _disconnect(self):
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
                if self.is_step:
                    self._connection.execute("PRAGMA busy_timeout = 1000")  # others go on writing
                # What was removed leaves the log, too; and a copy of the folder is complete.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            self._connection = None

    def commit(self, go_on=False):
        """Makes the change happen; `go_on` begins the next one."""
        with self._errors():
            if self._connection.total_changes != self._changes:
                self.run("DELETE FROM people WHERE "
                         "NOT EXISTS (SELECT 1 FROM faces WHERE person = people.id) AND "
                         "NOT EXISTS (SELECT 1 FROM rejected WHERE person = people.id)")
                if not self.is_step:  # what the steps have changed may be gone
                    self.run("DELETE FROM steps")
                self._calibrate()
                self.info["change"] += 1
            files.check_fields(self.info, INFO, "the gallery")
            for name in INFO:
                self.run("INSERT INTO info VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = "
                         "excluded.value WHERE value != excluded.value",
                         name, json.dumps(self.info[name], sort_keys=True))
            self.run("COMMIT")
        if go_on:
            self.begin()

    def _calibrate(self):
        """Measures the threshold's curve again, unless hardly any face has changed since."""
        changed = self.info["uncalibrated"] * CALIBRATED_FACES
        if not changed or changed < self.count("faces"):
            return
        codes, people, hashes = _columns(self._connection, "faces", "code", PERSON, "hash")
        known = people != NOBODY
        probes = _columns(self._connection, "probes", "code", PERSON)
        names, trained = trained_names(self.path / self.info["encoder"]), None
        if names is not None:  # people of the training set, and those of the run's own images
            learned = self.rows(
                "SELECT person FROM faces WHERE photograph IS NULL AND person IS NOT NULL UNION "
                f"SELECT person FROM labels WHERE label {GIVEN}",
                json.dumps(sorted(names)))
            trained = np.isin(people[known], [person for person, in learned])
        given = codes[known], people[known], self.info["num_bits"]
        found = calibrate(*given, probes, hashes[known], trained)
        self.info.update(calibration=found and found._asdict(), vector_calibration=None,
                         uncalibrated=0)
        if found and self.info["vectors"] == "descriptor":
            _, vectors = _read_vectors(self._connection, scale=unit_vectors)
            if len(vectors) < len(codes):
                raise sqlite3.DatabaseError("a face has no vector")
            blobs = [bytes.fromhex(text or "") for text, in self.rows(
                "SELECT vector FROM probes ORDER BY rowid")]
            probes[0] = unit_vectors(_as_array(blobs, vectors.shape[1]))
            found = calibrate(*given, probes, hashes[known], trained, vectors[known])
            self.info["vector_calibration"] = found and found._asdict()

    def faces_changed(self, count):
        """Notes that so many labelled faces came, went or changed: the threshold depends on it."""
        self.info["uncalibrated"] += count

    def start(self, metadata, encoder):
        """Empties the gallery for the codes of another encoder. Ids are not given again.

        Args:
            metadata: dict, the encoder.json.
            encoder: name of its folder, below the gallery's.
        """
        for table in ("faces", "photographs", "probes", "people", "sources", "left_out",
                      "removed_photographs", "steps"):
            self.run(f"DELETE FROM {table}")
        # Without a database, or with a damaged one, an encoder at the usual place is left over.
        unused = {*self.info.get("unused", ()), self.info.get("encoder", "encoder")} - {encoder}
        self.info = {
            "id": self.info.get("id") or secrets.token_hex(8),
            "change": self.info.get("change", 0),
            "method": metadata["method"], "num_bits": metadata["num_bits"],
            "crop": metadata["crop"], "dataset": metadata["dataset"],
            "run": os.path.basename(str(metadata.get("run", "")).rstrip("/")), "results": "",
            "encoder": encoder, "encoder_id": encoder_id(metadata),
            "encoder_files": describe_encoder(self.path / encoder),
            "vectors": metadata.get("vectors"), "engine": None, "people": "folders",
            "faces": "auto", "calibration": None, "vector_calibration": None, "uncalibrated": 0,
            "unused": sorted(unused)}

    def person(self, label):
        """Id of the person that folders or lists call by a label (None: None); made if need be."""
        if label is None:
            return None
        found = self.rows("SELECT person FROM labels WHERE label = ?", label)
        if found:
            return found[0][0]
        person = self.named(label)
        self.run("INSERT INTO labels VALUES (?, ?)", label, person)
        return person

    def named(self, name):
        """Id of the person of a name; made if need be."""
        found = self.rows("SELECT id FROM people WHERE name = ?", name)
        return found[0][0] if found else self.run(
            "INSERT INTO people (name) VALUES (?)", name).lastrowid

    def name_by_label(self, photograph, person):
        """Gives a photograph's first face the name of its label (None: no name).

        Unless somebody has said who it is, or is not, or another face there has the name.
        """
        if person is not None:  # what likeness says gives way
            likely = ("SELECT face FROM groups JOIN faces ON id = face WHERE photograph = ?1 AND "
                      "(faces.number = 0 OR person = ?2)")
            self.run(f"UPDATE faces SET person = NULL WHERE id IN ({likely})", photograph, person)
            self.run("DELETE FROM groups WHERE face IN (SELECT id FROM faces WHERE photograph = ? "
                     "AND person IS NULL AND (groups.number = 0 OR faces.number = 0))", photograph)
        changed = self.run(
            "UPDATE faces SET person = CASE WHEN "
            "EXISTS (SELECT 1 FROM rejected WHERE face = faces.id AND person = ?2) OR "
            "EXISTS (SELECT 1 FROM faces AS other WHERE other.photograph = ?1 AND "
            "other.person = ?2 AND other.id != faces.id) THEN NULL ELSE ?2 END "
            "WHERE photograph = ?1 AND number = 0 AND by_hand = 0 AND id NOT IN "
            "(SELECT face FROM groups)", photograph, person).rowcount
        self.faces_changed(changed)

    def name_if_free(self, face, person):
        """Names a face (id) for good, unless somebody has said that it is not this person, or that
        another face of its photograph is. Returns whether it was named."""
        other = ("photograph = (SELECT photograph FROM faces WHERE id = ?1) AND person = ?2 AND "
                 "id != ?1")
        if self.rows("SELECT 1 FROM rejected WHERE face = ?1 AND person = ?2 UNION SELECT 1 FROM "
                     f"faces WHERE by_hand = 1 AND {other}", face, person):
            return False
        self.run(f"UPDATE faces SET person = NULL WHERE {other}", face, person)
        self.run("DELETE FROM groups WHERE face = ?1 OR (number = 0 AND face IN "
                 "(SELECT id FROM faces WHERE person IS NULL))", face)
        self.run("UPDATE faces SET person = ?2, by_hand = 1 WHERE id = ?1", face, person)
        self.faces_changed(1)
        return True

    def add_photograph(self, path, sha256, size, time, label, other_disk, found, reason=""):
        """Adds a photograph; see the table. Returns its id."""
        return self.run(
            "INSERT INTO photographs (path, sha256, size, time, label, other_disk, found, removed,"
            " reason) VALUES (?, ?, ?, ?, ?, ?, ?, '', ?)", os.fsencode(path), sha256, size, time,
            label, other_disk, found, reason).lastrowid

    def add_face(self, photograph, number, person, code, image_hash, thumbnail,
                 box=(0, 0, 0, 0), vector=None, known=None):
        """Adds a face; returns its id.

        Args:
            photograph: id, or None for an image of a data set.
            number: int, see Face.
            person: id, or None.
            code, image_hash: uint64 numbers, of the face.
            thumbnail: bytes of a JPEG or PNG.
            box: (left, top, right, bottom).
            vector: float array, or None.
            known: id of the face that it was; what people have said of that stays. Or None.
        """
        is_first = not self.rows("SELECT 1 FROM sqlite_sequence WHERE name = 'faces'")
        face = known
        if known is None:
            face = self.run(
                "INSERT INTO faces VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
                0 if is_first else None, photograph, number, person, _signed(code),
                _signed(image_hash), *map(float, box)).lastrowid
        else:
            self.run("UPDATE faces SET number = ?, person = CASE WHEN by_hand = 1 OR id IN (SELECT "
                     "face FROM groups) THEN person ELSE ? END, code = ?, hash = ?, box_left = ?, "
                     "box_top = ?, box_right = ?, box_bottom = ? WHERE id = ?", number, person,
                     _signed(code), _signed(image_hash), *map(float, box), face)
        self.run("INSERT OR REPLACE INTO face_images VALUES (?, ?)", face, thumbnail)
        if vector is not None:
            self.run("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", face, _as_blob(vector))
        self.faces_changed(person is not None)
        return face

    def add_probe(self, code, person, vector=None):
        """Adds the code (uint64) of a face that calibrates the threshold and the gallery lacks.

        Its person is None for somebody of whom the gallery holds nothing; vector: see add_face.
        """
        self.run("INSERT INTO probes VALUES (?, ?, ?)", _signed(code), person,
                 None if vector is None else _as_blob(vector).hex())
        self.faces_changed(1)

    def remove_faces(self, faces):
        """Removes faces (ids)."""
        self.run(f"DELETE FROM faces WHERE id {GIVEN}", json.dumps(faces))
        self.faces_changed(len(faces))

    def remove_photographs(self, photographs):
        """Removes photographs (ids) with their faces; they are new if they are found again."""
        ids = json.dumps(photographs)
        self.faces_changed(self.rows(f"SELECT count(person) FROM faces WHERE photograph {GIVEN}",
                                     ids)[0][0])
        self.run(f"DELETE FROM photographs WHERE id {GIVEN}", ids)

    def shut_out(self, photographs):
        """Removes photographs (ids) with their faces, and keeps them out until they change."""
        for row in self.rows(f"SELECT path, sha256, size, time FROM photographs WHERE id {GIVEN}",
                             json.dumps(photographs)):
            self.keep_out(*row)
        self.remove_photographs(photographs)

    def keep_out(self, path, sha256, size, time):
        """Notes that a photograph stays out, by salted hashes: path is bytes."""
        self.run("INSERT OR REPLACE INTO removed_photographs VALUES (?, ?, ?, ?)",
                 self.salted(path), self.salted(sha256), size, time)

    def salted(self, value):
        """A hash of bytes that only this gallery makes of them."""
        return hashlib.sha256(self.info["id"].encode() + value).digest()

    def vectors(self):
        """(ids, vectors) of all faces that have one; see _read_vectors."""
        with self._errors():
            return _read_vectors(self._connection)

    def set_group(self, face, number):
        """Puts a face (id) into a group; see the table."""
        self.run("INSERT INTO groups VALUES (?, ?) ON CONFLICT (face) DO UPDATE SET number = "
                 "excluded.number", face, number)

    def next_group(self):
        """A number that no group has."""
        return self.rows("SELECT coalesce(max(number), 0) + 1 FROM groups")[0][0]

    def change_encoder(self, metadata, temporary, ids=(), codes=()):
        """Replaces the encoder by one of the same bits, and codes by those that it makes.

        Args:
            metadata: dict, the new encoder.json.
            temporary: Path of its folder, which is moved.
            ids, codes: of the faces whose codes change, int64 [n] and uint64 [n].
        """
        name = self.take_encoder(temporary)
        self.info["unused"] = sorted({*self.info["unused"], self.info["encoder"]} - {name})
        self.info.update(encoder=name, encoder_id=encoder_id(metadata),
                         encoder_files=describe_encoder(self.path / name))
        with self._errors():
            self._connection.executemany("UPDATE faces SET code = ? WHERE id = ?", zip(
                np.asarray(codes, np.uint64).view(np.int64).tolist(), np.asarray(ids).tolist()))
        self.faces_changed(len(ids))

    # The encoder's folder

    def take_encoder(self, temporary):
        """Moves an exported encoder (a Path) to where it stays; returns its folder's name.

        It is noted first, so that it is removed if the change never happens.
        """
        taken = set(self.info.get("unused", ())) | {self.info.get("encoder")}
        name = next(name for name in itertools.chain(
            ["encoder"], (f"encoder-{number}" for number in itertools.count(2)))
            if name not in taken and not os.path.lexists(self.path / name))
        if self.info:
            self.info["unused"].append(name)
            self.commit(go_on=True)
        files.flush_tree(temporary)
        with files.writing(self.path / name):
            os.rename(temporary, self.path / name)
        files.flush(self.path)
        return name

    def remove_unused(self):
        """Removes the encoders that the gallery has no use for."""
        for name in self.info["unused"]:
            folder = self.path / name
            if folder.is_dir() and not folder.is_symlink() and OutputFolder(
                    folder).kind() == "encoder":
                shutil.rmtree(folder, ignore_errors=True)
        if self.info["unused"]:
            self.info["unused"] = []
            self.commit(go_on=True)


# Opening and checking


def is_gallery(path):
    """Whether there is a gallery in a folder, whole or damaged."""
    return Path(path, FILE).is_file()


def _path_of(path):
    """A gallery's path as a Path; an empty one would be the working directory."""
    if sqlite3.sqlite_version_info < (3, 38):  # STRICT tables, json_each
        raise UserError(f"galleries need SQLite 3.38; this Python has {sqlite3.sqlite_version}")
    if not str(path).strip():
        raise UserError("name the folder of the gallery; the name given is empty")
    return Path(path)


def check_folder(path):
    """Raises UserError that says what is in a folder (a Path) if that is not a gallery."""
    if not path.is_dir():
        raise UserError(f"{path}: no such gallery; python search.py index makes one")
    if (path / FILE).is_file():
        return
    _refuse_old_form(path)
    kind = OutputFolder(path).kind() if (path / MARKER).exists() else None
    if kind is None:
        raise UserError(f"{path} is not a gallery; python search.py find PHOTO {path} searches a "
                        "folder of photographs")
    if kind != "gallery":
        raise UserError(f"{path} is not a gallery but holds a {kind}")
    raise UserError(f"{path} is not a gallery: it has no {FILE}; {_index_again(path)}")


def _refuse_old_form(path):
    """Raises UserError for a gallery (a Path) that an older version wrote into other files."""
    if (path / "gallery.json").is_file() and not (path / FILE).is_file():
        raise UserError(f"{path} is a gallery of an older version; remove it, then "
                        + _index_again(path))


@contextlib.contextmanager
def errors(path):
    """Turns SQLite's errors into one line that names the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise Failed(f"{path} is in use by another process; try again")
        hint = " (is the disk full?)" * ("I/O" in str(error))
        raise Failed(f"{path} cannot be used: {error}{hint}")
    except (sqlite3.DatabaseError, OverflowError, ValueError, TypeError) as error:
        raise _damaged(path, error)  # SQLite's own word, or values that only others have written


def _damaged(path, why):
    return UserError(f"{path} is damaged ({why}); {_index_again(path.parent)}")


def _index_again(folder):
    run = "[RUN] "  # of a gallery whose encoder is damaged, too
    for path in sorted(folder.glob("encoder*/encoder.json")):
        with contextlib.suppress(UserError, AttributeError, TypeError):
            run = files.read_json(path).get("run")
            run = f"{one_line(run, 200)} " if run else ""
    return f"index again: python search.py index {run}--images DIR --out {folder}"


def _status(path):
    """What tells one file, and one state of it, from another."""
    with files.reading(path):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a file")
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _connect(path, write=False):
    """(connection, status, whether it is opened as immutable) of a gallery.db, checked."""
    status = _status(path)
    with errors(path):
        for immutable in (False, True):
            connection = _sqlite(path, "&immutable=1" * immutable)
            try:
                for pragma in PRAGMAS + ("PRAGMA foreign_keys = ON",):
                    connection.execute(pragma)
                _check_schema(connection, path)
                if not write:
                    connection.execute("PRAGMA query_only = ON")
                return connection, status, immutable
            except sqlite3.OperationalError:
                connection.close()
                log = path.with_name(path.name + "-wal")
                if immutable or write:
                    raise
                if log.exists() and log.stat().st_size:
                    raise Failed(f"{path} has unfinished changes, and its folder cannot be "
                                 "written; copy the folder elsewhere")
            except BaseException:
                connection.close()
                raise


def _version(path):
    """The version of a gallery.db's tables; None if it is not a gallery's.

    Asked of SQLite: if this process opened the file by itself, closing it would drop the locks that
    its connections hold, and another process could write at the same time.
    """
    with contextlib.suppress(sqlite3.Error):
        if path.is_file():
            with contextlib.closing(_sqlite(path)) as connection:
                if connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION:
                    return connection.execute("PRAGMA user_version").fetchone()[0]
    return None


def _sqlite(path, options=""):
    """A connection to a file that is there; nothing in it is run."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw{options}", uri=True, timeout=LOCK_SECONDS,
        isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _migrate(path):
    """Gives an older gallery's folder (a Path) the tables of this version, in one transaction."""
    if _version(path / FILE) not in MIGRATIONS:
        return
    folder = OutputFolder(path)
    folder.lock()
    try:
        with errors(path / FILE), contextlib.closing(_sqlite(path / FILE)) as connection:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            steps = "".join(MIGRATIONS[version] for version in range(found, VERSION))
            connection.executescript(
                f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT")
    finally:
        folder.unlock()


def _check_schema(connection, path):
    """Raises UserError unless a file has our tables and nothing else."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise _damaged(path, "it is not a gallery")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version in MIGRATIONS:  # _migrate could not
        raise Failed(f"{path} is of an older version, and its folder cannot be written; copy the "
                     "folder elsewhere")
    if version > VERSION:
        raise Failed(f"{path} was made by a newer version of this program; use that version")
    if version != VERSION:
        raise _damaged(path, "another version of this program made it")
    if _tables(connection) != _expected_tables():
        raise _damaged(path, "its tables are not those of a gallery")


def _tables(connection):
    return connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE "
                              "'sqlite\\_%' ESCAPE '\\' ORDER BY name").fetchall()


@functools.lru_cache(maxsize=None)
def _expected_tables():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        return _tables(connection)


def _mark_again(folder):
    """Replaces the missing or damaged marker of an OutputFolder whose gallery.db is ours."""
    if _version(folder.path / FILE) is None:
        return
    with contextlib.suppress(OSError, UserError):
        with contextlib.suppress(UserError):
            if folder.kind() is not None:
                return
        folder.mark("gallery")


def _make(path):
    """Makes an empty gallery.db, whole or not at all."""
    with files.replacing(path) as temporary, contextlib.closing(
            sqlite3.connect(str(temporary))) as made:
        made.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {SCHEMA}"
                           f"PRAGMA application_id = {APPLICATION};"
                           f"PRAGMA user_version = {VERSION}; COMMIT")


# Rows and values


def read_info(connection):
    """The table info as a dict, checked. Raises sqlite3.DatabaseError if it is damaged."""
    try:
        info = {name: files.parse_json(value) for name, value in connection.execute(
            "SELECT name, value FROM info WHERE length(value) < 10000000")}
        if not info:
            raise ValueError(UNFINISHED)
        info.setdefault("vectors", "embeddings")  # older galleries have no others, if any
        info.setdefault("vector_calibration", None)
        files.check_fields(info, INFO, "the gallery")
        if info["vectors"] not in ("embeddings", "descriptor", None):
            raise ValueError("it names no kind of vectors")
        if not 1 <= info["num_bits"] <= packing.MAX_BITS:
            raise ValueError(f"its codes have {info['num_bits']} bits")
        names = [info["encoder"]] + info["unused"]
        if not all(isinstance(name, str) and ENCODER.match(name) for name in names):
            raise ValueError("it names no folder of an encoder")
        if not all(ENCODER_FILE.match(name) for name in info["encoder_files"]):
            raise ValueError("it names no file of an encoder")
        if not re.match(r"[0-9a-f]{16}\Z", info["id"]):
            raise ValueError("it has no id")
        for name, farthest in (("calibration", info["num_bits"]), ("vector_calibration", STEPS)):
            if info[name]:
                Calibration.checked(info[name], farthest)
    except (ValueError, RecursionError) as error:
        raise sqlite3.DatabaseError(one_line(error, 200))
    return info


def _columns(connection, table, *columns):
    """Columns of whole numbers as int64 arrays; `code` and `hash` as uint64."""
    count = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY "
                              f"{'rowid' if table in ('faces', 'probes') else columns[0]}")
    try:
        values = np.fromiter(itertools.chain.from_iterable(rows), np.int64, count * len(columns))
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"table {table}: {error}")
    values = values.reshape(count, len(columns))
    return [np.ascontiguousarray(values[:, place]).view(
        np.uint64 if name in ("code", "hash") else np.int64)
        for place, name in enumerate(columns)]


def _read_vectors(connection, last=2 ** 63 - 1, scale=np.asarray):
    """The vectors of all faces that have one, up to the id `last`.

    Args:
        scale: what is done to some vectors at once, such as unit_vectors.

    Returns:
        (ids, vectors): int64 [n], ascending, and float32 [n, V].
    """
    most, = connection.execute("SELECT count(*) FROM faces").fetchone()
    ids, vectors, count = np.empty(most, np.int64), np.empty(
        (most, _vector_size(connection)), np.float32), 0
    for faces, some in _vector_parts(connection, last):
        part = slice(count, min(count + len(faces), most))  # others may write more than there are
        ids[part], vectors[part] = faces[:part.stop - count], scale(some)[:part.stop - count]
        count = part.stop
    return ids[:count], vectors[:count]


def _vector_parts(connection, last=2 ** 63 - 1):
    """Yields (ids, vectors) of some faces after the other; see _read_vectors."""
    size = _vector_size(connection)
    rows = connection.execute("SELECT face, embedding FROM embeddings WHERE face <= ? "
                              "ORDER BY face", (last,))
    for some in iter(lambda: rows.fetchmany(READ_AT_ONCE), []):
        faces, blobs = zip(*some)
        yield faces, _as_array(blobs, size)


def _vector_size(connection):
    """How many values each face's vector has; 0 if there are none."""
    for length, in connection.execute("SELECT length(embedding) FROM embeddings LIMIT 1"):
        if length % 2 or not 2 <= length <= 2 * MOST_VECTOR:
            raise sqlite3.DatabaseError(f"table embeddings: one has {length} bytes")
        return length // 2
    return 0


def _as_array(blobs, size):
    if not blobs:
        return np.zeros((0, size), np.float32)
    if set(map(len, blobs)) - {2 * size}:
        raise sqlite3.DatabaseError(f"a vector has not {size} values")
    values = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, size).astype(np.float32)
    if not np.isfinite(values).all():
        raise sqlite3.DatabaseError("a value of a vector is not finite")
    return values


def _as_blob(vector):
    return np.asarray(vector, "<f2").tobytes()


def below(folder):
    """A condition of SQL and its two values: of paths below a folder (a str)."""
    start = os.fsencode(folder).rstrip(b"/") + b"/"
    return "path >= ? AND path < ?", start, start[:-1] + b"0"  # "0" follows "/"


def _signed(number):
    """An unsigned 64-bit number as SQLite holds it."""
    return int(np.uint64(number).astype(np.int64))


def clean_name(text):
    """A person's name as the gallery keeps it: printable, in Unicode's composed form."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", one_line(text, 1000))


# The encoder


def encoder_id(metadata):
    """A text that is equal for equal encoders, by encoder.json: one run, one state of its weights.

    Settings count where they shape the codes and differ from the released value. Others, and how a
    data set is named, do not: `data` is a digest of the data.
    """
    released = Config().to_dict()
    shaping = set(setting_names(Config, "run", "sample")) - {"dataset_flag", "recipe"}
    settings = {name: value for name, value in metadata["settings"].items()
                if name in shaping and value != released[name]}
    starts = [entry.get("start") for entry in metadata.get("provenance") or []]
    identity = [metadata["method"], metadata["num_bits"], settings, metadata["mean"],
                metadata["std"], metadata.get("pixel_range"), metadata.get("crop"),
                metadata.get("data"), metadata.get("epoch"), starts[:1]]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def trained_names(folder):
    """Names of the people that an encoder in a folder (a Path) was trained on: set, or None."""
    identities = files.read_json(folder / "encoder.json").get("identities")
    return {clean_name(str(name)) for name in identities} if isinstance(
        identities, list) else None


def describe_encoder(folder):
    """{name: sha256} of the files of an encoder's folder (a Path)."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.is_file())
    return {name: files.digest_of(folder / name).hex()
            for name in names if ENCODER_FILE.match(name)}


def check_encoder(path, info):
    """Raises UserError if a file of a gallery's encoder is missing or damaged."""
    for name, digest in info["encoder_files"].items():
        file = path / info["encoder"] / name
        if not file.is_file():
            raise UserError(f"{file} is missing; {_index_again(path)}")
        if files.digest_of(file).hex() != digest:
            raise UserError(f"{file} is damaged; {_index_again(path)}")


def open_encoder(path, info):
    """A gallery's encoder, by its path and INFO. UserError: it is damaged, or not that one now."""
    check_encoder(path, info)
    encoder = Encoder.open(path / info["encoder"])
    if (encoder.metadata["num_bits"] != info["num_bits"]
            or encoder_id(encoder.metadata) != info["encoder_id"]):
        encoder.close()
        raise _damaged(path / info["encoder"], "it is not the encoder of this gallery")
    return encoder
