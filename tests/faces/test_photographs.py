"""Photograph files of many kinds, read as RGB, the right way up."""

import hashlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from face_pictures import HEIC_FOLDER, STORED, heic_picture, photo, save, written
from PIL import Image

from faces import photographs


def opened(path):
    with photographs.quiet_pillow():
        return np.asarray(photographs.open_photograph(path).image)


def decoded(data):
    with photographs.quiet_pillow():
        return photographs.decode_photograph(data)


def difference(image, other):
    """The mean difference of two images' pixels; 999 if their sizes differ."""
    if image.size != other.size:
        return 999
    return np.abs(np.asarray(image).astype(int) - np.asarray(other)).mean()


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


def deep_png(width, height, rows):
    """The bytes of a PNG file of 16 bits a colour; rows as the format stores them."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_sixteen_bit_colour_png(tmp_path):
    values = np.random.RandomState(0).randint(0, 65536, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(deep_png(8, 8, rows))
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
    differences = [np.abs(opened(path).astype(int) - np.asarray(picture)).mean()
                   for picture in pictures]
    assert differences[0] < 12 and differences[0] < min(differences[1:]) / 3


# Of each format as it is written: (Pillow's name, options, what JPEG and the like may change).
FORMS = {"jpg": ("JPEG", {"quality": 90}, 4), "progressive": ("JPEG", {"progressive": True}, 6),
         "mpo": ("MPO", {"quality": 90}, 4), "png": ("PNG", {}, 0),
         "webp": ("WEBP", {"lossless": True}, 0), "tif": ("TIFF", {}, 0),
         "tif_lzw": ("TIFF", {"compression": "tiff_lzw"}, 0),
         "tif_jpeg": ("TIFF", {"compression": "jpeg"}, 6)}
if "AVIF" in Image.SAVE:
    FORMS["avif"] = ("AVIF", {"quality": 90}, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", FORMS)
def test_all_formats_become_upright_whatever_their_orientation(tmp_path, form, orientation):
    image = photo(2, (96, 64))
    name, options, most = FORMS[form]
    data = written(image, name, orientation, **options)
    assert difference(decoded(data).image, image) <= most  # as uploaded
    (tmp_path / "x.jpg").write_bytes(data)
    photograph = photographs.open_photograph(tmp_path / "x.jpg")  # whatever its name says
    assert difference(photograph.image, image) <= most
    assert (photograph.size, photograph.shrunk) == (image.size, 1) and not photograph.incomplete
    assert photograph.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_becomes_upright_whatever_its_orientation(tmp_path, orientation):
    data = (HEIC_FOLDER / f"orientation_{orientation}.heic").read_bytes()
    assert difference(decoded(data).image, heic_picture()) < 6
    (tmp_path / "x.jpg").write_bytes(data)
    photograph = photographs.open_photograph(tmp_path / "x.jpg")
    assert difference(photograph.image, heic_picture()) < 6
    assert photograph.size == (96, 64)
    with pytest.raises(photographs.PhotographError) as caught:
        decoded(data[:800])
    assert caught.value.code == "unreadable"


def test_orientation_in_xmp():
    # some programs write it there alone
    xmp = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
           b'22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
           b'tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')
    content = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    buffer = io.BytesIO()
    image = photo(2, (96, 64))
    image.transpose(STORED[6]).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]
    assert difference(decoded(data).image, image) < 4


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


def test_an_incomplete_jpeg_gives_what_is_there():
    image = photo(3, (640, 480))
    for options in ({}, {"subsampling": 0}, {"progressive": True}):
        for orientation, (left, top, right, bottom) in (
                (1, (0, 0, 640, 360)), (3, (0, 120, 640, 480)), (4, (0, 120, 640, 480)),
                (5, (0, 0, 480, 480)), (6, (160, 0, 640, 480)), (8, (0, 0, 480, 480))):
            data = written(image, "JPEG", orientation, quality=90, **options)
            assert not decoded(data).incomplete
            assert not decoded(data + b"trailer").incomplete
            last = decoded(data[:-2])
            assert last.incomplete and last.read == (0, 0, 640, 480)
            assert difference(last.image, image) < 4
            cut = decoded(data[:len(data) * 9 // 10])
            assert cut.incomplete and cut.size == cut.image.size == (640, 480)
            kept = cut.image.crop((left, top, right, bottom))
            assert difference(kept, image.crop((left, top, right, bottom))) < 12
            if not options.get("progressive"):
                # what was read is no less than that, and no more than nine tenths and a bit
                assert (cut.read[0] <= left and cut.read[1] <= top
                        and cut.read[2] >= right and cut.read[3] >= bottom)
                whole = (cut.read[2] - cut.read[0]) * (cut.read[3] - cut.read[1])
                assert 0.75 < whole / (640 * 480) < 0.97
    grey = decoded(written(photo(3, (64, 64), "L"), "JPEG")[:-2])
    assert grey.read == (0, 0, 64, 64)


def test_files_without_a_whole_row_or_header_are_refused_or_empty():
    data = written(photo(3, (640, 480)), "JPEG", quality=90)
    header = data.index(b"\xff\xda")
    assert decoded(data[:header + 20]).read == (0, 0, 640, 0)
    for length in (3, 20, header):
        with pytest.raises(photographs.PhotographError) as caught:
            decoded(data[:length])
        assert caught.value.code == "unreadable"
    with pytest.raises(photographs.PhotographError):
        decoded(written(photo(3, (640, 480)), "PNG")[:-3000])


@pytest.mark.parametrize("side", [10000, 20000])  # a warning and an error to Pillow
def test_a_png_of_too_many_pixels_is_refused_before_it_is_decoded(side):
    start = time.process_time()
    with pytest.raises(photographs.PhotographError, match="pixels") as caught:
        decoded(deep_png(side, side, bytes(10 ** 6)))
    assert caught.value.code == "too_large" and time.process_time() - start < 1


def claiming(width, height, **options):
    """A small JPEG whose header claims another size."""
    data = written(photo(1, (64, 64)), "JPEG", **options)
    start = next(data.index(marker) for marker in (b"\xff\xc0\0\x11", b"\xff\xc2\0\x11")
                 if marker in data)
    return data[:start + 5] + struct.pack(">HH", height, width) + data[start + 9:]


@pytest.mark.parametrize("data", [
    claiming(65000, 65000), claiming(20000, 20000, progressive=True, subsampling=0),
    claiming(40000, 25001)], ids=["time", "scans", "limit"])
def test_jpegs_that_would_take_too_much_are_refused_before_they_are_decoded(data):
    start = time.process_time()
    with pytest.raises(photographs.PhotographError) as caught:
        decoded(data)
    assert caught.value.code == "too_large" and time.process_time() - start < 1


def test_a_jpeg_in_several_scans_is_told_from_one(monkeypatch):
    monkeypatch.setattr(photographs, "MOST_PIXELS", 1000)
    monkeypatch.setattr(photographs, "MOST_SHRUNK", 1000)
    monkeypatch.setattr(photographs, "MOST_COEFFICIENT_BYTES", 10000)
    image = photo(4, (100, 60))
    for options in ({}, {"subsampling": 0}, {"comment": b"x" * 100}):
        assert decoded(written(image, "JPEG", **options)).shrunk == 4
    assert decoded(written(image.convert("L"), "JPEG")).shrunk == 4
    with pytest.raises(photographs.PhotographError, match="scans"):
        decoded(written(image, "JPEG", progressive=True))
    # the same scan's header, of one channel of three
    data = written(image, "JPEG")
    start = data.index(b"\xff\xda\0\x0c\x03")
    scan = b"\xff\xda\0\x08\x01" + data[start + 5:start + 7] + data[start + 11:]
    with pytest.raises(photographs.PhotographError, match="scans"):
        decoded(data[:start] + scan)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("shrunk", [2, 4, 8])
def test_large_jpegs_are_shrunk_while_they_are_decoded(monkeypatch, orientation, shrunk):
    monkeypatch.setattr(photographs, "MOST_SHRUNK", 801 * 603 / shrunk ** 2)
    monkeypatch.setattr(photographs, "MOST_PIXELS", 100000)
    image = photo(4, (801, 603))
    photograph = decoded(written(image, "JPEG", orientation, quality=90))
    assert photograph.size == (801, 603) and photograph.shrunk == shrunk
    assert photograph.image.size == (-(-801 // shrunk), -(-603 // shrunk))
    assert difference(photograph.image, image.resize(photograph.image.size, Image.BOX)) < 3
    assert photograph.image_box((0, 0, 800, 600)) == (0, 0, 800 / shrunk, 600 / shrunk)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_boxes_and_points_by_hand(degrees):
    image = Image.new("RGB", (7, 5))
    image.putpixel((2, 1), (255, 0, 0))
    turned = photographs.turn_image(image, degrees)
    box = photographs.turn_box((2, 1, 3, 2), image.size, degrees)
    assert box == turned.getbbox()
    assert photographs.turn_box(box, turned.size, (360 - degrees) % 360) == (2, 1, 3, 2)
    center, = photographs.turn_points([(2.5, 1.5)], image.size, degrees)
    assert turned.getpixel(tuple(int(edge) for edge in center)) == (255, 0, 0)
    photograph = photographs.photograph_of(image)._replace(size=(14, 10), shrunk=2)
    assert photograph.turned_box((4, 2, 6, 4), degrees) == box
