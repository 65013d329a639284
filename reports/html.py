"""HTML pages: how a template is filled in, and how a page holds a picture."""

import base64
import io

import jinja2
import numpy as np
from PIL import Image


def render(template, **values):
    """Fills in a template. Text is escaped, so that no name can be taken for markup.

    Args:
        template: Path of the template; those that it extends, imports or includes lie beside it.
        values: what the template shows; a missing one is an error.

    Returns:
        The page, as text.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(template.parent)), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template.name).render(values) + "\n"


def data_url(image, jpeg_quality=None):
    """An image as an address that holds all of it, for the src of an <img>.

    Args:
        image: bytes of a PNG or JPEG file, or uint8 [height, width, 3].
        jpeg_quality: 1 to 95, to make an array a JPEG; by default it becomes a PNG, lossless.
    """
    if isinstance(image, np.ndarray):
        image = _encoded(image, jpeg_quality)
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _encoded(image, jpeg_quality):
    """The bytes of a PNG or JPEG file that shows an array."""
    picture, stream = Image.fromarray(image), io.BytesIO()
    if jpeg_quality:
        picture.save(stream, "JPEG", quality=jpeg_quality)
    else:
        grey = (image == image[..., :1]).all()
        (picture.convert("L") if grey else picture).save(stream, "PNG")  # a third of the bytes
    return stream.getvalue()
