"""Finished runs of a grid -> tables.md, runs.csv, figures/ and report.html.

Published numbers stand beside ours if data/published_map.csv gives them. That file is not part of
the repository: whoever reads the numbers at their source writes it (see `published`).
"""

import csv
import os
import statistics
from typing import Callable, NamedTuple, Optional

import numpy as np

from config import ROOT
from evaluation.codes import load_codes
from reports import figures, ranking
from reports.columns import UNKNOWN, Entry, counted, large
from reports.page import embedded, write_page
from reports.runs import dataset_title
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.run_folder import RunFolder

PUBLISHED = ROOT / "data" / "published_map.csv"
UNSEEN_SECTION = "+unseen"  # no data set's own name has a +
# Where many curves lie over one another, these methods are coloured and labelled.
NAMED = {"dcbh": "DCBH", "ddh": "DDH", "itq": "ITQ"}


class Metric(NamedTuple):
    """One table.

    Attributes:
        title: what it shows.
        keys: names in results.json; an entry of the table shows all of them.
        text: a value as text.
        better: +1 if the highest value of the first key is the best, -1 if the lowest is, or 0.
    """

    title: str
    keys: tuple
    text: Callable = "{:.3f}".format
    better: int = 0


MAP = Metric("mAP, expected over tie orders", ("mAP",), "{:.4f}".format, 1)
METRICS = (
    Metric("mAP in the worst / the best order of ties", ("mAP_worst_case", "mAP_best_case"),
           better=1),
    Metric("mAP of floats: by Euclidean distance / of the multi-scale feature alone / of the "
           "descriptor alone", ("mAP_euclidean", "mAP_feature", "mAP_descriptor"), better=1),
    Metric("mAP by the authors' evaluation", ("mAP_authors_evaluation",), "{:.4f}".format, 1),
    Metric("Precision of the first 50 ranks", ("precision_at_50",), "{:.4f}".format, 1),
    Metric("Precision / recall within Hamming radius 2",
           ("precision_radius_2", "recall_radius_2"), better=1),
    Metric("Effective bits: not constant / linearly independent",
           ("varying_bits", "independent_bits"), "{:.1f}".format),
    Metric("Training (methods on a network's features: its training included)",
           ("training_seconds",), duration, -1),
    Metric("Evaluation: encoding / ranking", ("encoding_seconds", "ranking_seconds"), duration, -1),
    Metric("Parameters (LSH, PCA hashing and ITQ: values of the projection included)",
           ("parameters",), large, -1),
)
# Tables of runs that leave people out of training; they follow the table of mAP.
UNSEEN_METRICS = (
    Metric("mAP of people never seen", ("unseen_mAP",), "{:.4f}".format, 1),
    Metric("Top-1 accuracy: people never seen", ("unseen_top_1_accuracy",), "{:.4f}".format, 1),
    Metric("Top-1 accuracy: people of the training set", ("top_1_accuracy",), "{:.4f}".format, 1),
    *(Metric("Detected and identified at 1 % / 10 % false accepts of unknown people: " + who,
             tuple(f"open_set_{name}_dir_at_{limit}_percent" for limit in (1, 10)), better=1)
      for name, who in UNKNOWN))


class GridRun(NamedTuple):
    """One finished run of a grid.

    Attributes:
        dataset: name, with UNSEEN_SECTION if a fold of its people is left out: such runs do not mix
            with runs on the whole set.
        method: name in the grid.
        num_bits: K.
        seed: seed.
        results: dict, its results.json.
        folder: its RunFolder.
        fold: the fold of people left out of training, or None.
    """

    dataset: str
    method: str
    num_bits: int
    seed: int
    results: dict
    folder: RunFolder
    fold: Optional[int] = None

    @property
    def label(self):
        """What tells runs of one entry apart: the seed, or SEED/FOLD."""
        return str(self.seed) if self.fold is None else f"{self.seed}/{self.fold}"


def section_name(dataset, fold):
    """The name of a data set in tables; with UNSEEN_SECTION if a fold of people is left out."""
    return dataset if fold is None else dataset + UNSEEN_SECTION


class Table(NamedTuple):
    """What the tables are made from.

    Attributes:
        datasets: their names; one without runs gets a table of empty entries.
        titles: dict of method -> its title for people; the order of the rows.
        bits: code lengths, the columns.
        runs: list of GridRuns.
    """

    datasets: list
    titles: dict
    bits: list
    runs: list

    def select(self, dataset, method=None, num_bits=None):
        """The runs on a data set; of one method or code length, if given."""
        return [run for run in self.runs if run.dataset == dataset
                and method in (None, run.method) and num_bits in (None, run.num_bits)]

    def values(self, dataset, method, num_bits, key):
        """A result's value in each run that has it, one a seed and fold."""
        return [run.results[key] for run in self.select(dataset, method, num_bits)
                if key in run.results]

    def means(self, dataset, num_bits, key):
        """dict of method -> mean of a result, without methods that lack it; the best first."""
        values = {method: self.values(dataset, method, num_bits, key)
                  for method in self.methods(dataset)}
        means = {method: statistics.mean(found) for method, found in values.items() if found}
        return dict(sorted(means.items(), key=lambda pair: -pair[1]))

    def methods(self, dataset):
        """The methods that have a run on a data set; all if none has."""
        return [method for method in self.titles if self.select(dataset, method)
                or not self.select(dataset)]

    def metrics(self, dataset):
        """The Metrics to show of a data set: mAP, and those that any of its runs has."""
        runs = self.select(dataset)
        leaves_out = any("unseen_mAP" in run.results for run in runs)
        return (MAP,) + tuple(metric for metric in UNSEEN_METRICS * leaves_out + METRICS
                              if any(key in run.results for run in runs for key in metric.keys))


class GridTable(NamedTuple):
    """One table of a data set.

    Attributes:
        title: what it shows.
        heads: heads of the columns after the first.
        rows: list of (title, Entries, source); source is "" for our own runs.
    """

    title: str
    heads: list
    rows: list


def grid_table(table, dataset, metric, folder=None):
    """The GridTable of a Metric; mAP links to the reports of its runs if `folder` is given."""
    methods = table.methods(dataset)
    columns = [table.means(dataset, num_bits, metric.keys[0]) for num_bits in table.bits]
    rows = []
    for method in methods:
        entries = []
        for num_bits, means in zip(table.bits, columns):
            text = " / ".join(filter(None, (
                mean_text(table.values(dataset, method, num_bits, key), metric.text)
                for key in metric.keys)))
            rivals = set(means.values())
            best = bool(metric.better) and len(rivals) > 1 and method in means and (
                means[method] == (max if metric.better > 0 else min)(rivals))
            links = [(run.label, _address(run, folder))
                     for run in table.select(dataset, method, num_bits)] \
                if folder and metric is MAP else []
            entries.append(Entry(text, best, tuple(links)))
        if metric is MAP or any(entry.text for entry in entries):
            rows.append((table.titles[method], entries, ""))
    if metric is MAP:
        for _, title, source, values in published(dataset):
            rows.append((title, [Entry(metric.text(values[num_bits]) if num_bits in values else "")
                                 for num_bits in table.bits], source))
    return GridTable(metric.title, [f"{bits} bits" for bits in table.bits], rows)


def console_table(table, dataset):
    """The table of mAP as text for the console; "-" where nothing has been run."""
    shown = grid_table(table, dataset, MAP)
    rows = [["", *shown.heads]] + [
        [f"{title} ({source})" if source else title, *(entry.text or "-" for entry in entries)]
        for title, entries, source in shown.rows]
    widths = [max(map(len, texts)) for texts in zip(*rows)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
                     for row in rows)


def mean_text(values, text):
    """Values over seeds as text: the mean, and the standard deviation unless it shows as 0."""
    if not values:
        return ""
    mean, deviation = text(statistics.mean(values)), text(spread(values) or 0.0)
    return mean if deviation == text(0.0) else f"{mean} \u00b1 {deviation}"


def spread(values):
    """Sample standard deviation; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def _address(run, folder):
    """The address of a run's report, relative to the grid's folder."""
    return os.path.relpath(run.folder.path / "report.html", folder.path).replace(os.sep, "/")


def published(dataset):
    """Published mAP on a data set, from data/published_map.csv if somebody has written it.

    Its columns: dataset (as in config.DATASETS), method, title, bits_12, bits_24, bits_36, bits_48
    (an mAP from 0 to 1, or nothing), and source: paper, page and table.

    Returns:
        List of (method, title, source, dict of bits -> mAP).

    Raises:
        UserError: the file cannot be read, lacks a column, or a row lacks its source.
    """
    if not PUBLISHED.exists():
        return []
    rows = []
    try:
        with open(PUBLISHED, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                values = {int(name[len("bits_"):]): float(value) for name, value in row.items()
                          if name and name.startswith("bits_") and value}
                if not row["source"] or not all(0 <= value <= 1 for value in values.values()):
                    raise ValueError(f"{row['title']}: a row needs a source, and values from 0 to "
                                     "1")
                if row["dataset"] == dataset:
                    rows.append((row["method"], row["title"], row["source"], values))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{PUBLISHED} cannot be read ({error!r}); correct it as docs/evaluation.md "
                        "says, or remove it")
    return rows


# Files


def write_tables(folder, table, metadata):
    """Writes tables.md, runs.csv, figures/ and report.html.

    Args:
        folder: the grid's OutputFolder.
        table: a Table with at least one run.
        metadata: lines on how it came about.

    Returns:
        The page's Path.
    """
    folder.write_text("tables.md", markdown(table, metadata))
    folder.write_table("runs.csv", run_columns(table))
    return write_page(
        folder, "grid.html", title="Methods compared", metadata=metadata,
        sections=[dict(heading=_heading(dataset), sentence=_sentence(table, dataset),
                       tables=[grid_table(table, dataset, metric, folder)
                               for metric in table.metrics(dataset)],
                       figures=embedded(folder, _drawings(table, dataset)))
                  for dataset in table.datasets])


def markdown(table, metadata):
    """The text of tables.md; see write_tables."""
    lines = ["# Tables", "", "Mean \u00b1 sample standard deviation over seeds (and folds of "
             "people never seen); the best of each column is bold. Definitions: "
             "docs/evaluation.md."]
    for dataset in table.datasets:
        lines += ["", "## " + dataset.replace(UNSEEN_SECTION, ", folds of people never seen")]
        for metric in table.metrics(dataset):
            shown = grid_table(table, dataset, metric)
            lines += ["", "### " + metric.title, "", f"| | {' | '.join(shown.heads)} |",
                      "|---|" + "---|" * len(shown.heads)]
            for title, entries, source in shown.rows:
                texts = [f"**{entry.text}**" if entry.best else entry.text for entry in entries]
                title += f" ({source})" if source else ""
                lines.append(f"| {title} | {' | '.join(texts)} |")
    lines += ["", "## How these runs came about", ""] + ["- " + line for line in metadata]
    return "\n".join(lines) + "\n"


def run_columns(table):
    """runs.csv: a dict of column -> values, a row a run; empty where a run lacks a result."""
    columns = {name: [getattr(run, name) for run in table.runs]
               for name in ("dataset", "method", "num_bits", "seed", "fold")}
    columns["revision"] = [", ".join(dict.fromkeys(
        _revision(entry) for entry in run.folder.provenance())) for run in table.runs]
    for key in dict.fromkeys(key for run in table.runs for key in run.results):
        if key not in columns:
            columns[key] = [run.results.get(key, "") for run in table.runs]
    return columns


def _revision(entry):
    return str(entry["git_revision"]) + ", with uncommitted changes" * bool(entry["git_dirty"])


def how_made(table, command_line, planned):
    """Lines on how a grid's runs came about, from their provenance.

    Args:
        table: a Table.
        command_line: arguments of the command that writes the tables, its name first.
        planned: number of runs of the whole grid.
    """
    entries = [entry for run in table.runs for entry in run.folder.provenance()]
    seconds = sum(run.results.get("training_seconds", 0)
                  - run.results.get("network_training_seconds", 0) for run in table.runs)
    seeds = ", ".join(map(str, sorted({run.seed for run in table.runs})))
    folds = ", ".join(map(str, sorted({run.fold for run in table.runs} - {None})))
    begin = min(entry["start"] for entry in entries)
    end = max(entry["end"] for entry in entries if entry["end"])
    lines = [f"`python {' '.join(command_line)}`",
             f"{len(table.runs)} of {planned} runs are finished; seeds {seeds}"
             + (f"; folds {folds}" if folds else ""),
             f"run from {begin} to {end}; {duration(seconds)} of training in all"]
    machines = sorted({f"machine: {entry['machine']}, {entry['device']}" for entry in entries})
    versions = sorted({f"versions: Python {entry['python']}, TensorFlow "
                       f"{entry['tensorflow'] or 'not used'}, numpy {entry['numpy']}"
                       for entry in entries})
    revisions = sorted({f"git revision: {_revision(entry)}" for entry in entries})
    return lines + revisions + machines + versions


# The page


def _heading(name):
    """A section's heading: the data set's name, and whether folds of people are left out."""
    name, plus, _ = name.partition("+")
    return dataset_title({"dataset_flag": name}) + (", folds of people never seen" if plus else "")


def _sentence(table, dataset):
    """What the tables say of the longest codes of a data set; "" without runs."""
    runs = table.select(dataset)
    if not runs:
        return ""
    num_bits = max(run.num_bits for run in runs)
    chance = _chance(runs)
    text = f"At {num_bits} bits {_best(table, table.means(dataset, num_bits, 'mAP'))}"
    if chance is not None:
        text += f"; chance is {chance:.4f}"
    unseen = table.means(dataset, num_bits, "unseen_mAP")
    if unseen:
        text += f". For people never seen {_best(table, unseen)}"
    counts = [counted(len(table.methods(dataset)), "method"),
              counted(len({run.seed for run in runs}), "seed")]
    folds = {run.fold for run in runs} - {None}
    if folds:
        counts.append(counted(len(folds), "fold"))
    return f"{text}. {', '.join(counts)}."


def _best(table, means):
    """Which method is best, and what DCBH has if that is another."""
    best = next(iter(means))
    text = f"{table.titles[best]} is best with mAP {means[best]:.4f}"
    if "dcbh" in means and best != "dcbh":
        text += f"; {table.titles['dcbh']} has {means['dcbh']:.4f}"
    return text


def _chance(runs, name="codes.npz"):
    """mAP of a random order on the runs' data; None if none of them has kept its codes."""
    for run in runs:
        path = run.folder.path / name
        if path.exists():
            return ranking.chance_map(load_codes(path))
    return None


def _drawings(table, dataset):
    """The Drawings of a data set: dots of mAP for each code length, curves of the longest codes."""
    runs = table.select(dataset)
    if not runs:
        return []
    # Best on average first, in the same order at all lengths.
    order = list(table.means(dataset, None, "mAP"))
    drawn = []
    for key, title, codes in (
            ("mAP", "mAP", "codes.npz"),
            ("unseen_mAP", "mAP of people never seen", "unseen_codes.npz")):
        chance = _chance(runs, codes)
        for num_bits in table.bits:
            values = [(table.titles[method], table.values(dataset, method, num_bits, key))
                      for method in order]
            if any(found for _, found in values):
                drawn.append(figures.dot_plot(
                    f"{key.lower()}_{dataset}_{num_bits}bits", f"{title}, {num_bits} bits",
                    [(title_of, statistics.mean(found) if found else None, spread(found))
                     for title_of, found in values], chance))
    num_bits = max(run.num_bits for run in runs)
    methods = list(table.means(dataset, num_bits, "mAP"))
    labels = {method: NAMED[method] for method in methods if method in NAMED} or {
        method: method for method in methods[:3]}
    drawn.append(figures.precision_recall(
        {table.titles[method]: _mean_ranking(table.select(dataset, method, num_bits))
         for method in methods},
        f"precision_recall_{dataset}_{num_bits}bits", f", {num_bits} bits",
        [table.titles[method] for method in labels],
        {table.titles[method]: label for method, label in labels.items()}))
    return drawn


def _mean_ranking(runs):
    """Precision and recall of the first N ranks, means over runs: a Ranking without bounds."""
    curves = [_read_curve(run) for run in runs]
    shortest = min(map(len, curves))
    ranks, precision, recall = np.mean([curve[:shortest] for curve in curves], axis=0).T
    return ranking.Ranking(ranks.astype(int), precision, recall)


def _read_curve(run):
    """Ranks, precision and recall from a run's folder: float [M, 3]."""
    path = run.folder.path / "curves_at_n.csv"
    try:
        with open(path, newline="") as stream:
            return np.array([[float(row[name]) for name in ("n", "precision", "recall")]
                             for row in csv.DictReader(stream)]).reshape(-1, 3)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error!r}); evaluate the run again")
