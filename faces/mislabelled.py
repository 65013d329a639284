"""Photographs that are perhaps not of the person they are filed under, by codes of a trained model.

A suspect lies further from the other photographs of its own person than from those of another one.
"""

from typing import NamedTuple

import numpy as np

from faces.image_files import image_files, printable

COLUMNS = ["split", "row", "file", "identity", "nearest_identity", "own_distance",
           "nearest_distance"]


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


def suspects(codes, labels, least_gap=0.0):
    """Images that lie further from their own person than from another one.

    A mean Hamming distance to many codes is linear in their mean code, so that no image is compared
    with every other. The own person's mean leaves the image itself out. Training images that a
    network has learned by heart lie near those they are filed under, so that test images and the
    output of a short training show more.

    Args:
        codes: int8 [n, num_bits], -1 or +1.
        labels: int [n], 0 or above.
        least_gap: by how many bits the own person must be further away.

    Returns:
        List of Suspects, the clearest first. Persons with a single image have no suspects.
    """
    codes, labels = np.asarray(codes), np.asarray(labels)
    num_bits = codes.shape[1]
    people, of_image, counts = np.unique(labels, return_inverse=True, return_counts=True)
    of_image = of_image.reshape(-1)
    if len(people) < 2:
        return []
    sums = np.zeros((len(people), num_bits))
    np.add.at(sums, of_image, codes)
    means = sums / counts[:, None]
    found = []
    for start in range(0, len(codes), 4096):
        part = codes[start:start + 4096].astype(float)
        own = of_image[start:start + 4096]
        rows = np.arange(len(part))
        others = (num_bits - part.dot(means.T)) / 2
        others[rows, own] = np.inf
        nearest = others.argmin(axis=1)
        rest = counts[own] - 1
        own_means = (sums[own] - part) / np.maximum(rest, 1)[:, None]
        own_distances = (num_bits - (part * own_means).sum(axis=1)) / 2
        gaps = own_distances - others[rows, nearest]
        for row in np.flatnonzero((rest > 0) & (gaps > least_gap + 1e-9)):
            found.append(Suspect(start + int(row), int(people[own[row]]), int(people[nearest[row]]),
                                 float(own_distances[row]), float(others[row, nearest[row]])))
    return sorted(found, key=lambda suspect: (suspect.other_distance - suspect.own_distance,
                                              suspect.index))


def suspects_table(codes, dataset, names, rows=(None, None), most=100):
    """The suspects of a run, for a table: which photographs to look at.

    Args:
        codes: Codes of the gallery (training images) and the queries (test images),
            with whole numbers as labels.
        dataset: the run's config.Dataset.
        names: identities by label, or None.
        rows: int [n] of training and test images, their rows in the data set; None: file order.
        most: rows at most, the clearest suspects.

    Returns:
        List of rows, one a suspect, with COLUMNS; `file` is empty where it is not known.
    """
    num_train = len(codes.gallery_labels)
    files = image_files(dataset)
    table = []
    for suspect in suspects(np.concatenate([codes.gallery_codes, codes.query_codes]),
                            np.concatenate([codes.gallery_labels, codes.query_labels]))[:most]:
        split, row = (("train", suspect.index) if suspect.index < num_train
                      else ("test", suspect.index - num_train))
        of_split = rows[split == "test"]
        row = row if of_split is None else int(of_split[row])
        own, nearest = [names[label] if names else str(label)
                        for label in (suspect.label, suspect.other)]
        table.append([split, row, printable(files[split].get(row, "")), own, nearest,
                     round(suspect.own_distance, 2), round(suspect.other_distance, 2)])
    return table
