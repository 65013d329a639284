"""What is found where: folders, labels, lists and videos."""

import hashlib
import os

import pytest
from face_pictures import photo, save

from faces import sources, walker
from runtime.errors import UserError


def people(folder, *names, count=1, suffix="png"):
    for seed, name in enumerate(names):
        for number in range(count):
            save(photo(10 * seed + number), folder / name / f"{number}.{suffix}")
    return folder


def found(source):
    """[(name of the file, person)] of a Source."""
    return [(photo.path.name, photo.person) for photo in source.photos]


def test_folders_and_what_is_passed_over(tmp_path):
    people(tmp_path, "Ann", "Bo", "Bo/2019/May", count=2)
    people(tmp_path, ".hidden", "Ann/@eaDir/1.png")
    (tmp_path / "Ann/notes.txt").write_text("x")
    (tmp_path / "Ann/.thumb.png").write_text("x")
    (tmp_path / "Bo/phone.heic").write_text("x")
    save(photo(1), tmp_path / "loose.png")
    source = sources.find_photos("folder", tmp_path)
    assert found(source) == [
        ("0.png", "Ann"), ("1.png", "Ann"), ("0.png", "Bo"), ("1.png", "Bo"), ("0.png", "Bo"),
        ("1.png", "Bo"), ("phone.heic", "Bo")]
    assert source.passed_over == {
        walker.NOT_A_PHOTOGRAPH: 1, walker.HIDDEN: 2, walker.OTHER_PROGRAM: 1,
        sources.IN_NO_FOLDER: 1}
    for reason in source.passed_over:
        assert sum(reason in note for note in source.notes) == 1
    assert any("--labels" in note for note in source.notes)


def test_links_end_and_linked_people_are_read(tmp_path):
    people(tmp_path / "elsewhere", "Bo", count=2)
    people(tmp_path / "photos", "Ann", count=2)
    (tmp_path / "photos/Bo").symlink_to(tmp_path / "elsewhere/Bo")
    for name in ("one", "two"):
        (tmp_path / "photos/Ann" / name).symlink_to(tmp_path / "photos")
    source = sources.find_photos("folder", tmp_path / "photos")
    assert found(source) == [("0.png", "Ann"), ("1.png", "Ann"), ("0.png", "Bo"), ("1.png", "Bo")]
    assert source.passed_over == {walker.LINK_AGAIN: 2}
    (tmp_path / "list.csv").write_text("file,identity\nAnn/0.png,A\nAnn/one/Bo/1.png,B\n")
    source = sources.find_photos("folder", tmp_path / "photos", labels_file=tmp_path / "list.csv")
    assert found(source) == [("0.png", "A"), ("1.png", "B")]
    assert source.passed_over == {walker.LINK_AGAIN: 2, sources.NOT_NAMED: 2}


@pytest.mark.parametrize("source, names, mention", [
    ("folder", ("lfw/Ann", "lfw/Bo"), r"Ann, Bo.*/lfw\Z"),
    ("lfw", ("lfw/lfw/Ann", "lfw/lfw/Bo"), r"Ann, Bo.*/lfw/lfw\Z"),
    ("folder", ("train/Ann", "train/Bo", "test/Ann", "test/Bo"), r"/test or .*/train\Z"),
    ("folder", ("set/train/Ann", "set/train/Bo", "set/test/Ann", "set/test/Bo"), r"/set"),
    ("youtube_faces", ("db/Ann/0", "db/Bo/1"), r"Ann, Bo.*/db\Z")])
def test_nested_sets_say_where_the_people_seem_to_be(tmp_path, source, names, mention):
    people(tmp_path / "images", *names)
    save(photo(1), tmp_path / "images/picture_of_the_set.png")
    with pytest.raises(UserError, match=mention):
        sources.find_photos(source, tmp_path / "images")


@pytest.mark.parametrize("names", [
    ("Ann/2019", "Ann/2020", "Bo/2019", "Bo/2020"), ("Ann", "Bo"), ("Ann", "Bo/2019"), ("Ann",),
    ("Val", "Gallery/2019")])
def test_folders_of_people_are_taken_for_people(tmp_path, names):
    source = sources.find_photos("folder", people(tmp_path, *names))
    assert {person for _, person in found(source)} == {name.split("/")[0] for name in names}


@pytest.mark.parametrize("names", [
    ("Anna", "anna"), ("Zo\u00eb", "Zoe\u0308"), ("Ann_Bo", "Ann Bo"), ("Stra\u00dfe", "STRASSE")])
def test_names_that_differ_in_form_alone_are_noted(tmp_path, names):
    source = sources.find_photos("folder", people(tmp_path / "1", "Other", *names))
    assert len({person for _, person in found(source)}) == 3
    assert sum("2 people" in note for note in source.notes) == 1
    assert sources.find_photos("folder", people(tmp_path / "2", "Bo", "Boa")).notes == []


@pytest.mark.parametrize("name", [b"Ann\xff", b"Ann\nBo", b"Ann\x1b[31m"])
def test_names_that_labels_cannot_hold_are_refused(tmp_path, name):
    folder = os.path.join(os.fsencode(str(tmp_path)), name)
    os.mkdir(folder)
    save(photo(1), tmp_path / "x.png").rename(os.fsdecode(os.path.join(folder, b"x.png")))
    with pytest.raises(UserError, match="rename"):
        sources.find_photos("folder", tmp_path)


def test_labels(tmp_path):
    for number in range(4):
        save(photo(number), tmp_path / "roll" / f"{number}.png")
    labels = tmp_path / "labels.csv"
    labels.write_bytes("\ufeffidentity;note;file\nZo\u00eb;x;roll\\0.png\n\nBo;;roll/1.png\n"
                       "Bo;;roll/1.png\nCy;;gone.jpg\nCy;;roll/2.PNG\n".encode("utf-16"))
    source = sources.find_photos("folder", tmp_path, labels_file=labels)
    assert found(source) == [("1.png", "Bo"), ("0.png", "Zo\u00eb")]
    assert source.passed_over == {walker.NOT_A_PHOTOGRAPH: 1, sources.NOT_NAMED: 2}
    assert any(note.startswith("1 of 5 lines") and "line 6: gone.jpg" in note
               for note in source.notes)
    assert any("case" in note and "line 7" in note and "roll/2.png" in note
               for note in source.notes)


@pytest.mark.parametrize("text, mention", [
    (b"", "first line"), (b"file,identity\n,Ann\n", "line 2"),
    (b"file,identity\nx.png,Ann\nx.png,Bo\n", "line 3.*Ann and Bo"),
    (b"file,identity\nx.png,Ann\n./X/../x.png,Bo\n", "line 3.*Ann and Bo"),
    (b"file,identity\ngone.png,Ann\n", "no photographs.*1 of 1 lines"),
    (b"file,identity\nx.png,\"A\nB\"\n", "rename"),
    (b"file,identity\n" + b"x" * 5000 + b".png,Ann\n", "no photographs"),
    (b"file,identity\n/dev/zero,Ann\n", "no photographs")])
def test_damaged_labels(tmp_path, text, mention):
    save(photo(1), tmp_path / "x.png")
    (tmp_path / "X").mkdir()
    (tmp_path / "l.csv").write_bytes(text)
    with pytest.raises(UserError, match="(?s)" + mention):
        sources.find_photos("folder", tmp_path, labels_file=tmp_path / "l.csv")


def test_frames_come_in_the_order_of_time(tmp_path):
    for video in ("1", "0"):
        for frame in (10, 9, 100):
            save(photo(frame), tmp_path / "A" / video / f"{video}.{frame}.jpg")
    source = sources.find_photos("youtube_faces", tmp_path)
    assert [(photo.group, photo.path.name) for photo in source.photos] == [
        ("0", "0.9.jpg"), ("0", "0.10.jpg"), ("0", "0.100.jpg"),
        ("1", "1.9.jpg"), ("1", "1.10.jpg"), ("1", "1.100.jpg")]


HEADER = "\t".join(sources.FACESCRUB_COLUMNS)


def facescrub(folder, boxes=("1,2,30,40",), url="http://x/y.jpg"):
    lines = [HEADER] + [f"Ann Bo\t{5 + number}\t{9 + number}\t{url}{number}\t{box}\t"
                        f"{number:064x}" for number, box in enumerate(boxes)]
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return [folder / "list.txt"]


@pytest.mark.parametrize("place", [
    "Ann_Bo/Ann_Bo_5_9", "Ann Bo/5_9", "Ann_Bo/Ann_Bo_5", "Ann_Bo/5", "actors/Ann_Bo/5",
    "Ann_Bo/" + "0" * 64, "Ann_Bo/" + hashlib.sha1(b"http://x/y.jpg0").hexdigest(),
    hashlib.sha1(b"http://x/y.jpg0").hexdigest()])
def test_facescrub_files_by_any_name_and_by_their_ending(tmp_path, place):
    images = tmp_path / "images"
    save(photo(1), images / f"{place}.png")
    for ending in (".json", ".txt"):  # what a downloader writes beside a photograph
        (images / f"{place}{ending}").write_text("x")
    save(photo(2), images / "Ann_Bo/unlisted.png")
    source = sources.find_photos("facescrub", images, facescrub(tmp_path, ["1,2,3,4", "5,6,7,8"]))
    assert [(photo.path, photo.person, photo.box) for photo in source.photos] == [
        (images / f"{place}.png", "Ann Bo", (1, 2, 3, 4))]
    assert source.passed_over == {walker.NOT_A_PHOTOGRAPH: 2, sources.NOT_NAMED: 1}
    assert source.notes[0].startswith("1 of 2 listed")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "9" * 310 + ",1,2,3", "1,2,3,4,5", ""])
def test_damaged_facescrub_lists(tmp_path, box):
    save(photo(1), tmp_path / "images/Ann_Bo/5.png")
    with pytest.raises(UserError, match="list.txt, line 2.*bbox"):
        sources.find_photos("facescrub", tmp_path / "images", facescrub(tmp_path, [box]))


def test_lists_that_are_missing_or_pipes_are_named_once(tmp_path):
    save(photo(1), tmp_path / "images/Ann_Bo/5.png")
    os.mkfifo(str(tmp_path / "pip"))
    for name in ("nosuch", "pip", "images", "x" * 300):
        with pytest.raises(UserError, match=name) as raised:
            sources.find_photos("facescrub", tmp_path / "images", [tmp_path / name])
        text = str(raised.value)
        assert text.count(str(tmp_path / name)) == 1 and "Errno" not in text
