"""From photographs to a data set: finds, reads, splits and writes them."""

from collections import Counter, OrderedDict
from pathlib import Path
from typing import NamedTuple

from config import DATASETS, IMAGE_SIZE
from faces import embedding, splits, writing
from faces.cropping import Cropper, box_crop, detect_crop, detection_cache
from faces.outcomes import LEFT_OUT, REASONS, SPLITS, Outcome
from faces.reading import condition_notes, read_faces
from faces.sources import find_photos
from runtime.errors import UserError

SOURCES = ("folder", "lfw", "facescrub", "youtube_faces")
# How each source is cropped by default, and the share of the box or image that is kept then.
# YouTube Faces' aligned images show 2.2 times the face's box (Wolf, Hassner, Maoz, CVPR 2011),
# whose authors keep the central half, too.
DEFAULT_CROPS = {"folder": "detect", "lfw": "box", "facescrub": "box", "youtube_faces": "box"}
DEFAULT_FRACTIONS = {"youtube_faces": 0.5}

FEWEST_PEOPLE = 2  # on either side of --unseen: among fewer nobody can be mistaken


class Preparation(NamedTuple):
    """What prepare_dataset made.

    Attributes:
        folder: Path of the data set.
        manifest: dict.
        outcomes: an Outcome for each photograph.
        notes: lines for people.
        problems: what to look at before training, one sentence each.
    """

    folder: Path
    manifest: dict
    outcomes: list
    notes: list
    problems: list


def prepare_dataset(options):
    """Makes the data set that the options describe.

    Args:
        options: of prepare.py's command line, checked.

    Returns:
        A Preparation.

    Raises:
        UserError: nothing to read, nothing usable, nowhere to write, or no network for embeddings.
    """
    target = options.data_dir / options.name
    writing.check_replaceable(target, options.overwrite)
    crop = chosen_crop(options)
    embedded_by = embedding.embedding_description() if options.embedding else None
    photos, notes = find_photos(options.source, options.images, options.lists or (),
                                options.labels)
    cache = detection_cache(options.data_dir) if crop["method"] == "detect" else None
    cropper = Cropper(crop, options.faces, cache)

    def read(some):
        return read_faces(some, cropper, options.verify_sha256, options.workers)

    planned, unread = None, []
    try:
        if options.source == "youtube_faces":
            found = photos
            photos, faces, planned = splits.read_sampled(photos, options.seed,
                                                         options.test_images, read)
            unread = sorted(set(found) - set(photos))
        else:
            photos, faces = read(photos)
    finally:
        if cache:
            cache.close()
    outcomes, names, near = splits.split_faces(
        photos, faces, options.seed, options.test_images, options.min_images,
        options.drop_near_duplicates, planned)
    photos += unread
    faces += [None] * len(unread)
    outcomes += [Outcome(LEFT_OUT, "not_sampled")] * len(unread)
    if not names:
        raise UserError(_nothing_usable(options, outcomes))
    names, unseen_names = _keep_out(options, photos, outcomes, names)
    embeddings = None
    if embedded_by:
        used = [index for index, outcome in enumerate(outcomes) if outcome.status != LEFT_OUT]
        embeddings = embedding.embed_faces(photos, faces, used, options.data_dir,
                                           options.workers)
    with writing.new_folder(target, options.overwrite) as folder:
        manifest = writing.write_dataset(folder, photos, faces, outcomes, names, near,
                                         options.seed, _manifest(options, crop, embedded_by),
                                         embeddings, unseen_names)
    notes += condition_notes(faces) + outcome_notes(outcomes)
    return Preparation(target, manifest, outcomes, notes,
                       _problems(options, photos, outcomes, near))


def _keep_out(options, photos, outcomes, names):
    """splits.keep_out; raises UserError where too few people are left, or kept out."""
    names, unseen_names = splits.keep_out(photos, outcomes, names, options.unseen, options.seed)
    if options.unseen and min(len(names), len(unseen_names)) < FEWEST_PEOPLE:
        raise UserError(
            "--unseen %g would keep %d of %d people out of training; at least %d are needed on "
            "either side: name another share, or add people" % (
                options.unseen, len(unseen_names), len(names) + len(unseen_names), FEWEST_PEOPLE))
    return names, unseen_names


def chosen_crop(options):
    """The `crop` (faces.cropping) that the options ask for."""
    if options.crop == "detect":
        return detect_crop(options.size, options.margin)
    if options.crop == "none":
        return box_crop(options.size)
    box = options.crop_box
    if box is None and options.source in ("lfw", "facescrub"):
        box = "listed"
    return box_crop(options.size, box, options.crop_fraction)


def _manifest(options, crop, embedded_by):
    """What the manifest says beside counts and hashes."""
    return OrderedDict(
        name=options.name, image_size=options.size, crop=dict(crop, faces=options.faces),
        embedding=embedded_by,
        # The published data set whose protocol is followed: its epochs and batch size are defaults.
        protocol=options.source if options.source in {
            dataset.name for dataset in DATASETS.values()} else None,
        options=OrderedDict((key, str(value) if isinstance(value, Path) else value)
                            for key, value in sorted(vars(options).items()) if key != "lists"),
        lists=[str(path) for path in options.lists or ()])


def outcome_notes(outcomes):
    """Lines that count why photographs were left out, most frequent first."""
    counts = Counter(outcome.reason for outcome in outcomes if outcome.status == LEFT_OUT)
    examples = {outcome.reason: outcome.detail for outcome in reversed(outcomes)}
    return ["%d images left out: %s%s" % (
        count, REASONS[reason], " (the first: %s)" % examples[reason] if examples[reason] else "")
        for reason, count in counts.most_common()]


def _nothing_usable(options, outcomes):
    """The message where no identity has enough images."""
    return ("no identity of %s has %d usable images, %d of them without an exact copy. %s. Lower "
            "--min_images (%d) or --test_images (%d), or add photographs" % (
                options.images, options.min_images, options.test_images,
                "; ".join(outcome_notes(outcomes)[:3]), options.min_images, options.test_images))


def _problems(options, photos, outcomes, near):
    """What to look at before training that shows in no description of the finished data set."""
    problems = []
    across = sum({outcomes[first].status, outcomes[second].status} in map(set, SPLITS)
                 and photos[first].identity == photos[second].identity for first, second in near)
    if across:
        problems.append(
            "%d pairs in near_duplicates.csv are of one identity and lie across the split, which "
            "makes queries too easy: prepare again with --drop_near_duplicates --overwrite"
            % across)
    if options.size != IMAGE_SIZE:
        problems.append("main.py cannot train on these: the network takes images of %d pixels a "
                        "side" % IMAGE_SIZE)
    return problems
