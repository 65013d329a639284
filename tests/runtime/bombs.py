"""Reads files that would take memory or time, in a process with a limit on both. No tests.

    python bombs.py MODULE FOLDER    reads the bombs of a test module; prints how many were refused
"""

import importlib
import os
import resource
import subprocess
import sys

from conftest import ROOT

from runtime.errors import UserError


def count_refused(module, folder):
    """How many bombs of a test module are refused, each in one line; fails if one is not.

    Args:
        module: it has bombs(), which yields (name, content), and read_bomb(path).
        folder: where they are written.
    """
    process = subprocess.run(
        [sys.executable, __file__, module, str(folder)], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300,
        env=dict(os.environ, OPENBLAS_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(
            [str(ROOT), str(ROOT / "tests")])))
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


def refuse(module, folder):
    """Reads every bomb within 900 MB of address space."""
    resource.setrlimit(resource.RLIMIT_CPU, (120,) * 2)  # only so that a failure ends
    refused = 0
    for name, content in module.bombs():
        path = os.path.join(folder, "bomb")
        with open(path, "wb") as stream:
            stream.write(content)
        del content
        resource.setrlimit(resource.RLIMIT_AS, (900 << 20,) * 2)
        try:
            module.read_bomb(path)
        except UserError as error:
            if "not fit" in str(error) or not str(error).isprintable():
                raise
            refused += 1
        else:
            raise AssertionError(f"{name} was read")
    print(refused)


if __name__ == "__main__":
    refuse(importlib.import_module(sys.argv[1]), sys.argv[2])
