"""Small trainings, and what stands in for parts of one. No tests."""

import numpy as np
import pytest

from runtime.run_folder import RunFolder
from runtime.tensorflow import make_session, tf
from training.graph import build_step_graph
from training.loop import Interrupted, Trainer
from training.recorder import Recorder


def some_images(count, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)


class Silent:
    """A recorder that keeps nothing."""

    folder = None

    def __getattr__(self, _name):
        return lambda *_, **__: None


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


def trained_weights(config, data, path, stop_after):
    """All variables after a training that is stopped so many times on the way, and resumed.

    Args:
        config: a Config.
        data: an ImageSet of three people.
        path: the run's folder, which does not exist yet.
        stop_after: images after which it is stopped, each time counted from there.

    Returns:
        (dict of arrays by name, Progress).
    """
    folder = RunFolder.create(path, config.to_dict())
    for images in stop_after + (None,):
        graph = build_step_graph(config, 3)
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
            with graph.graph.as_default():
                return session.run({variable.op.name: variable.read_value()
                                    for variable in tf.global_variables()}), trainer.progress
