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

A run that --overwrite replaces lies beside the new one as NAME.replaced until that is finished.
"""

import contextlib
import fnmatch
import os
import re
import shutil
import stat
import sys
from pathlib import Path

from runtime import files, provenance
from runtime.errors import UserError
from runtime.files import check_fields, writing
from runtime.history import History
from runtime.output_folder import LOCK, MARKER, OutputFolder, refuse_inside_output

# All that a run's folder holds; --overwrite removes nothing else.
CONTENTS = (
    MARKER, LOCK, "config.json", "provenance.json", "uncommitted*.diff", "history.csv",
    "results.json", "codes.npz", "unseen_codes.npz", "floats.npz", "unseen_floats.npz",
    "curves_*.csv", "suspects.csv", "report.html", "tensorboard/events.out.tfevents.*",
    "checkpoints/index.json", "checkpoints/*.index", "checkpoints/*.meta",
    "checkpoints/*.data-?????-of-?????", "checkpoints/*.tempstate*",
    "figures/*.png", "figures/*.svg", "figures/*.pdf")
FOLDERS = ("tensorboard", "checkpoints", "figures")
CHECKPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")
# A checkpoint's files, and what a TensorFlow that was killed or failed leaves of them.
PART = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*?)(?P<part>\.index|\.meta"
                  r"|\.data-\d{5}-of-\d{5}|_temp(_[0-9a-f]+)?)(\.tempstate\d+)?\Z")
# Of the state kept with a checkpoint; more may follow. best_loss is None before the first epoch.
STATE = {"epoch": int, "step": int, "sums": dict, "best_epoch": int,
         "seconds": (int, float, type(None)), "best_loss": (int, float, type(None))}


class RunFolder(OutputFolder):
    """Access to one run's folder. Get one by `create` or `open`; the constructor touches nothing.

    Args:
        path: the folder.

    Attributes:
        history: History.
    """

    def __init__(self, path):
        super().__init__(path)
        self.history = History(self.path / "history.csv")
        self._entries = None  # of the provenance, since `begin`

    # Making and finding

    @classmethod
    def open(cls, path):
        """The folder of an existing run; needs no right to write, and takes no lock.

        Raises:
            UserError: there is none at `path`.
        """
        folder = cls(path)
        if not os.path.isdir(folder.path):
            raise UserError(f"{folder}: no such run folder" + folder._where_the_old_run_is())
        names = folder.entries()
        if folder.kind() not in ("run", None):
            raise UserError(f"{folder} is not a run folder: it is marked as {folder.kind()}")
        if "config.json" not in names:
            raise UserError(f"{folder} is not a run folder: it has no config.json"
                            + folder._where_the_old_run_is())
        folder._note_replaced()
        return folder

    @classmethod
    def check_new(cls, path, overwrite=False):
        """Raises UserError if `create` would refuse a folder that is there; writes nothing."""
        folder = cls(path)
        refuse_inside_output(path)
        if os.path.lexists(folder.path):
            folder.make()  # it is there: only what is not a folder is refused
            folder._holds_replaceable(overwrite)

    @classmethod
    def create(cls, path, settings, overwrite=False):
        """A new, locked folder at `path` with the settings in it.

        With overwrite, a run that is there is renamed to NAME.replaced; `finish` removes it.

        Args:
            path: the folder.
            settings: dict of plain values.
            overwrite: whether to replace a run.

        Raises:
            UserError: it holds a run (unless overwrite), anything else (in any case), is in use, or
                cannot be written.
        """
        folder = cls(path)
        refuse_inside_output(path)
        folder.make()
        try:
            folder._holds_replaceable(overwrite)  # first without the lock, which leaves a file
            OutputFolder.lock(folder)
            if folder._holds_replaceable(overwrite):
                folder = folder._replaced_by_new(settings)
            else:
                folder._fill(settings)
        except FileNotFoundError:
            raise UserError(f"{folder} was just replaced by another process; try again")
        folder._note_replaced()
        return folder

    @classmethod
    def create_numbered(cls, base, settings):
        """A new, locked folder at `base` or, where that exists, base_2, base_3 and so on."""
        base, number = cls(base).path, 1
        refuse_inside_output(base)
        with writing(base):
            base.parent.mkdir(parents=True, exist_ok=True)
            while True:
                path = base if number == 1 else base.with_name(f"{base.name}_{number}")
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
        numbered, runs = re.compile(re.escape(base.name) + r"(?:_([0-9]+))?\Z"), []
        with contextlib.suppress(OSError):
            for name in os.listdir(base.parent):
                match = numbered.match(name)
                if match and cls(base.with_name(name)).holds_run():
                    runs.append((int(match.group(1) or 1), name))
        if not runs:
            raise UserError(f"{base}: no run to resume; name one with --run_dir"
                            + cls(base)._where_the_old_run_is())
        return cls.open(base.with_name(max(runs)[1]))

    def lock(self):
        """Reserves the folder, as OutputFolder.lock does, to go on with its run."""
        super().lock()
        if "replaced" in self.marker():  # it is wanted again: the new run must not remove it
            self.mark("run")

    def holds_run(self):
        """Whether a run was begun here."""
        return (os.path.isfile(self.path / "config.json")
                and self.kind() in ("run", None))

    def _fill(self, settings):
        """Makes an empty folder a run; killed on the way, it holds nothing yet."""
        self.mark("run")
        self.make_subfolder("checkpoints")
        self.write_settings(settings)
        files.flush(files.real_path(self.path).parent)

    # Replacing a run

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
            if has_config and os.path.isdir(self.path / "checkpoints"):
                raise UserError(f"{self} holds a run of an older version, without {MARKER}, and is "
                                "not replaced; continue it with --resume, move it away, or name "
                                "another --run_dir")
            raise UserError(f"{self} holds something that is not a run ({names[0]}); name another "
                            f"--run_dir")
        if kind != "run":
            raise UserError(f"{self} holds no run but another output ({kind}); name another "
                            f"--run_dir")
        if all(self._says_nothing(name) for name in names):
            return False  # killed before its settings were written
        if not overwrite:
            raise UserError(
                f"{self} already holds a run; add --resume to continue it, --overwrite to "
                f"replace it, or name another --run_dir" if has_config else
                f"{self} holds a run without its config.json; add --overwrite to replace it, or "
                f"name another --run_dir")
        reason = _not_removable(files.real_path(self.path))
        if reason:
            raise UserError(f"{self} is not replaced: {reason}; move it away, or name another "
                            f"--run_dir")
        return True

    def _says_nothing(self, name):
        """Whether an entry of the folder is there before the run has its settings."""
        if name == "checkpoints":
            with contextlib.suppress(OSError):
                return not os.listdir(self.path / name)
        return name == MARKER or files.TEMPORARY.match(name) is not None

    def _replaced_by_new(self, settings):
        """A new, locked folder in the place of this locked one, which is renamed."""
        place = files.real_path(self.path)
        # Its own marker says what it was replaced by: nothing else of that name is ever removed.
        self.mark("run", replaced=place.name)
        with writing(self.path):
            try:
                files.set_aside(place)
            except OSError:
                self.mark("run")
                raise
        new = type(self)(self.path)
        try:
            with writing(self.path):
                place.mkdir()  # it fails if another process was faster
            OutputFolder.lock(new)
            new._fill(settings)
        except UserError as error:
            raise type(error)(f"{error}{self._where_the_old_run_is()}")
        self.unlock()
        return new

    def _replaced(self):
        """Paths of the runs that this one replaces, and that are still there."""
        place, found = files.real_path(self.path), []
        for path in files.folders_aside(place):
            with contextlib.suppress(UserError):
                marker = OutputFolder(path).marker()
                if marker.get("kind") == "run" and marker.get("replaced") == place.name:
                    found.append(path)
        return found

    def _where_the_old_run_is(self):
        """What to add to a message that there is no run here; empty if none was replaced."""
        return "".join(f"; the run that was there is in {path}: rename it to continue it"
                       for path in self._replaced()[-1:])

    def _note_replaced(self):
        for path in self._replaced():
            print(f"note: the run that {self} replaces is in {path} until the new one is finished",
                  file=sys.stderr, flush=True)

    def _remove_replaced(self):
        """Removes the runs that this one replaces; says of one that stays why."""
        for path in self._replaced():
            old, reason = OutputFolder(path), _not_removable(path)
            try:
                if reason is None:
                    old.lock()  # not while its process lives
                    files.remove_replaced(path, last=(LOCK, MARKER))
            except (OSError, UserError) as error:
                reason = error
            finally:
                old.unlock()
            if reason:
                print(f"note: {path}, replaced by {self}, was not removed: {reason}",
                      file=sys.stderr, flush=True)

    # Settings and provenance

    def read_settings(self):
        """The run's settings, as a dict. Raises UserError if they cannot be read."""
        return self._read("config.json", lambda value: check_fields(value, {}, "the file"),
                          "put it back, or begin another run")

    def write_settings(self, settings):
        """Writes the settings, a dict of plain values."""
        self.write_json("config.json", settings)

    def provenance(self):
        """The provenance entries, one for each start (see provenance.FIELDS)."""
        if not os.path.lexists(self.path / "provenance.json"):
            return []
        return self._read("provenance.json", provenance.check_entries,
                          "put it back, or move it away to go on without it")

    def check_data(self, data_digest):
        """Raises UserError if the run was begun on other data (see data_loader.data_digest)."""
        entries = self.provenance()
        if entries and entries[0].get("data") not in (None, data_digest):
            raise UserError(f"{self} was trained on other data than there is now under its name; "
                            f"train again in another --run_dir")

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
        """Notes when and why this process stopped, from memory: damage meanwhile harms nothing.

        Args:
            ended_by: "finished" once results and report are written, which removes the runs that
                this one replaces; else why it stopped.
        """
        if not self._entries:  # this process has not begun
            return
        self._entries[-1].update(end=provenance.now(), ended_by=ended_by)
        self.write_json("provenance.json", self._entries)
        if ended_by == "finished":
            self._remove_replaced()
        else:
            self._note_replaced()

    def read_results(self):
        """The run's results.json: a dict of numbers and texts, mAP among them.

        Raises:
            UserError: the run is not evaluated yet, or the file is damaged.
        """
        return self._read("results.json", _check_results,
                          f"evaluate the run again: python evaluate.py {self}")

    # Checkpoints

    def save_checkpoint(self, name, save, state, best):
        """Saves a checkpoint and then makes `last` (and `best`) stand for it.

        A process killed at any moment, or a power cut, leaves the old `last` and `best` or the new
        ones: a checkpoint is several files and counts once the index, renamed, names it. May run in
        another thread than the one that writes history and provenance, one call at a time. Whoever
        restores a checkpoint in this process must wait for the thread first: the checkpoints that
        nothing stands for any more are removed at the end.

        Args:
            name: the checkpoint's own name, unlike that of the one `last` stands for.
            save: function that writes a TensorFlow checkpoint to a path prefix.
            state: JSON value kept with it (see STATE).
            best: whether `best` shall stand for it too.
        """
        folder = self.make_subfolder("checkpoints")
        try:
            with writing(folder / name):
                save(str(folder / name))
                for part in folder.glob(name + ".*"):
                    files.flush(part)  # TensorFlow does not
                files.flush(folder)
            index = self._checkpoint_index()
            index["last"] = {"checkpoint": name, "state": state}
            if best:
                index["best"] = index["last"]
            self.write_json("checkpoints/index.json", index)
        finally:
            with contextlib.suppress(UserError):  # one in the index was raised above
                self._remove_other_checkpoints(self._checkpoint_index())

    def checkpoint(self, which):
        """(path prefix, state) of `best` or `last`. Raises UserError if there is none yet."""
        index = self._checkpoint_index()
        if which not in index:
            raise UserError(f"{self} has no checkpoint {which!r} yet; train on with --resume")
        prefix = str(self.path / "checkpoints" / index[which]["checkpoint"])
        files.check_weights(prefix)
        return prefix, index[which]["state"]

    def has_checkpoint(self):
        """Whether there is a `last` to resume from.

        Raises:
            UserError: the index is damaged, or there are checkpoints that it must have named.
        """
        index = self._checkpoint_index()
        names = {match.group("name") for match in self._checkpoint_parts()
                 if match.group("part") == ".index"}
        # A run killed before its first index has one checkpoint, and at most two rows: the second
        # epoch's comes while the first one's checkpoint is being written.
        if not index and (len(names) > 1 or (names and len(self.history.read()) > 2)):
            raise UserError(f"{self.path / 'checkpoints/index.json'} is missing, but there are "
                            f"checkpoints; put it back, or begin another run")
        return "last" in index

    def _checkpoint_index(self):
        if not os.path.lexists(self.path / "checkpoints/index.json"):
            return {}
        return self._read("checkpoints/index.json", _check_index,
                          "put it back, or begin another run")

    def _read(self, name, check, way_out):
        """The value in a file, as read_json; its UserError names a way out."""
        try:
            return self.read_json(name, check)
        except UserError as error:
            raise UserError(f"{error}; {way_out}")

    def _checkpoint_parts(self):
        """Matches of PART for the files in checkpoints/."""
        with contextlib.suppress(OSError):
            return list(filter(None, map(PART.match, os.listdir(self.path / "checkpoints"))))
        return []

    def _remove_other_checkpoints(self, index):
        """Removes the files of all checkpoints that the index does not name."""
        kept = {entry["checkpoint"] for entry in index.values()}
        for match in self._checkpoint_parts():
            path = self.path / "checkpoints" / match.group(0)
            if match.group("name") not in kept:
                with contextlib.suppress(OSError):
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()


def _not_removable(path):
    """Why a run's folder (a real Path) cannot be removed whole; None if it can.

    It holds something that no run consists of, a link, a folder that may not be emptied, or it is
    the working directory.
    """
    with contextlib.suppress(OSError):
        if path in [Path.cwd()] + list(Path.cwd().parents):
            return "it is the working directory"
    for parent, folders, names in os.walk(path):
        for name in folders + names:
            found = Path(parent, name)
            kind = os.lstat(found).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or not _is_part_of_a_run(
                    found.relative_to(path).as_posix(), stat.S_ISDIR(kind)):
                return f"no run consists of {found}"
        for folder in [parent] + [os.path.join(parent, name) for name in folders]:
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                return f"there is no right to empty {folder}"
    return None


def _is_part_of_a_run(inside, is_folder):
    """Whether a run's folder can hold a file or folder; `inside` is its path there."""
    parts = inside.split("/")
    if parts[0] == "checkpoints" and len(parts) > 1 and PART.match(parts[1]):
        return True  # TensorFlow writes in folders, too
    if is_folder:
        return inside in FOLDERS
    return bool(files.TEMPORARY.match(parts[-1])) or any(
        fnmatch.fnmatchcase(inside, pattern) for pattern in CONTENTS)


def _check_results(value):
    check_fields(value, {"mAP": (int, float)}, "the file")
    for name, result in value.items():
        if not isinstance(result, (int, float, str, type(None))):
            raise ValueError(f"its {name!r:.40} is neither a number nor text")


def _check_index(value):
    """Raises ValueError unless `value` is what save_checkpoint writes into the index."""
    check_fields(value, {"last": dict, "best": (dict, type(None))}, "the file")
    for which, entry in value.items():
        check_fields(entry, {"checkpoint": str, "state": dict}, f"{which!r:.40}")
        if not CHECKPOINT.match(entry["checkpoint"]):
            raise ValueError(f"{entry['checkpoint']!r:.60} names no checkpoint")
        state = entry["state"]
        check_fields(state, STATE, f"the state of {which!r:.40}")
        most = dict(epoch=10 ** 9, step=10 ** 9, best_epoch=10 ** 9,
                    restart_epoch=state["epoch"] + 1)  # which older versions did not save
        for name, bound in most.items():
            number = state.get(name, 0)
            if type(number) is not int or not 0 <= number <= bound:
                raise ValueError(f"the state of {which!r:.40} has {name} {number!r:.40}")
        if state.get("best_loss") is None and state["best_epoch"] > 0:
            raise ValueError(f"the state of {which!r:.40} has no 'best_loss'")
        if not all(type(total) in (int, float) for total in state["sums"].values()):
            raise ValueError(f"the state of {which!r:.40} has damaged 'sums'")
