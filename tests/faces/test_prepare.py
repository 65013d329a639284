"""Photographs -> pickle folders, by the command, on pictures made here."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import assert_refused, command, run_script
from face_pictures import orl_face, photo, save, scene
from PIL import Image

import data_loader
import prepare
from config import find_dataset
from faces import photographs, sources, walker, writing
from faces.cache import FILE
from faces.cropping import crop_like
from methods.run import load_run
from methods.table import resolve
from runtime.errors import UserError


@pytest.fixture(autouse=True)
def signals():
    """prepare.main sets signal handlers; the tests' own are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def photos(tmp_path):
    """DIR/IDENTITY/*: three people with eight photos each, one with two."""
    people = (("Ann", 8), ("Bo Lee", 8), ("Zo\u00eb", 8), ("Few", 2))
    for person, (name, count) in enumerate(people):
        for number in range(count):
            suffix = ("jpg", "png", "pgm", "webp")[number % 4]
            save(photo(100 * person + number), tmp_path / "photos" / name / f"{number}.{suffix}")
    return tmp_path / "photos"


class Prepared:
    """A data set that prepare.py has made in this process, and what it printed."""

    def __init__(self, folder, output):
        self.folder = folder
        self.output = output
        self.dataset = find_dataset(folder.name, folder.parent)
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))

    def splits(self):
        return data_loader.load_dataset(self.dataset)

    def rows(self, split):
        """(rows, labels) of a split, rows in the order channel, row, column."""
        images, labels = data_loader.read_pickle(self.folder / split / "part_000.pickle")
        return images.transpose(0, 3, 1, 2).reshape(len(images), -1), labels

    def images(self):
        with open(str(self.folder / "images.csv"), encoding="utf-8", errors="surrogateescape",
                  newline="") as stream:
            return {row["file"]: row for row in csv.DictReader(stream)}


@pytest.fixture
def run(tmp_path, photos, capsys):
    """Runs prepare.py's main on `photos`; without a crop unless asked for another."""
    def run(*arguments, name="mine", source="folder", images=photos, crop=("--crop", "none")):
        capsys.readouterr()
        prepare.main([str(argument) for argument in (
            "--source", source, "--images", images, "--name", name, "--data_dir",
            tmp_path / "data", "--test_images", 2) + tuple(crop) + arguments])
        return Prepared(tmp_path / "data" / name, capsys.readouterr().out)
    return run


def test_folder_of_photos(run):
    made = run()
    train, test = made.splits()
    dataset = made.dataset
    assert (dataset.num_identities, len(train.labels), len(test.labels)) == (3, 18, 6)
    assert np.bincount(train.labels).tolist() == [6, 6, 6]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    assert data_loader.identity_names(dataset) == ["Ann", "Bo Lee", "Zo\u00eb"]
    assert (dataset.epochs, dataset.batch_size, made.manifest["protocol"]) == (20, 32, None)
    assert not set(train.fingerprints) & set(test.fingerprints)
    assert "Ready to train." in made.output and "python main.py --dataset_flag mine" in made.output
    counts = [made.manifest[key] for key in ("num_identities", "num_train", "num_test")]
    assert counts == [3, 18, 6] and made.manifest["crop"]["method"] == "none"
    assert dataset.crop == made.manifest["crop"]
    for name, sha256 in made.manifest["sha256"].items():
        assert hashlib.sha256((made.folder / name).read_bytes()).hexdigest() == sha256
    table = made.images()
    assert Counter((row["status"], row["reason"]) for row in table.values()) == {
        ("train", ""): 18, ("test", ""): 6, ("left_out", "too_few_images"): 2}
    for path, row in table.items():
        with open(path, "rb") as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == row["sha256"]


def test_pixels_labels_and_rows_are_those_of_the_photos(run):
    made = run()
    for split in ("train", "test"):
        rows, labels = made.rows(split)
        images = data_loader.channels_last(rows)
        listed = [row for row in made.images().values() if row["status"] == split]
        assert sorted(int(row["row"]) for row in listed) == list(range(len(labels)))
        for row in listed:
            with Image.open(row["file"]) as image:
                small = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
            np.testing.assert_array_equal(images[int(row["row"])], small)
            assert labels[int(row["row"])] == int(row["label"])


def test_the_split_depends_on_the_seed_and_not_on_other_people(run, photos):
    def tests_of(made, name):
        return sorted(path for path, row in made.images().items()
                      if row["identity"] == name and row["status"] == "test")
    first, again, other = run(), run(name="again"), run("--seed", 3, name="other")
    for part in ("train/part_000.pickle", "test/part_000.pickle"):
        assert (first.folder / part).read_bytes() == (again.folder / part).read_bytes()
        assert (first.folder / part).read_bytes() != (other.folder / part).read_bytes()
    for number in range(9):
        save(photo(900 + number), photos / "Bob" / f"{number}.png")
    assert tests_of(run(name="more"), "Zo\u00eb") == tests_of(first, "Zo\u00eb")


def test_exact_copies_never_lie_across_the_split(run, photos):
    for number in (1, 3, 5):
        with Image.open(str(next((photos / "Ann").glob(f"{number}.*")))) as image:
            save(image.convert("RGB"), photos / "Ann" / f"copy{number}.png")
    for seed in range(6):
        train, test = run("--seed", seed, name=f"s{seed}").splits()
        assert len(test.labels) == 6
        assert not set(train.fingerprints) & set(test.fingerprints)


def test_near_duplicates_are_reported_and_dropped_on_request(run, photos):
    original = next((photos / "Ann").glob("0.*"))
    with Image.open(str(original)) as image:
        for number in range(6):  # so that with any seed some lie across the split
            save(image.convert("RGB"), photos / "Ann" / f"again{number}.jpg",
                 quality=60 + 5 * number)
    made = run()
    with open(str(made.folder / "near_duplicates.csv")) as stream:
        pairs = [(row["file"], row["other"]) for row in csv.DictReader(stream)]
    assert len(pairs) >= 6 and pairs[0] == (str(original), str(photos / "Ann/again0.jpg"))
    across = {tuple(row[key] for key in ("status", "other_status"))
              for row in csv.DictReader(open(str(made.folder / "near_duplicates.csv")))}
    if across & {("train", "test"), ("test", "train")}:
        assert "--drop_near_duplicates" in made.output and "Ready to train." not in made.output
    dropped = run("--drop_near_duplicates", name="dropped")
    row = dropped.images()[str(photos / "Ann/again0.jpg")]
    assert (row["reason"], row["detail"]) == ("near_duplicate", str(original))
    assert len(dropped.splits()[0].labels) == 18 and "Ready to train." in dropped.output


def test_every_file_is_counted_in_the_manifest_and_the_summary(run, photos):
    save(photo(700), photos / "Ann/2019/May/x.heic.jpg")
    (photos / "Ann/@eaDir").mkdir()
    (photos / "Ann/@eaDir/0.jpg").write_text("thumbnail")
    (photos / "Ann/notes.txt").write_text("x")
    (photos / "Ann/.DS_Store").write_text("x")
    (photos / "Ann/cut.png").write_bytes(b"x")
    save(photo(701), photos / "loose.jpg")
    (photos / "Ann/again").symlink_to(photos / "Bo Lee")
    (photos / "Ann/gone").symlink_to(photos / "nothing")
    made = run()
    assert made.manifest["photographs"] == {
        "found": 28, "turned": 0, "incomplete": 0,
        "left_out": {"too_few_images": 2, "unreadable": 1},
        "passed_over": {walker.NOT_A_PHOTOGRAPH: 1, walker.HIDDEN: 1, walker.OTHER_PROGRAM: 1,
                        walker.LINK_AGAIN: 1, walker.BROKEN_LINK: 1, sources.IN_NO_FOLDER: 1}}
    for reason in made.manifest["photographs"]["passed_over"]:
        assert reason in made.output
    assert len(made.images()) == 28 and len(made.splits()[0].labels) == 19


def test_small_albums_need_no_options(tmp_path, capsys):
    for person, count in enumerate((1, 2, 3, 4, 9, 12)):
        for number in range(count):
            save(photo(100 * person + number), tmp_path / "album" / f"P{count}" / f"{number}.png")
    prepare.main(["--source", "folder", "--images", str(tmp_path / "album"), "--name", "album",
                  "--data_dir", str(tmp_path / "data"), "--crop", "none"])
    made = Prepared(tmp_path / "data/album", capsys.readouterr().out)
    names = data_loader.identity_names(made.dataset)
    train, test = made.splits()
    assert {name: (np.sum(train.labels == label), np.sum(test.labels == label))
            for label, name in enumerate(names)} == {
        "P2": (1, 1), "P3": (2, 1), "P4": (2, 2), "P9": (5, 4), "P12": (7, 5)}
    assert "Ready to train." in made.output
    shutil.rmtree(str(tmp_path / "album"))
    save(photo(1), tmp_path / "album/A/1.png")
    with pytest.raises(UserError, match="no person.*2 usable.*Add photographs"):
        prepare.main(["--source", "folder", "--images", str(tmp_path / "album"), "--name", "x",
                      "--data_dir", str(tmp_path / "data"), "--crop", "none"])


def test_one_photograph_under_two_people_is_said_with_both_names(run, photos):
    first = next((photos / "Ann").glob("2.*"))
    shutil.copy(str(first), str(photos / "Bo Lee" / f"mine{first.suffix}"))
    (photos / "One").mkdir()
    shutil.copy(str(first), str(photos / "One" / f"ours{first.suffix}"))  # too few to be used
    output = run().output
    line, = [line for line in output.splitlines() if line.startswith("  - ")]
    assert f"{first} (Ann)" in line and f"mine{first.suffix} (Bo Lee)" in line
    note, = [line for line in output.splitlines()
             if "more than one person (1)" in line and "(One)" in line]
    assert f"{first} (Ann)" in note and f"ours{first.suffix} (One)" in note
    assert "Ready to train." not in output


def test_damaged_images_are_listed_not_fatal(run, photos):
    whole = next((photos / "Ann").glob("0.jpg")).read_bytes()
    (photos / "Ann/cut.jpg").write_bytes(whole[:300])
    (photos / "Ann/text.png").write_text("not a picture")
    (photos / "Ann/empty.jpg").write_bytes(b"")
    (photos / "Ann/notes.txt").write_text("passed over")
    save(Image.new("1", (20000, 20000)), photos / "Ann/huge.png")
    save(photo(1, (1, 1)), photos / "Ann/dot.png")
    odd = os.path.join(os.fsencode(str(photos / "Ann")), b"\xff.png")
    os.rename(str(save(photo(77), photos / "x.png")), odd)
    reasons = {path.rsplit("/", 1)[1]: row["reason"] for path, row in run().images().items()}
    assert [reasons[name] for name in ("cut.jpg", "text.png", "empty.jpg", "huge.png", "dot.png")
            ] == ["unreadable"] * 3 + ["too_large", ""]
    assert "notes.txt" not in reasons and reasons[os.fsdecode(b"\xff.png")] == ""


# Faces that are found


def face_photos(folder, people=3, count=6):
    """DIR/IDENTITY/N.jpg: faces of ORL somewhere in larger pictures."""
    for person in range(1, people + 1):
        for number in range(1, count + 1):
            place = (20 * number, 15 * person)
            save(scene([(orl_face(person, number), place)]),
                 folder / f"s{person}" / f"{number}.png")
    return folder


def test_faces_are_found_and_aligned_by_default(run, tmp_path):
    folder = face_photos(tmp_path / "scenes")
    picture = scene([(orl_face(1, 7), (150, 90))])
    exif = Image.Exif()
    exif[0x0112] = 5  # mirrored and turned
    save(picture.transpose(Image.TRANSPOSE), folder / "s1/phone.png", exif=exif)
    save(picture, folder / "s1/straight.png")
    save(photo(5, (300, 200)), folder / "s1/landscape.png")
    save(scene([(orl_face(4, 1), (20, 20)), (orl_face(1, 8).resize((138, 168)), (200, 60))]),
         folder / "s1/two.png")
    made = run(images=folder, crop=("--margin", "0.1"))
    crop = made.manifest["crop"]
    assert (crop["method"], crop["margin"], crop["faces"]) == ("detect", 0.1, "largest")
    assert made.dataset.crop == crop
    table = {path.rsplit("/", 2)[1] + "/" + path.rsplit("/", 1)[1]: row
             for path, row in made.images().items()}
    assert Counter(row["reason"] for row in table.values()) == {"": 21, "no_face": 1}
    assert table["s1/landscape.png"]["status"] == "left_out"
    for name in ("box", "landmarks", "score"):
        assert table["s1/phone.png"][name] == table["s1/straight.png"][name] != ""
    assert float(table["s1/two.png"]["box"].split()[0]) > 180  # the larger one
    # a query that comes later gives the pixels of the gallery
    for name, row in table.items():
        if row["status"] in ("train", "test"):
            image = photographs.open_photograph(folder / name)
            rows, _ = made.rows(row["status"])
            again = crop_like(json.loads(json.dumps(crop)), image)[0]
            np.testing.assert_array_equal(again.pixels.transpose(2, 0, 1).reshape(-1),
                                          rows[int(row["row"])])
            assert len(row["landmarks"].split()) == 10 and 0.9 < float(row["score"]) <= 1
    only = run(images=folder, name="only", crop=("--faces", "only"))
    reasons = {path.rsplit("/", 1)[1]: row["reason"] for path, row in only.images().items()}
    assert reasons["two.png"] == "several_faces"
    every = run(images=folder, name="every", crop=("--faces", "all"))
    assert sum(len(split.labels) for split in every.splits()) == 22


def test_a_folder_without_faces(run):
    with pytest.raises(UserError, match="no person.*26.*no face.*--min_images.*--test"):
        run(crop=())


def test_labels_say_who_is_on_a_photograph(run, tmp_path, photos):
    labels = tmp_path / "labels.csv"
    labels.write_text("file,identity\n" + "".join(
        f"{path.relative_to(photos)},{'even' if index % 2 else 'odd'}\n"
        for index, path in enumerate(sorted(photos.rglob("*.*")))), encoding="utf-8")
    made = run("--labels", labels)
    assert data_loader.identity_names(made.dataset) == ["even", "odd"]
    assert made.manifest["num_train"] + made.manifest["num_test"] == 26


# The published sets


def test_lfw_takes_the_face_and_only_its_own_size(run, tmp_path):
    for seed, person in enumerate(("A_B", "C_D")):
        for number in range(1, 5):
            image = Image.new("RGB", (250, 250))
            image.paste(photo(10 * seed + number, (114, 114)), (68, 70))
            save(image, tmp_path / "lfw" / person / f"{person}_{number:04d}.png")
    save(photo(5, (100, 100)), tmp_path / "lfw/A_B/A_B_0009.png")
    made = run(source="lfw", images=tmp_path / "lfw", crop=())
    rows, _ = made.rows("train")
    assert rows.reshape(len(rows), 3, -1).max(axis=1).min() > 0  # no black frame was kept
    assert (made.manifest["crop"]["method"], made.manifest["crop"]["box"]) == ("box", "listed")
    row = made.images()[str(tmp_path / "lfw/A_B/A_B_0009.png")]
    assert (row["reason"], row["detail"]) == ("wrong_size", "100x100")


def facescrub_source(folder):
    lines = ["name\timage_id\tface_id\turl\tbbox\tsha256"]
    for seed, name in enumerate(("Ann Bo", "Cy Di")):
        for number in range(6):
            image = photo(10 * seed + number, (60, 60))
            person, i, f = name.replace(" ", "_"), 50 + number, 90 + number
            stem = (f"{person}_{i}_{f}", f"{i}_{f}", f"{person}_{i}", str(i), "sha",
                    str(i))[number]
            path = save(image, folder / "images" / person / f"{stem}.png")
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            if stem == "sha":
                path.rename(path.with_name(sha256 + ".png"))
            listed = sha256 if number != 5 else "0" * 64
            lines.append(f"{name}\t{i}\t{f}\thttp://x/y.jpg\t10,10,50,50\t{listed}")
    lines.append("Ann Bo\t99\t99\thttp://x/z.jpg\t0,0,9,9\t" + "1" * 64)
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_facescrub_lists(run, tmp_path):
    listing = facescrub_source(tmp_path)
    options = dict(source="facescrub", images=tmp_path / "images", crop=())
    made = run("--lists", listing, **options)
    assert "1 of 13 listed photographs are missing" in made.output
    train, test = made.splits()
    assert (len(train.labels), len(test.labels)) == (8, 4)
    assert data_loader.identity_names(made.dataset) == ["Ann Bo", "Cy Di"]
    # the published set's schedule
    assert (made.dataset.epochs, made.dataset.batch_size) == (2000, 256)
    assert made.manifest["protocol"] == "facescrub" and "2000 epochs" in made.output
    row = next(row for path, row in made.images().items() if path.endswith("Ann_Bo/53.png"))
    with Image.open(row["file"]) as image:
        face = np.asarray(image.crop((10, 10, 50, 50)).resize((32, 32), Image.BILINEAR))
    np.testing.assert_array_equal(made.rows(row["status"])[0][int(row["row"])],
                                  face.transpose(2, 0, 1).reshape(-1))
    checked = run("--lists", listing, "--verify_sha256", name="checked", **options)
    assert Counter(row["reason"] for row in checked.images().values())["wrong_sha256"] == 2
    text = listing.read_text()
    listing.write_text(text.replace("10,10,50,50", "10,10,50", 1))
    with pytest.raises(UserError, match="list.txt, line 2.*bbox"):
        run("--lists", listing, name="x", **options)
    listing.write_text(text.split("\n", 1)[1])
    with pytest.raises(UserError, match="list.txt.*first line"):
        run("--lists", listing, name="x", **options)
    with pytest.raises(UserError, match="--lists"):
        run(name="x", **options)


def test_facescrub_by_detector_takes_the_face_of_the_list(run, tmp_path):
    lines = ["name\timage_id\tface_id\turl\tbbox\tsha256"]
    for number in range(1, 5):  # a larger face of somebody else stands beside the listed one
        picture = scene([(orl_face(9, number), (10, 20)),
                         (orl_face(2, 1).resize((138, 168)), (230, 60))])
        save(picture, tmp_path / "images/Ann" / f"{number}.png")
        lines.append(f"Ann\t{number}\t1\thttp://x\t20,35,95,120\t{'0' * 64}")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    made = run("--lists", tmp_path / "list.txt", source="facescrub", images=tmp_path / "images",
               crop=("--crop", "detect"))
    boxes = [float(row["box"].split()[0]) for row in made.images().values()]
    assert len(boxes) == 4 and max(boxes) < 60
    assert "one person" in made.output and "Ready to train." not in made.output


def test_youtube_frames_come_from_different_videos(run, tmp_path, monkeypatch):
    for person, videos in (("one_video", 1), ("two_videos", 2)):
        for video in range(videos):
            for frame in range(60):
                save(photo(1000 * video + frame + 7 * videos, (24, 24)),
                     tmp_path / "db" / person / str(video) / f"0.{frame}.jpg")
    (tmp_path / "db/one_video/0/0.0.jpg").write_text("damaged")
    opened, read = photographs.open_photograph, []
    monkeypatch.setattr(photographs, "open_photograph",
                        lambda path: read.append(path) or opened(path))
    made = run("--test_images", 5, source="youtube_faces", images=tmp_path / "db", crop=())
    assert 90 < len(read) < 100  # of 180
    train, test = made.splits()
    assert np.bincount(train.labels).tolist() == [40, 40]
    assert np.bincount(test.labels).tolist() == [5, 5]
    assert made.manifest["crop"]["fraction"] == 0.5 and made.dataset.epochs == 2000
    videos, frames = {"train": set(), "test": set()}, {"train": [], "test": []}
    table = made.images()
    assert len(table) == 180
    for path, row in table.items():
        if row["status"] in videos and row["identity"] == "two_videos":
            videos[row["status"]].add(row["group"])
        elif row["status"] in videos:
            frames[row["status"]].append(int(path.rsplit(".", 2)[1]))
    assert len(videos["train"]) == len(videos["test"]) == 1 and videos["train"] != videos["test"]
    assert max(frames["train"]) < min(frames["test"])


# Options, folders and interruptions


@pytest.mark.parametrize("arguments, mention", [
    (["--name", "orl"], "orl.*taken"), (["--name", "../x"], "--name"),
    (["--name", "x\n"], "--name"),
    (["--name", "train_folder_facescrub"], "taken"), (["--test_images", "0"], "test_images"),
    (["--test_images", "9"], "no person.*10 usable.*--min_images"),
    (["--min_images", "2"], "--min_images.*--test_images"), (["--images", ""], "--images.*empty"),
    (["--min_images", "5", "--max_images", "4"], "--max_images.*--min_images"),
    (["--source", "youtube_faces", "--max_images", "30"], "--max_images"),
    (["--test_images", "9" * 310], "test_images"), (["--min_images", "9" * 310], "min_images"),
    (["--size", "9" * 310], "size"), (["--margin", "9" * 310], "margin"),
    (["--crop", "box", "--crop_box", "1,2," + "9" * 310 + ",4"], "--crop_box"),
    (["--crop", "box", "--crop_box=-1,2,3,4"], "--crop_box"),
    (["--crop", "box", "--crop_fraction", "0"], "crop_fraction"),
    (["--crop", "box", "--crop_box", "1,2,3"], "--crop_box"),
    (["--crop", "box", "--crop_box", "9,9,3,3"], "--crop_box"),
    (["--crop", "box", "--crop_box", "900,900,999,999"], "no person.*crop lies outside"),
    (["--crop", "detect", "--crop_box", "1,2,30,40"], "--crop box"),
    (["--crop", "none", "--margin", "0.2"], "--crop detect"),
    (["--crop", "detect", "--margin", "nan"], "--margin"), (["--size", "9999"], "--size"),
    (["--images", "nowhere"], "nowhere"), (["--lists", "x"], "--lists"),
    (["--source", "lfw", "--labels", "x"], "--labels"), (["--labels", "x.csv"], "x.csv"),
    (["--source", "imagenet"], "--source"), (["--sized", "32"], "--sized"),
    (["--source", "facescrub", "--lists", "nosuch"], "\\Anosuch cannot be read: No such file"),
    (["--images", "x" * 300], "xxx"), (["--labels", "x" * 300], "xxx"),
    (["--data_dir", "x" * 300], "xxx"), (["--source", "facescrub", "--lists", "x" * 300], "xxx"),
    (["--labels", "/dev/zero"], "/dev/zero"),
], ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "")
def test_refusals(tmp_path, run, arguments, mention):
    with pytest.raises(UserError, match="(?s)" + mention):
        run(*arguments)
    assert not (tmp_path / "data").exists() or list((tmp_path / "data").iterdir()) == []


def test_an_existing_data_set_is_replaced_only_on_request(tmp_path, run):
    made = run()
    with pytest.raises(UserError, match="exists.*--overwrite"):
        run("--test_images", 3)
    assert len(made.splits()[1].labels) == 6
    assert len(run("--test_images", 3, "--overwrite").splits()[1].labels) == 9
    # what prepare.py did not make is never removed
    (made.folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="notes.txt"):
        run("--overwrite")
    (tmp_path / "data/letters").mkdir()
    (tmp_path / "data/letters/love.txt").write_text("dear")
    for text in (None, "{}", "[", '{"sha256": 5}'):
        if text is not None:
            (tmp_path / "data/letters/manifest.json").write_text(text)
        with pytest.raises(UserError, match="letters"):
            run("--overwrite", name="letters")
    (tmp_path / "data/link").symlink_to(made.folder)
    with pytest.raises(UserError, match="link"):
        run("--overwrite", name="link")
    assert (tmp_path / "data/letters/love.txt").exists() and (made.folder / "notes.txt").exists()
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name[0] == "."] == []


def content(folder):
    """{file: bytes} of a data set, all of which are as its manifest says."""
    files = {str(path.relative_to(folder)): path.read_bytes()
             for path in folder.rglob("*") if path.is_file()}
    for name, sha256 in json.loads(files["manifest.json"].decode())["sha256"].items():
        assert hashlib.sha256(files[name]).hexdigest() == sha256
    return files


def overwritten_by_a_process(target, new, kill_at):
    """Overwrites a data set in a process that kills itself at a call that changes names on disk.

    Returns:
        Whether it was killed: False once there are fewer calls than `kill_at`.
    """
    process = os.fork()
    if process == 0:
        calls = []

        def killing(function):
            def called(*arguments, **options):
                calls.append(function)
                if len(calls) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return called
        for name in ("rename", "replace", "unlink", "rmdir", "fsync"):
            setattr(os, name, killing(getattr(os, name)))
        try:
            with writing.new_folder(target, overwrite=True) as folder:
                folder.rmdir()
                shutil.copytree(new, folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def test_an_overwrite_that_is_killed_at_any_moment_loses_nothing(tmp_path, run):
    target = run().folder
    stored = {name: tmp_path / name for name in ("old", "new")}
    shutil.copytree(str(target), str(stored["old"]))
    shutil.move(str(run("--seed", 5, name="other").folder), str(stored["new"]))
    contents = {name: content(path) for name, path in stored.items()}
    seen, put_back, killed, kill_at = [], 0, True, 0
    while killed:
        kill_at += 1
        killed = overwritten_by_a_process(target, str(stored["new"]), kill_at)
        if not target.exists():  # between the two renamings: the old one lies beside it
            assert [path.name for path in target.parent.glob("mine*")] == ["mine.replaced"]
        notes = writing.check_replaceable(target, overwrite=True)
        put_back += any("interrupted" in note for note in notes)
        seen.append(next(name for name, value in contents.items() if value == content(target)))
        for path in target.parent.glob("mine.replaced*"):
            assert any(path.name in note for note in notes) and seen[-1] == "new"
            shutil.rmtree(str(path))
        shutil.rmtree(str(target))
        shutil.copytree(str(stored["old"]), str(target))
    assert seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"} and put_back >= 1
    assert seen[-1] == "new" and len(seen) > 10


def test_what_was_made_meanwhile_stays(tmp_path):
    target = tmp_path / "data/mine"
    with pytest.raises(UserError, match="exists"):
        with writing.new_folder(target, overwrite=False) as folder:
            (folder / "part").write_text("x")
            target.mkdir()
            (target / "theirs").write_text("x")
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_leftovers_of_a_killed_run_are_cleared(tmp_path, run):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folders = [tmp_path / "data" / f".{name}.tmp" for name in (
        f"mine.{gone.pid}.0", "mine.abc", f"mine.{os.getppid()}.0", f"other.{gone.pid}.0")]
    for folder in folders:
        (folder / "train").mkdir(parents=True)
    run()
    assert [folder.exists() for folder in folders] == [False, True, True, True]


def kept_detections(folder):
    """Keys of the values in a folder's cache."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as file:
            return file.execute("SELECT key FROM cached").fetchall()
    except sqlite3.OperationalError:  # not there yet
        return []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_runs_leave_nothing_half_made_and_go_on_later(tmp_path, number):
    folder = face_photos(tmp_path / "scenes", people=2)
    for extra in range(150):  # all different, so that none is in the cache
        picture = scene([(orl_face(1, 1), (50, 30))], (200, 170))
        picture.putpixel((0, 0), (extra, 0, 0))
        save(picture, folder / "s1" / f"x{extra:03d}.png")
    arguments = ["--source", "folder", "--images", folder, "--name", "mine", "--data_dir",
                 tmp_path / "data", "--test_images", 2]
    process = subprocess.Popen(
        command("prepare.py", *arguments), cwd=str(tmp_path), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # as a shell's & does
    waited = time.time() + 60
    while not kept_detections(tmp_path / "data") and time.time() < waited:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in errors and not (tmp_path / "data/mine").exists()
    kept = kept_detections(tmp_path / "data")
    prepare.main([str(argument) for argument in arguments])
    assert 0 < len(kept) < 162
    # what was found before is not sought again
    assert len(kept_detections(tmp_path / "data")) == 162


def test_other_sizes_are_written_but_not_for_main(run):
    made = run("--size", 16)
    assert "cannot train" in made.output and made.manifest["crop"]["size"] == 16
    with pytest.raises(UserError, match="3072"):
        made.splits()


def test_sets_of_older_versions_are_still_read(run):
    made = run()
    old = {key: made.manifest[key] for key in ("name", "num_identities", "num_train", "num_test",
                                               "image_size", "options", "lists", "sha256")}
    (made.folder / "manifest.json").write_text(json.dumps(old))
    dataset = find_dataset("mine", made.folder.parent)
    assert (dataset.crop, dataset.epochs, dataset.num_train) == (None, 20, 18)
    assert len(data_loader.load_dataset(dataset)[0].labels) == 18


@pytest.fixture
def eight_people(tmp_path):
    """DIR/IDENTITY/*: eight people with five photographs each, the last with an exact copy."""
    folder = tmp_path / "eight"
    for person in range(8):
        for number in range(5):
            save(photo(1000 + 10 * person + number), folder / f"P{person}" / f"{number}.png")
    save(photo(1070), folder / "P7" / "copy.png")
    return folder


def test_a_share_of_the_people_is_kept_out_of_training(run, eight_people):
    made = run("--unseen", 0.25, "--min_images", 4, images=eight_people)
    manifest = made.manifest
    assert [manifest["num_" + name] for name in (
        "identities", "unseen_identities", "test", "unseen_queries")] == [6, 2, 12, 4]
    names, unseen_names = [(made.folder / name).read_text(encoding="utf-8").splitlines()
                           for name in ("labels.txt", "unseen_labels.txt")]
    assert sorted(names + unseen_names) == [f"P{person}" for person in range(8)]
    assert len(unseen_names) == 2
    rows_of = {}
    for path, row in made.images().items():
        people = unseen_names if row["status"].startswith("unseen") else names
        assert people[int(row["label"])] == row["identity"]
        rows_of.setdefault(row["status"], {})[int(row["row"])] = path
    for status, found in rows_of.items():
        rows, labels = made.rows(status)
        assert sorted(found) == list(range(len(rows))) and len(rows) == manifest["num_" + status]
        with Image.open(found[0]) as image:
            small = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
        np.testing.assert_array_equal(data_loader.channels_last(rows)[0], small)
        assert np.bincount(labels).min() > 0
    assert set(rows_of) == {"train", "test", "unseen_gallery", "unseen_queries"}
    assert set(manifest["sha256"]) >= {"unseen_labels.txt", "unseen_gallery/part_000.pickle",
                                       "unseen_queries/part_000.pickle"}
    assert "2 further people are kept out" in made.output and "Ready to train" in made.output
    # Who is kept out depends on the seed; which images are queries does not.
    again = run("--unseen", 0.25, "--min_images", 4, name="again", images=eight_people)
    assert again.manifest["sha256"] == manifest["sha256"]
    others = {tuple((run("--unseen", 0.25, "--min_images", 4, "--seed", seed, "--overwrite",
                         name="other", images=eight_people).folder / "unseen_labels.txt")
                    .read_text(encoding="utf-8").split()) for seed in (1, 2, 3)}
    assert len(others | {tuple(unseen_names)}) > 1


def test_max_images_takes_photographs_spread_evenly_over_the_names(run, eight_people):
    made = run("--test_images", 1, "--max_images", 3, images=eight_people)
    assert made.manifest["num_train"] == 16 and made.manifest["num_test"] == 8
    rows = made.images()
    assert {os.path.basename(path) for path, row in rows.items() if row["identity"] == "P0"
            and row["status"] != "left_out"} == {"0.png", "2.png", "4.png"}
    assert made.manifest["photographs"]["left_out"] == {"beyond_max_images": 17}


def test_a_run_reads_the_people_kept_out_unless_a_fold_is_left_out(run, eight_people):
    made = run("--unseen", 0.25, "--min_images", 4, images=eight_people)
    values = dict(dataset_flag="mine", data_dir=str(made.folder.parent), method="lsh", num_bits=8)
    data = load_run(*resolve(values))
    assert data.dataset.num_identities == 6 and len(data.unseen_names) == 2
    assert [len(split.labels) for split in data.unseen] == [
        made.manifest["num_unseen_gallery"], 4]
    for split in data.unseen:
        assert (split.mean, split.std) == (data.train.mean, data.train.std)
    assert data.digest != data_loader.data_digest(data.train, data.test)
    run("--min_images", 4, name="whole", images=eight_people)
    shutil.rmtree(str(made.folder / "unseen_queries"))  # which a fold does not even look at
    with pytest.raises(UserError, match="unseen_queries"):
        load_run(*resolve(values))
    with pytest.raises(UserError, match="8 people"):
        load_run(*resolve(dict(values, unseen_split=0)))
    folded = load_run(*resolve(dict(values, dataset_flag="whole", unseen_split=0)))
    assert folded.dataset.num_identities == 6 and len(folded.unseen_names) == 2


def test_too_few_people_to_keep_some_out(run, eight_people, photos):
    for share, images in ((0.1, eight_people), (0.9, eight_people), (0.25, photos)):
        with pytest.raises(UserError, match="--unseen"):
            run("--unseen", share, "--min_images", 4, images=images)
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match="--unseen"):
            run("--unseen", share, images=eight_people)


def test_trains_by_name(run, tmp_path):
    made = run()
    process = run_script("main.py", "--dataset_flag", "mine", "--num_bits", 8, "--epochs", 1,
                         "--data_dir", made.folder.parent, "--run_dir", tmp_path / "run",
                         cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "run/results.json").read_text())["num_queries"] == 6
    # the data is made again, differently: the run is not evaluated on what it was not trained for
    run("--seed", 9, "--overwrite")
    assert_refused(run_script("evaluate.py", tmp_path / "run", cwd=tmp_path), "other data")
