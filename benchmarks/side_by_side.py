"""Our default beside face_recognition (dlib), on the same photographs and cores, in turns.

    python3 -m venv DLIB
    DLIB/bin/pip install dlib-bin pillow click numpy "setuptools<80"
    DLIB/bin/pip install --no-deps face_recognition face_recognition_models
    python -m benchmarks.side_by_side DIR --python DLIB/bin/python
    python -m benchmarks.side_by_side DIR --python DLIB/bin/python --scale 6     larger photographs

DIR holds a folder for each person. Some people are drawn; a share of their photographs are queries,
the others the album. --strangers photographs of each of the others are queries, too. Their side is
the script that their documentation suggests (HOG, 128 floats a face, all compared in numpy,
tolerance 0.6), with a process a core. Our side is `search.py index`, `find` and `query`.

Finding: a photograph is found if one of its faces lies within the threshold of one of the query's
faces. Of all photographs found, precision is the share that shows the query's person; of all that
do, recall is the share found. Naming: the largest face of each query gets the name that it is given
(theirs: of the nearest photograph, if that is found). JSON lines are printed: speed, then answers,
then queries over many faces.
"""

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
from gallery import indexing
from gallery.answers import Judge
from gallery.engines import open_index
from gallery.questions import find_faces
from gallery.store import Gallery
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError

TOLERANCE = 0.6  # theirs, a Euclidean distance
TURNS = 5

THEIRS = """
import json, os, sys, time
from multiprocessing import Pool
import face_recognition
import numpy

def encode(path):
    start = time.process_time()
    faces = face_recognition.face_encodings(face_recognition.load_image_file(path))
    return [face.tolist() for face in faces], time.process_time() - start

if __name__ == "__main__":
    with Pool(os.cpu_count()) as pool:
        for line in sys.stdin:
            task = json.loads(line)
            start = time.perf_counter()
            if "paths" in task:
                answer = pool.map(encode, task["paths"], chunksize=1)
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
        """Adds a folder of photographs; returns seconds, and those of processor time."""
        start, cpu = time.perf_counter(), time.process_time()
        if self.path.exists():
            indexing.add(self.path, [str(folder)], data_dir=self.data)
        else:
            indexing.index_photographs(self.path, [str(folder)], "all", data_dir=self.data)
        return time.perf_counter() - start, time.process_time() - cpu


def split(folder, share, people, strangers, seed):
    """[(person, album, queries)]: names, and lists of Paths; strangers have no album."""
    rng, chosen = np.random.RandomState(seed), []
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for place, number in enumerate(rng.permutation(len(folders))):
        paths = sorted(folders[number].iterdir())
        paths = [paths[place] for place in rng.permutation(len(paths))]
        count = max(1, round(share * len(paths))) if place < people else strangers
        chosen.append((folders[number].name, paths[count:] if place < people else [],
                       paths[:count]))
    return chosen


def lay_out(album, place, scale):
    """Copies an album's photographs into turn/PERSON/, in turns: [Path], {path there: person}."""
    turns, whose = [place / f"turn{turn}" for turn in range(TURNS)], {}
    for folder in turns:
        folder.mkdir()
    files = [(person, path) for person, paths, _ in album for path in paths]
    for number, (person, path) in enumerate(files):
        copy = turns[number % TURNS] / person / f"{number}{path.suffix}"
        copy.parent.mkdir(exist_ok=True)
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


def measure(folder, python, share, people, strangers, seed, scale):
    """Prints the lines of one album."""
    theirs = Theirs(python)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        album = split(folder, share, people, strangers, seed)
        turns, whose = lay_out(album, place, scale)
        warm_up = place / "warm_up"
        warm_up.mkdir()
        save(album[0][2][0], warm_up / "0.jpg", scale)
        Ours(place / "warm").index(warm_up)
        theirs.ask(paths=[str(warm_up / "0.jpg")])
        ours, their_faces = Ours(place / "ours"), {}
        times = {"ours": [], "theirs": []}  # of a photograph: seconds, and processor time
        for number, turn in enumerate(turns):
            paths = sorted(map(str, turn.glob("*/*")))
            for side in ("ours", "theirs")[::1 if number % 2 else -1]:
                if side == "ours":
                    taken = ours.index(turn)
                else:
                    seconds, found = theirs.ask(paths=paths)
                    taken = seconds, sum(cpu for _, cpu in found)
                    their_faces.update(zip(paths, (faces for faces, _ in found)))
                times[side].append(np.array(taken) / len(paths))
        ratios = np.array(times["theirs"]) / times["ours"]  # [turns, 2]
        print(json.dumps({
            "photographs": len(whose), "scale": scale, "cores": os.cpu_count(),
            "per_second": {side: (1 / np.median(each, axis=0)[0]).round(2).item()
                           for side, each in times.items()},
            "processor_ms_a_photograph": {side: (1000 * np.median(each, axis=0)[1]).round(1).item()
                                          for side, each in times.items()},
            "theirs_take_times": dict(zip(("seconds", "processor_time"),
                                          np.median(ratios, axis=0).round(2).tolist())),
            "in_each_turn": ratios.round(1).tolist()}), flush=True)
        queries = place / "queries"
        queries.mkdir()
        asked = []
        for person, _, paths in album:
            for path in paths:
                copy = queries / f"{len(asked)}{path.suffix}"
                save(path, copy, scale)
                asked.append((str(copy), person))
        photographs = sorted(whose)
        people = np.array([whose[path] for path in photographs])
        queries, persons = [path for path, _ in asked], np.array([person for _, person in asked])
        answers = {"ours": our_answers(ours.path, queries, photographs),
                   "theirs": their_answers(theirs, queries, their_faces, photographs, people)}
        theirs.close()
        print(json.dumps({
            "queries": len(asked), "bytes_a_face": {"ours": 264, "theirs": 1024},
            **{side: {**{f"find_{name}": finding(distances, threshold, persons[:, None] == people)
                         for name, threshold in thresholds.items()},
                      "name": naming(names, persons, np.isin(persons, people))}
               for side, (distances, thresholds, names) in answers.items()}}), flush=True)


def our_answers(path, queries, photographs):
    """What a side answers.

    Returns:
        (distances, thresholds, names): float [Q, photographs], of the nearest pair of faces, inf
        without one; {text: threshold}; of each query the name or None.
    """
    places = {path: place for place, path in enumerate(photographs)}
    distances, names = np.full((len(queries), len(photographs)), np.inf), [None] * len(queries)
    with Gallery.open(path) as gallery, gallery.open_encoder() as encoder:
        encoder.check_embedder()
        judge, index = Judge(gallery), open_index(gallery)
        of_row = [places[face.photograph] for face in gallery.faces(gallery.ids)]
        for line, query in enumerate(queries):
            faces = find_faces(open_photograph(Path(query)), encoder)
            for number, face in enumerate(faces):
                found = judge.comparison.nearest(index, np.uint64(0), face.embedding, len(gallery))
                if number == 0:
                    names[line] = judge.verdict(index, np.uint64(0), face.embedding, found).name
                for row, distance in zip(found.rows, found.distances):
                    place = of_row[row]
                    distances[line, place] = min(distances[line, place], distance)
        return distances, {"named": judge.threshold, "shown": judge.comparison.perhaps()}, names


def their_answers(theirs, queries, their_faces, photographs, people):
    """See our_answers."""
    distances = np.full((len(queries), len(photographs)), np.inf)
    for line, (faces, _) in enumerate(theirs.ask(paths=queries)[1]):
        for place, path in enumerate(photographs):
            for one, other in itertools.product(faces, their_faces[path]):
                distances[line, place] = min(distances[line, place],
                                             np.linalg.norm(np.subtract(one, other)))
    nearest = distances.argmin(axis=1)
    names = [people[place] if row[place] <= TOLERANCE else None
             for row, place in zip(distances, nearest)]
    return distances, {"shown": TOLERANCE}, names


def naming(names, persons, are_known):
    """Shares of known people named right and wrong, and of strangers named."""
    named = np.array([name is not None for name in names])
    right = np.array([name == person for name, person in zip(names, persons)])
    return {"known": int(are_known.sum()), "right": int(right.sum()),
            "wrong": int((named & are_known & ~right).sum()),
            "strangers": int((~are_known).sum()),
            "strangers_named": int((named & ~are_known).sum())}


def finding(distances, threshold, same):
    """Precision and recall at the threshold, and the precision at several recalls."""
    known = same.any(axis=1)
    distances, same = distances[known], same[known]
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


def measure_queries(python, faces):
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
            embedding = gallery.vector_of(gallery.ids[7])
            for _ in range(4):
                times["theirs"] += theirs.ask(faces=faces, queries=5)[1]
                for _ in range(5):
                    start = time.perf_counter()
                    judge.answer(index, gallery.codes[7], 10, vector=embedding)
                    times["ours"].append(time.perf_counter() - start)
    theirs.close()
    milliseconds = {side: round(1000 * statistics.median(each), 2) for side, each in times.items()}
    print(json.dumps({"faces": faces, "query_ms": milliseconds, "theirs_take_times": round(
        milliseconds["theirs"] / milliseconds["ours"], 1)}), flush=True)


def main(arguments):
    """Prints the lines."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="a folder for each person in it")
    parser.add_argument("--python", required=True, help="their environment's")
    parser.add_argument("--share", type=float, default=0.25, help="of photographs that are queries")
    parser.add_argument("--people", type=int, default=18)
    parser.add_argument("--strangers", type=int, default=1, help="photographs of each other person")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--faces", type=int, nargs="*", default=[],
                        help="also: queries over so many faces")
    options = parser.parse_args(arguments)
    for seed in options.seeds if options.folder else ():
        measure(options.folder, options.python, options.share, options.people, options.strangers,
                seed, options.scale)
    for faces in options.faces:
        measure_queries(options.python, faces)


if __name__ == "__main__":
    run_command(main)
