"""Describes a data set: counts, images, duplicates, and whether it is ready to train.

    python describe.py 2                 by flag: 0, 1 or 2
    python describe.py myfaces           by name, as prepared by prepare.py

A contact sheet is drawn to --sheet.
"""

from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

import data_loader
from config import ROOT, find_dataset
from runtime.command_line import ArgumentParser
from runtime.errors import UserError

# Of the 64 bits of a perceptual hash, copies of one photograph, resized or compressed anew, differ
# in few. How often chance alone comes as near shows in pairs of different people: in 1,612
# photographs of FaceScrub 28 of 1.2 million such pairs lie within 6 bits, which leaves 2 or 3 to
# expect among the 153 pairs of one person found there.
NEAR_BITS = 6
# Hash pairs compared at once.
PAIRS_AT_ONCE = 1 << 24


class Description(NamedTuple):
    """What a data set is like.

    Attributes:
        lines: text for people.
        problems: what stands in the way of training, one sentence each.
    """

    lines: list
    problems: list


# Duplicates


def perceptual_hash(image):
    """The 64-bit perceptual hash (pHash) of a PIL image: bool [64]."""
    return imagehash.phash(image).hash.reshape(-1)


def near_pairs(hashes, others=None, bits=NEAR_BITS):
    """Pairs of perceptual hashes that differ in few bits.

    Args:
        hashes: bool [n, 64].
        others: bool [m, 64]; by default pairs inside `hashes`, each once.
        bits: most bits that a pair may differ in.

    Returns:
        int [pairs, 2]: an index into hashes and one into others (or, larger, into hashes).
    """
    inside = others is None
    others = hashes if inside else others
    left, right = [np.asarray(part, np.float32) * 2 - 1 for part in (hashes, others)]
    found = [np.zeros((0, 2), np.int64)]
    rows = max(1, PAIRS_AT_ONCE // max(len(right), 1))
    for start in range(0, len(left), rows):
        # <a, b> = 64 - 2 * distance
        near = left[start:start + rows].dot(right.T) >= left.shape[1] - 2 * bits
        pairs = np.argwhere(near) + [start, 0]
        found.append(pairs[pairs[:, 0] < pairs[:, 1]] if inside else pairs)
    return np.concatenate(found)


def hash_images(data, title):
    """Perceptual hashes of an ImageSet's images: bool [n, 64]."""
    chunks = range(0, len(data.labels), 256)
    return np.stack([
        perceptual_hash(Image.fromarray(image))
        for start in tqdm(chunks, desc=title, unit="x256 images", disable=None, leave=False)
        for image in data_loader.displayable(data, slice(start, start + 256))])


# The description


def describe(dataset):
    """Describes a data set, a config.Dataset.

    Returns:
        (Description, train, test): two ImageSets.

    Raises:
        UserError: files missing or malformed.
    """
    train, test = data_loader.load_dataset(dataset)
    lines = ["%s, %d identities" % (dataset.title, dataset.num_identities)]
    lines += _folder_lines(dataset)
    problems = []
    for name, split, expected, folder in (
            ("training", train, dataset.num_train, dataset.train_folder),
            ("test", test, dataset.num_test, dataset.test_folder)):
        lines += _split_lines(name, split, expected)
        if len(split.labels) < expected:
            problems.append("%d of %d %s images are missing%s" % (
                expected - len(split.labels), expected, name,
                " from %s" % folder if folder else ""))
        if split.std == 0:
            problems.append("all pixels of the %s images are equal" % name)
        absent = np.setdiff1d(np.arange(dataset.num_identities), split.labels)
        if len(absent):
            problems.append("%d identities have no %s image: %s" % (
                len(absent), name, _some(absent)))
    problems += _duplicate_problems(train, test, lines)
    return Description(lines, problems), train, test


def _folder_lines(dataset):
    if dataset.source == "orl":
        return []
    lines = []
    for folder in (dataset.train_folder, dataset.test_folder):
        paths = data_loader.folder_files(folder, dataset)
        lines.append("  %s: %d file%s, %.1f MB" % (
            folder, len(paths), "s" * (len(paths) != 1),
            sum(path.stat().st_size for path in paths) / 1e6))
    return lines


def _split_lines(name, split, expected):
    counts = np.bincount(split.labels)
    counts = counts[counts > 0]
    low, high = [round(float(value) * 10 * (split.std + 1e-5) + split.mean, 3) + 0.0
                 for value in (split.images.min(), split.images.max())]
    return [
        "  %s: %d images (%d expected), %d identities, images an identity: %d / %g / %d "
        "(least / median / most)" % (name, len(split.labels), expected, len(counts),
                                     counts.min(), np.median(counts), counts.max()),
        "    pixels stored as %s: %.4g to %.4g, mean %.4g, standard deviation %.4g"
        % (split.stored_dtype, low, high, split.mean, split.std)]


def _duplicate_problems(train, test, lines):
    """Adds lines on duplicates; returns the problems among them."""
    problems = []
    for name, split in (("training", train), ("test", test)):
        copies = len(split.labels) - len(np.unique(split.fingerprints))
        if copies:
            lines.append("  %d %s images are exact copies of others there" % (copies, name))
    both = np.isin(test.fingerprints, train.fingerprints)
    if both.any():
        problems.append("%d test images are in the training set, pixel by pixel (test image %s)"
                        % (both.sum(), _some(np.flatnonzero(both))))
    pairs = near_pairs(hash_images(test, "test"), hash_images(train, "training"))
    other = test.labels[pairs[:, 0]] != train.labels[pairs[:, 1]]
    near = np.setdiff1d(pairs[~other, 0], np.flatnonzero(both))
    lines.append("  %d further test images are nearly the same as a training image of the same "
                 "identity, %d pairs of different ones are as near (%d of 64 bits of a perceptual "
                 "hash or fewer differ)" % (len(near), other.sum(), NEAR_BITS))
    return problems


def _some(values, count=5):
    return ", ".join(map(str, values[:count])) + (", ..." if len(values) > count else "")


def report_lines(description):
    """The description with its verdict in plain words."""
    if not description.problems:
        return description.lines + ["Ready to train."]
    return (description.lines + ["Look at this before you train:"]
            + ["  - " + problem for problem in description.problems])


def contact_sheet(train, test, columns=16, rows=4, size=48):
    """A picture of both splits: the mean image, then images spread evenly over the file order.

    Args:
        train, test: ImageSets.
        columns, rows: images a line, and lines a split.
        size: pixels of an image's side.

    Returns:
        A PIL Image.
    """
    sheet = Image.new("RGB", (columns * size, 2 * (rows * size + 22)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, split) in enumerate((("training", train), ("test", test))):
        top = number * (rows * size + 22)
        draw.text((4, top + 5), "%s: mean image, then %d of %d images" % (
            name, min(columns * rows - 1, len(split.labels)), len(split.labels)), "black")
        chosen = np.linspace(0, len(split.labels) - 1, columns * rows - 1).astype(int)
        chosen = list(dict.fromkeys(chosen))
        mean = split._replace(images=split.images.mean(axis=0, keepdims=True, dtype=np.float64))
        images = np.concatenate([data_loader.displayable(mean, [0]),
                                 data_loader.displayable(split, chosen)])
        for place, image in enumerate(images):
            row, column = divmod(place, columns)
            sheet.paste(Image.fromarray(image).resize((size, size), Image.BICUBIC),
                        (column * size, top + 22 + row * size))
    return sheet


def main(arguments):
    """Describes the data set that the command line names."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="0, 1, 2 or a prepared data set's name")
    parser.add_argument("--data_dir", default=str(ROOT / "data"),
                        help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--sheet", metavar="FILE.png",
                        help="where to draw the contact sheet (default: contact_sheet_NAME.png)")
    given = parser.parse_args(arguments)
    dataset = find_dataset(given.dataset, given.data_dir)
    description, train, test = describe(dataset)
    print("\n".join(report_lines(description)))
    path = given.sheet or "contact_sheet_%s.png" % dataset.name
    try:
        contact_sheet(train, test).save(path, "PNG")
    except OSError as error:
        raise UserError("%s cannot be written: %s" % (path, error.strerror or error))
    print("contact sheet: %s" % path)
