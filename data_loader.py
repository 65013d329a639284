"""Files -> arrays: the DDH pickle folders, the ORL faces, normalisation and batches.

Data protocol (DDH, Lin, Li, Tang, IJCAI 2017): closed set, the same people in both splits; the
training set is the gallery, the test set holds the queries.
"""

import hashlib
import zlib
from typing import NamedTuple, Optional, Tuple

import numpy as np

from config import IMAGE_CHANNELS, IMAGE_SIZE
from runtime.array_pickle import read_array_pair
from runtime.errors import UserError
from runtime.orl_faces import ORL_IDENTITIES, load_orl
from runtime.pixel_range import common_range, find_pixel_range

ROW_LENGTH = IMAGE_CHANNELS * IMAGE_SIZE * IMAGE_SIZE
# Images are converted this many at a time, so that no second copy of the whole array is made.
CHUNK = 4096
MAX_NAME_BYTES = 1000  # of an identity


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
        return [(images, labels, (0.0, 255.0))
                for images, labels in load_orl(IMAGE_SIZE, IMAGE_CHANNELS)]
    folders = dataset.train_folder, dataset.test_folder
    for folder in folders:  # before the long work: are there files?
        folder_files(folder, dataset)
    splits = [read_pickle_folder(folder, dataset) for folder in folders]
    common_range([(folder, split[2]) for folder, split in zip(folders, splits)
                  if split[0].min() < split[0].max()])
    return splits


def count_notes(dataset, train, test):
    """Lines that say where the image counts differ from the data set's protocol (often none)."""
    return ["note: %s has %d %s images here; the protocol has %d"
            % (dataset.title, len(split.labels), name, expected)
            for name, split, expected in (("training", train, dataset.num_train),
                                          ("test", test, dataset.num_test))
            if len(split.labels) != expected]


# The DDH pickles


def read_pickle(path):
    """Rows [n, 3072], each in the order channel, row, column, and labels [n] of one DDH data file.

    See read_array_pair for types and errors. Nothing that the file asks for is run.
    """
    return read_array_pair(path, ROW_LENGTH)


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
        UserError: missing or empty folder; pixels that are no numbers of an image or of another
            range than another file's; labels outside 0..C-1; see read_pickle.
    """
    parts, labels, ranges = [], [], []
    for path in folder_files(folder, dataset):
        x, y = read_pickle(path)
        if len(x) == 0:
            continue
        if y.min() < 0 or y.max() >= dataset.num_identities:
            raise UserError("%s: labels go from %g to %g; %s has 0 to %d" % (
                path, y.min(), y.max(), dataset.title, dataset.num_identities - 1))
        ranges.append((path, find_pixel_range(x, path)))
        if x.dtype != np.uint8:
            x = x.astype(np.float32, copy=False)
        parts.append(channels_last(x))
        labels.append(y.astype(np.int32))
    if not parts:
        raise UserError("%s: its files hold no images" % folder)
    return _concatenate(parts), np.concatenate(labels), common_range(ranges)


def folder_files(folder, dataset):
    """The data files of a folder in sorted name order. Raises UserError if there are none."""
    where = "data/README.md says where %s comes from" % dataset.title
    try:
        paths = sorted(path for path in folder.iterdir()
                       if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        reason = error.strerror if folder.exists() else "no such folder"
        raise UserError("%s: %s; %s" % (folder, reason, where))
    if not paths:
        raise UserError("%s: the folder is empty; %s" % (folder, where))
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
    entropy = zlib.crc32(("image order, seed %d, epoch %d" % (seed, epoch)).encode())
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


def identity_names(dataset):
    """Names of the identities by label (labels.txt, one a line); None where there are none."""
    if dataset.source == "orl":
        return ["s%d" % (person + 1) for person in range(ORL_IDENTITIES)]
    path = dataset.labels_file
    if path is None:
        return None
    try:
        if path.stat().st_size > dataset.num_identities * MAX_NAME_BYTES:
            raise ValueError("too long for %d names" % dataset.num_identities)
        names = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise UserError("%s cannot be read (%s); prepare the data again" % (
            path, getattr(error, "strerror", None) or error))
    if len(names) != dataset.num_identities:
        raise UserError("%s has %d lines for %d identities; prepare the data again"
                        % (path, len(names), dataset.num_identities))
    return names
