"""search.py through the command line, on a run of ORL: index, add, remove, query, info, serve."""

import contextlib
import csv
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess

import numpy as np
import pytest
from conftest import assert_refused, command, run_script
from face_pictures import orl_face, orl_path, save, scene
from PIL import Image

import search
from evaluation import packing, threshold
from evaluation.codes import load_codes
from evaluation.vectors import save_evaluation
from gallery.store import Gallery
from methods.run import load_run
from methods.table import resolve
from runtime.errors import UserError
from runtime.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ORL; ITQ is fitted in a moment."""
    return make_run(tmp_path_factory.mktemp("runs") / "orl")


def make_run(path, **values):
    """A run as main.py leaves it, less figures and report."""
    config, dataset = resolve(dict(values, method="itq"))
    folder = RunFolder.create(path, config.to_dict())
    run = load_run(config, dataset)._replace(folder=folder)
    run.method.make_codes(run, lambda encoded: save_evaluation(
        folder, encoded.codes, encoded.metadata))
    folder.finish("finished")
    folder.unlock()
    return path


@pytest.fixture(scope="module")
def own(run):
    """The gallery of the run's own images, as `serve RUN` makes it."""
    search.main(["info", str(run)])
    return run.parent / "orl.gallery"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A folder for each of five people with four photographs, and one without a name."""
    folder = tmp_path_factory.mktemp("photographs")
    for person in range(1, 6):
        (folder / f"s{person}").mkdir()
        for number in range(1, 5):
            shutil.copy(orl_path(person, number), folder / f"s{person}" / f"{number}.pgm")
    with Image.open(str(orl_path(6, 1))) as image:
        image.save(str(folder / "nobody.png"))
    (folder / "s1" / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


def table_rows(text):
    """Rows of the tables that query prints: rank, person, distance, id."""
    return [(int(rank), person, int(distance), int(face)) for rank, person, distance, face in
            re.findall(r"^ +(\d+)  (\S+) +(\d+) +(\d+)  ", text, re.MULTILINE)]


def test_a_runs_own_gallery_has_its_codes(run, own):
    codes = load_codes(run / "codes.npz")
    with Gallery.open(own) as gallery:
        np.testing.assert_array_equal(packing.unpack(gallery.codes, 48), codes.gallery_codes)
        assert [gallery.name(row) for row in range(280)] == [
            f"s{label + 1}" for label in codes.gallery_labels]
        assert gallery.calibration.probes == 120
        assert gallery.calibration.source == threshold.QUERIES
        # A query comes alone: it is normalised as the training set was, not by its own pixels.
        assert np.mean(packing.unpack(probe_codes(own), 48) == codes.query_codes) > 0.97


def probe_codes(path):
    """The codes of the queries that calibrate a gallery's threshold."""
    with contextlib.closing(sqlite3.connect(str(path / "gallery.db"))) as connection:
        rows = connection.execute("SELECT code FROM probes ORDER BY rowid").fetchall()
    return np.array(rows, np.int64)[:, 0].view(np.uint64)


def test_an_answer_that_a_full_disk_swallows_is_no_success(own, people):
    line = " ".join(command("search.py", "query", own, people / "s1/1.pgm", "--json", "-"))
    process = subprocess.run(["sh", "-c", line + " > /dev/full"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             universal_newlines=True)
    assert_refused(process, "standard output", code=1)


def test_who_is_this(own, tmp_path, capsys):
    files = {name: tmp_path / ("found." + name) for name in ("html", "json", "csv")}
    photographs = [str(orl_path(person, 9)) for person in (3, 7)]
    search.main(["query", str(own)] + photographs + [
        "--top", "4", "--threshold", "20", "--sheet", str(files["html"]), "--json",
        str(files["json"]), "--csv", str(files["csv"]), "--copy", str(tmp_path / "copies")])
    shown = table_rows(capsys.readouterr().out)
    found = json.loads(files["json"].read_text())
    with Gallery.open(own) as gallery:
        for query, label in zip(found["queries"], (2, 6)):
            # The ninth picture is the query of its person's second: rows of 40 people each.
            code = probe_codes(own)[40 + label]
            distances = packing.distances(code, gallery.codes)
            expected = np.argsort(distances, kind="mergesort")[:4]
            assert [item["id"] for item in query["neighbours"]] == expected.tolist()
            assert [item["distance"] for item in query["neighbours"]] == distances[
                expected].tolist()
            last = distances[expected[-1]]
            assert query["more_ties"] == np.count_nonzero(distances == last) - np.count_nonzero(
                distances[expected] == last)
            assert query["verdict"]["name"] == f"s{label + 1}"
    in_json = [(item["rank"], item["person"], item["distance"], item["id"])
               for query in found["queries"] for item in query["neighbours"]]
    assert shown == in_json
    with open(str(files["csv"]), newline="") as stream:
        in_csv = [(int(row["rank"]), row["person"], int(row["distance"]), int(row["id"]))
                  for row in csv.DictReader(stream)]
    assert in_csv == in_json
    page = files["html"].read_text()
    assert page.count("data:image/") == 10 and "http" not in page.replace("http-equiv", "")
    with Image.open(str(tmp_path / "found.png")) as sheet:
        assert sheet.width > 500 and sheet.height > 200
    assert len(list((tmp_path / "copies").iterdir())) == 8

    search.main(["query", str(own), photographs[0], "--radius", "0", "--far", "0.001", "--json",
                 "-"])
    strict = json.loads(capsys.readouterr().out)["queries"][0]
    assert strict["verdict"]["name"] is None and strict["verdict"]["reason"]
    assert all(item["distance"] == 0 for item in strict["neighbours"])


def test_photographs_are_indexed_added_and_removed(run, people, tmp_path, capsys):
    path = str(tmp_path / "g")
    search.main(["index", str(run), "--images", str(people), "--out", path])
    with Gallery.open(path) as gallery:
        assert len(gallery) == 21
        assert sorted(gallery.names.values()) == ["s1", "s2", "s3", "s4", "s5"]
        assert [gallery.name(row) for row in (0, 1)] == [None, "s1"]  # nobody.png comes first
        assert gallery.faces([0])[0].photograph == str(people / "nobody.png")
        assert gallery.count("photographs", "reason != ''") == 1
        # The files are those of the run's own gallery, and so are the codes.
        codes = load_codes(run / "codes.npz").gallery_codes.reshape(7, 40, 48)[:4, :5]
        np.testing.assert_array_equal(packing.unpack(gallery.codes[1:], 48),
                                      codes.transpose(1, 0, 2).reshape(20, 48))
        before = gallery.version
    search.main(["add", path])
    with Gallery.open(path) as gallery:
        assert gallery.version == before  # nothing was new
    more = tmp_path / "more"
    (more / "s6").mkdir(parents=True)
    shutil.copy(str(orl_path(6, 2)), str(more / "s6" / "a.pgm"))
    search.main(["add", path, "--images", str(more)])
    search.main(["remove", path, "--name", "s2", "--file", str(people / "nobody.png")])
    search.main(["add", path])  # what was removed stays out
    shutil.copy(str(orl_path(6, 3)), str(more / "s6" / "a.pgm"))
    search.main(["add", path])
    with Gallery.open(path) as gallery:
        assert sorted(gallery.names.values()) == ["s1", "s3", "s4", "s5", "s6"]
        assert len(gallery) == 17 and gallery.ids[-1] == 22  # the changed photograph's
        assert gallery.sources() == sorted([str(people), str(more)])
    capsys.readouterr()
    search.main(["query", path, str(orl_path(4, 5)), "--top", "3", "--threshold", "48"])
    assert table_rows(capsys.readouterr().out)[0][1] == "s4"
    search.main(["info", path, "--check"])
    assert "17 faces" in capsys.readouterr().out


def test_people_are_renamed_named_and_listed(run, people, tmp_path, capsys):
    path, lib = str(tmp_path / "g"), tmp_path / "lib"
    shutil.copytree(str(people), str(lib))
    (lib / "notes.txt").write_text("x")
    search.main(["index", str(run), "--images", str(lib), "--out", path])
    capsys.readouterr()
    search.main(["rename", path, "s1", "Ann"])
    search.main(["rename", path, "s2", "Ann"])
    search.main(["name", path, "--id", "0", "Zo\u00eb Z"])
    search.main(["name", path, "--id=20", "Zo\u00eb Z"])
    with Gallery.open(path) as gallery:
        assert [gallery.name(row) for row in (0, 20)] == ["Zo\u00eb Z"] * 2
        assert sorted(gallery.names.values()) == ["Ann", "Zo\u00eb Z", "s3", "s4", "s5"]
    for bad in (["--id", "0"], ["0", "Ann"], ["--id", "0", "x", "Ann"], ["--id", "99", "Ann"],
                ["--id", "9" * 5000, "Ann"]):
        with pytest.raises(UserError):
            search.main(["name", path] + bad)
    (lib / "s3").rename(lib / "s33")
    capsys.readouterr()
    search.main(["add", path])
    assert re.search(r"^new: 0, changed: 0, moved: 4, gone: 0", capsys.readouterr().out,
                     re.MULTILINE)
    search.main(["info", path, "--left-out"])
    shown = capsys.readouterr().out
    assert "notes.txt" in shown and "damaged.jpg" in shown


def test_answers_come_before_copies_and_nothing_foreign_is_replaced(run, tmp_path, capsys):
    lib, name = tmp_path / "lib" / "Ann", "\u00e4" * 120 + ".pgm"
    lib.mkdir(parents=True)
    shutil.copy(str(orl_path(1, 1)), str(lib / name))
    shutil.copy(str(orl_path(1, 2)), str(lib / "gone.pgm"))
    path, query = str(tmp_path / "g"), tmp_path / "query.png"
    search.main(["index", str(run), "--images", str(lib.parent), "--out", path])
    (lib / "gone.pgm").unlink()
    with Image.open(str(orl_path(1, 3))) as image:
        image.save(str(query))
    capsys.readouterr()
    search.main(["query", path, str(query), "--copy", str(tmp_path / "copies")])
    output = capsys.readouterr()
    assert len(table_rows(output.out)) == 2 and "gone.pgm" in output.err.splitlines()[-1]
    copied, = (tmp_path / "copies").iterdir()
    assert copied.name.endswith("\u00e4.pgm") and len(os.fsencode(copied.name)) <= 255
    whole = query.read_bytes()
    (tmp_path / "mine.json").write_text("{}")
    os.symlink(str(tmp_path / "mine.json"), str(tmp_path / "link.json"))
    for option, file in (("--sheet", "query.html"), ("--json", "mine.json"),
                         ("--json", "link.json")):
        with pytest.raises(UserError, match="--overwrite"):
            search.main(["query", path, str(query), option, str(tmp_path / file)])
    assert query.read_bytes() == whole and (tmp_path / "mine.json").read_text() == "{}"
    search.main(["query", path, str(query), "--json", str(tmp_path / "mine.json"), "--overwrite"])
    for _ in range(2):  # what we wrote ourselves is replaced
        search.main(["query", path, str(query), "--json", str(tmp_path / "mine.json"), "--csv",
                     str(tmp_path / "found.csv"), "--sheet", str(tmp_path / "sheet.html")])
    assert len(json.loads((tmp_path / "mine.json").read_text())["queries"]) == 1


def test_a_runs_own_gallery_is_made_again_when_the_run_has_changed(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    search.main(["info", str(run)])
    with Gallery.open(tmp_path / "run.gallery") as gallery:
        before = gallery.version
    search.main(["info", str(run)])
    with Gallery.open(tmp_path / "run.gallery") as gallery:
        assert gallery.version == before
    shutil.rmtree(str(run))
    make_run(run, num_bits=24)  # trained again
    capsys.readouterr()
    search.main(["query", str(run), str(orl_path(2, 1)), "--threshold", "24"])
    assert table_rows(capsys.readouterr().out)[0][1] == "s2"
    with Gallery.open(tmp_path / "run.gallery") as gallery:
        assert gallery.num_bits == 24 and len(gallery) == 280
        gallery.check()
    assert len(list((tmp_path / "run.gallery").glob("encoder*"))) == 1


def test_a_gallery_of_an_older_version_is_refused(run, people, tmp_path):
    old = tmp_path / "g"
    old.mkdir()
    for name in ("items-1.npz", "gallery.json", ".dcbh.json"):
        (old / name).write_text('{"kind": "gallery", "version": 1}')
    for arguments in (["info", old], ["add", old], ["query", old, orl_path(1, 1)],
                      ["index", run, "--images", people, "--out", old]):
        with pytest.raises(UserError, match="older version; remove it, then index again"):
            search.main(list(map(str, arguments)))
    assert {path.name for path in old.iterdir()} == {"items-1.npz", "gallery.json", ".dcbh.json"}


def test_the_way_out_of_damage_works(run, people, tmp_path):
    path = tmp_path / "g"
    arguments = ["index", str(run), "--images", str(people), "--out", str(path)]
    search.main(arguments)
    for name, content in (("gallery.db", b"x"), ("projection.npz", None), ("encoder.json", b"x")):
        damaged, = path.rglob(name)
        damaged.unlink()
        if content:
            damaged.write_bytes(content)
        with pytest.raises(UserError, match="index again"):
            search.main(["query", str(path), str(orl_path(1, 1))])
        search.main(arguments)
        search.main(["info", str(path), "--check"])


def test_bad_input_changes_nothing(run, own, tmp_path):
    good = str(orl_path(1, 1))
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / ".json").write_text("x")
    gallery = str(own)
    for arguments, named in (
            (["query", gallery, str(text)], text), (["query", gallery, "missing.jpg"], "missing"),
            (["query", gallery, str(tmp_path / "empty")], "empty"),
            (["query", str(tmp_path / "empty"), good], "empty"),
            (["query", gallery, good, "--top", "0"], "--top"),
            (["query", gallery, good, "--far", "0"], "--far"),
            (["query", gallery, good, "--json", good], "--json"),
            (["query", gallery, good, "--json", str(tmp_path / ".json")], ".json"),
            (["query", gallery, good, "--copy", str(tmp_path / "full")], "full"),
            (["query", gallery, good, "--uri", "localhost:1"], "--uri"),
            (["index", str(run)], "--images"),
            (["index", str(run), "--images", str(tmp_path / "empty"), "--out",
              str(tmp_path / "g")], "empty"),
            (["index", str(tmp_path / "empty"), "--gallery", "--out", str(tmp_path / "g")],
             "empty"),
            (["index", str(run), "--gallery", "--out", str(tmp_path / "full")], "full"),
            (["index", str(run), "--gallery", "--out", str(run)], run),
            (["remove", gallery, "--name", "Eve"], "Eve"), (["remove", gallery], "--id"),
            (["remove", gallery, "--file", ""], "--file"),
            (["remove", gallery, "--name", ""], "--name"),
            (["index", str(run), "--images", "", "--out", str(tmp_path / "g")], "--images"),
            (["add", gallery, "--images", ""], "--images"), (["info", ""], "GALLERY"),
            (["query", gallery, good, "--copy", ""], "--copy"),
            (["index", str(run), "--images", str(tmp_path), "--people", "x", "--out",
              str(tmp_path / "g")], "--people"),
            (["add", gallery], "--images"), (["add", str(tmp_path / "empty")], "empty"),
            (["serve", gallery, "--port", "99999"], "--port"), (["find"], "PHOTO"),
            (["seek"], "seek")):
        with pytest.raises(UserError) as refusal:
            search.main(arguments)
        assert str(named) in str(refusal.value), (arguments, refusal.value)
    assert not (tmp_path / "g").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]
    # A photograph without a face among others is named, and the others are searched.
    search.main(["query", gallery, good, str(text)])


def test_photographs_are_not_taken_for_faces(run, own, tmp_path):
    for number in range(1, 4):
        save(scene([(orl_face(number, 1), (150, 90))], (420, 300)),
             tmp_path / "in" / f"{number}.png")
    with pytest.raises(UserError, match="takes each image for a face.*without a run"):
        search.main(["index", str(run), "--images", str(tmp_path / "in"), "--out",
                     str(tmp_path / "g")])
    with pytest.raises(UserError, match="takes each image for a face"):
        search.main(["query", str(own), str(tmp_path / "in" / "1.png")])


def test_a_gallery_of_another_run_is_refused(own, tmp_path):
    make_run(tmp_path / "other", num_bits=12)
    with pytest.raises(UserError) as refusal:
        search.main(["index", str(tmp_path / "other"), "--gallery", "--out", str(own)])
    assert str(own) in str(refusal.value)
    with Gallery.open(own) as gallery:
        gallery.check()
        assert len(gallery) == 280 and gallery.num_bits == 48
    search.main(["index", str(tmp_path / "other"), "--gallery"])
    with Gallery.open(tmp_path / "other.gallery") as gallery:
        assert gallery.num_bits == 12 and len(gallery) == 280


def test_served_by_a_process(run, own, tmp_path):
    assert_refused(run_script("search.py", "query", tmp_path / "nothing", orl_path(2, 8),
                              cwd=tmp_path), "nothing")
    # Without a name it is the newest run that is served.
    (tmp_path / "runs").mkdir()
    os.symlink(str(run), str(tmp_path / "runs" / "orl"))
    # A background job ignores SIGINT, and so would its children.
    server = subprocess.Popen(
        command("search.py", "serve", "--port", "0"), cwd=str(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        assert str(own) in server.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/$", server.stdout.readline()).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/api/query", orl_path(2, 8).read_bytes(),
                           {"Content-Type": "application/octet-stream"})
        found = json.loads(connection.getresponse().read().decode())
        connection.close()
        assert found["faces"][0]["neighbours"][0]["person"] == "s2"
        with pytest.raises(UserError) as refusal:
            search.main(["serve", str(own), "--port", str(port)])
        assert str(port) in str(refusal.value)
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 0 and errors == ""
