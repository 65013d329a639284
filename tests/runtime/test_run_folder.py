"""Run folders: old ones and new ones, replacing, provenance, history, checkpoints."""

import json
import os
import shutil
import signal
import threading

import pytest
from conftest import tree

from runtime import provenance
from runtime.errors import UserError
from runtime.output_folder import MARKER, OutputFolder
from runtime.run_folder import RunFolder

ROW = {"epoch": 1, "total": 2.5, "hash_classification": 2.5, "accuracy": 0.25,
       "images_per_second": 80.0, "seconds": 1.5}
STATE = {"epoch": 1, "step": 0, "sums": {}, "best_epoch": 1, "best_loss": 2.5,
         "train_mean": 100.0, "train_std": 50.0}


def save(folder, name, best=True, **state):
    """Saves a made-up checkpoint of two files."""
    def write(prefix):
        for part in (".index", ".data-00000-of-00001"):
            with open(prefix + part, "w") as stream:
                stream.write(name)
    folder.save_checkpoint(name, write, dict(STATE, **state), best)


def make_run(path, settings=None, **create):
    """A whole, unlocked run of one epoch."""
    folder = RunFolder.create(path, settings or {"seed": 7}, **create)
    folder.begin("1.14.0", "CPU", "digest")
    folder.append_history(ROW)
    save(folder, "epoch_000001")
    folder.write_json("results.json", {"mAP": 0.5})
    folder.write_text("figures/map.png", "a picture")
    folder.write_text("tensorboard/events.out.tfevents.1", "events")
    folder.write_text("report.html", "a page")
    folder.finish("finished")
    folder.unlock()
    return folder


@pytest.fixture
def old_run(tmp_path):
    """A run as the version before the marker has left it."""
    path = make_run(tmp_path / "old").path
    (path / MARKER).unlink()
    entry = json.loads((path / "provenance.json").read_text())[0]
    for name in ("data", "uncommitted_diff", "platform"):
        entry.pop(name)
    entry["machine"] = "Linux-5.10-x86_64"
    (path / "provenance.json").write_text(json.dumps([entry], indent=1) + "\n")
    (path / "uncommitted.diff").write_text("- a line\n")
    (path / "history.csv").write_text(
        "epoch,total,hash_classification,accuracy,images_per_second,seconds\n"
        "1,2.5,2.5,0.25,80.0,1.5\n")
    (path / "codes.npz").write_bytes(b"")
    return path


def test_a_run_of_an_older_version_goes_on(old_run, monkeypatch):
    monkeypatch.setattr(provenance, "git_state", lambda: ("abc", "- another line\n"))
    folder = RunFolder.open(old_run)
    assert folder.holds_run() and folder.kind() is None
    assert folder.read_settings() == {"seed": 7}
    folder.lock()
    folder.check_data("digest of now")  # none is known
    folder.begin("2.21.0", "CPU", "digest of now")
    assert folder.has_checkpoint()
    assert folder.checkpoint("last") == (str(old_run / "checkpoints/epoch_000001"), STATE)
    folder.trim_history(1)
    folder.append_history(dict(ROW, epoch=2, mAP=""))
    save(folder, "epoch_000002", best=False, epoch=2)
    folder.set_history_value(2, "mAP", 0.75)
    folder.finish("finished")
    assert [row["mAP"] for row in folder.read_history()] == [None, 0.75]
    assert [entry["ended_by"] for entry in folder.provenance()] == ["finished", "finished"]
    assert (old_run / "uncommitted.diff").read_text() == "- a line\n"
    assert folder.provenance()[1]["uncommitted_diff"] == "uncommitted_2.diff"
    assert (old_run / "uncommitted_2.diff").read_text() == "- another line\n"
    assert RunFolder.open_newest(old_run).path == old_run
    assert not (old_run / MARKER).exists()


def test_a_run_of_an_older_version_is_never_replaced(old_run):
    before = {name: (old_run / name).stat().st_mtime_ns for name in os.listdir(str(old_run))}
    for overwrite in (False, True):
        with pytest.raises(UserError, match="move it away"):
            RunFolder.create(old_run, {}, overwrite)
    for kind in ("evaluation", "grid", "comparison"):
        with pytest.raises(UserError):
            OutputFolder.create(old_run, kind)
    assert before == {name: (old_run / name).stat().st_mtime_ns
                      for name in os.listdir(str(old_run))}


def test_checkpoints_are_saved_from_another_thread(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    errors = []

    def saves():
        try:
            for number in range(2, 30):
                save(folder, "epoch_%06d" % number, best=number % 7 == 0, epoch=number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=saves)]
    threads[0].start()
    for number in range(1, 30):
        folder.append_history(dict(ROW, epoch=number))
        folder.write_json("results.json", {"mAP": number})
        folder.set_history_value(number, "mAP", 0.5)
    threads[0].join()
    assert errors == []
    assert len(folder.read_history()) == 29
    assert sorted(os.listdir(str(tmp_path / "run/checkpoints"))) == [
        "epoch_000028.data-00000-of-00001", "epoch_000028.index",
        "epoch_000029.data-00000-of-00001", "epoch_000029.index", "index.json"]
    assert [folder.checkpoint(which)[1]["epoch"] for which in ("best", "last")] == [28, 29]


# Making, replacing


@pytest.mark.parametrize("damage", [
    lambda path: path,
    lambda path: (path / "config.json").unlink(),  # lost, but the rest is worth something
    lambda path: (path / "config.json").write_text("[" * 100000),
    lambda path: (path / "provenance.json").write_text("5"),
], ids=["whole", "no settings", "damaged settings", "damaged provenance"])
def test_a_run_is_replaced_only_when_asked_to(tmp_path, damage):
    path = make_run(tmp_path / "run").path
    damage(path)
    before = tree(path)
    with pytest.raises(UserError, match="--overwrite"):
        RunFolder.create(path, {"seed": 8})
    assert tree(path) == before
    folder = RunFolder.create(path, {"seed": 8}, overwrite=True)
    assert folder.path == path and folder.read_settings() == {"seed": 8}
    assert set(tree(path)) == {MARKER, "lock", "config.json", "checkpoints"}
    assert os.listdir(str(tmp_path)) == ["run"]
    with pytest.raises(UserError, match="in use"):
        RunFolder.create(path, {}, overwrite=True)


def test_a_start_that_was_killed_before_its_settings_is_taken_over(tmp_path):
    for number, names in enumerate((
            [], ["lock"], ["lock", MARKER], ["lock", MARKER, "checkpoints/"],
            [MARKER, ".config.json.999999999.0.tmp"])):
        path = tmp_path / str(number)
        path.mkdir()
        for name in names:
            if name.endswith("/"):
                (path / name).mkdir()
            else:
                (path / name).write_text('{"kind": "run", "version": 1}' * (name == MARKER))
        folder = RunFolder.create(path, {"seed": 1})
        assert folder.holds_run() and ".config" not in str(os.listdir(str(path)))


@pytest.mark.parametrize("obstacle", [
    "thesis.tex", "figures/fig1.tex", "checkpoints/notes.md", "figures/more/", "history.csv.bak",
    "lock -> /etc/hostname", "checkpoints -> elsewhere", "tensorboard -> nowhere",
    "report.html -> nowhere", "figures/map.png -> elsewhere/x", "codes.npz|", "results.json/"])
def test_what_is_not_surely_ours_stops_a_replacement_before_it_begins(tmp_path, obstacle):
    path = make_run(tmp_path / "run").path
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_text("precious")
    name, _, target = obstacle.partition(" -> ")
    name = name.rstrip("/|")
    if (path / name).is_dir():
        shutil.rmtree(str(path / name))
    elif (path / name).exists():
        (path / name).unlink()
    if target:
        os.symlink(os.path.join(str(tmp_path), target), str(path / name))
    elif obstacle.endswith("/"):
        (path / name).mkdir()
    elif obstacle.endswith("|"):
        os.mkfifo(str(path / name))
    else:
        (path / name).write_text("the user's")
    before = tree(tmp_path)
    with pytest.raises(UserError) as refusal:
        RunFolder.create(path, {"seed": 8}, overwrite=True)
    assert name in str(refusal.value)
    assert tree(tmp_path) == before


def test_a_link_to_a_run_stays_a_link(tmp_path):
    make_run(tmp_path / "disk" / "run")
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs" / "link"
    link.symlink_to(tmp_path / "disk" / "run")
    folder = RunFolder.create(link, {"seed": 8}, overwrite=True)
    assert folder.path == link and link.is_symlink()
    assert RunFolder.open(tmp_path / "disk/run").read_settings() == {"seed": 8}
    assert os.listdir(str(tmp_path / "disk")) == ["run"]


def test_the_working_directory_is_not_pulled_away(tmp_path, monkeypatch):
    path = make_run(tmp_path / "run").path
    for folder in (path, path / "figures"):
        monkeypatch.chdir(folder)
        with pytest.raises(UserError, match="working directory"):
            RunFolder.create(os.path.relpath(str(path)), {}, overwrite=True)
    assert RunFolder.open(path).read_settings() == {"seed": 7}


@pytest.mark.parametrize("failing", range(1, 8))
def test_an_error_on_the_way_brings_the_old_run_back(tmp_path, monkeypatch, failing):
    """The disk fails at each renaming of the replacement in turn."""
    path = make_run(tmp_path / "run").path
    before, calls = tree(path), []
    rename, replace = os.rename, os.replace

    def failing_call(action):
        def call(*arguments):
            calls.append(arguments)
            if len(calls) == failing:
                raise OSError(5, "Input/output error")
            return action(*arguments)
        return call

    monkeypatch.setattr(os, "rename", failing_call(rename))
    monkeypatch.setattr(os, "replace", failing_call(replace))
    try:
        RunFolder.create(path, {"seed": 8}, overwrite=True).unlock()
    except UserError:
        assert tree(path) == before
        assert os.listdir(str(tmp_path)) == ["run"]
    else:
        assert failing > 4  # the new run is there; the old one may stay as a folder of its own
        monkeypatch.undo()
        folder = RunFolder.open(path)
        assert folder.read_settings() == {"seed": 8}
        folder.lock()
        assert os.listdir(str(tmp_path)) == ["run"]


def test_killed_at_every_point_of_a_replacement(tmp_path):
    """One of the two runs is always there, whole, at the latest when it is opened."""
    whole = tree(make_run(tmp_path / "whole").path)
    seen, points = [], 0
    for last in range(100):
        place = tmp_path / str(last)
        path = place / "run"
        shutil.copytree(str(tmp_path / "whole"), str(path))
        child = os.fork()
        if child == 0:  # forked, for a start of Python at each point would take a second
            _replace_and_die(path, last)
        _, status = os.waitpid(child, 0)
        folder = RunFolder.open(path)  # which brings the old run back where that is needed
        found = folder.read_settings()
        if found == {"seed": 7}:
            assert tree(path) == whole
        seen.append(found["seed"])
        folder.lock()
        folder.unlock()
        assert RunFolder.create(path, {"seed": 9}, overwrite=True).read_settings() == {"seed": 9}
        assert os.listdir(str(place)) == ["run"]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        points += 1
    assert points > 20 and seen == sorted(seen) and set(seen) == {7, 8}


def _replace_and_die(path, last):
    """In a child process: replaces a run, and is killed before the call after the last one."""
    calls = []

    def counted(action):
        def call(*arguments, **options):
            calls.append(action)
            if len(calls) > last:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*arguments, **options)
        return call

    try:
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "open"):
            setattr(os, name, counted(getattr(os, name)))
        RunFolder.create(path, {"seed": 8}, overwrite=True)
    except BaseException:
        os._exit(1)
    os._exit(0)
