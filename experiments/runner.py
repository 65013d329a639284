"""Runs the cells of a grid as processes of their own, a few at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple, Optional

from tqdm import tqdm

from experiments.grid import Cell
from runtime.command_line import duration, end_with_parent
from runtime.files import writing
from runtime.output_folder import OutputFolder
from runtime.tensorflow import visible_devices

POLL_SECONDS = 0.2


class Started(NamedTuple):
    """A running cell: its CUDA_VISIBLE_DEVICES (None: as it is), its log, time.perf_counter()."""

    cell: Cell
    device: Optional[str]
    log: Path
    time: float


class Runner:
    """Runs cells as processes, `jobs` at a time, each on a GPU of its own if there are several.

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
        self.running = {}  # process -> Started
        self.failures = []
        self.signal_number = None

    def run(self):
        """Runs all cells; a failed one does not stop the rest.

        SIGINT and SIGTERM are passed on: running cells save and stop, and no further one starts.
        If this process is killed, running cells save and stop, too (Linux).

        Raises:
            UserError: a log cannot be written; running cells are stopped first.
        """
        OutputFolder.create(self.log_folder, "logs")
        previous = {number: signal.signal(number, self._stop)
                    for number in (signal.SIGINT, signal.SIGTERM)}
        begin = time.perf_counter()
        try:
            with tqdm(total=self.total, unit=" cells", disable=not sys.stderr.isatty()) as bar:
                while self.running or (self.waiting and self.signal_number is None):
                    while self.devices and self.signal_number is None:
                        cell = self._next()
                        if cell is None:
                            break
                        self._start(cell)
                        bar.set_description("; ".join(
                            started.cell.name for started in self.running.values()))
                    time.sleep(POLL_SECONDS)
                    for process in [child for child in self.running if child.poll() is not None]:
                        bar.write(self._collect(process, begin), file=sys.stdout)
                        sys.stdout.flush()
                        bar.update()
        finally:
            for process in self.running:  # only after an error
                process.terminate()
                process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _next(self):
        """The first waiting cell whose network, if it takes one's features, is done; None if none.

        If that network has failed, the cell starts, and its own process says so in one line.
        """
        undone = {cell.folder.path.absolute() for cell in (
            *self.waiting, *(started.cell for started in self.running.values()))}
        return next((cell for cell in self.waiting
                     if not cell.needs or cell.needs.path.absolute() not in undone), None)

    def _start(self, cell):
        self.waiting.remove(cell)
        device = self.devices.popleft()
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log = self.log_folder / (cell.name.replace(" ", "_") + ".log")
        with writing(log), open(log, "ab") as stream:
            # A session of its own: Ctrl-C in a terminal reaches it through us alone, once.
            process = subprocess.Popen(cell.command(), stdin=subprocess.DEVNULL, stdout=stream,
                                       stderr=subprocess.STDOUT, env=environment,
                                       start_new_session=True, preexec_fn=end_with_parent)
        self.running[process] = Started(cell, device, log, time.perf_counter())
        if self.signal_number is not None:  # it came before the process was noted
            _terminate(process)

    def _collect(self, process, begin):
        """Takes note of an ended process; returns a line about it."""
        cell, device, log, started = self.running.pop(process)
        self.devices.append(device)
        now = time.perf_counter()
        done = self.total - len(self.waiting) - len(self.running)
        results = cell.results()
        if process.returncode == 0 and results:
            outcome = f"mAP {results['mAP']:.4f}"
        elif self.signal_number is not None:
            outcome = "stopped; the same command resumes it"
        else:
            lines = log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {process.returncode}"
            self.failures.append((cell, f"{reason} ({log})"))
            outcome = "failed: " + reason
        line = f"{done}/{self.total}  {cell.name}: {outcome}, {duration(now - started)}"
        if done < self.total:
            line += f"; about {duration((now - begin) / done * (self.total - done))} left"
        return line

    def _stop(self, number, _frame):
        self.signal_number = number
        for process in list(self.running):
            _terminate(process)


def _terminate(process):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
