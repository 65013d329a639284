"""The folder of one run: settings, provenance, history, checkpoints, results.

    config.json       resolved settings
    provenance.json   one entry for each time the run was started: code, versions, device, times
    uncommitted.diff  what the source tree had beyond its git revision, if anything
    history.csv       one row an epoch
    tensorboard/      the same rows for TensorBoard
    checkpoints/      index.json says which TensorFlow checkpoint beside it is `best` and `last`
    results.json      the metrics; codes.npz: the codes they were computed from
    curves_*.csv      precision and recall at N, and within each Hamming radius
    report.html       all of it to look at; figures/: its figures as PNG

A reader never sees a half-written file: every file is written under another name and renamed.
A checkpoint is several files; it counts from the moment that index.json, renamed, names it.
"""

import contextlib
import csv
import datetime
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from runtime.errors import UserError

ROOT = Path(__file__).resolve().parent.parent

CONTENTS = ("config.json", "provenance.json", "uncommitted.diff", "history.csv", "tensorboard",
            "checkpoints", "results.json", "codes.npz", "curves_at_n.csv",
            "curves_within_radius.csv", "report.html", "figures", "lock")


class RunFolder:
    """Access to one run's folder. Create with `create` or `open`; the constructor touches nothing.

    Args:
        path: the folder.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._lock = None

    def __str__(self):
        return str(self.path)

    @classmethod
    def open(cls, path):
        """The folder of an existing run. Raises UserError if there is none at `path`."""
        folder = cls(path)
        if not folder.path.is_dir():
            raise UserError("%s: no such run folder" % path)
        if not folder.holds_run():
            raise UserError("%s is not a run folder: it has no config.json" % path)
        return folder

    @classmethod
    def create(cls, path, settings, overwrite=False):
        """A new, locked folder at `path` with the settings in it.

        Raises:
            UserError: it holds a run (unless overwrite), or something that is no run, or cannot
                be written.
        """
        folder = cls(path)
        if folder.holds_run() and not overwrite:
            raise UserError("%s already holds a run; add --resume to go on with it, --overwrite "
                            "to replace it, or name another --run_dir" % path)
        if folder.path.exists():
            _refuse_foreign(folder.path)
        with _writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        folder.lock()
        with _writing(folder.path):
            for name in CONTENTS:
                entry = folder.path / name
                if entry.is_dir():
                    shutil.rmtree(str(entry))
                elif entry.exists() and name != "lock":
                    entry.unlink()
            (folder.path / "checkpoints").mkdir()
        folder.write_settings(settings)  # which makes it a run
        return folder

    @classmethod
    def create_numbered(cls, base, settings):
        """A new, locked folder at `base` or, where that exists, base_2, base_3 and so on."""
        base = Path(base)
        with _writing(base):
            base.parent.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                path = base if number == 1 else base.with_name("%s_%d" % (base.name, number))
                try:
                    path.mkdir()  # of two processes that try, one succeeds
                    break
                except FileExistsError:
                    number += 1
        return cls.create(path, settings)

    @classmethod
    def open_newest(cls, base):
        """The existing run with the highest number that `create_numbered(base)` has made."""
        base = Path(base)
        runs = []
        for path in base.parent.glob(base.name + "*"):
            number = re.match(r"(?:_(\d+))?$", path.name[len(base.name):])
            if number and cls(path).holds_run():
                runs.append((int(number.group(1) or 1), path))
        if not runs:
            raise UserError("%s: no run to resume; name one with --run_dir" % base)
        return cls(max(runs)[1])

    @classmethod
    def output(cls, path):
        """A folder for results that are no run, made if need be."""
        folder = cls(path)
        with _writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    def holds_run(self):
        """Whether a run was begun here."""
        return (self.path / "config.json").is_file()

    def lock(self):
        """Reserves the folder for this process until it ends. Raises UserError if it is taken."""
        with _writing(self.path):
            self._lock = open(str(self.path / "lock"), "a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError("%s is in use by another process; wait for it or stop it" % self.path)
        for pattern in (".*.tmp", "*/.*.tmp"):  # no deeper: runs below a grid's folder may live
            for leftover in self.path.glob(pattern):  # of a killed process
                with contextlib.suppress(OSError):
                    leftover.unlink()

    def subfolder(self, name):
        """Path of a subfolder, as text for TensorFlow."""
        return str(self.path / name)

    # JSON and arrays

    def write_json(self, name, value):
        """Writes `value` to the file `name`, whole or not at all."""
        self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def write_text(self, name, text):
        """Writes the file `name`, whole or not at all."""
        with self.replacing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_table(self, name, columns):
        """Writes a CSV file, whole or not at all.

        Args:
            name: of the file.
            columns: OrderedDict of column name -> values, all of one length.
        """
        with self.replacing(name) as temporary, open(str(temporary), "w", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values()))

    def read_json(self, name):
        """The value in the file `name`. Raises UserError if it is missing or damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError("%s cannot be read: %s" % (path, error))

    def write_codes(self, **arrays):
        """Writes codes.npz, whole or not at all."""
        with self.replacing("codes.npz") as temporary:
            with open(str(temporary), "wb") as stream:
                np.savez_compressed(stream, **arrays)

    @contextlib.contextmanager
    def replacing(self, name):
        """A temporary path that takes the place of the file `name` at the end."""
        path = self.path / name
        temporary = path.with_name(".%s.%d.tmp" % (path.name, os.getpid()))
        with _writing(path):
            try:
                path.parent.mkdir(exist_ok=True)
                yield temporary
                os.replace(str(temporary), str(path))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()

    # Settings and provenance

    def read_settings(self):
        """The run's settings, as a dict. Raises UserError if they cannot be read."""
        values = self.read_json("config.json")
        if not isinstance(values, dict):
            raise UserError("%s must hold a JSON object of settings" % (self.path / "config.json"))
        return values

    def write_settings(self, settings):
        """Writes the settings, a dict of plain values."""
        self.write_json("config.json", settings)

    def check_data(self, data_digest):
        """Raises UserError if the run was begun on other data (see data_loader.data_digest)."""
        entries = self.provenance()
        if entries and entries[0]["data"] != data_digest:
            raise UserError("%s was trained on other data than there is now under its name; train "
                            "anew in another --run_dir" % self)

    def begin(self, tensorflow, device, data_digest):
        """Adds a provenance entry for this process, whose end `finish` fills in.

        Args:
            tensorflow: version.
            device: what it computes on.
            data_digest: see data_loader.data_digest.
        """
        entries = self.provenance()
        revision, difference = git_state()
        entries.append({
            "git_revision": revision,
            "git_dirty": None if revision is None else bool(difference),
            "python": platform.python_version(),
            "tensorflow": tensorflow,
            "numpy": np.__version__,
            "device": device,
            "data": data_digest,
            "machine": platform.platform(),
            "command_line": [sys.executable] + sys.argv,
            "start": _now(),
            "end": None,
            "ended_by": None,
        })
        if difference:
            with self.replacing("uncommitted.diff") as temporary:
                temporary.write_text(difference)
        self.write_json("provenance.json", entries)

    def provenance(self):
        """The provenance entries, one for each start."""
        if not (self.path / "provenance.json").exists():
            return []
        return self.read_json("provenance.json")

    def finish(self, ended_by):
        """Notes in the provenance when and why this process stopped training."""
        entries = self.provenance()
        entries[-1].update(end=_now(), ended_by=ended_by)
        self.write_json("provenance.json", entries)

    # History

    def append_history(self, row):
        """Appends one epoch (a dict of numbers; all rows have the same keys) to history.csv."""
        path = self.path / "history.csv"
        with _writing(path), open(str(path), "a", newline="") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            if stream.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def read_history(self):
        """The rows of history.csv as dicts of floats; a half-written last row is left out."""
        path = self.path / "history.csv"
        if not path.exists():
            return []
        rows = []
        with open(str(path), newline="") as stream:
            for row in csv.DictReader(stream):
                try:
                    rows.append({key: float(value) for key, value in row.items()})
                except (TypeError, ValueError):
                    break
        return rows

    def trim_history(self, last_epoch):
        """Drops rows after `last_epoch`: epochs that a killed run had not saved."""
        path = self.path / "history.csv"
        if not path.exists():
            return
        with open(str(path), newline="") as stream:
            lines = stream.readlines()
        kept = [line for line in lines[1:]
                if line.endswith("\n") and line.split(",")[0].isdigit()
                and int(line.split(",")[0]) <= last_epoch]
        with self.replacing("history.csv") as temporary:
            temporary.write_text("".join(lines[:1] + kept) if kept else "")

    # Checkpoints

    def save_checkpoint(self, name, save, state, best):
        """Saves a checkpoint and then makes `last` (and `best`) stand for it.

        A process killed at any moment leaves the old `last` and `best` or the new ones.

        Args:
            name: the checkpoint's own name, unlike that of the one `last` stands for.
            save: function that writes a TensorFlow checkpoint to a path prefix.
            state: JSON value kept with it.
            best: whether `best` shall stand for it too.
        """
        folder = self.path / "checkpoints"
        try:
            with _writing(folder / name):
                save(str(folder / name))
            index = self._checkpoint_index()
            entry = {"checkpoint": name, "state": state}
            index["last"] = entry
            if best:
                index["best"] = entry
            self.write_json("checkpoints/index.json", index)
        finally:
            self._remove_old_checkpoints()

    def checkpoint(self, which):
        """(path prefix, state) of `best` or `last`. Raises UserError if there is none yet."""
        index = self._checkpoint_index()
        if which not in index:
            raise UserError("%s has no checkpoint %r yet; train on with --resume" % (self, which))
        return str(self.path / "checkpoints" / index[which]["checkpoint"]), index[which]["state"]

    def has_checkpoint(self):
        """Whether there is a `last` to resume from."""
        return "last" in self._checkpoint_index()

    def _checkpoint_index(self):
        if not (self.path / "checkpoints" / "index.json").exists():
            return {}
        return self.read_json("checkpoints/index.json")

    def _remove_old_checkpoints(self):
        kept = tuple(entry["checkpoint"] + "." for entry in self._checkpoint_index().values())
        for path in (self.path / "checkpoints").iterdir():
            if path.suffix != ".json" and not path.name.startswith(kept or "\0"):
                with contextlib.suppress(OSError):
                    path.unlink()


def git_state():
    """(revision, uncommitted difference) of the source tree; (None, "") where git knows nothing."""
    def git(*arguments):
        return subprocess.run(("git", "-C", str(ROOT)) + arguments, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                              ).stdout.decode("utf-8", "replace")
    try:
        revision = git("rev-parse", "HEAD").strip()
        untracked = git("ls-files", "--others", "--exclude-standard")
        return revision, (git("diff", "HEAD")
                          + "".join("untracked: %s\n" % name for name in untracked.splitlines()))
    except (OSError, subprocess.CalledProcessError):
        return None, ""


def _refuse_foreign(path):
    """Raises UserError if `path` is a file or holds anything a run does not consist of."""
    if not path.is_dir():
        raise UserError("%s is a file; name another --run_dir" % path)
    with _writing(path):
        foreign = sorted(entry.name for entry in path.iterdir()
                         if entry.name not in CONTENTS and entry.suffix != ".tmp")
    if foreign:
        raise UserError("%s holds something that is no run (%s); name another --run_dir"
                        % (path, foreign[0]))


@contextlib.contextmanager
def _writing(path):
    """Turns an operating system's refusal into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError("%s cannot be written: %s" % (path, error.strerror or error))


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
