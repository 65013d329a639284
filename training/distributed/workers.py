"""The processes of a run: one, or several workers that start, are watched and stop together."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from runtime.command_line import end_with_parent, run_command
from runtime.errors import one_line
from runtime.tensorflow import visible_devices
from training.distributed.cluster import free_addresses, read_cluster
from training.distributed.coordination import Workers

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0  # before workers that do not end with the others are stopped
LOST = 3  # exit code of a worker that has lost another one
LEAVING_SECONDS = 1.0  # in which the last answers reach the other workers


def launch(settings, train, follow):
    """Performs a run in this process, as one of TF_CONFIG's workers, or in new processes.

    Args:
        settings: cluster.WorkerSettings.
        train: what worker 0, or a single process, does. Takes None, or a function that connects the
            workers and returns the coordination.Workers.
        follow: what the other workers do. Takes the Workers.
    """
    cluster = read_cluster(settings)
    if cluster is None:
        if settings.num_workers == 1:
            train(None)
        else:
            sys.exit(Supervisor(settings.num_workers).run())
        return
    cluster.check_own_address()

    def connect():
        if cluster.index == 0:
            print(f"waiting for {cluster.count} workers", flush=True)
        else:
            print(f"worker {cluster.index} of {cluster.count}; worker 0 ({cluster.addresses[0]}) "
                  "reports", flush=True)
        return Workers(cluster)

    end_at_once((lambda: train(connect)) if cluster.index == 0 else lambda: follow(connect()))


class Supervisor:
    """Runs a command as several workers on this machine, which start and end together.

    Worker 0 has this process's terminal. The others print nothing; what they write to standard
    error is shown only where it explains why the run failed.

    Args:
        count: number of workers, each with this process's command line.
    """

    def __init__(self, count):
        self._command, self._count = [sys.executable] + sys.argv, count
        self._processes, self._errors = [], []
        self._signal = None  # the signal that asked us to stop
        self._failures = []  # (index, exit code) of workers that ended unasked, in order
        self._sent = []  # signals, to workers that did not end

    def run(self):
        """Runs the workers to their end; returns the exit code for this process."""
        devices = visible_devices(self._count, "--num_workers")
        addresses = free_addresses(self._count)
        previous = {number: signal.signal(number, self._stop)
                    for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for index in range(self._count):
                self._start(index, addresses, devices[index])
            self._watch()
        finally:
            for process in self._processes:  # any are left only after an error
                if process.poll() is None:
                    process.kill()
                    process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._exit_code()

    def _start(self, index, addresses, device):
        environment = dict(os.environ, TF_CONFIG=json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}))
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self._errors.append(None if index == 0 else tempfile.TemporaryFile())
        # A session of its own, so that Ctrl-C in a terminal reaches it only through us, once.
        self._processes.append(subprocess.Popen(
            self._command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=None if index == 0 else subprocess.DEVNULL, stderr=self._errors[index],
            preexec_fn=end_with_parent))
        if self._signal is not None:  # it came while the process was starting
            self._processes[index].send_signal(self._signal)

    def _watch(self):
        """Returns when all have ended. Workers notice themselves that another one has failed."""
        failed_at = None
        while True:
            codes = [process.poll() for process in self._processes]
            if not self._sent:
                self._failures += [failure for failure in enumerate(codes)
                                   if failure[1] and failure not in self._failures]
            if None not in codes:
                return
            if codes[0] is not None or self._failures:
                failed_at = failed_at or time.monotonic()
                waited = time.monotonic() - failed_at
                # Worker 0 may have to save or to finish an evaluation, unless it is stuck.
                if codes[0] is not None or self._failures[0][1] == LOST:
                    self._send_after(2 * PATIENCE_SECONDS, waited, signal.SIGKILL)
                self._send_after(PATIENCE_SECONDS, waited, signal.SIGTERM)
            time.sleep(POLL_SECONDS)

    def _send_after(self, seconds, waited, number):
        if waited > seconds and number not in self._sent:
            self._sent.append(number)
            self._send(number)

    def _stop(self, number, _frame):
        self._send(number if self._signal is None else signal.SIGKILL)
        self._signal = number

    def _send(self, number):
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

    def _exit_code(self):
        """The exit code; prints the reason to standard error where worker 0 has not."""
        code = self._processes[0].returncode
        if self._signal is not None and code != 0:
            return 128 + self._signal
        if code in (0, 1, 2) or code > 128:  # worker 0 has printed why
            return code
        index, first = min(self._failures, key=lambda failure: failure[1] == LOST)
        if index > 0 and first > 0 and (first != LOST or code != LOST):
            reason = self._last_line(index) or _ending(first)
            _say(reason if first == LOST else f"worker {index}: {reason}")
        elif code == LOST:
            pass  # worker 0 has printed which worker it lost
        elif index == 0:
            _say(f"worker 0 {_ending(first)}; its last checkpoint stays; to continue: the same "
                 "command with --resume")
        else:
            _say(f"worker {index} {_ending(first)} before training began; start again")
        return 1

    def _last_line(self, index):
        """The last error that a worker wrote, between lines of TensorFlow's."""
        stream = self._errors[index]
        stream.seek(0)
        lines = stream.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")] or lines
        return errors[-1].replace("error: ", "", 1) if errors else ""


def _ending(code):
    return (f"was killed by {signal.Signals(-code).name}" if code < 0
            else f"failed with exit code {code}")


def _say(text):
    print(f"error: {one_line(text, 2000)}", file=sys.stderr)


def end_at_once(action):
    """Runs `action` as runtime.command_line.run_command does, and ends the process at once.

    Python's orderly end would wait for calls that a lost worker will never answer.
    """
    code = 1
    try:
        run_command(lambda _: action())
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(LEAVING_SECONDS)
        os._exit(code)
