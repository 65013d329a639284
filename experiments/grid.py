"""The grid: data sets x methods x code lengths x seeds x folds, each cell one run of main.py."""

import itertools
import re
import sys
from pathlib import Path
from typing import NamedTuple

from config import ROOT, Config, Dataset, find_dataset
from evaluation.open_set import FOLDS
from experiments.estimate import device_kind, measure_cost
from methods.table import METHODS, method_of, resolve
from model import backbone_of
from reports import tables
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from runtime.settings import setting_names


class Variant(NamedTuple):
    """A method of the grid: its title, and the settings that make it."""

    title: str
    settings: dict

    @property
    def method(self):
        """The Method that makes its codes."""
        return METHODS[self.settings.get("method", Config.method)]


DLBHC = dict(method="ssdh", ssdh_binary_weight=0.0, ssdh_balance_weight=0.0)
# The methods of config.py, and DCBH with one setting changed; its block length is 6.
GRID_METHODS = {
    "dcbh": Variant("DCBH, as released", {}),
    "tuned": Variant("DCBH, tuned recipe", dict(recipe="tuned")),
    "shuffle": Variant("DCBH, new image order each epoch", dict(shuffle=True)),
    "weight_decay": Variant("DCBH, weight decay 0.0002", dict(weight_decay=0.0002)),
    "no_center": Variant("DCBH, no center-clustering loss", dict(center_weight=0.0)),
    "no_descriptor_classification": Variant(
        "DCBH, no descriptor classification loss", dict(descriptor_classification_weight=0.0)),
    "no_quantization": Variant("DCBH, no quantization loss", dict(quantization_weight=0.0)),
    "single_scale": Variant("DCBH, single scale", dict(multi_scale=False)),
    "divide_and_encode": Variant("DCBH, divide-and-encode layer",
                                 dict(hash_layer="divide_and_encode")),
    "dense": Variant("DCBH, one dense layer", dict(hash_layer="dense")),
    **{f"block_length_{length}": Variant(f"DCBH, block length {length}", dict(block_length=length))
       for length in (2, 4, 8)},
    **{name: Variant(method.title, dict(method=name))
       for name, method in METHODS.items() if name != "dcbh"},
    "dlbhc": Variant("DLBHC", DLBHC),
    # Losses of others that do best behind one dense layer, behind block hashing.
    "dlbhc_block": Variant("DLBHC, block hashing layer", dict(DLBHC, hash_layer="block")),
    **{f"{name}_block": Variant(f"{METHODS[name].title}, block hashing layer",
                                dict(method=name, hash_layer="block"))
       for name in ("greedyhash", "ssdh", "csq")},
}
PAPER_DATASETS, PAPER_BITS = (0, 1), (12, 24, 36, 48)
# The method whose features others take: from the cell of the same data set, bits, seed and fold.
FEATURES_OF = "dcbh"
PLACE, SAMPLE = setting_names(Config, "place"), setting_names(Config, "sample")
# Settings that differ from cell to cell, so that none is given for all cells.
VARIED = {"dataset_flag", "num_bits", "features_of", "authors_evaluation", *SAMPLE}.union(
    *(variant.settings for variant in GRID_METHODS.values()))
# What starts a run; tests put a stub in its place.
TRAINER = [sys.executable, str(ROOT / "main.py")]


class Cell(NamedTuple):
    """One run of the grid.

    Attributes:
        method: a key of GRID_METHODS.
        config, dataset: the run's complete Config and its Dataset.
        folder: its RunFolder, which may not exist yet.
    """

    method: str
    config: Config
    dataset: Dataset
    folder: RunFolder

    @property
    def needs(self):
        """RunFolder of the cell whose features this one takes, or None."""
        return RunFolder(self.config.features_of) if self.config.features_of else None

    @property
    def name(self):
        """What people call it: data set, method, bits, seed, fold left out of training."""
        fold = self.config.unseen_split
        return (f"{self.dataset.name} {self.method} {self.config.num_bits} bits seed "
                f"{self.config.seed}{'' if fold is None else f' unseen {fold}'}")

    @property
    def has_data(self):
        """Whether the files of its data set are here; only its run reads them."""
        return self.dataset.source == "orl" or self.dataset.train_folder.is_dir()

    @property
    def lacks(self):
        """What its method takes and its data set has not, as text; None if nothing."""
        return method_of(self.config).lacks(self.dataset)

    def results(self):
        """results.json if the run is trained, evaluated and reported, and is whole; else None."""
        return finished_results(self.folder)

    def check_settings(self):
        """Raises UserError if the folder holds a run of other settings.

        So does a finished run beside it, of another seed or fold: tables take the mean of both.
        """
        for path in sorted(self.folder.path.parent.glob(f"{self.config.num_bits}bits_seed*")):
            folder, own = RunFolder(path), path == self.folder.path
            if not (folder.holds_run() if own else finished_results(folder)):
                continue
            found = Config.recorded(folder.read_settings()).to_dict()
            if not own and (found["unseen_split"] is None) != (self.config.unseen_split is None):
                continue  # of another table
            free = PLACE if own else PLACE + SAMPLE
            for name, value in self.config.to_dict().items():
                if name not in free and found[name] != value:
                    raise UserError(f"{folder} was made with {name} {found[name]!r}, not "
                                    f"{value!r}; name another --out, or remove that folder")

    def command(self):
        """The arguments that start or resume the run."""
        resume = self.folder.holds_run()
        values = self.config.to_dict()
        given = [f"--{name}={values[name]}" for name in (PLACE if resume else values)
                 if values[name] is not None]
        return [*TRAINER, "--run_dir", str(self.folder), *given, *["--resume"] * resume]


def finished_results(folder):
    """A finished run's results.json, a dict; None if it is not finished or a file is damaged."""
    if not (folder.holds_run() and (folder.path / "report.html").exists()):
        return None
    try:
        entries, results = folder.provenance(), folder.read_results()
    except UserError:
        return None
    return results if entries and entries[-1].get("ended_by") == "finished" else None


def cell_folder(num_bits, seed, fold):
    """The name of a cell's folder."""
    return f"{num_bits}bits_seed{seed}" + ("" if fold is None else f"_unseen{fold}")


def make_cells(out, datasets, methods, bits, seeds, given, unseen_splits=(None,)):
    """The grid's cells: the whole table of the first seed and fold, then of the next.

    Args:
        out: folder of the grid.
        datasets: flags or names of data sets.
        methods: keys of GRID_METHODS.
        bits, seeds: ints.
        given: dict of settings for all cells. A method's own settings override them, and those of
            pixels do not reach methods on embeddings.
        unseen_splits: folds of people to keep out of training; None for none.

    Returns:
        A list of Cells.

    Raises:
        UserError: a setting is refused, or a data set named twice.
    """
    data_dir = given.get("data_dir", Config.data_dir)
    names = [find_dataset(flag, data_dir, "--datasets").name for flag in datasets]
    if len(set(names)) < len(names):
        raise UserError("--datasets names a data set twice")
    cells = []
    for name, seed, fold, method, num_bits in itertools.product(
            names, seeds, unseen_splits, methods, bits):
        variant, place = GRID_METHODS[method], cell_folder(num_bits, seed, fold)
        values = dict(given, dataset_flag=name, num_bits=num_bits, seed=seed, unseen_split=fold,
                      authors_evaluation=True)
        values.update(variant.settings)
        values = variant.method.without_meaningless(values)
        values.update(variant.method.settings_for_network(
            (Path(out) / name / FEATURES_OF / place).absolute()))
        config, dataset = resolve(values)
        cells.append(Cell(method, config, dataset, RunFolder(Path(out) / name / method / place)))
    return cells


def check_features(cells):
    """Raises UserError if a method takes the features of a network that no cell trains."""
    trained = {cell.folder.path.absolute() for cell in cells}
    for cell in cells:
        if (cell.needs and cell.needs.path not in trained and cell.has_data
                and not finished_results(cell.needs)):
            raise UserError(f"method {cell.method} takes the features of {cell.needs}, which is "
                            f"not finished; add {FEATURES_OF} to --methods")


def with_data(cells, named):
    """The cells whose data set is here; prints a line for each data set that is not.

    Raises:
        UserError: the command line has named one that is not.
    """
    for title in dict.fromkeys(cell.dataset.title for cell in cells if not cell.has_data):
        line = (f"{title} is not in {cells[0].config.data_dir} (data/README.md says where to get "
                "it)")
        if named:
            raise UserError(line)
        print(f"{line}: its cells stay empty")
    return [cell for cell in cells if cell.has_data]


def with_inputs(cells):
    """The cells whose method finds what it takes; prints a line for each data set of the others.

    Raises:
        UserError: no cell does.
    """
    kept, lines = [cell for cell in cells if not cell.lacks], {}
    for cell in cells:
        if cell.lacks:
            lines.setdefault(f"{cell.dataset.title} has no {cell.lacks}", []).append(cell.method)
    for line, methods in lines.items():
        if not kept:
            raise UserError(f"{line}, which method {methods[0]} needs")
        print(f"{line}: skipping {', '.join(dict.fromkeys(methods))}")
    return kept


# The plan


class Work(NamedTuple):
    """What training takes: seconds on this machine, floating-point operations, images."""

    seconds: float
    operations: float
    images: float


MEASURED = {}  # what fixes the cost of a training step: the Cost, measured once a process


def training_work(cells):
    """The Work of each Cell, by name; of each network a few steps are measured."""
    work = {}
    for cell in cells:
        config = cell.config
        count = cell.dataset.num_train
        if config.unseen_split is not None:
            count = count * (FOLDS - 1) / FOLDS
        images = method_of(config).images_trained(config, count)
        if not images:
            work[cell.name] = Work(0.0, 0.0, 0)
            continue
        # Code length, hash layer and losses hardly change the time; the network does.
        key = (method_of(config).inputs, backbone_of(config.method), cell.dataset.name,
               config.batch_size, config.compute_dtype)
        if key not in MEASURED:
            MEASURED[key] = measure_cost(config, cell.dataset)
        cost = MEASURED[key]
        work[cell.name] = Work(cost.start + images * cost.image, images * cost.operations, images)
    return work


def total(work):
    """The sum of several Work."""
    return Work(*map(sum, zip(*work))) if work else Work(0.0, 0.0, 0)


def print_plan(cells):
    """Prints what each data set will take in all, then each cell."""
    work = training_work([cell for cell in cells if not cell.results()])
    for title in dict.fromkeys(cell.dataset.title for cell in cells):
        to_run = [work[cell.name] for cell in cells
                  if cell.dataset.title == title and cell.name in work]
        seconds, operations, _ = total(to_run)
        count = f"{len(to_run)} cell{'s' * (len(to_run) != 1)}"
        print(f"{title}: {count} to run; training takes about {duration(seconds)} on this "
              f"machine, one after another, and {operations:.2g} floating-point operations")
    for cell in cells:
        if cell.name not in work:
            state = "finished"
        elif work[cell.name].seconds:
            state = "about " + duration(work[cell.name].seconds)
        else:
            state = "no training"
        print(f"{cell.name}: {state}")


# The tables


def finished_runs(out):
    """The finished runs in a grid's folder, whichever command made them.

    Returns:
        List of tables.GridRun, in the order of data set, method, code length, seed and fold.
    """
    runs = []
    for path in sorted(Path(out).glob("*/*/*bits_seed*")):
        place = re.match(r"([0-9]+)bits_seed([0-9]+)(?:_unseen([0-9]))?\Z", path.name)
        method, dataset = path.parent.name, path.parent.parent.name
        if not place or method not in GRID_METHODS:
            continue
        folder = RunFolder(path)
        results = finished_results(folder)
        if results:
            num_bits, seed, fold = [part and int(part) for part in place.groups()]
            runs.append(tables.GridRun(tables.section_name(dataset, fold), method, num_bits, seed,
                                       results, folder, fold))
        elif (path / "results.json").exists() and folder.holds_run():
            print(f"note: {path} is not finished, or a file of it is damaged: not in the tables")
    return runs


def make_table(cells, runs):
    """The tables.Table of the cells of a command, and of finished runs.

    Args:
        cells: Cells; those not finished stay empty.
        runs: list of tables.GridRun.
    """
    places = [(tables.section_name(cell.dataset.name, cell.config.unseen_split), cell.method,
               cell.config.num_bits) for cell in cells]
    places += [(run.dataset, run.method, run.num_bits) for run in runs]
    datasets, methods, bits = [list(dict.fromkeys(part)) for part in zip(*places)]
    titles = {name: variant.title for name, variant in GRID_METHODS.items() if name in methods}
    return tables.Table(datasets, titles, sorted(bits), runs)


def write_tables(out, cells, command):
    """Writes the tables of all finished runs in the grid's folder, if there are any.

    Args:
        out: the grid's OutputFolder.
        cells: the Cells of this command.
        command: list of str, the command line, for the page.
    """
    runs = finished_runs(out.path)
    if runs:
        table = make_table(cells, runs)
        folders = {cell.folder.path for cell in cells} | {run.folder.path for run in runs}
        metadata = tables.how_made(table, command, len(folders))
        page = tables.write_tables(out, table, metadata)
        print(f"report: {page}; also tables.md and runs.csv")


def print_paper(out, cells):
    """Prints the paper's tables with what has been run, and what the rest takes.

    Args:
        out: folder of the grid.
        cells: the Cells of the paper's tables.
    """
    datasets = {cell.dataset.name: cell.dataset.title for cell in cells}
    wanted = {cell.folder.path for cell in cells}
    runs = [run for run in finished_runs(out) if run.folder.path in wanted]
    table = make_table(cells, runs)
    for name, title in datasets.items():
        print(f"{title}, mAP\n{tables.console_table(table, name)}\n")
    missing = [cell for cell in cells if not cell.results()]
    work = list(training_work(missing).values())
    seconds, operations, images = total(work)
    print(f"{len(cells) - len(missing)} of {len(cells)} runs are finished.")
    if seconds:
        device = device_kind()
        print(f"The rest takes {seconds / 3600:,.0f} {device} hours: {images:.3g} training images "
              f"at {images / seconds:,.0f} a second, the rate of a few steps on this machine, or "
              f"{operations:.2g} floating-point operations.")
        if device != "GPU":
            print("For GPU hours, give the same command on a machine with a GPU.")
