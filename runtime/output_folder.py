"""Folders that we write results into: files whole or not at all, one writer, nothing foreign.

A folder counts as ours by a marker alone, a file `.dcbh.json` that says what kind of folder it is.
Without it nothing in a folder is replaced or removed. A reader needs neither lock nor write access,
and never sees a half-written file.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import weakref
from pathlib import Path

import numpy as np

from runtime import files
from runtime.errors import UserError
from runtime.files import is_empty_file, writing

MARKER = ".dcbh.json"
LOCK = "lock"
VERSION = 1
# What a folder can hold. One kind is never written into a folder of another.
KINDS = ("run", "evaluation", "comparison", "grid", "logs", "encoder", "gallery")
CLOSED_KINDS = ("run", "encoder", "gallery")  # nothing else of ours is made inside these


class OutputFolder:
    """Access to one folder. Make with `create`; the constructor touches nothing.

    Args:
        path: the folder.

    Raises:
        UserError: the path is empty, or no path.
    """

    def __init__(self, path):
        if not str(path) or "\0" in str(path):
            raise UserError(f"{str(path)!r} is not a folder name; name a folder")
        self.path = Path(path)
        self._lock = None

    def __str__(self):
        return str(self.path)

    @classmethod
    def create(cls, path, kind):
        """A locked folder at `path` to write into: new, empty before, or of the same kind.

        In a folder of the same kind, files that are written again are replaced; all else stays.

        Args:
            path: the folder; its parents are made if need be.
            kind: one of KINDS but "run" (see RunFolder.create).

        Raises:
            UserError: it holds anything else, is in use, or cannot be written.
        """
        folder = cls(path)
        if kind != "encoder":  # a gallery has one of its own
            refuse_inside_output(path)
        folder.make()
        folder._refuse_other(kind)  # first without the lock, which leaves a file
        folder.lock()
        folder._refuse_other(kind)
        if folder.kind() is None:
            folder.mark(kind)
        return folder

    def make(self):
        """Makes the folder and its parents where they are missing."""
        if os.path.islink(self.path) and not os.path.exists(self.path):
            raise UserError(f"{self} is a symbolic link to nothing; remove it")
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UserError(f"{self} is a file, not a folder; name another one")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    # Whose folder it is

    def kind(self):
        """What kind of folder of ours it is (see KINDS); None without a marker.

        Raises:
            UserError: the marker is damaged, or of a later version.
        """
        return self.marker().get("kind")

    def marker(self):
        """The marker's values as a dict; an empty one where there is none."""
        if not os.path.lexists(self.path / MARKER):
            return {}
        try:
            value = self.read_json(MARKER, _check_marker)
        except UserError as error:
            content = json.dumps({"kind": "run", "version": VERSION})
            raise UserError(f"{error}; write {content} into it if the folder holds a run (or "
                            f"another of {', '.join(KINDS[1:])}), or name another folder")
        if value["version"] > VERSION:
            raise UserError(f"{self} was made by a later version of this program "
                            f"({value['version']}; this one knows {VERSION})")
        return value

    def mark(self, kind, **more):
        """Makes the folder count as ours."""
        self.write_json(MARKER, dict(more, kind=kind, version=VERSION))

    def entries(self):
        """Names in the folder, sorted, without what comes before the marker: lock, half a marker.
        """
        with files.reading(self.path):
            return sorted(name for name in os.listdir(self.path)
                          if not (name.startswith("." + MARKER) and files.TEMPORARY.match(name))
                          and not (name == LOCK and is_empty_file(self.path / name)))

    def _refuse_other(self, kind):
        found = self.kind()
        if found == kind:
            return
        if found is not None:
            raise UserError(f"{self} holds something else of this program ({found}); name another "
                            f"folder for the {kind}")
        names = self.entries()
        if names:
            raise UserError(f"{self} holds files but is not marked as this program's {kind} "
                            f"({names[0]}); name another folder, or move the files away")

    # Lock

    def lock(self):
        """Reserves the folder for this process until `unlock`, or the end of object or process.

        Raises:
            UserError: the folder is taken, missing, or cannot be written.
        """
        if self._lock is not None:
            return
        path = self.path / LOCK
        with writing(self.path):
            before = os.stat(self.path)
            if os.path.lexists(path) and not is_empty_file(path):
                raise UserError(f"{path} is not a lock of this program; move it away")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            # Closing it releases the lock; a process that is forked from this one has its own.
            release = weakref.finalize(self, os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                release()
                if isinstance(error, BlockingIOError):
                    raise UserError(f"{self} is in use by another process; wait for it or stop it")
                raise UserError(f"{self} lies on a file system without locks ({error.strerror}); "
                                "name a folder on another file system")
            if not os.path.isdir(self.path) or not os.path.samestat(before, os.stat(self.path)):
                release()
                raise UserError(f"{self} was just replaced by another process; try again")
        self._lock = release
        if self.kind() is not None:
            files.remove_temporaries(self.path)

    def unlock(self):
        """Releases the folder for other processes."""
        if self._lock is not None:
            self._lock()
            self._lock = None

    # Writing

    def make_subfolder(self, name):
        """Makes a subfolder where it is missing; returns its Path."""
        with writing(self.path / name):
            (self.path / name).mkdir(exist_ok=True)
        return self.path / name

    def replacing(self, name):
        """A context: a temporary path that takes the place of the file `name` at the end."""
        path = self.path / name
        if path.parent != self.path:
            with writing(path):
                path.parent.mkdir(exist_ok=True)
        return files.replacing(path)

    def write_json(self, name, value):
        """Writes `value` to the file `name`, whole or not at all."""
        with self.replacing(name) as temporary:
            temporary.write_bytes(json_bytes(value))

    def write_text(self, name, text):
        """Writes the file `name`, whole or not at all; what is no Unicode is escaped."""
        with self.replacing(name) as temporary:
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))

    def write_table(self, name, columns):
        """Writes a CSV file, whole or not at all.

        Args:
            name: of the file.
            columns: dict of column name -> values, all of one length.
        """
        with self.replacing(name) as temporary, open(
                temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values()))

    def write_arrays(self, name, **arrays):
        """Writes an .npz file, whole or not at all."""
        with self.replacing(name) as temporary:
            temporary.write_bytes(npz_bytes(arrays))

    def remove(self, name):
        """Removes the file `name`, if it is there."""
        path = self.path / name
        with writing(path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            files.flush(path.parent)

    # Reading

    def read_json(self, name, check=None):
        """The value in the file `name`.

        Args:
            name: of the file.
            check: function of the value; raises ValueError that says what is wrong with it.

        Raises:
            UserError: the file is missing, damaged, or refused by `check`.
        """
        return files.read_json(self.path / name, check)


def json_bytes(value):
    """The content of a JSON file."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def npz_bytes(arrays):
    """The content of an .npz file of arrays, a dict by name."""
    buffer = io.BytesIO()  # on a full disk zipfile would complain on standard error
    np.savez_compressed(buffer, **arrays)
    return buffer.getbuffer()


def refuse_inside_output(path):
    """Raises UserError if a folder to make lies in one of ours that has a content of its own."""
    place = os.path.realpath(path)
    while place != os.path.dirname(place):
        place, kind = os.path.dirname(place), None
        if os.path.lexists(os.path.join(place, MARKER)):
            with contextlib.suppress(UserError):  # a damaged one further up is not our concern
                kind = OutputFolder(place).kind()
        if kind in CLOSED_KINDS:
            raise UserError(f"{path} lies in {place}, which holds a {kind}; name a folder "
                            f"elsewhere")


def _check_marker(value):
    files.check_fields(value, {"kind": str, "version": int}, "the marker")
    if value["kind"] not in KINDS:
        raise ValueError(f"{value['kind']!r:.40} is not a kind of folder")
