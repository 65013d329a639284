"""Folds of people: who is left out, with which numbers and names, normalised by what."""

import numpy as np
import pytest
from conftest import tiny_faces, write_pickle

import data_loader
from config import find_dataset
from evaluation.open_set import folds_of_people
from methods.run import load_run
from methods.table import resolve
from runtime.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A data_dir with dataset_flag 1: 10 people, 4 training and 3 test images each, mixed."""
    rng = np.random.RandomState(5)
    for name, (rows, labels) in zip(("train", "test"), tiny_faces(10, train=4, test=3, seed=3)):
        order = rng.permutation(len(labels))
        # A person's brightness is its own, so that statistics tell who took part in them.
        rows = (rows[order] // 2 + labels[order, None] * 12).astype(np.uint8)
        write_pickle(tmp_path / (name + "_folder_facescrub") / "part1", rows, labels[order])
    return tmp_path


def load(folder, **values):
    config, dataset = resolve(dict(values, dataset_flag=1, data_dir=str(folder)))
    return load_run(config, dataset._replace(num_identities=10))


def raw(folder, name):
    """(images, labels) as stored."""
    return data_loader.read_pickle(folder / (name + "_folder_facescrub") / "part1")


@pytest.mark.parametrize("count", [8, 9, 10, 11, 40, 83, 530])
def test_folds_are_balanced_and_depend_on_the_count_alone(count):
    folds = folds_of_people(count)
    sizes = np.bincount(folds)
    assert len(folds) == count and len(sizes) == 4 and sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(folds, folds_of_people(count))
    np.random.seed(1)
    np.testing.assert_array_equal(folds, folds_of_people(count))


def test_folds_are_those_of_every_version():
    """Results of two machines are of the same people only if these never change."""
    assert folds_of_people(12).tolist() == [0, 1, 0, 3, 2, 3, 1, 3, 0, 2, 2, 1]


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_is_left_out_altogether(folder, fold):
    data = load(folder, unseen_split=fold)
    folds = folds_of_people(10)
    groups = [np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)]
    assert data.dataset.num_identities == len(groups[0])
    assert data.names == [f"facescrub {person}" for person in groups[0]]
    assert data.unseen_names == [f"facescrub {person}" for person in groups[1]]
    for people, splits in zip(groups, ((data.train, data.test), data.unseen)):
        for name, split in zip(("train", "test"), splits):
            rows, labels = raw(folder, name)
            chosen = np.flatnonzero(np.isin(labels, people))
            assert split.rows.tolist() == chosen.tolist()
            assert people[split.labels].tolist() == labels[chosen].tolist()
            assert sorted(set(split.labels.tolist())) == list(range(len(people)))
            pixels = rows[chosen]
            np.testing.assert_allclose(split.images, data_loader.normalise_images(
                pixels, split.mean, split.std), atol=1e-6)
            np.testing.assert_array_equal(data_loader.displayable(split, slice(None)), pixels)


def test_statistics_are_of_the_seen_people_alone(folder):
    data = load(folder, unseen_split=2)
    for split, name in ((data.train, "train"), (data.test, "test")):
        rows, labels = raw(folder, name)
        pixels = rows[folds_of_people(10)[labels] != 2]
        assert split.mean == pytest.approx(pixels.mean())
        assert split.std == pytest.approx(pixels.std())
        assert abs(split.mean - rows.mean()) > 0.1
    assert data.train.mean != data.test.mean  # as released
    for split in data.unseen:
        assert (split.mean, split.std) == (data.train.mean, data.train.std)


def test_the_seed_does_not_move_people(folder):
    first, other = load(folder, unseen_split=0), load(folder, unseen_split=0, seed=7)
    assert first.digest == other.digest and first.names == other.names


def test_without_a_fold_nothing_changes(folder):
    data = load(folder)
    train, test = data_loader.load_dataset(find_dataset(1, folder))
    assert data.digest == data_loader.data_digest(train, test)
    assert data.unseen is None and data.names is None and data.dataset.num_identities == 10
    np.testing.assert_array_equal(data.train.images, train.images)


def test_the_digest_covers_the_unseen(folder):
    digests = {load(folder, unseen_split=fold).digest for fold in (0, 1)}
    rows, labels = raw(folder, "test")
    last = np.flatnonzero(folds_of_people(10)[labels] == 0)[-1]
    rows = rows.copy()
    rows[last, 5] ^= 1
    write_pickle(folder / "test_folder_facescrub/part1", rows, labels)
    digests.add(load(folder, unseen_split=0).digest)
    assert len(digests) == 3


def test_too_few_people_and_people_without_images(folder):
    dataset = find_dataset(1, folder)
    config = resolve(dict(dataset_flag=1, data_dir=str(folder), unseen_split=0))[0]
    for count in (2, 7):
        with pytest.raises(UserError, match="8 people"):
            load_run(config, dataset._replace(num_identities=count))
    rows, labels = raw(folder, "test")
    seen = folds_of_people(10)[labels] != 0
    write_pickle(folder / "test_folder_facescrub/part1", rows[seen], labels[seen])
    with pytest.raises(UserError, match="unseen_split"):
        load_run(config, dataset._replace(num_identities=10))
