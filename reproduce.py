"""Trains and evaluates a grid of data sets x methods x bits x seeds x folds; writes its tables.

    python reproduce.py                                the paper's data sets and ORL
    python reproduce.py --datasets orl --epochs 10     a grid for a laptop
    python reproduce.py --dry_run                      the cells, and how long they will take
    python reproduce.py --paper                        the paper's tables from finished runs
    python reproduce.py --campaign results/campaign.txt --jobs 2   the grids that results/ shows

Each cell is a run of main.py, in OUT/DATASET/METHOD/KBITS_seedS, or KBITS_seedS_unseenI with
--unseen_splits. The same command again skips finished cells and resumes interrupted ones; another
command with the same --out adds its cells to the tables. Settings of config.py that are the same
in all cells are options, too. Results: OUT/tables.md, runs.csv, figures/ and report.html.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os
import shlex
import sys
import time

from config import DATASETS, Config
from evaluation.open_set import FOLDS
from experiments import grid
from experiments.runner import Runner
from runtime.command_line import (
    ArgumentParser,
    add_setting_arguments,
    counted,
    duration,
    run_command,
    setting_values,
)
from runtime.errors import Failed, UserError
from runtime.files import read_text
from runtime.output_folder import OutputFolder

MOST_JOBS = 1000


def parse_command_line(arguments):
    """(options, given): the grid's options, and the settings for all its cells."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", metavar="FLAG",
                        help="flags or names of data sets (default: 0 1 2)")
    parser.add_argument("--methods", nargs="+", default=list(grid.GRID_METHODS), metavar="NAME",
                        help=f"methods (default: all): {', '.join(grid.GRID_METHODS)}")
    parser.add_argument("--bits", nargs="+", type=int, default=list(grid.PAPER_BITS), metavar="K",
                        help="code lengths (default: 12 24 36 48)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S",
                        help="seeds (default: 0 1 2)")
    parser.add_argument("--unseen_splits", nargs="+", type=int, choices=range(FOLDS), metavar="I",
                        help="folds of people to keep out of training, one in each run: 0 1 2 3 "
                             "(default: everybody is in the training set)")
    parser.add_argument("--out", default="runs/grid", metavar="DIR",
                        help="folder for runs and tables (default: runs/grid)")
    parser.add_argument("--jobs", type=int, default=1,
                        help="cells to run at a time, each on a GPU of its own; "
                             "CUDA_VISIBLE_DEVICES chooses the GPUs (default: 1)")
    parser.add_argument("--campaign", metavar="FILE",
                        help="run several grids: each line of FILE is the options of one; options "
                             "beside --campaign go to all of them")
    plans = parser.add_mutually_exclusive_group()
    plans.add_argument("--dry_run", action="store_true",
                       help="list the cells with estimated times, and train nothing")
    plans.add_argument("--paper", action="store_true",
                       help="print the paper's tables (two data sets, four code lengths) with the "
                            "finished runs in --out, and the time for the rest; train nothing")
    add_setting_arguments(parser, Config, leave_out=grid.VARIED)
    options = parser.parse_args(arguments)
    for name in options.methods:
        if name not in grid.GRID_METHODS:
            raise UserError(f"--methods: {name!r} is none of {', '.join(grid.GRID_METHODS)}")
    for name in ("datasets", "methods", "bits", "seeds", "unseen_splits"):
        values = getattr(options, name) or []
        if len(set(values)) < len(values):
            raise UserError(f"--{name} names a value twice")
    if not 1 <= options.jobs <= MOST_JOBS:
        raise UserError(f"--jobs is {options.jobs}; it must be from 1 to {MOST_JOBS}")
    return options, setting_values(options, Config)


def main(arguments):
    """Runs the grid, or says what it would take; writes the tables of what is finished."""
    options, given = parse_command_line(arguments)
    if options.campaign is not None:
        run_campaign(options.campaign, arguments)
        return
    if options.paper:
        options.datasets, options.bits = grid.PAPER_DATASETS, grid.PAPER_BITS
    carry_out(options, plan(options, given), arguments)


def carry_out(options, cells, arguments):
    """Runs a grid's Cells; with --dry_run or --paper, says what they would take."""
    grid.check_features(cells)  # only now: an earlier line of a campaign may have made them
    if options.paper:
        grid.print_paper(options.out, cells)
    elif options.dry_run:
        grid.print_plan(cells)
    else:
        run(options, cells, ["reproduce.py", *arguments])


def plan(options, given):
    """The Cells of a grid. Raises UserError for what can be refused before anything runs."""
    cells = grid.make_cells(options.out, options.datasets or DATASETS, options.methods,
                            options.bits, options.seeds, given, options.unseen_splits or [None])
    cells = grid.with_inputs(cells)
    for cell in cells:
        cell.check_settings()
    return cells


def run(options, cells, command):
    """Runs the cells that are not finished, and writes the tables."""
    runnable = grid.with_data(cells, named=bool(options.datasets))
    out = OutputFolder.create(options.out, "grid")
    todo = [cell for cell in runnable if not cell.results()]
    finished = len(runnable) - len(todo)
    print(f"{counted(len(cells), 'cell', 'cells')}, {finished} already finished")
    runner = Runner(todo, options.jobs, out.path / "logs")
    runner.run()
    grid.write_tables(out, cells, command)
    if runner.signal_number is not None:
        print("stopped; the same command resumes", file=sys.stderr)
        sys.exit(128 + runner.signal_number)
    for cell, reason in runner.failures:
        print(f"failed: {cell.name}: {reason}", file=sys.stderr)
    if runner.failures:
        raise Failed(f"{len(runner.failures)} of {len(cells)} cells failed; their logs are in "
                     f"{out.path / 'logs'}")


def run_campaign(path, arguments):
    """Runs the grids of a campaign, one after another; the same command again resumes.

    Args:
        path: of the campaign's file: a line a grid, # begins a comment.
        arguments: the command line, with --campaign.

    Raises:
        UserError: the file cannot be read, names no grid, or a line of it is refused; before any
            grid starts.
        Failed: cells or grids have failed; all grids have had their turn.
    """
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--campaign")
    _, shared = parser.parse_known_args(arguments)
    grids = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                words = shared + words
                options, given = parse_command_line(words)
                if options.campaign is not None or options.paper:
                    raise UserError("a campaign's line must not have --campaign or --paper")
                grids.append((words, options, plan(options, given)))
                if options.datasets and not options.dry_run:
                    grid.with_data(grids[-1][2], named=True)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}, line {number}: {error}")
    if not grids:
        raise UserError(f"{path} names no grid: each line is the options of one, such as "
                        "--datasets orl --methods dcbh csq")
    started, failures = time.perf_counter(), []
    for words, options, cells in grids:
        print(f"reproduce.py {' '.join(words)}", flush=True)
        try:
            carry_out(options, cells, words)
        except UserError as error:  # also a grid whose features a line before should have made
            failures.append(str(error))
            print(error, file=sys.stderr)
    outs = dict.fromkeys(options.out for _, options, _ in grids)
    size = sum(os.path.getsize(os.path.join(folder, name)) for out in outs
               for folder, _, names in os.walk(out) for name in names)
    print(f"{len(grids)} grids in {duration(time.perf_counter() - started)}; {size / 1e9:.1f} GB "
          f"in {', '.join(outs)}")
    if failures:
        raise Failed(f"{len(failures)} of {len(grids)} grids failed, or have failed cells: "
                     f"{failures[0]}")


if __name__ == "__main__":
    run_command(main)
