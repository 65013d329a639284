"""A prepared data set on disk: data/NAME, whole or not at all."""

import contextlib
import csv
import glob
import json
import os
import pickle
import shutil

import numpy as np

from faces.detection import Face
from faces.embedding import embeddings_file
from faces.splits import SPLITS, seed_for
from runtime.errors import UserError
from runtime.files import (
    digest_of,
    flush,
    flush_tree,
    folders_aside,
    put_back,
    read_json,
    remove_replaced,
    remove_temporaries,
    set_aside,
    temporary_path,
    writing,
)

MANIFEST = "manifest.json"  # which makes a folder a data set
ROWS_A_FILE = 10000
IMAGE_COLUMNS = ["file", "identity", "group", "label", "status", "reason", "detail", "row", "face",
                 "box", "landmarks", "score", "sha256", "turned", "incomplete"]
NEAR_COLUMNS = ["file", "other", "identity", "other_identity", "status", "other_status"]


def write_dataset(folder, photos, faces, outcomes, names, near, seed, manifest, embeddings=None,
                  unseen_names=()):
    """Writes a whole data set into an empty folder.

    Args:
        folder: Path.
        photos, faces: a Photo and a Face or Rejected an item.
        outcomes, names, near: see faces.splits.Split.
        seed: of the order of the images.
        manifest: dict of what else the manifest says.
        embeddings: float32 [len(photos), 128], or None.
        unseen_names: of people who are kept out of training, by labels of their own.

    Returns:
        The manifest, complete.
    """
    labels = {name: label for people in (names, unseen_names) for label, name in enumerate(people)}
    rows, counts = {}, {"num_identities": len(names)}
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
            np.save(embeddings_file(folder / split), embeddings[chosen])
        for number, start in enumerate(range(0, len(chosen), ROWS_A_FILE)):
            part = chosen[start:start + ROWS_A_FILE]
            pair = (np.stack([faces[index].row for index in part]),
                    np.array([labels[photos[index].person] for index in part], np.int64))
            with open(folder / split / f"part_{number:03d}.pickle", "wb") as stream:
                pickle.dump(pair, stream, protocol=2)  # which Python 2 reads, too
    _write_csv(folder / "images.csv", IMAGE_COLUMNS, (
        [photo.path, photo.person, photo.group, labels.get(photo.person, "")] + list(outcome)
        + [rows.get(index, "")] + _face_cells(face)
        for index, (photo, face, outcome) in enumerate(zip(photos, faces, outcomes))))
    _write_csv(folder / "near_duplicates.csv", NEAR_COLUMNS, (
        [photos[first].path, photos[second].path, photos[first].person, photos[second].person,
         outcomes[first].status, outcomes[second].status] for first, second in near))
    manifest = dict(manifest, **counts)
    manifest["sha256"] = {str(path.relative_to(folder)): digest_of(path).hex()
                          for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _write_names(path, names):
    path.write_text("".join(name + "\n" for name in names), encoding="utf-8")


def _face_cells(face):
    """The columns from `face` on: several numbers in a cell stand with blanks between them."""
    if not isinstance(face, Face):
        return [""] * 7
    landmarks = [f"{value:g}" for point in face.landmarks or () for value in point]
    return [face.number, " ".join(f"{value:g}" for value in face.box), " ".join(landmarks),
            "" if face.score is None else f"{face.score:g}", face.sha256, face.turned,
            "yes" if face.incomplete else ""]


def _write_csv(path, header, rows):
    # A file's name may be bytes that are no UTF-8: they are written as they are.
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def check_replaceable(target, overwrite):
    """Looks whether the folder `target` is free, or ours to replace.

    Ours is one that prepare.py made and nobody added to: its manifest names every file in it.
    A data set that a killed --overwrite left beside it is put back if there is no other.

    Args:
        target: Path.
        overwrite: whether a data set there may be replaced.

    Returns:
        List of lines for people: what was put back, or is still there.

    Raises:
        UserError: the folder is not free, or cannot be looked at.
    """
    notes = _look_aside(target)
    if not os.path.lexists(target):
        return notes
    if not os.path.isfile(target / MANIFEST) or target.is_symlink():
        raise UserError(f"{target} exists and is not prepare.py's data set; choose another --name")
    if not overwrite:
        raise UserError(f"{target} exists; choose another --name, or --overwrite it"
                        + "".join(f" ({note})" for note in notes))
    added = _added_files(target)
    if added is None:
        raise UserError(f"{target}: its {MANIFEST} is not prepare.py's; move the folder away, or "
                        "choose another --name")
    if added:
        raise UserError(f"{target} has files that prepare.py did not make, {added[0]} among them; "
                        "move them away, or choose another --name")
    return notes


def _added_files(folder):
    """Files in a data set's folder that its manifest does not name; None if it is damaged."""
    try:
        made = set(read_json(folder / MANIFEST)["sha256"])
        there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                       if not path.is_dir() or path.is_symlink())
    except (OSError, UserError, KeyError, TypeError):
        return None
    return [name for name in there if name not in made | {MANIFEST}]


def _look_aside(target):
    """Puts back the data set that a killed --overwrite has left; lines that say what there is."""
    aside = [folder for folder in folders_aside(target) if os.path.isfile(folder / MANIFEST)]
    notes = []
    if aside and not os.path.lexists(target):
        latest = max(aside, key=lambda folder: os.stat(folder / MANIFEST).st_mtime_ns)
        put_back(latest, target)
        if os.path.lexists(target):
            aside.remove(latest)
            notes.append(f"an --overwrite was interrupted; {latest.name} is {target.name} again")
    return notes + [f"{folder} is a data set that --overwrite has replaced; remove it if it is not "
                    "needed" for folder in aside]


@contextlib.contextmanager
def new_folder(path, overwrite):
    """A folder to fill that takes its place at `path` only when it is whole.

    The data set that it replaces stays beside it as NAME.replaced until then: killed at any
    moment, one of the two is whole, and check_replaceable finds it.

    Raises:
        UserError: it cannot be written, or another process made `path` meanwhile.
    """
    temporary = temporary_path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path.parent, [f".{glob.escape(path.name)}.*.tmp"])
        temporary.mkdir()
        try:
            yield temporary
            flush_tree(temporary)
            aside = None
            if os.path.lexists(path):
                check_replaceable(path, overwrite)
                aside = set_aside(path)
            try:
                os.rename(temporary, path)
            except BaseException:
                if aside:
                    put_back(aside, path)
                raise
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if aside:
            with contextlib.suppress(OSError):
                remove_replaced(aside, last=(MANIFEST,))
