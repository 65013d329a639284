"""Photograph files -> RGB images: whatever the format, upright."""

import contextlib
import functools
import hashlib
import io
import os
import re
import stat
import struct
import warnings
from typing import NamedTuple

import numpy as np
import pi_heif
import PIL
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from runtime.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pgm", ".ppm", ".pnm", ".bmp", ".webp",
              ".gif", ".tif", ".tiff", ".heic", ".heif", ".hif")
AVIF_EXTENSIONS = (".avif",)  # read where Pillow can
# Formats by content, whatever a file's name says. MPO is what many phones write as .jpg. Others
# that Pillow knows are not tried: some start programs.
FORMATS = ("JPEG", "MPO", "PNG", "PPM", "BMP", "WEBP", "GIF", "TIFF", "HEIF", "AVIF")
# Formats whose decoders turn the pixels as the file's orientation says. Pillow turns TIFF (since
# version 6) and some versions leave the tag in place; libheif turns HEIC.
UPRIGHT_FORMATS = ("TIFF", "HEIF")
TURNS = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM,
         5: Image.TRANSPOSE, 6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}
ORIENTATION_TAG = 0x0112
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

VERSION = 2  # of how pixels are read; goes up when the same file would give other pixels
MOST_BYTES = 500 * 10 ** 6  # of a photograph's file
# Pixels of a picture that is decoded whole: Pillow's own limit against files that threaten memory.
# A JPEG with more is shrunk by 2, 4 or 8 while it is decoded, to at most MOST_SHRUNK pixels.
MOST_PIXELS = 89478485
MOST_SHRUNK = 16 * 10 ** 6
MOST_JPEG_PIXELS = 10 ** 9  # shrinking bounds the memory; this bounds the time
MOST_COEFFICIENT_BYTES = 1250 * 10 ** 6  # what libjpeg holds of a JPEG in several scans
JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
JPEG_FILLER = 128  # libjpeg's value for all colours of blocks that are missing
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")


class PhotographError(UserError):
    """A file that gives no image.

    Attributes:
        code: "unreadable" or "too_large" (faces.splits.REASONS).
        detail: what is wrong with it.
    """

    def __init__(self, name, code, detail):
        super().__init__(f"{name}: {detail}; open it in an image editor and save it as PNG or "
                         "JPEG")
        self.code = code
        self.detail = detail


class Photograph(NamedTuple):
    """A photograph file, decoded.

    All boxes and landmarks of faces are in pixels of the upright photograph at its full size.

    Attributes:
        image: PIL image of mode RGB, upright.
        sha256: hexadecimal hash of the file.
        size: (width, height) of the upright photograph.
        shrunk: 2, 4 or 8 where the file was too large to be decoded whole: `image` has that much
            fewer pixels a side; else 1.
        read: None, or the part of `image` that an incomplete file gave, (left, top, right,
            bottom) in its pixels.
    """

    image: Image.Image
    sha256: str
    size: tuple
    shrunk: int = 1
    read: tuple = None

    @property
    def incomplete(self):
        """Whether the file lacks its end."""
        return self.read is not None

    def turned_box(self, box, degrees):
        """A box of the photograph, in pixels of `image` turned by turn_image."""
        return turn_box(self.image_box(box), self.image.size, degrees)

    def image_box(self, box):
        """A box of the photograph, in pixels of `image`."""
        return tuple(edge / self.shrunk for edge in box) if self.shrunk > 1 else tuple(box)

    def image_points(self, points):
        """Points (x, y) of the photograph, in pixels of `image`; (0, 0) is a pixel's center."""
        return (np.asarray(points, float) + 0.5) / self.shrunk - 0.5


def photograph_of(image):
    """The Photograph of an image that comes from no file.

    Args:
        image: PIL image, or uint8 [height, width, 3], RGB.
    """
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image.convert("RGB")
    return Photograph(image, "", image.size)


def open_photograph(path):
    """Reads a photograph.

    The first picture of an animation; turned as its orientation tag says; 16 bits to 8;
    transparent parts over white; of an incomplete JPEG what is there.

    Args:
        path: Path of the file.

    Returns:
        A Photograph.

    Raises:
        PhotographError: it cannot be read or has too many pixels.
    """
    return decode_photograph(read_photograph(path), path)


def read_photograph(path):
    """The bytes of a photograph's file.

    Args:
        path: of the file.

    Raises:
        PhotographError: it cannot be read, or is a pipe or a device, which could go on for ever.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise PhotographError(path, "unreadable", "is not a file")
        if status.st_size > MOST_BYTES:
            raise PhotographError(path, "too_large", f"has {status.st_size // 10 ** 6} MB")
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise PhotographError(path, "unreadable", f"cannot be read ({error.strerror})")


def decode_photograph(data, name="the image"):
    """The Photograph of a file's bytes; see open_photograph.

    Args:
        data: bytes.
        name: what messages call it.
    """
    try:
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            return _decode(data, sha256)
        except OSError as error:
            if not (data.startswith(JPEG_START) and "truncated" in str(error)):
                raise
        # libjpeg fills in what is missing once it meets the marker of the end.
        return _decode(data + JPEG_END, sha256, incomplete=True)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotographError(name, "too_large", f"too many pixels ({str(error)[:100]})")
    except UnidentifiedImageError:
        raise PhotographError(name, "unreadable", "is not an image that can be read")
    except Exception as error:  # a damaged image can raise nearly anything
        raise PhotographError(name, "unreadable", "cannot be read as an image "
                              f"({type(error).__name__}: {str(error)[:200]})")


def stored_size(path):
    """How a photograph's picture lies in its file; its pixels are not decoded where that can be.

    Returns:
        ((width, height), orientation): of the picture as it is stored, and the EXIF orientation
        that turns it upright, 1..8. Of formats whose decoders turn it: of the upright picture, 1.

    Raises:
        PhotographError: it cannot be read.
    """
    data = read_photograph(path)
    try:
        with _open(data) as image:
            if image.format in UPRIGHT_FORMATS:
                image.load()
            return image.size, _orientation(image)
    except Exception as error:  # a damaged image can raise nearly anything
        raise PhotographError(path, "unreadable", f"cannot be read as an image ({error})")


def decoding_description():
    """What the pixels of a photograph depend on beside its file, as a JSON object."""
    return {"version": VERSION, "pillow": PIL.__version__, "pi_heif": pi_heif.__version__}


@contextlib.contextmanager
def quiet_pillow():
    """Silences Pillow's warnings (damaged tags and the like) in all threads, for a while."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.lru_cache(maxsize=None)
def _readable_formats():
    """Those of FORMATS that can be read here."""
    pi_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _decode(data, sha256, incomplete=False):
    """The Photograph of a file's bytes; `incomplete` of a JPEG whose end was made up."""
    with _open(data) as image:
        whole, shrunk = image.size, _shrink_factor(image, data)
        if shrunk > 1:
            image.draft(image.mode, [side // shrunk for side in whole])
        image.load()
        orientation = _orientation(image)
        rows = _rows_read(image) if incomplete else None
        stored, image = image.size, _to_rgb(image)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    if shrunk == 1:
        whole = image.size
    elif orientation in (5, 6, 7, 8):
        whole = whole[::-1]
    read = _part_read(stored, rows, orientation) if incomplete else None
    return Photograph(image, sha256, whole, shrunk, read)


def _open(data):
    """A PIL image that is not decoded yet. JPEGs are opened whatever size they claim to have."""
    stream = io.BytesIO(data)
    if data.startswith(JPEG_START):
        return JpegImageFile(stream)  # also of MPO, whose first picture this is
    image = Image.open(stream, formats=_readable_formats())
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    return image


def _shrink_factor(image, data):
    """By how much a picture is to be shrunk while it is decoded: 1, 2, 4 or 8.

    Raises:
        Image.DecompressionBombError: it would take too much memory or time.
    """
    width, height = image.size
    if width * height <= MOST_PIXELS:
        return 1
    if width * height > MOST_JPEG_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height} pixels")
    # The header of the first scan ends where Pillow stopped reading.
    channels = len(image.layer)
    scan = data[:image.fp.tell()][-6 - 2 * channels:]
    one_scan = scan.startswith(struct.pack(">HB", 6 + 2 * channels, channels))
    if image.info.get("progressive") or not one_scan:
        samples = [layer[1] * layer[2] for layer in image.layer]
        if 2 * width * height * sum(samples) / max(samples) > MOST_COEFFICIENT_BYTES:
            raise Image.DecompressionBombError(f"{width} x {height} pixels in several scans")
    return next((factor for factor in (2, 4) if width * height / factor ** 2 <= MOST_SHRUNK), 8)


def _rows_read(image):
    """Rows of an incomplete JPEG above those that libjpeg filled in, before it is turned."""
    edge = np.asarray(image)[:, -8:]  # the file's last block row may lack its right part alone
    filled = (np.abs(edge.astype(int) - JPEG_FILLER) <= 1).reshape(len(edge), -1).all(axis=1)
    return len(edge) - int(np.argmin(filled[::-1])) if not filled.all() else 0


def _part_read(size, rows, orientation):
    """Where the first rows of a picture lie in it once it is upright: a box.

    Args:
        size: (width, height) before it is turned.
        rows: how many.
        orientation: 1..8.
    """
    width, height = size
    if orientation in (3, 4):
        return (0, height - rows, width, height)
    if orientation in (5, 8):
        return (0, 0, rows, width)
    if orientation in (6, 7):
        return (height - rows, 0, height, width)
    return (0, 0, width, rows)


def _orientation(image):
    """How a decoded picture lies: an EXIF orientation, 1..8; 1 where its decoder turned it."""
    if image.format in UPRIGHT_FORMATS:
        return 1
    try:
        found = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged tags; the pixels are whole
        found = None
    if found is None:  # Pillow 9.5 looks for it in no JPEG's XMP data
        xmp = [image.info.get("xmp")] + [data for _, data in getattr(image, "applist", ())]
        matches = [XMP_ORIENTATION.search(data) for data in xmp if isinstance(data, bytes)]
        found = next((int(match.group(1)) for match in matches if match), 1)
    return found


def _to_rgb(image):
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels are 32-bit numbers, whose white is not known")
        return Image.fromarray(np.rint(values / 257.0).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is not known")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(under, over).convert("RGB")
    return image.convert("RGB")


# Turning by quarters


def turn_image(image, degrees):
    """A PIL image turned counterclockwise by 0, 90, 180 or 270 degrees."""
    turn = {90: Image.ROTATE_90, 180: Image.ROTATE_180, 270: Image.ROTATE_270}.get(degrees)
    return image if turn is None else image.transpose(turn)


def turn_points(points, size, degrees):
    """Points of an image, where they lie once it is turned counterclockwise.

    Args:
        points: float [n, 2], x and y; (0, 0) is the left upper corner of the first pixel.
        size: (width, height) of the image before it is turned.
        degrees: 0, 90, 180 or 270.

    Returns:
        float [n, 2].
    """
    points, (width, height) = np.asarray(points, float), size
    x, y = points[:, 0], points[:, 1]
    turned = {0: (x, y), 90: (y, width - x), 180: (width - x, height - y), 270: (height - y, x)}
    return np.stack(turned[degrees], axis=1)


def turn_box(box, size, degrees):
    """A box (left, top, right, bottom) of an image once it is turned; see turn_points."""
    corners = turn_points([box[:2], box[2:]], size, degrees)
    return tuple(float(edge) for edge in np.concatenate([corners.min(axis=0),
                                                         corners.max(axis=0)]))
