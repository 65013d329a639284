"""Photographs -> faces as the gallery's were cut; faces of photographs into a gallery."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from face_pictures import orl_face, photo, save, scene
from PIL import Image
from tiny_gallery import metadata

from data_loader import load_orl
from evaluation import packing
from faces import cropping
from faces.photographs import PhotographError, open_photograph, photograph_of
from gallery import indexing
from gallery.gallery_writer import GalleryWriter
from gallery.query_faces import find_faces
from runtime.errors import UserError

DETECT = metadata(crop=cropping.detect_crop(32), dataset="photographs")
PLACES = [(60, 60), (330, 110)]


def two_faces():
    """A picture with a large face on its right and a smaller one on its left."""
    small, large = orl_face(1, 1), orl_face(5, 1)
    return scene([(small, PLACES[0]), (large.resize((138, 168)), PLACES[1])], (520, 340))


class Brightness:
    """Stands for an encoder: a bit is whether a pixel is bright."""

    metadata = DETECT

    def encode(self, images):
        return np.where(images.reshape(len(images), -1)[:, :48 * 64:64] > 127, 1, -1)


def test_every_face_is_a_query_of_its_own():
    found = find_faces(photograph_of(two_faces()), DETECT)
    assert len(found) == 2
    for face, (left, top), (width, height) in zip(found, PLACES[::-1], ((138, 168), (92, 112))):
        assert face.pixels.shape == (32, 32, 3) and face.pixels.dtype == np.uint8
        center = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        assert left < center[0] < left + width and top < center[1] < top + height
        with Image.open(io.BytesIO(face.thumbnail)) as image:
            assert image.format == "JPEG" and max(image.size) <= 96
    assert find_faces(photograph_of(photo(1, (200, 200))), DETECT) == []


def test_a_known_way_of_cropping_is_repeated():
    expected, _ = load_orl(32, 3)[0]
    face = find_faces(photograph_of(orl_face(3, 1)), metadata())[0]
    np.testing.assert_array_equal(face.pixels, expected[2])
    coloured = photo(4, (92, 112))
    grey, as_it_is = [find_faces(photograph_of(coloured), metadata(dataset=name))[0].pixels
                      for name in ("orl", "other")]
    assert np.all(grey == grey[:, :, :1]) and not np.all(as_it_is == as_it_is[:, :, :1])
    whole, = find_faces(photograph_of(coloured), metadata(crop=cropping.box_crop(32)))
    assert whole.box == (0, 0, 92, 112)
    with pytest.raises(UserError):  # of a version that this program does not repeat
        find_faces(photograph_of(coloured), metadata(crop=dict(cropping.box_crop(32), version=0)))


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
    os.symlink("..", str(tmp_path / "in" / "loop"))
    photographs = indexing.find_photographs(tmp_path / "in")
    # In order of their paths within each folder, a folder's own first.
    assert [path.path.rsplit("/in/")[1] for path in photographs] == [
        "none.png", "text.png", "two.png", "Ann/1.png"]
    with GalleryWriter(tmp_path / "g") as writer:
        counts = indexing.add_photographs(writer, Brightness(), photographs[::-1], faces)
        contents = writer.added(0)
    assert counts["photographs"] == 4 and counts["faces"] == len(expected)
    assert counts["no face found"] == 1 and counts["no whole image"] == 1
    items = contents.items
    assert [(None if number < 0 else contents.names[number], face)
            for number, face in zip(items.identities, items.faces)] == expected
    found = find_faces(photograph_of(two_faces()), DETECT)
    codes = packing.pack(Brightness().encode(np.stack([face.pixels for face in found])))
    assert items.codes.tolist() == [codes[face] for _, face in expected]
    assert [contents.photographs.paths[number].rsplit("/in/")[1] for number in (0, 1)] == [
        "Ann/1.png", "two.png"]
