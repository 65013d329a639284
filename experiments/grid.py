"""The grid: data sets x methods x code lengths x seeds x folds, each cell a run of main.py."""

import itertools
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from config import PIXEL_SETTINGS, ROOT, Config, Dataset, find_dataset
from evaluation.open_set import FOLDS
from methods.table import METHODS, method_of, resolve
from reports import tables
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.run_folder import RunFolder


def _variant(title, **values):
    return title, values


# Methods of the grid: name -> (title, settings). Beside those of METHODS, DCBH with one
# setting changed; its block length is 6.
GRID_METHODS = OrderedDict([
    ("dcbh", _variant("DCBH, as released")),
    ("tuned", _variant("DCBH, tuned recipe", recipe="tuned")),
    ("weight_decay", _variant("DCBH, weight decay 0.0002", weight_decay=0.0002)),
    ("no_center", _variant("DCBH, no center-clustering loss", center_weight=0.0)),
    ("no_descriptor_classification", _variant("DCBH, no descriptor classification loss",
                                              descriptor_classification_weight=0.0)),
    ("no_quantization", _variant("DCBH, no quantization loss", quantization_weight=0.0)),
    ("single_scale", _variant("DCBH, single scale", multi_scale=False)),
    ("divide_and_encode", _variant("DCBH, divide-and-encode layer",
                                   hash_layer="divide_and_encode")),
    ("dense", _variant("DCBH, one dense layer", hash_layer="dense")),
    ("block_length_2", _variant("DCBH, block length 2", block_length=2)),
    ("block_length_4", _variant("DCBH, block length 4", block_length=4)),
    ("block_length_8", _variant("DCBH, block length 8", block_length=8)),
] + [(name, _variant(method.title, method=name))
     for name, method in METHODS.items() if name != "dcbh"])
PAPER_BITS = (12, 24, 36, 48)
# Settings that the grid varies itself, so that they are not given for all cells.
AXES = ("dataset_flag", "num_bits", "seed", "unseen_split", "authors_evaluation",
        "features_of") + tuple(
    sorted({name for _, values in GRID_METHODS.values() for name in values}))
# Settings that have no bearing on a cell's numbers, and so may change when it is resumed.
IMMATERIAL = ("data_dir", "features_of", "encode_batch_size")
AVERAGED_OVER = ("seed", "unseen_split")  # cells that differ in these alone are one of a table
# Whose features the methods take that train no network: the cell of the same place in the table.
FEATURES_OF = "dcbh"
# What starts a run; tests put a stub in its place.
TRAINER = [sys.executable, str(ROOT / "main.py")]


class Cell(NamedTuple):
    """One run of the grid.

    Attributes:
        method: a key of GRID_METHODS.
        config, dataset: the run's resolved Config and its Dataset.
        folder: its RunFolder, which may not exist yet.
    """

    method: str
    config: Config
    dataset: Dataset
    folder: RunFolder

    @property
    def needs(self):
        """The folder of the cell whose features this one takes, a RunFolder; None of others."""
        return RunFolder(self.config.features_of) if self.config.features_of else None

    @property
    def name(self):
        """DATASET METHOD KBITS seedS, and the fold that is never seen, for people."""
        fold = self.config.unseen_split
        return "%s %s %d bits seed %d%s" % (
            self.dataset.name, self.method, self.config.num_bits, self.config.seed,
            "" if fold is None else " unseen %d" % fold)

    def results(self):
        """results.json if the run was trained, evaluated and reported, and is whole; else None."""
        return finished_results(self.folder)

    def check_settings(self):
        """Raises UserError if the folder holds a run of other settings.

        Or a finished one beside it, of another seed or fold: the tables take the mean of them.
        """
        cells = self.folder.path.parent.glob("%dbits_seed*" % self.config.num_bits)
        for folder in map(RunFolder, sorted(cells)):
            own = folder.path == self.folder.path
            if not (folder.holds_run() if own else finished_results(folder)):
                continue
            found = Config.recorded(folder.read_settings()).to_dict()
            if not own and (found["unseen_split"] is None) != (self.config.unseen_split is None):
                continue  # of another table
            for name, value in self.config.to_dict().items():
                if name not in IMMATERIAL + (() if own else AVERAGED_OVER) and found[name] != value:
                    raise UserError("%s was made with %s %r, not %r; name another --out or remove "
                                    "it" % (folder, name, found[name], value))

    def command(self):
        """The arguments that start or resume the run."""
        arguments = list(TRAINER) + ["--run_dir", str(self.folder)]
        resume = self.folder.holds_run()
        for name, value in self.config.to_dict().items():
            if value is not None and (not resume or name in IMMATERIAL):
                arguments += ["--%s=%s" % (name, value)]
        return arguments + ["--resume"] * resume


def finished_results(folder):
    """A finished run's results.json, a dict; None if it is not finished or a file is damaged."""
    if not (folder.holds_run() and (folder.path / "report.html").exists()):
        return None
    try:
        entries, results = folder.provenance(), folder.read_json("results.json")
    except UserError:
        return None
    finished = bool(entries) and entries[-1].get("ended_by") == "finished"
    whole = isinstance(results, dict) and isinstance(results.get("mAP"), (int, float))
    return results if finished and whole else None


def cell_folder(num_bits, seed, fold):
    """The name of a cell's folder."""
    return "%dbits_seed%d%s" % (num_bits, seed, "" if fold is None else "_unseen%d" % fold)


def make_cells(out, datasets, methods, bits, seeds, given, unseen_splits=(None,)):
    """The grid's cells: the whole table of the first seed and fold, then of the next.

    Args:
        out: folder of the grid.
        datasets: flags or names of data sets.
        methods: keys of GRID_METHODS.
        bits, seeds: ints.
        given: dict of settings for all cells; a method's own settings go before them, and those
            that change images are none of methods on embeddings.
        unseen_splits: folds of people to keep out of training; None for none.

    Returns:
        A list of Cells; those that take the features of a network come after it.

    Raises:
        UserError: a setting is refused, a data set named twice, or a network neither among the
            methods nor trained before whose features another method takes.
    """
    data_dir = given.get("data_dir", Config.data_dir)
    names = [find_dataset(flag, data_dir).name for flag in datasets]
    if len(set(names)) < len(names):
        raise UserError("--datasets names a data set twice")
    cells = []
    for name, seed, fold, method, num_bits in itertools.product(
            names, seeds, unseen_splits, sorted(methods, key=takes_features), bits):
        values = dict(given, dataset_flag=name, num_bits=num_bits, seed=seed, unseen_split=fold,
                      authors_evaluation=True)
        values.update(GRID_METHODS[method][1])
        if METHODS[values.get("method", "dcbh")].takes_embeddings:
            values = {name: value for name, value in values.items() if name not in PIXEL_SETTINGS}
        place = cell_folder(num_bits, seed, fold)
        if takes_features(method):
            values["features_of"] = str((Path(out) / name / FEATURES_OF / place).absolute())
        config, dataset = resolve(values)
        cells.append(Cell(method, config, dataset, RunFolder(Path(out) / name / method / place)))
    for cell in cells:
        if (cell.needs and FEATURES_OF not in methods and has_data(cell.dataset)
                and not finished_results(cell.needs)):
            raise UserError("method %s takes the features of %s, which is not finished; name %s "
                            "among --methods, too" % (cell.method, cell.needs, FEATURES_OF))
    return cells


def takes_features(method):
    """Whether a key of GRID_METHODS takes the features of a trained network."""
    return METHODS[GRID_METHODS[method][1].get("method", "dcbh")].needs_features_of


def has_data(dataset):
    """Whether the files of a data set are here; they are read only when a run starts."""
    return dataset.source == "orl" or dataset.train_folder.is_dir()


def with_data(cells, named):
    """The cells whose data set is here; prints a line about each data set that is not.

    Raises:
        UserError: one that the command line has named is not.
    """
    for title in OrderedDict.fromkeys(
            cell.dataset.title for cell in cells if not has_data(cell.dataset)):
        line = "%s is not in %s (data/README.md says where to get it)" % (
            title, cells[0].config.data_dir)
        if named:
            raise UserError(line)
        print(line + ": its cells stay empty")
    return [cell for cell in cells if has_data(cell.dataset)]


def with_embeddings(cells):
    """The cells whose method can be given what it takes; prints a line about the others.

    Raises:
        UserError: there are no others.
    """
    left_out = [cell for cell in cells if cell.dataset.embedding is None
                and method_of(cell.config).takes_embeddings]
    for title in OrderedDict.fromkeys(cell.dataset.title for cell in left_out):
        names = OrderedDict.fromkeys(
            cell.method for cell in left_out if cell.dataset.title == title)
        line = "%s has no face embeddings (prepare.py --embedding)" % title
        if len(left_out) == len(cells):
            raise UserError("%s, which %s takes" % (line, next(iter(names))))
        print("%s: without %s" % (line, ", ".join(names)))
    return [cell for cell in cells if cell not in left_out]


# The plan


def print_plan(cells):
    """Lists the cells with what they will take, from a few measured steps of each network."""
    from experiments import estimate  # here: without it the grid's own process needs no TensorFlow

    costs, totals = {}, OrderedDict()
    for cell in cells:
        config, dataset = cell.config, cell.dataset
        if cell.results():
            print("%s: finished" % cell.name)
            continue
        images = config.epochs * dataset.num_train
        if config.unseen_split is not None:
            images = images * (FOLDS - 1) / FOLDS
        seconds = operations = 0.0
        if method_of(config).trains:
            # Code length, hash layer and losses hardly change the time.
            key = config.method, dataset.name, config.batch_size
            if key not in costs:
                costs[key] = estimate.measure_cost(config, dataset)
            seconds = costs[key].start + images * costs[key].image
            operations = images * costs[key].operations
        print("%s: %s" % (cell.name, "about " + duration(seconds) if seconds else "not trained"),
              flush=True)
        count, all_seconds, all_operations = totals.get(dataset.title, (0, 0.0, 0.0))
        totals[dataset.title] = count + 1, all_seconds + seconds, all_operations + operations
    for title, (count, seconds, operations) in totals.items():
        print("%s: %d cells to run, about %s of training one after another on this machine, %.2g "
              "floating-point operations" % (title, count, duration(seconds), operations))


# The tables


def finished_runs(out):
    """The finished runs in a grid's folder, whichever command made them.

    Returns:
        List of tables.GridRun, in the order of data set, method, code length, seed and fold. Those
        with a fold stand under a data set's name of their own (tables.section_name).
    """
    runs = []
    for path in sorted(Path(out).glob("*/*/*bits_seed*")):
        cell = re.match(r"([0-9]+)bits_seed([0-9]+)(?:_unseen([0-9]))?\Z", path.name)
        method, dataset = path.parent.name, path.parent.parent.name
        if not cell or method not in GRID_METHODS:
            continue
        folder = RunFolder(path)
        results = finished_results(folder)
        if results:
            num_bits, seed, fold = [part and int(part) for part in cell.groups()]
            runs.append(tables.GridRun(tables.section_name(dataset, fold), method, num_bits, seed,
                                   results, folder, fold))
        elif (path / "results.json").exists() and folder.holds_run():
            print("note: %s is not finished, or a file of it is damaged: not in the tables" % path)
    return runs


def write_tables(out, cells, command):
    """Writes the tables of all finished runs in the grid's folder, if there are any.

    Args:
        out: the grid's OutputFolder.
        cells: the Cells of this command; those not finished stay empty in the tables.
        command: list of str, the command line, for the page.
    """
    runs = finished_runs(out.path)
    if not runs:
        return
    planned = [(tables.section_name(cell.dataset.name, cell.config.unseen_split), cell.method,
                cell.config.num_bits) for cell in cells]
    found = [(run.dataset, run.method, run.num_bits) for run in runs]
    datasets, methods, bits = [set(column) for column in zip(*planned + found)]
    table = tables.Table(
        [name for name in OrderedDict.fromkeys(part[0] for part in planned + found)
         if name in datasets],
        OrderedDict((name, title) for name, (title, _) in GRID_METHODS.items()
                    if name in methods), sorted(bits), runs)
    wanted = {place + (cell.config.seed, cell.config.unseen_split)
              for place, cell in zip(planned, cells)}
    wanted.update(place + (run.seed, run.fold) for place, run in zip(found, runs))
    metadata = tables.how_made(table, command, len(wanted))
    print("report: %s; also tables.md and tables.csv" % tables.write_tables(out, table, metadata))
