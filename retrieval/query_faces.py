"""Photographs -> faces that an encoder can take: cut out as the faces of its data set were."""

from typing import NamedTuple

import numpy as np

from config import IMAGE_SIZE
from faces import cropping
from retrieval.thumbnails import thumbnail_of

MARGIN = 0.25  # what a thumbnail shows around a face, as a share of its box


class QueryFace(NamedTuple):
    """One face of a photograph.

    Attributes:
        pixels: uint8 [32, 32, 3], what the encoder takes.
        box: (left, top, right, bottom) in pixels of the photograph.
        thumbnail: bytes of a JPEG or PNG, for people.
    """

    pixels: np.ndarray
    box: tuple
    thumbnail: bytes


def find_faces(image, metadata):
    """The faces of a photograph, the largest first.

    Args:
        image: a PIL image of mode RGB, the right way up.
        metadata: the encoder's: its crop says how faces are cut out. Where that is not known the
            whole image is the face; for ORL's grey faces it is taken without colour.

    Returns:
        List of QueryFaces; empty where no face is found.
    """
    if metadata["dataset"] == "orl":
        image = image.convert("L").convert("RGB")
    found = []
    for face in cropping.crop_like(metadata["crop"], image):
        pixels = face.face
        if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError("faces are cut to %s pixels" % (pixels.shape,))
        found.append(QueryFace(pixels, tuple(float(edge) for edge in face.box),
                               thumbnail_of(_surroundings(image, face.box))))
    return found


def _surroundings(image, box):
    """The part of an image in and around a box, within the image."""
    left, top, right, bottom = box
    if (left, top, right, bottom) == (0, 0) + image.size:
        return image
    add_x, add_y = (right - left) * MARGIN, (bottom - top) * MARGIN
    inside = (max(int(left - add_x), 0), max(int(top - add_y), 0),
              min(int(right + add_x), image.width), min(int(bottom + add_y), image.height))
    return image.crop(inside) if inside[2] > inside[0] and inside[3] > inside[1] else image
