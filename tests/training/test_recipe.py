"""What the tuned recipe changes: augmentation, learning rate, the hash classifier's temperature."""

import dataclasses

import numpy as np
import pytest
from training_runs import (
    Fed,
    Silent,
    feed_training,
    small_config,
    small_set,
    some_images,
    trained_weights,
)

import main
import model
from config import RECIPES, Config
from losses import DCBH, Batch
from methods.table import resolve
from runtime.errors import UserError
from runtime.tensorflow import make_session, tf
from training import recipe as recipes
from training.graph import build_inference_graph
from training.loop import Progress, Trainer

# Augmentation


def test_the_released_recipe_leaves_images_alone():
    images = some_images(3)
    assert recipes.mirrored(images, Config(epochs=9), 0, 0) is images


def test_flips_mirror_about_half_of_the_images():
    images = some_images(400)
    result = recipes.mirrored(images, Config(epochs=9, flip=True), 2, 3)
    flipped = [np.array_equal(new, old[:, ::-1]) for new, old in zip(result, images)]
    kept = [np.array_equal(new, old) for new, old in zip(result, images)]
    assert all(np.add(flipped, kept) == 1)
    assert 140 < sum(flipped) < 260  # six standard deviations


def test_augmentation_depends_on_seed_epoch_and_step_alone():
    images = some_images(40)
    config = Config(epochs=20, flip=True)
    first = recipes.mirrored(images, config, 1, 2)
    np.testing.assert_array_equal(first, recipes.mirrored(images, config, 1, 2))
    for epoch, step in ((2, 2), (1, 3), (12, 0)):
        assert np.any(first != recipes.mirrored(images, config, epoch, step))
    other = dataclasses.replace(config, seed=1)
    assert np.any(first != recipes.mirrored(images, other, 1, 2))
    assert first.dtype == np.float32 and np.array_equal(images, some_images(40))


def test_the_last_epochs_see_the_images_as_they_are():
    images, config = some_images(30), Config(epochs=20, flip=True, plain_share=0.15)
    changed = [np.any(recipes.mirrored(images, config, epoch, 0) != images) for epoch in range(20)]
    assert changed == [True] * 17 + [False] * 3


@pytest.mark.parametrize("share, plain", [(0.3, 6), (0.7, 14), (0.85, 17), (0.95, 19), (1.0, 20)])
def test_shares_that_are_no_binary_fractions_lose_no_epoch(share, plain):
    images, config = some_images(30), Config(epochs=20, flip=True, plain_share=share)
    unchanged = [recipes.mirrored(images, config, epoch, 0) is images for epoch in range(20)]
    assert unchanged == [False] * (20 - plain) + [True] * plain


# Learning rate and temperature


@pytest.mark.parametrize("settings, expected", [
    (dict(), [0.25] * 6),
    (dict(warmup_steps=4), [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25]),
    # Of 6 steps the last 3: what is left of 1 is 3/6, 2/6, 1/6, of the share of a half.
    (dict(decay_share=0.5), [0.25, 0.25, 0.25, 0.25, 0.25 * 2 / 3, 0.25 / 3]),
    (dict(decay_share=1.0), [0.25, 0.25 * 5 / 6, 0.25 * 4 / 6, 0.125, 0.25 / 3, 0.25 / 6]),
    # Full size for two steps, then four that fall; whichever begins first counts.
    (dict(decay_after=2), [0.25, 0.25, 0.25, 0.1875, 0.125, 0.0625]),
    (dict(decay_after=2, decay_share=0.5), [0.25, 0.25, 0.25, 0.1875, 0.125, 0.0625]),
    (dict(decay_after=4, decay_share=0.5), [0.25, 0.25, 0.25, 0.25, 0.25 * 2 / 3, 0.25 / 3]),
    (dict(decay_after=6), [0.25] * 6),
    (dict(decay_after=99), [0.25] * 6),
])
def test_step_sizes(settings, expected):
    config = Config(learning_rate=0.25, **settings)
    assert [recipes.learning_rate(config, done, 6) for done in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("temperature, share, expected", [
    (1.0, 0.5, [1.0] * 6),
    # Two thirds of 6 steps: 1/16 in four equal factors of 2.
    (1 / 16, 2 / 3, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 1.0]),
    (1 / 64, 1.0, [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]),
    (1 / 16, 0.0, [1.0] * 6),
])
def test_temperatures(temperature, share, expected):
    """T * cross-entropy(z / T) by hand at each of 6 steps; its gradient at z = 0 is that of T = 1:
    probabilities less the label."""
    config = Config(num_bits=4, quantization_weight=0.0, center_weight=0.0,
                    hash_temperature=temperature, temperature_share=share)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None, 2])
        progress = tf.placeholder(tf.float32, [])
        network = model.Network(None, (), None, None, tf.zeros([1, 4]), logits, None, None)
        batch = Batch(network, 0.5, tf.constant([0]), 2, progress, 0)
        loss = DCBH(config).terms(batch)[0]["hash_classification"]
        gradient = tf.gradients(loss, logits)[0]
        for done, value in enumerate(expected):
            assert session.run(loss, {logits: [[0.0, 1.0]], progress: done / 6}) == pytest.approx(
                value * np.log(1 + np.exp(1 / value)), rel=1e-5)
            np.testing.assert_allclose(session.run(
                gradient, {logits: [[0.0, 0.0]], progress: done / 6}), [[-0.5, 0.5]], rtol=1e-6)


def test_each_step_is_fed_its_own():
    """2 epochs of 3 steps; the schedule counts the steps of both."""
    session, _ = feed_training(small_config(
        epochs=2, batch_size=2, learning_rate=0.25, warmup_steps=4), 5)
    assert session.fed(session.graph.learning_rate) == pytest.approx(
        [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25])
    assert session.fed(session.graph.progress) == pytest.approx([0, 1/6, 2/6, 3/6, 4/6, 5/6])


def test_recipes_are_defaults():
    """A recipe sets what nobody has set; a run's own settings and the method's part stay."""
    tuned = resolve(dict(recipe="tuned", shuffle=False, method="ddh"))[0]
    assert tuned.shuffle is False and tuned.block_length == 4
    for name, value in RECIPES["tuned"].items():
        assert name == "shuffle" or getattr(tuned, name) == value
        assert getattr(Config(), name) != value  # each changes something
    assert resolve({})[0].recipe == "released" and not RECIPES["released"]
    for method, name in (("dcbh", "orl_tuned_12bits"), ("itq", "orl_itq_12bits")):
        config, dataset = resolve(dict(recipe="tuned", method=method, num_bits=12))
        assert main.default_run_dir(config, dataset) == f"runs/{name}_seed0"
    with pytest.raises(UserError, match="recipe"):
        resolve(dict(recipe="best"))


def test_the_gain_is_the_descriptors_alone():
    with build_inference_graph(Config(num_bits=4, descriptor_gain=1.5)).graph.as_default() as graph:
        initialize = tf.global_variables_initializer()
        gains = {variable.op.name: variable.read_value() for variable in tf.global_variables()
                 if variable.op.name.endswith("/gamma")}
    with make_session(graph) as session:
        session.run(initialize)
        gains = session.run(gains)
    assert len(gains) == 11
    for name, values in gains.items():
        assert np.all(values == (1.5 if "/descriptor/" in name else 1.0)), name


# A whole training


@pytest.mark.parametrize("count, settings, warned", [
    (18, {}, True), (18, dict(even_batches=True), False), (17, {}, False), (19, {}, False),
    (32, {}, False), (2, {}, False), (4, dict(batch_size=2), False)])
def test_a_last_batch_of_two_images_gets_a_note(count, settings, warned):
    """In batches of 16; not of 1 or 3 images, nor where no batch has more."""
    _, said = feed_training(small_config(**dict(dict(epochs=1, batch_size=16), **settings)), count)
    assert any("--even_batches" in line for line in said) == warned


@pytest.mark.parametrize("recipe, sizes", [("released", [4, 4, 1]), ("tuned", [3, 3, 3])])
def test_images_a_step(recipe, sizes):
    """A tuned epoch's batches are even; released keeps the release's last batch of one image."""
    session, _ = feed_training(small_config(
        recipe=recipe, epochs=1, batch_size=4, codeword_share=0.0), 9)
    assert [len(labels) for labels in session.fed(session.graph.labels)] == sizes


def test_a_resumed_training_shows_the_images_that_are_done():
    """The progress bar begins where training goes on; the first of the even batches has 3."""
    recorder = Silent()
    recorder.begin = lambda *begun: recorder.said.append(begun)
    session = Fed()
    config = small_config(recipe="tuned", epochs=4, batch_size=4, codeword_share=0.0)
    trainer = Trainer(config, small_set(11), session.graph, session, recorder)
    trainer.progress = Progress(epoch=1, step=1)
    list(trainer.train())
    assert recorder.said[0] == (1, 11 + 3, 44)


def test_a_tuned_run_that_is_interrupted_goes_on_as_if_it_was_not(tmp_path):
    """Stopped inside one epoch and at the end of another: images and schedules go on."""
    config = small_config(recipe="tuned", epochs=4, batch_size=4, evaluate_every=4,
                          plain_share=0.25, warmup_steps=5)
    data = small_set(11)
    whole, progress = trained_weights(config, data, tmp_path / "whole")
    resumed, _ = trained_weights(config, data, tmp_path / "resumed", (3, 19))
    assert progress.best_epoch == 4
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value)
    other, _ = trained_weights(dataclasses.replace(config, flip=False), data, tmp_path / "other")
    assert any(np.any(other[name] != value) for name, value in whole.items())
