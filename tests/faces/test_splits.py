"""Which images train, which test, and which frames of videos are read."""

import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from faces.detection import Face, Rejected
from faces.sources import Photo
from faces.splits import frame_queues, read_sampled, split_faces


def frames(person, videos, count):
    return [Photo(Path(f"{person}/{video}/{frame:03d}.jpg"), person, group=str(video))
            for video in range(videos) for frame in range(count)]


def face(seed):
    rng = np.random.RandomState(seed)
    pixels = rng.randint(0, 256, (2, 2, 3)).astype(np.uint8)
    return Face((0, 0, 9, 9), pixels=pixels, hash=np.uint64(rng.randint(0, 2 ** 62)),
                sha256=str(seed))


def number(photo):
    return int(photo.path.stem)


def test_frames_of_several_videos():
    photos = frames("A", 3, 100)
    train, test = frame_queues(photos, 5, np.random.RandomState(0))
    assert sorted(train + test) == photos  # each once
    assert len({photo.group for photo in test}) == 1
    assert not {photo.group for photo in test} & {photo.group for photo in train}
    assert [number(photo) for photo in test[:5]] == [0, 25, 50, 74, 99]
    # the first forty spread over all of the two other videos
    assert Counter(photo.group for photo in train[:40]).most_common()[0][1] == 20


def test_frames_of_one_video_test_its_end():
    photos = frames("A", 1, 90)
    train, test = frame_queues(photos, 5, np.random.RandomState(0))
    assert sorted(train + test) == photos
    assert max(number(photo) for photo in train) < min(number(photo) for photo in test)
    assert len(train) > 40 and len(test) > 5
    assert frame_queues(photos[:3], 5, np.random.RandomState(0))[1] == []


def test_only_the_frames_that_are_needed_are_read():
    photos = frames("A", 2, 500) + frames("B", 1, 500) + frames("C", 1, 20)
    read = []

    def reader(some):
        read.extend(some)
        # every third frame cannot be used
        return some, [Rejected("no_face") if number(photo) % 3 == 0 else face(
            zlib.crc32(str(photo.path).encode())) for photo in some]
    kept, faces, planned = read_sampled(photos, 0, 5, reader)
    assert len(set(read)) == len(read) < 200
    good = Counter((photo.person, split) for photo, found, split in zip(kept, faces, planned)
                   if not isinstance(found, Rejected))
    assert [good["A", "train"], good["A", "test"]] == [40, 5]
    assert [good["B", "train"], good["B", "test"]] == [40, 5]
    assert good["C", "train"] + good["C", "test"] <= 14
    outcomes, names, _, _ = split_faces(kept, faces, 0, 5, 10, planned=planned)
    counts = Counter((photo.person, outcome.status) for photo, outcome in zip(kept, outcomes))
    assert counts["A", "train"] == counts["B", "train"] == 40 and names[:2] == ["A", "B"]
    again = read_sampled(photos, 0, 5, reader)
    assert again[0] == kept


def test_training_frames_that_are_test_frames_are_left_out():
    photos = frames("A", 2, 30)
    faces = [face(index % 30) for index in range(60)]
    planned = ["train"] * 30 + ["test"] * 5 + ["train"] * 25
    outcomes, names, _, _ = split_faces(photos, faces, 0, 5, 10, planned=planned)
    assert names == ["A"]
    assert Counter((outcome.status, outcome.reason) for outcome in outcomes) == {
        ("train", ""): 50, ("test", ""): 5, ("left_out", "copy_of_test"): 5}


def test_copies_train_and_are_counted_where_that_leaves_too_few():
    photos = [Photo(Path(f"{index}.jpg"), "A") for index in range(12)]
    faces = [face(min(index, 6)) for index in range(12)]  # 6 of their own, 6 equal
    outcomes, names, _, _ = split_faces(photos, faces, 0, 5, 10)
    assert names == ["A"] and all(outcome.status == "train" for outcome in outcomes[6:])
    faces = [face(min(index, 4)) for index in range(12)]
    outcomes, names, _, _ = split_faces(photos, faces, 0, 5, 10)
    assert names == [] and outcomes[0].reason == "too_few_images"
    assert "12 usable, 4 of them" in outcomes[0].detail


def album(**counts):
    """Photos of people with so many photographs each, and their faces, all different."""
    photos = [Photo(Path(f"{name}/{index}.jpg"), name)
              for name, count in counts.items() for index in range(count)]
    return photos, [face(index) for index in range(len(photos))]


def test_small_albums_are_split_by_half():
    photos, faces = album(A=1, B=2, C=3, D=7, E=10, F=40)
    outcomes, names, _, _ = split_faces(photos, faces, 0)
    counts = Counter((photo.person, outcome.status) for photo, outcome in zip(photos, outcomes))
    assert names == ["B", "C", "D", "E", "F"]
    assert counts == {("A", "left_out"): 1, ("B", "train"): 1, ("B", "test"): 1,
                      ("C", "train"): 2, ("C", "test"): 1, ("D", "train"): 4, ("D", "test"): 3,
                      ("E", "train"): 5, ("E", "test"): 5, ("F", "train"): 35, ("F", "test"): 5}


def test_small_albums_with_copies():
    photos, _ = album(A=3, B=4, C=2)
    faces = [face(index) for index in (0, 0, 1, 2, 2, 3, 3, 4, 4)]
    outcomes, names, _, _ = split_faces(photos, faces, 0)
    assert names == ["A"]
    assert [outcome.status for outcome in outcomes[:3]] == ["train", "train", "test"]


def test_one_face_under_several_people_is_found():
    photos, faces = album(A=3, B=3, C=3)
    for index in (4, 5, 8):  # two of B, one of C
        faces[index] = faces[1]
    split = split_faces(photos, faces, 0)
    assert split.shared == [[1, 4, 8]]
    assert all(split.outcomes[index].status != "test" for index in (1, 4, 5, 8))
