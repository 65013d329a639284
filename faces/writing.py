"""A prepared data set on disk: data/NAME, whole or not at all."""

import contextlib
import csv
import hashlib
import json
import os
import pickle
import re
import shutil
from collections import OrderedDict

import numpy as np

from faces.detection import Face
from faces.embedding import embeddings_file
from faces.outcomes import SPLITS
from faces.splits import seed_for
from runtime.errors import UserError

ROWS_A_FILE = 10000
IMAGE_COLUMNS = ["file", "identity", "group", "label", "status", "reason", "detail", "row", "face",
                 "box", "landmarks", "score", "sha256"]
NEAR_COLUMNS = ["file", "other", "identity", "other_identity", "status", "other_status"]


def write_dataset(folder, photos, faces, outcomes, names, near, seed, manifest, embeddings=None,
                  unseen_names=()):
    """Writes a whole data set into an empty folder.

    Args:
        folder: Path.
        photos, faces: a Photo and a Face or Rejected an item.
        outcomes, names, near: as faces.splits.split_faces returns them.
        seed: of the order of the images.
        manifest: dict of what else the manifest says.
        embeddings: float32 [len(photos), 128], or None.
        unseen_names: of people who are kept out of training, by labels of their own.

    Returns:
        The manifest, complete.
    """
    labels = {name: label for people in (names, unseen_names) for label, name in enumerate(people)}
    rows, counts = {}, OrderedDict(num_identities=len(names))
    if unseen_names:
        counts["num_unseen_identities"] = len(unseen_names)
        _write_names(folder / "unseen_labels.txt", unseen_names)
    _write_names(folder / "labels.txt", names)
    for split in SPLITS[0] + SPLITS[1] * bool(unseen_names):
        chosen = np.array([index for index, outcome in enumerate(outcomes)
                           if outcome.status == split])
        # Training goes in file order: mixed, each batch has many people.
        chosen = np.random.RandomState(seed_for(seed, split)).permutation(chosen)
        rows.update((index, row) for row, index in enumerate(chosen.tolist()))
        counts["num_" + split] = len(chosen)
        (folder / split).mkdir()
        if embeddings is not None:
            np.save(str(embeddings_file(folder / split)), embeddings[chosen])
        for number, start in enumerate(range(0, len(chosen), ROWS_A_FILE)):
            part = chosen[start:start + ROWS_A_FILE]
            pair = (np.stack([faces[index].row for index in part]),
                    np.array([labels[photos[index].identity] for index in part], np.int64))
            with open(str(folder / split / ("part_%03d.pickle" % number)), "wb") as stream:
                pickle.dump(pair, stream, protocol=2)  # which Python 2 reads, too
    _write_csv(folder / "images.csv", IMAGE_COLUMNS, (
        [photo.path, photo.identity, photo.group, labels.get(photo.identity, "")] + list(outcome)
        + [rows.get(index, "")] + _face_cells(face)
        for index, (photo, face, outcome) in enumerate(zip(photos, faces, outcomes))))
    _write_csv(folder / "near_duplicates.csv", NEAR_COLUMNS, (
        [photos[first].path, photos[second].path, photos[first].identity, photos[second].identity,
         outcomes[first].status, outcomes[second].status] for first, second in near))
    manifest = OrderedDict(manifest, **counts)
    manifest["sha256"] = {str(path.relative_to(folder)): _sha256(path)
                          for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _write_names(path, names):
    path.write_text("".join(name + "\n" for name in names), encoding="utf-8")


def _face_cells(face):
    """The columns from `face` on: several numbers in a cell stand with blanks between them."""
    if not isinstance(face, Face):
        return [""] * 5
    landmarks = ["%g" % value for point in face.landmarks or () for value in point]
    return [face.number, " ".join("%g" % value for value in face.box), " ".join(landmarks),
            "" if face.score is None else "%g" % face.score, face.sha256]


def _write_csv(path, header, rows):
    # A file's name may be bytes that are no UTF-8: they are written as they are.
    with open(str(path), "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _sha256(path):
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for part in iter(lambda: stream.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def check_replaceable(target, overwrite):
    """Raises UserError unless the folder `target` is free or ours to replace.

    Ours is one that prepare.py made and nobody added to: its manifest names every file in it.
    """
    if not os.path.lexists(str(target)):
        return
    if not (target / "manifest.json").is_file() or target.is_symlink():
        raise UserError("%s exists and is no data set of prepare.py; choose another --name"
                        % target)
    if not overwrite:
        raise UserError("%s exists; choose another --name, or --overwrite it" % target)
    try:
        made = set(json.loads((target / "manifest.json").read_text(encoding="utf-8"))["sha256"])
        added = sorted(str(path.relative_to(target)) for path in target.rglob("*")
                       if not path.is_dir() or path.is_symlink())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError("%s: its manifest.json is not prepare.py's; move the folder away, or "
                        "choose another --name" % target)
    added = [name for name in added if name not in made | {"manifest.json"}]
    if added:
        raise UserError("%s has files that prepare.py did not make, %s among them; move them away, "
                        "or choose another --name" % (target, added[0]))


@contextlib.contextmanager
def new_folder(path, overwrite):
    """A folder to fill that takes its place at `path` only when it is whole.

    Raises:
        UserError: it cannot be written, or another process made `path` meanwhile.
    """
    aside = path.with_name(".preparing_%s_%d" % (path.name, os.getpid()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(path)
        aside.mkdir()
        try:
            yield aside
            old = aside.with_name(aside.name.replace("preparing", "replaced", 1))
            if os.path.lexists(str(path)):
                check_replaceable(path, overwrite)
                os.rename(str(path), str(old))
            os.rename(str(aside), str(path))
            shutil.rmtree(str(old), ignore_errors=True)
        finally:
            shutil.rmtree(str(aside), ignore_errors=True)
    except OSError as error:
        raise UserError("%s cannot be written: %s" % (path, error.strerror or error))


def _clear_leftovers(path):
    """Removes what killed processes left of the same data set."""
    left = re.compile(r"\.preparing_%s_([0-9]{1,9})\Z" % re.escape(path.name))
    for folder in path.parent.iterdir():
        match = left.match(folder.name)
        if match and folder.is_dir() and not _alive(int(match.group(1))):
            shutil.rmtree(str(folder), ignore_errors=True)


def _alive(process_id):
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
