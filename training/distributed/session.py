"""Sessions of one of several workers, whose calls end even when another worker is lost."""

import threading
import time

from runtime.errors import Failed
from runtime.tensorflow import error_reason, tf

LOOK_SECONDS = 2.0  # between two checks of the other workers during a call
OWN_SECONDS = 10.0  # to find out whether an error is this worker's own


def perhaps_own_errors():
    """What a collective call raises when another worker is gone or this one has failed.

    Which of the two it is shows within OWN_SECONDS.
    """
    return tf.errors.InternalError, tf.errors.UnknownError


def collective_errors():
    """What a collective call raises when another worker is gone or has failed."""
    return (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError) + perhaps_own_errors()


class LostWorker(Failed):
    """Another worker is gone or does not answer; exit code 3."""

    exit_code = 3


class WorkerSession:
    """A session on this worker whose `run_jointly` ends when another worker is lost.

    If a worker is missing, TensorFlow 1.14 never ends a collective call, and 2.21 does not on all
    workers. So such calls run in threads, and one that does not end is abandoned. `run` is for what
    needs no other worker.

    Args:
        workers: a Workers.
        graph: a tf.Graph.

    Attributes:
        begun: a variable that counts the training steps that have begun to change variables.
        steps: the number of finished steps; while it differs from `begun`, variables are changing.
    """

    # Sessions with an abandoned call: Python would close them, which waits for the call.
    _left = []

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
        """See tf.Session.list_devices."""
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
        """Closes the session, unless that would never end."""
        if not self._lost:
            self._session.close()

    def _explain(self, error):
        """Raises LostWorker if a lost worker is behind a call's error, which may show late."""
        own = isinstance(error, perhaps_own_errors())
        deadline = time.monotonic() + (OWN_SECONDS if own else self._cluster.timeout)
        while time.monotonic() < deadline:
            reason = self._lost_one(0)
            if reason:
                self._lose(reason)
            time.sleep(0.2)
        if not own:
            self._lose(f"a call to the other workers failed ({error_reason(error)})")

    def _lost_one(self, seconds):
        """Text: the worker that is lost, after a call has lasted so long; None if none is."""
        states = {index: self._cluster.state(index) for index in self._others}
        for state in ("gone", "silent"):
            lost = [index for index in self._others if states[index] == state]
            if lost and (state == "gone" or seconds >= self._cluster.timeout):
                found = ("is gone" if state == "gone"
                         else f"did not answer for {self._cluster.timeout:.0f} s")
                return f"{self._cluster.describe(lost)} {found}"
        if seconds >= self._cluster.timeout:
            return (f"a step did not end within {self._cluster.timeout:.0f} s although all workers "
                    "answer")
        return None

    def _changing(self):
        return self.begun is not None and self.run(self.begun) != self.steps

    def _lose(self, reason):
        self._lost = True
        self._left.append(self)
        raise LostWorker(reason)
