"""Our default beside face_recognition (dlib), on the same photographs and cores, in turns.

    python3 -m venv DLIB
    DLIB/bin/pip install dlib-bin pillow click numpy "setuptools<80"
    DLIB/bin/pip install --no-deps face_recognition face_recognition_models
    python -m benchmarks.side_by_side DIR --python DLIB/bin/python
    python -m benchmarks.side_by_side DIR --python DLIB/bin/python --scale 6     larger photographs

DIR holds a folder for each person. Of each, a share of the photographs are queries, the others the
album. Their side is the script that their documentation suggests (HOG, 128 floats a face, all
compared in numpy, tolerance 0.6), with a process a core. Our side is `search.py index` and the
distance and threshold of `search.py find`. Names play no part.

A photograph is found if one of its faces lies within the threshold of one of the query's faces. Of
all photographs found, precision is the share that shows the query's person; of all that do, recall
is the share found. JSON lines are printed: speed, then answers, then queries over many faces.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.search import fill_gallery
from faces.photographs import open_photograph
from gallery import following, indexing
from gallery.answers import Judge
from gallery.engines import open_index
from gallery.questions import check_embedder, cut_out, embed
from gallery.store import Gallery
from runtime.errors import UserError

TOLERANCE = 0.6  # theirs, a Euclidean distance
TURNS = 10
PEOPLE_AT_ONCE = 18

THEIRS = """
import json, os, sys, time
from multiprocessing import Pool
import face_recognition
import numpy

def encode(path):
    return face_recognition.face_encodings(face_recognition.load_image_file(path))

if __name__ == "__main__":
    with Pool(os.cpu_count()) as pool:
        for line in sys.stdin:
            task = json.loads(line)
            start = time.perf_counter()
            if "paths" in task:
                found = pool.map(encode, task["paths"], chunksize=1)
                answer = [[face.tolist() for face in faces] for faces in found]
            else:
                known = list(numpy.random.RandomState(0).standard_normal((task["faces"], 128)))
                face, answer = known[7], []
                for _ in range(task["queries"]):
                    start = time.perf_counter()
                    face_recognition.compare_faces(known, face)
                    answer.append(time.perf_counter() - start)
            print(json.dumps([time.perf_counter() - start, answer]), flush=True)
"""


class Theirs:
    """A process of their Python.

    Args:
        python: path.
    """

    def __init__(self, python):
        self._process = subprocess.Popen([python, "-c", THEIRS], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, universal_newlines=True)

    def ask(self, **task):
        """(seconds, answer) of a task."""
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


class Ours:
    """A gallery without a run.

    Args:
        folder: Path, new.
    """

    def __init__(self, folder):
        self.path, self.data = folder / "gallery", folder / "data"

    def index(self, folder):
        """Adds a folder of photographs; returns seconds."""
        start = time.perf_counter()
        if self.path.exists():
            indexing.add(self.path, [str(folder)], data_dir=self.data)
        else:
            indexing.index_photographs(self.path, [str(folder)], "all",
                                       people=following.NO_PEOPLE, data_dir=self.data)
        return time.perf_counter() - start


def split(folder, share, people, seed):
    """[(person, album, queries)]: names, and lists of Paths, of people chosen at random."""
    rng, chosen = np.random.RandomState(seed), []
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for number in rng.permutation(len(folders))[:people]:
        paths = sorted(folders[number].iterdir())
        paths = [paths[place] for place in rng.permutation(len(paths))]
        count = max(1, round(share * len(paths)))
        chosen.append((folders[number].name, paths[count:], paths[:count]))
    return chosen


def lay_out(album, place, scale):
    """Copies an album's photographs into folders, one a turn: [Path], {path in them: person}."""
    turns, whose = [place / f"turn{turn}" for turn in range(TURNS)], {}
    for folder in turns:
        folder.mkdir()
    files = [(person, path) for person, paths, _ in album for path in paths]
    for number, (person, path) in enumerate(files):
        copy = turns[number % TURNS] / f"{number}{path.suffix}"
        save(path, copy, scale)
        whose[str(copy)] = person
    return turns, whose


def save(path, copy, scale):
    """Copies a photograph, its sides so many times as long."""
    if scale == 1:
        copy.write_bytes(path.read_bytes())
        return
    with Image.open(str(path)) as image:
        image.convert("RGB").resize([round(scale * side) for side in image.size],
                                    Image.BICUBIC).save(str(copy), quality=92)


def measure(folder, python, share, people, seed, scale):
    """Prints the lines of one album."""
    theirs = Theirs(python)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        album = split(folder, share, people, seed)
        turns, whose = lay_out(album, place, scale)
        warm_up = place / "warm_up"
        warm_up.mkdir()
        save(album[0][2][0], warm_up / "0.jpg", scale)
        Ours(place / "warm").index(warm_up)
        theirs.ask(paths=[str(warm_up / "0.jpg")])
        ours, their_faces, times = Ours(place / "ours"), {}, {"ours": [], "theirs": []}
        for number, turn in enumerate(turns):
            paths = sorted(map(str, turn.iterdir()))
            for side in ("ours", "theirs")[::1 if number % 2 else -1]:
                if side == "ours":
                    seconds = ours.index(turn)
                else:
                    seconds, found = theirs.ask(paths=paths)
                    their_faces.update(zip(paths, found))
                times[side].append(seconds / len(paths))
        ratios = np.array(times["theirs"]) / times["ours"]
        print(json.dumps({
            "photographs": len(whose), "scale": scale, "cores": os.cpu_count(),
            "per_second": {side: round(1 / statistics.median(each), 2)
                           for side, each in times.items()},
            "theirs_take_times": round(float(np.median(ratios)), 2),
            "in_each_turn": ratios.round(1).tolist()}), flush=True)
        queries = place / "queries"
        queries.mkdir()
        asked = []
        for person, _, paths in album:
            for path in paths:
                copy = queries / f"{len(asked)}{path.suffix}"
                save(path, copy, scale)
                asked.append((str(copy), person))
        answers = {"ours": our_distances(ours.path, [path for path, _ in asked], sorted(whose)),
                   "theirs": their_distances(theirs, [path for path, _ in asked], their_faces,
                                             sorted(whose))}
        theirs.close()
        same = np.array([[whose[path] == person for path in sorted(whose)] for _, person in asked])
        print(json.dumps({
            "queries": len(asked), "bytes_a_face": {"ours": 264, "theirs": 1024},
            **{side: quality(*found, same) for side, found in answers.items()}}), flush=True)


def our_distances(path, queries, photographs):
    """(distances [Q, photographs], threshold): of the nearest pair of faces; inf without one."""
    places = {path: place for place, path in enumerate(photographs)}
    distances = np.full((len(queries), len(photographs)), np.inf)
    with Gallery.open(path) as gallery, gallery.open_encoder() as encoder:
        check_embedder(encoder.metadata)
        judge, index = Judge(gallery), open_index(gallery)
        of_row = [places[face.photograph] for face in gallery.faces(gallery.ids)]
        for line, query in enumerate(queries):
            for face in embed(cut_out(open_photograph(Path(query)), encoder.metadata)):
                found = judge.comparison.nearest(index, np.uint64(0), face.embedding, len(gallery))
                for row, distance in zip(found.rows, found.distances):
                    place = of_row[row]
                    distances[line, place] = min(distances[line, place], distance)
        return distances, judge.threshold


def their_distances(theirs, queries, their_faces, photographs):
    """See our_distances."""
    distances = np.full((len(queries), len(photographs)), np.inf)
    for line, faces in enumerate(theirs.ask(paths=queries)[1]):
        for place, path in enumerate(photographs):
            for one, other in itertools.product(faces, their_faces[path]):
                distances[line, place] = min(distances[line, place],
                                             np.linalg.norm(np.subtract(one, other)))
    return distances, TOLERANCE


def quality(distances, threshold, same):
    """Precision and recall at the threshold, and the precision at several recalls."""
    found = distances <= threshold
    order = np.argsort(distances, axis=None, kind="stable")
    right = same.ravel()[order].cumsum()
    recalls, precisions = right / same.sum(), right / np.arange(1, same.size + 1)
    return {"threshold": round(float(threshold), 4),
            "precision": round(float((found & same).sum() / max(found.sum(), 1)), 4),
            "recall": round(float((found & same).sum() / same.sum()), 4),
            "precision_at_recall": {
                recall: round(float(precisions[np.searchsorted(recalls, recall)]), 4)
                for recall in (0.8, 0.85, 0.9, 0.91, 0.93, 0.95) if recall <= recalls[-1]}}


def measure_queries(python, faces, count=20):
    """Prints how long one query over many faces takes on either side, in turns."""
    theirs, times = Theirs(python), {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        (place / "photographs").mkdir()
        Image.new("RGB", (64, 64)).save(str(place / "photographs" / "1.png"))
        path = place / "gallery"
        with contextlib.suppress(UserError):  # no face yet
            indexing.index_photographs(path, [str(place / "photographs")],
                                       data_dir=place / "data")
        fill_gallery(path, faces)
        with Gallery.open(path) as gallery:
            judge, index = Judge(gallery), open_index(gallery)
            embedding = gallery.embedding_of(gallery.ids[7])
            for _ in range(4):
                times["theirs"] += theirs.ask(faces=faces, queries=count // 4)[1]
                for _ in range(count // 4):
                    start = time.perf_counter()
                    judge.answer(index, gallery.codes[7], 10, embedding=embedding)
                    times["ours"].append(time.perf_counter() - start)
    theirs.close()
    milliseconds = {side: round(1000 * statistics.median(each), 2) for side, each in times.items()}
    print(json.dumps({"faces": faces, "query_ms": milliseconds, "theirs_take_times": round(
        milliseconds["theirs"] / milliseconds["ours"], 1)}), flush=True)


def main(arguments=None):
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a folder for each person in it")
    parser.add_argument("--python", required=True, help="their environment's")
    parser.add_argument("--share", type=float, default=0.25, help="of photographs that are queries")
    parser.add_argument("--people", type=int, default=PEOPLE_AT_ONCE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--faces", type=int, nargs="*", default=[],
                        help="also: queries over so many faces")
    options = parser.parse_args(arguments)
    for seed in options.seeds if options.folder else ():
        measure(options.folder, options.python, options.share, options.people, seed, options.scale)
    for faces in options.faces:
        measure_queries(options.python, faces)


if __name__ == "__main__":
    main()
