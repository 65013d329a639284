"""Photograph files of many kinds, read as RGB, the right way up."""

import struct
import sys
import types
import zlib

import numpy as np
import pytest
from face_pictures import photo, save
from PIL import Image

from faces import photographs


def opened(path):
    with photographs.quiet_pillow():
        return np.asarray(photographs.open_photograph(path)[0])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_modes(tmp_path, mode):
    image = photo(1).convert("L" if mode in ("LA", "1") else "RGB").convert(mode)
    path = save(image, tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    np.testing.assert_allclose(opened(path), np.asarray(image.convert("RGB")), atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    values = (np.arange(4096).reshape(64, 64) * 16).astype(np.uint16)
    path = save(Image.fromarray(values), tmp_path / ("deep." + suffix))
    np.testing.assert_array_equal(opened(path), np.rint(values / 257)[:, :, None].repeat(3, 2))


def test_sixteen_bit_pgm(tmp_path):
    values = (np.arange(64).reshape(8, 8) * 1000).astype(">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5\n8 8\n65535\n" + values.tobytes())
    np.testing.assert_array_equal(opened(tmp_path / "deep.pgm")[:, :, 0], np.rint(values / 257))


def test_sixteen_bit_colour_png(tmp_path):
    values = np.random.RandomState(0).randint(0, 65536, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data))
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    np.testing.assert_allclose(opened(tmp_path / "deep.png"), values / 257, atol=1)


@pytest.mark.parametrize("values", [
    np.array([[0, 70000]], np.int32), np.array([[-1, 5]], np.int32),
    np.array([[0, 0.5]], np.float32)], ids=["above", "below", "float"])
def test_pixels_whose_white_is_unknown_are_refused(tmp_path, values):
    path = save(Image.fromarray(values), tmp_path / "x.tif")
    with pytest.raises(photographs.PhotographError, match="white") as caught:
        opened(path)
    assert caught.value.code == "unreadable"


def test_transparent_parts_are_white(tmp_path):
    values = np.zeros((4, 4, 4), np.uint8)
    values[:, :2] = (200, 10, 20, 255)
    values[3, 3] = (0, 0, 0, 128)
    image = Image.fromarray(values)
    pixels = opened(save(image, tmp_path / "a.png"))
    assert pixels[0, 0].tolist() == [200, 10, 20]
    assert pixels[0, 3].tolist() == [255, 255, 255] and 120 < pixels[3, 3, 0] < 135
    palette = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    palette.putpalette([9, 8, 7, 50, 60, 70, 90, 91, 92] + [0] * 759)
    path = save(palette, tmp_path / "p.png", transparency=b"\xff\x00\xff")
    assert opened(path).tolist() == [[[9, 8, 7], [255] * 3], [[90, 91, 92], [9, 8, 7]]]


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_the_first_picture_of_an_animation(tmp_path, suffix):
    pictures = [photo(seed, (32, 32)) for seed in range(3)]
    path = save(pictures[0], tmp_path / ("x." + suffix), save_all=True,
                append_images=pictures[1:], **({"lossless": True} if suffix == "webp" else {}))
    difference = [np.abs(opened(path).astype(int) - np.asarray(picture)).mean()
                  for picture in pictures]
    assert difference[0] < 12 and difference[0] < min(difference[1:]) / 3


@pytest.mark.parametrize("orientation, undo", [
    (2, Image.FLIP_LEFT_RIGHT), (3, Image.ROTATE_180), (4, Image.FLIP_TOP_BOTTOM),
    (5, Image.TRANSPOSE), (6, Image.ROTATE_90), (7, Image.TRANSVERSE), (8, Image.ROTATE_270)])
def test_exif_orientation(tmp_path, orientation, undo):
    upright = photo(2, (30, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(upright.transpose(undo), tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(opened(path), np.asarray(upright))


def test_damaged_exif_does_no_harm(tmp_path):
    path = save(photo(2), tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert opened(path).shape == (40, 40, 3)


def test_names_do_not_decide(tmp_path):
    path = save(photo(3), tmp_path / "x.png")
    path.rename(tmp_path / "x.jpg")
    np.testing.assert_array_equal(opened(tmp_path / "x.jpg"), np.asarray(photo(3)))


@pytest.mark.parametrize("data", [
    b"", b"not a picture", b"\xff\xd8\xff\xe0" + bytes(40), b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image(tmp_path, data):
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(photographs.PhotographError, match="x.jpg") as caught:
        opened(tmp_path / "x.jpg")
    assert caught.value.code == "unreadable"


def test_cut_files_are_refused(tmp_path):
    whole = save(photo(3, (200, 200)), tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(photographs.PhotographError):
        opened(tmp_path / "x.jpg")


def test_too_many_pixels(tmp_path, monkeypatch):
    path = save(Image.new("1", (20000, 20000)), tmp_path / "huge.png")  # a file of 50 kB
    with pytest.raises(photographs.PhotographError, match="pixels") as caught:
        opened(path)
    assert caught.value.code == "too_large"
    path = save(photo(1), tmp_path / "x.png")
    for share in (0.1, 0.7):  # an error and a warning to Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(share * 1600))
        with pytest.raises(photographs.PhotographError) as caught:
            opened(path)
        assert caught.value.code == "too_large"


def test_heic_where_the_package_is(monkeypatch):
    registered = []
    module = types.ModuleType("pillow_heif")
    module.register_heif_opener = lambda: registered.append(Image.register_open(
        "HEIF", lambda *_: None))
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    photographs._readable_formats.cache_clear()
    try:
        assert ".heic" in photographs.readable_extensions() and registered
    finally:
        photographs._readable_formats.cache_clear()
