"""Run folders: those of older versions, provenance, history, checkpoints."""

import io
import json
import os
import platform
import shutil
import threading

import pytest
from conftest import tree
from runs import ROW, STATE, make_run, save

from runtime import provenance
from runtime.errors import Failed, UserError
from runtime.output_folder import MARKER, OutputFolder
from runtime.run_folder import RunFolder


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
    folder.history.trim(1)
    folder.history.append(dict(ROW, epoch=2, mAP=""))
    save(folder, "epoch_000002", best=False, epoch=2)
    folder.history.set_value(2, "mAP", 0.75)
    folder.finish("finished")
    assert [row["mAP"] for row in folder.history.read()] == [None, 0.75]
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
                save(folder, f"epoch_{number:06d}", best=number % 7 == 0, epoch=number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=saves)]
    threads[0].start()
    for number in range(1, 30):
        folder.history.append(dict(ROW, epoch=number))
        folder.write_json("results.json", {"mAP": number})
        folder.history.set_value(number, "mAP", 0.5)
    threads[0].join()
    assert errors == []
    assert len(folder.history.read()) == 29
    assert sorted(os.listdir(str(tmp_path / "run/checkpoints"))) == [
        "epoch_000028.data-00000-of-00001", "epoch_000028.index",
        "epoch_000029.data-00000-of-00001", "epoch_000029.index", "index.json"]
    assert [folder.checkpoint(which)[1]["epoch"] for which in ("best", "last")] == [28, 29]


# Provenance


def test_each_start_keeps_its_uncommitted_difference(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run", {})
    differences = ["first", "", "third \udcff", "fourth"]
    (folder.path / "uncommitted_4.diff").write_text("not to be lost")
    for difference in differences:
        monkeypatch.setattr(provenance, "git_state", lambda: ("abc", difference))  # noqa: B023
        RunFolder(folder.path).begin(None, "CPU", "digest")
    entries = folder.provenance()
    assert [entry["uncommitted_diff"] for entry in entries] == [
        "uncommitted.diff", None, "uncommitted_3.diff", "uncommitted_5.diff"]
    assert [entry["git_dirty"] for entry in entries] == [True, False, True, True]
    assert (folder.path / "uncommitted_3.diff").read_text() == "third \\udcff"
    assert (folder.path / "uncommitted_4.diff").read_text() == "not to be lost"
    assert json.loads((folder.path / "provenance.json").read_text()) == entries


def test_provenance_says_what_ran_where(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    folder.begin("2.21.0", "GPU 0", "digest")
    entry = folder.provenance()[0]
    assert set(entry) == set(provenance.FIELDS)
    assert (entry["tensorflow"], entry["device"], entry["data"]) == ("2.21.0", "GPU 0", "digest")
    assert f"{os.cpu_count()} cores" in entry["machine"] and "GB" in entry["machine"]
    assert entry["machine"] != entry["platform"]
    assert entry["start"].endswith("+00:00") and entry["end"] is entry["ended_by"] is None
    folder.check_data("digest")
    with pytest.raises(UserError):
        folder.check_data("another")


def test_the_processor_s_name_is_found_or_made_do_without(monkeypatch):
    assert provenance.processor()
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO(
        "processor : 0\nmodel name\t: An  Odd CPU: v2 @ 3 GHz\n"))
    assert provenance.processor() == "An Odd CPU: v2 @ 3 GHz"
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO("Features: neon\n"))
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("PATH", "")
    assert provenance.processor() == "aarch64"


class Stop(Exception):
    signal_number = 15


@pytest.mark.parametrize("error, ended_by", [
    (None, "finished"), (KeyboardInterrupt(), "stopped by SIGINT"),
    (Stop("stopped by SIGTERM"), "stopped by SIGTERM"), (UserError("no\nluck"), "error: no luck"),
    (MemoryError(), "error: MemoryError: "), (SystemExit(3), "3")], ids=repr)
def test_the_end_of_a_run_is_noted_whatever_it_is(tmp_path, error, ended_by):
    folder = RunFolder.create(tmp_path / "run", {})
    folder.begin(None, "CPU", "digest")
    if error is None:
        with provenance.noting_end(folder):
            pass
    else:
        with pytest.raises(type(error)), provenance.noting_end(folder):
            raise error
    entry = folder.provenance()[0]
    assert entry["ended_by"] == ended_by and entry["end"] >= entry["start"]


def test_finish_writes_what_another_process_has_damaged(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    for start, damaged in enumerate((None, "[]", "{", ""), 1):
        path = folder.path / "provenance.json"
        folder.begin(None, "CPU", "digest")
        path.unlink()
        if damaged is not None:
            path.write_text(damaged)
        folder.finish("finished")
        assert [entry["ended_by"] for entry in folder.provenance()] == ["finished"] * start
    other = RunFolder.open(folder.path)  # which has begun nothing
    other.finish("again")
    assert other.provenance()[-1]["ended_by"] == "finished"
    path.unlink()
    RunFolder.open(folder.path).finish("finished")  # nothing was begun: nothing ends
    assert not path.exists()
    shutil.rmtree(str(folder.path))
    with pytest.raises(UserError):
        folder.finish("finished")
    assert not folder.path.exists()


# History and checkpoints


def test_history_of_epochs_with_and_without_an_evaluation(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    path = folder.path / "history.csv"
    assert folder.history.read() == []
    folder.history.trim(3)
    folder.history.set_value(1, "mAP", 0.5)
    assert not path.exists()
    folder.history.append(ROW)  # of a version without the column
    folder.history.append(dict(ROW, epoch=2, mAP=None))
    folder.history.append(dict(ROW, epoch=3, mAP=""))
    folder.history.set_value(2, "mAP", 1 / 3)
    folder.history.set_value(9, "mAP", 0.5)
    assert path.read_text() == (
        "epoch,total,hash_classification,accuracy,images_per_second,seconds,mAP\n"
        "1,2.5,2.5,0.25,80.0,1.5,\n2,2.5,2.5,0.25,80.0,1.5,0.3333333333333333\n"
        "3,2.5,2.5,0.25,80.0,1.5,\n")
    assert [row["mAP"] for row in folder.history.read()] == [None, 1 / 3, None]
    folder.history.append({name: 4 if name == "epoch" else ROW[name] for name in ROW
                           if name != "hash_classification"})
    assert path.read_text().endswith("\n4,2.5,,0.25,80.0,1.5,\n")
    folder.history.trim(2)
    assert [row["epoch"] for row in folder.history.read()] == [1, 2]
    for damaged in ("5,2.5,2", "2,2.5,2.5,0.25,80.0,1.5,\n", "3,2.5,2.5,0.25,80.0,1.5\n",
                    "3,2.5,2.5,0.25,80.0,1.5,,\n", "3,2.5,2.5,0.25,,1.5,\n", "3,x,2,0,8,1,\n"):
        whole = path.read_text()
        path.write_text(whole + damaged)
        for use in (folder.history.read, lambda: folder.history.trim(1),
                    lambda: folder.history.append(ROW)):
            with pytest.raises(UserError, match="history.csv.*line 4"):
                use()
        path.write_text(whole)
    folder.history.trim(0)
    assert folder.history.read() == []
    folder.history.append(ROW)
    assert folder.history.read() == [ROW]


def test_a_checkpoint_that_cannot_be_saved_leaves_the_one_before(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    assert not folder.has_checkpoint()
    with pytest.raises(UserError, match="--resume"):
        folder.checkpoint("best")
    save(folder, "epoch_000001")
    before = tree(folder.path / "checkpoints")

    def fail(prefix):
        for part in (".index", ".data-00000-of-00001", ".data-00000-of-00001.tempstate123"):
            with open(prefix + part, "w") as stream:
                stream.write("half")
        os.mkdir(prefix + "_temp_0123456789abcdef")
        raise OSError(28, "No space left on device")

    with pytest.raises(Failed, match="epoch_000002"):
        folder.save_checkpoint("epoch_000002", fail, STATE, True)
    assert tree(folder.path / "checkpoints") == before
    (folder.path / "checkpoints/notes.md").write_text("the user's")
    save(folder, "epoch_000002", best=False)
    save(folder, "epoch_000003", best=False)
    assert sorted(os.listdir(str(folder.path / "checkpoints"))) == sorted(
        ["index.json", "notes.md"] + [name + part for name in ("epoch_000001", "epoch_000003")
                                      for part in (".index", ".data-00000-of-00001")])


def test_a_lost_index_does_not_cost_the_checkpoints(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    for epoch in (1, 2, 3):
        folder.history.append(dict(ROW, epoch=epoch))
    save(folder, "epoch_000003")
    (folder.path / "checkpoints/index.json").unlink()
    with pytest.raises(UserError, match="index.json"):
        folder.has_checkpoint()
    folder.history.trim(2)  # killed while it wrote its first checkpoint beside the second epoch
    assert not folder.has_checkpoint()
    (folder.path / "checkpoints/epoch_000002.index").touch()
    with pytest.raises(UserError, match="index.json"):
        folder.has_checkpoint()


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("damage", [
    os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
    ids=["pipe", "folder", "zero"])
def test_tensorflow_is_given_no_pipe_to_wait_for(tmp_path, part, damage):
    folder = make_run(tmp_path / "run")
    path = folder.path / "checkpoints" / ("epoch_000001" + part)
    path.unlink()
    damage(str(path))
    for which in ("best", "last"):
        with pytest.raises(UserError) as refusal:
            folder.checkpoint(which)
        assert str(path) in str(refusal.value)
