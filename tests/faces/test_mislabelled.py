"""Suspected mislabelled images, against every distance computed."""

import numpy as np

from config import find_dataset
from evaluation.codes import Codes
from faces.mislabelled import COLUMNS, suspects, suspects_table


def test_a_planted_wrong_label_is_found():
    rng = np.random.RandomState(0)
    centers = rng.choice([-1, 1], (5, 48))
    labels = np.repeat(np.arange(5), 12) * 10  # with gaps between the labels
    codes = np.where(rng.rand(60, 48) < 0.1, -1, 1) * centers[labels // 10]
    assert suspects(codes.astype(np.int8), labels) == []
    labels[7] = 30
    found, = suspects(codes.astype(np.int8), labels)
    assert (found.index, found.label, found.other) == (7, 30, 0)


def test_distances_are_the_means_of_all():
    rng = np.random.RandomState(1)
    codes = rng.choice([-1, 1], (40, 12)).astype(np.int8)
    labels = rng.randint(0, 4, 40)
    found = {suspect.index: suspect for suspect in suspects(codes, labels)}
    between = (codes[:, None] != codes[None]).sum(axis=2)
    for index in range(40):
        own = np.flatnonzero((labels == labels[index]) & (np.arange(40) != index))
        own_distance = between[index, own].mean()
        others = [between[index, labels == other].mean() if other != labels[index] else np.inf
                  for other in range(4)]
        if own_distance > min(others) + 1e-9:
            suspect = found.pop(index)
            np.testing.assert_allclose([suspect.own_distance, suspect.other_distance],
                                       [own_distance, min(others)])
            assert suspect.other == np.argmin(others)
    assert found == {}
    gaps = [suspect.own_distance - suspect.other_distance for suspect in suspects(codes, labels)]
    assert gaps == sorted(gaps, reverse=True)
    assert len(suspects(codes, labels, least_gap=1.0)) == sum(gap > 1 for gap in gaps)


def test_too_little_to_tell():
    codes = np.ones((3, 4), np.int8)
    assert suspects(codes, np.zeros(3, int)) == []
    assert suspects(codes, np.arange(3)) == []
    assert suspects(codes[:0], np.zeros(0, int)) == []


def test_the_table_names_split_row_file_and_people(tmp_path):
    codes = np.repeat(np.array([[1, 1, 1, 1], [-1, -1, -1, -1]], np.int8), 5, axis=0)
    labels = np.repeat([0, 1], 5)
    (tmp_path / "images.csv").write_text("file,status,row\n/p/x.jpg,test,3\n/p/y.jpg,train,1\n")
    dataset = find_dataset(2, tmp_path)._replace(source="prepared",
                                                 labels_file=tmp_path / "labels.txt")
    wrong_train, wrong_test = labels.copy(), labels.copy()
    wrong_train[1], wrong_test[3] = 1, 1
    table = suspects_table(Codes(codes, wrong_train, codes, wrong_test), dataset, ["Ann", "Bo"])
    assert [dict(zip(COLUMNS, row)) for row in table] == [
        {"split": split, "row": row, "file": file, "identity": "Bo", "nearest_identity": "Ann",
         "own_distance": round(10 / 11 * 4, 2), "nearest_distance": 0.0}
        for split, row, file in (("train", 1, "/p/y.jpg"), ("test", 3, "/p/x.jpg"))]
    # Where a fold of the people is left out, images keep the rows that they have in the data set.
    kept = np.arange(10) * 2
    (tmp_path / "images.csv").write_text("file,status,row\n/p/x.jpg,test,6\n/p/y.jpg,train,2\n")
    folded = suspects_table(Codes(codes, wrong_train, codes, wrong_test), dataset, ["Ann", "Bo"],
                            (kept, kept))
    assert [row[:3] for row in folded] == [["train", 2, "/p/y.jpg"], ["test", 6, "/p/x.jpg"]]
    assert suspects_table(Codes(codes, labels, codes, labels), find_dataset(2, tmp_path),
                          None) == []
