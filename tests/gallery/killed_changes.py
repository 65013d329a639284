"""Kills changes of a gallery at every step: what is left is the old gallery or the new one.

    python killed_changes.py FOLDER      prints how many kills; exits with 0 if all is as it should

A child process makes the change and kills itself (SIGKILL) before its n-th call of the functions
by which files change, n = 1, 2, ... until it survives.
"""

import builtins
import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(parent) for parent in list(Path(__file__).resolve().parents)[1:3]]

from tiny_gallery import add_to_gallery, write_gallery  # noqa: E402

from gallery import changes  # noqa: E402
from gallery.gallery import Gallery, is_gallery  # noqa: E402
from runtime.errors import UserError  # noqa: E402

PEOPLE = [0, 0, 1, 1, 2, 2]
STEPS = [(os, "replace"), (os, "fsync"), (os, "unlink"), (os, "rename"), (os, "mkdir"),
         (shutil, "rmtree"), (Path, "unlink"), (builtins, "open")]
CHANGES = {
    "index": lambda path: write_gallery(path, PEOPLE),
    "index again": lambda path: write_gallery(path, [2, 1, 0], engine="ivf"),
    "add": lambda path: add_to_gallery(path, [3, 3]),
    "remove": lambda path: changes.remove(path, ids=[1], names=["person 2"]),
}


def kill_before(number):
    """Makes this process kill itself before its `number`-th step."""
    steps = itertools.count(1)

    def stepping(function):
        def step(*args, **options):
            if next(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)
        return step

    os.fsync = lambda _: None  # as far as a kill goes; it takes the most time
    for module, name in STEPS:
        setattr(module, name, stepping(getattr(module, name)))


def contents(path):
    """What a reader finds: ids, codes, names and thumbnails; None where there is no gallery."""
    if not is_gallery(path):
        try:
            Gallery.open(path)
        except UserError:
            return None
        raise AssertionError("a gallery without gallery.json")
    with Gallery.open(path) as gallery:
        gallery.check()
        items = gallery.contents.items
        return (items.ids.tolist(), items.codes.tolist(), gallery.contents.names,
                [gallery.thumbnail(row) for row in range(len(gallery))])


def main(folder):
    """All changes, each killed at every step."""
    base, work, count = folder / "base", folder / "work", 0
    for name, change in CHANGES.items():
        if name != "index":
            shutil.rmtree(str(base), ignore_errors=True)
            write_gallery(base, PEOPLE).close()
        old, outcomes = contents(base), []
        for number in itertools.count(1):
            shutil.rmtree(str(work), ignore_errors=True)
            if base.exists():
                shutil.copytree(str(base), str(work))
            child = os.fork()
            if child == 0:
                kill_before(number)
                change(work)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            outcomes.append(contents(work) if work.exists() else None)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0, name
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
            count += 1
            if outcomes[-1] == old and number % 5 == 0:
                # What a killed change has left is not in the way of the next one.
                change(work)
                assert contents(work) == contents_after(change, base, folder / "fresh"), name
        new = outcomes[-1]
        assert new != old and all(outcome in (old, new) for outcome in outcomes), name
        assert outcomes[0] == old
        leftovers = {path.name for path in work.iterdir()} - {
            part.split("/")[0] for part in Gallery.open(work).state["files"]}
        assert leftovers == {".dcbh.json", "lock", "gallery.json"}, leftovers
    print(count)


def contents_after(change, base, fresh):
    """What a change makes of the old gallery when nobody kills it."""
    shutil.rmtree(str(fresh), ignore_errors=True)
    if base.exists():
        shutil.copytree(str(base), str(fresh))
    change(fresh)
    return contents(fresh)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
