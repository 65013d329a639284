"""HTML pages: filled-in templates, pictures within a page, the contact sheet of a data set."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

import data_loader

TEMPLATES = Path(__file__).resolve().parent / "templates"
# Images of a contact sheet, so that a browser can show it (about 1.3 kB each); each person has at
# least 4 of a split and at most 40.
MOST_IMAGES, LEAST_OF_A_SPLIT, MOST_OF_A_SPLIT = 20000, 4, 40


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
    return f"data:{media_type(image)};base64,{base64.b64encode(image).decode('ascii')}"


def media_type(image):
    """The type of the bytes of a PNG or JPEG file, as the web names it."""
    return "image/png" if image.startswith(b"\x89PNG") else "image/jpeg"


def _encoded(image, jpeg_quality):
    """The bytes of a PNG or JPEG file that shows an array."""
    picture, stream = Image.fromarray(image), io.BytesIO()
    if jpeg_quality:
        picture.save(stream, "JPEG", quality=jpeg_quality)
    else:
        grey = (image == image[..., :1]).all()
        (picture.convert("L") if grey else picture).save(stream, "PNG")  # a third of the bytes
    return stream.getvalue()


def contact_sheet(dataset, train, test):
    """A page that shows who is who in a data set: one row a person, so that wrong faces are seen.

    Args:
        dataset: a config.Dataset.
        train, test: its ImageSets.

    Returns:
        HTML, complete in itself.
    """
    names = (data_loader.identity_names(dataset)
             or [f"person {label}" for label in range(dataset.num_identities)])
    most = int(np.clip(MOST_IMAGES // (2 * len(names)), LEAST_OF_A_SPLIT, MOST_OF_A_SPLIT))
    files = data_loader.image_files(dataset)
    people, largest = [], 0
    for label, name in enumerate(names):
        person = dict(name=name)
        for which, split in (("train", train), ("test", test)):
            indices = np.flatnonzero(split.labels == label)
            person[which + "_count"] = len(indices)
            person[which] = _shown(split, indices, most, files.get(which, {}), which)
            largest = max(largest, len(indices))
        people.append(person)
    return render(TEMPLATES / "contact_sheet.html", title=dataset.title, people=people, most=most,
                  shortened=largest > most)


def _shown(split, indices, most, files, which):
    """Texts and addresses of some images' pictures, spread evenly over the file order."""
    if not len(indices):
        return []
    places = np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)
    chosen = indices[places]
    return [dict(text=files.get(index, f"{which} image {index}"),
                 source=data_url(image, jpeg_quality=85))
            for index, image in zip(chosen.tolist(), data_loader.displayable(split, chosen))]
