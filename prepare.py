"""Photographs -> a data set that main.py trains on: data/NAME.

    python prepare.py --source folder --images DIR --name myfaces
    python main.py --dataset_flag myfaces

Sources:
  folder         DIR/IDENTITY/*.jpg|jpeg|png|pgm|ppm|bmp|webp
  lfw            Labeled Faces in the Wild, DIR/NAME/NAME_0001.jpg at 250x250; the face is cropped
                 to the box 68,70,182,184
  facescrub      the official lists (facescrub_actors.txt, facescrub_actresses.txt; --lists) and the
                 downloaded photographs in DIR/NAME/ (spaces or underscores); a file's name is the
                 image's sha256, NAME_IMAGEID_FACEID, IMAGEID_FACEID, NAME_IMAGEID or IMAGEID;
                 cropped to the list's box
  youtube_faces  the official tree aligned_images_DB, DIR/PERSON/VIDEO/*.jpg: 40 training and 5 test
                 frames a person, evenly spread over time, from different videos where there are
                 several. How the authors of DDH chose their frames is not known.

The data set holds train/ and test/ (pickles as the release reads them), labels.txt (identities by
label), manifest.json (counts, options), images.csv (every image: where it went and why not) and
near_duplicates.csv.
"""

import contextlib
import csv
import hashlib
import json
import os
import pickle
import shutil
import signal
import warnings
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from config import (
    DATASET_NAME,
    DATASETS,
    IMAGE_SIZE,
    ROOT,
    find_dataset,
)
from faces.describe import NEAR_BITS, describe, near_pairs, perceptual_hash, report_lines
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".webp")
LFW_BOX, LFW_SIZE = (68, 70, 182, 184), (250, 250)
YOUTUBE_TRAIN_FRAMES = 40
ROWS_A_FILE = 10000


class Photo(NamedTuple):
    """One image of the source.

    Attributes:
        path: file.
        identity: name of the person.
        box: (left, top, right, bottom) in pixels to crop to, or None.
        group: images of one video share it; else empty.
        sha256: what the file's hash must be, or None.
    """

    path: Path
    identity: str
    box: Optional[tuple] = None
    group: str = ""
    sha256: Optional[str] = None


class Face(NamedTuple):
    """What is kept of a photo: row uint8 [3 * size * size], hash bool [64], sha256 of the file."""

    row: np.ndarray
    hash: np.ndarray
    sha256: str


# Sources: the photos of each


def folder_photos(images):
    """Photos of DIR/IDENTITY/*, and how many files were passed over for their ending."""
    photos, other = [], 0
    for person in _subfolders(images):
        for path in _files(person):
            if path.suffix.lower() in EXTENSIONS:
                photos.append(Photo(path, person.name))
            else:
                other += 1
    return photos, ["%d files are no images by their ending" % other] if other else []


def facescrub_photos(images, lists):
    """Photos of FaceScrub's lists that are there, and how many are not."""
    photos, missing = [], 0
    folders = {path.name.replace("_", " "): path for path in _subfolders(images)}
    files = {name: {path.stem: path for path in _files(folder)}
             for name, folder in folders.items()}
    for entry in _facescrub_entries(lists):
        name = entry["name"]
        stem = name.replace(" ", "_")
        stems = (entry["sha256"], "%s_%s_%s" % (stem, entry["image_id"], entry["face_id"]),
                 "%s_%s" % (entry["image_id"], entry["face_id"]),
                 "%s_%s" % (stem, entry["image_id"]), entry["image_id"])
        path = next((files[name][one] for one in stems if one in files.get(name, ())), None)
        if path is None:
            missing += 1
        else:
            photos.append(Photo(path, name, entry["box"], sha256=entry["sha256"]))
    return photos, ["%d of %d listed images are missing from %s"
                    % (missing, missing + len(photos), images)]


def _facescrub_entries(lists):
    """Entries of FaceScrub's lists, as dicts with a box."""
    wanted = ["name", "image_id", "face_id", "url", "bbox", "sha256"]
    for path in lists:
        try:
            with open(str(path), encoding="utf-8", newline="") as stream:
                rows = list(csv.reader(stream, delimiter="\t"))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError("%s cannot be read: %s" % (path, error))
        if not rows or rows[0] != wanted:
            raise UserError("%s is no FaceScrub list: its first line must be %s, with tabs"
                            % (path, " ".join(wanted)))
        for number, row in enumerate(rows[1:], 2):
            try:
                entry = dict(zip(wanted, row))
                box = tuple(int(word) for word in entry["bbox"].split(","))
                if len(row) != len(wanted) or len(box) != 4:
                    raise ValueError
            except (ValueError, KeyError):
                raise UserError("%s, line %d: expected %s with a bbox of x1,y1,x2,y2"
                                % (path, number, ", ".join(wanted)))
            entry["box"] = box
            yield entry


def lfw_photos(images):
    """Photos of LFW, to be cropped to the face."""
    photos, notes = folder_photos(images)
    return [photo._replace(box=LFW_BOX) for photo in photos], notes


def youtube_photos(images):
    """Frames of DIR/PERSON/VIDEO/*.jpg, in time order within each video."""
    photos = []
    for person in _subfolders(images):
        for video in _subfolders(person):
            frames = [path for path in _files(video) if path.suffix.lower() in EXTENSIONS]
            frames.sort(key=lambda path: [int(part) if part.isdigit() else 0
                                          for part in path.stem.split(".")])
            photos += [Photo(path, person.name, group=video.name) for path in frames]
    return photos, []


def _subfolders(path):
    try:
        return sorted(entry for entry in path.iterdir()
                      if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError("--images %s: %s" % (path, error.strerror))


def _files(path):
    return sorted(entry for entry in path.iterdir()
                  if entry.is_file() and not entry.name.startswith("."))


def sampled_frames(photos, test_images, rng):
    """YouTube Faces' frames of one person to keep: (training, test) lists of Photos.

    Test frames come from one video chosen at random, training frames from the others; of a single
    video, test frames are its end.
    """
    videos = OrderedDict()
    for photo in photos:
        videos.setdefault(photo.group, []).append(photo)
    names = list(videos)
    if len(names) == 1:
        frames = _evenly(photos, YOUTUBE_TRAIN_FRAMES + test_images)
        return frames[:-test_images], frames[-test_images:]
    test_video = names[rng.randint(len(names))]
    others = [photo for name in names if name != test_video for photo in videos[name]]
    return _evenly(others, YOUTUBE_TRAIN_FRAMES), _evenly(videos[test_video], test_images)


def _evenly(items, count):
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[index] for index in chosen]


# Photos -> faces


def read_face(photo, options):
    """Reads, crops and resizes one photo. Runs in several threads at once.

    Args:
        photo: a Photo.
        options: of them size, crop_box, crop_fraction, verify_sha256 and source.

    Returns:
        A Face, or text that says why there is none.
    """
    try:
        data = photo.path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if options.verify_sha256 and photo.sha256 and sha256 != photo.sha256.lower():
            return "sha256 differs from the list's"
        with Image.open(str(photo.path)) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
        if options.source == "lfw" and image.size != LFW_SIZE:
            return "size is %dx%d, not LFW's 250x250" % image.size
        box = crop_box(image.size, photo.box or options.crop_box, options.crop_fraction)
        if box is None:
            return "the crop lies outside the image of %dx%d" % image.size
        face = image.crop(box)
        small = face.resize((options.size, options.size), Image.BILINEAR)
        row = np.asarray(small).transpose(2, 0, 1).reshape(-1)
        return Face(row, perceptual_hash(face), sha256)
    except Exception as error:  # a damaged image can raise nearly anything
        return "cannot be read (%s: %s)" % (type(error).__name__, str(error)[:200])


def crop_box(size, box, fraction):
    """The box to crop an image of (width, height) to, or None if nothing of it is inside.

    Args:
        box: (left, top, right, bottom), cut to the image; or None.
        fraction: of box or image to keep around its center, 0..1.
    """
    left, top, right, bottom = box or (0, 0) + size
    cut_x, cut_y = (right - left) * (1 - fraction) / 2, (bottom - top) * (1 - fraction) / 2
    left, top = max(round(left + cut_x), 0), max(round(top + cut_y), 0)
    right, bottom = min(round(right - cut_x), size[0]), min(round(bottom - cut_y), size[1])
    return (left, top, right, bottom) if right > left and bottom > top else None


def read_faces(photos, options):
    """Faces (or reasons why not) of all photos, in order, read by several threads."""
    with warnings.catch_warnings(), ThreadPoolExecutor(options.workers) as pool:
        # Images of a size that threatens memory, and damaged tags, are refused.
        for category in (Image.DecompressionBombWarning, UserWarning):
            warnings.simplefilter("error", category)
        faces = pool.map(lambda photo: read_face(photo, options), photos)
        try:
            return list(tqdm(faces, total=len(photos), unit=" images", desc="reading",
                             disable=None))
        finally:
            faces.close()  # after an interruption, the photos that are not begun are not read


# Faces -> splits


def split_identity(indices, faces, photos, shared, options, rng):
    """Which of one identity's images train and which are test images.

    Images whose pixels occur more than once can only train, so that no image is on both sides.

    Args:
        indices: the identity's images.
        faces, photos: of all images.
        shared: set of indices of images that have an exact copy.
        options: source and test_images.
        rng: RandomState.

    Returns:
        (train, test) lists of indices, or None if there are not enough distinct images.
    """
    if options.source == "youtube_faces":
        by_photo = {photos[index]: index for index in indices}
        train, test = [[by_photo[photo] for photo in part] for part in sampled_frames(
            [photos[index] for index in indices], options.test_images, rng)]
        test_copies = {faces[index].row.tobytes() for index in test}
        train = [index for index in train if faces[index].row.tobytes() not in test_copies]
        return (train, test) if train and len(test) == options.test_images else None
    free = [index for index in indices if index not in shared]
    if len(free) < options.test_images or len(indices) <= options.test_images:
        return None
    test = sorted(rng.permutation(free)[:options.test_images].tolist())
    return [index for index in indices if index not in set(test)], test


def split_faces(photos, faces, options):
    """Decides for every photo where it goes.

    Returns:
        (fates, names, near): fates has for each photo "train", "test" or the reason why neither;
        names lists the identities, by label; near the index pairs of near duplicates.
    """
    fates = [face if isinstance(face, str) else None for face in faces]
    good = [index for index, fate in enumerate(fates) if fate is None]
    hashes = np.array([faces[index].hash for index in good]).reshape(len(good), 64)
    near = np.array(good, int)[near_pairs(hashes)] if good else np.zeros((0, 2), int)
    if options.drop_near_duplicates:
        for first, second in near:  # in order, so that the first of a group stays
            if photos[first].identity != photos[second].identity:
                continue  # more likely two people who look alike than one photograph
            if fates[first] is None and fates[second] is None:
                fates[second] = "near duplicate of %s" % photos[first].path
    good = [index for index in good if fates[index] is None]
    times = Counter(faces[index].row.tobytes() for index in good)
    shared = {index for index in good if times[faces[index].row.tobytes()] > 1}

    by_identity = OrderedDict()
    for index in good:
        by_identity.setdefault(photos[index].identity, []).append(index)
    names = []
    for name in sorted(by_identity):
        indices = by_identity[name]
        rng = np.random.RandomState(_seed(options.seed, name))
        split = None
        if len(indices) >= options.min_images:
            split = split_identity(indices, faces, photos, shared, options, rng)
        if split is None:
            for index in indices:
                fates[index] = "identity has too few images (%d)" % len(indices)
            continue
        names.append(name)
        for index in indices:
            fates[index] = "frame not chosen"
        for fate, part in zip(("train", "test"), split):
            for index in part:
                fates[index] = fate
    return fates, names, near


def _seed(seed, text):
    """A seed that hangs on the user's and on a text, and not on what else there is."""
    return int.from_bytes(hashlib.sha256(("%d %s" % (seed, text)).encode()).digest()[:4], "little")


# Writing


def write_dataset(folder, photos, faces, fates, names, near, options):
    """Writes the whole data set into an empty folder; returns its manifest."""
    labels = {name: label for label, name in enumerate(names)}
    counts = {}
    for split in ("train", "test"):
        chosen = np.array([index for index, fate in enumerate(fates) if fate == split])
        # Training goes in file order: mixed, each batch has many people.
        chosen = np.random.RandomState(_seed(options.seed, split)).permutation(chosen)
        counts[split] = len(chosen)
        (folder / split).mkdir()
        for number, start in enumerate(range(0, len(chosen), ROWS_A_FILE)):
            part = chosen[start:start + ROWS_A_FILE]
            pair = (np.stack([faces[index].row for index in part]),
                    np.array([labels[photos[index].identity] for index in part], np.int64))
            with open(str(folder / split / ("part_%03d.pickle" % number)), "wb") as stream:
                pickle.dump(pair, stream, protocol=2)  # which Python 2 reads, too
    (folder / "labels.txt").write_text("".join(name + "\n" for name in names), encoding="utf-8")
    _write_csv(folder / "images.csv", ["file", "identity", "group", "label", "fate", "sha256"], [
        [photo.path, photo.identity, photo.group, labels.get(photo.identity, ""), fate,
         getattr(face, "sha256", "")] for photo, face, fate in zip(photos, faces, fates)])
    _write_csv(folder / "near_duplicates.csv",
               ["file", "other", "identity", "other_identity", "fate", "other_fate"],
               [[photos[a].path, photos[b].path, photos[a].identity, photos[b].identity,
                 fates[a], fates[b]] for a, b in near])
    manifest = OrderedDict(
        name=options.name, num_identities=len(names), num_train=counts["train"],
        num_test=counts["test"], image_size=options.size, options=OrderedDict(
            (key, str(value) if isinstance(value, Path) else value)
            for key, value in sorted(vars(options).items()) if key != "lists"),
        lists=[str(path) for path in options.lists or ()],
        sha256={str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*")) if path.is_file()})
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _write_csv(path, header, rows):
    with open(str(path), "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@contextlib.contextmanager
def new_folder(path, overwrite):
    """A folder to fill that takes its place at `path` only when it is whole."""
    aside = path.with_name(".preparing_%s_%d" % (path.name, os.getpid()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".preparing_%s_*" % path.name):  # by a killed process
            if not _alive(int(left.name.rsplit("_", 1)[1])):
                shutil.rmtree(str(left))
        aside.mkdir()
        try:
            yield aside
            old = aside.with_name(aside.name.replace("preparing", "replaced", 1))
            if path.exists():
                if not overwrite:  # made by another process meanwhile
                    raise UserError("%s exists by now" % path)
                os.rename(str(path), str(old))
            os.rename(str(aside), str(path))
            shutil.rmtree(str(old), ignore_errors=True)
        finally:
            shutil.rmtree(str(aside), ignore_errors=True)
    except OSError as error:
        raise UserError("%s cannot be written: %s" % (path, error.strerror or error))


def _alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# The command


def parse_command_line(arguments):
    """The options. Raises UserError for wrong ones."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True,
                        choices=("folder", "lfw", "facescrub", "youtube_faces"))
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--name", required=True, help="of the data set, for --dataset_flag")
    parser.add_argument("--lists", nargs="+", type=Path, metavar="FILE", help="FaceScrub's lists")
    parser.add_argument("--verify_sha256", action="store_true",
                        help="skip photographs whose hash is not the list's")
    parser.add_argument("--crop_box", metavar="X1,Y1,X2,Y2",
                        help="pixels to keep of every image (default: all, or the source's box)")
    parser.add_argument("--crop_fraction", type=float, default=1.0, metavar="F",
                        help="share of width and height to keep around the center (default: 1)")
    parser.add_argument("--size", type=int, default=IMAGE_SIZE,
                        help="pixels a side; the network takes %d" % IMAGE_SIZE)
    parser.add_argument("--test_images", type=int, default=5, help="an identity (default: 5)")
    parser.add_argument("--min_images", type=int, metavar="N",
                        help="identities with fewer are left out (default: twice test_images)")
    parser.add_argument("--drop_near_duplicates", action="store_true",
                        help="of images of one identity whose perceptual hashes differ in %d of "
                             "64 bits or fewer, keep the first" % NEAR_BITS)
    parser.add_argument("--seed", type=int, default=0, help="of the split and the file order (0)")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", metavar="DIR",
                        help="where the data set goes (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads (all cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set of this name")
    options = parser.parse_args(arguments)
    if options.min_images is None:
        options.min_images = 2 * options.test_images
    check_options(options)
    return options


def check_options(options):
    """Raises UserError for options that make no sense; parses crop_box."""
    if not DATASET_NAME.match(options.name):
        raise UserError("--name %r: begin with a letter; letters, digits, _ and - may follow"
                        % options.name)
    if options.name in [dataset.name for dataset in DATASETS.values()]:
        raise UserError("--name %s is taken by the data set of that name" % options.name)
    for name in ("size", "test_images", "workers"):
        if getattr(options, name) < 1:
            raise UserError("--%s must be at least 1" % name)
    if options.min_images <= options.test_images:
        raise UserError("--min_images must be above --test_images (%d), so that something is left "
                        "to train on" % options.test_images)
    if not 0 < options.crop_fraction <= 1:
        raise UserError("--crop_fraction must be above 0 and at most 1")
    if options.crop_box is not None:
        try:
            left, top, right, bottom = [int(word) for word in options.crop_box.split(",")]
        except ValueError:
            raise UserError("--crop_box takes four whole numbers X1,Y1,X2,Y2, not %r"
                            % options.crop_box)
        if not (0 <= left < right and 0 <= top < bottom):
            raise UserError("--crop_box %s is empty or outside: X1 < X2 and Y1 < Y2 are needed"
                            % options.crop_box)
        options.crop_box = (left, top, right, bottom)
    if (options.source == "facescrub") != bool(options.lists):
        raise UserError("--lists goes with --source facescrub, which needs it")


def find_photos(options):
    """(photos, notes) of the source that options name."""
    if options.source == "facescrub":
        return facescrub_photos(options.images, options.lists)
    return {"folder": folder_photos, "lfw": lfw_photos,
            "youtube_faces": youtube_photos}[options.source](options.images)


def main(arguments):
    """Prepares one data set."""
    options = parse_command_line(arguments)
    target = options.data_dir / options.name
    if target.exists() and not (options.overwrite and (target / "manifest.json").is_file()):
        raise UserError("%s exists; choose another --name%s" % (
            target, ", or --overwrite it" if (target / "manifest.json").is_file() else ""))
    # Both: a process that a shell starts in the background inherits a deaf ear to SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    photos, notes = find_photos(options)
    if not photos:
        raise UserError("--images %s: no images for --source %s (python prepare.py --help "
                        "says how they must lie)" % (options.images, options.source))
    bad = [photo for photo in photos if not photo.identity.isprintable()]
    if bad:
        raise UserError("%r: rename the folder, its name has control characters"
                        % str(bad[0].path.parent))
    faces = read_faces(photos, options)
    fates, names, near = split_faces(photos, faces, options)
    if not names:
        reasons = Counter(fates).most_common(1)[0]
        raise UserError("no identity of %s has %d usable images; most images: %s"
                        % (options.images, options.min_images, reasons[0]))
    with new_folder(target, options.overwrite) as folder:
        write_dataset(folder, photos, faces, fates, names, near, options)
    print_summary(options, notes, photos, fates, names, near, target)


def print_summary(options, notes, photos, fates, names, near, target):
    """Says what became of the photographs, and whether the data set is ready to train."""
    print("%s: %d identities, %d training and %d test images of %d photographs" % (
        target, len(names), fates.count("train"), fates.count("test"), len(fates)))
    reasons = Counter(fate.split(" of ")[0].split(" (")[0] for fate in fates
                      if fate not in ("train", "test"))
    notes = notes + ["%d images: %s" % (count, reason) for reason, count in reasons.most_common()]
    across = sum({fates[a], fates[b]} == {"train", "test"}
                 and photos[a].identity == photos[b].identity for a, b in near)
    if across:
        notes.append("%d pairs of near duplicates of one identity lie across the split; "
                     "--drop_near_duplicates keeps one of each group" % across)
    for note in notes:
        print("  note: %s" % note)
    print("  every image and its fate: %s" % (target / "images.csv"))
    if options.size != IMAGE_SIZE:
        print("The network takes images of %d pixels a side: main.py cannot train on these."
              % IMAGE_SIZE)
        return
    description, _, _ = describe(find_dataset(options.name, options.data_dir))
    print("\n".join(report_lines(description)))
    print("python main.py --dataset_flag %s%s" % (options.name, "" if str(
        options.data_dir) == str(ROOT / "data") else " --data_dir %s" % options.data_dir))


def _interrupt(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_command(main)
