"""Benchmarks run: all take a command line, and those that need no data give numbers."""

import importlib
import json
from pathlib import Path

import pytest

import benchmarks
from runtime.errors import UserError

FOLDER = Path(benchmarks.__file__).parent


@pytest.mark.parametrize("name", sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))
def test_a_benchmark_describes_itself_and_refuses_what_it_does_not_know(name, capsys):
    main = importlib.import_module(f"benchmarks.{name}").main
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code and f"python -m benchmarks.{name}" in capsys.readouterr().out
    with pytest.raises(UserError):
        main(["--nope"])


@pytest.mark.parametrize("arguments, field", [
    (["--hashes", "60"], "photographs"), (["--frames", "60"], "frames")])
def test_detection_counts_what_it_was_given(arguments, field, capsys):
    importlib.import_module("benchmarks.detection").main(arguments)
    assert json.loads(capsys.readouterr().out)[field] == 60
