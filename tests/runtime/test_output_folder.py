"""Output folders: what they refuse, what they keep, and that a writer never leaves half a file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, tree

from runtime.errors import Failed, UserError
from runtime.files import read_json, replacing, replacing_folder, writing
from runtime.output_folder import KINDS, MARKER, OutputFolder, refuse_inside_output
from runtime.run_folder import RunFolder

OUTPUTS = [kind for kind in KINDS if kind != "run"]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_new_folder_is_marked_and_opens_again(tmp_path, kind):
    path = tmp_path / "not" / "yet" / kind
    folder = OutputFolder.create(path, kind)
    folder.write_text("report.html", "first")
    (path / "notes.txt").write_text("the user's")
    folder.unlock()
    assert json.loads((path / MARKER).read_text()) == {"kind": kind, "version": 1}
    again = OutputFolder.create(str(path), kind)
    again.write_text("report.html", "second")
    assert (path / "report.html").read_text() == "second"
    assert (path / "notes.txt").read_text() == "the user's"
    assert again.kind() == kind


def test_an_empty_folder_and_one_of_a_killed_start_are_taken(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / "..dcbh.json.1.2.tmp").write_text("{")
    assert OutputFolder.create(tmp_path, "grid").kind() == "grid"


@pytest.mark.parametrize("content", [
    {"report.html": "mine"}, {"figures/fig1.tex": "mine"}, {"lock": "no lock of yours"},
    {".hidden": ""}, {"history.csv": "year,event\n"}, {"a.123.tmp": ""}, {".a.123.tmp": ""},
    {"config.json": "{}"}, {"tables.md": "", "lock": ""}, {"logs/x.log": "", "lock": ""}], ids=str)
def test_a_foreign_folder_stays_untouched(tmp_path, content):
    path = tmp_path / "mine"
    for name, text in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    before = tree(path)
    for kind in OUTPUTS:
        with pytest.raises(UserError):
            OutputFolder.create(path, kind)
    for overwrite in (False, True):
        with pytest.raises(UserError):
            RunFolder.create(path, {}, overwrite)
    assert tree(path) == before


def test_kinds_are_not_mixed(tmp_path):
    """evaluate.py --codes x --out RUN, reproduce.py --out RUN, main.py --run_dir EVALUATION."""
    RunFolder.create(tmp_path / "run", {"seed": 1})
    OutputFolder.create(tmp_path / "evaluation", "evaluation").write_text("report.html", "x")
    before = tree(tmp_path)
    for kind in OUTPUTS:
        with pytest.raises(UserError):
            OutputFolder.create(tmp_path / "run", kind)
        if kind != "evaluation":
            with pytest.raises(UserError):
                OutputFolder.create(tmp_path / "evaluation", kind)
    for overwrite in (False, True):
        with pytest.raises(UserError):
            RunFolder.create(tmp_path / "evaluation", {}, overwrite)
    with pytest.raises(UserError):
        RunFolder.open(tmp_path / "evaluation")
    assert not RunFolder(tmp_path / "evaluation").holds_run()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("marker", [
    "", "{", "5", "[]", "{}", '{"kind": "run"}', '{"kind": "tree", "version": 1}',
    '{"kind": ["run"], "version": 1}', '{"kind": "run", "version": true}',
    '{"kind": "run", "version": 2}', "[" * 100000, "\ud800"], ids=lambda text: repr(text)[:40])
def test_a_damaged_marker_is_refused(tmp_path, marker):
    path = tmp_path / "run"
    RunFolder.create(path, {}).unlock()
    (path / MARKER).write_bytes(marker.encode("utf-8", "surrogatepass"))
    before = tree(path)
    for action in (lambda: RunFolder.open(path), lambda: RunFolder.create(path, {}, True),
                   lambda: OutputFolder.create(path, "grid")):
        with pytest.raises(UserError, match="later version" if "2" in marker else "damaged"):
            action()
    assert tree(path) == before


def test_paths_that_are_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("content")
    os.symlink("nowhere", str(tmp_path / "dangling"))
    os.symlink("loop", str(tmp_path / "loop"))
    for path in ("", "a\0b", file, file / "below", tmp_path / "dangling", tmp_path / "loop",
                 tmp_path / ("x" * 300), str(tmp_path) + "/y" * 2500):
        for action in (lambda path: OutputFolder.create(path, "grid"),
                       lambda path: RunFolder.create(path, {}),
                       lambda path: RunFolder.create(path, {}, True), RunFolder.open,
                       lambda path: RunFolder.create_numbered(str(path) + "/z" * bool(path), {}),
                       RunFolder.open_newest):
            with pytest.raises(UserError):
                action(path)
    assert file.read_text() == "content"
    assert sorted(os.listdir(str(tmp_path))) == ["dangling", "file", "loop"]


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"-rf", b" ", "\u00fc".encode(),
                                  b"[a]*", b"x" * 240], ids=repr)
def test_names_of_any_bytes(tmp_path, name):
    base = os.path.join(str(tmp_path), os.fsdecode(name))
    RunFolder.create_numbered(base, {"n": 1}).unlock()
    RunFolder.create_numbered(base, {"n": 2}).unlock()
    newest = RunFolder.open_newest(base)
    newest.begin(None, "CPU", "data")
    newest.write_text("report.html", str(newest))
    assert newest.read_settings() == {"n": 2} and newest.path.name.endswith("_2")
    OutputFolder.create(base + ".out", "evaluation").write_table("t.csv", {str(newest): [base]})


def test_a_lock_excludes_others_until_it_is_given_free(tmp_path):
    first = OutputFolder.create(tmp_path / "out", "grid")
    first.lock()  # again, without effect
    with pytest.raises(UserError, match="in use"):
        OutputFolder.create(tmp_path / "out", "grid")
    first.unlock()
    second = OutputFolder.create(tmp_path / "out", "grid")
    del second  # an object that is gone holds nothing
    OutputFolder.create(tmp_path / "out", "grid").unlock()
    for lock in ("content", None):
        path = tmp_path / "other"
        path.mkdir(exist_ok=True)
        if lock:
            (path / "lock").write_text(lock)
        else:
            (path / "lock").unlink()
            (tmp_path / "precious").write_text("years of work")
            (path / "lock").symlink_to(tmp_path / "precious")
        with pytest.raises(UserError, match="lock"):
            OutputFolder(path).lock()
    assert (tmp_path / "precious").read_text() == "years of work"


def test_leftovers_of_killed_writers_go_and_living_ones_stay(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "evaluation")
    folder.unlock()
    dead, living = ".results.json.999999999.0.tmp", f".results.json.{os.getppid()}.0.tmp"
    kept = {living, "x.12.tmp", ".mine.tmp", ".dcbh.json", "lock", "figures", "figures/" + living}
    (folder.path / "figures").mkdir()
    for name in list(kept - {".dcbh.json", "lock", "figures"}) + [
            dead, "figures/" + dead, ".old.999999999.tmp"]:
        (folder.path / name).touch()
    (folder.path / ".saved_model.999999999.3.tmp/variables").mkdir(parents=True)
    folder.lock()
    assert set(tree(folder.path)) == kept


def test_a_subfolder_is_replaced_as_a_whole(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "encoder")
    for content in ("first", "second"):
        with replacing_folder(folder.path / "saved_model") as temporary:
            (temporary / "variables").mkdir(parents=True)
            (temporary / "variables/weights").write_text(content)
        assert (folder.path / "saved_model/variables/weights").read_text() == content
    with pytest.raises(Failed), replacing_folder(folder.path / "saved_model") as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("third")
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError), replacing_folder(
            folder.path / "saved_model/variables/weights/x"):
        pass
    assert set(tree(folder.path)) == {".dcbh.json", "lock", "saved_model", "saved_model/variables",
                                      "saved_model/variables/weights"}


def test_nothing_is_made_inside_a_folder_with_a_content_of_its_own(tmp_path):
    for kind in ("gallery", "encoder", "run"):
        if kind == "run":
            RunFolder.create(tmp_path / kind, {}).unlock()
        else:
            OutputFolder.create(tmp_path / kind, kind).unlock()
        before = tree(tmp_path)
        for inside in (tmp_path / kind / "x", tmp_path / kind / "x/y"):
            for action in (lambda path: OutputFolder.create(path, "evaluation"),
                           lambda path: RunFolder.create(path, {}),
                           lambda path: RunFolder.create_numbered(path, {}),
                           refuse_inside_output):
                with pytest.raises(UserError, match=kind):
                    action(inside)
        assert tree(tmp_path) == before
    OutputFolder.create(tmp_path / "grid", "grid")
    RunFolder.create(tmp_path / "grid/orl/12bits", {})


def test_writing_is_whole_or_not_at_all(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "evaluation")
    folder.write_json("results.json", {"mAP": 0.5})
    folder.write_table("t.csv", {"n": range(2), "name": ["\u00fc", "\udcff"]})
    folder.write_arrays("codes.npz", gallery_codes=np.ones((2, 3), np.int8))
    with np.load(str(folder.path / "codes.npz")) as arrays:
        assert arrays["gallery_codes"].shape == (2, 3)
    assert (folder.path / "t.csv").read_text(encoding="utf-8") == (
        "n,name\n0,\u00fc\n1,\\udcff\n")
    with pytest.raises(ValueError):
        folder.write_json("results.json", {"mAP": float("nan")})
    with pytest.raises(ZeroDivisionError), folder.replacing("results.json") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert folder.read_json("results.json") == {"mAP": 0.5}
    with pytest.raises(UserError), folder.replacing("results.json/below") as temporary:
        temporary.write_text("x")
    (folder.path / "report.html").mkdir()
    with pytest.raises(UserError):
        folder.write_text("report.html", "x")
    assert set(tree(folder.path)) == {".dcbh.json", "lock", "results.json", "t.csv", "codes.npz",
                                      "report.html"}


def test_a_full_disk_is_no_user_error(tmp_path):
    for number, kind in ((28, Failed), (13, UserError), (21, UserError)):
        with pytest.raises(UserError) as caught, writing(tmp_path):
            raise OSError(number, os.strerror(number))
        assert type(caught.value) is kind and str(tmp_path) in str(caught.value)
    with pytest.raises(Failed), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise OSError(28, "no space")
    assert os.listdir(str(tmp_path)) == []


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(UserError, match=name), replacing(tmp_path / name) as temporary:
            temporary.write_text("x")
    assert tree(tmp_path) == {"pipe": None, "null": "/dev/null"}


def test_numbers_that_no_float_holds_are_damage(tmp_path):
    for number in ("1e999", "-1e999", "NaN", "Infinity"):
        (tmp_path / "results.json").write_text(f'{{"mAP": {number}}}')
        with pytest.raises(UserError, match="results.json"):
            read_json(tmp_path / "results.json")


def test_reading_waits_for_nothing_and_takes_no_giant(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    with open(str(tmp_path / "giant"), "wb") as stream:
        stream.truncate(1 << 40)
    for name in ("pipe", "giant", "missing", "."):
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name)


def test_a_process_that_ends_with_a_lock_says_nothing(tmp_path):
    """Whatever still refers to the folder: a global, or the frames of an exception."""
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            "from runtime.output_folder import OutputFolder\n"
            "held = OutputFolder.create('held', 'grid')\n"
            "def main():\n"
            "    folder = OutputFolder.create('other', 'grid')\n"
            "    held.cycle = folder, main\n"
            "    sys.exit(3)\n"
            "main()\n")
    for _ in range(2):
        process = subprocess.run([sys.executable, "-c", code], cwd=str(tmp_path), timeout=60,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert (process.returncode, process.stdout, process.stderr) == (3, b"", b"")


def test_a_forked_process_does_not_give_the_lock_free(tmp_path):
    folder = OutputFolder.create(tmp_path / "out", "grid")
    child = os.fork()
    if child == 0:
        folder.unlock()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(UserError, match="in use"):
        OutputFolder.create(tmp_path / "out", "grid")
