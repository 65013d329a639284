"""A gallery follows its folders: new, changed, moved and gone photographs; who is on them."""

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gallery import TinyEncoder, contents, index_folders, save_photograph

from gallery import indexing, people
from gallery.answers import Judge
from gallery.store import Gallery
from runtime.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def tiny_encoder():
    patch = pytest.MonkeyPatch()
    patch.setattr(indexing, "open_encoder", lambda *_: TinyEncoder())
    yield
    patch.undo()


@pytest.fixture
def lib(tmp_path):
    """A folder of three people with three photographs each, and one photograph of nobody."""
    for number in range(9):
        save_photograph(tmp_path / "lib" / ["Ann", "Bob", "Cid"][number // 3] / f"{number}.png",
                        number)
    save_photograph(tmp_path / "lib" / "nobody.png", 9)
    return tmp_path / "lib"


@pytest.fixture
def path(tmp_path, lib):
    """A gallery of it."""
    index_folders(tmp_path / "g", lib)
    return tmp_path / "g"


def names(path):
    """{place below the library: name}."""
    with Gallery.open(path) as gallery:
        return {face.photograph.split("/lib/")[1]: face.name
                for face in gallery.faces(gallery.ids)}


def add(path, *folders, **options):
    """The counts of an `add`, and how many faces were encoded."""
    before = TinyEncoder.encoded
    report = indexing.add(path, [str(folder) for folder in folders], **options)
    counts = {what: count for what, count in report.counts.items() if count}
    return counts, TinyEncoder.encoded - before, " ".join(report.notes)


def assert_as_fresh(path, lib):
    index_folders(path.parent / "fresh", lib)
    assert contents(path) == contents(path.parent / "fresh")
    shutil.rmtree(str(path.parent / "fresh"))


def test_new_changed_moved_and_gone(path, lib):
    assert add(path)[:2] == ({"unchanged": 10}, 0)
    save_photograph(lib / "Ann" / "new.png", 20)
    save_photograph(lib / "Ann" / "0.png", 21)  # changed
    (lib / "Ann" / "1.png").rename(lib / "Bob" / "one.png")  # which was Bob all along
    (lib / "Bob" / "3.png").unlink()
    os.utime(str(lib / "Bob" / "4.png"))
    counts, encoded, _ = add(path)
    assert counts == {"new": 1, "changed": 1, "moved": 1, "gone": 1, "unchanged": 7, "faces": 2}
    assert encoded == 2
    assert names(path)["Bob/one.png"] == "Bob" and "Bob/3.png" not in names(path)
    assert_as_fresh(path, lib)


def test_a_renamed_folder_renames_its_person(path, lib):
    ids = Gallery.open(path).ids.tolist()
    (lib / "Ann").rename(lib / "Anna")
    counts, encoded, _ = add(path)
    assert counts == {"moved": 3, "unchanged": 7} and encoded == 0
    with Gallery.open(path) as gallery:
        assert gallery.ids.tolist() == ids
        assert sorted(gallery.names.values()) == ["Anna", "Bob", "Cid"]
    assert_as_fresh(path, lib)


def test_two_photographs_change_places(path, lib):
    first, second = lib / "Ann" / "0.png", lib / "Bob" / "3.png"
    first.rename(lib / "aside.png")
    second.rename(first)
    (lib / "aside.png").rename(second)
    for photograph in (first, second):
        os.utime(str(photograph))
    counts, encoded, _ = add(path)
    assert counts["moved"] == 2 and encoded == 0
    assert_as_fresh(path, lib)


def test_changed_in_place_with_size_and_time_kept(path, lib):
    photograph = lib / "Ann" / "0.png"
    status, content = photograph.stat(), photograph.read_bytes()
    other = (lib / "Bob" / "3.png").read_bytes()
    length = max(len(content), len(other))
    for file, data in ((photograph, content), (lib / "Bob" / "3.png", other)):
        file.write_bytes(data.ljust(length, b"\0"))
    add(path)
    photograph.write_bytes(other.ljust(length, b"\0"))
    os.utime(str(photograph), ns=(status.st_atime_ns, status.st_mtime_ns))
    add(path)
    os.utime(str(photograph), ns=(status.st_atime_ns, status.st_mtime_ns))
    photograph.write_bytes(content.ljust(length, b"\0"))
    os.utime(str(photograph), ns=(status.st_atime_ns, status.st_mtime_ns))
    assert add(path)[0] == {"unchanged": 10}
    assert add(path, rehash=True)[0]["changed"] == 1
    assert_as_fresh(path, lib)


def test_missing_photographs_are_kept_if_asked(path, lib):
    (lib / "Ann" / "0.png").unlink()
    assert add(path, keep_missing=True)[0] == {"missing, kept": 1, "unchanged": 9}
    assert names(path)["Ann/0.png"] == "Ann"
    assert add(path)[0] == {"gone": 1, "unchanged": 9}


def test_a_disk_that_is_not_mounted(path, lib, tmp_path):
    save_photograph(tmp_path / "more" / "lib" / "Dan" / "a.png", 30)
    add(path, tmp_path / "more" / "lib")
    (tmp_path / "lib").rename(tmp_path / "away")
    counts, _, note = add(path)
    assert counts == {"left alone": 10, "unchanged": 1} and str(lib) in note
    (tmp_path / "lib").mkdir()  # a mount point
    assert add(path)[0] == {"left alone": 10, "unchanged": 1}
    assert len(names(path)) == 11
    shutil.rmtree(str(lib))
    (tmp_path / "away").rename(lib)
    assert add(path)[0] == {"unchanged": 11}


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="cannot mount")
def test_a_disk_below_the_folder_that_is_not_mounted(lib, tmp_path):
    disk = lib / "Dan"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True,
                       stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        pytest.skip("cannot mount")
    try:
        save_photograph(disk / "a.png", 30)
        index_folders(tmp_path / "g", lib)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    for _ in range(2):  # the mount point, and then no mount point either
        counts, _, note = add(tmp_path / "g")
        assert counts == {"left alone": 1, "unchanged": 10} and "a.png" in note
        shutil.rmtree(str(disk), ignore_errors=True)
    (lib / "Ann" / "0.png").unlink()
    assert add(tmp_path / "g")[0] == {"left alone": 1, "gone": 1, "unchanged": 9}


def test_names_come_from_the_place_below_the_gallerys_folder(path, lib, tmp_path):
    save_photograph(lib / "Dan" / "2019" / "a.png", 30)
    add(path, lib / "Dan")
    assert names(path)["Dan/2019/a.png"] == "Dan"
    for number, folders in enumerate(([lib, lib / "Dan"], [lib / "Dan", lib])):
        index_folders(tmp_path / f"{number}", *folders)
        assert contents(tmp_path / f"{number}") == contents(path)
    index_folders(tmp_path / "inner", lib / "Dan")  # then the outer one
    assert names(tmp_path / "inner")["Dan/2019/a.png"] == "2019"
    add(tmp_path / "inner", lib)
    assert contents(tmp_path / "inner") == contents(path)


def test_a_library_by_year_names_nobody(path, lib, tmp_path):
    index_folders(tmp_path / "years", lib, people="none")
    assert set(names(tmp_path / "years").values()) == {None}
    counts, encoded, _ = add(tmp_path / "years", people="folders")
    assert counts == {"relabelled": 9, "unchanged": 1} and encoded == 0
    assert contents(tmp_path / "years") == contents(path)


def test_a_list_says_who_is_who(lib, tmp_path):
    people_list = tmp_path / "who.csv"
    people_list.write_bytes("file;identity\r\nAnn\\0.png;Zo\u00eb\r\nnobody.png;Yan\r\n"
                            "Ann/one.png;Zo\u00eb\r\n".encode("cp1252"))
    report = index_folders(tmp_path / "g", lib, people=str(people_list))
    named = {place: name for place, name in names(tmp_path / "g").items() if name}
    assert named == {"Ann/0.png": "Zo\u00eb", "nobody.png": "Yan"}
    assert any("Ann/one.png" in note for note in report.notes)
    people_list.write_text("file,identity\nAnn/0.png,Xi\n")
    assert add(tmp_path / "g")[0] == {"relabelled": 2, "unchanged": 8}
    assert set(names(tmp_path / "g").values()) == {None, "Xi"}
    people_list.write_text("file,identity\nAnn/0.png,Xi\nAnn/0.png,Yan\n")
    with pytest.raises(UserError, match="line 3"):
        add(tmp_path / "g")
    people_list.unlink()
    with pytest.raises(UserError, match="who.csv"):
        add(tmp_path / "g")


def test_renaming_and_merging_people(path, lib):
    assert people.rename(path, "Ann", "Anna") == ("Anna", 3, False)
    assert add(path)[0] == {"unchanged": 10}
    save_photograph(lib / "Ann" / "new.png", 20)
    add(path)
    assert names(path)["Ann/new.png"] == "Anna"  # what the folder calls her means her
    assert people.rename(path, "Bob", "Anna").merged
    assert names(path)["Bob/3.png"] == "Anna"
    save_photograph(lib / "Bob" / "new.png", 21)
    add(path)
    assert names(path)["Bob/new.png"] == "Anna"
    for old, new in (("Eve", "Adam"), ("Cid", ""), ("Cid", "  "), ("", "Cid")):
        with pytest.raises(UserError):
            people.rename(path, old, new)


def test_names_in_any_unicode_form(path, lib):
    people.rename(path, "Ann", "Zoe\u0308")
    assert names(path)["Ann/0.png"] == "Zo\u00eb"
    save_photograph(lib / "Jose\u0301" / "a.png", 30)
    save_photograph(lib / "Jos\u00e9" / "b.png", 31)  # one person, on two systems
    add(path)
    assert {names(path)[place] for place in ("Jose\u0301/a.png", "Jos\u00e9/b.png")} == {
        "Jos\u00e9"}
    assert people.remove(path, files=[str(lib / "Jos\u00e9" / "a.png")]) == 1
    assert people.remove(path, names=["Jose\u0301"]) == 1
    assert people.remove(path, names=["Zoe\u0308"]) == 3
    with pytest.raises(UserError, match="upper and lower|Bob"):
        people.remove(path, names=["bob"])


def test_faces_named_by_hand_keep_their_names(path, lib):
    with Gallery.open(path) as gallery:
        face = next(face for face in gallery.faces(gallery.ids) if "nobody" in face.photograph)
    assert people.name_faces(path, [face.id], "Eve") == ("Eve", 1, False)
    (lib / "nobody.png").rename(lib / "Cid" / "x.png")
    add(path)
    assert names(path)["Cid/x.png"] == "Eve"
    people.name_faces(path, [face.id], None)
    assert names(path)["Cid/x.png"] is None and "Eve" not in Gallery.open(path).names.values()
    with pytest.raises(UserError, match="77"):
        people.name_faces(path, [face.id, 77], "Eve")
    with pytest.raises(UserError):
        people.name_faces(path, [face.id], " ")
    assert names(path)["Cid/x.png"] is None


def test_removed_photographs_stay_out_wherever_they_go(path, lib):
    people.remove(path, names=["Ann"])
    assert add(path)[0] == {"removed earlier": 3, "unchanged": 7}
    (lib / "Ann").rename(lib / "Anna")
    assert add(path)[0] == {"removed earlier": 3, "unchanged": 7}
    assert add(path)[1] == 0  # known by path again
    save_photograph(lib / "Anna" / "0.png", 20)
    assert add(path)[0] == {"new": 1, "faces": 1, "removed earlier": 2, "unchanged": 7}
    assert add(path, restore=True)[0] == {"new": 2, "faces": 2, "unchanged": 8}
    assert_as_fresh(path, lib)


def test_the_last_people_are_removed_and_come_back(path, lib):
    assert people.remove(path, files=[str(lib)]) == 10
    assert (path / "encoder" / "encoder.json").is_file()
    assert add(path)[0] == {"removed earlier": 10}
    assert add(path, restore=True)[0] == {"new": 10, "faces": 10}
    assert_as_fresh(path, lib)


def test_everything_is_in_a_count(path, lib):
    (lib / "notes.txt").write_text("x")
    (lib / "Ann" / "@eaDir" / "0.png").mkdir(parents=True)
    save_photograph(lib / "Ann" / "@eaDir" / "0.png" / "thumb.png", 1)
    (lib / "Bob" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    os.symlink("..", str(lib / "Bob" / "loop"))
    counts, _, notes = add(path)
    assert counts == {"new": 1, "no whole image": 1, "unchanged": 10}
    assert "@eaDir" in notes and "notes.txt" in notes
    with Gallery.open(path) as gallery:
        left_out = {os.path.relpath(place, str(lib)): count
                    for place, _, count in gallery.left_out()}
    assert left_out == {"notes.txt": 1, "Ann/@eaDir": 1, "Bob/broken.jpg": 1, "Bob/loop": 1}
    assert add(path)[0] == {"unchanged": 11}
    assert_as_fresh(path, lib)


def test_one_photograph_in_two_peoples_folders_is_said(path, lib):
    shutil.copy(str(lib / "Ann" / "0.png"), str(lib / "Bob" / "copy.png"))
    notes = add(path)[2]
    assert "Ann" in notes and "Bob" in notes and "copy.png" in notes
    assert "copy.png" not in add(path)[2]


def test_copies_under_another_name_do_not_shut_everybody_out(lib, tmp_path):
    shutil.copytree(str(lib / "Ann"), str(lib / "Ann (2)"))
    index_folders(tmp_path / "g", lib)
    with Gallery.open(tmp_path / "g") as gallery:
        assert Judge(gallery, 0.05).threshold is not None
        assert gallery.calibration.accepted[0] == 0


@pytest.mark.parametrize("folders", [[""], ["missing"], ["empty"]])
def test_folders_without_photographs_change_nothing(path, tmp_path, folders):
    (tmp_path / "empty").mkdir()
    version = Gallery.open(path).version
    with pytest.raises(UserError):
        indexing.add(path, [folder and str(tmp_path / folder) for folder in folders])
    assert Gallery.open(path).version == version


# A random sequence of changes of files, then `add`: as an index that is made anew.

PLACES = ["Ann/a", "Ann/b", "Bob/a", "Bob/2019/a", "Cid/a", "a", "b", "@eaDir/a", "Ann/c d"]
PLACE = st.integers(0, len(PLACES) - 1)
OPERATION = st.one_of(
    st.tuples(st.just("create"), PLACE, st.integers(0, 5)),
    st.tuples(st.sampled_from(["move", "copy", "swap"]), PLACE, PLACE),
    st.tuples(st.sampled_from(["delete", "touch", "damage", "add", "relabel"]), PLACE, PLACE))


class Library:
    """A folder of photographs, its list of people, and a gallery of it."""

    def __init__(self, root, with_list):
        shutil.rmtree(str(root), ignore_errors=True)
        self.root, self.gallery, self.with_list = root, root / "g", with_list
        self.labels = {}
        self.clock = 10 ** 18
        save_photograph(root / "lib" / "always.png", 99)
        self._write_list()
        index_folders(self.gallery, root / "lib", people=self.people)

    @property
    def people(self):
        return str(self.root / "people.csv") if self.with_list else "folders"

    def _write_list(self):
        (self.root / "people.csv").write_text("file,identity\n" + "".join(
            f"{place}.png,{name}\n" for place, name in self.labels.items()))

    def place(self, number):
        path = self.root / "lib" / (PLACES[number] + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def tick(self, path):
        """Gives a file a time that it has not had, as a clock does."""
        self.clock += 10 ** 9
        os.utime(str(path), ns=(self.clock, self.clock))

    def do(self, kind, first, second):
        here = self.place(first)
        if kind == "create":
            self.tick(save_photograph(here, second))
        elif kind == "relabel":
            self.labels[PLACES[first]] = f"person {second}"
            self._write_list()
        elif kind == "add":
            indexing.add(self.gallery)
        elif here.exists():
            there = self.place(second)
            if kind == "move" and here != there:
                os.replace(str(here), str(there))
            elif kind == "copy" and here != there:
                shutil.copy2(str(here), str(there))
                self.tick(there)
            elif kind == "swap" and there.exists() and here != there:
                aside = here.with_name("aside")
                os.replace(str(here), str(aside))
                os.replace(str(there), str(here))
                os.replace(str(aside), str(there))
            elif kind == "delete":
                here.unlink()
            elif kind == "touch":
                self.tick(here)
            elif kind == "damage":
                here.write_bytes(b"\xff\xd8 no image")
                self.tick(here)

    def check(self):
        indexing.add(self.gallery)
        index_folders(self.root / "fresh", self.root / "lib", people=self.people)
        assert contents(self.gallery) == contents(self.root / "fresh")


def check_random_changes(operations, with_list, root):
    library = Library(root, with_list)
    for operation in operations:
        library.do(*operation)
    library.check()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, max_size=25), st.booleans())
def test_random_changes_then_add_equals_a_fresh_index(tmp_path, operations, with_list):
    check_random_changes(operations, with_list, tmp_path / "random")


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=500, max_size=500), st.booleans())
def test_500_random_changes_then_add_equals_a_fresh_index(tmp_path, operations, with_list):
    check_random_changes(operations, with_list, tmp_path / "random")


@pytest.mark.parametrize("places, noted", [
    (["lfw/lfw/Ann/1.png", "lfw/lfw/Bob/1.png"], True),
    (["Ann/2019/1.png", "Ann/2020/1.png"], True), (["Ann/1.png", "Bob/1.png"], False),
    (["Ann/2019/1.png", "Bob/2019/1.png"], False)])
def test_one_folder_above_all_people_is_noted(tmp_path, places, noted):
    for number, place in enumerate(places):
        save_photograph(tmp_path / "in" / place, number)
    report = index_folders(tmp_path / "g", tmp_path / "in")
    assert any("--images" in note for note in report.notes) == noted
