"""Describes a data set: counts, images, duplicates, and whether it is ready to train."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

import data_loader
from faces.duplicates import NEAR_BITS, near_across, perceptual_hash
from faces.embedding import read_embeddings
from runtime.errors import UserError

EMBEDDING_METHODS = "for the methods embedding, embedding_itq and embedding_dcbh"


class Description(NamedTuple):
    """What a data set is like.

    Attributes:
        lines: text for people.
        problems: what stands in the way of training, one sentence each.
    """

    lines: list
    problems: list


def describe(dataset):
    """Describes a data set, a config.Dataset.

    Returns:
        (Description, train, test): two ImageSets.

    Raises:
        UserError: files missing or malformed.
    """
    train, test = data_loader.load_dataset(dataset)
    lines = ["%s, %d identities" % (dataset.title, dataset.num_identities)]
    lines += _folder_lines(dataset) + _crop_lines(dataset.crop)
    problems = []
    if dataset.num_identities == 1:
        problems.append("there is one identity alone: nothing to tell it apart from")
    problems += _split_problems(dataset, ("training", "test"), (train, test), lines)
    problems += _duplicate_problems(train, test, lines)
    if dataset.unseen:
        lines.append("  %d further identities are kept out of training"
                     % dataset.unseen.num_identities)
        lines += _folder_lines(dataset.unseen)
        splits = data_loader.load_dataset(dataset.unseen)
        problems += _split_problems(dataset.unseen, ("unseen gallery", "unseen query"), splits,
                                    lines)
        for name, split in zip(("gallery", "query"), splits):
            copies = np.isin(split.fingerprints, train.fingerprints)
            if copies.any():
                problems.append("%d %s images of people kept out of training are in the training "
                                "set, pixel by pixel" % (copies.sum(), name))
        if np.isin(splits[1].fingerprints, splits[0].fingerprints).any():
            problems.append("query images of people kept out of training are in their gallery")
    return Description(lines, problems), train, test


def _split_problems(dataset, names, splits, lines):
    """Adds lines on the two splits of a data set; returns the problems among them."""
    problems = []
    for name, split, expected, folder in zip(
            names, splits, (dataset.num_train, dataset.num_test),
            (dataset.train_folder, dataset.test_folder)):
        lines += _split_lines(name, split, expected)
        if len(split.labels) < expected:
            problems.append("%d of %d %s images are missing%s" % (
                expected - len(split.labels), expected, name,
                " from %s" % folder if folder else ""))
        if split.std == 0:
            problems.append("all pixels of the %s images are equal" % name)
        if dataset.embedding:
            try:
                read_embeddings(folder, len(split.labels))
                lines.append("    a face embedding for each (%s)" % EMBEDDING_METHODS)
            except UserError as error:
                problems.append("methods on embeddings refuse it: %s" % error)
        absent = np.setdiff1d(np.arange(dataset.num_identities), split.labels)
        if len(absent):
            problems.append("%d identities have no %s image: %s" % (
                len(absent), name, _some(absent)))
    return problems


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


def _crop_lines(crop):
    """How the faces were cut out, where the manifest says it."""
    if not crop:
        return []
    return ["  faces: " + {
        "detect": "found by a detector and aligned by five landmarks, margin %s" % crop.get(
            "margin"),
        "box": "cut out by a box (%s), %s of its sides" % (crop.get("box") or "the whole image",
                                                          crop.get("fraction")),
    }.get(crop.get("method"), "the whole images")]


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
    same, different = near_across(hash_images(test, "test"), test.labels,
                                  hash_images(train, "training"), train.labels)
    lines.append("  %d further test images are nearly the same as a training image of the same "
                 "identity; %d are as near to one of another (%d of 64 bits of a perceptual hash "
                 "or fewer differ)" % ((same & ~both).sum(), different.sum(), NEAR_BITS))
    return problems


def hash_images(data, title):
    """Perceptual hashes of an ImageSet's images: uint64 [n]."""
    chunks = range(0, len(data.labels), 256)
    return np.array([
        perceptual_hash(Image.fromarray(image))
        for start in tqdm(chunks, desc=title, unit="x256 images", disable=None, leave=False)
        for image in data_loader.displayable(data, slice(start, start + 256))], np.uint64)


def _some(values, count=5):
    return ", ".join(map(str, values[:count])) + (", ..." if len(values) > count else "")


def report_lines(description):
    """The description with its verdict in plain language."""
    if not description.problems:
        return description.lines + ["Ready to train."]
    return (description.lines + ["Look at this before you train:"]
            + ["  - " + problem for problem in description.problems])
