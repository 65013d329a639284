"""Photographs that are perhaps not of the person they are filed under, by codes of a trained model.

A suspect lies further from the other photographs of its own person than from those of another one,
and is as near to these as they are to each other. A weak model puts many photographs nearer to
other people: where too few agree with their names, nobody is suspected.
"""

from typing import NamedTuple

import numpy as np

import data_loader

COLUMNS = ["split", "row", "file", "identity", "nearest_identity", "own_distance",
           "nearest_distance"]
# Share of the images that must be nearest to their own person. With made codes of 2 to 50 people of
# which 1 to 10 % had a wrong name, 94 % of the suspects were right at 0.8, 81 % at 0.75.
LEAST_AGREEMENT = 0.8
CHUNK = 4096  # images compared at once
MOST_SUSPECTS = 100  # of a table


class Suspect(NamedTuple):
    """One suspected image.

    Attributes:
        index: of the image among the codes given.
        label: the person it is filed under.
        other: the person whose images it is nearest to.
        own_distance: mean Hamming distance to the other images of its own person, in bits.
        other_distance: the same to the images of the other person.
    """

    index: int
    label: int
    other: int
    own_distance: float
    other_distance: float


def suspects(codes, labels, held_out=None):
    """Images that lie far from their own person and at home in another one.

    A mean Hamming distance to many codes is linear in their mean code, so that no image is compared
    with every other. The own person's mean leaves the image itself out. Training images that a
    network has learned by heart lie near those they are filed under, so that test images and the
    output of a short training show more.

    Args:
        codes: int8 [n, num_bits], -1 or +1.
        labels: int [n], 0 or above.
        held_out: bool [n], images that the model was not trained on: LEAST_AGREEMENT of them, too,
            must be nearest to their own person. None if that is not known.

    Returns:
        List of Suspects, the clearest first; none if too few images agree with their labels.
        People with a single image have no suspects.
    """
    codes, labels = np.asarray(codes), np.asarray(labels)
    people, of_image, counts = np.unique(labels, return_inverse=True, return_counts=True)
    of_image = of_image.reshape(-1)
    if len(people) < 2 or counts.max() < 2:
        return []
    own, nearest, other = _distances(codes, of_image, counts)
    known = counts[of_image] > 1
    agrees = own < nearest + 1e-9
    for some in (known, known & (True if held_out is None else held_out)):
        if some.any() and agrees[some].mean() < LEAST_AGREEMENT:
            return []
    usual = np.array([np.median(own[of_image == person]) if count > 1 else -np.inf
                      for person, count in enumerate(counts)])
    found = np.flatnonzero(known & ~agrees & (nearest <= usual[other] + 1e-9))
    found = sorted(found.tolist(), key=lambda index: (nearest[index] - own[index], index))
    return [Suspect(index, int(labels[index]), int(people[other[index]]), float(own[index]),
                    float(nearest[index])) for index in found]


def _distances(codes, of_image, counts):
    """Mean Hamming distances of images to people.

    Args:
        codes: int8 [n, num_bits].
        of_image: int [n], each image's person, 0..people-1.
        counts: int [people], images of each.

    Returns:
        own: float [n], to the other images of its own person.
        nearest: float [n], to those of the nearest other person.
        other: int [n], who that is.
    """
    num_bits = codes.shape[1]
    sums = np.zeros((len(counts), num_bits))
    np.add.at(sums, of_image, codes)
    means = sums / counts[:, None]
    own, nearest = np.empty(len(codes)), np.empty(len(codes))
    other = np.empty(len(codes), int)
    for start in range(0, len(codes), CHUNK):
        chunk = slice(start, start + CHUNK)
        part, person = codes[chunk].astype(float), of_image[chunk]
        rows = np.arange(len(part))
        # [chunk, people]
        distances = (num_bits - part.dot(means.T)) / 2
        distances[rows, person] = np.inf
        other[chunk] = distances.argmin(axis=1)
        nearest[chunk] = distances[rows, other[chunk]]
        rest = (sums[person] - part) / np.maximum(counts[person] - 1, 1)[:, None]
        own[chunk] = (num_bits - (part * rest).sum(axis=1)) / 2
    return own, nearest, other


def suspects_table(codes, dataset, names, rows=(None, None)):
    """The suspects of a run, for a table: which photographs to look at.

    Args:
        codes: Codes of the gallery (training images) and the queries (test images),
            with whole numbers as labels.
        dataset: the run's config.Dataset.
        names: people by label, or None.
        rows: int [n] of training and test images, their rows in the data set; None: file order.

    Returns:
        List of rows, one a suspect, with COLUMNS; `file` is empty where it is not known.
    """
    num_train = len(codes.gallery_labels)
    files = data_loader.image_files(dataset)
    labels = np.concatenate([codes.gallery_labels, codes.query_labels])
    table = []
    for suspect in suspects(np.concatenate([codes.gallery_codes, codes.query_codes]), labels,
                            np.arange(len(labels)) >= num_train)[:MOST_SUSPECTS]:
        split, row = (("train", suspect.index) if suspect.index < num_train
                      else ("test", suspect.index - num_train))
        of_split = rows[split == "test"]
        row = row if of_split is None else int(of_split[row])
        own, nearest = [names[label] if names else str(label)
                        for label in (suspect.label, suspect.other)]
        table.append([split, row, files[split].get(row, ""), own, nearest,
                      round(suspect.own_distance, 2), round(suspect.other_distance, 2)])
    return table
