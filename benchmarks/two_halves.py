"""Limits that one half of LFW's people chose, tried on the other half and on other people.

    python prepare.py --source lfw --images LFW --name lfw10 --crop detect --embedding
    python prepare.py --source folder --images DIR --name others --crop detect --embedding
    python -m benchmarks.two_halves data/lfw10 --others data/others

The hash of a name says to which half a person belongs. One half's people give the rates of
strangers (evaluation.strangers.measure) and choose two limits: PERHAPS of gallery.comparison, by
the F1 of finding, and MOST_STRANGERS of gallery.answers, the largest with which at most 3 % of
strangers are named. Then both halves change places. Albums are drawn --albums times: some people,
with MOST photographs at most, of which a quarter are queries, and a photograph of each other
person, a stranger. Finding: of all photographs within the distance, those that show the query's
person. Naming: a query gets the nearest face's person if that lies within the threshold for 1 % of
strangers, or else, as search does, the person whom nearly all of the nearest show. Lines of JSON.
"""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np

from benchmarks.strangers import DISTANCES, KNOWN_SIZES, read_data_set
from evaluation.floats import unit_vectors
from evaluation.strangers import measure
from gallery.answers import EVIDENCE, MOST_OF_THEM, MOST_STRANGERS
from gallery.comparison import PERHAPS
from runtime.command_line import ArgumentParser, run_command

SIZES = (1, 3, 10, 30, 100, 300, 1000)  # half of the people have no 3,000 faces
PERHAPS_TRIED = (0.03, 0.06, 0.12, PERHAPS, 0.5, 1.0, 2.0, 4.0)
STRANGERS_TRIED = (0.0, 0.01, 0.02, MOST_STRANGERS, 0.05, 0.1)  # 0: the threshold alone
MOST, QUERIES = 16, 0.25  # photographs of a person; the share of them that are queries


def first_half(folder, labels):
    """Which faces are of people of the first half: bool [n]."""
    with open(folder / "images.csv", encoding="utf-8") as stream:
        names = {int(row["label"]): row["identity"] for row in csv.DictReader(stream)
                 if row["label"]}
    is_first = {label: hashlib.sha256(name.encode()).digest()[0] < 128
                for label, name in names.items()}
    return np.array([is_first[label] for label in labels])


def draw_album(labels, people, rng):
    """(album, queries): indices of faces; a stranger has one query."""
    album, queries = [], []
    for place, person in enumerate(rng.permutation(np.unique(labels))):
        faces = rng.permutation(np.flatnonzero(labels == person))[:MOST]
        count = max(1, round(QUERIES * len(faces))) if place < people else 1
        queries.extend(faces[:count])
        album.extend(faces[count:] if place < people else ())
    return np.array(album), np.array(queries)


def answers(strangers, vectors, labels, album, queries):
    """Counts of one album.

    Args:
        strangers: evaluation.strangers.Strangers of other people.
        vectors, labels: float32 [n, D], unit vectors, and int [n].
        album, queries: indices.

    Returns:
        (found, named): int [PERHAPS_TRIED, 3] of photographs found, right ones, and all that are
        to be found; int [STRANGERS_TRIED, 4] of known people, those named right, strangers, and
        those named.
    """
    apart = 1 - vectors[queries].dot(vectors[album].T)
    same = labels[queries][:, None] == labels[album]
    known, count = same.any(axis=1), len(album)
    found = []
    for perhaps in PERHAPS_TRIED:
        shown = apart[known] <= strangers.threshold(1, min(perhaps / count, 0.5))
        found.append([shown.sum(), (shown & same[known]).sum(), same.sum()])
    order = np.argsort(apart, axis=1)[:, :EVIDENCE]
    people, distances = labels[album][order], np.take_along_axis(apart, order, axis=1)
    totals = (labels[album] == people[:, :1]).sum(axis=1)
    limits = np.minimum(totals, EVIDENCE)
    own = (people == people[:, :1]).sum(axis=1)
    agree = (own >= np.maximum(2, MOST_OF_THEM * limits)) & (2 * totals <= count)
    agree &= distances[:, 0] <= strangers.distances[-1]
    rates = np.array([strangers.rate(distance, count).rate for distance in distances[:, 0]])
    right, named = people[:, 0] == labels[queries], []
    for limit in STRANGERS_TRIED:
        given = (distances[:, 0] <= strangers.threshold(count)) | (agree & (rates <= limit))
        named.append([known.sum(), (given & right & known).sum(), (~known).sum(),
                      (given & ~known).sum()])
    return np.array(found), np.array(named)


def over_albums(strangers, vectors, labels, people, albums):
    """Sums of `answers` over albums that are drawn."""
    rng = np.random.RandomState(0)
    counts = [answers(strangers, vectors, labels, *draw_album(labels, people, rng))
              for _ in range(albums)]
    return [np.sum(each, axis=0) for each in zip(*counts)]


def rows(found, named):
    """Precision and recall by PERHAPS, and shares of known and strangers by MOST_STRANGERS."""
    return {"precision, recall": {str(tried): [round(counts[1] / max(counts[0], 1), 4), round(
                counts[1] / counts[2], 4)] for tried, counts in zip(PERHAPS_TRIED, found)},
            "known right, strangers named": {str(tried): [round(counts[1] / counts[0], 4), round(
                counts[3] / counts[2], 4)] for tried, counts in zip(STRANGERS_TRIED, named)}}


def main(arguments):
    """Prints the lines."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="data/NAME, prepared with --embedding")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="more data sets")
    parser.add_argument("--people", type=int, default=18, help="of an album; at most half of all")
    parser.add_argument("--albums", type=int, default=20)
    options = parser.parse_args(arguments)
    embeddings, labels = read_data_set(options.folder)
    is_first = first_half(options.folder, labels)
    others = [(path.name, *read_data_set(path)) for path in options.others]
    for name, chosen in (("first", is_first), ("second", ~is_first)):
        strangers = measure(embeddings[chosen], labels[chosen], DISTANCES, SIZES, KNOWN_SIZES)
        print(json.dumps({"half": name, "people": len(set(labels[chosen].tolist())), "thresholds": {
            faces: round(strangers.threshold(faces), 4) for faces in (100, 300, 1000)}}))
        for where, vectors, whose in [("chosen on", embeddings[chosen], labels[chosen]),
                                      ("other half", embeddings[~chosen], labels[~chosen]),
                                      *others]:
            found, named = over_albums(strangers, unit_vectors(vectors), whose, min(
                options.people, len(set(whose.tolist())) // 2), options.albums)
            line = {"half": name, "tried on": where}
            if where == "chosen on":
                f1 = 2 * found[:, 1] / (found[:, 0] + found[:, 2])
                few = np.flatnonzero(named[:, 3] <= MOST_STRANGERS * named[:, 2])
                line["chosen"] = {
                    "PERHAPS": PERHAPS_TRIED[int(np.argmax(f1))],
                    "MOST_STRANGERS": STRANGERS_TRIED[int(few[-1])] if len(few) else None}
            print(json.dumps({**line, **rows(found, named)}), flush=True)


if __name__ == "__main__":
    run_command(main)
