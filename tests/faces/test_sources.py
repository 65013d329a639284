"""What is found where: folders, labels, lists and videos."""

import os

import pytest
from face_pictures import photo, save

from faces import sources
from runtime.errors import UserError


def people(folder, *names, count=1, suffix="png"):
    for seed, name in enumerate(names):
        for number in range(count):
            save(photo(10 * seed + number), folder / name / ("%d.%s" % (number, suffix)))
    return folder


def test_folders_and_what_is_passed_over(tmp_path):
    people(tmp_path, "Ann", "Bo", count=2)
    people(tmp_path, ".hidden", "Cy/deeper")
    (tmp_path / "Ann/notes.txt").write_text("x")
    (tmp_path / "Ann/.thumb.png").write_text("x")
    (tmp_path / "Ann/phone.heic").write_text("x")
    save(photo(1), tmp_path / "loose.png")
    photos, notes = sources.find_photos("folder", tmp_path)
    assert [(found.path.name, found.identity) for found in photos] == [
        ("0.png", "Ann"), ("1.png", "Ann"), ("phone.heic", "Ann"), ("0.png", "Bo"), ("1.png", "Bo")]
    text = "\n".join(notes)
    for mention in ("1 files are no photographs", ".hidden", "1 hidden files", "--labels"):
        assert mention in text


@pytest.mark.parametrize("names", [
    ("Anna", "anna"), ("Zo\u00eb", "Zoe\u0308"), ("Ann_Bo", "Ann Bo"), ("Stra\u00dfe", "STRASSE")])
def test_names_that_differ_in_form_alone_are_noted(tmp_path, names):
    photos, notes = sources.find_photos("folder", people(tmp_path, "Other", *names))
    assert len({found.identity for found in photos}) == 3
    assert sum("2 people" in note for note in notes) == 1
    assert sources.find_photos("folder", people(tmp_path / "Other/more", "Bo", "Boa"))[1] == []


@pytest.mark.parametrize("name", [b"Ann\xff", b"Ann\nBo", b"Ann\x1b[31m"])
def test_names_that_labels_cannot_hold_are_refused(tmp_path, name):
    folder = os.path.join(os.fsencode(str(tmp_path)), name)
    os.mkdir(folder)
    save(photo(1), tmp_path / "x.png").rename(os.fsdecode(os.path.join(folder, b"x.png")))
    with pytest.raises(UserError, match="rename"):
        sources.find_photos("folder", tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    people(tmp_path, "Ann", "Bo")
    listed = sources.Path.iterdir

    def iterdir(path):
        if path.name == "Bo":
            raise PermissionError(13, "Permission denied")
        return listed(path)
    monkeypatch.setattr(sources.Path, "iterdir", iterdir)
    with pytest.raises(UserError, match="Bo.*Permission denied"):
        sources.find_photos("folder", tmp_path)


def test_labels(tmp_path):
    for number in range(4):
        save(photo(number), tmp_path / "roll" / ("%d.png" % number))
    labels = tmp_path / "labels.csv"
    labels.write_bytes("\ufeffidentity,note,file\nZo\u00eb,x,roll/0.png\n\nBo,,roll/1.png\n"
                       "Bo,,roll/1.png\nCy,,gone.png\n".encode("utf-8"))
    photos, notes = sources.find_photos("folder", tmp_path, labels=labels)
    assert [(found.path.name, found.identity) for found in photos] == [
        ("1.png", "Bo"), ("0.png", "Zo\u00eb")]
    assert any("1 of 3 files" in note and "gone.png" in note for note in notes)
    assert any(note.startswith("2 photographs") for note in notes)


@pytest.mark.parametrize("text, mention", [
    (b"", "first line"), (b"name,person\n", "first line"), (b"file,identity\nx.png\n", "line 2"),
    (b"file,identity\n,Ann\n", "line 2"),
    (b"file,identity\nx.png,Ann\nx.png,Bo\n", "line 3.*Ann and Bo"),
    (b"file,identity\ngone.png,Ann\n", "no photographs.*1 of 1 files"),
    (b"file,identity\nx.png,\"A\nB\"\n", "rename"), (b"\xff\xfe\0\0", "first line|CSV"),
    (b"file,identity\nx.png,A\xff\n", "rename"),
    (b"file,identity\n" + b"x" * 5000 + b".png,Ann\n", "no photographs"),
    (b"file,identity\nx\0.png,Ann\n", "line|CSV|photographs")])
def test_damaged_labels(tmp_path, text, mention):
    save(photo(1), tmp_path / "x.png")
    (tmp_path / "l.csv").write_bytes(text)
    with pytest.raises(UserError, match="(?s)" + mention):
        sources.find_photos("folder", tmp_path, labels=tmp_path / "l.csv")
    with pytest.raises(UserError, match="none.csv"):
        sources.find_photos("folder", tmp_path, labels=tmp_path / "none.csv")


def test_frames_come_in_the_order_of_time(tmp_path):
    for video in ("1", "0"):
        for frame in (10, 9, 100):
            save(photo(frame), tmp_path / "A" / video / ("%s.%d.jpg" % (video, frame)))
    photos, _ = sources.find_photos("youtube_faces", tmp_path)
    assert [(found.group, found.path.name) for found in photos] == [
        ("0", "0.9.jpg"), ("0", "0.10.jpg"), ("0", "0.100.jpg"),
        ("1", "1.9.jpg"), ("1", "1.10.jpg"), ("1", "1.100.jpg")]
