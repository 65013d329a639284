"""Several workers that compute what one process would, on TensorFlow's own distributed runtime.

Each worker holds all variables and trains on its share of each batch (joint_step); there is no
parameter server. Worker 0 alone writes, evaluates and reports. methods.network takes a `Workers`,
or ALONE, which stands for a single process.
"""

import contextlib
import json
import signal
import threading
import time
import types

import numpy as np

from runtime.errors import Failed, UserError
from runtime.tensorflow import error_reason, make_session, session_options, tf
from training.distributed.joint_step import Collectives, JointStep, OneDevice
from training.loop import Progress, StopRequest, Trainer
from training.recorder import Recorder

MESSAGE_VALUES = 8192  # bytes of a message between workers, each sent as an int32
WAITING_SECONDS = 10.0  # between two signs of life to waiting workers
LOOK_SECONDS = 2.0  # between two checks of the other workers during a call
OWN_SECONDS = 10.0  # to find out whether an error is this worker's own
# A single process, with the interface of Workers.
ALONE = types.SimpleNamespace(
    index=0, count=1, device=None, session=make_session, joint_step=lambda _: OneDevice(),
    recorder=Recorder, trainer=Trainer, keep_waiting=contextlib.nullcontext,
    check_data=lambda _: None, how_to_start="")


class LostWorker(Failed):
    """Another worker is gone or does not answer; exit code 3."""

    exit_code = 3


class Workers(Collectives):
    """This process as one of several workers, connected to the others.

    Args:
        cluster: a training.distributed.cluster.Cluster.

    Raises:
        UserError: TensorFlow's server cannot be started.
        LostWorker: another worker did not start in time.
    """

    def __init__(self, cluster):
        super().__init__(cluster.index, cluster.count)
        self.cluster, self.how_to_start = cluster, cluster.how_to_start()
        self.options = session_options()
        self.options.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        self.options.device_filters.append(self.device)  # a session runs on its own worker alone
        try:
            self._server = tf.train.Server({"worker": cluster.addresses}, job_name="worker",
                                           task_index=self.index, config=self.options)
        except tf.errors.OpError as error:
            raise UserError(f"TensorFlow cannot serve at {cluster.addresses[self.index]} "
                            f"({error_reason(error)})")
        self.target = self._server.target
        cluster.shield()
        absent = cluster.wait_for_all()
        if absent:
            raise LostWorker(f"{cluster.describe(absent)} did not answer within "
                             f"{cluster.timeout:.0f} s of the start")
        self._exchange = None  # (session, placeholder for the own message, all messages)

    def joint_step(self, config):
        """A JointStep; call this in the graph of a training step."""
        return JointStep(self, config)

    def session(self, graph):
        """A WorkerSession on `graph`."""
        return WorkerSession(self, graph)

    def recorder(self, folder, graph, session, statistics):
        """This worker's recorder: worker 0 writes, the others record nothing."""
        spread = Spread(self, graph, session)
        return (JointRecorder(spread, folder, graph, session, statistics) if self.index == 0
                else SilentRecorder(spread))

    def trainer(self, *arguments):
        """A JointTrainer."""
        return JointTrainer(*arguments)

    def exchange(self, message):
        """Sends a plain value to all workers; returns those of all N, in the workers' order."""
        text = json.dumps(message).encode()
        if len(text) > MESSAGE_VALUES:
            raise ValueError(f"a message of {len(text)} bytes")
        if self._exchange is None:
            with tf.Graph().as_default() as graph, tf.device(self.device):
                own = tf.placeholder(tf.int32, [self.count, MESSAGE_VALUES])
                self._exchange = WorkerSession(self, graph), own, self.reduce(own)
        session, own, everyone = self._exchange
        rows = np.zeros((self.count, MESSAGE_VALUES), np.int32)
        rows[self.index] = np.frombuffer(text.ljust(MESSAGE_VALUES), np.uint8)
        return [json.loads(row.astype(np.uint8).tobytes().decode())
                for row in session.run_jointly(everyone, {own: rows})]

    def check_data(self, digest, error=None):
        """Compares the data of all workers.

        Args:
            digest: see data_loader.data_digest; None if this worker has no data.
            error: text, why it has none.

        Raises:
            Failed: a worker has no data, or other data than worker 0.
        """
        answers = self.exchange([digest, error and error[:1000]])
        for index, (other, reason) in enumerate(answers):
            if other != answers[0][0]:
                found = (f"says: {reason}" if reason
                         else "has other data than worker 0 under the same name")
                raise Failed(f"{self.cluster.describe([index])} {found}")

    @contextlib.contextmanager
    def keep_waiting(self, training_ended):
        """Keeps the other workers in `wait` while the block runs on worker 0.

        Args:
            training_ended: whether the others have ended, so that none of them waits.

        Raises:
            LostWorker: a worker was lost meanwhile; the block has run to its end.
        """
        if training_ended:
            yield
            return
        ended, lost = threading.Event(), []

        def give_signs():
            try:
                while not ended.wait(min(WAITING_SECONDS, self.cluster.timeout / 4)):
                    self.exchange("wait")
            except LostWorker as error:
                lost.append(error)
        thread = threading.Thread(target=give_signs, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if lost:
            raise lost[0]
        self.exchange("go on")

    def wait(self):
        """On the other workers: waits until worker 0 goes on."""
        while self.exchange(None)[0] == "wait":
            pass


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
        if isinstance(result[0], (tf.errors.UnavailableError, tf.errors.AbortedError,
                                  tf.errors.CancelledError, tf.errors.DeadlineExceededError)):
            self._explain(self._cluster.timeout)
            self._lose(f"a call to the other workers failed ({error_reason(result[0])})")
        if isinstance(result[0], (tf.errors.InternalError, tf.errors.UnknownError)):
            self._explain(OWN_SECONDS)  # else it is this worker's own
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def close(self):
        """Closes the session, unless that would never end."""
        if not self._lost:
            self._session.close()

    def _explain(self, seconds):
        """Raises LostWorker if a lost worker is behind a call's error, which may show late."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            reason = self._lost_one(0)
            if reason:
                self._lose(reason)
            time.sleep(0.2)

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


class Spread:
    """Copies worker 0's variables, and a value that goes with them, to all workers.

    Args:
        workers: a Workers.
        graph: a training.graph.StepGraph.
        session: a WorkerSession on it.
    """

    def __init__(self, workers, graph, session):
        self._workers, self._session = workers, session
        with graph.graph.as_default(), tf.device(workers.device):
            variables = tf.global_variables()
            joint = workers.sum_all([variable.read_value() if workers.index == 0
                                     else tf.zeros(variable.shape) for variable in variables])
            self._assign = tf.group(*[variable.assign(value) for variable, value
                                      in zip(variables, joint)])

    def __call__(self, state):
        """Copies; returns the `state`, a plain value, that worker 0 was called with."""
        self._session.run_jointly(self._assign)
        return self._workers.exchange(state)[0]


class JointRecorder(Recorder):
    """Worker 0's recorder: copies what it restores to all workers.

    Args:
        spread: a Spread.
        arguments: those of Recorder.
    """

    def __init__(self, spread, *arguments):
        super().__init__(*arguments)
        self.spread = spread

    def restore(self, pointer):
        state = super().restore(pointer)
        self.spread(Progress.from_dict(state).to_dict())
        return state


class SilentRecorder:
    """The other workers' recorder: records nothing, and restores what worker 0 restores.

    Args:
        spread: a Spread.
    """

    folder = None

    def __init__(self, spread):
        self.spread = spread

    def _nothing(self, *_, **__):
        return None

    begin = advance = say = times = record_epoch = save = wait = last_saved_epoch = _nothing

    def restore(self, _pointer):
        """Receives what worker 0 has restored; returns its progress as a dict."""
        return self.spread(None)


class JointStop(StopRequest):
    """A StopRequest that takes effect once all workers know of it: after the current step."""

    def __init__(self):
        super().__init__()
        self._noted = None

    def _note(self, number, frame):
        super()._note(number, frame)
        self._noted, self.signal_number = number, None

    def flags(self):
        """What this worker feeds into JointStep.stop."""
        return [self._noted == signal.SIGINT, self._noted == signal.SIGTERM]

    def agree(self, counts):
        """Takes the value of JointStep.stops."""
        for number, count in zip((signal.SIGINT, signal.SIGTERM), counts):
            if count:
                self.signal_number = number


class JointTrainer(Trainer):
    """A Trainer on one of several workers; see Trainer for its arguments."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.stop = JointStop()
        self.session.run(self.graph.joint.begun.initializer)
        self.session.begun = self.graph.joint.begun

    def start(self):
        """Gives every variable worker 0's first value."""
        super().start()
        self.recorder.spread(None)

    def follow(self):
        """On the other workers: starts or resumes as worker 0 does."""
        self.session.run(self.graph.initialize)
        state = self.recorder.spread(None)
        if state is not None:
            self.progress = Progress.from_dict(state)

    def _compute_step(self, images, labels):
        graph = self.graph
        feed = graph.joint.feed(graph, images, labels, self.stop.flags())
        feed.update(self._scheduled())
        try:
            self._prepare_step()
            _, losses, accuracy, stops = self.session.run_jointly(
                (graph.step, graph.losses, graph.accuracy, graph.joint.stops), feed)
        except LostWorker:
            if self.progress.step:  # at an epoch's end that is being saved already
                self.recorder.save(self.progress, False)
            self.recorder.wait()
            raise
        self.session.steps += 1
        self.stop.agree(stops)
        return losses, accuracy

    def _restart_hash_classifier(self):
        """Takes worker 0's: elsewhere sums may differ in the last digit, and so may codewords."""
        super()._restart_hash_classifier()
        self.recorder.spread(None)
