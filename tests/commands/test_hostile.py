"""Generated hostile cases over all commands: no traceback, no hang, nothing lost (hostile.py)."""

import subprocess
import sys

import pytest
from conftest import ROOT


def try_cases(*options, seconds):
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests/commands/hostile.py")] + [str(part) for part in options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        universal_newlines=True, timeout=seconds)
    assert process.returncode == 0, process.stdout


def test_a_sample_without_tensorflow():
    try_cases("--small", "--count", 40, seconds=600)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--seed", 0, "--listed"], ["--seed", 1]], ids=str)
def test_all(options):
    try_cases("--count", 300, *options, seconds=7200)
