"""Checkpoints beside the next epoch, and what TensorFlow's errors say in one line."""

import threading

import numpy as np
import pytest
from training_runs import small_config, small_graph, small_graph_variables, small_set

from runtime.errors import Failed, UserError
from runtime.run_folder import RunFolder
from runtime.tensorflow import error_reason, make_session, tf
from training.checkpoints import CheckpointWriter, restore
from training.loop import Progress, Trainer, TrainingDiverged
from training.recorder import Recorder

STATE = Progress(epoch=1, best_epoch=1, best_loss=1.0).to_dict()


@pytest.fixture(scope="module")
def trained():
    """(graph, session, feed): a small network's step graph, and a batch of 7 for it."""
    graph = small_graph()
    rng = np.random.RandomState(0)
    feed = {graph.images: rng.normal(0, 0.1, (7, 32, 32, 3)), graph.labels: rng.randint(0, 3, 7)}
    with make_session(graph.graph) as session:
        session.run(graph.initialize)
        session.run(graph.step, feed)
        yield graph, session, feed


def test_a_snapshot_is_what_was_there_when_it_was_taken(trained, tmp_path):
    """Steps that run while it is written leave no trace in it; tf.train.Saver reads it."""
    graph, session, feed = trained
    folder = RunFolder.create(tmp_path / "run", {})
    writer, may_write = CheckpointWriter(graph, session), threading.Event()
    before = session.run(small_graph_variables())

    def finish(write):
        may_write.wait(60)
        folder.save_checkpoint("first", write, STATE, best=True)

    writer.start(finish)
    session.run(graph.step, feed)
    may_write.set()
    writer.wait()
    writer.close()
    after = session.run(small_graph_variables())
    assert any((after[name] != before[name]).any() for name in before)
    assert restore(graph.saver, session, folder, "best")[0]["epoch"] == 1
    restored = session.run(small_graph_variables())
    assert set(restored) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(restored[name], value)


def test_a_failed_write_raises_where_it_is_waited_for(trained, tmp_path):
    graph, session, _ = trained
    writer = CheckpointWriter(graph, session)
    (tmp_path / "file").write_text("")
    writer.start(lambda write: write(str(tmp_path / "file" / "below")))
    with pytest.raises(Failed, match="below cannot be written"):
        writer.wait()
    writer.wait()  # raised once
    writer.close()


class OutOfMemory:
    """A session whose device has no memory left."""

    @staticmethod
    def run(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def test_out_of_memory_names_the_batch_size(trained, tmp_path):
    graph, session, _ = trained
    config, data = small_config(batch_size=5, epochs=1), small_set(7)
    folder = RunFolder.create(tmp_path / "run", config.to_dict())
    with Recorder(folder, graph, session, {}) as recorder:
        trainer = Trainer(config, data, graph, OutOfMemory, recorder)
        with pytest.raises(Failed, match="batch_size .it is 5"):
            list(trainer.train())


def test_a_loss_that_is_not_finite_says_where(trained, tmp_path):
    graph, session, _ = trained
    config = small_config(batch_size=7, epochs=1)
    data = small_set(7, np.full((7, 32, 32, 3), np.nan, np.float32))
    folder = RunFolder.create(tmp_path / "run", config.to_dict())
    with Recorder(folder, graph, session, {}) as recorder:
        trainer = Trainer(config, data, graph, session, recorder)
        trainer.start()
        with pytest.raises(TrainingDiverged) as error:
            list(trainer.train())
    assert (error.value.epoch, error.value.step) == (1, 1)
    assert error.value.term in list(graph.losses) + ["weights"]  # versions pass NaN on differently
    assert "No checkpoint was saved yet" in str(error.value)  # claimed only where there is one
    trained[1].run(graph.initialize)


@pytest.mark.parametrize("message, reason", [
    ("Read less bytes than requested\n\t [[node save/RestoreV2 (defined at x.py:5) ]]\n\n"
     "Original stack trace for 'save/RestoreV2':\n  File \"x.py\"",
     "Read less bytes than requested"),
    ("Graph execution error:\n\nDetected at node 'save/SaveV2' defined at (most recent call last):"
     "\n    File \"x.py\", line 5, in <module>\nNode: 'save/SaveV2'\n/ck/y.data; No space left on "
     "device\n\t [[{{node save/SaveV2}}]]", "/ck/y.data; No space left on device"),
    ("", "UnknownError"),
])
def test_an_error_is_one_line(message, reason):
    assert error_reason(tf.errors.UnknownError(None, None, message)) == reason


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    graph, session, _ = trained
    folder = RunFolder.create(tmp_path / "run", {})
    writer = CheckpointWriter(graph, session)
    writer.start(lambda write: folder.save_checkpoint("first", write, STATE, best=True))
    writer.wait()
    for path in (tmp_path / "run/checkpoints").glob("*.data*"):
        with open(path, "r+b") as stream:
            stream.truncate(1000)
    with pytest.raises(UserError) as error:
        restore(graph.saver, session, folder, "last")
    assert "Graph execution error" not in str(error.value)
    assert "first" in str(error.value)
    assert Progress.from_dict({"epoch": 3, "unknown": 1}) == Progress(epoch=3)
