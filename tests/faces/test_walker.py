"""Which photographs lie below a folder, and what is passed over and why."""

import os
from collections import Counter

import pytest

from faces import walker
from runtime.errors import UserError


def touch(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def places(root):
    """(places of the photographs, {place: reason} of what is left out)."""
    files, left_out = walker.walk(root)
    for file in files:
        assert file.path == root / file.relative and file.size == os.stat(file.path).st_size
        assert file.mtime_ns == os.stat(file.path).st_mtime_ns
    return [file.relative for file in files], {item.relative: item.reason for item in left_out}


def test_photographs_of_all_depths_in_a_stable_order(tmp_path):
    for name in ("b/2.JPG", "b/10.heic", "b/2019/x.avif", "a.tiff", "b c/1.webp", "b-c/1.png"):
        touch(tmp_path / name)
    found, left_out = places(tmp_path)
    assert found == ["a.tiff", "b/10.heic", "b/2.JPG", "b/2019/x.avif", "b c/1.webp", "b-c/1.png"]
    assert left_out == {}
    assert walker.walk(tmp_path)[0][3].parts == ("b", "2019", "x.avif")


def test_every_file_is_read_or_counted(tmp_path):
    for name in ("Ann/1.jpg", "Ann/notes.txt", "Ann/.DS_Store", "Ann/._1.jpg", ".git/a/1.jpg",
                 "Ann/@eaDir/1.jpg/THUMB.jpg", "$Recycle.BIN/2.jpg", "lost+found/3.jpg",
                 "#recycle/a.jpg", "__MACOSX/Ann/._1.jpg", "Previews.lrdata/1.jpg"):
        touch(tmp_path / name)
    found, left_out = places(tmp_path)
    assert found == ["Ann/1.jpg"]
    assert left_out == {
        "Ann/notes.txt": walker.NOT_A_PHOTOGRAPH, "Ann/.DS_Store": walker.HIDDEN,
        "Ann/._1.jpg": walker.HIDDEN, ".git/": walker.HIDDEN,
        "Ann/@eaDir/": walker.OTHER_PROGRAM, "$Recycle.BIN/": walker.OTHER_PROGRAM,
        "lost+found/": walker.OTHER_PROGRAM, "#recycle/": walker.OTHER_PROGRAM,
        "__MACOSX/": walker.OTHER_PROGRAM, "Previews.lrdata/": walker.OTHER_PROGRAM}
    items = walker.walk(tmp_path)[1]
    assert sum(item.count for item in items) + len(found) == 11
    assert any(": 6 (" in line and walker.OTHER_PROGRAM in line for line in walker.notes(items))


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    touch(root / "Zoe/1.jpg")
    touch(elsewhere / "Bo/2.jpg")
    (root / "Bo").symlink_to(elsewhere / "Bo")
    (root / "Again").symlink_to(elsewhere / "Bo")
    (root / "Amy").symlink_to(root / "Zoe")  # the real place comes first
    (root / "Zoe/up").symlink_to(root)
    (root / "Zoe/up2").symlink_to("..")
    (elsewhere / "Bo/self").symlink_to(".")
    (root / "gone").symlink_to(tmp_path / "nothing")
    (root / "circle").symlink_to("circle")
    found, left_out = places(root)
    assert found == ["Again/2.jpg", "Zoe/1.jpg"]
    assert left_out == {"Bo/": walker.LINK_AGAIN, "Amy/": walker.LINK_AGAIN,
                        "Zoe/up/": walker.LINK_AGAIN, "Zoe/up2/": walker.LINK_AGAIN,
                        "Again/self/": walker.LINK_AGAIN, "gone": walker.BROKEN_LINK,
                        "circle": walker.BROKEN_LINK}
    details = {item.relative: item.detail for item in walker.walk(root)[1]}
    assert (details["Bo/"], details["Amy/"], details["Zoe/up/"]) == ("Again", "Zoe", ".")


def test_two_links_to_the_parent_do_not_run_for_ever(tmp_path):
    touch(tmp_path / "photos/Ann/1.jpg")
    touch(tmp_path / "other/2.jpg")
    for name in ("one", "two"):
        (tmp_path / "photos/Ann" / name).symlink_to(tmp_path)
    found, left_out = places(tmp_path / "photos")
    assert found == ["Ann/1.jpg", "Ann/one/other/2.jpg"]
    assert set(left_out) == {"Ann/two/", "Ann/one/photos/"}


def test_linked_files_are_read_once_and_hard_links_are_files(tmp_path):
    touch(tmp_path / "b/1.jpg")
    (tmp_path / "a.jpg").symlink_to("b/1.jpg")
    os.link(str(tmp_path / "b/1.jpg"), str(tmp_path / "b/hard.jpg"))
    outside = touch(tmp_path.parent / (tmp_path.name + "_outside.jpg"))
    (tmp_path / "c.jpg").symlink_to(outside)
    (tmp_path / "d.jpg").symlink_to(outside)
    found, left_out = places(tmp_path)
    assert found == ["b/1.jpg", "b/hard.jpg", "c.jpg"]
    assert left_out == {"a.jpg": walker.LINK_AGAIN, "d.jpg": walker.LINK_AGAIN}


def test_what_this_program_wrote_is_not_walked(tmp_path):
    touch(tmp_path / "Ann/1.jpg")
    touch(tmp_path / "run/.dcbh.json", b'{"kind": "run", "version": 1}')
    touch(tmp_path / "run/figures/curve.png")
    for name in ("manifest.json", "labels.txt", "images.csv", "train/part_000.pickle"):
        touch(tmp_path / "set" / name)
    touch(tmp_path / "found/query1_rank01_distance00_1.jpg")
    touch(tmp_path / "sheet.html", b'<html>\n<meta name="generator" content="DCBH contact sheet">')
    touch(tmp_path / "sheet.png")
    touch(tmp_path / "mine.html", b"<html>")
    touch(tmp_path / "mine.png")
    found, left_out = places(tmp_path)
    assert found == ["Ann/1.jpg", "mine.png"]
    assert {name for name, reason in left_out.items() if reason == walker.OURS} == {
        "run/", "set/", "found/", "sheet.png"}
    for name in ("run", "set", "found"):
        with pytest.raises(UserError, match=name):
            walker.walk(tmp_path / name)


def test_pipes_and_unreadable_folders_are_left_out(tmp_path, monkeypatch):
    touch(tmp_path / "Ann/1.jpg")
    touch(tmp_path / "Bo/1.jpg")
    os.mkfifo(str(tmp_path / "Ann/pipe.jpg"))
    listed = os.scandir

    def scandir(path):  # tests may run as root, who can read everything
        if str(path).endswith("Bo"):
            raise PermissionError(13, "Permission denied")
        return listed(path)
    monkeypatch.setattr(os, "scandir", scandir)
    found, left_out = places(tmp_path)
    assert found == ["Ann/1.jpg"]
    assert left_out == {"Ann/pipe.jpg": walker.NOT_A_FILE,
                        "Bo/": "cannot be read (Permission denied)"}
    with pytest.raises(UserError, match="Bo.*Permission denied"):
        walker.walk(tmp_path / "Bo")


def test_names_of_any_bytes(tmp_path):
    name = os.path.join(os.fsencode(str(tmp_path)), b"Ann\xff\n.jpg")
    with open(name, "wb"):
        pass
    files, _ = walker.walk(tmp_path)
    assert os.fsencode(files[0].relative) == b"Ann\xff\n.jpg" and os.path.isfile(files[0].path)


@pytest.mark.parametrize("root", ["none", "file", "x" * 300, "nul\0"])
def test_a_root_that_is_no_folder(tmp_path, root):
    touch(tmp_path / "file")
    with pytest.raises(UserError):
        walker.walk(tmp_path / root)


def test_deep_and_wide_trees(tmp_path):
    deep = tmp_path
    for _ in range(200):
        deep = deep / "d"
    touch(deep / "1.jpg")
    for number in range(300):
        touch(tmp_path / "wide" / f"{number}.jpg")
    files, left_out = walker.walk(tmp_path)
    assert Counter(file.parts[0] for file in files) == {"d": 1, "wide": 300} and not left_out
