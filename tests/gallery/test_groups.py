"""Groups of faces without a name, and what people say of them: held against naive clustering."""

import itertools
import json
import os
import sqlite3
from urllib.parse import quote

import headless_chromium
import numpy as np
import pytest
from face_pictures import orl_face, save, scene
from served_gallery import Client
from tiny_gallery import colour, write_gallery

import search
from evaluation import packing
from evaluation.floats import unit_vectors
from gallery import groups, indexing, marking, people
from gallery.groups import groups_of, join_clusters, limits, near_pairs, regroup, suggestions
from gallery.store import Gallery, Writer
from runtime.errors import UserError


def vector(angle, noise=0, seed=0):
    """An embedding at an angle (degrees) in a plane; two at angle a lie 1 - cos(a) apart."""
    found = np.zeros(128)
    found[:2] = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return found + noise * np.random.RandomState(seed).standard_normal(128)


def add_faces(path, angles, photographs=None, person=None):
    """Adds faces with embeddings; returns their ids.

    Args:
        angles: see vector; 18 degrees lie 0.049 apart, 23 degrees 0.080, 90 degrees 1.
        photographs: paths, one a face; by default a new photograph each.
    """
    with Writer(path) as writer:
        ids = []
        known = {file.path: file.id for file in writer.read_photographs()}
        for number, angle in enumerate(angles):
            count = len(known)
            name = photographs[number] if photographs else f"/photographs/{count}.jpg"
            if name not in known:
                known[name] = writer.add_photograph(name, bytes([count % 256]) * 32, 10, 20, None,
                                                    False, 1)
            ids.append(writer.add_face(
                known[name], writer.rows("SELECT count(*) FROM faces WHERE photograph = ?",
                                         known[name])[0][0],
                person and writer.named(person), np.uint64(1), np.uint64(2), colour(number),
                (1, 2, 3, 4), vector(angle)))
        regroup(writer)
        writer.commit()
        return ids


@pytest.fixture
def path(tmp_path):
    write_gallery(tmp_path / "gallery", [], vectors="embeddings").close()
    return str(tmp_path / "gallery")


def found(path):
    """({name: ids}, list of the ids of each group without a name), ids as sets."""
    with Gallery.open(path) as gallery:
        gallery.check()
        lots = [(group.name, set(gallery.ids[group.rows].tolist())) for group in groups_of(gallery)]
    return dict(lot for lot in lots if lot[0]), sorted(
        (ids for name, ids in lots if not name), key=min)


def number(path, face):
    """Number of the group that a face is in."""
    with Gallery.open(path) as gallery:
        return int(gallery.groups[gallery.row_of(face)])


def test_like_faces_form_groups(path):
    a, b, c, d, e, f = add_faces(path, [0, 5, 10, 90, 95, 180])
    assert found(path) == ({}, [{a, b, c}, {d, e}, {f}])
    assert [number(path, face) for face in (a, d, f)] == [1, 2, 3]
    g, h, i = add_faces(path, [7, 179, 270])
    assert found(path) == ({}, [{a, b, c, g}, {d, e}, {f, h}, {i}])
    assert [number(path, face) for face in (g, d, h, i)] == [1, 2, 3, 4]


def test_groups_of_a_large_gallery_wait_until_they_are_asked_for(path, monkeypatch, capsys):
    monkeypatch.setattr(groups, "EXACT_FACES", 2)
    a, b, c = add_faces(path, [0, 5, 90])
    assert found(path) == ({}, [])
    with Writer(path):  # somebody else writes
        search.main(["groups", path])
    assert found(path) == ({}, [])
    search.main(["groups", path])
    assert found(path) == ({}, [{a, b}, {c}])
    capsys.readouterr()


def test_nobody_is_twice_in_a_photograph(path):
    a, b, c = add_faces(path, [0, 1, 2], ["/p/a.jpg", "/p/a.jpg", "/p/b.jpg"])
    assert found(path) == ({}, [{a}, {b, c}])
    people.name_faces(path, [a], "Ann")
    for call in (lambda: people.name_faces(path, [b], "Ann"), lambda: people.split(path, [a, b]),
                 lambda: people.name_faces(path, [a, b], "Bob"),
                 lambda: people.merge(path, number(path, b), "Ann")):
        with pytest.raises(UserError):
            call()
    people.name_faces(path, [b], "Bob")
    for call in (lambda: people.rename(path, "Bob", "Ann"),
                 lambda: people.merge(path, "Bob", "Ann")):
        with pytest.raises(UserError):
            call()
    assert found(path) == ({"Ann": {a}, "Bob": {b}}, [{c}])


def test_a_name_for_a_group_goes_to_all_and_to_those_who_come_later(path):
    a, b, c, d = add_faces(path, [0, 5, 10, 90])
    assert people.name_group(path, number(path, a), "Ann").faces == 3
    e, f = add_faces(path, [4, 91])
    assert found(path) == ({"Ann": {a, b, c, e}}, [{d, f}])
    people.name_faces(path, [e], "Bea")  # what somebody says counts more than likeness
    add_faces(path, [180])
    assert found(path)[0] == {"Ann": {a, b, c}, "Bea": {e}}


def test_a_guess_gives_way_to_what_somebody_says(path):
    a, b = add_faces(path, [0, 5])
    people.name_group(path, number(path, a), "Ann")
    c, d = add_faces(path, [3, 40], ["/p/c.jpg", "/p/c.jpg"])
    assert found(path) == ({"Ann": {a, b, c}}, [{d}])
    people.name_faces(path, [d], "Ann")
    assert found(path) == ({"Ann": {a, b, d}}, [{c}])


@pytest.mark.parametrize("is_named", (True, False))
def test_a_rejected_face_stays_rejected(path, is_named):
    out, *rest = add_faces(path, [0, 2, 4, 6])
    if is_named:
        people.name_group(path, number(path, out), "Ann")
    people.reject(path, [out])
    rest = set(rest)
    assert found(path) == (({"Ann": rest}, [{out}]) if is_named else ({}, [{out}, rest]))
    for angles in ([1], [3, 5], [0, 1, 2, 3, 4]):
        add_faces(path, angles)
        named, nameless = found(path)
        assert any(rest <= faces for faces in [*named.values(), *nameless])
        assert not any(out in faces and faces & rest for faces in [*named.values(), *nameless])
    if is_named:
        people.rename(path, "Ann", "Eve")
        add_faces(path, [0])
        assert out not in found(path)[0]["Eve"]


def test_a_rejected_person_is_remembered_without_faces(path):
    a, b = add_faces(path, [0, 2])
    people.name_group(path, number(path, a), "Ann")
    people.reject(path, [a])
    with Writer(path) as writer:
        writer.remove_photographs([writer.read_photographs()[1].id])
        writer.commit()
    assert found(path) == ({}, [{a}])
    with Gallery.open(path) as gallery:
        assert not gallery.names
    c, = add_faces(path, [2], person="Ann")
    add_faces(path, [1])
    assert a not in found(path)[0]["Ann"] and c in found(path)[0]["Ann"]
    people.remove(path, names=["Ann"])
    with Writer(path) as writer:
        assert writer.rows("SELECT count(*) FROM people") == [(0,)]


def test_merge_and_never(path):
    ids = add_faces(path, [0, 1, 22, 23, 90, 91, 180, 181])
    a, b, c, d = ids[::2]
    assert found(path)[1] == [{face, face + 1} for face in (a, b, c, d)]
    with Gallery.open(path) as gallery:
        (first, second, distance), = suggestions(gallery, groups_of(gallery))
    assert {first.number, second.number} == {number(path, a), number(path, b)}
    angles = np.radians([[22, 23], [21, 22]])
    assert distance == pytest.approx(1 - np.cos(angles).mean(), abs=1e-3)
    people.keep_apart(path, number(path, a), number(path, b))
    with Gallery.open(path) as gallery:
        assert not suggestions(gallery, groups_of(gallery))
    add_faces(path, [11, 12])  # between them
    assert not any(faces & {a, a + 1} and faces & {b, b + 1} for faces in found(path)[1])
    kept = number(path, d)
    people.merge(path, f"group {number(path, c)}", kept)
    assert {c, c + 1, d, d + 1} in found(path)[1] and number(path, c) == kept
    people.name_group(path, kept, "Cid")
    people.name_group(path, number(path, a), "Ann")
    assert people.merge(path, "Ann", "Cid").name == "Cid"
    assert a in found(path)[0]["Cid"] and "Ann" not in found(path)[0]
    for who in ("Cid", 999):
        with pytest.raises(UserError):
            people.merge(path, "Cid", who)


def test_a_part_that_is_split_off_stays_together_and_apart(path):
    ids = add_faces(path, [0, 2, 4, 6, 8])
    off, rest = set(ids[:2]), set(ids[2:])
    assert people.split(path, sorted(off)) == number(path, ids[0]) != number(path, ids[2])
    assert found(path) == ({}, [off, rest])
    add_faces(path, [1, 7, 3])
    nameless = found(path)[1]
    assert any(off <= faces for faces in nameless) and any(rest <= faces for faces in nameless)
    assert not any(off & faces and rest & faces for faces in nameless)
    people.name_group(path, number(path, ids[0]), "Ann")
    people.split(path, [ids[1]])
    assert ids[1] not in found(path)[0]["Ann"]


STEPS = [
    lambda path, ids: people.name_faces(path, ids[:2], "Ann"),
    lambda path, ids: people.name_faces(path, ids[:2], "Cid"),
    lambda path, ids: people.name_group(path, number(path, ids[0]), "Bob"),
    lambda path, _: people.rename(path, "Cid", "Dan"),
    lambda path, _: people.rename(path, "Cid", "Eve"),
    lambda path, _: people.merge(path, "Cid", "Eve"),
    lambda path, ids: people.merge(path, number(path, ids[0]), "Eve"),
    lambda path, ids: people.merge(path, number(path, ids[0]), number(path, ids[3])),
    lambda path, ids: people.keep_apart(path, number(path, ids[0]), "Eve"),
    lambda path, ids: people.keep_apart(path, number(path, ids[0]), number(path, ids[3])),
    lambda path, ids: people.split(path, [ids[0], ids[4]]),
    lambda path, ids: people.reject(path, [ids[0], ids[4]]),
    lambda path, ids: people.reject(path, [ids[0]], "Eve"),
]


def state(path):
    """All rows that steps may change."""
    with Writer(path) as writer:
        return {table: writer.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in (
            "people", "labels", "faces", "probes", "groups", "rejected", "apart", "photographs")}


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_every_step_is_undone(path, step):
    ids = add_faces(path, [0, 5, 10, 90, 95])
    with Writer(path) as writer:  # people whose labels and probes move with them
        for name, angle in (("Cid", 200), ("Eve", 250)):
            person = writer.person(name)
            photograph = writer.add_photograph(f"/p/{name}.jpg", name.encode(), 1, 2, name, False,
                                               1)
            writer.add_face(photograph, 0, person, np.uint64(3), np.uint64(4), colour(7),
                            vector=vector(angle))
            writer.add_probe(np.uint64(5), person, vector(angle))
        writer.commit()
    before = state(path)
    STEPS[step](path, ids)
    after = state(path)
    assert after != before
    people.reject(path, [ids[1]])
    people.undo(path)
    assert state(path) == after
    people.undo(path)
    assert state(path) == before
    with pytest.raises(UserError):
        people.undo(path)
    found(path)


def test_following_the_folders_ends_what_can_be_undone(path):
    ids = add_faces(path, [0, 5])
    people.name_group(path, number(path, ids[0]), "Ann")
    add_faces(path, [90])
    with pytest.raises(UserError):
        people.undo(path)


@pytest.mark.parametrize("name, old, new", (
    ("sqlite_schema", "[1]", None), ("faces", "5", "[0]"), ("faces", "[1", None),
    ("people", "[1, 2, 3, 4]", None), ("faces; DROP TABLE faces", None, "[0]")))
def test_steps_that_others_have_written_are_data(path, name, old, new):
    ids = add_faces(path, [0, 5])
    people.name_faces(path, ids, "Ann")
    with sqlite3.connect(f"{path}/gallery.db") as connection:
        connection.execute("INSERT INTO changes (step, name, old, new) VALUES (1, ?, ?, ?)",
                           (name, old, new))
    with pytest.raises(UserError):
        people.undo(path)
    assert found(path) == ({"Ann": set(ids)}, [])


def naive_linkage(vectors, enemies):
    """Average linkage over all pairs: list of sets of rows."""
    clusters = [{row} for row in range(len(vectors))]
    apart = 1 - vectors.dot(vectors.T)
    while True:
        best = None
        for one, other in itertools.combinations(clusters, 2):
            mean = apart[np.ix_(sorted(one), sorted(other))].mean()
            pairs = set(itertools.product(one, other))
            if mean <= limits(np.array(len(one)), np.array(len(other))) and not any(
                    (b, a) in enemies or (a, b) in enemies for a, b in pairs) and (
                    best is None or mean < best[0]):
                best = mean, one, other
        if best is None:
            return clusters
        clusters = [cluster for cluster in clusters if cluster not in best[1:]]
        clusters.append(best[1] | best[2])


@pytest.mark.parametrize("seed", range(6))
def test_join_clusters_equals_naive_average_linkage(seed):
    rng = np.random.RandomState(seed)
    centers = rng.standard_normal((5, 8))
    vectors = unit_vectors(centers[rng.randint(5, size=40)] + 0.3 * rng.standard_normal((40, 8)))
    enemies = {tuple(rng.choice(40, 2, replace=False).tolist()) for _ in range(10 * (seed % 2))}
    pairs = near_pairs(vectors, np.arange(40), np.zeros(40, np.uint64), 64)
    joined = join_clusters(vectors, np.arange(40), pairs, np.zeros(40, bool), enemies)
    mine = {frozenset(np.flatnonzero(joined == cluster).tolist()) for cluster in set(joined)}
    assert mine == set(map(frozenset, naive_linkage(vectors.astype(np.float64), enemies)))
    assert 5 <= len(mine) < 40


def test_large_galleries_are_grouped_by_candidates():
    rng = np.random.RandomState(0)
    centers = rng.standard_normal((60, 128))
    vectors = unit_vectors(np.repeat(centers, 10, axis=0)
                           + 0.15 * rng.standard_normal((600, 128)))
    codes = packing.pack(np.where(vectors[:, :64] > 0, 1, -1))
    rows = np.arange(600)
    exact = near_pairs(vectors, rows, codes, 64)
    assert len(exact) > 600
    np.testing.assert_array_equal(near_pairs(vectors, rows, codes, 64, most_exact=300), exact)


def test_a_gallery_of_version_2_gets_the_tables(path):
    ids = add_faces(path, [0, 5, 90])
    file = f"{path}/gallery.db"
    connection = sqlite3.connect(file)
    connection.executescript(
        "DROP TABLE changes; DROP TABLE steps; DROP TABLE apart; DROP TABLE rejected; "
        "DROP TABLE groups; DROP INDEX faces_of_person; "
        "CREATE INDEX faces_of_person ON faces (person); DROP TABLE probes; "
        "CREATE TABLE probes (code INTEGER NOT NULL, person INTEGER REFERENCES people) STRICT; "
        "CREATE INDEX probes_of_person ON probes (person); INSERT INTO probes VALUES (7, NULL);"
        "DELETE FROM info WHERE name IN ('vectors', 'vector_calibration');"
        "PRAGMA user_version = 2")
    connection.close()
    assert found(path) == ({}, [])
    with Writer(path) as writer:
        regroup(writer)
        writer.commit()
    assert found(path) == ({}, [set(ids[:2]), {ids[2]}])
    with Writer(path) as writer:
        assert writer.rows("SELECT * FROM probes") == [(7, None, None)]
        assert writer.count("steps") == 0
        assert writer.rows("PRAGMA foreign_key_check") == []


def run(*arguments):
    search.main(list(map(str, arguments)))


def test_commands(path, capsys):
    a, b, c, d, e, f = add_faces(path, [0, 5, 10, 90, 95, 26])
    run("groups", path, "--json", "-")
    listed = json.loads(capsys.readouterr().out)
    assert [len(group["faces"]) for group in listed["groups"]] == [3, 2]
    assert len(listed["suggestions"]) == 1
    run("name", path, "--group", 1, "Ann Lee")
    run("reject", path, "--id", b)
    run("reject", path, "--id", f, "Ann Lee")
    run("split", path, "--id", e)
    run("merge", path, number(path, d), number(path, f), "--never")
    assert found(path) == ({"Ann Lee": {a, c}}, [{b}, {d}, {e}, {f}])
    run("merge", path, number(path, d), number(path, e))
    assert found(path)[1] == [{b}, {d, e}, {f}]
    for _ in range(6):
        run("undo", path)
    assert found(path)[1] == [{a, b, c}, {d, e}, {f}]
    for bad in (["undo", path], ["name", path, "--group", 99, "Bob"], ["name", path, "--group", 3],
                ["merge", path, "Bob", 1], ["reject", path], ["split", path, "--id", 99],
                ["groups", path, "--least", 0], ["name", path, "Bob"],
                ["groups", path, "--json", "a.txt"]):
        with pytest.raises(UserError):
            run(*bad)


@pytest.fixture
def album(tmp_path):
    """Photographs of real faces: two people, one person again, and one without a face."""
    folder = tmp_path / "album"
    for name, shown in (("a.jpg", [(1, 1), (2, 1)]), ("b.jpg", [(1, 2)]), ("c.jpg", [])):
        save(scene([(orl_face(person, number), (20 + 200 * place, 60)) for place, (person, number)
                    in enumerate(shown)]), folder / name, quality=95)
    return folder


def edit(path):
    """Changes a photograph's file, not its pixels, as a program does that writes a rating."""
    path.write_bytes(path.read_bytes() + b"rated")


def test_marked_and_named_faces_stay_where_their_photographs_change(tmp_path, album):
    path = tmp_path / "gallery"
    indexing.index_photographs(path, [str(album)], people="none", data_dir=tmp_path)
    with Gallery.open(path) as gallery:
        first = gallery.faces(gallery.ids)
    assert [os.path.basename(face.photograph) for face in first] == ["a.jpg", "a.jpg", "b.jpg"]
    one, two, again = first
    people.name_faces(path, [one.id], "Ann")
    made = marking.mark(path, str(album / "c.jpg"), (30, 40, 120, 150), "Bob")
    twice = marking.mark(path, str(album / "a.jpg"), (300, 200, 360, 280))
    people.reject(path, [again.id], "Ann")
    for names in ((), ("a.jpg", "b.jpg", "c.jpg")):
        for name in names:
            edit(album / name)
        assert indexing.add(path, data_dir=tmp_path).counts["changed"] == len(names)
        with Gallery.open(path) as gallery:
            gallery.check()
            faces = {face.id: face for face in gallery.faces(gallery.ids)}
            assert set(faces) == {one.id, two.id, again.id, made, twice}
            assert faces[one.id].name == "Ann" and faces[made].name == "Bob"
            assert faces[again.id].name is None and faces[made].box == (30, 40, 120, 150)
            assert gallery.left_out() == []
    save(scene([(orl_face(7, 1), (20, 60))]), album / "c.jpg", quality=95)  # another photograph
    indexing.add(path, data_dir=tmp_path)
    with Gallery.open(path) as gallery:
        assert made not in gallery.ids and twice in gallery.ids


def test_a_name_by_likeness_goes_with_the_name_that_it_came_from(tmp_path, album):
    path = tmp_path / "gallery"
    (album / "2019").mkdir()
    os.rename(str(album / "b.jpg"), str(album / "2019" / "b.jpg"))
    report = indexing.index_photographs(path, [str(album)], data_dir=tmp_path)
    assert any("2019" in note and "--people none" in note for note in report.notes)
    with Gallery.open(path) as gallery:
        assert [face.name for face in gallery.faces(gallery.ids)].count("2019") == 2
    again = indexing.add(path, people="none", data_dir=tmp_path)
    assert again.counts["relabelled"] == 1 and not again.notes
    with Gallery.open(path) as gallery:
        assert len(gallery) == 3 and not gallery.names


def test_indexing_anew_loses_nothing_that_somebody_has_said(tmp_path, album):
    path = tmp_path / "gallery"
    indexing.index_photographs(path, [str(album)], people="none", data_dir=tmp_path)
    people.name_faces(path, [0], "Ann")
    for folder, source in ((album, "folders"), (tmp_path, "none")):
        with pytest.raises(UserError):
            indexing.index_photographs(path, [str(folder)], people=source, data_dir=tmp_path)
    for damaged in (False, True):
        if damaged:
            projection, = path.glob("encoder*/projection.npz")
            projection.write_bytes(b"")
        indexing.index_photographs(path, [str(album)], people="none", data_dir=tmp_path)
        with Gallery.open(path) as gallery:
            gallery.check()
            assert gallery.faces([0])[0].name == "Ann"


def test_what_cannot_be_marked(tmp_path, album):
    gallery = tmp_path / "album.gallery"
    indexing.index_photographs(gallery, [str(album)], people="none", data_dir=tmp_path)
    with Gallery.open(gallery) as opened:
        known = opened.faces(opened.ids)[0].box
    for box in ((0, 0, 5, 50), (0, 0, 401, 300), (50, 50, 20, 20), (0, 0, float("nan"), 9), known):
        with pytest.raises(UserError):
            marking.mark(gallery, str(album / "a.jpg"), box)
    for file in ("z.jpg", "."):
        with pytest.raises(UserError):
            marking.mark(gallery, str(album / file), (30, 40, 120, 150))
    edit(album / "b.jpg")
    with pytest.raises(UserError):
        marking.mark(gallery, str(album / "b.jpg"), (200, 40, 290, 150))
    made = marking.mark(gallery, str(album / "c.jpg"), (30, 40, 120, 150))
    people.undo(gallery)
    with Gallery.open(gallery) as opened:
        assert made not in opened.ids and len(opened.left_out()) == 1


def changed(client, **values):
    """(status, answer) of a change that the page asks for."""
    return client.ask("/api/change", "POST", json.dumps(values).encode(),
                      Content_Type="application/json")[::2]


def test_the_pages_requests(path):
    a, b, c, d, e, f = add_faces(path, [0, 4, 8, 90, 95, 27])
    with Client(Gallery.open(path)) as client:
        shown = client.ask("/api/groups")[2]
        assert [(group["size"], group["name"]) for group in shown["groups"]] == [(3, None),
                                                                               (2, None)]
        assert (shown["total"], shown["single"], shown["last_step"]) == (2, 1, None)
        assert len(shown["suggestions"]) == 1
        who = shown["groups"][0]["who"]
        faces = client.ask(f"/api/group?who={quote(who)}&count=2")[2]
        assert (faces["total"], len(faces["faces"]), faces["faces"][0]["id"]) == (3, 2, b)
        assert changed(client, do="name_group", who=who, name="Ann")[0] == 200
        assert changed(client, do="reject", ids=[c])[0] == 200
        assert changed(client, do="rename", old="Ann", new="Bea")[0] == 200
        assert found(path) == ({"Bea": {a, b}}, [{c}, {d, e}, {f}])
        assert client.ask("/api/group?who=Bea")[2]["size"] == 2
        assert changed(client, do="undo")[1]["last_step"] == client.ask(
            "/api/groups")[2]["last_step"]
        for bad in ({}, {"do": "x"}, {"do": "merge"}, {"do": "split", "ids": []}, {"do": ["undo"]},
                    {"do": "split", "ids": [2 ** 70]}, {"do": "split", "ids": [True]},
                    {"do": "split", "ids": "7"}, {"do": "reject", "ids": [999]},
                    {"do": "name", "ids": [a], "name": " "}, {"do": "name_group", "who": "99",
                                                              "name": "Cid"},
                    {"do": "mark", "photograph": 1, "box": [0, 0, 1], "name": ""}):
            status, answer = changed(client, **bad)
            assert status == 400 and answer["error"], bad
        for body in (b"", b"[]", b"[" * 10 ** 5):
            assert client.ask("/api/change", "POST", body,
                              Content_Type="application/json")[0] == 400
        assert changed(client, do="mark", photograph=10 ** 9, box=[0, 0, 1, 1], name="")[0] == 400
        for address in ("/api/group?who=Zoe", "/api/photographs/999", "/api/photographs/1"):
            assert client.ask(address)[0] == 404
        assert client.ask("/api/change")[0] == 405
        assert client.ask("/api/photographs")[2] == {"total": 0, "photographs": []}


@pytest.mark.skipif(headless_chromium.find() is None, reason="Chromium is not installed")
def test_two_groups_are_merged_on_the_page(path):
    a, b, c, d = add_faces(path, [0, 5, 90, 95])
    with Client(Gallery.open(path)) as client, headless_chromium.Browser() as page:
        page.open(f"http://127.0.0.1:{client.port}/")
        page.wait_for("document.querySelectorAll('#groups .face').length === 2")

        def start(number):
            page.run(f"document.querySelectorAll('#groups .face')[{number}].click()")
            page.wait_for("document.getElementById('group').open")
            page.run("document.getElementById('group-merge').click()")
            page.wait_for("!document.getElementById('group').open")

        start(0)
        page.press("Escape")
        start(1)  # a click shows a group again: nothing waits
        page.run("document.querySelectorAll('#groups .face')[0].click()")
        page.wait_for("document.querySelectorAll('#groups .face').length === 1")
        assert page.problems == []
    assert found(path) == ({}, [{a, b, c, d}])


@pytest.mark.skipif(headless_chromium.find() is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", (390, 1280))
def test_the_page(tmp_path, album, width):
    path = tmp_path / "gallery"
    indexing.index_photographs(path, [str(album)], people="none", data_dir=tmp_path)
    with Client(Gallery.open(path)) as client, headless_chromium.Browser() as page:
        page.open(f"http://127.0.0.1:{client.port}/", width=width)
        page.wait_for("document.querySelectorAll('#groups .face').length === 1")
        assert page.run("document.documentElement.scrollWidth") == width
        page.run("document.querySelector('#groups .face').click()")
        page.wait_for("document.getElementById('group').open && "
                      "document.querySelectorAll('#group-faces .face').length === 2")
        page.run("document.getElementById('group-person').value = 'Ann'")
        page.run("document.querySelector('#group-naming button').click()")
        page.wait_for("document.querySelector('#groups .face b').textContent === 'Ann'")
        page.run("document.querySelector('#groups .face').click()")
        page.wait_for("document.getElementById('group').open && "
                      "document.querySelectorAll('#group-faces .face').length === 2")
        page.run("document.querySelectorAll('#group-faces .face')[1].click()")
        page.run("document.getElementById('group-reject').click()")
        page.wait_for("document.querySelectorAll('#group-faces .face').length === 1")
        page.wait_for("document.querySelector('#groups .file').textContent.startsWith('1')")
        page.run("document.getElementById('group-close').click()")
        page.run("document.getElementById('undo').click()")
        page.wait_for("document.querySelector('#groups .file').textContent.startsWith('2')")
        # A box is drawn on the photograph without a face.
        page.run("document.getElementById('without').open = true")
        page.run("document.querySelector('#without-list button').click()")
        page.wait_for("document.getElementById('face-image').naturalWidth === 400")
        left, top, side = json.loads(page.run(
            "(({left, top, width}) => JSON.stringify([left, top, width]))"
            "(document.getElementById('face-image').getBoundingClientRect())"))
        for kind, x, y in (("mousePressed", 0.1, 0.1), ("mouseMoved", 0.2, 0.2),
                           ("mouseMoved", 0.3, 0.4), ("mouseReleased", 0.3, 0.4)):
            page.call("Input.dispatchMouseEvent", type=kind, x=left + x * side, y=top + y * side,
                      button="left", buttons=1, clickCount=1)
        page.run("document.getElementById('face-person').value = 'Bob'")
        page.run("document.getElementById('face-save').click()")
        page.wait_for("[...document.querySelectorAll('#groups .face b')].some("
                      "(name) => name.textContent === 'Bob')")
        assert page.problems == []
    with Gallery.open(path) as gallery:
        face, = (face for face in gallery.faces(gallery.ids) if face.name == "Bob")
        assert face.box == pytest.approx((40, 40, 120, 160), abs=3)
