"""Where photographs come from: folders, a list of labels, and the published face data sets."""

import csv
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple, Optional

from faces import labels, walker
from runtime.errors import UserError, first_few, one_line

# The face in LFW's funneled photographs; and the size of all of them.
LFW_BOX, LFW_SIZE = (68, 70, 182, 184), (250, 250)
FACESCRUB_COLUMNS = ["name", "image_id", "face_id", "url", "bbox", "sha256"]
FACESCRUB_BOX = re.compile(r"(-?[0-9]{1,9}),(-?[0-9]{1,9}),(-?[0-9]{1,9}),(-?[0-9]{1,9})\Z")
# Folders that published data sets put their people's folders into.
SPLIT_FOLDERS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev",
                 "gallery", "query", "probe", "images", "faces"}

# Why a photograph is in no data set; beside the reasons of faces/walker.py.
IN_NO_FOLDER = "in no person's folder"
NOT_NAMED = "not named in the list"


class Photo(NamedTuple):
    """One photograph of the source.

    Attributes:
        path: Path of the file.
        person: str, name of who is in it.
        box: (left, top, right, bottom) in pixels where the source says the face is, or None.
        group: str, photographs of one video share it; else empty.
        sha256: str, what the file's hash must be, or None.
        size: (width, height) that the photograph must have, or None.
    """

    path: Path
    person: str
    box: Optional[tuple] = None
    group: str = ""
    sha256: Optional[str] = None
    size: Optional[tuple] = None


class Source(NamedTuple):
    """What find_photos finds.

    Attributes:
        photos: list of Photos, person by person.
        notes: list of str, lines for people.
        passed_over: dict of reason -> int, the files that are no Photos.
    """

    photos: list
    notes: list
    passed_over: dict


def find_photos(source, images, lists=(), labels_file=None):
    """The photographs of a source.

    Args:
        source: "folder", "lfw", "facescrub" or "youtube_faces".
        images: Path of the folder.
        lists: Paths of FaceScrub's lists.
        labels_file: Path of a list (faces.labels.read_labels) that says who is in a photograph of
            "folder"; None if folders say it.

    Returns:
        A Source.

    Raises:
        UserError: a folder or list cannot be read, there are no photographs, or the people's
            folders lie deeper; the message says where.
    """
    files, left_out = walker.walk(images)
    if source == "facescrub":
        photos, notes, unused = _facescrub_photos(files, images, lists)
    elif labels_file is not None:
        photos, notes, unused = _labelled_photos(files, images, labels_file)
    elif source == "youtube_faces":
        photos, notes, unused = _youtube_photos(files, images)
    else:
        photos, notes, unused = _folder_photos(files, images)
        if source == "lfw":
            photos = [photo._replace(box=LFW_BOX, size=LFW_SIZE) for photo in photos]
    left_out += unused
    notes += walker.notes(left_out)
    if not photos:
        raise UserError(f"--images {images}: no photographs for --source {source} "
                        f"(prepare.py --help shows the layout)"
                        + "".join(f"; {note}" for note in notes))
    _check_names(photos)
    passed_over = Counter()
    for item in left_out:
        passed_over[item.reason] += item.count
    return Source(photos, notes + _double_names(photos), dict(passed_over))


def _folder_photos(files, images):
    """Photos of DIR/PERSON/*, at all depths below a person; notes; and what is in no folder."""
    inside = [file for file in files if len(file.parts) > 1]
    _refuse_nested(inside, images, 1)
    loose = [walker.LeftOut(file.relative, IN_NO_FOLDER) for file in files if len(file.parts) == 1]
    notes = [f"photographs beside the people's folders, not used: {len(loose)}; put them into a "
             "person's folder, or name people with --labels FILE.csv"] if loose else []
    return [Photo(file.path, file.parts[0]) for file in inside], notes, loose


def _youtube_photos(files, images):
    """Frames of DIR/PERSON/VIDEO/*.jpg, in time order within each video; see _folder_photos."""
    _refuse_nested([file for file in files if len(file.parts) > 1], images, 2)
    frames = [file for file in files if len(file.parts) > 2]
    frames.sort(key=lambda file: (file.parts[:-1], _frame_numbers(file)))
    shallow = [walker.LeftOut(file.relative, "in no video's folder")
               for file in files if len(file.parts) <= 2]
    return ([Photo(file.path, file.parts[0], group="/".join(file.parts[1:-1])) for file in frames],
            [], shallow)


def _frame_numbers(file):
    """[0, 10] of 0.10.jpg: the order of a video's frames."""
    return [int(part) if part.isdecimal() and len(part) < 20 else 0
            for part in file.path.stem.split(".")]


def _refuse_nested(files, images, depth):
    """Raises UserError if the people's folders seem to lie deeper than directly in `images`.

    Args:
        files: FoundFiles, each in a folder.
        images: Path.
        depth: folders between `images` and a photograph at least, where all is as it should be.
    """
    tops, prefix = _folders(files, ()), ()
    while len(tops) == 1:  # such as lfw/lfw/NAME
        (name, depths), = tops.items()
        below = _folders(files, prefix + (name,))
        if min(depths) <= depth or not below:
            break
        prefix, tops = prefix + (name,), below
    if prefix:
        raise UserError(f"--images {images}: all photographs lie in {len(tops)} folders "
                        f"of {'/'.join(prefix)} ({_some_names(tops)}); if these are the "
                        f"people, name --images {images.joinpath(*prefix)}")
    if tops and all(name.lower() in SPLIT_FOLDERS and min(depths) > depth
                    and len(_folders(files, (name,))) > 1 for name, depths in tops.items()):
        people = _folders(files, (next(iter(tops)),))
        places = " or ".join(str(images / name) for name in tops)
        raise UserError(f"--images {images}: {_some_names(tops)} are not people; the "
                        f"people seem to be the folders below ({_some_names(people)}): name "
                        f"--images {places}")


def _folders(files, prefix):
    """{folder of `prefix`: set of how many folders deep its photographs lie below `prefix`}."""
    found = {}
    for file in files:
        if file.parts[:len(prefix)] == prefix and len(file.parts) > len(prefix) + 1:
            found.setdefault(file.parts[len(prefix)], set()).add(
                len(file.parts) - len(prefix) - 1)
    return found


def _some_names(names):
    return first_few(list(names), lambda name: one_line(name, 60), ", ")


def _labelled_photos(files, images, path):
    """Photos whose people a list names; notes; and the photographs that it does not name."""
    names = labels.Names([file.relative for file in files], images)
    by_name = {file.relative: file.path for file in files}
    real = {}  # path without links: path, of `files`; made when it is needed
    person_of, missing, count = {}, defaultdict(list), 0
    for label in labels.read_labels(path):
        count += 1
        name = names.find(label.file)
        place = by_name[name] if name else _file_at(images, label.file)
        if place is not None and name is None:  # by another way than the walker's, or hidden
            real = real or {os.path.realpath(path): path for path in by_name.values()}
            place = real.get(os.path.realpath(place), place)
        if place is None:
            kind, text = names.difference(label.file)
            missing[kind].append(f"line {label.number}: {text}")
        elif person_of.setdefault(place, label.identity) != label.identity:
            raise UserError(f"{path}, line {label.number}: {label.file} is both "
                            f"{person_of[place]} and {label.identity}; keep one of the lines")
    photos = [Photo(*item) for item in sorted(person_of.items(),
                                              key=lambda item: (item[1], str(item[0])))]
    notes = [f"{len(texts)} of {count} lines of {one_line(path)} name files that {kind}: "
             + first_few(texts) for kind, texts in missing.items()]
    unnamed = [walker.LeftOut(file.relative, NOT_NAMED) for file in files
               if file.path not in person_of]
    return photos, notes, unnamed


def _file_at(images, name):
    """The Path of a file that the walker passes over, but a list names; None if there is none."""
    place = images / name
    try:
        return place if stat.S_ISREG(place.stat().st_mode) else None
    except (OSError, ValueError):
        return None


def _facescrub_photos(files, images, lists):
    """Photos of FaceScrub's lists that are there; notes; and the photographs not in the lists."""
    # By the folder that a file lies in, and its name without the ending; of several, the one that
    # lies least deep. Names that are hashes tell the photograph in whatever folder it lies.
    by_place, by_hash = {}, {}
    for file in sorted(files, key=lambda file: len(file.parts)):
        stem = file.path.stem
        by_place.setdefault((_folder_name(file.path.parent.name), stem), file)
        if len(stem) in (40, 64):
            by_hash.setdefault(stem.lower(), file)
    photos, used, missing = [], set(), 0
    for path in lists:
        for entry in _facescrub_entries(path):
            file = _listed_file(entry, by_place, by_hash)
            if file is None:
                missing += 1
                continue
            used.add(file.relative)
            photos.append(Photo(file.path, entry["name"], entry["box"], sha256=entry["sha256"]))
    unlisted = [walker.LeftOut(file.relative, NOT_NAMED) for file in files
                if file.relative not in used]
    return photos, [f"{missing} of {missing + len(photos)} listed photographs are missing from "
                    f"{one_line(images)}"], unlisted


def _folder_name(name):
    return unicodedata.normalize("NFC", name).replace("_", " ")


def _listed_file(entry, by_place, by_hash):
    """The FoundFile of a list's entry, or None."""
    name, image, face = entry["name"], entry["image_id"], entry["face_id"]
    hashes = entry["sha256"].lower(), hashlib.sha1(entry["url"].encode()).hexdigest()
    stem = name.replace(" ", "_")
    for candidate in (f"{stem}_{image}_{face}", f"{image}_{face}", f"{stem}_{image}", image):
        file = by_place.get((_folder_name(name), candidate))
        if file is not None:
            return file
    return by_hash.get(hashes[0]) or by_hash.get(hashes[1])


def _facescrub_entries(path):
    """Yields the entries of one of FaceScrub's lists: dicts by FACESCRUB_COLUMNS, and `box`."""
    try:
        rows = list(csv.reader(io.StringIO(labels.read_text(path), newline=""),
                               delimiter="\t", quoting=csv.QUOTE_NONE))
    except csv.Error as error:
        raise UserError(f"{path} is not a FaceScrub list: {error}")
    if not rows or rows[0] != FACESCRUB_COLUMNS:
        raise UserError(f"{path} is not a FaceScrub list: its first line must be "
                        f"{' '.join(FACESCRUB_COLUMNS)}, with tabs")
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        entry = dict(zip(FACESCRUB_COLUMNS, row))
        box = FACESCRUB_BOX.match(entry.get("bbox", ""))
        if len(row) != len(FACESCRUB_COLUMNS) or not box:
            raise UserError(f"{path}, line {number}: expected {', '.join(FACESCRUB_COLUMNS)} with "
                            "a bbox of x1,y1,x2,y2, whole numbers of at most 9 digits")
        entry["box"] = tuple(int(corner) for corner in box.groups())
        yield entry


# Names


def _check_names(photos):
    """Raises UserError for a person whom labels.txt could not keep as one line of UTF-8."""
    for person in dict.fromkeys(photo.person for photo in photos):
        if not person.isprintable():  # control characters, and bytes that are no UTF-8
            raise UserError(f"the name {person!r} has control characters or bytes that are not "
                            "UTF-8; rename its folder")


def _double_names(photos):
    """Notes on people whose names differ in case, blanks or Unicode normal form alone."""
    alike = defaultdict(list)
    for person in dict.fromkeys(photo.person for photo in photos):
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", person).casefold())
        alike[" ".join(key.replace("_", " ").split())].append(person)
    notes = []
    for names in alike.values():
        if len(names) > 1:
            forms = {unicodedata.normalize("NFC", name) for name in names}
            shown = names if len(forms) == len(names) else [
                f"{name} ({ascii(name)})" for name in names]
            notes.append(f"{' and '.join(shown)} count as {len(names)} people, although their "
                         "names differ only in case, blanks or Unicode form; merge their folders "
                         "if they are one person")
    return notes
