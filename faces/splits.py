"""Faces -> training images (the gallery) and test images (the queries) of each person.

Those of people who are kept out of training are a gallery and queries of their own.
"""

import hashlib
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np

from faces.detection import Rejected
from faces.duplicates import near_pairs, shared_images

TRAIN, TEST, LEFT_OUT = "train", "test", "left_out"
UNSEEN_GALLERY, UNSEEN_QUERIES = "unseen_gallery", "unseen_queries"
# Of seen and of unseen people: what a query is found among, and queries. Names of folders, too.
SPLITS = ((TRAIN, TEST), (UNSEEN_GALLERY, UNSEEN_QUERIES))

# Why a photograph is left out: codes, and what they mean.
REASONS = {
    "unreadable": "unreadable as an image",
    "too_large": "too many pixels to read safely",
    "incomplete": "incomplete, and no face in the part that is there",
    "wrong_size": "not of the size that the source's photographs have",
    "wrong_sha256": "sha256 differs from the list's",
    "crop_outside": "the crop lies outside the image",
    "no_face": "no face was found",
    "no_face_in_box": "no face was found in the source's box",
    "several_faces": "more than one face was found",
    "near_duplicate": "nearly the same as an earlier one",
    "copy_of_test": "exact copy of a test image",
    "not_sampled": "frame was not sampled",
    "beyond_max_images": "the person has more photographs than --max_images",
    "too_few_images": "too few usable photographs of the person",
}

YOUTUBE_TRAIN_FRAMES = 40
MOST_TEST_IMAGES = 5  # of a person, unless --test_images says more


def seed_for(seed, text):
    """A seed that depends on the user's and on a text, and not on what else there is."""
    return int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:4], "little")


class Outcome(NamedTuple):
    """What became of a photograph.

    Attributes:
        status: TRAIN, TEST, UNSEEN_GALLERY, UNSEEN_QUERIES or LEFT_OUT.
        reason: of one that is left out, one of REASONS; else empty.
        detail: text for people; may be empty.
    """

    status: str
    reason: str = ""
    detail: str = ""


class Split(NamedTuple):
    """What split_faces decides.

    Attributes:
        outcomes: list of an Outcome for each photograph.
        names: list of str, the people by label.
        near: int64 [pairs, 2], photographs that are nearly the same: indices, ascending.
        shared: list of lists of indices: the same face of one photograph, filed under several
            people; one photograph of each of them.
    """

    outcomes: list
    names: list
    near: np.ndarray
    shared: list


def split_faces(photos, faces, seed, test_images=None, min_images=2, max_images=None,
                drop_near_duplicates=False, planned=None):
    """Decides for every photograph where it goes.

    Args:
        photos: Photos.
        faces: of each, a Face or Rejected.
        seed: int, of the choice of test images.
        test_images: int, test images of each person; None: half of the person's, at most
            MOST_TEST_IMAGES.
        min_images: int, people with fewer usable photographs are left out.
        max_images: int, of a person with more, this many are taken, spread evenly over the order
            of `photos`; None: all.
        drop_near_duplicates: of photographs of one person that are nearly the same, keep the first.
        planned: of each photograph TRAIN or TEST where that is settled (sampled frames); else None.

    Returns:
        A Split.
    """
    outcomes = [Outcome(LEFT_OUT, *face) if isinstance(face, Rejected) else None for face in faces]
    good = [index for index, outcome in enumerate(outcomes) if outcome is None]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(
        photo.person for photo in photos))}
    near = np.array(good, np.int64)[near_pairs(
        [faces[index].hash for index in good],
        [numbers[photos[index].person] for index in good])] if good else np.zeros((0, 2), int)
    pixels = {index: hashlib.sha256(faces[index].row.tobytes()).digest() for index in good}
    shared = [[good[place] for place in group] for group in shared_images(
        [pixels[index] for index in good], [photos[index].person for index in good])]
    if drop_near_duplicates:
        _drop(near, photos, faces, outcomes)
    by_person = defaultdict(list)
    for index in good:
        if outcomes[index] is None:
            by_person[photos[index].person].append(index)
    times = Counter(pixels[index] for indices in by_person.values() for index in indices)
    names = []
    for name in sorted(by_person):
        usable = by_person[name]
        indices = usable if max_images is None else [
            usable[place] for place in _evenly(len(usable), max_images)]
        for index in set(usable).difference(indices):
            outcomes[index] = Outcome(LEFT_OUT, "beyond_max_images")
        if len(indices) < min_images:
            split = None
        elif planned is not None:
            split = _planned_split(indices, planned, pixels)
        else:
            split = _random_split(indices, pixels, times, test_images,
                                  np.random.RandomState(seed_for(seed, name)))
        if split is None or not split[0] or len(split[1]) < (test_images or 1):
            distinct = sum(times[pixels[index]] == 1 for index in indices)
            detail = f"{len(indices)} usable, {distinct} of them without an exact copy"
            for index in indices:
                outcomes[index] = Outcome(LEFT_OUT, "too_few_images", detail)
            continue
        names.append(name)
        for index in indices:
            outcomes[index] = Outcome(LEFT_OUT, "copy_of_test")
        for status, part in zip((TRAIN, TEST), split):
            for index in part:
                outcomes[index] = Outcome(status)
    return Split(outcomes, names, near, shared)


def keep_out(photos, outcomes, names, share, seed):
    """Keeps some people out of training: their images become a gallery and queries of their own.

    Who is kept out depends on the seed and on each one's name, so that people who are added move
    few others.

    Args:
        photos, outcomes, names: as given to and returned by split_faces; outcomes changes.
        share: of the people, 0..1.
        seed: of the choice.

    Returns:
        (names, unseen_names): the people that are left, and those that are kept out, by label. Of
        either there may be too few to evaluate.
    """
    order = sorted(names, key=lambda name: (seed_for(seed, "unseen " + name), name))
    chosen = set(order[:int(round(share * len(names)))])
    moved = dict(zip(*SPLITS))
    for index, photo in enumerate(photos):
        if photo.person in chosen and outcomes[index].status in moved:
            outcomes[index] = outcomes[index]._replace(status=moved[outcomes[index].status])
    return ([name for name in names if name not in chosen],
            [name for name in names if name in chosen])


def _drop(near, photos, faces, outcomes):
    """Leaves out, of photographs of one person that are nearly the same, all but the first."""
    for first, second in near:  # in order, so that the first of a group stays
        if photos[first].person != photos[second].person or outcomes[second] is not None:
            continue  # different people more likely look alike than share a photograph
        if outcomes[first] is None:
            outcomes[second] = Outcome(LEFT_OUT, "near_duplicate", str(photos[first].path))
        elif faces[first].hash == faces[second].hash:
            # What is near the first of equal hashes is as near the others: see near_pairs.
            outcomes[second] = outcomes[first]


def _random_split(indices, pixels, times, test_images, rng):
    """(training, test) indices of one person, or None if there are too few distinct images.

    Images whose pixels occur more than once can only train, so that no image is on both sides.
    """
    free = [index for index in indices if times[pixels[index]] == 1]
    if test_images is None:
        test_images = min(MOST_TEST_IMAGES, len(indices) // 2, max(len(free), 1))
    if len(free) < test_images or len(indices) <= test_images:
        return None
    test = set(rng.permutation(free)[:test_images].tolist())
    return [index for index in indices if index not in test], sorted(test)


def _planned_split(indices, planned, pixels):
    """The same where it is settled already, without training images that are test images, too."""
    test = [index for index in indices if planned[index] == TEST]
    copies = {pixels[index] for index in test}
    return [index for index in indices
            if planned[index] == TRAIN and pixels[index] not in copies], test


# Frames of videos


def frame_queues(photos, test_images, rng):
    """In which order frames of one person are taken for training and for testing.

    Test frames come from one video chosen at random, training frames from the others; of a single
    video, test frames are its end. The first of each queue are spread evenly over the time; the
    others follow in order, to take the place of frames that cannot be used.

    Args:
        photos: the person's Photos, in time order within each group (video).
        test_images: test frames that are wanted.
        rng: RandomState.

    Returns:
        (training, test): two lists of Photos.
    """
    videos = defaultdict(list)
    for photo in photos:
        videos[photo.group].append(photo)
    names = list(videos)
    if len(names) == 1:
        even = _evenly(len(photos), YOUTUBE_TRAIN_FRAMES + test_images)
        cut = even[-test_images] if len(even) > test_images else len(photos)
        return (_first(photos[:cut], even[:-test_images]),
                _first(photos[cut:], [place - cut for place in even[-test_images:]]))
    test_video = names[rng.randint(len(names))]
    others = [photo for name in names if name != test_video for photo in videos[name]]
    test = videos[test_video]
    return (_first(others, _evenly(len(others), YOUTUBE_TRAIN_FRAMES)),
            _first(test, _evenly(len(test), test_images)))


def _evenly(length, count):
    """At most `count` different places of 0..length-1, spread evenly."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def _first(items, places):
    """The items at some places, then the others."""
    chosen = set(places)
    return [items[place] for place in places if items] + [
        item for place, item in enumerate(items) if place not in chosen]


def read_sampled(photos, seed, test_images, read):
    """Reads as many frames of each person as are kept, not all that there are.

    Args:
        photos: Photos of frames.
        seed: of the choice of test videos.
        test_images: test frames a person.
        read: function of a list of Photos to (photos, faces), see faces.reading.read_faces.

    Returns:
        (photos, faces, planned): the Photos that were read, a Face or Rejected of each, and TRAIN
        or TEST.
    """
    by_person = defaultdict(list)
    for photo in photos:
        by_person[photo.person].append(photo)
    queues = []  # [frames still to take, how many are missing, status]
    for person, frames in by_person.items():
        rng = np.random.RandomState(seed_for(seed, person))
        train, test = frame_queues(frames, test_images, rng)
        queues += [[train[::-1], YOUTUBE_TRAIN_FRAMES, TRAIN], [test[::-1], test_images, TEST]]
    all_photos, all_faces, planned = [], [], []
    taken_at_once = 1
    while True:
        chosen = [(queue, queue[0].pop()) for queue in queues
                  for _ in range(min(len(queue[0]), queue[1] * taken_at_once if queue[1] else 0))]
        if not chosen:
            return all_photos, all_faces, planned
        queue_of = {photo: queue for queue, photo in chosen}
        read_photos, faces = read([photo for _, photo in chosen])
        for photo, face in zip(read_photos, faces):
            queue = queue_of[photo]
            if isinstance(face, Rejected) or queue[1]:
                all_photos.append(photo)
                all_faces.append(face)
                planned.append(queue[2])
                queue[1] -= not isinstance(face, Rejected)
        taken_at_once *= 2
