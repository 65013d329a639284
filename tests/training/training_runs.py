"""Small trainings, and replacements for parts of one. No tests."""

import functools

import numpy as np
import pytest

from data_loader import ImageSet
from methods.table import resolve
from runtime.run_folder import RunFolder
from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph
from training.loop import Interrupted, Trainer
from training.recorder import Recorder

PEOPLE = 3


def small_config(**settings):
    """A Config of the smallest network; everything but its recipe may vary without another graph.
    """
    return resolve(dict(dict(method="ddh", num_bits=4), **settings))[0]


@functools.lru_cache(maxsize=None)
def small_graph():
    """The StepGraph of small_config, which all tests of a process share: building takes seconds."""
    return build_step_graph(small_config(), PEOPLE)


@functools.lru_cache(maxsize=None)
def small_graph_variables():
    """Tensors that read all variables of small_graph, by name."""
    with small_graph().graph.as_default():
        return {variable.op.name: variable.read_value() for variable in tf.global_variables()}


def some_images(count, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)


def small_set(count, images=None):
    """An ImageSet of so many images of PEOPLE people in turn."""
    return ImageSet(some_images(count) if images is None else images,
                    np.arange(count, dtype=np.int32) % PEOPLE, 0.0, 1.0,
                    np.arange(count, dtype=np.uint64), "uint8")


class Silent:
    """A recorder that keeps nothing but the lines it is to print: `said`."""

    folder = None

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def __getattr__(self, _name):
        return lambda *_, **__: None


class Fed:
    """A session that computes nothing and notes the feed of each training step."""

    def __init__(self):
        self.graph, self.feeds = small_graph(), []

    def run(self, _fetches, feed=None):
        if feed and self.graph.learning_rate in feed:
            self.feeds.append(feed)
            return None, {"total": 1.0}, 0.5
        return True

    def fed(self, placeholder):
        """The values of a placeholder, by step."""
        return [feed[placeholder] for feed in self.feeds]


def feed_training(config, count):
    """Trains without computing on a small_set; returns (the Fed session, the lines said)."""
    session, recorder = Fed(), Silent()
    for _ in Trainer(config, small_set(count), session.graph, session, recorder).train():
        pass
    return session, recorder.said


class StopAfter(Recorder):
    """A recorder that asks for a stop once it has seen so many images."""

    def __init__(self, images, *arguments):
        super().__init__(*arguments)
        self.trainer, self._left = None, images

    def advance(self, count):
        super().advance(count)
        self._left -= count
        if self._left == 0:
            self.trainer.stop.signal_number = 15


def trained_weights(config, data, path, stop_after=()):
    """All variables after a training that is stopped so many times on the way, and resumed.

    Args:
        config: a small_config.
        data: a small_set.
        path: the run's folder, which does not exist yet.
        stop_after: images after which it is stopped, counted from the previous stop.

    Returns:
        (dict of arrays by name, Progress).
    """
    folder, graph = RunFolder.create(path, config.to_dict()), small_graph()
    variables = small_graph_variables()
    for images in stop_after + (None,):
        with make_session(graph.graph) as session, \
                StopAfter(images or 0, folder, graph, session, {}) as recorder:
            trainer = recorder.trainer = Trainer(config, data, graph, session, recorder)
            if folder.has_checkpoint():
                trainer.resume()
            else:
                trainer.start()
            if images:
                with pytest.raises(Interrupted):
                    list(trainer.train())
                continue
            list(trainer.train())
            recorder.restore("best")  # the tuned recipe's are the last
            return session.run(variables), trainer.progress
