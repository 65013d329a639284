"""Photographs -> faces as the gallery's were cut; faces of photographs into a gallery."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from face_pictures import orl_face, photo, save, scene
from PIL import Image
from tiny_gallery import TinyEncoder, index_folders, metadata, write_gallery

from data_loader import load_orl
from evaluation import packing
from faces import cropping
from faces.photographs import PhotographError, open_photograph, photograph_of
from gallery import indexing
from gallery.answers import Judge
from gallery.people import remove
from gallery.questions import find_faces
from gallery.store import Gallery
from methods.export import Encoder
from runtime.errors import UserError

DETECT = metadata(crop=cropping.detect_crop(32), dataset="photographs")
PLACES = [(60, 60), (330, 110)]


def two_faces():
    """A picture with a large face on its right and a smaller one on its left."""
    small, large = orl_face(1, 1), orl_face(5, 1)
    return scene([(small, PLACES[0]), (large.resize((138, 168)), PLACES[1])], (520, 340))


class Detecting(TinyEncoder):
    """An encoder whose faces are sought in photographs."""

    metadata = DETECT


def encoder_of(**changes):
    """An encoder with this metadata."""
    return Encoder(metadata(**changes), None, None)


def test_every_face_is_a_query_of_its_own():
    found = find_faces(photograph_of(two_faces()), Detecting())
    assert len(found) == 2
    for face, (left, top), (width, height) in zip(found, PLACES[::-1], ((138, 168), (92, 112))):
        assert face.pixels.shape == (32, 32, 3) and face.pixels.dtype == np.uint8
        center = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        assert left < center[0] < left + width and top < center[1] < top + height
        with Image.open(io.BytesIO(face.thumbnail)) as image:
            assert image.format == "JPEG" and max(image.size) <= 96
    assert find_faces(photograph_of(photo(1, (200, 200))), Detecting()) == []


def test_a_known_way_of_cropping_is_repeated():
    expected, _ = load_orl()[0]
    face = find_faces(photograph_of(orl_face(3, 1)), encoder_of())[0]
    np.testing.assert_array_equal(face.pixels, expected[2])
    coloured = photo(4, (92, 112))
    grey, as_it_is = [find_faces(photograph_of(coloured), encoder_of(dataset=name))[0].pixels
                      for name in ("orl", "other")]
    assert np.all(grey == grey[:, :, :1]) and not np.all(as_it_is == as_it_is[:, :, :1])
    whole, = find_faces(photograph_of(coloured), encoder_of(crop=cropping.box_crop(32)))
    assert whole.box == (0, 0, 92, 112)
    with pytest.raises(UserError):  # of a version that this program does not repeat
        find_faces(photograph_of(coloured), encoder_of(crop=dict(cropping.box_crop(32), version=0)))


@pytest.mark.parametrize("path", ("/dev/zero", ".", "missing"))
def test_what_is_no_file_is_not_read(path):
    with pytest.raises(PhotographError) as refusal:
        open_photograph(Path(path))
    assert refusal.value.code == "unreadable"


@pytest.mark.parametrize("faces, expected", [
    ("auto", [("Ann", 0), (None, 0), (None, 1)]), ("largest", [("Ann", 0), (None, 0)]),
    ("all", [("Ann", 0), (None, 1), (None, 0), (None, 1)])])
def test_which_faces_get_a_name(tmp_path, faces, expected):
    save(two_faces(), tmp_path / "in" / "Ann" / "1.png")
    save(two_faces(), tmp_path / "in" / "two.png")
    save(photo(1, (100, 100)), tmp_path / "in" / "none.png")
    (tmp_path / "in" / "text.png").write_text("x")
    (tmp_path / "in" / "notes.txt").write_text("not looked at")
    (tmp_path / "in" / ".hidden.png").write_text("nor this")
    os.mkfifo(str(tmp_path / "in" / "pipe.png"))  # which would be waited for
    os.symlink("/dev/zero", str(tmp_path / "in" / "endless.png"))
    os.symlink("nowhere", str(tmp_path / "in" / "dangling.png"))
    os.symlink(".", str(tmp_path / "in" / "loop"))
    report = index_folders(tmp_path / "g", tmp_path / "in", faces=faces, encoder=Detecting)
    assert report.counts["new"] == 4 and report.counts["faces"] == len(expected)
    assert report.counts["no face found"] == 1 and report.counts["no whole image"] == 1
    with Gallery.open(tmp_path / "g") as gallery:
        indexed = gallery.faces(gallery.ids)
        assert [(face.name, face.number) for face in indexed] == expected
        assert [os.path.basename(face.photograph) for face in indexed] == (
            ["1.png"] * (1 + (faces == "all")) + ["two.png"] * (1 + (faces != "largest")))
        found = find_faces(photograph_of(two_faces()), Detecting())
        codes = packing.pack(Detecting().encode(np.stack([face.pixels for face in found])))
        assert gallery.codes.tolist() == [codes[face] for _, face in expected]
        reasons = {os.path.basename(path.rstrip("/")): reason
                   for path, reason, _ in gallery.left_out()}
    assert set(reasons) == {"none.png", "text.png", "notes.txt", ".hidden.png", "pipe.png",
                            "endless.png", "dangling.png", "loop"} and all(reasons.values())


def test_turned_and_incomplete_photographs_are_counted(tmp_path):
    folder = tmp_path / "in"
    save(two_faces().transpose(Image.ROTATE_180), folder / "turned.png")
    save(two_faces(), folder / "upright.png")
    whole = save(two_faces(), folder / "cut.jpg")
    whole.write_bytes(whole.read_bytes()[:-20])
    report = index_folders(tmp_path / "g", folder, encoder=Detecting)
    assert report.counts["turned, and read"] == report.counts["incomplete, and read"] == 1
    assert report.counts["new"] == 3 and not report.counts["no face found"]


def test_the_choice_of_faces_follows_a_photograph(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "open_encoder", lambda *_: Detecting())
    picture = save(two_faces(), tmp_path / "in" / "two.png")
    save(orl_face(3, 1), tmp_path / "in" / "Bob" / "other.png")
    index_folders(tmp_path / "g", tmp_path / "in", encoder=Detecting)

    def faces():
        with Gallery.open(tmp_path / "g") as gallery:
            return [(face.name, face.number) for face in gallery.faces(gallery.ids)
                    if face.photograph.endswith("two.png")]
    assert faces() == [(None, 0), (None, 1)]
    (tmp_path / "in" / "Ann").mkdir()
    Path(str(picture)).rename(tmp_path / "in" / "Ann" / "two.png")  # Ann's face alone is taken
    assert indexing.add(tmp_path / "g").counts["moved"] == 1
    assert faces() == [("Ann", 0)]
    (tmp_path / "in" / "Ann" / "two.png").rename(tmp_path / "in" / "two.png")
    indexing.add(tmp_path / "g")
    assert faces() == [(None, 0), (None, 1)]
    with Gallery.open(tmp_path / "g") as gallery:
        smaller = gallery.ids[-1]
    remove(tmp_path / "g", ids=[smaller])  # and stays out, though the photograph is read again
    for place in ("Ann/two.png", "two.png"):
        next((tmp_path / "in").rglob("two.png")).rename(tmp_path / "in" / place)
        indexing.add(tmp_path / "g")
    assert faces() == [(None, 0)]


def test_no_rate_is_stated_for_people_whom_the_encoder_may_know(tmp_path):
    with write_gallery(tmp_path / "g", sorted(list(range(1, 9)) * 5)) as gallery:
        judge = Judge(gallery, 0.05)
        assert judge.threshold is not None and judge.caution() and judge.strangers() is None
        assert judge.with_threshold(3).strangers() is None
