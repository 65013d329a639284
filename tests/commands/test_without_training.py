"""Commands as a new user meets them: mistakes, closed outputs, odd names. No TensorFlow.

The runs here take random projections, in no time; what they show is the same for a network.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, assert_refused, clean_environment, command, run_script

LSH = ("--method", "lsh", "--num_bits", 8)


def finished(run_dir):
    """Whether a run's folder has its report and says that it is finished."""
    entries = json.loads((run_dir / "provenance.json").read_text())
    return (run_dir / "report.html").exists() and entries[-1]["ended_by"] == "finished"


# Wrong command lines, and what their one line of error has to name.
MISTAKES = [
    (["--num_bits", "0"], ["num_bits", "1 to 64"]),
    (["--num_bits", "65"], ["num_bits", "1 to 64"]),
    (["--num_bits", "many"], ["num_bits", "whole number"]),
    (["--codelength", "6"], ["--codelength", "--block_length"]),
    (["--dataset_flag", "7"], ["dataset_flag", "2 (ORL"]),
    (["--epochs"], ["--epochs"]),
    (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
    (["--seed", "9" * 5000], ["seed"]),
    (["--learning_rate", "-1e-3"], ["learning_rate", "at least 0"]),
    (["--epoch", "3"], ["--epochs"]),
    (["--run-dir", "x"], ["--run_dir"]),
    (["--resum"], ["--resume"]),
    (["myfaces"], ["--dataset_flag myfaces"]),
    (["--run_dir", ""], ["--run_dir"]),
    (["--run_dir", "x" * 300], ["x" * 50, "File name too long"]),
    (["--dataset_flag", "\u00b2"], ["dataset_flag"]),
    (["--dataset_flag", "no\nsuch"], ["dataset_flag"]),
]
SCRIPT = """
import json, sys
import main
from runtime.command_line import run_command
for sys.argv in json.load(sys.stdin):
    try:
        run_command(main.main)
    except SystemExit as end:
        print("code", end.code, file=sys.stderr)
assert "tensorflow" not in sys.modules
"""


def test_mistakes_are_refused_before_tensorflow_is_imported(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, stdout=subprocess.PIPE,
        input=json.dumps([["main.py", *arguments] for arguments, _ in MISTAKES]),
        stderr=subprocess.PIPE, universal_newlines=True,
        env=clean_environment(PYTHONPATH=str(ROOT)))
    assert process.returncode == 0
    lines = process.stderr.splitlines()
    assert len(lines) == 2 * len(MISTAKES), process.stderr
    for (_, words), line, code in zip(MISTAKES, lines[::2], lines[1::2]):
        assert line.startswith("error: ") and code == "code 2"
        assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def test_help_states_the_defaults_of_the_data_set(tmp_path):
    wide = clean_environment(COLUMNS="500")  # no lines are broken
    process = run_script("main.py", "--dataset_flag", 1, "--help", cwd=tmp_path, env=wide)
    assert process.returncode == 0 and "(default: 2000)" in process.stdout
    process = run_script("main.py", "--help", cwd=tmp_path, env=wide)
    assert "(default: 2000)" not in process.stdout and "(default: 28)" in process.stdout
    assert "(default: released)" in process.stdout and "(default: 0.0015)" not in process.stdout
    process = run_script("main.py", "--recipe", "tuned", "--help", cwd=tmp_path, env=wide)
    assert "(default: tuned)" in process.stdout and "(default: 0.0015)" in process.stdout


@pytest.mark.parametrize("shell", ["| head -1", "> /dev/full", ">&- 2>&-"])
def test_an_output_that_nobody_reads_loses_nothing(tmp_path, shell):
    """Files are written before anything is printed, and a reader that goes away ends nothing."""
    line = " ".join(command("main.py", *LSH, "--run_dir", "run"))
    process = subprocess.run(["sh", "-c", f"{line} {shell}"], cwd=tmp_path,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.returncode == 0 and process.stderr == b""
    assert finished(tmp_path / "run")
    if ">" in shell:  # evaluate.py imports TensorFlow: once is enough
        return
    (tmp_path / "run/report.html").unlink()
    line = " ".join(command("evaluate.py", "run"))
    process = subprocess.run(["sh", "-c", f"{line} {shell}"], cwd=tmp_path,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.returncode == 0 and process.stderr == b""
    assert finished(tmp_path / "run")


ODD_NAMES = ["Zo\u00eb", b"no\xffutf8", "two\nlines", "a" * 200 + "/b"]
ODD_SCRIPT = """
import sys
import main
from reports import page
from runtime.command_line import run_command
page.embedded = lambda *_: []  # figures take most of the time
for run_dir in sys.argv[1:]:
    sys.argv = ["main.py", "--method", "lsh", "--num_bits", "8", "--run_dir", run_dir]
    run_command(main.main)
"""


def test_odd_names_of_run_folders(tmp_path):
    """On a terminal that knows ASCII alone."""
    run_dirs = [os.path.join(os.fsencode(tmp_path), os.fsencode(name)) for name in ODD_NAMES]
    process = subprocess.run(
        [sys.executable.encode(), b"-c", ODD_SCRIPT.encode(), *run_dirs], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=clean_environment(PYTHONIOENCODING="ascii", PYTHONPATH=str(ROOT)))
    assert process.returncode == 0, process.stderr
    for run_dir in run_dirs:
        for file in (b"report.html", b"codes.npz"):
            assert os.path.exists(os.path.join(run_dir, file))
        with open(os.path.join(run_dir, b"provenance.json")) as stream:
            assert json.load(stream)[-1]["ended_by"] == "finished"


def test_from_any_working_directory(tmp_path):
    """Data is found beside the source, runs go below the working directory; both are printed."""
    process = run_script("main.py", *LSH, cwd=tmp_path)
    assert process.returncode == 0
    assert str(tmp_path / "runs/orl_lsh_8bits_seed0") in process.stdout
    refused = run_script("main.py", "--dataset_flag", "nobody", cwd=tmp_path)
    assert_refused(refused, ROOT / "data")


def test_without_the_environment(tmp_path):
    """A Python that lacks the packages: one line that says what to do."""
    shutil.copytree(ROOT / "runtime", tmp_path / "runtime",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "evaluate.py", "prepare.py", "describe.py", "reproduce.py"):
        shutil.copy(ROOT / name, tmp_path)
        process = subprocess.run([sys.executable, "-S", "-I", name], cwd=tmp_path,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 universal_newlines=True)
        if "No module named 'runtime'" in process.stderr:  # -I leaves the script's folder out
            process = subprocess.run([sys.executable, "-S", name], cwd=tmp_path,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     universal_newlines=True, env={})
        assert_refused(process, "numpy", ".venv/bin/activate", "make")
