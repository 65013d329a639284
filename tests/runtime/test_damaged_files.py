"""Every file that a run folder holds, damaged in every way that comes to mind: one clear line."""

import json
import os
import shutil
import stat
import sys

import damage
import pytest
from conftest import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import provenance
from runtime.errors import UserError, one_line
from runtime.output_folder import OutputFolder
from runtime.run_folder import RunFolder

STATE = {"epoch": 2, "step": 1, "sums": {"total": 2.5}, "best_epoch": 1, "best_loss": 2.5,
         "seconds": 1.5, "train_mean": 100.0, "train_std": 50.0}


def make_run(path):
    """A whole run of two epochs and a step, with everything that our readers read."""
    def write(prefix):
        with open(prefix + ".index", "w") as stream:
            stream.write("x")
    folder = RunFolder.create(path, {"seed": 7, "learning_rate": 0.001, "method": "dcbh"})
    folder.begin("1.14.0", "CPU", "digest")
    for epoch in (1, 2, 3):
        folder.history.append({"epoch": epoch, "total": 2.5, "center": 0.5, "accuracy": 0.25,
                               "images_per_second": 80.5, "seconds": 1.5, "mAP": ""})
    for name, best in (("epoch_000001", True), ("epoch_000002_step_000001", False)):
        folder.save_checkpoint(name, write, STATE, best)
    folder.write_json("results.json", {"mAP": 0.5, "dataset": "orl", "epoch": 1})
    folder.finish("stopped by SIGINT")
    folder.unlock()
    return path


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    """Else each of a thousand starts would ask git three times; and provenance has argv in it."""
    monkeypatch.setattr(provenance, "git_state", lambda: (None, ""))
    monkeypatch.setattr(sys, "argv", ["main.py"])


@pytest.mark.parametrize("number", ["1", None, True, 1.0, -1, 4, 10 ** 30, [], {}])
def test_a_restart_is_of_an_epoch_that_there_was(tmp_path, number):
    """The state is of two finished epochs and a step of the third."""
    path = make_run(tmp_path / "run")
    index = json.loads((path / "checkpoints/index.json").read_text())
    for good in (0, 3):
        index["last"]["state"]["restart_epoch"] = good
        (path / "checkpoints/index.json").write_text(json.dumps(index))
        assert RunFolder(path).checkpoint("last")[1]["restart_epoch"] == good
    index["last"]["state"]["restart_epoch"] = number
    (path / "checkpoints/index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="index.json"):
        RunFolder(path).has_checkpoint()


READERS = [
    RunFolder.open, lambda path: RunFolder.open_newest(path),
    lambda path: RunFolder(path).holds_run(), lambda path: RunFolder(path).read_settings(),
    lambda path: [entry["command_line"] for entry in RunFolder(path).provenance()],
    lambda path: RunFolder(path).check_data("digest"),
    lambda path: [row["epoch"] + row["seconds"] for row in RunFolder(path).history.read()],
    lambda path: RunFolder(path).has_checkpoint(),
    lambda path: RunFolder(path).checkpoint("best")[1]["best_loss"] + 1,
    lambda path: RunFolder(path).checkpoint("last")[1]["sums"].items(),
    lambda path: RunFolder(path).read_results()["mAP"] + 1,
    lambda path: OutputFolder(path).kind()]


def resume(path):
    """What a resumed run does with its folder."""
    folder = RunFolder.open(path)
    folder.lock()
    folder.begin("1.14.0", "CPU", "digest")
    folder.has_checkpoint()
    folder.history.trim(2)
    folder.history.append({"epoch": 3, "total": 2, "accuracy": 1, "images_per_second": 1,
                           "seconds": 1, "mAP": None})
    folder.history.set_value(3, "mAP", 0.5)
    folder.save_checkpoint("epoch_000003", lambda prefix: open(prefix + ".index", "w").close(),
                           STATE, True)
    folder.finish("finished")


def refuses(action, path, file):
    """Whether an action ends in a UserError of one line that names the file; no other may come."""
    try:
        action(path)
    except UserError as error:
        text = one_line(error, 2000)
        assert os.path.basename(file) in text or str(path) in text, text
        return True
    return False


def states(run):
    """What a write would change: (name, size, time) of all in a folder and its checkpoints."""
    return [(entry.name, entry.stat(follow_symlinks=False).st_size,
             entry.stat(follow_symlinks=False).st_mtime_ns)
            for folder in (run, run / "checkpoints") for entry in os.scandir(str(folder))]


def try_damage(run, change, copy):
    """Tries all readers on a damaged run, and a resumed run on a copy of it.

    Args:
        run: Path of a whole run; it is so again afterwards.
        change: a damage.Damage.
        copy: Path for a copy; None to leave that out where a reader has refused.

    Returns:
        Whether any of them refused it.
    """
    content = (run / change.file).read_bytes()
    change.apply(run)
    before = states(run)
    refused = sum(refuses(reader, run, change.file) for reader in READERS) > 0  # tries them all
    assert states(run) == before
    if copy is not None or not refused:
        copy = copy or run.parent / "copy"
        shutil.copytree(str(run), str(copy), symlinks=True, copy_function=copy_entry)
        refused |= resume_loses_nothing(copy, change.file)
        shutil.rmtree(str(copy))
    change.undo(run, content)
    return refused


def resume_loses_nothing(run, file):
    """Whether a resumed run refuses to go on; then all that was there is there as it was."""
    before = tree(run)
    if not refuses(resume, run, file):
        return False
    after = tree(run)
    for name in ("config.json", "results.json", "checkpoints/epoch_000001.index",
                 "checkpoints/epoch_000002_step_000001.index", file):
        assert after.get(name) == before.get(name)
    return True


def copy_entry(source, target):
    """copy2, but for a pipe."""
    if stat.S_ISFIFO(os.lstat(source).st_mode):
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


def try_all(folder):
    """[(Damage, whether it was refused)] of all generated damages."""
    run = make_run(folder / "run")
    return [(change, try_damage(run, change, folder / "copy" if number % 5 == 0 else None))
            for number, change in enumerate(damage.damages(run))]


def test_generated_damages(tmp_path):
    outcomes = try_all(tmp_path)
    assert {change.file for change, _ in outcomes} == set(damage.FILES)
    assert all(refused for change, refused in outcomes if change.kind in (
        "binary", "other encoding", "number out of range", "deep nesting"))
    # An empty history is one without epochs; a missing provenance, one of no start. A half row
    # is what a killed process leaves. Which settings there must be is for Config to say.
    harmless = {(change.kind, change.file) for change, refused in outcomes if not refused}
    assert harmless <= {(kind, file) for kinds, file in (
        (("truncated", "emptied", "not a file", "cell of other type", "column missing"),
         "history.csv"),
        (("not a file", "field missing", "field of other type"), "provenance.json"),
        (("field missing", "field of other type"), "checkpoints/index.json"),
        (("field missing", "field of other type"), "results.json"),
        (("other JSON type", "field missing", "field of other type"), "config.json"),
        (("not a file", "field of other type"), ".dcbh.json")) for kind in kinds}


@settings(max_examples=150, derandomize=True, deadline=None, database=None,
          suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_bytes(tmp_path, data):
    """hypothesis looks for bytes of which a reader makes anything but a value or a UserError."""
    run = tmp_path / "run"
    if not run.exists():
        make_run(run)
    file = data.draw(st.sampled_from(damage.FILES))
    content = (run / file).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 20))
    inserted = data.draw(st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b'"', b"{", b"[", b",", b"\n", b"1e400", b"null", b"\\ud800", b"\xff",
                         b"NaN", b"-", b"true", b":", b"\r", b"\0", b"0" * 400])))
    try_damage(run, damage.Damage(
        "mutated", file, content[:start] + inserted + content[start + length:]), None)
