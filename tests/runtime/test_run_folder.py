"""Run folders: old ones and new ones, replacing, provenance, history, checkpoints."""

import json
import os
import threading

import pytest

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
