"""Galleries: what is written is read back, changes are whole, damage is named, nobody stays."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_gallery import add_to_gallery, codes_of_people, colour, metadata, write_gallery

from evaluation import packing
from gallery import changes, gallery_items
from gallery.answers import Judge
from gallery.gallery import Gallery
from gallery.gallery_writer import GalleryWriter, check_same_encoder
from gallery.indexing import Photograph
from gallery.threshold import Calibration, calibrate
from runtime.errors import UserError

PEOPLE = [0, 0, 1, 1, 1, 2]
PATHS = ["/p/Ann/1.jpg", "/p/Ann/2.jpg", "/p/Bob/\udcff.jpg", "/p/Bob/2.jpg", "/p/Bob/3.jpg",
         "/p/z.png"]
NAMES = ["Ann", "Bob \u738b\n<b>", None]


@pytest.fixture
def gallery(tmp_path):
    with write_gallery(tmp_path / "g", PEOPLE, names=NAMES.__getitem__, paths=PATHS) as written:
        yield written


def thumbnails(gallery):
    return [gallery.thumbnail(row) for row in range(len(gallery))]


def test_what_is_written_is_read_back(gallery):
    with Gallery.open(gallery.path) as found:
        items = found.contents.items
        np.testing.assert_array_equal(items.codes, codes_of_people(PEOPLE, 48))
        assert items.ids.tolist() == list(range(6))
        assert [found.name(row) for row in range(6)] == [NAMES[person] for person in PEOPLE]
        assert [found.photograph(row) for row in range(6)] == PATHS
        assert items.boxes.tolist() == [[1, 2, 3, 4]] * 6
        assert found.contents.photographs.sizes.tolist() == list(range(100, 106))
        assert thumbnails(found) == [colour(number) for number in range(6)]
        assert found.state["engine"] == "flat" and found.num_bits == 48
        assert found.is_current()
        with pytest.raises(KeyError):
            found.row_of(6)


def test_ids_stay_and_are_not_given_twice(gallery):
    removed, count = changes.remove(gallery.path, ids=[5])
    assert count == 1 and removed.contents.items.ids.tolist() == [0, 1, 2, 3, 4]
    added = add_to_gallery(gallery.path, [0, 3])
    assert added.contents.items.ids.tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert added.contents.names == NAMES[:2] + ["person 0", "person 3"]
    assert thumbnails(added) == [colour(number) for number in (0, 1, 2, 3, 4, 1000, 1001)]
    # The state that was opened before goes on as it was.
    assert not gallery.is_current()
    assert len(gallery) == 6 and thumbnails(gallery)[5] == colour(5)
    again, counts = changes.remove(gallery.path, names=["Ann"], files=["/p/Bob/3.jpg"])
    assert counts == 3 and again.contents.items.ids.tolist() == [2, 3, 6, 7]
    assert [again.photograph(row) for row in range(4)] == PATHS[2:4] + [None, None]


@pytest.mark.parametrize("what", [dict(names=["Ann"]), dict(files=["/p/Ann"]), dict(ids=[0, 1])])
def test_nothing_of_a_removed_face_stays(gallery, what):
    changes.remove(gallery.path, **what)
    files = [path for path in gallery.path.rglob("*") if path.is_file()]
    whole = b"".join(path.read_bytes() for path in files)
    for gone in (colour(0), colour(1), b"Ann"):
        assert gone not in whole
    for kept in (colour(2), colour(5), b"Bob"):
        assert kept in whole
    # But it is known that these two photographs, unless they change, are to stay out.
    with Gallery.open(gallery.path) as found:
        known = changes.known_photographs(found)
        for number, expected in enumerate((True, True, True, False)):
            photograph = Photograph((PATHS[:3] + ["/p/new.jpg"])[number], None, 100 + number,
                                    200 + number)
            assert changes.is_known(photograph, known) == expected
            assert not changes.is_known(photograph._replace(time=7), known)


@pytest.mark.parametrize("what", [dict(ids=[1, 77]), dict(names=["Ann", "Eve"]),
                                  dict(files=["/p/Ann", "/p/Eve"])])
def test_removing_what_is_not_there_removes_nothing(gallery, what):
    with pytest.raises(UserError):
        changes.remove(gallery.path, **what)
    assert gallery.is_current()
    with GalleryWriter(gallery.path):  # nor is the folder locked any more
        pass


def test_an_emptied_gallery_says_so(gallery):
    emptied, count = changes.remove(gallery.path, files=["/p"])
    assert count == 6 and len(emptied) == 0 and emptied.calibration is None
    with pytest.raises(UserError) as refusal:
        emptied.index()
    assert "empty" in str(refusal.value)
    assert len(add_to_gallery(gallery.path, PEOPLE)) == 6


def test_damage_is_named(gallery, tmp_path):
    kinds = set()
    for name in list(gallery.state["files"]) + ["gallery.json"]:
        whole = (gallery.path / name).read_bytes()
        kinds.add(name.split("-")[0])
        for damaged in (whole[:-2], whole[:10] + bytes([whole[10] ^ 4]) + whole[11:], None):
            copy = tmp_path / "copy"
            shutil.copytree(str(gallery.path), str(copy))
            if damaged is None:
                (copy / name).unlink()
            else:
                (copy / name).write_bytes(damaged)
            with pytest.raises(UserError) as refusal:
                with Gallery.open(copy) as found:
                    found.check()
            assert name in str(refusal.value)
            shutil.rmtree(str(copy))
    assert kinds == {"items", "thumbnails", "encoder", "gallery.json"}


def test_half_made_and_foreign_folders(tmp_path):
    with GalleryWriter(tmp_path / "half"):
        pass
    for path in ("half", "nothing"):
        with pytest.raises(UserError) as refusal:
            Gallery.open(tmp_path / path)
        assert path in str(refusal.value)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "precious").write_text("x")
    with pytest.raises(UserError):
        GalleryWriter(tmp_path / "foreign")
    assert (tmp_path / "foreign" / "precious").read_text() == "x"


@pytest.mark.parametrize("change", [
    dict(num_bits=36), dict(crop={"method": "detect"}), dict(data="other"), dict(epoch=3),
    dict(mean=5.0), dict(settings={"seed": 1}), dict(provenance=[{"start": "2027-01-01"}])])
def test_another_encoder_is_refused(gallery, change):
    check_same_encoder(gallery, metadata(run="/moved/elsewhere"))
    with pytest.raises(UserError) as refusal:
        check_same_encoder(gallery, metadata(**change))
    assert str(gallery.path) in str(refusal.value)


def test_one_writer_and_readers_always(tmp_path):
    path, stop, problems, read = tmp_path / "g", threading.Event(), [], []
    write_gallery(path, PEOPLE).close()

    def read_on():
        while not stop.is_set():
            try:
                with Gallery.open(path) as gallery:
                    assert len(thumbnails(gallery)) == len(gallery.contents.items.codes)
                    read.append(gallery.state["generation"])
            except BaseException as error:
                problems.append(repr(error))
                return

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    with GalleryWriter(path):
        with pytest.raises(UserError):  # a second one
            GalleryWriter(path)
    for number in range(10):
        add_to_gallery(path, [number]).close()
        changes.remove(path, ids=[6 + number])[0].close()
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == [] and len(set(read)) > 1


def test_killed_at_any_step_a_gallery_is_the_old_one_or_the_new_one(tmp_path):
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_changes.py")), str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) > 60


def test_lists_grow_with_the_gallery(tmp_path):
    people = [number % 30 for number in range(400)]
    write_gallery(tmp_path / "g", people, engine="ivf").close()
    with GalleryWriter(tmp_path / "g") as writer:
        assert writer._longer_lists(writer.old.contents.items.codes) is not None
        assert writer._longer_lists(writer.old.contents.items.codes[1:]) is None
    with add_to_gallery(tmp_path / "g", people[:50]) as grown:
        assert grown.state["engine"] == "flat"  # which suits; nobody asked for lists this time
        assert not any(name.startswith("lists") for name in grown.state["files"])


def calibrated(people, codes, num_bits, probes=((), ())):
    contents = gallery_items.empty_contents()
    count = len(people)
    items = gallery_items.Items(*(
        np.zeros((count, 4) if name == "boxes" else count, kind)
        for name, kind in zip(gallery_items.Items._fields, gallery_items.ITEM_TYPES)))
    items = items._replace(codes=packing.pack(np.array(codes)), identities=np.array(people))
    probe_codes = packing.pack(np.array(probes[0])) if len(probes[0]) else contents.probe_codes
    return calibrate(contents._replace(items=items, probe_codes=probe_codes,
                                       probe_identities=np.array(probes[1], np.int32)), num_bits)


def test_calibration_by_hand():
    # Ann: 0000 twice, 0001. Bob: 0111. Nobody's: 1111.
    codes = [[-1, -1, -1, -1]] * 2 + [[-1, -1, -1, 1], [-1, 1, 1, 1], [1, 1, 1, 1]]
    found = calibrated([0, 0, 0, 1, -1], codes, 4)
    # As strangers: Ann's faces lie 3, 3 and 2 from Bob's, Bob's 2 from the nearest of Ann's.
    assert found.accepted == [0, 0, 2, 4, 4] and found.probes == 4
    # As known: Ann's lie 0, 0 and 1 from another of hers; Bob has no other.
    assert found.missed == [1, 0, 0, 0, 0] and found.known == 3 and not found.of_queries
    assert found.threshold(0.01) == 1 and found.threshold(0.5) == 2 and found.threshold(1) == 4
    # A query of Bob, 1111: 3 from Ann, 1 from his own.
    queries = calibrated([0, 0, 0, 1, -1], codes, 4, ([[1, 1, 1, 1]], [1]))
    assert queries.accepted == [0, 0, 0, 1, 1] and queries.missed == [1, 0, 0, 0, 0]
    assert queries.of_queries and queries.threshold(0.01) == 2
    assert calibrated([0, 0, -1], codes[:3], 4) is None  # one person is nobody's stranger


def test_few_bits_are_owned_up_to(tmp_path):
    people = [number % 30 for number in range(120)]
    with write_gallery(tmp_path / "g", people, num_bits=3) as gallery:
        judge = Judge(gallery)
        assert judge.threshold is None and "3 bits" in judge.why_nobody()
        verdict = judge.verdict(gallery.index(), gallery.contents.items.codes[0])
        assert verdict.name is None and verdict.nearest == 0 and verdict.reason
        assert Judge(gallery, threshold=0).verdict(
            gallery.index(), gallery.contents.items.codes[0]).threshold == 0


def test_confidence_of_a_rate():
    none_of_300 = Calibration(300, [0, 3, 300], 0, [], False)
    assert none_of_300.highest_rate(0) == pytest.approx(1 - 0.05 ** (1 / 300))  # rule of three
    assert none_of_300.highest_rate(2) == 1 and none_of_300.miss_rate(0) is None
    # Three of 300: the binomial tail at the bound is 5 %.
    rate = none_of_300.highest_rate(1)
    tail = sum(np.exp(sum(np.log(np.arange(300 - k + 1, 301))) - sum(np.log(np.arange(1, k + 1))))
               * rate ** k * (1 - rate) ** (300 - k) for k in range(4))
    assert tail == pytest.approx(0.05)


def test_votes_are_shared_inside_a_tie(tmp_path):
    """Three voters; one face at distance 0, then four tie for the two votes that are left."""
    codes = np.array([[1, 1, 1, 1]] + [[1, 1, 1, -1]] * 4 + [[-1, -1, -1, -1]])
    with GalleryWriter(tmp_path / "g") as writer:
        folder = writer.path / writer.encoder_folder()
        folder.mkdir()
        for code, name in zip(packing.pack(codes), ["Bob", "Ann", "Ann", "Ann", None, "Eve"]):
            writer.add_face(code, name, colour(1))
        gallery = writer.commit(writer.added(0), writer.encoder_folder(), metadata(4))
    verdict = Judge(gallery, threshold=1, voters=3).verdict(
        gallery.index(), packing.pack(codes[:1])[0])
    assert verdict.name == "Ann" and verdict.votes == [("Ann", 1.5), ("Bob", 1.0)]
    assert verdict.support == pytest.approx(0.5) and verdict.nearest == 0
    near = Judge(gallery, threshold=0, voters=3).verdict(gallery.index(),
                                                         packing.pack(codes[:1])[0])
    assert near.votes == [("Bob", 1.0)]
    far = Judge(gallery, threshold=1).verdict(gallery.index(),
                                              packing.pack(np.array([[-1, 1, 1, -1]]) * -1)[0])
    assert far.name is None and far.nearest == 2
    gallery.close()
