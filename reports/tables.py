"""Finished runs of a grid -> tables.md, tables.csv, figures/ and report.html.

The published figures beside ours stand in data/published_map.csv, with their source and whether
anybody has verified them.
"""

import csv
import html
import os
import statistics
from collections import OrderedDict
from typing import NamedTuple

from config import ROOT
from reports import figures, report
from runtime.errors import UserError

PUBLISHED = ROOT / "data" / "published_map.csv"


class Metric(NamedTuple):
    """One table: its title, the names in results.json that a cell shows, and their format."""

    title: str
    keys: tuple
    text: str = "%.3f"


METRICS = (
    Metric("mAP, expected over tie orders", ("mAP",), "%.4f"),
    Metric("mAP in the worst / the best order of ties", ("mAP_worst_case", "mAP_best_case")),
    Metric("mAP as the authors' evaluation gives it", ("mAP_authors_evaluation",), "%.4f"),
    Metric("Precision of the first 50 ranks", ("precision_at_50",), "%.4f"),
    Metric("Precision / recall within Hamming radius 2",
           ("precision_radius_2", "recall_radius_2")),
    Metric("Effective bits: not constant / linearly independent",
           ("varying_bits", "independent_bits"), "%.1f"),
    Metric("Seconds of training", ("training_seconds",), "%.1f"),
    Metric("Seconds of evaluation: encoding / ranking", ("encoding_seconds", "ranking_seconds"),
           "%.2f"),
    Metric("Parameters (for LSH, PCA hashing and ITQ: values of the projection)",
           ("parameters",), "%d"),
)


class Run(NamedTuple):
    """One finished run of a grid.

    Attributes:
        dataset: name.
        method: name in the grid.
        num_bits: K.
        seed: seed.
        results: dict, its results.json.
        folder: its RunFolder.
    """

    dataset: str
    method: str
    num_bits: int
    seed: int
    results: dict
    folder: object


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
        """The runs of one cell of the table, one a seed."""
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
        """The metrics to show of a data set: mAP alone where nothing was run."""
        return METRICS if self.has_runs(dataset) else METRICS[:1]


def spread(values):
    """Sample standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def summary(values, text):
    """Values over seeds as text: mean, and standard deviation where it says something."""
    if not values:
        return ""
    mean, deviation = text % statistics.mean(values), text % (spread(values) or 0.0)
    return "%s \u00b1 %s" % (mean, deviation) if float(deviation) else mean


def published(dataset):
    """Published mAP on a data set.

    Returns:
        List of (method, title, dict of bits -> mAP); the title says so if nobody has verified
        the row.
    """
    rows = []
    with open(str(PUBLISHED), newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["dataset"] == dataset:
                state = "" if row["verified"] == "yes" else (
                    " (UNVERIFIED %s: check before citing)" % row["source"])
                rows.append((row["method"], row["title"] + state, {
                    int(name[len("bits_"):]): float(value) for name, value in row.items()
                    if name.startswith("bits_")}))
    return rows


def text_rows(table, dataset, metric):
    """A metric's table as text: rows of a title and one cell a code length."""
    rows = []
    for method in table.rows(dataset):
        rows.append([table.titles[method]] + [
            " / ".join(filter(None, (
                summary(table.values(dataset, method, num_bits, key), metric.text)
                for key in metric.keys))) for num_bits in table.bits])
    if metric.keys == ("mAP",):
        for _, title, values in published(dataset):
            rows.append([title] + [metric.text % values[num_bits] if num_bits in values else ""
                                   for num_bits in table.bits])
    return rows


def markdown(table, facts):
    """tables.md.

    Args:
        table: a Table.
        facts: lines that say how the table came about.
    """
    lines = ["# Tables", ""] + ["- " + fact for fact in facts]
    lines += ["", "Mean \u00b1 sample standard deviation over seeds. Definitions: metrics.py."]
    for dataset in table.datasets:
        lines += ["", "## " + dataset]
        for metric in table.metrics(dataset):
            lines += ["", "### " + metric.title, "",
                      "| | %s |" % " | ".join("%d bits" % bits for bits in table.bits),
                      "|---|" + "---|" * len(table.bits)]
            lines += ["| %s |" % " | ".join(row) for row in text_rows(table, dataset, metric)]
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
        for method, title, values in published(dataset):
            row = [dataset, "mAP", method, title]
            for num_bits in table.bits:
                row += [values.get(num_bits, ""), "", ""]
            rows.append(row)
    return OrderedDict(zip(names, zip(*rows)))


def how_made(table, command_line, planned):
    """Lines that say how a grid's runs came about, from their provenance.

    Args:
        table: a Table.
        command_line: words of the command that writes the tables.
        planned: number of runs of the whole grid.
    """
    entries = [entry for run in table.runs for entry in run.folder.provenance()]
    seconds = sum(run.results["training_seconds"] for run in table.runs)
    lines = ["`python %s`" % " ".join(command_line),
             "%d of %d runs are finished; seeds %s" % (
                 len(table.runs), planned,
                 ", ".join(map(str, sorted({run.seed for run in table.runs})))),
             "run from %s to %s; %.0f s of training in all" % (
                 min(entry["start"] for entry in entries),
                 max(entry["end"] for entry in entries if entry["end"]), seconds)]
    for what, of_entry in (
            ("git revision", lambda entry: "%s%s" % (
                entry["git_revision"], ", with uncommitted changes" if entry["git_dirty"] else "")),
            ("machine", lambda entry: "%s, %s" % (entry["machine"], entry["device"])),
            ("versions", lambda entry: "Python %s, TensorFlow %s, numpy %s" % (
                entry["python"], entry["tensorflow"] or "not used", entry["numpy"]))):
        lines += ["%s: %s" % (what, one) for one in sorted(set(map(of_entry, entries)))]
    return lines


# Figures and page


def map_lines(table, dataset):
    """mAP against bits: OrderedDict of title -> (bits, means, deviations)."""
    lines = OrderedDict()
    for method in table.rows(dataset):
        points = [(num_bits, values) for num_bits, values in (
            (num_bits, table.values(dataset, method, num_bits, "mAP")) for num_bits in table.bits)
            if values]
        lines[table.titles[method]] = (
            [num_bits for num_bits, _ in points],
            [statistics.mean(values) for _, values in points],
            [spread(values) or 0.0 for _, values in points])
    return lines


class _Curve(NamedTuple):
    """What figures.precision_recall_figure draws of an Evaluation."""

    precision_within: list
    recall_within: list


def precision_recall_curves(table, dataset, num_bits):
    """Title -> precision and recall within each radius, means over seeds."""
    curves = OrderedDict()
    for method in table.rows(dataset):
        runs = [_read_curve(run) for run in table.cell(dataset, method, num_bits)]
        if runs:
            curves[table.titles[method]] = _Curve(*(
                [statistics.mean(values) for values in zip(*columns)] for columns in zip(*runs)))
    return curves


def _read_curve(run):
    """(precision, recall) within each radius, from a run's folder."""
    path = run.folder.path / "curves_within_radius.csv"
    try:
        with open(str(path), newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [[float(row[name]) for row in rows] for name in ("precision", "recall")]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("%s cannot be read (%r); evaluate the run again" % (path, error))


def html_table(table, dataset, metric, folder):
    """A metric's table as HTML; in that of mAP each cell links to its runs' reports."""
    rows = ["<tr><th></th>%s</tr>" % "".join(
        "<th>%d bits</th>" % num_bits for num_bits in table.bits)]
    methods = table.rows(dataset)
    for number, (title, *cells) in enumerate(text_rows(table, dataset, metric)):
        cells = [html.escape(cell) for cell in cells]
        if metric.keys == ("mAP",) and number < len(methods):
            cells = ["%s <span class=soft>%s</span>" % (cell, " ".join(
                "<a href='%s'>%d</a>" % (html.escape(_link(run.folder, folder)), run.seed)
                for run in table.cell(dataset, methods[number], num_bits)))
                for cell, num_bits in zip(cells, table.bits)]
        rows.append("<tr><th>%s</th>%s</tr>" % (
            html.escape(title), "".join("<td>%s</td>" % cell for cell in cells)))
    return "<div class=scroll><table>%s</table></div>" % "".join(rows)


def _link(run_folder, folder):
    """Where a run's report lies, seen from the grid's folder."""
    return os.path.relpath(str(run_folder.path / "report.html"), str(folder.path)).replace(
        os.sep, "/")


def write_tables(folder, table, facts):
    """Writes tables.md, tables.csv, figures/ and report.html.

    Args:
        folder: the grid's RunFolder.
        table: a Table with at least one run.
        facts: lines that say how it came about.

    Returns:
        The page's Path.
    """
    folder.write_text("tables.md", markdown(table, facts))
    folder.write_table("tables.csv", csv_columns(table))
    parts = ["<ul class=soft>%s</ul>" % "".join("<li>%s</li>" % html.escape(fact.replace("`", ""))
                                                for fact in facts)]
    for dataset in table.datasets:
        parts.append("<h2>%s</h2>" % html.escape(dataset))
        if table.has_runs(dataset):
            longest = max(run.num_bits for run in table.runs if run.dataset == dataset)
            curves = precision_recall_curves(table, dataset, longest)
            parts.append(report.figures_html(folder, [
                ("map_" + dataset, figures.map_figure(map_lines(table, dataset))),
                ("precision_recall_%s_%dbits" % (dataset, longest),
                 figures.precision_recall_figure(curves, "%d bits" % longest, wide=True))],
                wide=True))
        for metric in table.metrics(dataset):
            parts += ["<h3>%s</h3>" % html.escape(metric.title)]
            if metric.keys == ("mAP",):
                parts += ["<p class=soft>Mean \u00b1 sample standard deviation over seeds; the "
                          "numbers after it lead to each seed's own report.</p>"]
            parts.append(html_table(table, dataset, metric, folder))
    return report.write_page(folder, "Methods compared", parts)
