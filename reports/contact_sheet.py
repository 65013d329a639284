"""A page that shows who is who in a data set: one row a person, so that wrong faces are seen."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

import data_loader
from reports.html import data_url, render

TEMPLATE = Path(__file__).resolve().parent / "templates" / "contact_sheet.html"
# Images on a page, so that a browser can show it (about 1.3 kB each); each person has at least 4
# of a split and at most 40.
MOST_IMAGES, LEAST_OF_A_SPLIT, MOST_OF_A_SPLIT = 20000, 4, 40


class ShownFace(NamedTuple):
    """One image of the page: text for people, and the picture as a data URL."""

    text: str
    source: str


class Person(NamedTuple):
    """One row of the page: a name, counts, and lists of ShownFaces."""

    name: str
    train_count: int
    test_count: int
    train: list
    test: list


def contact_sheet(dataset, train, test):
    """The page of a data set.

    Args:
        dataset: a config.Dataset.
        train, test: its ImageSets.

    Returns:
        HTML, complete in itself.
    """
    names = (data_loader.identity_names(dataset)
             or [f"person {label}" for label in range(dataset.num_identities)])
    most = int(np.clip(MOST_IMAGES // (2 * len(names)), LEAST_OF_A_SPLIT, MOST_OF_A_SPLIT))
    files = data_loader.image_files(dataset)
    people = []
    for label, name in enumerate(names):
        indices = [np.flatnonzero(split.labels == label) for split in (train, test)]
        shown = [_shown(split, chosen, most, files.get(which, {}), which)
                 for split, chosen, which in zip((train, test), indices, ("train", "test"))]
        people.append(Person(name, len(indices[0]), len(indices[1]), *shown))
    return render(
        TEMPLATE, title=dataset.title, people=people, most=most,
        shortened=any(max(person.train_count, person.test_count) > most for person in people))


def _shown(split, indices, most, files, which):
    """ShownFaces of some images, spread evenly over the file order."""
    if not len(indices):
        return []
    chosen = indices[np.unique(np.linspace(0, len(indices) - 1, min(most, len(indices))).round()
                               .astype(int))]
    return [ShownFace(files.get(index, f"{which} image {index}"), data_url(image, jpeg_quality=85))
            for index, image in zip(chosen.tolist(), data_loader.displayable(split, chosen))]
