"""Helpers for all tests: processes, and a tiny data set in DDH's format."""

import contextlib
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that `pytest` alone works
# Where networks are trained or many processes started: files that take longest for their number of
# tests.
LONG = ("tests/commands/", "tests/experiments/", "tests/methods/", "tests/test_golden.py",
        "tests/test_model.py", "tests/test_published_losses.py", "tests/training/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files to each process, long ones first.

    xdist begins with the files of most tests. The last ones would be those of two or three tests
    that each take half a minute, and one process would wait for the other.
    """
    from xdist.scheduler import LoadFileScheduling

    class LongFirst(LoadFileScheduling):
        def _assign_work_unit(self, node):
            chosen = next((file for file in self.workqueue if file.startswith(LONG)),
                          next(iter(self.workqueue)))
            self.workqueue.move_to_end(chosen, last=False)
            super()._assign_work_unit(node)

    return LongFirst(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_flushing():
    """Files that this process writes are not flushed to the disk: tests wait long for thousands.

    Whether commands flush in the right order, strace sees (tests/runtime/test_power_cut.py).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def command(script, *arguments):
    """The arguments that start one of our scripts, named below the root, or another one."""
    return [sys.executable, str(ROOT / script)] + [str(argument) for argument in arguments]


def run_script(script, *arguments, cwd, env=None, fresh=False, **options):
    """Runs a script to its end; returns the finished process with text output.

    Args:
        script: its name below the root, or the path of another one.
        arguments: its arguments.
        cwd, env: folder and environment of the process.
        fresh: whether a new Python starts it, as a user's does; else it is forked from one that has
            imported everything, and draws no figures, which saves seconds (tests/forked.py).
        options: of subprocess.run; only a new Python takes them.
    """
    words = command(script, *arguments)
    if not fresh:
        assert not options
        return forked.run(words[1:], cwd, env)
    return subprocess.run(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          timeout=300, **options)


def assert_refused(process, *words, code=2):
    """The process ended with `code` and one line on stderr that has all `words`."""
    assert process.returncode == code, process.stdout + process.stderr
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), process.stderr
    for word in words:
        assert str(word) in lines[0], lines[0]


def write_pickle(path, images, labels, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        pickle.dump((images, labels), stream, protocol=protocol)


def tiny_faces(people=6, train=5, test=2, seed=0):
    """Two splits of (rows, labels): one random pattern per person, with noise."""
    rng = np.random.RandomState(seed)
    patterns = rng.randint(0, 256, (people, 3072))
    splits = []
    for count in (train, test):
        labels = np.repeat(np.arange(people), count)
        rows = np.clip(patterns[labels] + rng.normal(0, 20, (len(labels), 3072)), 0, 255)
        splits.append((rows.astype(np.uint8), labels))
    return splits


@pytest.fixture
def faces_dir(tmp_path):
    """A folder with data/ as dataset_flag 1 reads it: 30 training images, 12 queries."""
    train, test = tiny_faces()
    write_pickle(tmp_path / "data/train_folder_facescrub/part1", *train)
    write_pickle(tmp_path / "data/test_folder_facescrub/part1", *test)
    return tmp_path


@contextlib.contextmanager
def no_figures():
    """Pages that this process writes have no figures, which take most of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.page.embedded", lambda *_: [])
        patch.setattr("reports.tables.embedded", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def without_figures():
    """See no_figures."""
    with no_figures():
        yield


def tree(folder):
    """All below a folder: dict of relative path to a file's content, a link's target, or None."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    content = stream.read()
            else:
                content = None
            found[os.path.relpath(path, folder)] = content
    return found


def clean_environment(**changes):
    """This process's environment with changes."""
    return dict(os.environ, **changes)
