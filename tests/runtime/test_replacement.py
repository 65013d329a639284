"""Making and replacing runs: refusals, errors and kills on the way, several processes, rights."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import tree
from runs import ROW, STATE, die_after, in_child, make_run, race, save

from runtime import provenance
from runtime.errors import UserError
from runtime.output_folder import MARKER, OutputFolder
from runtime.run_folder import RunFolder


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
    before.pop(MARKER)
    assert before.items() <= tree(tmp_path / "run.replaced").items()
    with pytest.raises(UserError, match="in use"):
        RunFolder.create(path, {}, overwrite=True)
    folder.begin(None, "CPU", "digest")
    folder.finish("finished")
    assert os.listdir(str(tmp_path)) == ["run"]


def test_the_old_run_stays_until_the_new_one_is_finished(tmp_path, capsys):
    """Two replacements end early; every command that opens the run says where the old ones are."""
    path = make_run(tmp_path / "run").path
    asides = [tmp_path / "run.replaced", tmp_path / "run.replaced_2"]
    for seed, count in ((8, 1), (9, 2)):
        folder = RunFolder.create(path, {"seed": seed}, overwrite=True)
        folder.begin(None, "CPU", "digest")
        capsys.readouterr()
        folder.finish("stopped by SIGINT")
        assert [str(aside) in capsys.readouterr().err for aside in asides[:1]] == [True]
        folder.unlock()
        RunFolder.open(path)
        assert capsys.readouterr().err.count("run.replaced") == count
    assert [RunFolder.open(aside).read_settings()["seed"] for aside in asides] == [7, 8]
    folder.lock()
    folder.finish("finished")
    assert os.listdir(str(tmp_path)) == ["run"] and folder.read_settings() == {"seed": 9}


def test_only_what_is_surely_ours_is_removed_in_the_end(tmp_path, capsys):
    """Folders of the user's own named like the one that is set aside, notes in that one, ..."""
    (tmp_path / "run.replaced").mkdir()
    (tmp_path / "run.replaced/thesis.tex").write_text("the user's")
    make_run(tmp_path / "run.replaced_2")  # never replaced
    path = make_run(tmp_path / "run").path
    kept = tree(tmp_path)
    folder = RunFolder.create(path, {"seed": 8}, overwrite=True)
    (tmp_path / "run.replaced_3/notes.txt").write_text("the user's")
    folder.begin(None, "CPU", "digest")
    folder.finish("finished")
    assert "notes.txt" in capsys.readouterr().err
    (tmp_path / "run.replaced_3/notes.txt").unlink()
    resumed = RunFolder.open(tmp_path / "run.replaced_3")  # its user goes on with it
    resumed.lock()
    folder.finish("finished")
    resumed.unlock()
    folder.finish("finished")
    after = tree(tmp_path)
    assert resumed.read_settings() == {"seed": 7}
    assert {name: after.get(name) for name in kept if not name.startswith("run/")} == {
        name: kept[name] for name in kept if not name.startswith("run/")}


def test_a_run_set_aside_is_found_when_its_place_is_empty(tmp_path):
    """Killed between the renaming and the new folder, or the new folder was removed by hand."""
    path = make_run(tmp_path / "run").path
    RunFolder.create(path, {"seed": 8}, overwrite=True).unlock()
    shutil.rmtree(str(path))
    for opening in (RunFolder.open, RunFolder.open_newest):
        with pytest.raises(UserError, match="run.replaced"):
            opening(path)
    os.rename(str(tmp_path / "run.replaced"), str(path))
    assert RunFolder.open(path).read_settings() == {"seed": 7}


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
    folder.begin(None, "CPU", "digest")
    assert folder.path == link and link.is_symlink()
    assert RunFolder.open(tmp_path / "disk/run").read_settings() == {"seed": 8}
    folder.finish("finished")
    assert os.listdir(str(tmp_path / "disk")) == ["run"]


def test_the_working_directory_is_not_pulled_away(tmp_path, monkeypatch):
    path = make_run(tmp_path / "run").path
    for folder in (path, path / "figures"):
        monkeypatch.chdir(folder)
        with pytest.raises(UserError, match="working directory"):
            RunFolder.create(os.path.relpath(str(path)), {}, overwrite=True)
    assert RunFolder.open(path).read_settings() == {"seed": 7}


def test_killed_at_every_point_of_a_replacement(tmp_path, monkeypatch):
    """The old run is whole until the new one is finished, and a message says where it is."""
    monkeypatch.setattr(provenance, "git_state", lambda: (None, ""))  # else most of the time
    make_run(tmp_path / "whole")
    (tmp_path / "whole" / MARKER).unlink()
    whole = tree(tmp_path / "whole")
    make_run(tmp_path / "template")

    def replace(path):
        folder = RunFolder.create(path, {"seed": 8}, overwrite=True)
        folder.begin(None, "CPU", "digest")
        folder.finish("finished")

    outcomes = []
    for last in range(200):
        place = tmp_path / str(last)
        path = place / "run"
        shutil.copytree(str(tmp_path / "template"), str(path))
        child = os.fork()
        if child == 0:  # forked, for a start of Python at each point would take a second
            die_after(last, lambda path=path: replace(path))
        _, status = os.waitpid(child, 0)
        old = [folder for folder in (path, place / "run.replaced")
               if (folder / "config.json").exists()
               and RunFolder.open(folder).read_settings() == {"seed": 7}]
        finished = [entry["ended_by"] for entry in RunFolder(path).provenance()] == ["finished"]
        if not finished:
            found = tree(old[0])
            assert {name: found[name] for name in whole if name != "provenance.json"} == {
                name: whole[name] for name in whole if name != "provenance.json"}
        try:
            RunFolder.open(path)
        except UserError as error:
            assert str(place / "run.replaced") in str(error)
        outcomes.append((old or [path])[0].name)
        replace(path)  # again, whatever was left
        if os.listdir(str(place)) != ["run"]:  # killed just before the empty folder went
            assert not tree(place / "run.replaced")
        assert RunFolder.open(path).read_settings() == {"seed": 8}
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert len(outcomes) > 30 and set(outcomes) == {"run", "run.replaced"}


def test_killed_at_every_point_of_saving_a_checkpoint(tmp_path):
    """`last` and `best` are the old ones or the new ones, and their files are whole."""
    make_run(tmp_path / "whole")
    seen = []
    for last in range(100):
        path = tmp_path / str(last)
        shutil.copytree(str(tmp_path / "whole"), str(path))
        child = os.fork()
        if child == 0:
            die_after(last, lambda path=path: save(RunFolder.open(path), "epoch_000002", epoch=2))
        _, status = os.waitpid(child, 0)
        folder = RunFolder.open(path)
        for which in ("best", "last"):
            prefix, state = folder.checkpoint(which)
            for part in (".index", ".data-00000-of-00001"):
                with open(prefix + part) as stream:
                    assert stream.read() == f"epoch_{state['epoch']:06d}"
            seen.append(state["epoch"])
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert seen == sorted(seen) and set(seen) == {1, 2}


# Several processes, and rights


@pytest.fixture
def public_folder():
    """A folder that every user can get at, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    for parent, names, _ in os.walk(str(folder)):
        for name in names:
            os.chmod(os.path.join(parent, name), 0o755)
    shutil.rmtree(str(folder))


def test_a_reader_needs_no_right_to_write(public_folder):
    path = make_run(public_folder / "run").path
    for parent, _, names in os.walk(str(public_folder)):
        os.chmod(parent, 0o555)
        for name in names:
            os.chmod(os.path.join(parent, name), 0o444)
    before = tree(path)

    def read():
        folder = RunFolder.open(path)
        assert folder.read_settings() == {"seed": 7} and len(folder.provenance()) == 1
        assert folder.history.read()[0]["total"] == 2.5 and folder.read_results()["mAP"] == 0.5
        assert folder.checkpoint("best")[1] == STATE and folder.has_checkpoint()
        assert RunFolder.open_newest(path).path == path

    assert in_child(read, as_nobody=True) == "done"
    holder = RunFolder.open(path)
    if os.getuid() == 0:
        holder.lock()  # and waits for no lock
        assert in_child(read, as_nobody=True) == "done"
    for writer in (lambda: RunFolder.open(path).lock(),
                   lambda: RunFolder.open(path).write_json("results.json", {}),
                   lambda: RunFolder.open(path).begin(None, "CPU", "digest"),
                   lambda: RunFolder.open(path).history.append(dict(ROW, epoch=2)),
                   lambda: save(RunFolder.open(path), "epoch_000002"),
                   lambda: RunFolder.create(path, {}, overwrite=True),
                   lambda: RunFolder.create(path / "below", {}),
                   lambda: OutputFolder.create(path.parent / "out", "grid")):
        assert in_child(writer, as_nobody=True) == "refused"
    assert tree(path) == before


@pytest.mark.parametrize("locked", [
    ".", "run", "run/figures", "run/checkpoints", "run/config.json"])
def test_folders_without_rights(public_folder, locked):
    path = public_folder / "run"

    def make():
        make_run(path)
        if locked != ".":
            (public_folder / locked).chmod(0o000)

    public_folder.chmod(0o777)
    assert in_child(make, as_nobody=True) == "done"
    if locked == ".":
        public_folder.chmod(0o555)
    before = tree(public_folder)
    outcome = in_child(
        lambda: RunFolder.create(path, {"seed": 8}, overwrite=True), as_nobody=True)
    if locked == "run/config.json":  # who may replace a folder need not read it
        assert outcome == "done"
        return
    assert outcome == "refused"
    if locked == "run":
        assert in_child(lambda: RunFolder.open(path), as_nobody=True) == "refused"
    assert tree(public_folder) == before


@pytest.mark.parametrize("start", ["nothing", "empty", "run"])
def test_of_several_processes_one_wins(tmp_path, start):
    for attempt in range(4):
        path = tmp_path / str(attempt) / "run"
        if start == "run":
            make_run(path)
        elif start == "empty":
            path.mkdir(parents=True)
        outcomes = race(5, lambda number, path=path: RunFolder.create(
            path, {"seed": number}, overwrite=start == "run"))
        assert sorted(outcomes) == ["done"] + ["refused"] * 4
        assert RunFolder.open(path).read_settings() == {"seed": outcomes.index("done")}
        assert set(os.listdir(str(path.parent))) <= {"run", "run.replaced"}


def test_several_processes_number_their_runs(tmp_path):
    assert race(5, lambda number: RunFolder.create_numbered(
        tmp_path / "runs" / "orl", {"seed": number})) == ["done"] * 5
    assert sorted(os.listdir(str(tmp_path / "runs"))) == [
        "orl", "orl_2", "orl_3", "orl_4", "orl_5"]
    assert RunFolder.open_newest(tmp_path / "runs/orl").path.name == "orl_5"
