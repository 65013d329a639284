"""The methods on face embeddings: runs, their export, and search with photographs.

The data set's embeddings are made up, and photographs are embedded by a stand-in for the network.
"""

import json

import numpy as np
import pytest
from conftest import run_script, tiny_faces, write_pickle
from face_pictures import photo, save
from sklearn.metrics import average_precision_score

import evaluate
import main
from config import PIXEL_SETTINGS, find_dataset
from evaluation import packing
from evaluation.codes import load_codes
from evaluation.floats import load_floats
from experiments.grid import make_cells
from faces import cropping, embedding
from faces.describe import describe
from faces.embedding import embeddings_file
from gallery import indexing, questions
from methods.run import load_run
from methods.table import METHODS, resolve
from runtime.errors import UserError

pytestmark = pytest.mark.usefixtures("without_figures")
DESCRIPTION = {"network_sha256": embedding.WEIGHTS_SHA256}


def embedding_of(person, noise):
    """Float32 [n, 128] around the person's own center."""
    centers = np.random.RandomState(7).standard_normal((8, 128))
    return (centers[person] + noise).astype(np.float32)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the prepared data set "tiny": 8 people, 40 training images, 16 queries."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    splits = tiny_faces(8)
    for name, (rows, labels) in zip(("train", "test"), splits):
        write_pickle(folder / name / "part_000.pickle", rows, labels)
        noise = np.random.RandomState(len(labels)).normal(0, 2.5, (len(labels), 128))
        np.save(embeddings_file(folder / name), embedding_of(labels, noise))
    (folder / "labels.txt").write_text("".join(f"p{person}\n" for person in range(8)))
    (folder / "manifest.json").write_text(json.dumps(dict(
        num_identities=8, num_train=40, num_test=16, crop=cropping.box_crop(32),
        embedding=DESCRIPTION)))
    return folder.parent


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """A finished run of each method, made by main.py: its folder by method."""
    folders = {}
    for method in ("embedding", "embedding_itq", "embedding_dcbh"):
        folders[method] = tmp_path_factory.mktemp("runs") / method
        words = ["--dataset_flag", "tiny", "--data_dir", str(data_dir), "--method", method,
                 "--num_bits", "12", "--epochs", "4", "--run_dir", str(folders[method])]
        if METHODS[method].trains:  # a process of its own, which gives the folder's lock back
            process = run_script("main.py", *words, cwd=data_dir)
            assert process.returncode == 0, process.stderr
        else:
            main.main(words)
    return folders


def run_data(data_dir, method="embedding", **settings):
    return load_run(*resolve(dict(
        dataset_flag="tiny", data_dir=str(data_dir), method=method, **settings)))


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_floats_are_the_embeddings_ranked_by_cosine(data_dir, runs):
    data = run_data(data_dir)
    floats = load_floats(runs["embedding"] / "floats.npz")
    np.testing.assert_array_equal(floats.gallery_vectors, data.train.embeddings)
    np.testing.assert_array_equal(floats.query_vectors, data.test.embeddings)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            for vectors in (data.train.embeddings, data.test.embeddings)]
    expected = np.mean([
        average_precision_score(data.train.labels == label, unit[0].dot(query))
        for query, label in zip(unit[1], data.test.labels)])
    assert results(runs["embedding"])["mAP"] == pytest.approx(expected, abs=1e-6)
    assert 0.3 < expected < 1
    with pytest.raises(UserError, match="embedding"):  # there are no codes to search
        evaluate.main([str(runs["embedding"]), "--export", str(runs["embedding"]) + ".export"])


@pytest.mark.parametrize("method", ["embedding_itq", "embedding_dcbh"])
def test_codes_are_made_of_the_embeddings_again(data_dir, runs, method, tmp_path):
    from methods.export import Encoder

    data, folder = run_data(data_dir), runs[method]
    codes = load_codes(folder / "codes.npz")
    assert codes.gallery_codes.shape == (40, 12)
    before = results(folder)
    evaluate.main([str(folder)])
    assert results(folder)["mAP"] == before["mAP"] > 0.15
    evaluate.main([str(folder), "--export", str(tmp_path / "encoder")])
    with Encoder.open(tmp_path / "encoder") as encoder:
        assert encoder.metadata["embedding"] == DESCRIPTION
        np.testing.assert_array_equal(encoder.encode(data.train.embeddings), codes.gallery_codes)
        np.testing.assert_array_equal(encoder.encode(data.test.embeddings), codes.query_codes)
        assert encoder.encode(data.test.embeddings[:0]).shape == (0, 12)
        with pytest.raises(ValueError, match="float32"):
            encoder.encode(np.zeros((2, 32, 32, 3), np.uint8))


def test_a_network_on_embeddings_resumes(runs):
    folder = runs["embedding_dcbh"]
    main.main(["--resume", "--run_dir", str(folder), "--epochs", "6"])
    assert results(folder)["trained_epochs"] == 6


class StandIn:
    """Embeds every face as that of person 3."""

    def embed_chips(self, chips):
        return embedding_of(np.full(len(chips), 3), 0)


def test_photographs_are_embedded_when_they_are_searched(runs, monkeypatch, tmp_path):
    from gallery.answers import Judge
    from gallery.engines import open_index
    from gallery.questions import query_photographs
    from gallery.store import Gallery

    run = runs["embedding_itq"]
    picture = save(photo(1, (60, 60)), tmp_path / "photos" / "somebody" / "1.png")
    monkeypatch.setattr(questions.embedding, "shared_embedder", StandIn)
    report = indexing.index(run, tmp_path / "gallery", [str(tmp_path / "photos")],
                            own_images=True)
    gallery = Gallery.open(tmp_path / "gallery")
    assert report.counts["faces"] == 41 == len(gallery)  # the photograph's, beside the run's own
    with gallery.open_encoder() as encoder:
        code, = packing.pack(encoder.encode(embedding_of(np.array([3]), 0)))
    assert gallery.codes[-1] == code
    for codes_alone in (True, False):
        judge = Judge(gallery, codes_alone=codes_alone)
        found, _ = query_photographs(gallery, open_index(gallery), judge, [str(picture)], top=41)
        nearest = found[0].answer.nearest
        codes = gallery.codes[nearest.rows]
        expected = [bin(int(other) ^ int(code)).count("1") for other in codes]
        assert nearest.bits.tolist() == expected
        distances = nearest.distances.tolist()
        assert distances == sorted(distances) and (distances == expected) == codes_alone
        assert found[0].same == [str(picture)]
    gallery.close()


def test_what_has_no_embeddings_is_refused(data_dir, tmp_path):
    with pytest.raises(UserError, match="prepare.py --embedding"):
        load_run(*resolve(dict(dataset_flag="orl", method="embedding")))
    dataset = find_dataset("tiny", data_dir)
    config, _ = resolve(dict(dataset_flag="tiny", data_dir=str(data_dir), method="embedding_itq"))
    with pytest.raises(UserError, match="prepare it again with --embedding"):
        load_run(config, dataset._replace(embedding=None))
    for name in PIXEL_SETTINGS:
        value = type(getattr(config, name))(1)
        with pytest.raises(UserError, match=f"leave out {name} "):
            resolve(dict(config.to_dict(), method="embedding_dcbh", **{name: value}))
    assert resolve(dict(dataset_flag="tiny", data_dir=str(data_dir), method="embedding_itq",
                        recipe="tuned"))[0].flip  # of no bearing: it trains no network
    cells = make_cells(tmp_path, ["tiny"], ["dcbh", "embedding_dcbh"], [8], [0],
                       dict(data_dir=str(data_dir), flip=True))
    assert [cell.config.flip for cell in cells] == [True, False]
    path, aside = embeddings_file(dataset.train_folder), tmp_path / "aside"
    path.rename(aside)
    try:
        with pytest.raises(UserError, match="train_embeddings.npy"):
            load_run(config, dataset)
        problems = describe(dataset)[0].problems
        assert any("train_embeddings.npy" in problem for problem in problems)
    finally:
        aside.rename(path)


def test_embeddings_follow_their_images_into_folds(data_dir):
    whole = run_data(data_dir)
    pixels = run_data(data_dir, method="itq")
    assert pixels.train.embeddings is None and pixels.digest != whole.digest
    fold = run_data(data_dir, unseen_split=1)
    for split, parts in ((whole.train, (fold.train, fold.unseen[0])),
                         (whole.test, (fold.test, fold.unseen[1]))):
        for part in parts:
            rows = [np.flatnonzero(split.fingerprints == mark)[0] for mark in part.fingerprints]
            np.testing.assert_array_equal(part.embeddings, split.embeddings[rows])
    assert not METHODS["embedding"].is_searchable
