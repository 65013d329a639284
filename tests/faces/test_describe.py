"""What is said of a data set."""

import numpy as np
import pytest
from conftest import assert_refused, run_script, tiny_faces, write_pickle
from PIL import Image

from config import Config
from faces import describe


def description(folder, train, test):
    for name, pair in (("train", train), ("test", test)):
        write_pickle(folder / "data" / (name + "_folder_facescrub") / "part", *pair)
    config = Config(dataset_flag=1, data_dir=str(folder / "data"))
    return "\n".join(describe.report_lines(describe.describe(config)[0]))


def test_counts_ranges_and_verdict(tmp_path):
    train, test = tiny_faces()
    text = description(tmp_path, train, test)
    assert "training: 30 images (67177 expected), 6 identities" in text
    assert "5 / 5 / 5 (least / median / most)" in text and "2 / 2 / 2" in text
    assert "stored as uint8: 0 to 255, mean %.4g" % train[0].mean() in text
    assert "1 file, 0.1 MB" in text
    assert "Look at this before you train:" in text
    assert "67147 of 67177 training images are missing" in text
    assert "524 identities have no training image: 6, 7, 8, 9, 10, ..." in text
    assert "Ready" not in text


def test_images_on_both_sides(tmp_path):
    train, test = tiny_faces()
    rows = test[0].copy()
    rows[3] = train[0][20]
    text = description(tmp_path, train, (rows, test[1]))
    assert "1 test images are in the training set, pixel by pixel (test image 3)" in text


def test_near_copies_on_both_sides(tmp_path):
    train, test = tiny_faces()
    picture = np.asarray(Image.fromarray(np.random.RandomState(0).randint(
        0, 256, (4, 4, 3)).astype(np.uint8)).resize((32, 32), Image.BICUBIC))
    row = picture.transpose(2, 0, 1).reshape(-1)
    near = np.clip(row.astype(int) + 3, 0, 255).astype(np.uint8)
    text = description(tmp_path, (np.vstack([train[0], row]), np.append(train[1], 0)),
                       (np.vstack([test[0], near]), np.append(test[1], 0)))
    counted = int(text.split(" further test images")[0].rsplit(" ", 1)[1])
    assert counted >= 1


def test_equal_pixels_are_a_problem(tmp_path):
    train, test = tiny_faces()
    text = description(tmp_path, (np.full_like(train[0], 7), train[1]), test)
    assert "all pixels of the training images are equal" in text
    assert "29 training images are exact copies" in text


def test_near_pairs_by_hand():
    hashes = np.zeros((4, 64), bool)
    hashes[1, :6] = True   # 6 bits from the first
    hashes[2, :7] = True   # 7 from the first, 1 from the second
    hashes[3] = True
    assert describe.near_pairs(hashes).tolist() == [[0, 1], [1, 2]]
    assert describe.near_pairs(hashes[:1], hashes).tolist() == [[0, 0], [0, 1]]


def test_near_pairs_in_blocks(monkeypatch):
    hashes = np.random.RandomState(0).randint(0, 2, (40, 8)).astype(bool)
    whole = describe.near_pairs(hashes, bits=2).tolist()
    monkeypatch.setattr(describe, "PAIRS_AT_ONCE", 100)
    assert describe.near_pairs(hashes, bits=2).tolist() == whole
    assert whole == [[a, b] for a in range(40) for b in range(a + 1, 40)
                     if np.count_nonzero(hashes[a] != hashes[b]) <= 2]


@pytest.mark.parametrize("script", ["describe.py"])
def test_the_command_on_orl(tmp_path, script):
    process = run_script(script, "2", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-2:] == [
        "Ready to train.", "contact sheet: contact_sheet_orl.png"]
    with Image.open(str(tmp_path / "contact_sheet_orl.png")) as sheet:
        assert np.asarray(sheet).std() > 20


def test_mistakes(tmp_path):
    assert_refused(run_script("describe.py", "7", cwd=tmp_path), "7", "2 (ORL")
    assert_refused(run_script("describe.py", "1", cwd=tmp_path), "no such folder")
    assert_refused(run_script("describe.py", "2", "--sheet", "no/where.png", cwd=tmp_path),
                   "no/where.png")
