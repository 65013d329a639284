"""Embeddings of faces: made, kept, stored in the order of the images, and read back.

Most use a stand-in for dlib's network. With the packages of requirements-embedding.txt the network
itself is tried (make test-embedding).
"""

import contextlib
import csv
import importlib.util
import json
import os
import signal
import zlib

import numpy as np
import pytest
from face_pictures import orl_face, orl_path, photo, save
from PIL import Image

import data_loader
import prepare
from config import EMBEDDING_SIZE, METHODS, find_dataset, resolve
from faces import embedding, embedding_stage
from faces.detection import Face
from faces.embedding_files import embeddings_file, read_embeddings
from faces.sources import Photo
from methods.run_data import load_run_data
from runtime.errors import Failed, UserError

INSTALLED = all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models"))
needs_dlib = pytest.mark.skipif(
    not INSTALLED, reason="dlib-bin and face_recognition_models are not installed: pip install -r "
                          "requirements-embedding.txt")
BOX = (4, 6, 34, 38)


class StandIn:
    """Embeds a face by numbers that depend on the pixels in its box."""

    def __init__(self):
        self.calls = []

    def embed(self, image, boxes):
        self.calls += boxes
        return np.stack([np.random.RandomState(zlib.crc32(np.ascontiguousarray(
            image[int(box[1]):int(box[3]), int(box[0]):int(box[2])]))).standard_normal(
                EMBEDDING_SIZE) for box in boxes]).astype(np.float32)


@pytest.fixture
def stand_in(monkeypatch):
    """Takes dlib's place, in this process."""
    embedder = StandIn()

    @contextlib.contextmanager
    def in_this_process(_count):
        yield lambda tasks: (embedding_stage.embed_photograph(embedder, *task) for task in tasks)

    for module in (embedding, embedding_stage):
        monkeypatch.setattr(module, "embedding_description", lambda: {"name": "stand-in"})
    monkeypatch.setattr(embedding_stage, "_embedding_processes", in_this_process)
    return embedder


@pytest.fixture
def run(tmp_path):
    """Runs prepare.py's main on four people with six photographs each; gives the folder."""
    for person in range(4):
        for number in range(6):
            save(photo(100 * person + number), tmp_path / "photos" / str(person) / (
                "%d.png" % number))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments, name="mine"):
        prepare.main([str(argument) for argument in (
            "--source", "folder", "--images", tmp_path / "photos", "--name", name, "--data_dir",
            tmp_path / "data", "--test_images", 2, "--crop_box", "%d,%d,%d,%d" % BOX,
            "--embedding") + arguments])
        return tmp_path / "data" / name

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def check_rows(made, **counts):
    """Each row of a data set's embeddings is that of its photograph; gives them by split."""
    stored = {name: read_embeddings(made / name, count) for name, count in counts.items()}
    with open(str(made / "images.csv")) as stream:
        for row in csv.DictReader(stream):
            with Image.open(row["file"]) as image:
                expected = StandIn().embed(np.asarray(image.convert("RGB")), [BOX])[0]
            np.testing.assert_array_equal(stored[row["status"]][int(row["row"])], expected)
    return stored


def test_rows_are_those_of_the_images_and_none_is_computed_twice(run, stand_in, tmp_path):
    made = run()
    dataset = find_dataset("mine", tmp_path / "data")
    assert dataset.embedding == {"name": "stand-in"} and len(stand_in.calls) == 24
    names = json.loads((made / "manifest.json").read_text())["sha256"]
    assert {"train_embeddings.npy", "test_embeddings.npy"} <= set(names)
    stored = check_rows(made, train=16, test=8)
    # Another split of the same faces needs no network.
    other = run("--seed", 4, name="other")
    assert len(stand_in.calls) == 24
    mixed = np.concatenate([np.load(str(other / ("%s_embeddings.npy" % name)))
                            for name in stored])
    np.testing.assert_array_equal(np.unique(mixed, axis=0),
                                  np.unique(np.concatenate(list(stored.values())), axis=0))
    # What is damaged is computed again; a folder of ours is replaced whole.
    cache = next((tmp_path / "data").glob(".face_embeddings_*.jsonl"))
    lines = cache.read_bytes().splitlines(True)
    cache.write_bytes(b"".join(lines[2:]) + lines[0][:90] + b'"\n' + lines[1][:200])
    run("--overwrite")
    assert len(stand_in.calls) == 26


def test_people_never_seen_have_embeddings_too(run, stand_in, tmp_path):
    made = run("--unseen", 0.5)
    stored = check_rows(made, train=8, test=4, unseen_gallery=8, unseen_queries=4)
    assert len(stand_in.calls) == 24
    data = load_run_data(*resolve(dict(dataset_flag="mine", data_dir=str(tmp_path / "data"),
                                       method="embedding")))
    for split, name in zip((data.train, data.test) + data.unseen, stored):
        np.testing.assert_array_equal(split.embeddings, stored[name])


def test_a_photograph_that_changed_is_refused(stand_in, tmp_path):
    path = save(photo(1), tmp_path / "1.png")
    face = Face(BOX, sha256="0" * 64)
    with pytest.raises(UserError, match="1.png has changed"):
        embedding_stage.embed_faces([Photo(path, "Ann")], [face], [0], tmp_path, workers=1)
    assert not stand_in.calls


def test_what_cannot_be_embedded_is_refused_before_the_work(run, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="--embedding needs to know where the face is"):
        prepare.main(["--source", "folder", "--images", str(tmp_path), "--name", "mine",
                      "--crop", "none", "--embedding"])
    find_spec = importlib.util.find_spec
    for missing in ({"dlib"}, {"face_recognition_models"}):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, missing=missing: (
            None if name in missing else find_spec("numpy")))
        with pytest.raises(UserError, match="pip install -r requirements-embedding.txt"):
            run()
    assert not (tmp_path / "data").exists()


def damage(path, how):
    """Damages a file of four embeddings."""
    values = np.load(str(path))
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "claims":
        path.write_bytes(path.read_bytes().replace(b"(4, 128)", b"(9" + b"0" * 4 + b",)"))
    elif how == "not finite":
        values[3, 5] = np.nan
        np.save(str(path), values)
    else:
        np.save(str(path), {"rows": values[:3], "float64": values.astype(float),
                            "transposed": values.T.copy()}[how])


@pytest.mark.parametrize("how", ["missing", "short", "empty", "claims", "not finite", "rows",
                                 "float64", "transposed"])
def test_damaged_embeddings_are_refused(tmp_path, how):
    path = embeddings_file(tmp_path / "train")
    np.save(str(path), np.arange(512, dtype=np.float32).reshape(4, 128))
    assert read_embeddings(tmp_path / "train", 4)[3, 127] == 511
    damage(path, how)
    with pytest.raises(UserError) as refusal:
        read_embeddings(tmp_path / "train", 4)
    assert str(path) in str(refusal.value) and "--embedding" in str(refusal.value)
    assert "\n" not in str(refusal.value)


# With dlib itself


def orl_task(person, number):
    """A photograph with one of ORL's faces, the hash of its file, and where the face is."""
    path = orl_path(person, number)
    with open(str(path), "rb") as stream:
        sha256 = embedding.hashlib.sha256(stream.read()).hexdigest()
    return path, sha256, [(8, 20, 84, 104)]


@needs_dlib
def test_faces_of_one_person_lie_near_one_another(tmp_path):
    tasks = [orl_task(person, number) for person in (1, 5, 9) for number in (1, 2)]
    faces = [Face(boxes[0], sha256=sha256) for _, sha256, boxes in tasks]
    photos = [Photo(path, "?") for path, _, _ in tasks]
    found = embedding_stage.embed_faces(photos, faces, range(6), tmp_path, workers=2)
    assert found.shape == (6, 128) and found.dtype == np.float32
    here = embedding.shared_embedder().embed(np.asarray(orl_face(1, 1)), [faces[0].box])
    np.testing.assert_array_equal(found[:1], here)  # other processes give the same
    distances = np.linalg.norm(found[:, None] - found, axis=2)
    same = np.arange(6)[:, None] // 2 == np.arange(6) // 2
    assert distances[same].max() < 0.6 < distances[~same].min()
    embedding.check_same_embedding(embedding.embedding_description())
    with pytest.raises(UserError, match="another network"):
        embedding.check_same_embedding(dict(embedding.embedding_description(), chip_size=96))


@needs_dlib
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-500, -400, -300, -200), (-50, -50, 900, 900),
                                 (91.6, 111.7, 92.2, 112.4)])
def test_any_box_gives_finite_floats(box):
    found = embedding.shared_embedder().embed(np.asarray(orl_face(3, 1)), [box])
    assert found.shape == (1, 128) and np.isfinite(found).all()


@needs_dlib
def test_a_process_that_dies_is_told():
    with embedding_stage._embedding_processes(1) as results_of:
        first, _, boxes = orl_task(2, 1)
        assert next(results_of([orl_task(2, 1)])).shape == (1, 128)
        with pytest.raises(UserError, match="has changed"):
            next(results_of([(first, "0" * 64, boxes)]))
        child, = embedding_stage.multiprocessing.active_children()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(Failed, match="--workers"):
            next(results_of([orl_task(2, 1)]))


def test_methods_are_given_embeddings_in_place_of_pixels():
    images = np.zeros((4, 32, 32, 3), np.float32)
    data = data_loader.ImageSet(images, np.zeros(4, np.int32), 0.0, 1.0, np.zeros(4, np.uint64),
                                "uint8", embeddings=np.ones((4, 128), np.float32))
    assert data_loader.given_to(METHODS["itq"], data).images is images
    embedded = METHODS["itq"]._replace(inputs="embeddings")
    assert data_loader.given_to(embedded, data).images is data.embeddings
    changed = data._replace(embeddings=data.embeddings * 2)
    digests = {data_loader.data_digest(split, split)
               for split in (data, changed, data._replace(embeddings=None))}
    assert len(digests) == 3
