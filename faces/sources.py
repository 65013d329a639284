"""Where photographs come from: folders, a list of labels, and the published face data sets."""

import csv
import os
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple, Optional

from faces import photographs
from runtime.errors import UserError

# The face in LFW's funneled photographs; and the size of all of them.
LFW_BOX, LFW_SIZE = (68, 70, 182, 184), (250, 250)
FACESCRUB_COLUMNS = ["name", "image_id", "face_id", "url", "bbox", "sha256"]


class Photo(NamedTuple):
    """One image of the source.

    Attributes:
        path: file.
        identity: name of the person.
        box: (left, top, right, bottom) in pixels where the source says the face is, or None.
        group: images of one video share it; else empty.
        sha256: what the file's hash must be, or None.
        size: (width, height) that the image must have, or None.
    """

    path: Path
    identity: str
    box: Optional[tuple] = None
    group: str = ""
    sha256: Optional[str] = None
    size: Optional[tuple] = None


def find_photos(source, images, lists=(), labels=None):
    """The photographs of a source.

    Args:
        source: "folder", "lfw", "facescrub" or "youtube_faces".
        images: Path of the folder.
        lists: Paths of FaceScrub's lists.
        labels: Path of a CSV file (file, identity) that says who is on a photograph of "folder".

    Returns:
        (photos, notes): Photos, person by person, and lines for people.

    Raises:
        UserError: a folder or list cannot be read, or there are no photographs.
    """
    if source == "facescrub":
        photos, notes = facescrub_photos(images, lists)
    elif labels is not None:
        photos, notes = labelled_photos(images, labels)
    else:
        photos, notes = {"folder": folder_photos, "lfw": lfw_photos,
                         "youtube_faces": youtube_photos}[source](images)
    if not photos:
        raise UserError("--images %s: no photographs for --source %s%s (prepare.py --help says "
                        "how they must lie)" % (images, source, "".join(
                            "; " + note for note in notes)))
    _check_names(photos)
    return photos, notes + _double_names(photos)


def folder_photos(images):
    """Photos of DIR/IDENTITY/*, and notes on what was passed over."""
    photos, others, hidden = [], [], []
    for person in _subfolders(images, hidden):
        for path in _files(person, hidden):
            if path.suffix.lower() in photographs.readable_extensions():
                photos.append(Photo(path, person.name))
            else:
                others.append(path)
    return photos, _passed_over(others, hidden) + _loose_photographs(images)


def labelled_photos(images, labels):
    """Photos of DIR whose identities stand in a CSV file, and notes on what was passed over."""
    photos, missing, identities = [], [], OrderedDict()
    for number, (name, identity) in _label_rows(labels):
        path = images / name
        if identities.setdefault(path, identity) != identity:
            raise UserError("%s, line %d: %s is both %s and %s; keep one of the lines"
                            % (labels, number, name, identities[path], identity))
    for path, identity in identities.items():
        (photos if os.path.isfile(str(path)) else missing).append(Photo(path, identity))
    photos.sort(key=lambda photo: (photo.identity, str(photo.path)))
    notes = []
    if missing:
        notes.append("%d of %d files that %s names are not in %s, %s among them"
                     % (len(missing), len(identities), labels, images, missing[0].path.name))
    unnamed = sum(path not in identities for path in _all_photographs(images))
    if unnamed:
        notes.append("%d photographs of %s are not named in %s" % (unnamed, images, labels))
    return photos, notes


def _label_rows(labels):
    """Yields (line number, (file, identity)) of a labels file."""
    try:
        with open(str(labels), encoding="utf-8-sig", errors="surrogateescape",
                  newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            if sorted(set(header) & {"file", "identity"}) != ["file", "identity"]:
                raise UserError("%s: its first line must name the columns file and identity, as "
                                "in file,identity" % labels)
            columns = header.index("file"), header.index("identity")
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                cells = [row[column].strip() if column < len(row) else "" for column in columns]
                if not all(cells):
                    raise UserError("%s, line %d: the file or the identity is missing"
                                    % (labels, reader.line_num))
                yield reader.line_num, cells
    except OSError as error:
        raise UserError("%s cannot be read: %s" % (labels, error.strerror))
    except (ValueError, csv.Error) as error:
        raise UserError("%s is no CSV file of text: %s" % (labels, error))


def facescrub_photos(images, lists):
    """Photos of FaceScrub's lists that are there, and how many are not."""
    photos, missing = [], 0
    folders = {path.name.replace("_", " "): path for path in _subfolders(images, [])}
    files = {name: {path.stem: path for path in _files(folder, [])}
             for name, folder in folders.items()}
    for entry in _facescrub_entries(lists):
        name = entry["name"]
        stem = name.replace(" ", "_")
        stems = (entry["sha256"], "%s_%s_%s" % (stem, entry["image_id"], entry["face_id"]),
                 "%s_%s" % (entry["image_id"], entry["face_id"]),
                 "%s_%s" % (stem, entry["image_id"]), entry["image_id"])
        path = next((files[name][stem] for stem in stems if stem in files.get(name, ())), None)
        if path is None:
            missing += 1
        else:
            photos.append(Photo(path, name, entry["box"], sha256=entry["sha256"]))
    return photos, ["%d of %d listed images are missing from %s"
                    % (missing, missing + len(photos), images)]


def _facescrub_entries(lists):
    """Entries of FaceScrub's lists, as dicts with a box."""
    for path in lists:
        try:
            with open(str(path), encoding="utf-8", newline="") as stream:
                rows = list(csv.reader(stream, delimiter="\t"))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError("%s cannot be read: %s" % (path, error))
        if not rows or rows[0] != FACESCRUB_COLUMNS:
            raise UserError("%s is no FaceScrub list: its first line must be %s, with tabs"
                            % (path, " ".join(FACESCRUB_COLUMNS)))
        for number, row in enumerate(rows[1:], 2):
            try:
                entry = dict(zip(FACESCRUB_COLUMNS, row))
                box = tuple(int(corner) for corner in entry["bbox"].split(","))
                if len(row) != len(FACESCRUB_COLUMNS) or len(box) != 4:
                    raise ValueError
            except (ValueError, KeyError):
                raise UserError("%s, line %d: expected %s with a bbox of x1,y1,x2,y2"
                                % (path, number, ", ".join(FACESCRUB_COLUMNS)))
            entry["box"] = box
            yield entry


def lfw_photos(images):
    """Photos of LFW, with the box of the face."""
    photos, notes = folder_photos(images)
    return [photo._replace(box=LFW_BOX, size=LFW_SIZE) for photo in photos], notes


def youtube_photos(images):
    """Frames of DIR/PERSON/VIDEO/*.jpg, in time order within each video."""
    photos, others, hidden = [], [], []
    extensions = photographs.readable_extensions()
    for person in _subfolders(images, hidden):
        for video in _subfolders(person, hidden):
            frames = _files(video, hidden)
            others += [path for path in frames if path.suffix.lower() not in extensions]
            frames = [path for path in frames if path.suffix.lower() in extensions]
            frames.sort(key=lambda path: [int(part) if part.isdecimal() else 0
                                          for part in path.stem.split(".")])
            photos += [Photo(path, person.name, group=video.name) for path in frames]
    return photos, _passed_over(others, hidden)


# Looking into folders


def _entries(path, hidden):
    """What lies in a folder, sorted; hidden entries go to the list `hidden` instead."""
    try:
        entries = sorted(path.iterdir())
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError("--images: the folder %s cannot be read (%s); name another, or give it "
                        "rights" % (path, error.strerror))
    hidden += [entry for entry in entries if entry.name.startswith(".")]
    return visible


def _subfolders(path, hidden):
    return [entry for entry in _entries(path, hidden) if entry.is_dir()]


def _files(path, hidden):
    return [entry for entry in _entries(path, hidden) if entry.is_file()]


def _all_photographs(folder):
    """Paths of the photographs at all depths of a folder."""
    found = []
    for path in _entries(folder, []):
        if path.is_dir():
            found += _all_photographs(path)
        elif path.suffix.lower() in photographs.readable_extensions():
            found.append(path)
    return found


def _passed_over(others, hidden):
    """Notes on files that are no photographs and on hidden files and folders."""
    notes = []
    avif = sum(path.suffix.lower() in photographs.AVIF_EXTENSIONS for path in others)
    if avif:
        notes.append(f"{avif} AVIF photographs were passed over: this Pillow cannot read them")
    if len(others) > avif:
        notes.append(f"{len(others) - avif} files are no photographs by their ending")
    folders = [path.name for path in hidden if path.is_dir()]
    if folders:
        notes.append("%d hidden folders were passed over: %s; rename them without the dot to use "
                     "them" % (len(folders), ", ".join(folders[:3]) + ", ..." * (
                         len(folders) > 3)))
    if len(hidden) > len(folders):
        notes.append("%d hidden files were passed over" % (len(hidden) - len(folders)))
    return notes


def _loose_photographs(images):
    """A note on photographs that lie in no person's folder."""
    loose = sum(path.suffix.lower() in photographs.readable_extensions()
                for path in _files(images, []))
    return ["%d photographs lie in no person's folder; a folder a person, or --labels FILE.csv, "
            "says who they show" % loose] if loose else []


# Names


def _check_names(photos):
    """Raises UserError for an identity that labels.txt could not keep as one line of UTF-8."""
    for identity in OrderedDict.fromkeys(photo.identity for photo in photos):
        if not identity.isprintable():  # control characters, and bytes that are no UTF-8
            raise UserError("the identity %r has control characters or bytes that are no UTF-8; "
                            "rename its folder" % identity)


def _double_names(photos):
    """Notes on identities that differ in case or Unicode normal form alone."""
    alike = OrderedDict()
    for identity in OrderedDict.fromkeys(photo.identity for photo in photos):
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", identity).casefold())
        alike.setdefault(" ".join(key.replace("_", " ").split()), []).append(identity)
    return ["%s are taken for %d people although their names differ in case, blanks or Unicode "
            "form alone; join their folders if they are one" % (
                " and ".join("%s (%s)" % (name, ascii(name)) if len({unicodedata.normalize(
                    "NFC", other) for other in names}) < len(names) else name for name in names),
                len(names)) for names in alike.values() if len(names) > 1]
