"""The folder of one run.

    .dcbh.json             says that the folder is ours
    config.json            resolved settings
    provenance.json        one entry for each start: code, versions, machine, device, times
    uncommitted*.diff      what the source tree had beyond its git revision at a start, if anything
    history.csv            one row an epoch
    tensorboard/           the same rows for TensorBoard
    checkpoints/           index.json says which checkpoint beside it is `best` and `last`
    results.json           the metrics; codes.npz: the codes they were computed from, those of
                           people never seen in unseen_codes.npz
    suspects.csv           photographs of the user's own that may be mislabelled
    curves_*.csv           precision and recall at N, and within each Hamming radius
    report.html            all of it to look at; figures/: its figures as PNG
    lock                   empty; locked while a process trains
"""

import contextlib
import os
import re
import secrets
import shutil
import threading

from runtime import checkpoint_index, history, provenance, replacement
from runtime.errors import UserError
from runtime.files import check_fields, writing
from runtime.output_folder import MARKER, OutputFolder


class RunFolder(OutputFolder):
    """Access to one run's folder. Get one by `create` or `open`; the constructor touches nothing.

    Args:
        path: the folder.
    """

    def __init__(self, path):
        super().__init__(path)
        self._entries = None  # of the provenance, since `begin`
        self._saving = threading.Lock()

    # Making and finding

    @classmethod
    def open(cls, path):
        """The folder of an existing run; needs no right to write, and takes no lock.

        Raises:
            UserError: there is none at `path`.
        """
        folder = cls(path)
        replacement.when_in_place(folder.path, folder._refuse_no_run)
        return folder

    def _refuse_no_run(self):
        if not os.path.isdir(str(self.path)):
            raise UserError("%s: no such run folder" % self)
        names = self.entries()
        if self.kind() not in ("run", None):
            raise UserError("%s is not a run folder but holds %s" % (self, self.kind()))
        if "config.json" not in names:
            raise UserError("%s is not a run folder: it has no config.json" % self)

    @classmethod
    def create(cls, path, settings, overwrite=False):
        """A new, locked folder at `path` with the settings in it.

        With overwrite, a run that is there is replaced once the new one is complete; if that fails,
        or the process is killed, one of the two stays whole.

        Args:
            path: the folder.
            settings: dict of plain values.
            overwrite: whether to replace a run.

        Raises:
            UserError: it holds a run (unless overwrite), anything else (in any case), is in use, or
                cannot be written.
        """
        folder = cls(path)
        replacement.recover(folder.path)
        folder.make()
        folder._holds_replaceable(overwrite)  # first without the lock, which leaves a file
        folder.lock()
        if folder._holds_replaceable(overwrite):
            folder = folder._replaced(settings)
        else:
            folder._fill(settings)
        return folder

    @classmethod
    def create_numbered(cls, base, settings):
        """A new, locked folder at `base` or, where that exists, base_2, base_3 and so on."""
        base = cls(base).path
        for path in replacement.recoverable(base):
            with contextlib.suppress(UserError):  # it is taken all the same
                replacement.recover(path)
        with writing(base):
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
        base = cls(base).path
        for path in replacement.recoverable(base):
            replacement.recover(path)
        numbered, runs = re.compile(re.escape(base.name) + r"(?:_([0-9]+))?\Z"), []
        with contextlib.suppress(OSError):
            for name in os.listdir(str(base.parent)):
                match = numbered.match(name)
                if match and cls(base.with_name(name)).holds_run():
                    runs.append((int(match.group(1) or 1), name))
        if not runs:
            raise UserError("%s: no run to resume; name one with --run_dir" % base)
        return cls.open(base.with_name(max(runs)[1]))

    def lock(self):
        """Reserves the folder, as OutputFolder.lock does, and tidies up beside it."""
        super().lock()
        if self.kind() == "run":
            replacement.clean(self.path, self.marker().get("replaces"))

    def holds_run(self):
        """Whether a run was begun here."""
        return (os.path.isfile(str(self.path / "config.json"))
                and self.kind() in ("run", None))

    def _holds_replaceable(self, overwrite):
        """Whether there is a run to replace; False if there is nothing.

        Raises:
            UserError: there is a run, but no overwrite, or anything that is not surely ours.
        """
        kind, names = self.kind(), self.entries()
        has_config = "config.json" in names
        if kind is None and not names:
            return False
        if kind is None:
            if has_config and os.path.isdir(self.subfolder("checkpoints")):
                raise UserError("%s holds a run of an older version, without %s, and is not "
                                "replaced; go on with --resume, move it away, or name another "
                                "--run_dir" % (self, MARKER))
            raise UserError("%s holds something that is no run (%s); name another --run_dir"
                            % (self, names[0]))
        if kind != "run":
            raise UserError("%s holds no run but another output (%s); name another "
                            "--run_dir" % (self, kind))
        if all(replacement.says_nothing(self.path, name) for name in names):
            return False  # killed before its settings were written
        if not overwrite:
            raise UserError(
                "%s already holds a run; add --resume to go on with it, --overwrite to replace it, "
                "or name another --run_dir" % self if has_config else
                "%s holds a run without its config.json; add --overwrite to replace it, or name "
                "another --run_dir" % self)
        replacement.check_removable(self.path)
        return True

    def _fill(self, settings, **marker):
        """Makes an empty folder a run; killed on the way, it holds nothing yet."""
        self.mark("run", **marker)
        self.make_subfolder("checkpoints")
        self.write_settings(settings)

    def _replaced(self, settings):
        """A new, locked folder in the place of this locked one."""
        token, place = secrets.token_hex(4), replacement.real(self.path)
        new = type(self)(replacement.sibling(place, token, "new"))
        try:
            new.make()
            new.lock()
            new._fill(settings, replaces=replacement.sibling(place, token, "old").name)
            replacement.switch(self, new, token)
        except BaseException:
            if new.path != self.path:
                shutil.rmtree(str(new.path), ignore_errors=True)
            raise
        return new

    # Settings and provenance

    def read_settings(self):
        """The run's settings, as a dict. Raises UserError if they cannot be read."""
        return self.read_json("config.json", lambda value: check_fields(value, {}, "the file"))

    def write_settings(self, settings):
        """Writes the settings, a dict of plain values."""
        self.write_json("config.json", settings)

    def provenance(self):
        """The provenance entries, one for each start (see provenance.FIELDS)."""
        if not os.path.lexists(str(self.path / "provenance.json")):
            return []
        return self.read_json("provenance.json", provenance.check_entries)

    def check_data(self, data_digest):
        """Raises UserError if the run was begun on other data (see data_loader.data_digest)."""
        entries = self.provenance()
        if entries and entries[0].get("data") not in (None, data_digest):
            raise UserError("%s was trained on other data than there is now under its name; train "
                            "again in another --run_dir" % self)

    def begin(self, *facts):
        """Adds a provenance entry for this process, whose end `finish` fills in.

        `facts` are what provenance.new_entry takes.
        """
        entries = self.provenance()
        entry, difference = provenance.new_entry(*facts)
        if difference:
            entry["uncommitted_diff"] = provenance.keep_difference(
                self, difference, len(entries) + 1)
        self._entries = entries + [entry]
        self.write_json("provenance.json", self._entries)

    def finish(self, ended_by):
        """Notes when and why this process stopped, from memory: damage meanwhile harms nothing."""
        if self._entries is None:
            self._entries = self.provenance()
        if self._entries:
            self._entries[-1].update(end=provenance.now(), ended_by=ended_by)
            self.write_json("provenance.json", self._entries)

    def read_results(self):
        """The run's results.json: a dict of numbers and texts, mAP among them.

        Raises:
            UserError: the run is not evaluated yet, or the file is damaged.
        """
        return self.read_json("results.json", _check_results)

    # History

    def append_history(self, row):
        """Appends one epoch (a dict of numbers; None or "" is an empty cell) to history.csv."""
        history.append(self.path / "history.csv", row)

    def set_history_value(self, epoch, name, value):
        """Sets a column of an epoch's row, which may have been empty or missing until now."""
        history.set_value(self.path / "history.csv", epoch, name, value)

    def read_history(self):
        """The rows of history.csv as dicts of floats, None for an empty cell.

        A half-written last row is left out. Raises UserError if the file is damaged.
        """
        return history.read(self.path / "history.csv")

    def trim_history(self, last_epoch):
        """Drops rows after `last_epoch`: epochs that a killed run had not saved."""
        history.trim(self.path / "history.csv", last_epoch)

    # Checkpoints

    def save_checkpoint(self, name, save, state, best):
        """Saves a checkpoint and then makes `last` (and `best`) stand for it.

        A process killed at any moment leaves the old `last` and `best` or the new ones. May run in
        another thread than the one that writes history and provenance; two calls wait for one
        another. Whoever restores a checkpoint in this process must wait for the thread first: the
        checkpoints that nothing stands for any more are removed at the end.

        Args:
            name: the checkpoint's own name, unlike that of the one `last` stands for.
            save: function that writes a TensorFlow checkpoint to a path prefix.
            state: JSON value kept with it (see STATE).
            best: whether `best` shall stand for it too.
        """
        if not checkpoint_index.NAME.match(name):
            raise ValueError("%r cannot name a checkpoint" % name)
        folder = self.make_subfolder("checkpoints")
        with self._saving:
            try:
                with writing(folder / name):
                    save(str(folder / name))
                index = self._checkpoint_index()
                index["last"] = {"checkpoint": name, "state": state}
                if best:
                    index["best"] = index["last"]
                self.write_json("checkpoints/index.json", index)
            finally:
                with contextlib.suppress(UserError):  # one in the index was raised above
                    checkpoint_index.remove_others(folder, self._checkpoint_index())

    def checkpoint(self, which):
        """(path prefix, state) of `best` or `last`. Raises UserError if there is none yet."""
        index = self._checkpoint_index()
        if which not in index:
            raise UserError("%s has no checkpoint %r yet; train on with --resume" % (self, which))
        return str(self.path / "checkpoints" / index[which]["checkpoint"]), index[which]["state"]

    def has_checkpoint(self):
        """Whether there is a `last` to resume from.

        Raises:
            UserError: the index is damaged, or there are checkpoints that it must have named.
        """
        index, names = self._checkpoint_index(), checkpoint_index.names(self.path / "checkpoints")
        # A run killed before its first index has one checkpoint, and at most two rows: the second
        # epoch's comes while the first one's checkpoint is being written.
        if not index and (len(names) > 1 or (names and len(self.read_history()) > 2)):
            raise UserError("%s is missing, but there are checkpoints; put it back, or begin "
                            "another run" % (self.path / "checkpoints" / "index.json"))
        return "last" in index

    def _checkpoint_index(self):
        if not os.path.lexists(str(self.path / "checkpoints" / "index.json")):
            return {}
        try:
            return self.read_json("checkpoints/index.json", checkpoint_index.check)
        except UserError as error:
            raise UserError("%s; put it back, or begin another run" % error)


def _check_results(value):
    check_fields(value, {"mAP": (int, float)}, "the file")
    for name, result in value.items():
        if not isinstance(result, (int, float, str, type(None))):
            raise ValueError("its %.40r is no number and no text" % name)
