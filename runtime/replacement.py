"""Replacing one run's folder by another without a moment at which a kill could lose either.

    .NAME.TOKEN.new     the new folder, complete before anything happens to the old one
    .NAME.TOKEN.old     the old folder, out of the way; it comes back if the new one does not come
    .NAME.TOKEN.trash   the old folder once the new one is in its place; it may be removed

The new folder's marker names the old one, so that a kill before its second renaming leaves no doubt
which of the two is wanted. Every step renames within one parent folder.
"""

import contextlib
import fnmatch
import os
import re
import shutil
import time
from pathlib import Path

from runtime.checkpoint_index import PART
from runtime.errors import UserError
from runtime.files import TEMPORARY, writing
from runtime.output_folder import LOCK, MARKER, OutputFolder

# All that a run's folder holds, by subfolder: --overwrite refuses to remove anything else.
CONTENTS = {
    "": (MARKER, LOCK, "config.json", "provenance.json", "uncommitted*.diff", "history.csv",
         "results.json", "codes.npz", "unseen_codes.npz", "floats.npz", "unseen_floats.npz",
         "curves_*.csv", "suspects.csv", "report.html"),
    "tensorboard": ("events.out.tfevents.*",),
    "checkpoints": ("index.json", "*.index", "*.meta", "*.data-?????-of-?????",
                    "*.tempstate*"),
    "figures": ("*.png", "*.svg", "*.pdf"),
}
SIBLING = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<state>new|old|trash)\Z", re.DOTALL)


def sibling(path, token, state):
    """The Path beside `path` that stands for one state of its replacement."""
    return path.with_name(".%s.%s.%s" % (path.name, token, state))


def siblings(path, state):
    """Paths of all folders beside `path` that are in a state of replacement, newest first."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(str(path.parent)):
            match = SIBLING.match(entry.name)
            if (match and match.group("name") == path.name and match.group("state") == state
                    and entry.is_dir(follow_symlinks=False)):
                found.append((entry.stat().st_mtime, entry.name))
    return [path.parent / name for _, name in sorted(found, reverse=True)]


def real(path):
    """The Path without symbolic links: what is renamed is the folder, not a link to it."""
    return Path(os.path.realpath(str(path)))


def says_nothing(path, name):
    """Whether an entry of a run's folder is there before the run has its settings."""
    if name == "checkpoints":
        with contextlib.suppress(OSError):
            return not os.listdir(str(path / name))
    return name == MARKER or TEMPORARY.match(name) is not None


def check_removable(path):
    """Looks through a run's folder before it is replaced.

    Raises:
        UserError: it holds something that no run consists of, a symbolic link, a folder that may
            not be emptied, or the working directory.
    """
    place = real(path)
    with contextlib.suppress(OSError):
        if place in [Path(os.getcwd())] + list(Path(os.getcwd()).parents):
            raise UserError("%s is the working directory; change it to replace the run" % path)
    _check_folder(place, "", path)


def _check_folder(folder, name, path):
    """Looks through one folder of a run; `name` is a key of CONTENTS, None below a checkpoint's."""
    if not os.access(str(folder), os.R_OK | os.W_OK | os.X_OK):
        raise UserError("%s cannot be replaced: no right to empty %s" % (path, folder))
    with writing(folder):
        entries = list(os.scandir(str(folder)))
    for entry in entries:
        if entry.is_symlink():
            reason = "is a symbolic link"
        elif entry.is_dir():
            if name == "" and entry.name in CONTENTS:
                _check_folder(folder / entry.name, entry.name, path)
                continue
            if name == "checkpoints" and PART.match(entry.name):
                _check_folder(folder / entry.name, None, path)
                continue
            reason = "is a folder that no run has"
        elif not entry.is_file():
            reason = "is no file"
        elif name is None or TEMPORARY.match(entry.name) or any(
                fnmatch.fnmatchcase(entry.name, pattern) for pattern in CONTENTS[name]):
            continue
        else:
            reason = "is a file that no run has"
        raise UserError("%s is not replaced: %s %s; move it away, or name another --run_dir"
                        % (path, folder / entry.name, reason))


def switch(old, new, token):
    """Puts the folder `new` in the place of `old`, and removes the old one last.

    Args:
        old, new: locked OutputFolders beside one another; new.path changes to where it comes.
        token: that sibling() has named `new` with.

    Raises:
        UserError: not possible; `old` is where it was.
    """
    place = real(old.path)
    aside = sibling(place, token, "old")
    with writing(old.path):
        os.rename(str(place), str(aside))
        try:
            os.rename(str(new.path), str(place))
        except BaseException:
            os.rename(str(aside), str(place))
            raise
    new.path = old.path
    remove(aside)
    old.unlock()


def remove(aside):
    """Removes a folder that another has replaced; what cannot be removed stays as trash."""
    trash = aside.with_name(aside.name[:-len("old")] + "trash")
    with contextlib.suppress(OSError):
        os.rename(str(aside), str(trash))
        _empty(trash)


def _empty(folder):
    """Removes a folder of ours, its marker last: half removed, it still counts as ours."""
    for entry in list(os.scandir(str(folder))):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name not in (MARKER, LOCK):
            os.unlink(entry.path)
    for name in (LOCK, MARKER):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(str(folder / name))
    os.rmdir(str(folder))


def recover(path):
    """Puts a run back that a killed replacement had moved aside, if nothing is in its place.

    Raises:
        UserError: it cannot be put back.
    """
    place, attempts = real(path), 20
    while not os.path.lexists(str(place)):
        asides = siblings(place, "old")
        if not asides:
            return
        folder = OutputFolder(asides[0])
        try:
            folder.lock()
            with writing(path):
                if not os.path.lexists(str(place)):
                    os.rename(str(folder.path), str(place))
        except UserError as error:
            # A living process is between its two renamings, for a moment.
            attempts -= 1
            if not attempts:
                raise UserError("%s was being replaced when that was stopped; its run is now %s, "
                                "and cannot be put back: %s" % (path, folder, error))
            time.sleep(0.05)
        finally:
            folder.unlock()


def when_in_place(path, check):
    """Calls `check`, once more whenever the folder was replaced or moved meanwhile.

    Args:
        path: of the run.
        check: function that raises UserError if the run is not as it should be.
    """
    while True:
        recover(path)
        before = _identity(path)
        try:
            return check()
        except UserError:
            if _identity(path) == before and not (before is None and siblings(real(path), "old")):
                raise


def _identity(path):
    """Of a folder, whatever its name; None if it is missing."""
    try:
        status = os.stat(str(path))
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def clean(path, replaced):
    """Removes what killed replacements of a run have left beside it.

    Args:
        path: of the run, which is there.
        replaced: name of the folder that its marker says it has replaced, or None.
    """
    place = real(path)
    for leftover in (siblings(place, "trash") + siblings(place, "new")
                     + [aside for aside in siblings(place, "old") if aside.name == replaced]):
        folder = OutputFolder(leftover)
        with contextlib.suppress(OSError, UserError):
            names = folder.entries()
            if names and folder.kind() != "run":
                continue
            folder.lock()  # not while its process lives
            if leftover.name == replaced:
                remove(leftover)
            else:
                _empty(leftover)
        folder.unlock()


def recoverable(base):
    """Paths base, base_2 and so on whose runs a killed replacement has moved aside."""
    pattern = re.compile(re.escape(base.name) + r"(_\d+)?\Z")
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(str(base.parent))):
            match = SIBLING.match(name)
            if match and match.group("state") == "old" and pattern.match(match.group("name")):
                yield base.with_name(match.group("name"))
