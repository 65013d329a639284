"""Suspected mislabelled images, against every distance computed."""

import base64
import csv
import io
import re

import numpy as np
import pytest
from conftest import run_script
from face_pictures import photo, save
from PIL import Image

from config import find_dataset
from evaluation.codes import Codes
from faces.mislabelled import COLUMNS, suspects, suspects_table


def codes_of(people, each, noise, seed):
    """Codes of people around a center each, with so many bits of 48 wrong, and their labels."""
    rng = np.random.RandomState(seed)
    centers = rng.choice([-1, 1], (people, 48))
    labels = np.repeat(np.arange(people), each)
    return (np.where(rng.rand(len(labels), 48) < noise, -1, 1) * centers[labels]).astype(
        np.int8), labels


def expected(codes, labels):
    """The suspects by every distance computed, in a naive loop: {index: (other, own, nearest)}."""
    between = (codes[:, None] != codes[None]).sum(axis=2)

    def mean(index, label):
        return between[index, (labels == label) & (np.arange(len(labels)) != index)].mean()
    people = np.unique(labels)
    found, agree = {}, 0
    for index, label in enumerate(labels):
        nearest, other = min((mean(index, person), person) for person in people if person != label)
        own = mean(index, label)
        agree += own <= nearest
        usual = np.median([mean(image, other) for image in np.flatnonzero(labels == other)])
        if own > nearest and nearest <= usual + 1e-9:
            found[index] = (other, own, nearest)
    return found if agree >= 0.8 * len(labels) else {}


def test_a_planted_wrong_label_is_found():
    codes, labels = codes_of(5, 12, 0.1, seed=0)
    labels = labels * 10  # with gaps between the labels
    assert suspects(codes, labels) == []
    codes[7] = np.sign(codes[24:36].sum(axis=0) + 0.5)  # at home in person 20
    found, = suspects(codes, labels)
    assert (found.index, found.label, found.other) == (7, 0, 20)


def test_suspects_are_those_of_a_naive_loop():
    total = 0
    for seed, noise in enumerate((0.05, 0.1, 0.2, 0.25, 0.3, 0.45)):
        codes, labels = codes_of(5, 16, noise, seed)
        moved = np.random.RandomState(seed).permutation(80)[:8]
        labels[moved] = (labels[moved] + 1) % 5
        found = suspects(codes, labels)
        assert {suspect.index: (suspect.other, suspect.own_distance, suspect.other_distance)
                for suspect in found} == {index: pytest.approx(value) for index, value in
                                          expected(codes, labels).items()}
        gaps = [suspect.own_distance - suspect.other_distance for suspect in found]
        assert gaps == sorted(gaps, reverse=True)
        assert {suspect.index for suspect in found} <= set(moved) or noise > 0.2
        total += len(found)
    assert total > 10


def test_a_weak_run_suspects_nobody():
    codes, labels = codes_of(6, 15, 0.4, seed=3)
    labels[0] = 5
    between = (codes[:, None] != codes[None]).sum(axis=2)
    np.fill_diagonal(between, 99)
    assert (labels[between.argmin(axis=1)] != labels).sum() > 20
    assert suspects(codes, labels) == []
    # Training images learned by heart do not make up for held-out images that nobody recognises.
    codes, labels = codes_of(6, 30, 0.02, seed=4)
    held_out = np.arange(180) % 6 == 0
    codes[3] = np.sign(codes[151:180].sum(axis=0) + 0.5)
    assert [suspect.index for suspect in suspects(codes, labels, held_out)] == [3]
    codes[held_out] = codes_of(6, 5, 0.5, seed=5)[0]
    assert suspects(codes, labels, held_out) == []


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


def test_a_run_lists_the_wrong_photograph_with_its_picture(tmp_path):
    rng = np.random.RandomState(0)
    for person in range(4):
        base = np.asarray(photo(person, (32, 32)), int)
        for number in range(10):
            noisy = np.clip(base + rng.normal(0, 25, base.shape), 0, 255).astype(np.uint8)
            owner = 3 if (person, number) == (0, 0) else person  # one of A lies in D's folder
            folder = tmp_path / "album" / "ABCD"[owner]
            save(Image.fromarray(noisy), folder / f"{person}{number}.png")
    options = ["--data_dir", tmp_path / "data"]
    prepared = run_script("prepare.py", "--source", "folder", "--images", tmp_path / "album",
                          "--name", "album", "--crop", "none", *options, cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    process = run_script("main.py", "--dataset_flag", "album", "--method", "itq", "--num_bits", 16,
                         "--run_dir", tmp_path / "run", *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with open(tmp_path / "run/suspects.csv", newline="") as stream:
        row, = csv.DictReader(stream)
    assert (row["file"], row["identity"], row["nearest_identity"]) == (
        str(tmp_path / "album/D/00.png"), "D", "A")
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    source = re.search('data-head="picture"><img src="data:image/jpeg;base64,([^"]+)"', page)
    with Image.open(io.BytesIO(base64.b64decode(source.group(1)))) as shown, \
            Image.open(tmp_path / "album/D/00.png") as image:
        assert np.abs(np.asarray(shown, int) - np.asarray(image.convert("RGB"), int)).mean() < 25
