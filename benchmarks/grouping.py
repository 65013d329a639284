"""Groups of faces without names, held against whose they are.

    python -m benchmarks.grouping LFW OUT --strangers FACESCRUB ORL

Photographs of LFW/PERSON/ are shuffled into one folder (links, OUT/photographs), with one
photograph of each stranger, and indexed as anybody's would be (OUT/gallery); that is done once.
Then the largest face of each photograph is judged; other faces are grouped, too, but whose they are
is not known. Prints one line of JSON for the groups in the gallery, and --draws lines for each
number in --reduced: so many of the people, drawn at random, have one photograph each, as strangers
have. --drawn adds faces that a normal distribution gives (a hard case: such faces are crowded).
With --batches the faces come in so many lots, one after the other.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.floats import unit_vectors
from gallery import indexing
from gallery.following import NO_PEOPLE
from gallery.groups import conflicts, join_clusters, near_pairs
from gallery.store import Gallery
from runtime.command_line import ArgumentParser, run_command

ENDINGS = (".jpg", ".jpeg", ".png", ".pgm")


def make_folder(folder, people, strangers, rng):
    """Links photographs in a random order: FOLDER/NUMBER.ENDING. Returns {name: person}.

    Args:
        folder: Path.
        people: Path of a folder for each person, of which all photographs are taken.
        strangers: Paths of such folders, of which one photograph of each person is taken.
        rng: numpy RandomState.
    """
    found = [(path, path.parent.name) for path in sorted(people.glob("*/*"))
             if path.suffix.lower() in ENDINGS]
    for other in strangers:
        for person in sorted(path for path in other.iterdir() if path.is_dir()):
            paths = sorted(path for path in person.iterdir() if path.suffix.lower() in ENDINGS)
            found.append((paths[rng.randint(len(paths))], f"{other.name}/{person.name}"))
    folder.mkdir(parents=True)
    owners = {}
    for number, place in enumerate(rng.permutation(len(found))):
        path, person = found[place]
        name = f"{number:05d}{path.suffix.lower()}"
        os.symlink(path.resolve(), folder / name)
        owners[name] = person
    return owners


def judged(groups, people):
    """How good groups are: pairwise, and as a mean over faces (B-cubed).

    Args:
        groups, people: int [n], group and person of each face.

    Returns:
        dict.
    """
    _, cell = np.unique(groups * len(people) + people, return_inverse=True)
    cells = np.bincount(cell)
    sizes, of_people = np.bincount(groups), np.bincount(people)
    right, told, true = (np.sum(counts * (counts - 1) / 2) for counts in (cells, sizes, of_people))
    same = cells[cell]
    return {"precision": float(right / told), "recall": float(right / true),
            "precision_of_faces": float(np.mean(same / sizes[groups])),
            "recall_of_faces": float(np.mean(same / of_people[people])),
            "groups": int(np.count_nonzero(sizes > 1)),
            "single_faces": int(np.count_nonzero(sizes == 1)),
            "people": int(np.count_nonzero(of_people > 1)),
            "strangers": int(np.count_nonzero(of_people == 1))}


class Faces(NamedTuple):
    """Embeddings, photographs and people of faces, and whether each is judged: arrays [n]."""

    vectors: np.ndarray
    photographs: np.ndarray
    people: np.ndarray
    is_judged: np.ndarray

    def of(self, rows):
        """Some of them."""
        return Faces(*(values[rows] for values in self))


def reduced(faces, count, rng):
    """All faces but those of the photographs that `count` people lose, who keep one: Faces.

    Args:
        faces: Faces.
        count: people of several photographs, drawn at random.
        rng: numpy RandomState.
    """
    sizes = np.bincount(faces.people[faces.is_judged])
    chosen = rng.choice(np.flatnonzero(sizes > 1), count, replace=False)
    kept = ~np.isin(faces.people, chosen)
    for person in chosen:
        kept[rng.choice(np.flatnonzero((faces.people == person) & faces.is_judged))] = True
    return faces.of(np.flatnonzero(kept))


def with_drawn(faces, count, rng):
    """Faces, and `count` strangers' drawn from a normal distribution of their mean and covariance.
    """
    drawn = unit_vectors(rng.multivariate_normal(
        faces.vectors.mean(axis=0), np.cov(faces.vectors.T), count))
    own = np.arange(count)
    return Faces(np.concatenate([faces.vectors, drawn]),
                 np.concatenate([faces.photographs, faces.photographs.max() + 1 + own]),
                 np.concatenate([faces.people, faces.people.max() + 1 + own]),
                 np.concatenate([faces.is_judged, np.ones(count, bool)]))


def group(faces, batches):
    """The groups of Faces that come in so many lots: int [n]."""
    count = len(faces.vectors)
    start, nothing = np.arange(count), np.zeros((0, 2), np.int64)
    for new in np.array_split(np.arange(count), batches):
        pairs = near_pairs(faces.vectors[:new[-1] + 1], new, np.zeros(count, np.uint64), 64)
        enemies = conflicts(np.arange(count), start, faces.photographs, {}, nothing, nothing)
        start = join_clusters(faces.vectors, start, pairs, np.zeros(start.max() + 1, bool), enemies)
        start = np.unique(start, return_inverse=True)[1]
    return start


def main(arguments):
    """Prints the lines."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path, help="folder of a folder for each person")
    parser.add_argument("out", type=Path)
    parser.add_argument("--strangers", type=Path, nargs="*", default=[])
    parser.add_argument("--reduced", type=int, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=3, help="for each of --reduced")
    parser.add_argument("--drawn", type=int, default=0, help="strangers from a normal distribution")
    parser.add_argument("--batches", type=int, default=1)
    options = parser.parse_args(arguments)
    owners = options.out / "owners.json"
    if not owners.exists():
        names = make_folder(options.out / "photographs", options.people, options.strangers,
                            np.random.RandomState(0))
        owners.write_text(json.dumps(names))
    # The links are followed: a face's photograph is known by the file that it is.
    names = {os.path.realpath(options.out / "photographs" / name): owner
             for name, owner in json.loads(owners.read_text()).items()}
    indexing.index_photographs(options.out / "gallery", [options.out / "photographs"], "all",
                               people=NO_PEOPLE, data_dir=options.out)
    with Gallery.open(options.out / "gallery") as gallery:
        found = gallery.faces(gallery.ids)
        _, people = np.unique([names[os.path.realpath(face.photograph)] for face in found],
                              return_inverse=True)
        faces = Faces(gallery.vectors(), gallery.photographs, people,
                      np.array([face.number == 0 for face in found]))
        show(faces, gallery.groups, {"how": "as stored"})
    rng = np.random.RandomState(1)
    for count in options.reduced:
        for _ in range(options.draws):
            some = with_drawn(reduced(faces, count, rng), options.drawn, rng)
            some = some.of(rng.permutation(len(some.people)))
            show(some, group(some, options.batches), {
                "reduced": count, "drawn": options.drawn, "batches": options.batches})


def show(faces, groups, values):
    """Prints how good the groups of Faces are."""
    kept = faces.is_judged
    found = judged(*(np.unique(some[kept], return_inverse=True)[1]
                     for some in (groups, faces.people)))
    print(json.dumps({**values, "faces": len(kept), "judged": int(kept.sum()), **{
        name: round(value, 4) for name, value in found.items()}}), flush=True)


if __name__ == "__main__":
    run_command(main)
