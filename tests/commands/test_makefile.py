"""Which Python and which environment `make` takes, with scripts that stand in for Pythons."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

# Says yes to every question, links itself into the environments it makes, and writes down what
# else it is asked to do.
STAND_IN = """#!/bin/sh
case "$*" in
  -c*) readlink -f "$0" ;;
  --version) echo "Python of tests" ;;
  "-m venv"*) mkdir -p "$3/bin" && ln -s "$(readlink -f "$0")" "$3/bin/python" ;;
  *) echo "$0 $*" >> asked; [ -z "$FAILS" ] ;;
esac
"""
TOOLS = ("make", "sh", "ls", "sort", "rm", "mkdir", "ln", "touch", "readlink", "echo")


def pyenv(version):
    """The Python of a version below the folder that stands for a machine."""
    return f"pyenv/versions/{version}/bin/python"


@pytest.fixture
def machine(tmp_path):
    """A folder with the Makefile, where PATH, home and pyenv have no Python yet."""
    for name in ("Makefile", "requirements.txt", "requirements-tf2.txt", "requirements-dev.txt"):
        shutil.copy(str(ROOT / name), str(tmp_path))
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def add_python(machine, path):
    (machine / path).parent.mkdir(parents=True, exist_ok=True)
    (machine / path).write_text(STAND_IN)
    (machine / path).chmod(0o755)


def make(machine, *arguments, **variables):
    environment = dict(PATH=str(machine / "bin"), HOME=str(machine),
                       PYENV_ROOT=str(machine / "pyenv"), **variables)
    return subprocess.run(["make"] + list(arguments), cwd=str(machine), env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)


def last_asked(machine):
    return (machine / "asked").read_text().splitlines()[-1]


@pytest.mark.parametrize("pythons, arguments, expected", [
    (["bin/python3.7", "bin/python3.11"], [], ".venv/bin/python"),
    (["bin/python3.7", "bin/python3.11"], ["TF=1"], ".venv/bin/python"),
    (["bin/python3.7", "bin/python3.11"], ["TF=2"], ".venv-tf2/bin/python"),
    (["bin/python3.10"], [], ".venv-tf2/bin/python"),
    ([pyenv("3.7.9"), pyenv("3.7.10")], [], ".venv/bin/python"),
    ([pyenv("3.12.0")], [], ".venv-tf2/bin/python"),
], ids=str)
def test_environment_that_runs(machine, pythons, arguments, expected):
    for path in pythons:
        add_python(machine, path)
    process = make(machine, "run", "ARGS=--epochs 2", *arguments)
    assert process.returncode == 0, process.stderr
    assert last_asked(machine) == expected + " main.py --epochs 2"
    chosen = not arguments and expected.startswith(".venv-tf2")
    assert ("no Python 3.7 was found" in process.stdout) == chosen
    if pyenv("3.7.10") in pythons:
        assert os.path.realpath(str(machine / expected)) == str(machine / pythons[1])
    again = make(machine, "run", *arguments)
    assert again.returncode == 0 and "creating" not in again.stdout


@pytest.mark.parametrize("pythons, expected", [
    (["3.7", "3.12"], "1 2"), (["3.7"], "1"), (["3.11"], "2"), ([], ""), (["3.9"], "")], ids=str)
def test_environments_that_this_machine_can_have(machine, pythons, expected):
    for version in pythons:
        add_python(machine, "bin/python" + version)
    assert make(machine, "-s", "environments").stdout.strip() == expected


@pytest.mark.parametrize("arguments, words", [
    ([], ["TF=2", "Python 3.7", "3.10 to 3.13"]), (["TF=1"], ["TF=1", "install 3.7"])], ids=str)
def test_without_a_python(machine, arguments, words):
    process = make(machine, "run", *arguments)
    assert process.returncode != 0
    assert len(process.stderr.splitlines()) == 3  # two of ours, one of make
    assert all(word in process.stderr for word in words)


def test_make_alone_lists_what_it_can_do(machine):
    process = make(machine)
    assert process.returncode == 0
    for target in ("run", "prepare", "evaluate", "search", "test", "clean"):
        assert "make " + target in process.stdout
    assert not (machine / ".venv").exists()


def test_a_python_that_is_too_new_is_named(machine):
    (machine / "bin/python3.14").write_text(
        "#!/bin/sh\n"
        "case \"$2\" in *version_info*3,*14*) echo '; 3.14 is too new' ;; *) exit 1 ;; esac")
    (machine / "bin/python3.14").chmod(0o755)
    process = make(machine, "run")
    assert process.returncode != 0 and "3.14 is too new" in process.stderr


def test_unknown_environment(machine):
    process = make(machine, "run", "TF=3")
    assert process.returncode != 0
    assert "TF=3" in process.stderr and len(process.stderr.splitlines()) == 1


def test_half_made_and_outdated_environments_are_made_again(machine):
    add_python(machine, "bin/python3.11")
    assert make(machine, "run", FAILS="1").returncode != 0
    assert "-m pip" in last_asked(machine)
    process = make(machine, "run")
    assert process.returncode == 0 and "creating" in process.stdout
    os.utime(str(machine / ".venv-tf2/installed"), (0, 0))  # older than its requirements
    process = make(machine, "run")
    assert process.returncode == 0 and "creating" in process.stdout, process.stderr
    (machine / "bin/python3.11").rename(machine / "bin/python3.10")  # the old one is gone
    process = make(machine, "test", "ARGS=-k golden")
    assert process.returncode == 0 and "creating" in process.stdout, process.stderr
    assert last_asked(machine) == ".venv-tf2/bin/python -m pytest -n auto --dist loadfile -k golden"
    assert make(machine, "clean").returncode == 0
    assert not (machine / ".venv-tf2").exists()
