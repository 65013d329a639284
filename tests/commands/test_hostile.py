"""Generated hostile cases over all commands: no traceback, no hang, nothing lost (hostile.py)."""

import subprocess
import sys
from importlib import import_module

import pytest
from conftest import ROOT
from hostile_cases import NAME_OPTIONS

from runtime.errors import UserError


def try_cases(*options, seconds):
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests/commands/hostile.py")] + [str(part) for part in options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        universal_newlines=True, timeout=seconds)
    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize("command, arguments", [
    option for option in NAME_OPTIONS if option[0] != "encoder"], ids=str)
def test_an_empty_text_is_refused_and_its_option_named(command, arguments):
    option = arguments[arguments.index("?") - 1]
    for empty in ("", " "):
        with pytest.raises(UserError) as refusal:
            import_module(command).main([argument.replace("?", empty) for argument in arguments])
        assert option in str(refusal.value) or not option.startswith("--")


def test_a_sample_without_tensorflow():
    try_cases("--small", "--count", 40, seconds=600)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--seed", 0, "--listed"], ["--seed", 1]], ids=str)
def test_all(options):
    try_cases("--count", 300, *options, seconds=7200)
