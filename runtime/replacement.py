"""--overwrite: the old folder stays beside the new one until that is finished.

It is renamed to NAME.replaced (or NAME.replaced_2, ...), where people see it, and removed last. A
process that is killed, or a power cut, leaves it there: the commands then say where it is.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from runtime.files import flush


def real_path(path):
    """The Path without symbolic links: the folder is renamed, not a link to it."""
    return Path(os.path.realpath(path))


def set_aside(path):
    """Renames the folder `path`; returns its Path now. Raises OSError if that is not possible."""
    path, number = real_path(path), 1
    while True:
        aside = path.with_name(f"{path.name}.replaced" + (f"_{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            break
        number += 1
    os.rename(path, aside)
    flush(path.parent)
    return aside


def put_back(aside, path):
    """Undoes set_aside, as far as nothing else is at `path`."""
    with contextlib.suppress(OSError):
        if not os.path.lexists(real_path(path)):
            os.rename(aside, real_path(path))


def folders_aside(path):
    """Paths of the folders beside `path` that have the names set_aside gives, in its order."""
    path, found = real_path(path), []
    pattern = re.compile(re.escape(path.name) + r"\.replaced(?:_([0-9]{1,9}))?\Z")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            match = pattern.match(entry.name)
            if match and entry.is_dir(follow_symlinks=False):
                found.append((int(match.group(1) or 1), path.with_name(entry.name)))
    return [folder for _, folder in sorted(found)]


def remove(folder, last=()):
    """Removes a folder that has been replaced.

    Args:
        folder: its Path.
        last: names of the files in it that say what it is. They go last: what a kill leaves of the
            folder still counts as ours.

    Raises:
        OSError: something in it cannot be removed.
    """
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name not in last:
            os.unlink(entry.path)
    for name in last:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
    os.rmdir(folder)
