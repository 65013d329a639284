"""Codewords of people, and the step at which the hash classifier restarts from them."""

import itertools

import numpy as np
import pytest
from training_runs import (
    Silent,
    small_config,
    small_graph,
    small_graph_variables,
    small_set,
    trained_weights,
)

from config import Config
from runtime.tensorflow import make_session
from training import recipe
from training.graph import run_network
from training.loop import Progress, Trainer
from training.recipe import choose_codewords, class_means


def distances(words):
    """Hamming distances of all pairs of codewords: a list."""
    return [int(np.sum(first != second)) for first, second in itertools.combinations(words, 2)]


def objective(words, z, person):
    """What choose_codewords raises for one person, bit by bit and person by person."""
    num_bits = words.shape[1]
    value = sum(z[person, bit] * words[person, bit] for bit in range(num_bits)) / num_bits
    for other in range(len(words)):
        if other != person:
            distance = sum(words[person, bit] != words[other, bit] for bit in range(num_bits))
            value -= 0.3 * np.exp(-12 * distance / num_bits)
    return value


def test_class_means_by_hand():
    means = class_means(np.array([[1, 2], [3, 4], [5, 9]], np.float32), np.array([2, 0, 2]), 4)
    # Of class 1 and 3 there are no images: the mean of all three.
    np.testing.assert_allclose(means, [[3, 4], [3, 5], [3, 5.5], [3, 5]])


def test_codes_that_are_far_apart_stay_what_the_means_say():
    """Medians 0.1 and 0.2; nobody else is near, so that no flip helps."""
    signs = np.repeat(np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]), 12, axis=1)
    words = choose_codewords(0.02 * signs + np.repeat([[0.1, 0.2]], 12, axis=1))
    assert words.dtype == np.int8
    np.testing.assert_array_equal(words, signs)


def test_people_with_the_same_means_get_different_codewords():
    """On all 16 codes of 4 bits: 16 people, no two alike."""
    words = choose_codewords(np.zeros((16, 4)))
    assert min(distances(words)) >= 1 and len({tuple(word) for word in words}) == 16


def test_codewords_are_further_apart_than_the_signs_and_still_near_them():
    rng = np.random.RandomState(0)
    # Six people each around eight places: their signs hardly differ.
    means = np.repeat(rng.normal(0, 1, (8, 16)), 6, axis=0) + rng.normal(0, 0.3, (48, 16))
    signs = np.where(means >= np.median(means, axis=0), 1, -1)
    words = choose_codewords(means)
    assert min(distances(signs)) == 0 and min(distances(words)) >= 3
    assert np.mean(words == signs) > 0.8
    assert 0.4 < np.mean(words > 0) < 0.6


def test_no_flip_of_one_bit_would_be_better():
    """Against the objective, counted by loops."""
    means = np.random.RandomState(1).normal(0.3, 0.1, (9, 5))
    z = means - np.median(means, axis=0)
    z = np.clip(0.5 * z / np.mean(np.abs(z), axis=0), -1, 1)
    words = choose_codewords(means)
    for person, bit in itertools.product(range(9), range(5)):
        flipped = words.copy()
        flipped[person, bit] *= -1
        assert objective(flipped, z, person) <= objective(words, z, person) + 1e-9


def test_codewords_do_not_depend_on_the_unit_of_the_activations():
    means = np.random.RandomState(2).normal(0, 1, (20, 12))
    np.testing.assert_array_equal(choose_codewords(means), choose_codewords(0.01 * means - 0.3))


@pytest.mark.parametrize("share, total, step", [
    (0.0, 10, None), (0.35, 20, 13), (0.5, 3, 1), (1.0, 10, 0), (0.001, 10, 9)])
def test_restart_steps(share, total, step):
    assert recipe.restart_step(Config(codeword_share=share), total) == step


# The restart in a training


def tiny_config(**settings):
    """4 epochs of 3 steps, of 11 images in batches of 4; the restart comes before the seventh."""
    return small_config(**dict(dict(epochs=4, batch_size=4, evaluate_every=4, codeword_share=0.5),
                               **settings))


class Watching(Silent):
    """A recorder that notes what there is whenever the hash classifier has restarted.

    Attributes:
        noted: list of (Progress, hash activations of all images, variables by name).
    """

    def __init__(self):
        super().__init__()
        self.noted, self.trainer = [], None

    def say(self, text):
        if "codewords" in text:
            session, network = self.trainer.session, self.trainer.graph.inference
            self.noted.append((
                Progress.from_dict(self.trainer.progress.to_dict()),
                run_network(session, network, network.hash_activations, self.trainer.data.images,
                            256),
                session.run(small_graph_variables())))


def watched_training(session, progress=None, **settings):
    """Trains a tiny_config; returns (what Watching notes, best epochs at the evaluations)."""
    recorder = Watching()
    trainer = recorder.trainer = Trainer(
        tiny_config(**settings), small_set(11), small_graph(), session, recorder)
    trainer.start()
    trainer.progress = progress or trainer.progress
    return recorder.noted, [found.best_epoch for found in trainer.train()]


@pytest.fixture
def session():
    with make_session(small_graph().graph) as session:
        yield session


def test_the_hash_classifier_restarts_once_from_codewords(session):
    (progress, activations, variables), = watched_training(session)[0]
    assert (progress.epoch, progress.step) == (2, 0)
    words = choose_codewords(class_means(activations, small_set(11).labels, 3))
    kernel = variables["ddh/hash_classifier/kernel"]
    np.testing.assert_allclose(kernel, 1.4 * words.T, rtol=1e-6)  # 2.8 / sqrt(4)
    assert not variables["ddh/hash_classifier/bias"].any()
    moments = [value for name, value in variables.items()
               if "/hash_classifier/" in name and "Adam" in name]
    assert len(moments) == 4 and not any(moment.any() for moment in moments)
    after = session.run(small_graph_variables())["ddh/hash_classifier/kernel"]
    assert np.any(after != kernel) and np.all(np.sign(after) == np.sign(kernel))


def test_the_best_epoch_is_one_after_the_restart(monkeypatch, session):
    """Losses before it, however low, do not count; training never goes back to such weights."""
    monkeypatch.setattr(recipe, "CODEWORD_NORM", 500.0)  # losses are then higher than before
    noted, best = watched_training(session, epochs=6, evaluate_every=2, weights="best")
    assert len(noted) == 1 and best[0] <= 2 and all(epoch > 3 for epoch in best[1:])


def test_a_run_that_is_resumed_past_the_step_restarts_at_once(session):
    """4 epochs done of a total that is then 5: the restart would have been in the third."""
    noted, _ = watched_training(session, Progress(epoch=4), epochs=5)
    assert [(progress.epoch, progress.step) for progress, _, _ in noted] == [(4, 0)]


def test_an_interrupted_run_restarts_once(tmp_path):
    """Stopped in an epoch, a step before the restart, right before it, and after its step."""
    config, data = tiny_config(), small_set(11)
    whole, _ = trained_weights(config, data, tmp_path / "whole")
    resumed, progress = trained_weights(config, data, tmp_path / "resumed", (4, 15, 3, 4))
    assert progress.restart_epoch == 3
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value)
