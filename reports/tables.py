"""Finished runs of a grid -> tables.md, tables.csv, figures/ and report.html.

Published figures stand beside ours where data/published_map.csv gives them. That file is not part
of the repository: whoever reads the figures at their source writes it (see `published`).
"""

import csv
import os
import statistics
from collections import OrderedDict
from typing import NamedTuple, Optional

from config import ROOT
from reports.columns import duration, large
from reports.grid_page import GridCell, GridTable, section, spread, write_grid_page
from runtime.errors import UserError

PUBLISHED = ROOT / "data" / "published_map.csv"


class Metric(NamedTuple):
    """One table: its title, the names in results.json that a cell shows, their format, and whether
    the highest (+1) or the lowest (-1) of the first is the best (0: neither)."""

    title: str
    keys: tuple
    text: object = "{:.3f}".format
    better: int = 0


METRICS = (
    Metric("mAP, expected over tie orders", ("mAP",), "{:.4f}".format, 1),
    Metric("mAP in the worst / the best order of ties", ("mAP_worst_case", "mAP_best_case"),
           better=1),
    Metric("mAP of floats: by Euclidean distance / of the multi-scale feature alone / of the "
           "descriptor alone", ("mAP_euclidean", "mAP_feature", "mAP_descriptor"), better=1),
    Metric("mAP as the authors' evaluation gives it", ("mAP_authors_evaluation",),
           "{:.4f}".format, 1),
    Metric("Precision of the first 50 ranks", ("precision_at_50",), "{:.4f}".format, 1),
    Metric("Precision / recall within Hamming radius 2",
           ("precision_radius_2", "recall_radius_2"), better=1),
    Metric("Effective bits: not constant / linearly independent",
           ("varying_bits", "independent_bits"), "{:.1f}".format),
    Metric("Training (of what takes a network's features: that network's, too)",
           ("training_seconds",), duration, -1),
    Metric("Evaluation: encoding / ranking", ("encoding_seconds", "ranking_seconds"), duration, -1),
    Metric("Parameters (of LSH, PCA hashing and ITQ: with the values of the projection)",
           ("parameters",), large, -1),
)
# Tables of runs that leave people out of training; they stand after the table of mAP.
UNSEEN_METRICS = (
    Metric("mAP of people never seen", ("unseen_mAP",), "{:.4f}".format, 1),
    Metric("Nearest right: people never seen", ("unseen_top_1_accuracy",), "{:.4f}".format,
           1),
    Metric("Nearest right: people of the training set", ("top_1_accuracy",),
           "{:.4f}".format, 1),
) + tuple(
    Metric("Detected and identified at 1 % / 10 % false accepts of unknown people: " + who,
           tuple("open_set_%s_dir_at_%d_percent" % (name, limit) for limit in (1, 10)), better=1)
    for name, who in (("o1", "known unknown"), ("o2", "unknown unknown"), ("o3", "both")))
UNSEEN_SECTION = "+unseen"  # no data set's own name has a +


class Run(NamedTuple):
    """One finished run of a grid.

    Attributes:
        dataset: name.
        method: name in the grid.
        num_bits: K.
        seed: seed.
        results: dict, its results.json.
        folder: its RunFolder.
        fold: the fold of people that it has never seen, or None.
    """

    dataset: str
    method: str
    num_bits: int
    seed: int
    results: dict
    folder: object
    fold: Optional[int] = None

    @property
    def label(self):
        """What tells the runs of one cell apart: the seed, with a fold SEED/FOLD."""
        return str(self.seed) if self.fold is None else "%d/%d" % (self.seed, self.fold)


def section_name(dataset, fold):
    """What a run's data set is called in tables: folds of people do not mix with whole sets."""
    return dataset if fold is None else dataset + UNSEEN_SECTION


class Table(NamedTuple):
    """What the tables are made from.

    Attributes:
        datasets: their names; one without runs gets a table with empty cells.
        titles: OrderedDict of method -> its title for people; the order of the rows.
        bits: code lengths, the columns.
        runs: list of Runs.
    """

    datasets: list
    titles: OrderedDict
    bits: list
    runs: list

    def cell(self, dataset, method, num_bits):
        """The runs of one cell of the table, one a seed and fold."""
        return [run for run in self.runs
                if (run.dataset, run.method, run.num_bits) == (dataset, method, num_bits)]

    def values(self, dataset, method, num_bits, key):
        """A result's value in each run of a cell that has it."""
        return [run.results[key] for run in self.cell(dataset, method, num_bits)
                if key in run.results]

    def rows(self, dataset):
        """The methods that have a run on a data set; all where none has."""
        return [method for method in self.titles if self.has_runs(dataset, method)
                or not self.has_runs(dataset)]

    def has_runs(self, dataset, method=None):
        """Whether a data set has runs (of a method)."""
        return any(run.dataset == dataset and method in (None, run.method) for run in self.runs)

    def metrics(self, dataset):
        """The metrics to show of a data set: mAP, and those that any of its runs has."""
        runs = [run for run in self.runs if run.dataset == dataset]
        left_out = any("unseen_mAP" in run.results for run in runs)
        return METRICS[:1] + tuple(
            metric for metric in UNSEEN_METRICS * left_out + METRICS[1:]
            if any(key in run.results for run in runs for key in metric.keys))


def summary(values, text):
    """Values over seeds as text: mean, and standard deviation where it says something."""
    if not values:
        return ""
    mean, deviation = text(statistics.mean(values)), text(spread(values) or 0.0)
    return "%s \u00b1 %s" % (mean, deviation) if deviation != text(0.0) else mean


def published(dataset):
    """Published mAP on a data set, from data/published_map.csv if somebody has written it.

    Its columns: dataset (as in config.DATASETS), method, title, bits_12, bits_24, bits_36, bits_48
    (an mAP from 0 to 1, or nothing), and source: where the figures were read, page and table.

    Returns:
        List of (method, title, source, OrderedDict of bits -> mAP).

    Raises:
        UserError: the file cannot be read, lacks a column, or a row lacks its source.
    """
    if not PUBLISHED.exists():
        return []
    rows = []
    try:
        with open(str(PUBLISHED), newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                values = OrderedDict((int(name[len("bits_"):]), float(value))
                                     for name, value in row.items()
                                     if name and name.startswith("bits_") and value)
                if not row["source"] or not all(0 <= value <= 1 for value in values.values()):
                    raise ValueError("%s: a row needs a source, and values from 0 to 1"
                                     % row["title"])
                if row["dataset"] == dataset:
                    rows.append((row["method"], row["title"], row["source"], values))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError("%s cannot be read (%r); correct it as docs/evaluation.md says, or "
                        "remove it" % (PUBLISHED, error))
    return rows


def grid_table(table, dataset, metric, folder=None):
    """A metric's GridTable; cells of mAP link to their runs' reports if `folder` is given."""
    means = [[statistics.mean(values) if values else None for values in (
        table.values(dataset, method, num_bits, metric.keys[0]) for num_bits in table.bits)]
        for method in table.rows(dataset)]
    rows = []
    for method, row_means in zip(table.rows(dataset), means):
        cells = []
        for column, num_bits in enumerate(table.bits):
            text = " / ".join(filter(None, (
                summary(table.values(dataset, method, num_bits, key), metric.text)
                for key in metric.keys)))
            rivals = [row[column] for row in means if row[column] is not None]
            best = bool(metric.better and text and len(set(rivals)) > 1 and row_means[column] == (
                max if metric.better > 0 else min)(rivals))
            links = [(run.label, _link(run.folder, folder))
                     for run in table.cell(dataset, method, num_bits)] \
                if folder and metric.keys == ("mAP",) else []
            cells.append(GridCell(text, best, links))
        if metric is METRICS[0] or any(cell.text for cell in cells):
            rows.append((table.titles[method], cells, ""))
    if metric.keys == ("mAP",):
        for _, title, source, values in published(dataset):
            rows.append((title, [GridCell(
                metric.text(values[num_bits]) if num_bits in values else "", False, [])
                for num_bits in table.bits], source))
    return GridTable(metric.title, ["%d bits" % bits for bits in table.bits], rows)


def _link(run_folder, folder):
    """Where a run's report lies, seen from the grid's folder."""
    return os.path.relpath(str(run_folder.path / "report.html"), str(folder.path)).replace(
        os.sep, "/")


def markdown(table, metadata):
    """tables.md.

    Args:
        table: a Table.
        metadata: lines that say how the table came about.
    """
    lines = ["# Tables", "", "Mean \u00b1 sample standard deviation over seeds (and folds of "
             "people never seen); the best of each column is bold. Definitions: "
             "docs/evaluation.md."]
    for dataset in table.datasets:
        lines += ["", "## " + dataset.replace(UNSEEN_SECTION, ", folds of people never seen")]
        for metric in table.metrics(dataset):
            shown = grid_table(table, dataset, metric)
            lines += ["", "### " + metric.title, "", "| | %s |" % " | ".join(shown.heads),
                      "|---|" + "---|" * len(shown.heads)]
            for title, cells, source in shown.rows:
                texts = ["**%s**" % cell.text if cell.best else cell.text for cell in cells]
                lines.append("| %s%s | %s |" % (
                    title, " (%s)" % source if source else "", " | ".join(texts)))
    lines += ["", "## How these runs came about", ""] + ["- " + line for line in metadata]
    return "\n".join(lines) + "\n"


def csv_columns(table):
    """tables.csv: a dict of column -> values; one row a data set, result and method."""
    names = ["dataset", "result", "method", "source"]
    for num_bits in table.bits:
        names += ["%d_bits_%s" % (num_bits, part) for part in ("mean", "sd", "seeds")]
    rows = []
    for dataset in table.datasets:
        for key in [key for metric in table.metrics(dataset) for key in metric.keys]:
            for method in table.rows(dataset):
                row = [dataset, key, method, "this code"]
                for num_bits in table.bits:
                    values = table.values(dataset, method, num_bits, key)
                    deviation = spread(values)
                    row += [statistics.mean(values) if values else "",
                            "" if deviation is None else deviation, len(values)]
                rows.append(row)
        for method, title, source, values in published(dataset):
            row = [dataset, "mAP", method, "%s, %s" % (title, source)]
            for num_bits in table.bits:
                row += [values.get(num_bits, ""), "", ""]
            rows.append(row)
    return OrderedDict(zip(names, zip(*rows)))


def how_made(table, command_line, planned):
    """Lines that say how a grid's runs came about, from their provenance.

    Args:
        table: a Table.
        command_line: arguments of the command that writes the tables, its name first.
        planned: number of runs of the whole grid.
    """
    entries = [entry for run in table.runs for entry in run.folder.provenance()]
    seconds = sum(run.results.get("training_seconds", 0)
                  - run.results.get("network_training_seconds", 0) for run in table.runs)
    folds = sorted({run.fold for run in table.runs if run.fold is not None})
    lines = ["`python %s`" % " ".join(command_line),
             "%d of %d runs are finished; seeds %s%s" % (
                 len(table.runs), planned,
                 ", ".join(map(str, sorted({run.seed for run in table.runs}))),
                 "; folds %s" % ", ".join(map(str, folds)) if folds else ""),
             "run from %s to %s; %s of training in all" % (
                 min(entry["start"] for entry in entries),
                 max(entry["end"] for entry in entries if entry["end"]), duration(seconds))]
    for what, of_entry in (
            ("git revision", lambda entry: "%s%s" % (
                entry["git_revision"], ", with uncommitted changes" if entry["git_dirty"] else "")),
            ("machine", lambda entry: "%s, %s" % (entry["machine"], entry["device"])),
            ("versions", lambda entry: "Python %s, TensorFlow %s, numpy %s" % (
                entry["python"], entry["tensorflow"] or "not used", entry["numpy"]))):
        lines += ["%s: %s" % (what, text) for text in sorted(set(map(of_entry, entries)))]
    return lines


def write_tables(folder, table, metadata):
    """Writes tables.md, tables.csv, figures/ and report.html.

    Args:
        folder: the grid's OutputFolder.
        table: a Table with at least one run.
        metadata: lines that say how it came about.

    Returns:
        The page's Path.
    """
    folder.write_text("tables.md", markdown(table, metadata))
    folder.write_table("tables.csv", csv_columns(table))
    return write_grid_page(folder, [
        section(table, dataset, [grid_table(table, dataset, metric, folder)
                                 for metric in table.metrics(dataset)])
        for dataset in table.datasets], metadata)
