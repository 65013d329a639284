"""Groups of faces without names, held against whose they are.

    python -m benchmarks.grouping LFW OUT --strangers FACESCRUB ORL

Photographs of LFW/PERSON/ are shuffled into one folder (links, OUT/photographs), with one
photograph of each stranger, and indexed as anybody's would be (OUT/gallery); that is done once.
Then the largest face of each photograph is judged; other faces are grouped, too, but whose they are
is not known. Prints one line of JSON for all people, and one for each number in --reduced: so many
of the people, drawn at random, have one photograph each, as strangers have. --batches: the same if
the photographs come in so many lots, one after the other.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from gallery import indexing
from gallery.following import NO_PEOPLE
from gallery.groups import _enemies, join_clusters, near_pairs
from gallery.store import Gallery

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
    _, cells = np.unique(np.stack([groups, people]), axis=1, return_inverse=True)
    cells = np.bincount(np.ravel(cells))
    sizes, of_people = np.bincount(groups), np.bincount(people)
    right, told, true = (np.sum(counts * (counts - 1) / 2) for counts in (cells, sizes, of_people))
    _, cell = np.unique(np.stack([groups, people]), axis=1, return_inverse=True)
    same = cells[np.ravel(cell)]
    return {"precision": right / told, "recall": right / true,
            "precision_of_faces": float(np.mean(same / sizes[groups])),
            "recall_of_faces": float(np.mean(same / of_people[people])),
            "groups": int(np.count_nonzero(sizes > 1)),
            "single_faces": int(np.count_nonzero(sizes == 1)),
            "people": int(np.count_nonzero(of_people > 1)),
            "strangers": int(np.count_nonzero(of_people == 1))}


def group(gallery, rows, batches=1):
    """The groups of some rows of a gallery: int [n].

    Args:
        gallery: gallery.store.Gallery.
        rows: int64 [n], in the order in which the faces come.
        batches: lots in which they come.
    """
    vectors, ids = gallery.embeddings()[rows], gallery.ids[rows]
    order = np.argsort(ids)
    vectors, ids, codes = vectors[order], ids[order], gallery.codes[rows][order]
    photographs, place = gallery.photographs[rows][order], np.argsort(order)
    nothing = np.zeros((0, 2), np.int64)
    start = np.arange(len(rows))
    for new in np.array_split(place, batches):
        here = place[:np.flatnonzero(place == new[-1])[0] + 1]
        pairs = near_pairs(vectors, np.sort(new), codes, gallery.num_bits)
        pairs = pairs[np.isin(pairs, here).all(axis=1)]
        _, start = np.unique(start, return_inverse=True)
        enemies = _enemies(ids, start, photographs, {}, nothing, nothing)
        start = join_clusters(vectors, start, pairs, np.zeros(start.max() + 1, bool), enemies)
    return np.unique(start[place], return_inverse=True)[1]


def main(arguments=None):
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, help="folder of a folder for each person")
    parser.add_argument("out", type=Path)
    parser.add_argument("--strangers", type=Path, nargs="*", default=[])
    parser.add_argument("--reduced", type=int, nargs="*", default=[])
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--draws", type=int, default=5, help="of those who are reduced")
    options = parser.parse_args(arguments)
    owners = options.out / "owners.json"
    if not owners.exists():
        names = make_folder(options.out / "photographs", options.people, options.strangers,
                            np.random.RandomState(0))
        owners.write_text(json.dumps(names))
    owners = json.loads(owners.read_text())
    indexing.index_photographs(options.out / "gallery", [options.out / "photographs"], "all",
                               people=NO_PEOPLE, data_dir=options.out)
    with Gallery.open(options.out / "gallery") as gallery:
        faces = gallery.faces(gallery.ids)
        largest = np.array([face.number == 0 for face in faces])
        # The links are followed: a face's photograph is known by the file that it is.
        names = {os.path.realpath(options.out / "photographs" / name): owner
                 for name, owner in owners.items()}
        people = np.unique([names[os.path.realpath(face.photograph)] for face in faces],
                           return_inverse=True)[1]
        kept = np.flatnonzero(largest)
        print(json.dumps({"photographs": len(owners), "faces": len(faces), "judged": len(kept),
                          "how": "as stored", **judged(
                              np.unique(gallery.groups[kept], return_inverse=True)[1],
                              np.unique(people[kept], return_inverse=True)[1])}), flush=True)
        rng = np.random.RandomState(1)
        for count in options.reduced:
            for _ in range(options.draws):
                rows = reduce(people, largest, count, rng)
                started = time.perf_counter()
                found = group(gallery, rows, options.batches)
                seconds = time.perf_counter() - started
                here = largest[rows]
                print(json.dumps({
                    "reduced": count, "faces": len(rows), "batches": options.batches,
                    "seconds": round(seconds, 2), **judged(
                        np.unique(found[here], return_inverse=True)[1],
                        np.unique(people[rows][here], return_inverse=True)[1])}), flush=True)


def reduce(people, largest, count, rng):
    """Rows of all faces but those of the photographs that people lose, in a random order.

    Args:
        people: int [n], whose photograph each face is on.
        largest: bool [n], whether it is the largest face there.
        count: people of several photographs, drawn at random, who keep one face.
        rng: numpy RandomState.
    """
    sizes = np.bincount(people[largest])
    chosen = rng.choice(np.flatnonzero(sizes > 1), count, replace=False)
    kept = ~np.isin(people, chosen)
    for person in chosen:
        kept[rng.choice(np.flatnonzero((people == person) & largest))] = True
    return rng.permutation(np.flatnonzero(kept))


if __name__ == "__main__":
    main()
