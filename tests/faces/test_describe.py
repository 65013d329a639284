"""What is said and shown of a data set."""

import os
import re

import numpy as np
import pytest
from conftest import assert_refused, run_script, tiny_faces, write_pickle
from face_pictures import photo

import data_loader
import describe as command
from config import find_dataset
from faces.describe import describe, report_lines
from reports.html import contact_sheet
from runtime.errors import UserError


def dataset_of(folder, train, test):
    for name, pair in (("train", train), ("test", test)):
        write_pickle(folder / "data" / (name + "_folder_facescrub") / "part", *pair)
    return find_dataset(1, folder / "data")


def description(folder, train, test):
    return "\n".join(report_lines(describe(dataset_of(folder, train, test))[0]))


def prepared_dataset(folder, train, test, names, images="", crop=None):
    """A data set as prepare.py writes it, with these labels.txt and images.csv."""
    for name, pair in (("train", train), ("test", test)):
        write_pickle(folder / "mine" / name / "part_000.pickle", *pair)
    dataset = find_dataset(1, folder)._replace(
        name="mine", title="mine", source="prepared", train_folder=folder / "mine/train",
        test_folder=folder / "mine/test", num_identities=len(names), num_train=len(train[1]),
        num_test=len(test[1]), labels_file=folder / "mine/labels.txt", crop=crop)
    dataset.labels_file.write_text("".join(name + "\n" for name in names), encoding="utf-8")
    dataset.labels_file.with_name("images.csv").write_text(images, encoding="utf-8",
                                                           errors="surrogateescape")
    return dataset


def test_counts_ranges_and_verdict(tmp_path):
    train, test = tiny_faces()
    text = description(tmp_path, train, test)
    assert "training: 30 images (67177 expected), 6 people" in text
    assert "5 / 5 / 5 (least / median / most)" in text and "2 / 2 / 2" in text
    assert f"stored as uint8: 0 to 255, mean {train[0].mean():.4g}" in text
    assert "1 file, 0.1 MB" in text
    assert "67147 of 67177 training images are missing" in text
    assert "524 people have no training image: 6, 7, 8, 9, 10, ..." in text
    assert "Ready" not in text


def test_images_on_both_sides(tmp_path):
    train, test = tiny_faces()
    rows = test[0].copy()
    rows[3] = train[0][20]
    text = description(tmp_path, train, (rows, test[1]))
    assert "1 test images are in the training set, pixel by pixel (test image 3)" in text


def rows(*seeds):
    """Rows of different pictures that are not alike."""
    return np.stack([np.asarray(photo(seed, (32, 32))).transpose(2, 0, 1).reshape(-1)
                     for seed in seeds])


def test_near_copies_on_both_sides(tmp_path):
    train, test = (rows(1, 2, 3), np.arange(3)), (rows(4, 5, 6), np.arange(3))
    row = rows(0)[0]
    near = np.clip(row.astype(int) + 3, 0, 255).astype(np.uint8)
    for label, same, different in ((0, 1, 0), (1, 0, 1)):
        text = description(tmp_path, (np.vstack([train[0], row]), np.append(train[1], 0)),
                           (np.vstack([test[0], near]), np.append(test[1], label)))
        assert re.search(r"(\d+) further test images", text).group(1) == str(same)
        found = re.search(r"(\d+) pairs of images of different people", text)
        assert (int(found.group(1)) if found else 0) == different
        assert ("train image 3 (person 0) and test image 3 (person 1)" in text) == bool(different)


def test_one_photograph_under_two_people_is_named_with_both(tmp_path):
    train, test = (rows(1, 2, 3, 1), np.array([0, 1, 1, 1])), (rows(4, 5, 2), np.array([0, 1, 0]))
    files = ["file,status,row"] + [f"/p/{which}{row}.jpg,{which},{row}" for which, row in (
        ("train", 0), ("train", 1), ("train", 2), ("train", 3), ("test", 0), ("test", 2))]
    dataset = prepared_dataset(tmp_path, train, test, ["Ann", "Bo"], "\n".join(files))
    problem, = [problem for problem in describe(dataset)[0].problems if "one person" in problem]
    assert "(2)" in problem
    assert "/p/train0.jpg (Ann) and /p/train3.jpg (Bo)" in problem
    assert "/p/train1.jpg (Bo) and /p/test2.jpg (Ann)" in problem


def test_pixels_in_a_wrong_order_are_a_problem(tmp_path):
    train, test = [(images.reshape(len(images), -1), labels)  # rows as OpenCV's arrays give them
                   for images, labels in data_loader.load_orl()]
    dataset = prepared_dataset(tmp_path, train, test, [f"s{number}" for number in range(40)])
    assert sum("order" in problem for problem in describe(dataset)[0].problems) == 2
    notes = data_loader.data_notes(dataset, *data_loader.load_dataset(dataset))
    assert len(notes) == 2 and all(note.startswith("warning: ") for note in notes)


def test_equal_pixels_and_a_single_person_are_problems(tmp_path):
    train, test = tiny_faces()
    text = description(tmp_path, (np.full_like(train[0], 7), train[1]), test)
    assert "all pixels of the training images are equal" in text
    assert "exact copies among the training images: 29" in text
    single = prepared_dataset(tmp_path, (train[0], train[1] * 0), (test[0], test[1] * 0), ["Ann"])
    problem, = describe(single)[0].problems
    assert "one person" in problem


def test_the_contact_sheet_has_a_row_a_person(tmp_path):
    train, test = tiny_faces()
    names = ["Ann", "<b>Bo</b> & \"Co\"", "\u738b\u5c0f\u660e", "a$\\x$", "_u", "x" * 60]
    files = ["file,status,row,identity"]
    files += [f"/p/{which}{row}.jpg,{which},{row},?" for which, count in
              (("train", 30), ("test", 12)) for row in range(count)]
    files += ["/p/bad\udcff.jpg,left_out,,?"]
    dataset = prepared_dataset(tmp_path, train, test, names, "\n".join(files),
                               crop={"method": "detect", "margin": 0.0})
    found, train_set, test_set = describe(dataset)
    assert found.problems == [] and any("five landmarks" in line for line in found.lines)
    page = contact_sheet(dataset, train_set, test_set)
    rows = re.findall("<section>.*?</section>", page, re.S)
    assert len(rows) == 6
    for row, name in zip(rows, ["Ann", "&lt;b&gt;Bo&lt;/b&gt; &amp; &#34;Co&#34;"] + names[2:]):
        assert f"<h2>{name}<small>5 training | 2 test</small>" in row
        shown, queries = row.split('<div class="test">')
        assert shown.count("<img") == 5 and queries.count("<img") == 2
    # each picture names its file
    for split, which in ((train_set, "train"), (test_set, "test")):
        for index in np.flatnonzero(split.labels == 2):
            assert f'title="/p/{which}{index}.jpg"' in rows[2]
    assert "http" not in page and "<script" not in page


def test_old_sets_and_other_encodings_show_no_files(tmp_path):
    train, test = tiny_faces()
    old = prepared_dataset(tmp_path, train, test, list("abcdef"), "file,identity,fate\nx.jpg,a,t\n")
    assert data_loader.image_files(old) == {"train": {}, "test": {}}
    for damaged in ("status,row\ntrain,1\n", "file,status,row\nx,train," + "9" * 6000, "\0", '"'):
        old.labels_file.with_name("images.csv").write_text(damaged)
        assert set(data_loader.image_files(old)["train"].values()) <= {""}
    old.labels_file.with_name("images.csv").unlink()
    assert data_loader.image_files(old) == {"train": {}, "test": {}}
    odd = prepared_dataset(tmp_path, train, test, list("abcdef"),
                           "file,status,row\n/p/\udcff.jpg,train,0\n")
    page = contact_sheet(odd, *data_loader.load_dataset(odd))
    assert "/p/\ufffd.jpg" in page and page.encode("utf-8")


def test_the_command_on_orl(tmp_path):
    process = run_script("describe.py", "2", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == [
        "Ready to train.", f"contact sheet: {tmp_path / 'contact_sheet_orl.html'}"]
    page = (tmp_path / "contact_sheet_orl.html").read_text(encoding="utf-8")
    assert page.count("<section>") == 40 and page.count("<img") == 400


@pytest.mark.parametrize("arguments, mention", [
    (["7"], "7.*2 \\(ORL"), (["1", "--data_dir", "."], "no such folder"),
    (["2", "--sheet", "no/where.html"], "no is not a folder"), (["mine", "2"], "2"),
    (["2", "--sheet", "notes.txt"], "notes.txt"), (["2", "--sheet", "pipe"], "pipe"),
    (["2", "--sheet", "x" * 300], "xxx"), (["2", "--sheet", "folder"], "folder"),
    (["x" * 300], "DATASET"), (["mine", "--data_dir", "x" * 300], "DATASET"),
    (["theirs", "--data_dir", "."], "theirs.replaced.*rename it")],
    ids=lambda value: str(value)[:40])
def test_refusals(tmp_path, monkeypatch, arguments, mention):
    monkeypatch.chdir(tmp_path)
    if "--sheet" in arguments:
        monkeypatch.setattr(command, "describe", None)  # refused before the long work
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "theirs.replaced").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(UserError, match=mention):
        command.main(arguments)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_refusal_is_one_line(tmp_path):
    assert_refused(run_script("describe.py", "\u00b2", cwd=tmp_path), "DATASET")
