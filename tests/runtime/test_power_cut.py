"""What a power cut leaves: the order of a command's calls to the disk, as strace sees them.

A file system may write in any order what was not flushed. So a file has to be flushed before it is
renamed to the name that counts, the folder after that, and only then may go what it replaces.
"""

import re
import shutil
import subprocess

import pytest
from conftest import command, run_script

CALLS = "openat,write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,rmdir,fsync"
TINY = ("--dataset_flag", 1, "--data_dir", "data", "--num_bits", 8, "--batch_size", 10)
PATH = r'(?:[A-Z_]+(?:<[^>]*>)?, |\d+<(?P<{0}at>[^>]*)>, )?"(?P<{0}>[^"]*)"'
CALL = re.compile(
    r"\d+ +(?:(?P<flush>fsync)\(\d+<(?P<flushed>[^>]*)>"
    r"|(?:write|pwrite64|writev)\(\d+<(?P<written>[^>]*)>"
    r"|openat\((?:AT_FDCWD(?:<[^>]*>)?, )\"(?P<opened>[^\"]*)\", [A-Z_|]*O_CREAT"
    r"|rename(?:at2?)?\(" + PATH.format("source") + ", " + PATH.format("target") +
    r"|(?:unlink|unlinkat|rmdir)\(" + PATH.format("removed") + r")")


def check_order(lines, folder, counts, removed):
    """Looks through a log of strace.

    Args:
        lines: of the log.
        folder: the Path below which files count.
        counts: regular expression of the names that count once a file or folder is renamed to them.
        removed: regular expression of what may go only when nothing is left to be flushed.

    Returns:
        (names, removals): paths below the folder that were renamed to and removed, as lists.
    """
    dirty, names, removals = set(), [], []

    def below(path, at=None):
        path = path if path.startswith("/") else f"{at or folder}/{path}"
        path = path.replace(" (deleted)", "")
        return path[len(str(folder)) + 1:] if path.startswith(str(folder) + "/") else None

    for line in lines:
        match = CALL.match(line)
        if not match or "= -1 " in line:
            continue
        if match.group("flush"):
            dirty.discard((below(match.group("flushed") + "/") or "").rstrip("/"))
        elif match.group("written") or match.group("opened"):
            path = below(match.group("written") or match.group("opened"))
            if path and not path.endswith("/lock"):  # which is empty, and opened to be locked
                dirty.add(path)
        elif match.group("target"):
            source = below(match.group("source"), match.group("sourceat"))
            target = below(match.group("target"), match.group("targetat"))
            if target is None:
                continue
            if re.fullmatch(counts, target):
                names.append(target)
                unflushed = [path for path in dirty if (path + "/").startswith(source + "/")]
                assert unflushed == [], f"{unflushed} before {line}"
                dirty.add(target.rpartition("/")[0])
            elif source in dirty:
                dirty.add(target)
            dirty.discard(source)
        else:
            path = below(match.group("removed"), match.group("removedat"))
            if path and re.fullmatch(removed, path):
                removals.append(path)
                waiting = [name for name in dirty if re.fullmatch(counts, name) or any(
                    other.rpartition("/")[0] == name for other in names)]
                assert waiting == [], f"{waiting} before {line}"
            dirty.discard(path)
    return names, removals


@pytest.fixture
def traced(faces_dir):
    """A function that runs one of our commands under strace; returns the lines of the log."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")

    def run(script, *arguments):
        process = subprocess.run(
            ["strace", "-f", "-y", "-s", "0", "-e", "trace=" + CALLS, "-o", "log"]
            + command(script, *arguments), cwd=str(faces_dir), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=600)
        if "ptrace" in process.stderr or "Operation not permitted" in process.stderr:
            pytest.skip("this machine allows no strace")
        assert process.returncode == 0, process.stderr
        return (faces_dir / "log").read_text(errors="replace").splitlines()

    return run


@pytest.mark.slow
def test_what_counts_is_flushed_before_it_counts_and_before_the_old_goes(traced, faces_dir):
    assert run_script("main.py", *TINY, "--method", "itq", "--run_dir", "run",
                      cwd=faces_dir).returncode == 0
    log = traced("main.py", *TINY, "--epochs", 3, "--run_dir", "run", "--overwrite")
    counts = (r"run/(config|provenance|results|\.dcbh)\.json|run/(codes\.npz|report\.html)"
              r"|run/checkpoints/index\.json|run\.replaced")
    names, removals = check_order(log, faces_dir, counts,
                                  r"run/checkpoints/epoch_.*|run\.replaced/.*")
    assert names.count("run/checkpoints/index.json") == 3
    assert {"run.replaced", "run/results.json", "run/report.html"} <= set(names)
    assert any(path.startswith("run/checkpoints/epoch_000001") for path in removals)
    assert any(path.startswith("run.replaced/") for path in removals)

    flushed = [line for line in log if " fsync(" in line]
    for epoch in (1, 2, 3):  # TensorFlow's files of each epoch, before the index names them
        parts = [number for number, line in enumerate(log) if " fsync(" in line
                 and f"checkpoints/epoch_{epoch:06d}." in line]
        index = [number for number, line in enumerate(log)
                 if re.search(r'rename.*checkpoints/index\.json"', line)]
        assert len(parts) == 2 and max(parts) < index[epoch - 1], flushed

    for _ in range(2):  # the second replaces the first
        log = traced("evaluate.py", "run", "--export", "encoder")
        names, _ = check_order(log, faces_dir, r"encoder/(encoder\.json|saved_model)",
                               r"encoder/\.saved_model.*")
        assert names == ["encoder/saved_model", "encoder/encoder.json"]
