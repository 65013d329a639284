"""Trains and evaluates a grid of data sets x methods x bits x seeds x folds; writes its tables.

    python reproduce.py                                the paper's data sets and ORL
    python reproduce.py --datasets orl --epochs 10     a grid for a laptop
    python reproduce.py --dry_run                      the cells, and how long they will take

Each cell is a run of main.py, in OUT/DATASET/METHOD/KBITS_seedS, or KBITS_seedS_unseenI with
--unseen_splits, which keeps folds of the people out of training. The same command again skips
finished cells and goes on with interrupted ones; another command with the same --out adds its cells
to the tables. Settings of config.py that the methods do not vary can be given, for all cells.
Results: OUT/tables.md, tables.csv, figures/ and report.html.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import sys

from config import DATASETS, Config
from evaluation.open_set import FOLDS
from experiments import grid
from experiments.runner import Runner
from runtime.command_line import ArgumentParser, add_setting_arguments, run_command, setting_values
from runtime.errors import Failed, UserError
from runtime.output_folder import OutputFolder


def parse_command_line(arguments):
    """(options, given): the grid's options, and the settings for all its cells."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", metavar="FLAG",
                        help="flags or names of data sets (default: 0 1 2)")
    parser.add_argument("--methods", nargs="+", default=list(grid.GRID_METHODS), metavar="NAME",
                        help="default: all of %s" % ", ".join(grid.GRID_METHODS))
    parser.add_argument("--bits", nargs="+", type=int, default=list(grid.PAPER_BITS), metavar="K",
                        help="code lengths (default: 12 24 36 48)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S",
                        help="default: 0 1 2")
    parser.add_argument("--unseen_splits", nargs="+", type=int, choices=range(FOLDS), metavar="I",
                        help="folds of people that are kept out of training, one in each run: 0 1 "
                             "2 3 (default: everybody trains)")
    parser.add_argument("--out", default="runs/grid", metavar="DIR", help="default: runs/grid")
    parser.add_argument("--jobs", type=int, default=1,
                        help="cells at a time, one a GPU; name those with CUDA_VISIBLE_DEVICES "
                             "unless they are 0, 1, ... (default: 1)")
    parser.add_argument("--dry_run", action="store_true",
                        help="list the cells with estimated times, and train nothing")
    add_setting_arguments(parser, Config, leave_out=grid.AXES)
    options = parser.parse_args(arguments)
    for name in options.methods:
        if name not in grid.GRID_METHODS:
            raise UserError("--methods: %r is none of %s" % (name, ", ".join(grid.GRID_METHODS)))
    for name in ("datasets", "methods", "bits", "seeds", "unseen_splits"):
        values = getattr(options, name) or []
        if len(set(values)) < len(values):
            raise UserError("--%s names a value twice" % name)
    if options.jobs < 1:
        raise UserError("--jobs is %d; it must be at least 1" % options.jobs)
    return options, setting_values(options, Config)


def main(arguments):
    """Runs the grid, or says what it would take; writes the tables of what is finished."""
    options, given = parse_command_line(arguments)
    cells = grid.make_cells(options.out, options.datasets or sorted(DATASETS), options.methods,
                            options.bits, options.seeds, given, options.unseen_splits or [None])
    cells = grid.with_embeddings(cells)
    for cell in cells:
        cell.check_settings()
    if options.dry_run:
        grid.print_plan(cells)
        return
    runnable = grid.with_data(cells, named=bool(options.datasets))
    out = OutputFolder.create(options.out, "grid")
    todo = [cell for cell in runnable if not cell.results()]
    print("%d cells, %d of them finished before" % (len(cells), len(runnable) - len(todo)))
    runner = Runner(todo, options.jobs, out.path / "logs")
    runner.run()
    grid.write_tables(out, cells, ["reproduce.py"] + arguments)
    if runner.signal_number is not None:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + runner.signal_number)
    if runner.failures:
        for cell, reason in runner.failures:
            print("failed: %s: %s" % (cell.name, reason), file=sys.stderr)
        raise Failed("%d of %d cells failed; their logs are in %s"
                     % (len(runner.failures), len(cells), out.path / "logs"))


if __name__ == "__main__":
    run_command(main)
