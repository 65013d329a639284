"""What results are called and how they are written, said once for console, pages and tables."""

import os
import re
from collections import OrderedDict
from typing import NamedTuple

from runtime import command_line

QUALITY, UNSEEN, CODES, COST = "quality", "people never seen", "codes", "cost"


class Column(NamedTuple):
    """One result, for people.

    Attributes:
        title: its name.
        short: its name at the head of a column.
        group: QUALITY, UNSEEN, CODES or COST.
        kind: "share" (0..1), "count", "large" (a count in millions), "seconds" or "text".
        better: +1 where the highest value is the best, -1 where the lowest is, 0 for neither.
    """

    title: str
    short: str
    group: str
    kind: str
    better: int = 0


COLUMNS = OrderedDict([
    ("mAP", Column("mAP", "mAP", QUALITY, "share", 1)),
    ("mAP_worst_case", Column("mAP, worst order of ties", "worst ties", QUALITY, "share", 1)),
    ("mAP_best_case", Column("mAP, best order of ties", "best ties", QUALITY, "share")),
    ("mAP_euclidean", Column("mAP by Euclidean distance", "Euclidean", QUALITY, "share", 1)),
    ("mAP_feature", Column("mAP of the feature alone", "feature", QUALITY, "share")),
    ("mAP_feature_euclidean",
     Column("mAP of the feature alone, Euclidean", "feature, Eucl.", QUALITY, "share")),
    ("mAP_descriptor", Column("mAP of the descriptor alone", "descriptor", QUALITY, "share")),
    ("mAP_descriptor_euclidean",
     Column("mAP of the descriptor alone, Euclidean", "descriptor, Eucl.", QUALITY, "share")),
    ("mAP_authors_evaluation",
     Column("mAP as the authors' evaluation gives it", "authors'", QUALITY, "share", 1)),
    ("top_1_accuracy", Column("nearest right", "nearest", QUALITY, "share", 1)),
    ("r_precision", Column("R-precision", "R-prec.", QUALITY, "share", 1)),
    ("precision_at_50", Column("precision at 50", "P at 50", QUALITY, "share", 1)),
    ("precision_radius_2", Column("precision within radius 2", "P radius 2", QUALITY, "share", 1)),
    ("recall_radius_2", Column("recall within radius 2", "R radius 2", QUALITY, "share", 1)),
    ("queries_nonempty_radius_2",
     Column("queries with any code within radius 2", "nonempty", QUALITY, "share")),
    ("queries_without_relevant",
     Column("queries of people not in the gallery", "no person", QUALITY, "count")),
    ("queries_also_in_gallery",
     Column("queries also in the gallery", "in gallery", QUALITY, "count")),
    ("unseen_mAP", Column("mAP, never seen", "unseen mAP", UNSEEN, "share", 1)),
    ("unseen_mAP_worst_case",
     Column("mAP, never seen, worst order of ties", "unseen worst", UNSEEN, "share", 1)),
    ("unseen_mAP_best_case",
     Column("mAP, never seen, best order of ties", "unseen best", UNSEEN, "share")),
    ("unseen_mAP_euclidean",
     Column("mAP, never seen, by Euclidean distance", "unseen Euclidean", UNSEEN, "share", 1)),
    ("unseen_top_1_accuracy",
     Column("nearest right, never seen", "unseen nearest", UNSEEN, "share", 1)),
    ("unseen_r_precision",
     Column("R-precision, never seen", "unseen R-prec.", UNSEEN, "share", 1)),
    ("unseen_num_identities",
     Column("their number", "unseen people", UNSEEN, "count")),
    ("unseen_num_gallery", Column("their gallery images", "unseen gallery", UNSEEN, "count")),
    ("unseen_num_queries", Column("their queries", "unseen queries", UNSEEN, "count")),
    ("open_set_num_known", Column("people enrolled (known)", "known", UNSEEN, "count")),
    ("open_set_num_known_unknown",
     Column("people trained, not enrolled", "known unknown", UNSEEN, "count")),
    ("open_set_num_known_queries",
     Column("queries of people enrolled", "known queries", UNSEEN, "count")),
    ("open_set_num_known_unknown_queries",
     Column("queries of people not enrolled", "other queries", UNSEEN, "count")),
] + [
    ("open_set_%s_%s_at_%s_percent" % (unknown, part, limit), Column(
        "%s %s %% false accepts, %s" % (title, limit, who),
        "%s %s %s%%" % (part.upper(), unknown.upper(), limit), UNSEEN, kind, better))
    for unknown, who in (("o1", "known unknown"), ("o2", "unknown unknown"), ("o3", "both"))
    for limit in (1, 10)
    for part, title, kind, better in (
        ("dir", "identified at", "share", 1), ("far", "reached of", "share", 0),
        ("threshold", "distance at", "count", 0))
] + [
    ("num_bits", Column("bits", "bits", CODES, "count")),
    ("num_values", Column("floating-point values", "floats", CODES, "count")),
    ("num_gallery", Column("gallery images", "gallery", CODES, "count")),
    ("num_queries", Column("queries", "queries", CODES, "count")),
    ("distinct_gallery_codes", Column("distinct gallery codes", "distinct", CODES, "count")),
    ("varying_bits", Column("bits that vary", "varying", CODES, "count")),
    ("independent_bits",
     Column("linearly independent bits", "independent", CODES, "count")),
    ("dataset", Column("data set", "data set", CODES, "text")),
    ("method", Column("method", "method", CODES, "text")),
    ("epoch", Column("weights of epoch", "epoch", CODES, "count")),
    ("trained_epochs", Column("epochs trained", "trained", CODES, "count")),
    ("codes", Column("codes from", "codes", CODES, "text")),
    ("parameters", Column("parameters", "parameters", COST, "large")),
    ("training_seconds", Column("training", "training", COST, "seconds", -1)),
    ("network_training_seconds",
     Column("of it, the network whose features these are", "network", COST, "seconds", -1)),
    ("encoding_seconds", Column("encoding", "encoding", COST, "seconds", -1)),
    ("ranking_seconds", Column("ranking and metrics", "ranking", COST, "seconds", -1)),
])
# What a comparison shows of each run, in console and page alike.
COMPARED = ("mAP", "mAP_worst_case", "mAP_best_case", "mAP_euclidean", "top_1_accuracy",
            "r_precision", "precision_radius_2", "recall_radius_2", "unseen_mAP",
            "unseen_top_1_accuracy", "open_set_o3_dir_at_1_percent", "num_bits", "num_values",
            "distinct_gallery_codes", "training_seconds")


def column(name):
    """The Column of a name in results.json; one that is made up for a name that has none."""
    if name in COLUMNS:
        return COLUMNS[name]
    cutoff = re.match(r"mAP_at_(\d+)\Z", name)
    if cutoff:
        return Column("mAP at %s" % cutoff.group(1), "mAP at %s" % cutoff.group(1), QUALITY,
                      "share", 1)
    title = name.replace("_", " ")
    return Column(title, title, CODES, "text")


def shown(name, value):
    """A result's value for people."""
    if value is None or value == "":
        return ""
    if isinstance(value, (bool, str, list, dict)):
        return str(value)
    kind = column(name).kind
    if kind == "seconds":
        return duration(value)
    if kind == "large":
        return large(value)
    if isinstance(value, float):
        return "%.4f" % value
    return "{:,}".format(value)


def duration(seconds):
    """Seconds for people, short ones exactly: 0.04 s, 7.2 s, 41 s, 2 min 41 s, 3 h 05 min."""
    if seconds < 0.995:
        return "%.2g s" % seconds
    return "%.1f s" % seconds if seconds < 9.95 else command_line.duration(seconds)


def large(count):
    """A large number for people: 980, 61.2 k, 7.9 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.99995:
            return "%.1f %s" % (count / size, unit)
    return "%d" % count


def grouped(results):
    """Results in their groups: OrderedDict of group -> list of (name, title, text)."""
    groups = OrderedDict((group, []) for group in (QUALITY, UNSEEN, CODES, COST))
    known = [name for name in COLUMNS if name in results]
    cutoffs = [name for name in results if name.startswith("mAP_at_")]
    known[known.index("r_precision") if "r_precision" in known else 0:0] = cutoffs
    for name in known + [name for name in results if name not in known]:
        entry = column(name)
        groups[entry.group].append((name, entry.title, shown(name, results[name])))
    return OrderedDict((group, rows) for group, rows in groups.items() if rows)


# Several runs


class Cell(NamedTuple):
    """One value of a comparison: its text, and whether it is the best of its column."""

    text: str
    best: bool


class Row(NamedTuple):
    """One run of a comparison: its place from 1 up, its name, a Cell for each column."""

    place: int
    name: str
    cells: list


def comparison(results, names=COMPARED):
    """Runs beside one another, the highest mAP first.

    Args:
        results: OrderedDict of run -> its results; a result that a run lacks stays empty.
        names: results to show; one that no run has is left out.

    Returns:
        (names, rows): the results' names, and a list of Rows.
    """
    names = [name for name in names if any(name in values for values in results.values())]
    best = OrderedDict()
    for name in names:
        texts = [(values[name], shown(name, values[name])) for values in results.values()
                 if isinstance(values.get(name), (int, float))]
        better = column(name).better
        if better and len({text for _, text in texts}) > 1:
            # By text: what looks the same is the same.
            best[name] = max(texts, key=lambda pair: better * pair[0])[1]
    order = sorted(results, key=lambda run: -results[run].get("mAP", 0.0))
    return names, [Row(place, run, [
        Cell(text, name in best and text == best[name]) for name, text in (
            (name, shown(name, results[run].get(name))) for name in names)])
        for place, run in enumerate(order, 1)]


def without_common_folder(paths):
    """Paths without the folders that all of them start with.

    Args:
        paths: list of str, all different.

    Returns:
        (prefix, names): the common folders ("" for none), and what remains of each path.
    """
    parts = [path.replace(os.sep, "/").rstrip("/").split("/") for path in paths]
    shortest = min(map(len, parts))
    count = 0
    while len(paths) > 1 and count < shortest - 1 and len({part[count] for part in parts}) == 1:
        count += 1
    return "/".join(parts[0][:count]), ["/".join(part[count:]) for part in parts]
