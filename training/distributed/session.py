"""Sessions of one of several workers: a call that others are missing from ends all the same."""

import threading
import time

from runtime.errors import Failed
from runtime.tensorflow import error_reason, tf

LOOK_SECONDS = 2.0  # between two looks at the other workers while a call lasts
OWN_SECONDS = 10.0


def perhaps_own_errors():
    """What a collective call raises when another worker is gone, or by an error of this worker's
    own: which of the two turns out within some seconds."""
    return tf.errors.InternalError, tf.errors.UnknownError


def collective_errors():
    """All that a collective call raises when another worker is gone or has failed."""
    return (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError) + perhaps_own_errors()


class LostWorker(Failed):
    """Another worker is gone or does not answer; exit code 3."""

    exit_code = 3


class WorkerSession:
    """A session on this worker, with calls that end when another worker is lost: `run_jointly`.

    TensorFlow 1.14 never ends a collective call that another worker is missing from, and 2.21 does
    not on all workers. So such calls are made in threads, and one that lasts is left to itself.
    What needs no other worker (`run`) goes on without them.

    Args:
        workers: a Workers.
        graph: a tf.Graph.

    Attributes:
        begun, steps: a variable that counts the training steps whose changes have begun, and how
            many have ended: while they differ, variables are changing.
    """

    _left = []  # sessions with a call that never ends: Python must not wait for it at their end

    def __init__(self, workers, graph):
        self.graph = graph
        self._session = tf.Session(workers.target, graph=graph, config=workers.options)
        self._cluster, self._lost = workers.cluster, False
        self._others = range(1, workers.count) if workers.index == 0 else [0]
        self.begun, self.steps = None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, fetches, feed=None):
        """tf.Session.run of what needs no other worker."""
        return self._session.run(fetches, feed)

    def list_devices(self):
        """As tf.Session.list_devices."""
        return self._session.list_devices()

    def run_jointly(self, fetches, feed=None):
        """tf.Session.run of what needs all workers.

        Raises:
            LostWorker: one is lost; variables are as after the last step.
        """
        result, ended = [], threading.Event()

        def call():
            try:
                result.append(self.run(fetches, feed))
            except BaseException as error:  # raised where the result is waited for
                result.append(error)
            ended.set()
        threading.Thread(target=call, daemon=True).start()
        started = time.monotonic()
        while not ended.wait(LOOK_SECONDS):
            reason = self._lost_one(time.monotonic() - started)
            if reason and not self._changing():
                self._lose(reason)
        if isinstance(result[0], collective_errors()):
            self._explain(result[0])
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def close(self):
        """Closes the session, unless that would last for ever."""
        if not self._lost:
            self._session.close()

    def _explain(self, error):
        """Raises LostWorker if that is what is behind a call's error: after a while, it shows."""
        own = isinstance(error, perhaps_own_errors())
        deadline = time.monotonic() + (OWN_SECONDS if own else self._cluster.timeout)
        while time.monotonic() < deadline:
            reason = self._lost_one(0)
            if reason:
                self._lose(reason)
            time.sleep(0.2)
        if not own:
            self._lose("a call to the other workers failed (%s)" % error_reason(error))

    def _lost_one(self, seconds):
        """Which worker is lost, as text, after a call has lasted so long; None if none is."""
        states = {index: self._cluster.state(index) for index in self._others}
        for state in ("gone", "silent"):
            lost = [index for index in self._others if states[index] == state]
            if lost and (state == "gone" or seconds >= self._cluster.timeout):
                return "%s %s" % (self._cluster.describe(lost), "is gone" if state == "gone" else
                                  "did not answer for %d s" % self._cluster.timeout)
        if seconds >= self._cluster.timeout:
            return ("a step did not end within %d s although all workers answer"
                    % self._cluster.timeout)
        return None

    def _changing(self):
        return self.begun is not None and self.run(self.begun) != self.steps

    def _lose(self, reason):
        self._lost = True
        self._left.append(self)
        raise LostWorker(reason)
