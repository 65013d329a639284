"""Projections of pixels: on data whose right answer is known."""

import numpy as np
import pytest
from conftest import assert_refused, run_script
from scipy.stats import ortho_group

from evaluation import metrics
from evaluation.codes import checked_codes
from methods import projection as projections
from methods.table import METHODS
from runtime.errors import UserError


def test_lsh_preserves_angles_in_expectation():
    rng = np.random.RandomState(0)
    images = rng.standard_normal((40, 6)) + 3
    codes = projections.fit_lsh(images, 20000, seed=1).encode(images)
    centered = images - images.mean(axis=0)
    cosines = centered.dot(centered.T) / np.outer(*[np.linalg.norm(centered, axis=1)] * 2)
    angles = np.arccos(np.clip(cosines, -1, 1))
    differing = (20000 - codes.astype(int).dot(codes.T)) / 2 / 20000
    # standard deviation of a share of 20,000 independent bits: at most 0.0036
    np.testing.assert_allclose(differing, angles / np.pi, atol=0.018)


def test_lsh_depends_on_the_seed():
    images = np.random.RandomState(0).standard_normal((5, 2, 2, 3))
    first, again, other = [projections.fit_lsh(images, 7, seed).columns for seed in (1, 1, 2)]
    assert np.array_equal(first, again) and not np.allclose(first, other)


@pytest.mark.parametrize("count", [8, 40], ids=["fewer images than pixels", "more"])
def test_pcah_takes_the_leading_components_in_order(count):
    # independent directions of falling variance, rotated
    rng = np.random.RandomState(2)
    rotation = ortho_group.rvs(12, random_state=rng)
    scores = np.linalg.qr(rng.standard_normal((count, 7)))[0]
    scores -= scores.mean(axis=0)
    images = (scores * [64, 32, 16, 8, 4, 2, 1]).dot(rotation[:7]) + 5
    projection = projections.fit_pcah(images, 3, seed=0)
    _, singular, rows = np.linalg.svd(images - images.mean(axis=0))
    np.testing.assert_allclose(np.abs(projection.columns.T.dot(rows[:3].T)), np.eye(3), atol=1e-6)
    projected = (images - projection.mean).dot(projection.columns)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=0), singular[:3], rtol=1e-9)
    assert np.array_equal(projection.encode(images), np.where(projected >= 0, 1, -1))


def test_itq_recovers_rotated_clusters():
    # Clusters at all corners of a 3-dimensional cube, rotated into 10 dimensions. The code of a
    # cluster's points shall be one corner; PCA alone finds the cube's space but not its axes.
    rng = np.random.RandomState(3)
    corners = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    cluster = np.repeat(np.arange(8), 50)
    points = corners[cluster] + rng.normal(0, 0.15, (400, 3))
    images = points.dot(ortho_group.rvs(10, random_state=rng)[:3]) + 2

    def distinct_and_pure(method):
        codes = METHODS[method].fit(images, 3, seed=0).encode(images)
        own = [np.unique(codes[cluster == one], axis=0) for one in range(8)]
        return len(np.unique(codes, axis=0)) == 8 and all(len(rows) == 1 for rows in own)

    assert distinct_and_pure("itq")
    assert not distinct_and_pure("pcah")


def test_itq_lowers_the_quantization_error_of_a_random_rotation():
    rng = np.random.RandomState(4)
    images = rng.standard_normal((200, 15)) * np.linspace(3, 1, 15)

    def error(columns):
        projected = (images - images.mean(axis=0)).dot(columns)
        return np.sum((np.sign(projected) - projected) ** 2)

    principal, itq = [METHODS[method].fit(images, 6, seed=0).columns
                      for method in ("pcah", "itq")]
    turned = principal.dot(np.linalg.qr(np.random.RandomState(0).standard_normal((6, 6)))[0])
    assert error(itq) < 0.98 * error(turned)
    rotation = principal.T.dot(itq)  # it is nothing but a rotation of the components
    np.testing.assert_allclose(rotation.T.dot(rotation), np.eye(6), atol=1e-9)


def test_more_bits_than_components_are_refused():
    with pytest.raises(UserError, match="num_bits is 5.*5 training images.* 4:"):
        projections.fit_pcah(np.zeros((5, 9)), 5, seed=0)


def test_a_run_of_a_baseline(faces_dir):
    words = ("--dataset_flag", 1, "--data_dir", "data", "--method", "itq", "--num_bits", 8)
    assert_refused(run_script("main.py", *words[:-1], 30, cwd=faces_dir), "num_bits", 29)
    assert not (faces_dir / "runs").exists()
    process = run_script("main.py", *words, cwd=faces_dir)
    assert process.returncode == 0 and process.stderr == "", process.stderr
    run_dir = faces_dir / "runs/facescrub_itq_8bits_seed0"
    with np.load(run_dir / "codes.npz") as arrays:
        codes = dict(arrays)
    assert codes["gallery_codes"].shape == (30, 8) and codes["query_codes"].shape == (12, 8)
    evaluation = metrics.evaluate_codes(checked_codes(**codes))
    assert evaluation.results["mAP"] > 0.9  # noisy copies of six patterns
    again = run_script("evaluate.py", run_dir, cwd=faces_dir)
    assert again.returncode == 0, again.stderr
    assert f"{evaluation.results['mAP']:.4f}" in again.stdout


def test_a_gallery_of_few_faces_gets_random_projections():
    faces = np.random.RandomState(5).standard_normal((13, 20)) + 2
    few = projections.fit_to_gallery(faces[:12], 12)
    np.testing.assert_array_equal(few.columns, projections.fit_lsh(faces[:12], 12, 0).columns)
    enough = projections.fit_to_gallery(faces, 12)
    np.testing.assert_array_equal(enough.columns, projections.fit_itq(faces, 12, 0).columns)
    assert projections.fit_to_gallery(faces[:1], 12).encode(faces).shape == (13, 12)
