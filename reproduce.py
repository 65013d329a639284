"""Trains and evaluates a grid of data sets x methods x code lengths x seeds; writes its tables.

    python reproduce.py                                the paper's data sets and ORL
    python reproduce.py --datasets orl --epochs 10     a grid for a laptop
    python reproduce.py --dry_run                      the cells, and how long they will take

Each cell is a run of main.py, in OUT/DATASET/METHOD/KBITS_seedS. The same command again skips
finished cells and goes on with interrupted ones. Settings of config.py that the methods do not vary
can be given, for all cells. Results: OUT/tables.md, tables.csv, figures/ and report.html.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

import config as settings
from config import DATASETS, ROOT, SHALLOW_METHODS, Config, UserError, find_dataset
from reports import tables
from runtime.run_folder import RunFolder

# Methods of the grid: name -> (title, settings). All but the last four are DCBH with one setting
# changed; its block length is 6.
GRID_METHODS = OrderedDict([
    ("dcbh", ("DCBH, as released", {})),
    ("weight_decay", ("DCBH, weight decay 0.0002", dict(weight_decay=0.0002))),
    ("no_center", ("DCBH, no center-clustering loss", dict(center_weight=0.0))),
    ("no_descriptor_classification", ("DCBH, no descriptor classification loss",
                                      dict(descriptor_classification_weight=0.0))),
    ("no_quantization", ("DCBH, no quantization loss", dict(quantization_weight=0.0))),
    ("single_scale", ("DCBH, single scale", dict(multi_scale=False))),
    ("divide_and_encode", ("DCBH, divide-and-encode layer", dict(hash_layer="divide_and_encode"))),
    ("dense", ("DCBH, one dense layer", dict(hash_layer="dense"))),
    ("block_length_2", ("DCBH, block length 2", dict(block_length=2))),
    ("block_length_4", ("DCBH, block length 4", dict(block_length=4))),
    ("block_length_8", ("DCBH, block length 8", dict(block_length=8))),
    ("ddh", ("DDH", dict(method="ddh"))),
    ("lsh", ("LSH on pixels", dict(method="lsh"))),
    ("pcah", ("PCA hashing on pixels", dict(method="pcah"))),
    ("itq", ("ITQ on pixels", dict(method="itq"))),
])
PAPER_BITS = (12, 24, 36, 48)
# Settings that the grid varies itself, so that they are not given for all cells.
AXES = ("dataset_flag", "num_bits", "seed", "authors_evaluation") + tuple(
    sorted({name for _, values in GRID_METHODS.values() for name in values}))
# Settings that have no bearing on a cell's numbers, and so may change when it is resumed.
IMMATERIAL = ("data_dir", "encode_batch_size")
TRAINER = (sys.executable, str(ROOT / "main.py"))
POLL_SECONDS = 0.2


class Cell(NamedTuple):
    """One run of the grid.

    Attributes:
        method: a key of GRID_METHODS.
        config: the run's resolved Config.
        folder: its RunFolder, which may not exist yet.
    """

    method: str
    config: Config
    folder: RunFolder

    @property
    def name(self):
        """DATASET METHOD KBITS seedS, for people."""
        return "%s %s %d bits seed %d" % (
            self.config.dataset.name, self.method, self.config.num_bits, self.config.seed)

    def finished(self):
        """Whether the run was trained, evaluated and reported."""
        folder = self.folder
        if not (folder.holds_run() and (folder.path / "report.html").exists()):
            return False
        entries = folder.provenance()
        return bool(entries) and entries[-1]["ended_by"] == "finished"

    def check_settings(self):
        """Raises UserError if the folder holds a run of other settings."""
        if not self.folder.holds_run():
            return
        found, wanted = self.folder.read_config().to_dict(), self.config.to_dict()
        for name, value in wanted.items():
            if name not in IMMATERIAL and found[name] != value:
                raise UserError("%s was made with %s %r, not %r; name another --out or remove it"
                                % (self.folder, name, found[name], value))

    def command(self):
        """The words that start or resume the run."""
        words = list(TRAINER) + ["--run_dir", str(self.folder)]
        resume = self.folder.holds_run()
        for name, value in self.config.to_dict().items():
            if not resume or name in IMMATERIAL:
                words += ["--" + name, str(value)]
        return words + ["--resume"] * resume


def make_cells(out, datasets, methods, bits, seeds, given):
    """The grid's cells: the whole table of the first seed, then of the next.

    Args:
        out: folder of the grid.
        datasets: flags or names of data sets.
        methods: keys of GRID_METHODS.
        bits, seeds: ints.
        given: dict of settings for all cells; a method's own settings go before them.

    Returns:
        A list of Cells.

    Raises:
        UserError: a setting is refused, or a data set named twice.
    """
    names = [find_dataset(flag, given.get("data_dir", Config.data_dir)).name for flag in datasets]
    if len(set(names)) < len(names):
        raise UserError("--datasets names a data set twice")
    cells = []
    for dataset in names:
        for seed in seeds:
            for method in methods:
                for num_bits in bits:
                    values = dict(given, dataset_flag=dataset, num_bits=num_bits, seed=seed,
                                  authors_evaluation=True)
                    values.update(GRID_METHODS[method][1])
                    config = Config.from_dict(values)
                    cells.append(Cell(method, config, RunFolder(
                        Path(out) / dataset / method
                        / ("%dbits_seed%d" % (num_bits, seed)))))
    return cells


def has_data(config):
    """Whether the files of a run's data set are here; they are read only when it starts."""
    dataset = config.dataset
    return dataset.source == "orl" or (Path(config.data_dir) / dataset.train_folder).is_dir()


def with_data(cells, named):
    """The cells whose data set is here; prints a line about each data set that is not.

    Raises:
        UserError: one that the command line has named is not.
    """
    for title in OrderedDict.fromkeys(
            cell.config.dataset.title for cell in cells if not has_data(cell.config)):
        line = "%s is not in %s (data/README.md says where to get it)" % (
            title, cells[0].config.data_dir)
        if named:
            raise UserError(line)
        print(line + ": its cells stay empty")
    return [cell for cell in cells if has_data(cell.config)]


# Running


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
        RunFolder.output(self.log_folder)
        previous = {number: signal.signal(number, self._stop)
                    for number in (signal.SIGINT, signal.SIGTERM)}
        started = time.perf_counter()
        try:
            with tqdm(total=self.total, unit=" cells", disable=not sys.stderr.isatty()) as bar:
                while self.running or (self.waiting and self.signal_number is None):
                    while self.waiting and self.devices and self.signal_number is None:
                        self._start(self.waiting.popleft())
                    time.sleep(POLL_SECONDS)
                    for process in [one for one in self.running if one.poll() is not None]:
                        bar.write(self._collect(process, started), file=sys.stdout)
                        sys.stdout.flush()
                        bar.update()
        finally:
            for process in self.running:  # there are any only if we stop by an error
                process.terminate()
                process.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self, cell):
        device = self.devices.popleft()
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log = self.log_folder / (cell.name.replace(" ", "_") + ".log")
        try:
            with open(str(log), "wb") as stream:
                # A session of its own: Ctrl-C in a terminal reaches it through us alone, once.
                process = subprocess.Popen(cell.command(), stdin=subprocess.DEVNULL, stdout=stream,
                                           stderr=subprocess.STDOUT, env=environment,
                                           start_new_session=True)
        except OSError as error:
            raise UserError("%s cannot be written: %s" % (log, error.strerror))
        self.running[process] = cell, device, log, time.perf_counter()

    def _collect(self, process, started):
        """Takes note of an ended process; returns a line about it."""
        cell, device, log, begun = self.running.pop(process)
        self.devices.append(device)
        now = time.perf_counter()
        done = self.total - len(self.waiting) - len(self.running)
        if process.returncode == 0:
            outcome = "mAP %.4f" % cell.folder.read_json("results.json")["mAP"]
        elif self.signal_number is not None:
            outcome = "stopped; the same command goes on with it"
        else:
            lines = log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "exit code %d" % process.returncode
            self.failures.append((cell, "%s (%s)" % (reason, log)))
            outcome = "failed: " + reason
        return "%d/%d  %s: %s, %d s; remaining about %s" % (
            done, self.total, cell.name, outcome, now - begun,
            duration((now - started) / done * (self.total - done)))

    def _stop(self, number, _frame):
        self.signal_number = number
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)


def visible_devices(jobs):
    """A deque of one CUDA_VISIBLE_DEVICES a job; None leaves it as it is."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if jobs == 1 or (visible is not None and visible.strip() in ("", "-1")):
        return deque([None] * jobs)
    devices = (visible.split(",") if visible is not None else [str(one) for one in range(jobs)])
    if len(devices) < jobs:
        raise UserError("--jobs is %d but CUDA_VISIBLE_DEVICES=%r names fewer devices"
                        % (jobs, visible))
    return deque(devices[:jobs])


def duration(seconds):
    """Seconds as text for people."""
    if seconds < 100:
        return "%d s" % round(seconds)
    if seconds < 6000:
        return "%d min" % round(seconds / 60)
    return "%.1f h" % (seconds / 3600)


# The plan


def print_plan(cells):
    """Lists the cells with what they will take, from a few measured steps of each network."""
    from experiments import (
        estimate,  # here alone: without it the grid's own process needs no TensorFlow
    )

    costs, totals = {}, OrderedDict()
    for cell in cells:
        config = cell.config
        if cell.finished():
            print("%s: finished" % cell.name)
            continue
        images = config.epochs * config.dataset.num_train
        if config.method in SHALLOW_METHODS:
            seconds = operations = 0.0
        else:
            # Code length, hash layer and losses hardly change the time.
            key = config.method, config.dataset.name, config.batch_size
            if key not in costs:
                costs[key] = estimate.measure_cost(config)
            seconds = costs[key].start + images * costs[key].image
            operations = images * costs[key].operations
        print("%s: %s" % (cell.name, "about " + duration(seconds) if seconds else "not trained"),
              flush=True)
        own = totals.setdefault(config.dataset.title, [0, 0.0, 0.0])
        totals[config.dataset.title] = [own[0] + 1, own[1] + seconds, own[2] + operations]
    for title, (count, seconds, operations) in totals.items():
        print("%s: %d cells to run, about %s of training one after another on this machine, %.2g "
              "floating-point operations" % (title, count, duration(seconds), operations))


# The command


def write_tables(out, cells, options):
    """Writes the tables of the cells that are finished, if there are any."""
    table = tables.Table(
        list(OrderedDict.fromkeys(cell.config.dataset.name for cell in cells)),
        OrderedDict((name, GRID_METHODS[name][0]) for name in options.methods), options.bits,
        [tables.Run(cell.config.dataset.name, cell.method, cell.config.num_bits, cell.config.seed,
                    cell.folder.read_json("results.json"), cell.folder)
         for cell in cells if cell.finished()])
    if table.runs:
        facts = tables.how_made(table, ["reproduce.py"] + sys.argv[1:], len(cells))
        print("report: %s; also tables.md and tables.csv"
              % tables.write_tables(out, table, facts))


def parse_command_line(arguments):
    """(options, given): the grid's options, and the settings for all its cells."""
    parser = settings.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", metavar="FLAG",
                        help="flags or names of data sets (default: 0 1 2)")
    parser.add_argument("--methods", nargs="+", default=list(GRID_METHODS), metavar="NAME",
                        help="default: all of %s" % ", ".join(GRID_METHODS))
    parser.add_argument("--bits", nargs="+", type=int, default=list(PAPER_BITS), metavar="K",
                        help="code lengths (default: 12 24 36 48)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S",
                        help="default: 0 1 2")
    parser.add_argument("--out", default="runs/grid", metavar="DIR", help="default: runs/grid")
    parser.add_argument("--jobs", type=int, default=1,
                        help="cells at a time, one a GPU; name those with CUDA_VISIBLE_DEVICES "
                             "unless they are 0, 1, ... (default: 1)")
    parser.add_argument("--dry_run", action="store_true",
                        help="list the cells with estimated times, and train nothing")
    settings.add_setting_arguments(parser, leave_out=AXES)
    options = parser.parse_args(arguments)
    for name in options.methods:
        if name not in GRID_METHODS:
            raise UserError("--methods: %r is none of %s" % (name, ", ".join(GRID_METHODS)))
    for name in ("datasets", "methods", "bits", "seeds"):
        values = getattr(options, name) or []
        if len(set(values)) < len(values):
            raise UserError("--%s names a value twice" % name)
    if options.jobs < 1:
        raise UserError("--jobs is %d; it must be at least 1" % options.jobs)
    return options, settings.setting_values(options)


def main(arguments):
    """Runs the grid, or says what it would take; writes the tables of what is finished."""
    options, given = parse_command_line(arguments)
    flags = [int(one) if one.isdecimal() else one for one in options.datasets or ()]
    cells = make_cells(options.out, flags or sorted(DATASETS), options.methods, options.bits,
                       options.seeds, given)
    for cell in cells:
        cell.check_settings()
    if options.dry_run:
        print_plan(cells)
        return
    runnable = with_data(cells, named=bool(options.datasets))
    out = RunFolder.output(options.out)
    out.lock()
    todo = [cell for cell in runnable if not cell.finished()]
    print("%d cells, %d of them finished before" % (len(cells), len(runnable) - len(todo)))
    runner = Runner(todo, options.jobs, out.path / "logs")
    runner.run()
    write_tables(out, cells, options)
    if runner.signal_number is not None:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + runner.signal_number)
    if runner.failures:
        for cell, reason in runner.failures:
            print("failed: %s: %s" % (cell.name, reason), file=sys.stderr)
        raise settings.Failed("%d of %d cells failed; their logs are in %s"
                              % (len(runner.failures), len(cells), out.path / "logs"))


if __name__ == "__main__":
    settings.run_command(main)
