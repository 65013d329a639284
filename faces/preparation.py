"""From photographs to a data set: finds, reads, splits and writes them."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from config import DATASETS, IMAGE_SIZE
from faces import embedding, splits, writing
from faces.cropping import Cropper, box_crop, detect_crop, detection_cache
from faces.reading import condition_notes, count_conditions, read_faces
from faces.sources import find_photos
from faces.splits import LEFT_OUT, REASONS, SPLITS, Outcome
from runtime.errors import UserError, first_few, one_line

SOURCES = ("folder", "lfw", "facescrub", "youtube_faces")
# How each source is cropped by default, and the share of the box or image that is kept then.
# YouTube Faces' aligned images show 2.2 times the face's box (Wolf, Hassner, Maoz, CVPR 2011),
# whose authors keep the central half, too.
DEFAULT_CROPS = {"folder": "detect", "lfw": "box", "facescrub": "box", "youtube_faces": "box"}
DEFAULT_FRACTIONS = {"youtube_faces": 0.5}

FEWEST_PEOPLE = 2  # on either side of --unseen: with one there is nobody to mistake for another
# What --test_images is by default: of the published sets, as in their protocols; of a folder, what
# the album allows (faces.splits).
PUBLISHED_TEST_IMAGES = 5


class Preparation(NamedTuple):
    """What prepare_dataset made.

    Attributes:
        folder: Path of the data set.
        manifest: dict.
        outcomes: list of an Outcome for each photograph.
        notes: list of str, lines for people.
        problems: list of str, what to look at before training, one sentence each.
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
    notes = writing.check_replaceable(target, options.overwrite)
    crop = chosen_crop(options)
    embedded_by = embedding.embedding_description() if options.embedding else None
    source = find_photos(options.source, options.images, options.lists or (), options.labels)
    photos, notes = source.photos, notes + source.notes
    cache = detection_cache(options.data_dir) if crop["method"] == "detect" else None
    cropper = Cropper(crop, options.faces, cache)

    def read(some):
        return read_faces(some, cropper, options.verify_sha256, options.workers)

    planned, unread = None, []
    try:
        if options.source == "youtube_faces":
            photos, faces, planned = splits.read_sampled(photos, options.seed,
                                                         options.test_images, read)
            unread = sorted(set(source.photos) - set(photos))
        else:
            photos, faces = read(photos)
    finally:
        if cache:
            cache.close()
    split = splits.split_faces(photos, faces, options.seed, options.test_images,
                               options.min_images, options.max_images,
                               options.drop_near_duplicates, planned)
    outcomes = split.outcomes
    photos += unread
    faces += [None] * len(unread)
    outcomes += [Outcome(LEFT_OUT, "not_sampled")] * len(unread)
    if not split.names:
        raise UserError(_nothing_usable(options, outcomes))
    names, unseen_names = _keep_out(options, photos, outcomes, split.names)
    embeddings = None
    if embedded_by:
        used = [index for index, outcome in enumerate(outcomes) if outcome.status != LEFT_OUT]
        embeddings = embedding.embed_faces(photos, faces, used, options.data_dir,
                                           options.workers)
    manifest = dict(_manifest(options, crop, embedded_by),
                    photographs=_photograph_counts(photos, faces, outcomes, source.passed_over))
    with writing.new_folder(target, options.overwrite) as folder:
        manifest = writing.write_dataset(folder, photos, faces, outcomes, names, split.near,
                                         options.seed, manifest, embeddings, unseen_names)
    notes += condition_notes(faces) + outcome_notes(outcomes)
    notes += _shared_notes(options, photos, split)
    return Preparation(target, manifest, outcomes, notes, _problems(options, photos, split))


def _keep_out(options, photos, outcomes, names):
    """splits.keep_out; raises UserError where too few people are left, or kept out."""
    names, unseen_names = splits.keep_out(photos, outcomes, names, options.unseen, options.seed)
    if options.unseen and min(len(names), len(unseen_names)) < FEWEST_PEOPLE:
        raise UserError(
            f"--unseen {options.unseen:g} would keep {len(unseen_names)} of "
            f"{len(names) + len(unseen_names)} people out of training; at least {FEWEST_PEOPLE} "
            f"are needed on either side: name another share, or add people")
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
    values = {name: str(value) if isinstance(value, Path) else value
              for name, value in sorted(vars(options).items()) if name != "lists"}
    # The published data set whose protocol is followed: its epochs and batch size are defaults.
    published = {dataset.name for dataset in DATASETS.values()}
    return {"name": options.name, "image_size": options.size,
            "crop": dict(crop, faces=options.faces), "embedding": embedded_by,
            "protocol": options.source if options.source in published else None,
            "options": values, "lists": [str(path) for path in options.lists or ()]}


def _photograph_counts(photos, faces, outcomes, passed_over):
    """What became of all files below --images: counts for the manifest."""
    left_out = Counter(outcome.reason for outcome in outcomes if outcome.status == LEFT_OUT)
    conditions = count_conditions(faces)
    return {"found": len({photo.path for photo in photos}), "turned": conditions["turned"],
            "incomplete": conditions["incomplete"], "left_out": dict(left_out.most_common()),
            "passed_over": passed_over}


def outcome_notes(outcomes):
    """Lines that count why photographs were left out, most frequent first."""
    counts = Counter(outcome.reason for outcome in outcomes if outcome.status == LEFT_OUT)
    examples = {outcome.reason: outcome.detail for outcome in reversed(outcomes)}
    return [f"{count} left out: {REASONS[reason]}"
            + (f" (the first: {one_line(examples[reason])})" if examples[reason] else "")
            for reason, count in counts.most_common()]


def _shared_notes(options, photos, split):
    """Lines on photographs that are filed under several people, unless `describe` says it."""
    shared = [group for group in split.shared if options.size != IMAGE_SIZE or any(
        split.outcomes[index].status == LEFT_OUT for index in group)]
    if not shared:
        return []

    def together(group):
        return " and ".join(f"{one_line(photos[index].path, 100)} ({photos[index].person})"
                            for index in group)

    return [f"photographs filed under more than one person ({len(shared)}): "
            + first_few(shared, together)]


def _nothing_usable(options, outcomes):
    """The message where no person has enough photographs."""
    notes = "; ".join(outcome_notes(outcomes)[:3])
    if options.test_images is None:
        return (f"no person of {options.images} has {options.min_images} usable photographs, one "
                f"of them without an exact copy, so that one can train and one can test. {notes}. "
                f"Add photographs" + ", or lower --min_images" * (options.min_images > 2))
    return (f"no person of {options.images} has {options.min_images} usable photographs, "
            f"{options.test_images} of them without an exact copy. {notes}. Lower --min_images "
            f"({options.min_images}) or --test_images ({options.test_images}), or add photographs")


def _problems(options, photos, split):
    """What to look at before training that shows in no description of the finished data set."""
    problems = []
    statuses = [outcome.status for outcome in split.outcomes]
    across = sum({statuses[first], statuses[second]} in map(set, SPLITS)
                 and photos[first].person == photos[second].person
                 for first, second in split.near)
    if across:
        problems.append(
            f"{across} pairs in near_duplicates.csv are of one person and lie across the split, "
            "which makes queries too easy: prepare again with --drop_near_duplicates --overwrite")
    if options.size != IMAGE_SIZE:
        problems.append("main.py cannot train on these: the network takes images of "
                        f"{IMAGE_SIZE} pixels a side")
    return problems
