"""What the tuned recipe changes: augmentation, step size, batch norm's statistics, weights."""

import numpy as np
import pytest

import model
from config import Config, resolve
from data_loader import ImageSet
from losses import weighted_losses
from methods import RECIPES
from runtime.errors import UserError
from runtime.tensorflow_setup import make_session, tf
from training import schedule
from training.augmentation import augmented, erased_box, shifted
from training.graph import build_step_graph
from training.loop import RECALIBRATION_BATCH, Trainer


def some_images(count, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)


# Augmentation


def test_the_released_recipe_leaves_images_alone():
    images = some_images(3)
    assert augmented(images, Config(), 0, 0) is images


def test_flips_mirror_about_half_of_the_images():
    images = some_images(400)
    result = augmented(images, Config(flip=True), 2, 3)
    flipped = [np.array_equal(new, old[:, ::-1]) for new, old in zip(result, images)]
    kept = [np.array_equal(new, old) for new, old in zip(result, images)]
    assert all(np.add(flipped, kept) == 1)
    assert 140 < sum(flipped) < 260  # six standard deviations


def test_shifts_continue_the_border():
    """Against a loop over pixels; offsets at both ends and in the middle."""
    images, offsets = some_images(3), [(0, 5), (2, 2), (4, 1)]
    result = shifted(images, offsets, 3)
    for image, moved, (row, column) in zip(images, result, offsets):
        for y in range(32):
            for x in range(32):
                source = np.clip([y + row - 3, x + column - 3], 0, 31)
                np.testing.assert_array_equal(moved[y, x], image[tuple(source)])


def test_shifts_reach_every_offset():
    image = np.repeat(some_images(1), 500, axis=0)
    result = augmented(image, Config(shift=1), 0, 0)
    candidates = {(row, column): shifted(image[:1], [(row, column)], 1)[0]
                  for row in range(3) for column in range(3)}
    found = {place for new in result for place, wanted in candidates.items()
             if np.array_equal(new, wanted)}
    assert found == set(candidates)


def test_erasing_sets_one_box_to_the_mean():
    images = some_images(200)
    result = augmented(images, Config(erase=0.5), 0, 0)
    changed = np.any(result != images, axis=3)
    touched = changed.any(axis=(1, 2))
    assert 60 < touched.sum() < 140
    for image, mask in zip(result[touched], changed[touched]):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = image[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        assert (box == 0).all() and box[..., 0].size == mask.sum()


def test_erased_boxes_lie_inside():
    rng = np.random.RandomState(0)
    for _ in range(2000):
        for sides, most in zip(erased_box(rng, (32, 20)), (32, 20)):
            assert 0 <= sides.start < sides.stop <= most


def test_augmentation_depends_on_seed_epoch_and_step_alone():
    images, config = some_images(40), Config(flip=True, shift=2, erase=0.5)
    first = augmented(images, config, 1, 2)
    np.testing.assert_array_equal(first, augmented(images, config, 1, 2))
    for epoch, step in ((2, 2), (1, 3), (12, 0)):
        assert np.any(first != augmented(images, config, epoch, step))
    assert np.any(first != augmented(images, Config(flip=True, shift=2, erase=0.5, seed=1), 1, 2))
    assert first.dtype == np.float32 and np.array_equal(images, some_images(40))


# Step size and temperature


@pytest.mark.parametrize("settings, expected", [
    (dict(), [0.25] * 6),
    (dict(warmup_steps=4), [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25]),
    # Of 6 steps the last 3: what is left of 1 is 3/6, 2/6, 1/6, of the share of a half.
    (dict(decay_share=0.5), [0.25, 0.25, 0.25, 0.25, 0.25 * 2 / 3, 0.25 / 3]),
    (dict(decay_share=1.0), [0.25, 0.25 * 5 / 6, 0.25 * 4 / 6, 0.125, 0.25 / 3, 0.25 / 6]),
])
def test_step_sizes(settings, expected):
    config = Config(learning_rate=0.25, **settings)
    assert [schedule.learning_rate(config, done, 6) for done in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("temperature, share, expected", [
    (1.0, 0.5, [1.0] * 6),
    # Two thirds of 6 steps: 1/16 in four equal factors of 2.
    (1 / 16, 2 / 3, [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 1.0]),
    (1 / 64, 1.0, [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]),
    (1 / 16, 0.0, [1.0] * 6),
])
def test_temperatures(temperature, share, expected):
    config = Config(hash_temperature=temperature, temperature_share=share)
    assert [schedule.hash_temperature(config, done, 6)
            for done in range(6)] == pytest.approx(expected)


class Fed:
    """A session that notes the step sizes and temperatures that it is fed."""

    def __init__(self, graph):
        self.graph, self.fed = graph, []

    def run(self, _fetches, feed=None):
        if feed and self.graph.learning_rate in feed:
            self.fed.append((feed[self.graph.learning_rate], feed[self.graph.hash_temperature]))
            return None, {"total": 1.0}, 0.5
        return True


class Silent:
    """A recorder that keeps nothing."""

    folder = None

    def __getattr__(self, _name):
        return lambda *_, **__: None


def test_each_step_is_fed_its_own():
    """2 epochs of 3 steps; the schedule counts the steps of both."""
    config, _ = resolve(dict(num_bits=4, method="ddh", epochs=2, batch_size=2, learning_rate=0.25,
                             warmup_steps=4, hash_temperature=1 / 64, temperature_share=1.0))
    data = ImageSet(some_images(5), np.zeros(5, np.int32), 0.0, 1.0, None, "uint8")
    graph = build_step_graph(config, 2)
    session = Fed(graph)
    for _ in Trainer(config, data, graph, session, Silent()).train():
        pass
    np.testing.assert_allclose(session.fed, list(zip(
        [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25],
        [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2])))


def test_the_temperature_keeps_the_gradient_at_even_probabilities():
    """T * cross-entropy(z / T) by hand, and its gradient at z = 0: probabilities less the label."""
    config = Config(num_bits=4, quantization_weight=0.0)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.placeholder(tf.float32, [None, 2])
        network = model.Network(None, (), None, None, tf.zeros([1, 4]), logits, None, None)
        loss = weighted_losses(network, tf.constant([0]), None, [], config,
                               0.25)["hash_classification"]
        gradient = tf.gradients(loss, logits)[0]
        # 0.25 * log(1 + e^(4 * (1 - 0)))
        assert session.run(loss, {logits: [[0.0, 1.0]]}) == pytest.approx(
            0.25 * np.log(1 + np.exp(4.0)))
        np.testing.assert_allclose(session.run(gradient, {logits: [[0.0, 0.0]]}), [[-0.5, 0.5]])


# Batch norm's statistics


def moving_statistics(graph, session):
    with graph.graph.as_default():
        return session.run({variable.op.name: variable.read_value()
                            for variable in tf.global_variables() if "moving_" in variable.op.name})


def test_recalibration_takes_the_mean_of_the_parts_statistics():
    """Of more images than fit one part: each statistic is the mean of those that one step of rate 1
    leaves for either half, whatever it was before; the count of training steps stays."""
    config, _ = resolve(dict(num_bits=4, method="ddh", recalibrate_batch_norm=True))
    graph = build_step_graph(config, 3)
    count = RECALIBRATION_BATCH + 4
    data = ImageSet(some_images(count), np.arange(count, dtype=np.int32) % 3, 0.0, 1.0, None,
                    "uint8")
    with make_session(graph.graph) as session:
        session.run(graph.initialize)
        session.run(graph.step, {graph.images: data.images[:9], graph.labels: data.labels[:9]})
        before = moving_statistics(graph, session)
        halves = []
        for half in (slice(0, count // 2), slice(count // 2, count)):
            session.run(graph.recalibration.step, {graph.images: data.images[half],
                                                   graph.recalibration.rate: 1.0})
            halves.append(moving_statistics(graph, session))
        Trainer(config, data, graph, session, Silent())._recalibrate()
        after = moving_statistics(graph, session)
        with graph.graph.as_default():
            updates = [variable for variable in tf.global_variables()
                       if variable.op.name.endswith("num_updates")]
        assert session.run(updates[0].read_value()) == 1.0
        inference, training = [session.run(network.descriptor, {graph.images: data.images})
                               for network in (graph.inference, graph.network)]
    assert len(updates) == 1 and len(after) == 12  # two of six layers
    for name, value in after.items():
        assert np.any(value != before[name])
        np.testing.assert_allclose(value, (halves[0][name] + halves[1][name]) / 2, rtol=1e-4,
                                   atol=1e-6)
    # With them, inference is what the training pass computes of the whole set as one batch.
    np.testing.assert_allclose(inference, training, rtol=0.05, atol=0.05)


def test_recipes_are_defaults():
    """A recipe sets what nobody has set; a run's own settings and the method's part stay."""
    tuned = Config.from_dict(dict(recipe="tuned", shuffle=False, method="ddh"))
    assert tuned.shuffle is False and tuned.block_length == 4
    for name, value in RECIPES["tuned"].items():
        assert name == "shuffle" or getattr(tuned, name) == value
        assert getattr(Config(), name) != value  # each changes something
    assert Config.from_dict({}).recipe == "released" and not RECIPES["released"]
    with pytest.raises(UserError, match="recipe"):
        Config.from_dict(dict(recipe="best"))
