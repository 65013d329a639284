"""Photographs -> pickle folders, by the command as a user runs it, on tiny images made here."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import assert_refused, command, run_script
from PIL import Image

import data_loader
import prepare
from config import Config, UserError

PREPARE = "prepare.py"


def photo(seed, size=(40, 40), mode="RGB"):
    """A picture of its own: smooth random colours (so that perceptual hashes differ)."""
    rng = np.random.RandomState(seed)
    coarse = Image.fromarray(rng.randint(0, 256, (6, 6, 3)).astype(np.uint8))
    return coarse.resize(size, Image.BICUBIC).convert(mode)


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(str(path), **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """DIR/IDENTITY/*: three people with eight photos each, one with two."""
    people = (("Ann", 8), ("Bo Lee", 8), ("Zo\u00eb", 8), ("Few", 2))
    for person, (name, count) in enumerate(people):
        for number in range(count):
            suffix = ("jpg", "png", "pgm", "webp")[number % 4]
            save(photo(100 * person + number), tmp_path / "photos" / name / ("%d.%s" % (
                number, suffix)))
    return tmp_path / "photos"


def run_prepare(folder, *arguments, **options):
    return run_script(PREPARE, *arguments, cwd=folder, **options)


def prepared(folder, photos, *arguments, name="mine", source="folder"):
    process = run_prepare(folder, "--source", source, "--images", photos, "--name", name,
                          "--test_images", 2, *arguments)
    assert process.returncode == 0, process.stderr
    return folder / "data" / name, process.stdout


def fates(dataset):
    with open(str(dataset / "images.csv"), encoding="utf-8", newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def load(dataset):
    config = Config(dataset_flag=dataset.name, data_dir=str(dataset.parent))
    return (config,) + data_loader.load_dataset(config)


def test_folder_of_photos(tmp_path, photos):
    dataset, output = prepared(tmp_path, photos)
    config, train, test = load(dataset)
    assert (config.dataset.num_identities, len(train.labels), len(test.labels)) == (3, 18, 6)
    assert np.bincount(train.labels).tolist() == [6, 6, 6]
    assert np.bincount(test.labels).tolist() == [2, 2, 2]
    assert data_loader.identity_names(config) == ["Ann", "Bo Lee", "Zo\u00eb"]
    assert not set(train.fingerprints) & set(test.fingerprints)
    assert "Ready to train." in output and "identity has too few images" in output
    assert "python main.py --dataset_flag mine" in output

    manifest = json.loads((dataset / "manifest.json").read_text())
    assert (manifest["num_identities"], manifest["num_train"], manifest["num_test"]) == (3, 18, 6)
    for name, sha256 in manifest["sha256"].items():
        assert hashlib.sha256((dataset / name).read_bytes()).hexdigest() == sha256
    table = fates(dataset)
    assert len(table) == 26
    assert Counter(row["fate"] for row in table.values()) == {
        "train": 18, "test": 6, "identity has too few images (2)": 2}
    for path, row in table.items():
        with open(path, "rb") as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == row["sha256"]


def test_pixels_and_labels_are_those_of_the_photos(tmp_path, photos):
    dataset, _ = prepared(tmp_path, photos)
    rows, labels = data_loader.read_pickle(dataset / "test/part_000.pickle")
    images = data_loader.channels_last(rows)
    expected = {}
    for path, row in fates(dataset).items():
        if row["fate"] == "test":
            with Image.open(path) as image:
                small = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
            expected[small.tobytes()] = int(row["label"])
    assert {image.tobytes(): label for image, label in zip(
        np.ascontiguousarray(images), labels)} == expected


def test_the_split_hangs_on_the_seed_and_not_on_other_people(tmp_path, photos):
    def tests_of(dataset, name):
        return sorted(path for path, row in fates(dataset).items()
                      if row["identity"] == name and row["fate"] == "test")
    first, _ = prepared(tmp_path, photos)
    again, _ = prepared(tmp_path, photos, name="again")
    other, _ = prepared(tmp_path, photos, "--seed", 3, name="other")
    for part in ("train/part_000.pickle", "test/part_000.pickle"):
        assert (first / part).read_bytes() == (again / part).read_bytes()
        assert (first / part).read_bytes() != (other / part).read_bytes()
    for number in range(9):
        save(photo(900 + number), photos / "Bob" / ("%d.png" % number))
    more, _ = prepared(tmp_path, photos, name="more")
    assert tests_of(more, "Zo\u00eb") == tests_of(first, "Zo\u00eb")


def test_exact_copies_never_lie_across_the_split(tmp_path, photos):
    # every second photo of Ann has a copy, one of them under Zoe and one as another file format
    for number in (1, 3, 5):
        with Image.open(str(next((photos / "Ann").glob("%d.*" % number)))) as image:
            save(image.convert("RGB"), photos / "Ann" / ("copy%d.png" % number))
    for seed in range(6):
        dataset, output = prepared(tmp_path, photos, "--seed", seed, name="s%d" % seed)
        _, train, test = load(dataset)
        assert len(test.labels) == 6
        assert not set(train.fingerprints) & set(test.fingerprints)
        assert "Ready to train." in output


def test_near_duplicates_are_reported_and_dropped_on_request(tmp_path, photos):
    original = next((photos / "Ann").glob("0.*"))
    with Image.open(str(original)) as image:
        save(image.convert("RGB"), photos / "Ann" / "again.jpg", quality=60)
    dataset, _ = prepared(tmp_path, photos)
    with open(str(dataset / "near_duplicates.csv")) as stream:
        pairs = [(row["file"], row["other"]) for row in csv.DictReader(stream)]
    assert pairs == [(str(original), str(photos / "Ann/again.jpg"))]
    assert len(load(dataset)[1].labels) == 19
    dropped, output = prepared(tmp_path, photos, "--drop_near_duplicates", name="dropped")
    assert fates(dropped)[str(photos / "Ann/again.jpg")]["fate"] == (
        "near duplicate of %s" % original)
    assert len(load(dropped)[1].labels) == 18 and "1 images: near duplicate" in output


def test_damaged_images_are_listed_not_fatal(tmp_path, photos):
    whole = next((photos / "Ann").glob("0.jpg")).read_bytes()
    (photos / "Ann/cut.jpg").write_bytes(whole[:300])
    (photos / "Ann/text.png").write_text("not a picture")
    (photos / "Ann/empty.jpg").write_bytes(b"")
    (photos / "Ann/notes.txt").write_text("passed over")
    dataset, output = prepared(tmp_path, photos)
    reasons = {path.rsplit("/", 1)[1]: row["fate"] for path, row in fates(dataset).items()}
    for name in ("cut.jpg", "text.png", "empty.jpg"):
        assert reasons[name].startswith("cannot be read")
    assert "notes.txt" not in reasons
    assert "3 images: cannot be read" in output and "1 files are no images" in output


@pytest.mark.parametrize("share", [0.1, 0.7], ids=["an error to Pillow", "a warning"])
def test_picture_bombs_are_refused(photos, monkeypatch, share):
    options = prepare.parse_command_line(["--source", "folder", "--images", "x", "--name", "n"])
    path = next((photos / "Ann").glob("0.jpg"))
    with Image.open(str(path)) as image:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(share * image.width * image.height))
    face, = prepare.read_faces([prepare.Photo(path, "Ann")], options)
    assert "cannot be read (Decompression" in face


def test_modes_and_orientation(tmp_path):
    options = prepare.parse_command_line(["--source", "folder", "--images", "x", "--name", "n"])
    for mode in ("L", "P", "RGBA", "LA", "1", "I"):
        path = save(photo(1).convert("L" if mode in ("LA", "1", "I") else "RGB").convert(mode),
                    tmp_path / ("%s.png" % mode))
        assert prepare.read_face(prepare.Photo(path, "x"), options).row.shape == (3072,)
    upright = photo(2)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = save(upright.transpose(Image.ROTATE_90), tmp_path / "turned.png", exif=exif)
    plain = save(upright, tmp_path / "plain.png")
    rows = [prepare.read_face(prepare.Photo(path, "x"), options).row for path in (turned, plain)]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("box, fraction, expected", [
    (None, 1.0, (0, 0, 100, 50)),
    (None, 0.5, (25, 12, 75, 38)),
    ((10, 20, 30, 40), 1.0, (10, 20, 30, 40)),
    ((-5, 40, 30, 90), 1.0, (0, 40, 30, 50)),
    ((100, 0, 120, 40), 1.0, None),
])
def test_crop_box(box, fraction, expected):
    assert prepare.crop_box((100, 50), box, fraction) == expected


def test_lfw_takes_the_face_and_only_its_own_size(tmp_path):
    for seed, person in enumerate(("A_B", "C_D")):
        for number in range(1, 5):
            image = photo(10 * seed + number, (250, 250))
            image.paste((0, 0, 0), (0, 0, 250, 70))
            image.paste((0, 0, 0), (0, 182, 250, 250))
            image.paste((0, 0, 0), (0, 0, 68, 250))
            image.paste((0, 0, 0), (182, 0, 250, 250))
            save(image, tmp_path / "lfw" / person / ("%s_%04d.png" % (person, number)))
    save(photo(5, (100, 100)), tmp_path / "lfw/A_B/A_B_0009.png")
    dataset, output = prepared(tmp_path, tmp_path / "lfw", source="lfw")
    rows, _ = data_loader.read_pickle(dataset / "train/part_000.pickle")
    assert rows.reshape(len(rows), 3, -1).max(axis=1).min() > 0  # no black frame was kept
    assert "1 images: size is 100x100" in output


def facescrub_source(folder):
    lines = ["name\timage_id\tface_id\turl\tbbox\tsha256"]
    for person, name in enumerate(("Ann Bo", "Cy Di")):
        for number in range(6):
            image = photo(10 * person + number, (60, 60))
            stem = ("{n}_{i}_{f}", "{i}_{f}", "{n}_{i}", "{i}", "{s}", "{i}")[number].format(
                n=name.replace(" ", "_"), i=50 + number, f=90 + number, s="sha")
            path = save(image, folder / "images" / name.replace(" ", "_") / (stem + ".png"))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            if stem == "sha":
                path.rename(path.with_name(sha256 + ".png"))
            lines.append("%s\t%d\t%d\thttp://x/y.jpg\t10,10,50,50\t%s" % (
                name, 50 + number, 90 + number, sha256 if number != 5 else "0" * 64))
    lines.append("Ann Bo\t99\t99\thttp://x/z.jpg\t0,0,9,9\t" + "1" * 64)
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_facescrub_lists(tmp_path):
    listing = facescrub_source(tmp_path)
    dataset, output = prepared(tmp_path, tmp_path / "images", "--lists", listing,
                               source="facescrub")
    assert "1 of 13 listed images are missing" in output
    config, train, test = load(dataset)
    assert (len(train.labels), len(test.labels)) == (8, 4)
    assert data_loader.identity_names(config) == ["Ann Bo", "Cy Di"]
    some = next(path for path in fates(dataset) if path.endswith("Ann_Bo/53.png"))
    with Image.open(some) as image:
        face = np.asarray(image.crop((10, 10, 50, 50)).resize((32, 32), Image.BILINEAR))
    rows = [data_loader.read_pickle(dataset / split / "part_000.pickle")[0]
            for split in ("train", "test")]
    wanted = face.transpose(2, 0, 1).reshape(-1).tobytes()
    assert wanted in {row.tobytes() for row in np.concatenate(rows)}
    checked, output = prepared(tmp_path, tmp_path / "images", "--lists", listing,
                               "--verify_sha256", source="facescrub", name="checked")
    assert "2 images: sha256 differs" in output
    assert len(load(checked)[1].labels) == 6


def test_damaged_facescrub_lists(tmp_path):
    listing = facescrub_source(tmp_path)
    text = listing.read_text()
    arguments = ["--source", "facescrub", "--images", tmp_path / "images", "--name", "x",
                 "--lists", listing]
    listing.write_text(text.replace("10,10,50,50", "10,10,50", 1))
    assert_refused(run_prepare(tmp_path, *arguments), "list.txt, line 2", "bbox")
    listing.write_text(text.split("\n", 1)[1])
    assert_refused(run_prepare(tmp_path, *arguments), "list.txt", "first line")
    assert_refused(run_prepare(tmp_path, *arguments[:-2]), "--lists")


def test_youtube_frames_come_from_different_videos(tmp_path):
    for person, videos in (("one_video", 1), ("two_videos", 2)):
        for video in range(videos):
            for frame in range(60):
                save(photo(1000 * video + frame + 7 * videos, (24, 24)),
                     tmp_path / "db" / person / str(video) / ("0.%d.jpg" % frame))
    process = run_prepare(tmp_path, "--source", "youtube_faces", "--images", tmp_path / "db",
                          "--name", "yt")
    assert process.returncode == 0, process.stderr
    _, train, test = load(tmp_path / "data/yt")
    assert np.bincount(train.labels).tolist() == [40, 40]
    assert np.bincount(test.labels).tolist() == [5, 5]
    videos = {"train": set(), "test": set()}
    last_training = first_test = None
    for path, row in fates(tmp_path / "data/yt").items():
        if row["fate"] not in videos:
            continue
        if row["identity"] == "two_videos":
            videos[row["fate"]].add(row["group"])
        else:
            frame = int(path.rsplit(".", 2)[1])
            if row["fate"] == "train":
                last_training = max(last_training or 0, frame)
            else:
                first_test = min(first_test or 99, frame)
    assert len(videos["train"]) == len(videos["test"]) == 1 and videos["train"] != videos["test"]
    assert last_training < first_test


@pytest.mark.parametrize("arguments, words", [
    (["--name", "orl"], ["orl", "taken"]),
    (["--name", "../x"], ["--name"]),
    (["--test_images", "0"], ["test_images"]),
    (["--test_images", "9"], ["no identity", "18 usable"]),
    (["--min_images", "2"], ["--min_images", "--test_images"]),
    (["--crop_fraction", "0"], ["crop_fraction"]),
    (["--crop_box", "1,2,3"], ["--crop_box"]),
    (["--crop_box", "9,9,3,3"], ["--crop_box"]),
    (["--crop_box", "900,900,999,999"], ["no identity", "crop lies outside"]),
    (["--images", "nowhere"], ["nowhere", "No such file"]),
    (["--images", "."], ["no images"]),
    (["--lists", "x"], ["--lists"]),
    (["--source", "imagenet"], ["--source"]),
    (["--sized", "32"], ["--sized"]),
], ids=" ".join)
def test_mistakes(tmp_path, photos, arguments, words):
    (tmp_path / "empty").mkdir()
    process = run_prepare(tmp_path / "empty", "--source", "folder", "--images", photos, "--name",
                          "mine", *arguments)
    assert_refused(process, *words)
    assert list((tmp_path / "empty").iterdir()) == []


def test_an_existing_data_set_is_replaced_only_on_request(tmp_path, photos):
    dataset, _ = prepared(tmp_path, photos)
    arguments = ["--source", "folder", "--images", photos, "--name", "mine", "--test_images", 3]
    assert_refused(run_prepare(tmp_path, *arguments), "exists", "--overwrite")
    assert len(load(dataset)[2].labels) == 6
    process = run_prepare(tmp_path, *arguments, "--overwrite")
    assert process.returncode == 0, process.stderr
    assert len(load(dataset)[2].labels) == 9
    (tmp_path / "data/letters").mkdir()
    (tmp_path / "data/letters/love.txt").write_text("dear")
    assert_refused(run_prepare(tmp_path, "--source", "folder", "--images", photos, "--name",
                               "letters", "--overwrite"), "letters", "exists")
    assert (tmp_path / "data/letters/love.txt").exists()
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_runs_leave_no_half_made_data_set(tmp_path, photos, number):
    for extra in range(4000):
        (photos / "Ann" / ("x%d.jpg" % extra)).symlink_to(next((photos / "Ann").glob("0.jpg")))
    process = subprocess.Popen(
        command(PREPARE, "--source", "folder", "--images", photos, "--name", "mine"),
        cwd=str(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # as a shell's & does
    time.sleep(2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    assert not (tmp_path / "data/mine").exists()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path, photos):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / "data" / (".preparing_mine_%d" % gone.pid)
    (left / "train").mkdir(parents=True)
    prepared(tmp_path, photos)
    assert not left.exists()


def test_other_sizes_are_written_but_not_for_main(tmp_path, photos):
    dataset, output = prepared(tmp_path, photos, "--size", 16)
    assert "cannot train" in output
    with pytest.raises(UserError, match="3072"):
        load(dataset)


def test_trains_by_name_and_shows_names(tmp_path, photos):
    prepared(tmp_path, photos)
    process = run_script("main.py", "--dataset_flag", "mine", "--num_bits", 8, "--epochs", 1,
                         cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    run_dir = tmp_path / "runs/mine_8bits_seed0"
    assert json.loads((run_dir / "config.json").read_text())["dataset_flag"] == "mine"
    assert json.loads((run_dir / "results.json").read_text())["num_queries"] == 6
    # the data is made anew, differently: the run is not evaluated on what it was not trained for
    prepared(tmp_path, photos, "--seed", 9, "--overwrite")
    assert_refused(run_script("evaluate.py", run_dir, cwd=tmp_path), "other data")
    assert_refused(run_script("main.py", "--resume", "--run_dir", run_dir, "--epochs", 2,
                              cwd=tmp_path), "other data")
    assert_refused(run_script("main.py", "--dataset_flag", "yours", cwd=tmp_path), "yours", "mine")
    (tmp_path / "data/mine/manifest.json").write_text("{}")
    assert_refused(run_script("main.py", "--dataset_flag", "mine", cwd=tmp_path), "manifest.json",
                   "prepare")
