"""Photographs -> faces that an encoder can take: cut out as the faces of its data set were."""

from typing import NamedTuple, Optional

import numpy as np

import data_loader
from config import IMAGE_SIZE
from faces import cropping, embedding
from gallery.thumbnails import thumbnail_of

MARGIN = 0.25  # what a thumbnail shows around a face, as a share of its box


class QueryFace(NamedTuple):
    """One face of a photograph.

    Attributes:
        pixels: uint8 [32, 32, 3], what most encoders take.
        box: (left, top, right, bottom) in pixels of the photograph.
        thumbnail: bytes of a JPEG or PNG, for people.
        embedding: float32 [128], what the encoder takes if it takes embeddings; else None.
    """

    pixels: np.ndarray
    box: tuple
    thumbnail: bytes
    embedding: Optional[np.ndarray] = None


def find_faces(photograph, metadata):
    """The faces of a photograph, the largest first.

    Args:
        photograph: a faces.photographs.Photograph.
        metadata: the encoder's: its crop says how faces are cut out. Where that is not known the
            whole image is the face; for ORL's grey faces it is taken without colour.

    Returns:
        List of QueryFaces; empty where no face is found.

    Raises:
        UserError: the encoder takes embeddings, and their network is not installed.
    """
    if metadata["dataset"] == "orl":
        photograph = photograph._replace(image=photograph.image.convert("L").convert("RGB"))
    faces = cropping.crop_like(metadata["crop"], photograph)
    turned = faces[0].turned if faces else 0
    image = photograph.turned_image(turned)
    boxes = [photograph.turned_box(face.box, turned) for face in faces]
    found = []
    for face, box in zip(faces, boxes):
        pixels = face.pixels
        if pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError("faces are cut to %s pixels" % (pixels.shape,))
        found.append(QueryFace(pixels, tuple(float(edge) for edge in face.box),
                               thumbnail_of(_surroundings(image, box))))
    if found and takes_embeddings(metadata):
        vectors = embedding.shared_embedder().embed(photograph, faces)
        found = [face._replace(embedding=vector) for face, vector in zip(found, vectors)]
    return found


def takes_embeddings(metadata):
    """Whether an encoder of this metadata takes faces' embeddings in place of their pixels."""
    return metadata.get("inputs") == "embeddings"


def check_embedder(metadata):
    """Before the work: can faces be embedded here, if the encoder needs it, as its gallery was?

    Raises:
        UserError: the network is not installed, or is another one.
    """
    if takes_embeddings(metadata):
        embedding.check_same_embedding(metadata.get("embedding"))


def encoder_input(faces, metadata):
    """What the encoder takes of some QueryFaces: uint8 [n, 32, 32, 3] or float32 [n, 128]."""
    return np.stack([face.embedding if takes_embeddings(metadata) else face.pixels
                     for face in faces])


def stored_input(data, indices, metadata):
    """What the encoder takes of some images of an ImageSet, as if each had come alone."""
    if takes_embeddings(metadata):
        return data.embeddings[indices]
    return data_loader.displayable(data, indices)


def _surroundings(image, box):
    """The part of an image in and around a box, within the image."""
    left, top, right, bottom = box
    if (left, top, right, bottom) == (0, 0) + image.size:
        return image
    add_x, add_y = (right - left) * MARGIN, (bottom - top) * MARGIN
    inside = (max(int(left - add_x), 0), max(int(top - add_y), 0),
              min(int(right + add_x), image.width), min(int(bottom + add_y), image.height))
    return image.crop(inside) if inside[2] > inside[0] and inside[3] > inside[1] else image
