"""Images of faces for people: small, and sure to be shown by any browser."""

import io

from PIL import Image

SIDE = 96  # pixels of the longer side; smaller images stay as they are
SMALL = 32  # images of at most so many pixels a side are kept without loss
JPEG_QUALITY = 88


def thumbnail_of(image):
    """The bytes that show an image: PNG where it is small, else JPEG.

    Args:
        image: a PIL image of mode RGB.
    """
    buffer = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG")
    else:
        image = image.copy()
        image.thumbnail((SIDE, SIDE), Image.BILINEAR)
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def media_type(data):
    """The type of a thumbnail's bytes, as the web names it."""
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
