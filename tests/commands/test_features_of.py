"""Runs that take the features of a trained run: floats, hashing afterwards, class numbers."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import no_figures, tiny_faces, tree, write_pickle
from PIL import Image

import data_loader
import evaluate
import main
import search
from evaluation import floats, metrics, packing, threshold
from evaluation.codes import load_codes
from gallery.indexing import newest_run
from gallery.store import Gallery
from methods import projection as projections
from methods.export import Encoder, export_encoder
from methods.run import load_run, open_run
from methods.table import resolve
from reports import columns
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from runtime.tensorflow import tf

# Eight people, a fold of two of whom is kept out of training.
PEOPLE, SEEN, BITS = 8, 6, 8
SETTINGS = ["--dataset_flag", "tiny", "--data_dir", "data", "--num_bits", str(BITS),
            "--unseen_split", "1"]
METHODS = ("float", "feature_itq", "class_number")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs/: one of dcbh, one of each method that takes its features, one of lsh."""
    path = tmp_path_factory.mktemp("features")
    for name, split in zip(("train", "test"), tiny_faces(PEOPLE)):
        write_pickle(path / "data/tiny" / name / "part1", *split)
    (path / "data/tiny/manifest.json").write_text(json.dumps(dict(
        num_identities=PEOPLE, num_train=5 * PEOPLE, num_test=2 * PEOPLE)))
    (path / "data/tiny/labels.txt").write_text("".join(f"p{n}\n" for n in range(PEOPLE)))
    with pytest.MonkeyPatch.context() as patch, no_figures():
        patch.chdir(path)
        main.main(SETTINGS + ["--run_dir", "runs/dcbh", "--epochs", "4", "--batch_size", "7"])
        for method in METHODS:
            main.main(SETTINGS + ["--run_dir", "runs/" + method, "--method", method,
                                  "--features_of", "runs/dcbh"])
        main.main(SETTINGS + ["--run_dir", "runs/lsh", "--method", "lsh"])
    return path


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """The encoder of runs/feature_itq."""
    path = tmp_path_factory.mktemp("exported") / "encoder"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export_encoder(open_run(RunFolder.open(folder / "runs/feature_itq")), path)
    return path


@pytest.fixture
def runs(folder, monkeypatch):
    """The folder of the runs; the working directory is the one that they were made from."""
    monkeypatch.chdir(folder)
    return folder / "runs"


def results(run):
    return json.loads((run / "results.json").read_text())


def variable(run, name):
    """A variable of a run's best weights."""
    prefix, _ = RunFolder(run).checkpoint("best")
    return tf.train.NewCheckpointReader(prefix).get_tensor(name)


def test_floats_are_the_feature_and_the_descriptor(runs):
    found, of_run = floats.load_floats(runs / "float/floats.npz"), results(runs / "float")
    data = load_run(*resolve(RunFolder(runs / "float").read_settings()))
    assert found.gallery_vectors.shape == (5 * SEEN, 768 + 6 * BITS)
    np.testing.assert_array_equal(found.gallery_labels, data.train.labels)
    np.testing.assert_array_equal(found.query_fingerprints, data.test.fingerprints)
    # block hashing of the second part gives the network's own codes
    codes = load_codes(runs / "dcbh/codes.npz")
    for vectors, signs in ((found.gallery_vectors, codes.gallery_codes),
                           (found.query_vectors, codes.query_codes)):
        blocks = vectors[:, 768:].reshape(-1, BITS, 6)
        powers = np.exp(blocks - blocks.max(axis=2, keepdims=True))
        softmax = powers / powers.sum(axis=2, keepdims=True)
        np.testing.assert_array_equal(np.where(softmax.max(axis=2) >= 0.5, 1, -1), signs)
    # the mAPs of results.json
    expected = floats.evaluate_floats(found).results
    assert {name: of_run[name] for name in expected} == expected
    assert of_run["num_values"] == 768 + 6 * BITS and "num_bits" not in of_run
    for name, part in (("feature", slice(0, 768)), ("descriptor", slice(768, None))):
        vectors = found._replace(gallery_vectors=found.gallery_vectors[:, part],
                                 query_vectors=found.query_vectors[:, part])
        part_results = floats.evaluate_floats(vectors).results
        assert of_run["mAP_" + name] == pytest.approx(part_results["mAP"])
        assert of_run[f"mAP_{name}_euclidean"] == pytest.approx(part_results["mAP_euclidean"])
    unseen = floats.load_floats(runs / "float/unseen_floats.npz")
    assert unseen.gallery_vectors.shape == (5 * (PEOPLE - SEEN), 768 + 6 * BITS)
    assert of_run["unseen_mAP"] == floats.evaluate_floats(unseen).results["mAP"]


def test_hashing_afterwards_fits_the_descriptor(runs):
    found = floats.load_floats(runs / "float/floats.npz")
    projection = projections.fit_itq(found.gallery_vectors[:, 768:], BITS, 0)
    codes = load_codes(runs / "feature_itq/codes.npz")
    np.testing.assert_array_equal(projection.encode(found.query_vectors[:, 768:]),
                                  codes.query_codes)
    of_run, of_network = results(runs / "feature_itq"), results(runs / "dcbh")
    assert of_run["mAP"] == metrics.evaluate_codes(codes).results["mAP"]
    assert of_run["parameters"] == of_network["parameters"] + 6 * BITS * (BITS + 1)
    assert of_run["epoch"] == of_network["epoch"] and of_run["num_bits"] == BITS
    assert of_run["training_seconds"] >= of_run["network_training_seconds"] == of_network[
        "training_seconds"]
    assert (runs / "feature_itq/unseen_codes.npz").exists()
    assert of_run["unseen_num_queries"] == 4


def test_class_numbers_are_the_hash_classifiers(runs):
    codes, of_run = load_codes(runs / "class_number/codes.npz"), results(runs / "class_number")
    assert codes.numbers == 1 and codes.gallery_codes.shape == (5 * SEEN, 3)  # log2 of 6
    blocks = floats.load_floats(runs / "float/floats.npz").query_vectors[:, 768:].reshape(
        -1, BITS, 6)
    powers = np.exp(blocks - blocks.max(axis=2, keepdims=True))
    activations = np.tanh((powers / powers.sum(axis=2, keepdims=True)).max(axis=2) - 0.5)
    logits = activations.dot(variable(runs / "dcbh", "dcbh/hash_classifier/kernel")) + variable(
        runs / "dcbh", "dcbh/hash_classifier/bias")
    numbers = (codes.query_codes > 0).dot([1, 2, 4])
    np.testing.assert_array_equal(numbers, logits.argmax(axis=1))
    expected = metrics.evaluate_codes(codes).results
    assert of_run["mAP"] == expected["mAP"] and of_run["num_bits"] == 3


@pytest.mark.parametrize("method", ["float", "class_number"])
def test_evaluating_again_gives_the_same(runs, method):
    run = runs / method
    first, record = results(run), RunFolder(run).provenance()
    assert record[0]["ended_by"] == "finished" and record[0]["tensorflow"]
    assert RunFolder(run).read_settings()["features_of"] == str(runs / "dcbh")
    (run / "results.json").unlink()
    evaluate.main([str(run)])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Retrievals" in page and "Bit balance" not in page
    again = results(run)
    assert {name: value for name, value in again.items() if not name.endswith("_seconds")} == {
        name: value for name, value in first.items() if not name.endswith("_seconds")}


def test_a_comparison_of_codes_and_floats(runs, capsys):
    evaluate.main([str(runs / name) for name in ("dcbh",) + METHODS] + ["--out", "comparison"])
    found = json.loads((runs.parent / "comparison/comparison.json").read_text())
    assert found[str(runs / "float")]["mAP_euclidean"] == results(runs / "float")["mAP_euclidean"]
    assert found[str(runs / "class_number")]["num_bits"] == 3
    assert columns.column("mAP_euclidean").short in capsys.readouterr().out
    assert "do not compare" not in (runs.parent / "comparison/report.html").read_text()


@pytest.mark.parametrize("changes, names", [
    ({"--features_of": None}, ["--features_of"]),
    ({"--features_of": "runs/none"}, ["runs/none", "--features_of"]),
    ({"--features_of": "runs/lsh"}, ["runs/lsh", "lsh"]),
    ({"--features_of": "runs/float"}, ["runs/float", "float"]),
    ({"--num_bits": "12"}, ["runs/dcbh", "num_bits 8, not 12"]),
    ({"--unseen_split": "2"}, ["runs/dcbh", "unseen_split 1, not 2"]),
    ({"--dataset_flag": "2"}, ["runs/dcbh", "tiny", "orl"]),
    ({"--method": "lsh"}, ["features_of", "lsh"]),
    ({"--method": "dcbh"}, ["features_of", "dcbh"]),
])
def test_runs_that_do_not_fit_are_refused(runs, changes, names):
    options = dict(zip(SETTINGS[::2], SETTINGS[1::2]))
    options.update({"--method": "feature_itq", "--features_of": "runs/dcbh", "--run_dir": "new"})
    options.update(changes)
    with pytest.raises(UserError) as error:
        main.main([part for pair in options.items() if pair[1] for part in pair])
    for name in names:
        assert name in str(error.value)
    assert not (runs.parent / "new").exists()


def test_unfinished_and_other_data(runs, tmp_path):
    shutil.copytree(runs / "dcbh", tmp_path / "run")
    path = tmp_path / "run/provenance.json"
    entries = json.loads(path.read_text())
    for change, word in ((dict(ended_by="stopped by SIGTERM"), "--resume"),
                         (dict(data="0" * 16), "other data")):
        path.write_text(json.dumps([dict(entries[0], **change)]))
        with pytest.raises(UserError, match="run.*" + word):
            main.main(SETTINGS + ["--method", "float", "--features_of", str(tmp_path / "run")])


def test_a_network_that_has_moved(runs, tmp_path):
    shutil.copytree(runs / "dcbh", tmp_path / "moved")
    shutil.copytree(runs / "float", tmp_path / "run")
    values = dict(RunFolder(tmp_path / "run").read_settings(), features_of="/gone")
    (tmp_path / "run/config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="/gone.*--features_of"):
        evaluate.main([str(tmp_path / "run")])
    main.main(["--resume", "--run_dir", str(tmp_path / "run"),
               "--features_of", str(tmp_path / "moved")])
    assert results(tmp_path / "run")["mAP"] == results(runs / "float")["mAP"]


def test_another_network_in_its_place(runs, tmp_path):
    """A run keeps the network it was made of, also where another one fits as well."""
    path = tmp_path / "other/provenance.json"
    shutil.copytree(runs / "dcbh", path.parent)
    path.write_text(json.dumps([dict(entry, start="2020-01-01T00:00:00")
                                for entry in json.loads(path.read_text())]))
    shutil.copytree(runs / "float", tmp_path / "run")
    before = (tmp_path / "run/results.json").read_bytes()
    with pytest.raises(UserError, match="other.*another network"):
        main.main(["--resume", "--run_dir", str(tmp_path / "run"),
                   "--features_of", str(path.parent)])
    assert (tmp_path / "run/results.json").read_bytes() == before
    assert RunFolder(tmp_path / "run").read_settings()["features_of"] == str(
        (runs / "dcbh").resolve())


@pytest.mark.parametrize("method, damaged", [
    ("feature_itq", "runs/dcbh/provenance.json"), ("dcbh", "runs/dcbh/checkpoints/index.json")])
def test_an_export_that_fails_leaves_the_old_one(runs, exported, tmp_path, method, damaged):
    export = tmp_path / "encoder"
    shutil.copytree(exported, export)
    before = tree(export)
    path = runs.parent / damaged
    content = path.read_bytes()
    path.write_bytes(b"{")
    try:
        with pytest.raises(UserError):
            export_encoder(open_run(RunFolder.open(runs / method)), export)
    finally:
        path.write_bytes(content)
    assert tree(export) == before
    with Encoder.open(export) as encoder:
        assert encoder.metadata["method"] == "feature_itq"


@pytest.mark.parametrize("method", ("dcbh", "feature_itq"))
def test_descriptors_decide_in_a_gallery(runs, tmp_path, capsys, method):
    """Of the run's own images; a person is then merged, which takes the probes with it."""
    path = str(tmp_path / "gallery")
    search.main(["index", str(runs / method), "--gallery", "--out", path])
    expected = floats.load_floats(runs / "float/floats.npz")
    data = load_run(*resolve(RunFolder(runs / "dcbh").read_settings()))
    image = data_loader.displayable(data.train, np.arange(5 * SEEN))[3]
    Image.fromarray(image).save(str(tmp_path / "face.png"))
    with Gallery.open(path) as gallery:
        gallery.check()
        np.testing.assert_allclose(gallery.vectors(), floats.unit_vectors(
            expected.gallery_vectors[:, 768:]), atol=1e-3)
        assert gallery.vector_calibration.source == threshold.UNSEEN
        assert gallery.vector_calibration.probes == 7 * (PEOPLE - SEEN)
        cosines = 1 - gallery.vectors().dot(gallery.vectors()[3])
        codes = packing.distances(gallery.codes, gallery.codes[3])

    def query(*options):
        capsys.readouterr()
        search.main(["query", path, str(tmp_path / "face.png"), "--top", "4", "--json", "-",
                     *options])
        return json.loads(capsys.readouterr().out)

    found = query("--threshold", "0.5")
    neighbours = found["queries"][0]["neighbours"]
    assert found["decided_by"] == "descriptors"
    np.testing.assert_allclose([item["cosine_distance"] for item in neighbours],
                               np.sort(cosines)[:4], atol=1e-3)
    np.testing.assert_allclose([cosines[item["id"]] for item in neighbours], np.sort(cosines)[:4],
                               atol=1e-3)
    assert [item["distance"] for item in neighbours] == [
        codes[item["id"]] for item in neighbours]
    alone = query("--codes_alone")
    assert alone["decided_by"] == "codes"
    assert {item["cosine_distance"] for item in alone["queries"][0]["neighbours"]} == {None}
    with pytest.raises(UserError, match="codes_alone"):
        query("--threshold", "20")
    search.main(["rename", path, "p0", "p1"])
    with Gallery.open(path) as gallery:
        merged = gallery.vector_calibration
    search.main(["undo", path])
    with Gallery.open(path) as gallery:
        assert merged.known == gallery.vector_calibration.known == 2 * SEEN
        assert len(gallery.names) == SEEN
    search.main(["remove", path, "--id", *map(str, range(5 * SEEN))])
    with Gallery.open(path) as gallery:
        assert len(gallery) == 0 and gallery.vector_calibration is None


def test_indexing_again_keeps_names(runs, tmp_path):
    for number in range(3):
        pixels = np.random.RandomState(number).randint(0, 256, (32, 32, 3)).astype(np.uint8)
        (tmp_path / "photographs").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(str(tmp_path / f"photographs/{number}.png"))
    words = ["index", str(runs / "dcbh"), "--images", str(tmp_path / "photographs"), "--out",
             str(tmp_path / "gallery")]
    search.main(words)
    search.main(["name", str(tmp_path / "gallery"), "--id", "1", "Ann"])
    (tmp_path / "gallery/encoder/encoder.json").write_text("damaged")
    os.remove(str(tmp_path / "photographs/2.png"))
    search.main(words)
    with Gallery.open(tmp_path / "gallery") as gallery:
        gallery.check()
        assert [gallery.name(row) for row in range(len(gallery))] == [None, "Ann"]
    for more in (["--people", "none"], ["--gallery"]):
        with pytest.raises(UserError):
            search.main(words + more)
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert [gallery.name(row) for row in range(len(gallery))] == [None, "Ann"]


def test_export(runs, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "encoder")
    data = load_run(*resolve(RunFolder(runs / "feature_itq").read_settings()))
    images = data_loader.displayable(data.train, np.arange(5 * SEEN))
    expected = load_codes(runs / "feature_itq/codes.npz").gallery_codes
    with Encoder.open(tmp_path / "encoder") as encoder:
        np.testing.assert_array_equal(encoder.encode(images), expected)
        assert encoder.metadata["method"] == "feature_itq"
    with tf.Session(graph=tf.Graph()) as session:
        loaded = tf.saved_model.load(session, ["serve"], str(tmp_path / "encoder/saved_model"))
        signature = loaded.signature_def["serving_default"]
        served = session.run(signature.outputs["codes"].name,
                             {signature.inputs["images"].name: images})
    np.testing.assert_array_equal(served, expected)
    metadata = json.loads((tmp_path / "encoder/encoder.json").read_text())
    for damaged in (None, 5, {"method": "no_such_method"}):
        (tmp_path / "encoder/encoder.json").write_text(json.dumps(
            dict(metadata, network_settings=damaged)))
        with pytest.raises(UserError):
            Encoder.open(tmp_path / "encoder")
    for method in ("float", "class_number"):
        with pytest.raises(UserError, match=f"{method}.*runs/dcbh"):
            export_encoder(open_run(RunFolder.open(runs / method)), tmp_path / method)
        assert not (tmp_path / method).exists()
    os.utime(runs / "float/results.json")  # the newest, but nothing to search
    assert os.path.basename(newest_run(str(runs))) not in ("float", "class_number")
