"""Describes a data set: counts, images, duplicates, and whether it is ready to train."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

import data_loader
from faces.duplicates import (
    NEAR_BITS,
    near_across,
    near_pairs,
    perceptual_hash,
    shared_images,
)
from faces.embedding import read_embeddings
from runtime.command_line import counted
from runtime.errors import UserError, first_few, one_line

EMBEDDING_METHODS = "for the methods embedding, embedding_itq and embedding_dcbh"


class Description(NamedTuple):
    """What a data set is like.

    Attributes:
        lines: list of str, text for people.
        problems: list of str, what stands in the way of training, one sentence each.
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
    lines = [f"{dataset.title}, {counted(dataset.num_identities, 'person', 'people')}"]
    lines += _folder_lines(dataset) + _crop_lines(dataset.crop)
    problems = []
    if dataset.num_identities == 1:
        problems.append("there is only one person, so nobody to tell apart")
    problems += _split_problems(dataset, ("training", "test"), (train, test), lines)
    problems += _duplicate_problems(dataset, train, test, lines)
    if dataset.unseen:
        lines.append(f"  {dataset.unseen.num_identities} further people are kept out of training")
        lines += _folder_lines(dataset.unseen)
        splits = data_loader.load_dataset(dataset.unseen)
        problems += _split_problems(dataset.unseen, ("unseen gallery", "unseen query"), splits,
                                    lines)
        for name, split in zip(("gallery", "query"), splits):
            copies = np.isin(split.fingerprints, train.fingerprints)
            if copies.any():
                problems.append(f"{copies.sum()} {name} images of people kept out of training are "
                                "in the training set, pixel by pixel")
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
            problems.append(f"{expected - len(split.labels)} of {expected} {name} images are "
                            "missing" + (f" from {folder}" if folder else ""))
        if split.std == 0:
            problems.append(f"all pixels of the {name} images are equal")
        problems += data_loader.order_notes(split, name)
        if dataset.embedding:
            try:
                read_embeddings(folder, len(split.labels))
                lines.append(f"    a face embedding for each ({EMBEDDING_METHODS})")
            except UserError as error:
                problems.append(f"methods on embeddings refuse it: {error}")
        absent = np.setdiff1d(np.arange(dataset.num_identities), split.labels)
        if len(absent):
            problems.append(f"{len(absent)} people have no {name} image: "
                            + first_few(absent, between=", ", most=5))
    return problems


def _folder_lines(dataset):
    if dataset.source == "orl":
        return []
    lines = []
    for folder in (dataset.train_folder, dataset.test_folder):
        paths = data_loader.folder_files(folder, dataset)
        size = sum(path.stat().st_size for path in paths) / 1e6
        lines.append(f"  {folder}: {len(paths)} file{'s' * (len(paths) != 1)}, {size:.1f} MB")
    return lines


def _crop_lines(crop):
    """How the faces were cut out, where the manifest says it."""
    if not crop:
        return []
    if crop.get("method") == "detect":
        return ["  faces: found by a detector and aligned by five landmarks, margin "
                f"{crop.get('margin')}"]
    if crop.get("method") == "box":
        return [f"  faces: cut out by a box ({crop.get('box') or 'the whole photograph'}), "
                f"{crop.get('fraction')} of its sides"]
    return ["  faces: the whole photographs"]


def _split_lines(name, split, expected):
    counts = np.bincount(split.labels)
    counts = counts[counts > 0]
    low, high = [round(float(value) * 10 * (split.std + 1e-5) + split.mean, 3) + 0.0
                 for value in (split.images.min(), split.images.max())]
    return [
        f"  {name}: {len(split.labels)} images ({expected} expected), "
        f"{counted(len(counts), 'person', 'people')}, images of each: {counts.min()} / "
        f"{np.median(counts):g} / {counts.max()} (least / median / most)",
        f"    pixels stored as {split.stored_dtype}: {low:.4g} to {high:.4g}, mean "
        f"{split.mean:.4g}, standard deviation {split.std:.4g}"]


def _duplicate_problems(dataset, train, test, lines):
    """Adds lines on duplicates; returns the problems among them."""
    problems = []
    for name, split in (("training", train), ("test", test)):
        copies = len(split.labels) - len(np.unique(split.fingerprints))
        if copies:
            lines.append(f"  exact copies among the {name} images: {copies}")
    both = np.isin(test.fingerprints, train.fingerprints)
    if both.any():
        problems.append(f"{both.sum()} test images are in the training set, pixel by pixel (test "
                        f"image {first_few(np.flatnonzero(both), between=', ', most=5)})")
    hashes = [hash_images(split, name) for split, name in ((train, "training"), (test, "test"))]
    same = near_across(hashes[1], test.labels, hashes[0], train.labels)
    lines.append(f"  {(same & ~both).sum()} further test images are nearly the same as a training "
                 f"image of the same person ({NEAR_BITS} of 64 bits of a perceptual hash or fewer "
                 "differ)")
    prints = np.concatenate([train.fingerprints, test.fingerprints])
    labels = np.concatenate([train.labels, test.labels])
    shared = shared_images(prints.tolist(), labels.tolist())
    near = [pair for pair in near_pairs(np.concatenate(hashes), labels).tolist()
            if labels[pair[0]] != labels[pair[1]] and prints[pair[0]] != prints[pair[1]]]
    titles = _titles(dataset, len(train.labels), labels)
    if shared:
        problems.append(
            f"images filed under more than one person ({len(shared)}): {first_few(shared, titles)}"
            ". Remove each where it does not belong, and prepare again")
    if near:
        lines.append(f"  {len(near)} pairs of images of different people look nearly the same: "
                     + first_few(near, titles) + ". Check whether they show one photograph")
    return problems


def _titles(dataset, num_train, labels):
    """A function of indices: files and people of some images, training images first, as text."""
    names, files = data_loader.identity_names(dataset), data_loader.image_files(dataset)

    def title(index):
        split, row = ("train", index) if index < num_train else ("test", index - num_train)
        label, file = int(labels[index]), files[split].get(row)
        return (f"{one_line(file, 100) if file else f'{split} image {row}'} "
                f"({names[label] if names else f'person {label}'})")

    return lambda indices: " and ".join(map(title, indices))


def hash_images(data, title):
    """Perceptual hashes of an ImageSet's images: uint64 [n]."""
    chunks = range(0, len(data.labels), 256)
    return np.array([
        perceptual_hash(Image.fromarray(image))
        for start in tqdm(chunks, desc=title, unit="x256 images", disable=None, leave=False)
        for image in data_loader.displayable(data, slice(start, start + 256))], np.uint64)


def report_lines(description):
    """The description with its verdict in plain language."""
    if not description.problems:
        return description.lines + ["Ready to train."]
    return (description.lines + ["Look at this before you train:"]
            + ["  - " + problem for problem in description.problems])
