"""Photograph files -> RGB images: whatever the format, the right way up."""

import contextlib
import functools
import hashlib
import io
import os
import stat
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from runtime.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pgm", ".ppm", ".pnm", ".bmp", ".webp",
              ".gif", ".tif", ".tiff")
# Read where the optional package pillow-heif is installed (of AVIF: or where Pillow can).
HEIF_EXTENSIONS = (".heic", ".heif", ".avif")
# Formats by content, whatever a file's name says. MPO is what many phones write as .jpg. Others
# that Pillow knows are not tried: some start programs.
FORMATS = ("JPEG", "MPO", "PNG", "PPM", "BMP", "WEBP", "GIF", "TIFF", "HEIF", "AVIF")
MOST_BYTES = 500 * 10 ** 6  # of a photograph's file
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")


class PhotographError(UserError):
    """A file that gives no image.

    Attributes:
        code: "unreadable" or "too_large" (faces.outcomes.REASONS).
        detail: what is wrong with it.
    """

    def __init__(self, name, code, detail):
        super().__init__("%s: %s; open it in an image editor and save it as PNG or JPEG"
                         % (name, detail))
        self.code = code
        self.detail = detail


def open_photograph(path):
    """Reads a photograph.

    The first picture of an animation; turned as its EXIF orientation says; 16 bits to 8;
    transparent parts over white.

    Args:
        path: Path of the file.

    Returns:
        (image, sha256): a PIL image of mode RGB, and the hexadecimal hash of the file.

    Raises:
        PhotographError: it cannot be read or has too many pixels.
    """
    data = read_photograph(path)
    return decode_photograph(data, path), hashlib.sha256(data).hexdigest()


def read_photograph(path):
    """The bytes of a photograph's file.

    Args:
        path: of the file.

    Raises:
        PhotographError: it cannot be read, or is a pipe or a device, which could go on for ever.
    """
    try:
        status = os.stat(str(path))
        if not stat.S_ISREG(status.st_mode):
            raise PhotographError(path, "unreadable", "is not a file")
        if status.st_size > MOST_BYTES:
            raise PhotographError(path, "too_large", "has %d MB" % (status.st_size // 10 ** 6))
        with open(str(path), "rb") as stream:
            return stream.read()
    except OSError as error:
        raise PhotographError(path, "unreadable", "cannot be read (%s)" % error.strerror)


def decode_photograph(data, name="the image"):
    """The PIL image of mode RGB of a photograph's bytes; see open_photograph."""
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombWarning("%d x %d pixels" % image.size)
            image.load()
            return _upright(_to_rgb(image), image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotographError(name, "too_large", "too many pixels (%s)" % str(error)[:100])
    except UnidentifiedImageError:
        raise PhotographError(name, "unreadable", "is not an image that can be read")
    except Exception as error:  # a damaged image can raise nearly anything
        raise PhotographError(name, "unreadable", "cannot be read as an image (%s: %s)"
                              % (type(error).__name__, str(error)[:200]))


@contextlib.contextmanager
def quiet_pillow():
    """Silences Pillow's warnings (damaged tags and the like) in all threads, for a while."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.lru_cache(maxsize=None)
def _readable_formats():
    """Those of FORMATS that can be read here."""
    with contextlib.suppress(ImportError):
        import pillow_heif
        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def readable_extensions():
    """Lower-case endings of the files that can be read here."""
    formats = _readable_formats()
    return (EXTENSIONS + HEIF_EXTENSIONS[:2] * ("HEIF" in formats)
            + HEIF_EXTENSIONS[2:] * ("AVIF" in formats))


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


def _upright(rgb, original):
    """`rgb` turned as the EXIF orientation of the image it comes from says."""
    try:
        orientation = original.getexif().get(0x0112, 1)
    except Exception:  # damaged tags; the pixels are whole
        return rgb
    turns = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM,
             5: Image.TRANSPOSE, 6: Image.ROTATE_270, 7: Image.TRANSVERSE, 8: Image.ROTATE_90}
    return rgb.transpose(turns[orientation]) if orientation in turns else rgb
