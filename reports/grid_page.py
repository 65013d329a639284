"""report.html of a grid: for each data set the table of mAP, figures, and the other tables."""

import csv
import statistics
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from evaluation.codes import load_codes
from reports import figures, page, ranking
from reports.runs import dataset_title
from runtime.errors import UserError

# Results that are drawn for each code length -> title of the figure.
MAPS = OrderedDict([("mAP", "mAP, %d bits"), ("unseen_mAP", "mAP of people never seen, %d bits")])
# Where many curves lie over one another, these methods are coloured and labelled.
NAMED = OrderedDict([("dcbh", "DCBH"), ("ddh", "DDH"), ("itq", "ITQ")])


class GridCell(NamedTuple):
    """One cell: its text, whether it is the best of its column, and (label, address) of reports.
    """

    text: str
    best: bool
    links: list


class GridTable(NamedTuple):
    """One table of a data set.

    Attributes:
        title: what it shows.
        heads: heads of the columns after the first.
        rows: list of (title, GridCells, source); source is "" for runs of this code.
    """

    title: str
    heads: list
    rows: list


class Section(NamedTuple):
    """One data set.

    Attributes:
        name: its name.
        sentence: what its table of mAP says; "" where nothing was run.
        tables: GridTables, that of mAP first.
        dots: OrderedDict of (result, code length) -> rows of figures.dot_plot.
        rankings: OrderedDict of method -> ranking.Ranking, at one code length.
        titles: dict of method -> title.
        ranking_bits: that code length; None where nothing was run.
        chance, unseen_chance: mAP of a random order, of seen and of unseen people; None where
            unknown.
    """

    name: str
    sentence: str
    tables: list
    dots: OrderedDict
    rankings: OrderedDict
    titles: dict
    ranking_bits: int = None
    chance: float = None
    unseen_chance: float = None


def spread(values):
    """Sample standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def section(table, dataset, shown):
    """The Section of one data set.

    Args:
        table: a tables.Table.
        dataset: its name.
        shown: its GridTables.
    """
    if not table.has_runs(dataset):
        return Section(dataset, "", shown, OrderedDict(), OrderedDict(), table.titles)
    runs = [run for run in table.runs if run.dataset == dataset]
    longest = max(run.num_bits for run in runs)
    chance = _chance(runs)
    return Section(dataset, _sentence(table, dataset, runs, longest, chance), shown,
                   _dots(table, dataset), _rankings(table, dataset, longest), table.titles,
                   longest, chance, _chance(runs, "unseen_codes.npz"))


def _dots(table, dataset):
    """(result, code length) -> (title, mean, deviation) of each method, best on average first."""
    means = {method: statistics.mean(run.results["mAP"] for run in table.runs
                                     if (run.dataset, run.method) == (dataset, method))
             for method in table.rows(dataset)}
    dots = OrderedDict()
    for name in MAPS:
        for num_bits in table.bits:
            values = [(table.titles[method], table.values(dataset, method, num_bits, name))
                      for method in sorted(means, key=lambda method: -means[method])]
            if any(found for _, found in values):
                dots[name, num_bits] = [
                    (title, statistics.mean(found) if found else None, spread(found))
                    for title, found in values]
    return dots


def _sentence(table, dataset, runs, num_bits, chance):
    """What the table of mAP says of its longest codes."""
    means = {method: statistics.mean(values) for method, values in (
        (method, table.values(dataset, method, num_bits, "mAP"))
        for method in table.rows(dataset)) if values}
    best = max(means, key=lambda method: means[method])
    text = "At %d bits %s is best with mAP %.4f" % (num_bits, table.titles[best], means[best])
    if "dcbh" in means and best != "dcbh":
        text += "; %s has %.4f" % (table.titles["dcbh"], means["dcbh"])
    if chance is not None:
        text += "; chance is %.4f" % chance
    unseen = {method: statistics.mean(values) for method, values in (
        (method, table.values(dataset, method, num_bits, "unseen_mAP")) for method in means)
        if values}
    if unseen:
        best = max(unseen, key=lambda method: unseen[method])
        text += ". For people never seen %s is best with mAP %.4f" % (
            table.titles[best], unseen[best])
        if "dcbh" in unseen and best != "dcbh":
            text += "; %s has %.4f" % (table.titles["dcbh"], unseen["dcbh"])
    text += ". %d methods" % len(table.rows(dataset))
    for what, count in (("seed", len({run.seed for run in runs})),
                        ("fold", len({run.fold for run in runs} - {None}))):
        text += ", %d %s%s" % (count, what, "s" * (count > 1)) if count else ""
    return text + "."


def _chance(runs, name="codes.npz"):
    """mAP of a random order on the runs' data; None where none of them has kept its codes."""
    for run in runs:
        path = run.folder.path / name
        if path.exists():
            return ranking.chance_map(load_codes(path))
    return None


def _rankings(table, dataset, num_bits):
    """Method -> precision and recall of the first N ranks, means over seeds; best mAP first."""
    rankings = OrderedDict()
    methods = [method for method in table.rows(dataset) if table.cell(dataset, method, num_bits)]
    for method in sorted(methods, key=lambda method: -statistics.mean(
            table.values(dataset, method, num_bits, "mAP"))):
        curves = [_read_curve(run) for run in table.cell(dataset, method, num_bits)]
        shortest = min(map(len, curves))
        ranks, precision, recall = np.mean([curve[:shortest] for curve in curves], axis=0).T
        rankings[method] = ranking.Ranking(ranks.astype(int), precision, recall)
    return rankings


def _read_curve(run):
    """Ranks, precision and recall from a run's folder: float [M, 3]."""
    path = run.folder.path / "curves_at_n.csv"
    try:
        with open(str(path), newline="") as stream:
            return np.array([[float(row[name]) for name in ("n", "precision", "recall")]
                             for row in csv.DictReader(stream)]).reshape(-1, 3)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError("%s cannot be read (%r); evaluate the run again" % (path, error))


def write_grid_page(folder, sections, metadata):
    """Writes report.html and figures/.

    Args:
        folder: the grid's OutputFolder.
        sections: list of Sections.
        metadata: lines that say how the runs came about.

    Returns:
        The page's Path.
    """
    return page.write_page(
        folder, "grid.html", title="Methods compared", metadata=metadata,
        sections=[(section, _heading(section.name), page.embedded(folder, _drawings(section)))
                  for section in sections])


def _heading(name):
    """A section's heading: the data set's name, and what follows its + in words."""
    name, plus, _ = name.partition("+")
    return dataset_title({"dataset_flag": name}) + (", folds of people never seen" if plus else "")


def _drawings(section):
    drawn = [figures.dot_plot(
        "%s_%s_%dbits" % (name.lower(), section.name, bits), MAPS[name] % bits, rows,
        section.chance if name == "mAP" else section.unseen_chance)
        for (name, bits), rows in section.dots.items()]
    if section.rankings:
        named = [method for method in section.rankings if method in NAMED]
        titles = section.titles
        labels = {titles[method]: NAMED[method] for method in named}
        if not named:
            named = list(section.rankings)[:3]
            labels = {titles[method]: method for method in named}
        drawn.append(figures.precision_recall(
            OrderedDict((titles[method], curve) for method, curve in section.rankings.items()),
            "precision_recall_%s_%dbits" % (section.name, section.ranking_bits),
            ", %d bits" % section.ranking_bits, [titles[method] for method in named], labels))
    return drawn
