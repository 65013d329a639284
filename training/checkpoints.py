"""Checkpoints of a training session, written while the next epoch runs."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from runtime.errors import Failed, UserError
from runtime.tensorflow import error_reason, make_session, tf


class CheckpointWriter:
    """Writes snapshots of all variables as TensorFlow checkpoints, in a thread of its own.

    Training waits only while the variables are copied (95 MB at 48 bits), not for the disk. At most
    one snapshot is being written. It counts once it is complete: a process killed before that
    resumes from the previous one.

    Args:
        graph: a training.graph.StepGraph.
        session: a tf.Session on it.
    """

    def __init__(self, graph, session):
        self._session = session
        with graph.graph.as_default():
            variables = tf.global_variables()
            self._values = [variable.read_value() for variable in variables]
        with tf.Graph().as_default() as writing:
            self._prefix = tf.placeholder(tf.string, [])
            self._inputs = [tf.placeholder(variable.dtype.base_dtype, variable.shape)
                            for variable in variables]
            # The op that tf.train.Saver runs; a Saver reads the result.
            self._save = tf.raw_ops.SaveV2(
                prefix=self._prefix, tensor_names=[variable.op.name for variable in variables],
                shape_and_slices=[""] * len(variables), tensors=self._inputs)
        self._writing = make_session(writing)
        self._thread, self._snapshot = ThreadPoolExecutor(1), None

    def start(self, finish):
        """Takes a snapshot and returns; `finish(write)` then runs in the thread.

        Args:
            finish: function of a function `write(prefix)`, which writes the snapshot.

        Raises:
            UserError: the previous snapshot could not be written.
        """
        self.wait()
        values = self._session.run(self._values)
        self._snapshot = self._thread.submit(finish, lambda prefix: self._write(prefix, values))

    def wait(self):
        """Waits until the snapshot is written. Raises UserError if it cannot be."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.result()

    def close(self):
        """Ends the thread; drops an error that nobody has waited for."""
        self._thread.shutdown()
        self._writing.close()

    def _write(self, prefix, values):
        try:
            self._writing.run(self._save, {self._prefix: prefix, **dict(zip(self._inputs, values))})
        except tf.errors.OpError as error:
            raise Failed(f"{prefix} cannot be written: {error_reason(error)}")


def restore(saver, session, folder, pointer):
    """Loads the checkpoint `best` or `last` of a run folder into a session.

    Args:
        saver: the tf.train.Saver of the session's graph.
        session: a tf.Session.
        folder: a RunFolder.
        pointer: "best" or "last".

    Returns:
        (state, prefix): the dict that was saved with the checkpoint, and its path prefix.

    Raises:
        UserError: there is no checkpoint, or it is damaged or of another network.
    """
    prefix, state = folder.checkpoint(pointer)
    try:
        saver.restore(session, prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"checkpoint {prefix} cannot be read ({error_reason(error)}); evaluate or "
                        "resume from a copy of the run, or train again")
    return state, prefix


def restore_best(graph, session, folder):
    """Loads a run's best weights, even while training replaces them.

    Args:
        graph: a training.graph.InferenceGraph.
        session: a tf.Session on it.
        folder: a RunFolder.

    Returns:
        (state, num_parameters): the dict saved with the weights, and the number of trainable
        values, centers included.
    """
    while True:
        prefix, _ = folder.checkpoint("best")
        try:
            state, loaded = restore(graph.saver, session, folder, "best")
            return state, count_parameters(loaded)
        except (UserError, tf.errors.NotFoundError):
            if folder.checkpoint("best")[0] == prefix:  # not replaced: damaged
                raise


def count_parameters(prefix):
    """Number of trainable values in a checkpoint, centers included: those with Adam's moments."""
    shapes = tf.train.NewCheckpointReader(prefix).get_variable_to_shape_map()
    return sum(int(np.prod(shape)) for name, shape in shapes.items() if name + "/Adam" in shapes)
