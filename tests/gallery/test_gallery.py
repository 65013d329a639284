"""Galleries: what is written is read back, changes are whole, damage is named, nobody stays."""

import errno
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import forked
import numpy as np
import pytest
from tiny_gallery import (
    TinyEncoder,
    add_to_gallery,
    codes_of_people,
    colour,
    contents,
    index_folders,
    metadata,
    save_photograph,
    write_gallery,
)

from evaluation import packing
from gallery import indexing, people
from gallery.answers import Judge
from gallery.engines import open_index
from gallery.indexing import check_same_encoder
from gallery.store import Gallery, Writer
from runtime.errors import Failed, UserError

PEOPLE = [0, 0, 1, 1, 1, 2]
PATHS = ["/p/Ann/1.jpg", "/p/Ann/2.jpg", "/p/Bob/\udcff.jpg", "/p/Bob/2.jpg", "/p/Bob/3.jpg",
         "/p/z.png"]
NAMES = ["Ann", "Bob \u738b <b>", None]


@pytest.fixture
def gallery(tmp_path):
    with write_gallery(tmp_path / "g", PEOPLE, names=NAMES.__getitem__, paths=PATHS) as written:
        yield written


def opened(gallery):
    return Gallery.open(gallery.path)


def test_what_is_written_is_read_back(gallery):
    faces = gallery.faces(gallery.ids)
    np.testing.assert_array_equal(gallery.codes, codes_of_people(PEOPLE, 48))
    assert gallery.ids.tolist() == list(range(6))
    assert [face.name for face in faces] == [NAMES[person] for person in PEOPLE]
    assert [gallery.name(row) for row in range(6)] == [NAMES[person] for person in PEOPLE]
    assert [face.photograph for face in faces] == PATHS == [face.place for face in faces]
    assert {face.box for face in faces} == {(1, 2, 3, 4)} and faces[5].sha256 == bytes([0, 5] * 16)
    assert [gallery.thumbnail(face) for face in range(6)] == [colour(face) for face in range(6)]
    assert [face.id for face in gallery.faces([4, 1, 4])] == [4, 1, 4]
    assert gallery.num_bits == 48 and gallery.is_current()
    for missing in (6, -1, 2 ** 62):
        for ask in (gallery.row_of, gallery.thumbnail, lambda face: gallery.faces([0, face])):
            with pytest.raises(KeyError):
                ask(missing)
    gallery.check()


def test_ids_stay_and_are_not_given_twice(gallery):
    assert people.remove(gallery.path, ids=[5]) == 1
    assert opened(gallery).ids.tolist() == [0, 1, 2, 3, 4]
    added = add_to_gallery(gallery.path, [0, 3])
    assert added.ids.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert sorted(added.names.values()) == sorted(NAMES[:2] + ["person 0", "person 3"])
    assert [added.thumbnail(face) for face in added.ids] == [
        colour(number) for number in (0, 1, 2, 3, 4, 1000, 1001)]
    # The state that was opened before knows that it is not the newest.
    assert not gallery.is_current() and len(gallery) == 6
    with pytest.raises(KeyError):
        gallery.thumbnail(5)
    assert people.remove(gallery.path, names=["Ann"], files=["/p/Bob/3.jpg"]) == 3
    with opened(gallery) as again:
        assert again.ids.tolist() == [2, 3, 6, 7]
        assert [face.photograph for face in again.faces(again.ids)] == PATHS[2:4] + [None, None]


@pytest.mark.parametrize("what", [dict(names=["Ann"]), dict(files=["/p/Ann"]), dict(ids=[0, 1])])
def test_nothing_of_a_removed_face_stays(gallery, what):
    people.remove(gallery.path, **what)  # while a reader has the gallery open
    files = [path for path in gallery.path.rglob("*") if path.is_file()]
    whole = b"".join(path.read_bytes() for path in files)
    for gone in (colour(0), colour(1), b"Ann", bytes([0, 1] * 16)):
        assert gone not in whole
    for kept in (colour(2), colour(5), b"Bob"):
        assert kept in whole


@pytest.mark.parametrize("what", [
    dict(ids=[1, 77]), dict(ids=[2 ** 70]), dict(names=["Ann", "Eve"]), dict(names=[""]),
    dict(files=["/p/Ann", "/p/Eve"]), dict(files=["/p/Ann", ""])])
def test_removing_what_is_not_there_removes_nothing(gallery, what):
    with pytest.raises(UserError):
        people.remove(gallery.path, **what)
    assert gallery.is_current()
    with Writer(gallery.path):  # nor is the folder locked any more
        pass


def test_an_emptied_gallery_says_so(gallery):
    assert people.remove(gallery.path, files=["/p"]) == 6
    with opened(gallery) as emptied:
        assert len(emptied) == 0 and emptied.calibration is None
        with pytest.raises(UserError, match="empty"):
            open_index(emptied)
    assert len(add_to_gallery(gallery.path, PEOPLE)) == 6


# Damage, and galleries from elsewhere


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(gallery):
    gallery.close()
    os.unlink(str(gallery.path / "gallery.db"))
    os.mkfifo(str(gallery.path / "gallery.db"))
    for change in (lambda: people.remove(gallery.path, ids=[1]), lambda: opened(gallery)):
        with pytest.raises(UserError):
            change()


def test_damage_is_named_and_an_index_heals_it(tmp_path):
    lib = save_photograph(tmp_path / "lib" / "Ann" / "1.png", 1).parents[1]
    index_folders(tmp_path / "g", lib)
    files = [path.relative_to(tmp_path / "g") for path in (tmp_path / "g").rglob("*")
             if path.is_file() and path.name != "lock"]
    assert {path.name for path in files} == {"gallery.db", "encoder.json", ".dcbh.json"}
    expected = contents(tmp_path / "g")
    for file in files:
        whole = (tmp_path / "g" / file).read_bytes()
        for damaged in (whole[:len(whole) // 2], b"x" * len(whole), b"", None):
            shutil.rmtree(str(tmp_path / "copy"), ignore_errors=True)
            shutil.copytree(str(tmp_path / "g"), str(tmp_path / "copy"))
            (tmp_path / "copy" / file).unlink()
            if damaged is not None:
                (tmp_path / "copy" / file).write_bytes(damaged)
            if file.name != ".dcbh.json":
                with pytest.raises(UserError) as refusal:
                    with Gallery.open(tmp_path / "copy") as found:
                        found.check()
                assert file.name in str(refusal.value) and "index" in str(refusal.value)
            report = index_folders(tmp_path / "copy", lib)
            assert contents(tmp_path / "copy") == expected, file
            if file.name == "gallery.db" and damaged:  # names given by hand may be in it
                kept, = (tmp_path / "copy").glob("gallery.db.damaged")
                assert kept.read_bytes() == damaged
                assert any(kept.name in note for note in report.notes)


def test_a_gallery_of_a_newer_version_is_not_replaced(tmp_path):
    lib = save_photograph(tmp_path / "lib" / "Ann" / "1.png", 1).parents[1]
    index_folders(tmp_path / "g", lib)
    with sqlite3.connect(str(tmp_path / "g" / "gallery.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    newer = (tmp_path / "g" / "gallery.db").read_bytes()
    with pytest.raises(UserError, match="gallery.db"):
        index_folders(tmp_path / "g", lib)
    assert (tmp_path / "g" / "gallery.db").read_bytes() == newer


def test_a_gallery_without_a_first_photograph_is_told_from_a_damaged_one(tmp_path):
    Writer(tmp_path / "g", make=True).__exit__(None, None, None)
    for opening in (Gallery.open, Writer):
        with pytest.raises(UserError, match="stopped before its first"):
            opening(tmp_path / "g")


def test_a_damaged_page_is_found_by_a_check(gallery):
    path = gallery.path / "gallery.db"
    gallery.close()
    whole = bytearray(path.read_bytes())
    place = whole.index(colour(3))
    whole[place:place + 4] = b"oops"
    path.write_bytes(bytes(whole))
    with pytest.raises(UserError, match="damaged"), opened(gallery) as found:
        found.check()


HOSTILE = {
    "no number": "UPDATE info SET value = '\"x\"' WHERE name = 'num_bits'",
    "many bits": "UPDATE info SET value = '65' WHERE name = 'num_bits'",
    "another encoder": "UPDATE info SET value = '\"../..\"' WHERE name = 'encoder'",
    "other folders": "UPDATE info SET value = '[\"../..\"]' WHERE name = 'unused'",
    "files elsewhere": "UPDATE info SET value = '{\"../a\": \"b\"}' WHERE name = 'encoder_files'",
    "calibration": "UPDATE info SET value = '{\"probes\": \"x\"}' WHERE name = 'calibration'",
    "short curve": "UPDATE info SET value = replace(value, '[0, ', '[') "
                   "WHERE name = 'calibration'",
    "nested": "UPDATE info SET value = replace(hex(zeroblob(100000)), '00', '[') "
              "WHERE name = 'crop'",
    "no info": "DELETE FROM info",
    "no table": "DROP TABLE probes",
    "a trigger": "CREATE TRIGGER t AFTER DELETE ON faces BEGIN DELETE FROM people; END",
    "a view": "CREATE VIEW v AS SELECT 1",
    "another application": "PRAGMA application_id = 1",
    "a later version": "PRAGMA user_version = 99",
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_gallery_from_elsewhere_is_data(gallery, change):
    gallery.close()
    with sqlite3.connect(str(gallery.path / "gallery.db")) as connection:
        connection.execute(change)
    connection.close()
    precious = gallery.path / "precious"
    precious.write_text("x")
    for use in (lambda: opened(gallery), lambda: people.remove(gallery.path, ids=[0])):
        with pytest.raises(UserError, match="gallery"):
            use().close()
    assert precious.exists() and (gallery.path / "encoder" / "encoder.json").exists()


def test_strange_rows_are_refused_or_harmless(gallery):
    gallery.close()
    with sqlite3.connect(str(gallery.path / "gallery.db")) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE faces SET person = 77 WHERE id = 0")
        connection.execute("UPDATE face_images SET thumbnail = zeroblob(9) WHERE face = 1")
        connection.execute("UPDATE face_images SET thumbnail = zeroblob(2000000) WHERE face = 2")
    connection.close()
    with opened(gallery) as found:
        assert found.name(0) is None and found.faces([0])[0].name is None
        with pytest.raises(UserError, match="face 1"):
            found.thumbnail(1)
        with pytest.raises(KeyError):
            found.thumbnail(2)
        Judge(found, threshold=48).answer(open_index(found), found.codes[0], 6)


def test_half_made_and_foreign_folders(tmp_path):
    with Writer(tmp_path / "half", make=True):
        pass
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "gallery.json").write_text("{}")
    for path in ("half", "nothing", "old"):
        for use in (Gallery.open, people.remove):
            with pytest.raises(UserError, match=path):
                use(tmp_path / path)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "precious").write_text("x")
    with pytest.raises(UserError):
        Writer(tmp_path / "foreign", make=True)
    assert os.listdir(str(tmp_path / "foreign")) == ["precious"]


def test_files_of_the_users_inside_a_gallery_stay(gallery):
    for name in ("items-2024/a", "encoder-7/b", "encoder-2/c", "thumbnails-1.bin", "lists-1.faiss"):
        (gallery.path / name).parent.mkdir(exist_ok=True)
        (gallery.path / name).write_text("mine")
    with Writer(gallery.path) as writer:  # encoders that are not needed any more
        writer.info["unused"] = ["encoder-7", "encoder-3"]
        writer.commit(go_on=True)
        exported = gallery.path / ".new"
        exported.mkdir()
        assert writer.take_encoder(exported) == "encoder-4"
        writer.remove_unused()
    add_to_gallery(gallery.path, PEOPLE).close()
    people.remove(gallery.path, files=["/p"])
    assert sum(path.read_text() == "mine" for path in gallery.path.rglob("*")
               if path.is_file() and path.stat().st_size == 4) == 5


@pytest.mark.parametrize("change", [
    dict(num_bits=36), dict(crop={"method": "detect"}), dict(data="other"), dict(epoch=3),
    dict(mean=5.0), dict(settings={"seed": 1}), dict(provenance=[{"start": "2027-01-01"}])])
def test_another_encoder_is_refused(gallery, change):
    for same in (dict(run="/moved/elsewhere"), dict(settings={"seed": 0, "dataset_flag": "orl"}),
                 dict(settings={"data_dir": "/other", "encode_batch_size": 7})):
        check_same_encoder(gallery.path, gallery.info, metadata(**same))
    with pytest.raises(UserError, match=str(gallery.path)):
        check_same_encoder(gallery.path, gallery.info, metadata(**change))


# Several processes, kills, full and read-only disks


def test_one_writer_and_readers_always(tmp_path):
    path, stop, problems, read = tmp_path / "g", threading.Event(), [], set()
    write_gallery(path, PEOPLE).close()

    def read_on():
        while not stop.is_set():
            try:
                with Gallery.open(path) as gallery:
                    assert len(gallery.codes) == len(gallery.ids)
                    read.add(gallery.version)
                    started = time.monotonic()
                    if gallery.is_current():
                        gallery.faces(gallery.ids[:5])
                    assert time.monotonic() - started < 5
            except BaseException as error:
                problems.append(repr(error))
                return

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    with Writer(path) as writer:  # which has changed much, and not committed
        writer.run("DELETE FROM faces")
        with pytest.raises(UserError):  # a second one
            Writer(path)
        with Gallery.open(path) as gallery:
            assert len(gallery) == 6
    for number in range(10):
        add_to_gallery(path, [number]).close()
        people.remove(path, ids=[6 + number])
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == [] and len(read) > 1


KILLED = """
import sys
sys.path[:0] = {path!r}
from tiny_gallery import TinyEncoder
from gallery import indexing, people
indexing.open_encoder = lambda *_: TinyEncoder()
print("ready", flush=True)
{change}
"""
CHANGES = ["indexing.add({gallery!r})",
           "people.rename({gallery!r}, 'Ann', 'Zoe')",
           "people.remove({gallery!r}, names=['Bob'])"]


def check_killed(tmp_path, moments):
    """Kills changes at random moments: what is left is the old state or the new one."""
    lib, chance = tmp_path / "lib", random.Random(0)
    for number in range(12):
        save_photograph(lib / ["Ann", "Bob"][number % 2] / f"{number}.png", number)
    index_folders(tmp_path / "base", lib)
    for number in range(12, 20):
        save_photograph(lib / "Cid" / f"{number}.png", number)
    (lib / "Ann" / "0.png").rename(lib / "Bob" / "moved.png")
    old = contents(tmp_path / "base")
    killed = 0
    for number in range(moments):
        change = CHANGES[number % len(CHANGES)]
        gallery = tmp_path / "work"
        shutil.rmtree(str(gallery), ignore_errors=True)
        shutil.copytree(str(tmp_path / "base"), str(gallery))
        (tmp_path / "change.py").write_text(
            KILLED.format(path=sys.path, change=change.format(gallery=str(gallery))))
        process = forked.Process([str(tmp_path / "change.py")], tmp_path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.random() * (0.4 if "add" in change else 0.06))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        left = contents(gallery)  # which reads all of it, and has SQLite check it
        if left != old:
            assert left == contents_after(change, tmp_path), change
    assert killed >= max(1, moments // 10)


def contents_after(change, tmp_path, known={}):  # noqa: B006  one for all
    """What a change makes of the old state when nobody kills it."""
    if (change, tmp_path) not in known:
        gallery = tmp_path / "whole"
        shutil.rmtree(str(gallery), ignore_errors=True)
        shutil.copytree(str(tmp_path / "base"), str(gallery))
        exec(change.format(gallery=str(gallery)), {"indexing": indexing, "people": people})
        known[change, tmp_path] = contents(gallery)
    return known[change, tmp_path]


@pytest.fixture
def tiny_encoder(monkeypatch):
    monkeypatch.setattr(indexing, "open_encoder", lambda *_: TinyEncoder())


@pytest.mark.usefixtures("tiny_encoder")
def test_killed_at_random_moments_a_gallery_is_the_old_or_the_new_one(tmp_path):
    check_killed(tmp_path, 6)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_encoder")
def test_killed_at_200_random_moments(tmp_path):
    check_killed(tmp_path, 200)


def test_a_full_disk_changes_nothing(tmp_path):
    write_gallery(tmp_path / "g", PEOPLE, names=NAMES.__getitem__, paths=PATHS).close()
    before = contents(tmp_path / "g"), sorted(os.listdir(str(tmp_path / "g")))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (1, 3000, 30000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            for change in (lambda: add_to_gallery(tmp_path / "g", list(range(3000))),
                           lambda: people.remove(tmp_path / "g", names=["Ann"])):
                try:
                    with pytest.raises(Failed):
                        change()
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                assert (contents(tmp_path / "g"), sorted(os.listdir(str(tmp_path / "g")))) == before
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_copied_moved_and_mounted_read_only(gallery, tmp_path):
    expected = contents(gallery.path)
    shutil.copytree(str(gallery.path), str(tmp_path / "copy"))
    gallery.close()
    gallery.path.rename(tmp_path / "moved")
    assert contents(tmp_path / "copy") == contents(tmp_path / "moved") == expected
    if not is_mounted_read_only(tmp_path / "moved"):
        pytest.skip("cannot mount")
    try:
        assert contents(tmp_path / "moved") == expected
        with pytest.raises(UserError):
            people.remove(tmp_path / "moved", ids=[0])
        with pytest.raises(UserError) as refusal:
            people.rename(tmp_path / "moved", "p0", "Eve")
        assert refusal.value.exit_code == 2 and str(tmp_path / "moved") in str(refusal.value)
    finally:
        subprocess.run(["umount", str(tmp_path / "moved")], check=True)
    # With changes in the log that nobody has merged, as a kill leaves them.
    with Gallery.open(tmp_path / "moved"):
        add_to_gallery(tmp_path / "moved", [0]).close()
        shutil.copytree(str(tmp_path / "moved"), str(tmp_path / "live"))
    newer = contents(tmp_path / "live")
    assert newer != expected and newer == contents(tmp_path / "moved")


def is_mounted_read_only(path):
    """Mounts a folder read-only at its own place; whether that worked."""
    try:
        for options in (["--bind", str(path)], ["-o", "remount,ro,bind"]):
            subprocess.run(["mount"] + options + [str(path)], check=True,
                           stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        (path / "x").write_text("x")
    except OSError as error:
        return error.errno == errno.EROFS
    return False


# Names


def test_few_bits_are_owned_up_to(tmp_path):
    numbers = [number % 30 for number in range(120)]
    with write_gallery(tmp_path / "g", numbers, num_bits=3) as gallery:
        judge = Judge(gallery)
        assert judge.threshold is None and "3 bits" in judge.why_nobody()
        verdict = judge.verdict(open_index(gallery), gallery.codes[0])
        assert verdict.name is None and verdict.nearest == 0 and verdict.reason
        assert Judge(gallery, threshold=0).verdict(
            open_index(gallery), gallery.codes[0]).threshold == 0


def test_votes_are_shared_inside_a_tie(tmp_path):
    """Three voters; one face at distance 0, then four tie for the two votes that are left."""
    codes = np.array([[1, 1, 1, 1]] + [[1, 1, 1, -1]] * 4 + [[-1, -1, -1, -1]])
    write_gallery(tmp_path / "g", [], num_bits=4).close()
    with Writer(tmp_path / "g") as writer:
        for code, name in zip(packing.pack(codes), ["Bob", "Ann", "Ann", "Ann", None, "Eve"]):
            writer.add_face(None, 0, writer.person(name), code, 0, colour(1))
        writer.commit()
    gallery = Gallery.open(tmp_path / "g")
    index = open_index(gallery)
    verdict = Judge(gallery, threshold=1, voters=3).verdict(index, packing.pack(codes[:1])[0])
    assert verdict.name == "Ann" and verdict.votes == [("Ann", 1.5), ("Bob", 1.0)]
    assert verdict.support == pytest.approx(0.5) and verdict.nearest == 0
    near = Judge(gallery, threshold=0, voters=3).verdict(index, packing.pack(codes[:1])[0])
    assert near.votes == [("Bob", 1.0)]
    far = Judge(gallery, threshold=1).verdict(index,
                                              packing.pack(np.array([[-1, 1, 1, -1]]) * -1)[0])
    assert far.name is None and far.nearest == 2
    gallery.close()
