"""Runs the cells of a grid as processes of their own, a few at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque

from tqdm import tqdm

from config import ROOT
from runtime.command_line import duration
from runtime.errors import Failed, UserError
from runtime.output_folder import OutputFolder

POLL_SECONDS = 0.2
# Prints how many GPUs TensorFlow finds; a process of its own, since a look takes their memory.
COUNT_GPUS = ("from runtime.tensorflow import make_session, tf; "
              "print(sum(device.device_type == 'GPU' "
              "for device in make_session(tf.Graph()).list_devices()))")


class Runner:
    """Runs cells as processes, `jobs` at a time, each on a GPU of its own where there are several.

    Args:
        cells: Cells that are not finished.
        jobs: processes at a time.
        log_folder: Path, for one log a cell.

    Attributes:
        failures: list of (Cell, reason), filled by `run`.
        signal_number: the signal that ended `run` early, or None.
    """

    def __init__(self, cells, jobs, log_folder):
        self.waiting = deque(cells)
        self.total = len(cells)
        self.devices = visible_devices(jobs)
        self.log_folder = log_folder
        self.running = {}  # process -> (cell, device, log path, start)
        self.failures = []
        self.signal_number = None

    def run(self):
        """Runs all cells; a failed one does not stop the rest.

        SIGINT and SIGTERM are passed on: running cells save and stop, no further one starts.

        Raises:
            UserError: a log cannot be written; running cells are stopped first.
        """
        OutputFolder.create(self.log_folder, "logs")
        previous = {number: signal.signal(number, self._stop)
                    for number in (signal.SIGINT, signal.SIGTERM)}
        started = time.perf_counter()
        try:
            with tqdm(total=self.total, unit=" cells", disable=not sys.stderr.isatty()) as bar:
                while self.running or (self.waiting and self.signal_number is None):
                    while self.devices and self.signal_number is None:
                        cell = self._next()
                        if cell is None:
                            break
                        self._start(cell)
                        bar.set_description("; ".join(
                            cell.name for cell, _, _, _ in self.running.values()))
                    time.sleep(POLL_SECONDS)
                    for process in [child for child in self.running if child.poll() is not None]:
                        bar.write(self._collect(process, started), file=sys.stdout)
                        sys.stdout.flush()
                        bar.update()
        finally:
            for process in self.running:  # there are any only if we stop by an error
                process.terminate()
                process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _next(self):
        """The first waiting cell that takes no features of a cell that is not done; None if none.

        One whose network has failed is started: its own process says so in one line.
        """
        undone = {cell.folder.path.absolute() for cell in list(self.waiting) + [
            cell for cell, _, _, _ in self.running.values()]}
        return next((cell for cell in self.waiting
                     if not cell.needs or cell.needs.path.absolute() not in undone), None)

    def _start(self, cell):
        self.waiting.remove(cell)
        device = self.devices.popleft()
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log = self.log_folder / (cell.name.replace(" ", "_") + ".log")
        try:
            with open(str(log), "ab") as stream:
                # A session of its own: Ctrl-C in a terminal reaches it through us alone, once.
                process = subprocess.Popen(cell.command(), stdin=subprocess.DEVNULL, stdout=stream,
                                           stderr=subprocess.STDOUT, env=environment,
                                           start_new_session=True)
        except OSError as error:
            raise UserError("%s cannot be written: %s" % (log, error.strerror))
        self.running[process] = cell, device, log, time.perf_counter()
        if self.signal_number is not None:  # it came before the process was noted
            _terminate(process)

    def _collect(self, process, started):
        """Takes note of an ended process; returns a line about it."""
        cell, device, log, begun = self.running.pop(process)
        self.devices.append(device)
        now = time.perf_counter()
        done = self.total - len(self.waiting) - len(self.running)
        results = cell.results()
        if process.returncode == 0 and results:
            outcome = "mAP %.4f" % results["mAP"]
        elif self.signal_number is not None:
            outcome = "stopped; the same command goes on with it"
        else:
            lines = log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "exit code %d" % process.returncode
            self.failures.append((cell, "%s (%s)" % (reason, log)))
            outcome = "failed: " + reason
        left = (now - started) / done * (self.total - done)
        return "%d/%d  %s: %s, %s%s" % (
            done, self.total, cell.name, outcome, duration(now - begun),
            "; about %s left" % duration(left) if done < self.total else "")

    def _stop(self, number, _frame):
        self.signal_number = number
        for process in list(self.running):
            _terminate(process)


def _terminate(process):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


def visible_devices(jobs, option="--jobs"):
    """A deque of one CUDA_VISIBLE_DEVICES a job; None leaves it as it is.

    Args:
        jobs: processes at a time.
        option: what their number was given with.

    Raises:
        UserError: there are fewer GPUs than jobs; the jobs beyond would train on the CPU unasked.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if jobs == 1 or (visible is not None and visible.strip() in ("", "-1")):
        return deque([None] * jobs)
    count = count_gpus()
    if not count:  # on the processor, jobs share the cores
        return deque([None] * jobs)
    devices = visible.split(",") if visible is not None else [str(gpu) for gpu in range(count)]
    if min(count, len(devices)) < jobs:
        raise UserError("%s is %d but TensorFlow finds %d GPUs; one process on each is the most "
                        "that helps" % (option, jobs, min(count, len(devices))))
    return deque(devices[:jobs])


def count_gpus():
    """How many GPUs TensorFlow can use. Raises Failed if TensorFlow does not start."""
    if not os.path.exists("/proc/driver/nvidia/version"):
        return 0
    process = subprocess.run([sys.executable, "-c", COUNT_GPUS], cwd=str(ROOT),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.returncode:
        raise Failed("TensorFlow cannot be started to count GPUs; run one process alone, with: "
                     "python main.py")
    return int(process.stdout.split()[-1])
