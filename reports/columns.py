"""Names and formats of results, and results as text for the console."""

import os
import re
from typing import NamedTuple

from evaluation.vectors import UNSEEN_RESULTS
from runtime.command_line import duration

QUALITY, UNSEEN, CODES, COST = "quality", "people never seen", "codes", "cost"


class Column(NamedTuple):
    """How one result is shown.

    Attributes:
        title: its name.
        short: its name at the head of a column.
        group: QUALITY, UNSEEN, CODES or COST.
        kind: "share" (0..1), "count", "large" (a count in millions), "seconds" or "text".
        better: +1 if the highest value is the best, -1 if the lowest is, 0 for neither.
    """

    title: str
    short: str
    group: str
    kind: str
    better: int = 0


# Whose queries are unknown in an open set; see evaluation/open_set.py.
UNKNOWN = (("o1", "known unknown"), ("o2", "unknown unknown"), ("o3", "both"))
OPEN_SET = [
    (f"open_set_{unknown}_{part}_at_{limit}_percent", f"{title} {limit} % false accepts, {who}",
     f"{part.upper()} {unknown.upper()} {limit}%", UNSEEN, kind, better)
    for unknown, who in UNKNOWN
    for limit in (1, 10)
    for part, title, kind, better in (
        ("dir", "identified at", "share", 1), ("far", "actual rate for", "share", 0),
        ("threshold", "distance at", "count", 0))
]

# Of people in training; those of UNSEEN_RESULTS also of people never seen.
MEASURES = [
    ("mAP", "mAP", "mAP", QUALITY, "share", 1),
    ("mAP_worst_case", "mAP, worst order of ties", "worst ties", QUALITY, "share", 1),
    ("mAP_best_case", "mAP, best order of ties", "best ties", QUALITY, "share"),
    ("mAP_euclidean", "mAP by Euclidean distance", "Euclidean", QUALITY, "share", 1),
    ("mAP_feature", "mAP of the feature alone", "feature", QUALITY, "share"),
    ("mAP_feature_euclidean", "mAP of the feature alone, Euclidean", "feature, Eucl.", QUALITY,
     "share"),
    ("mAP_descriptor", "mAP of the descriptor alone", "descriptor", QUALITY, "share"),
    ("mAP_descriptor_euclidean", "mAP of the descriptor alone, Euclidean", "descriptor, Eucl.",
     QUALITY, "share"),
    ("mAP_authors_evaluation", "mAP by the authors' evaluation", "authors'", QUALITY, "share", 1),
    ("top_1_accuracy", "top-1 accuracy", "top-1", QUALITY, "share", 1),
    ("r_precision", "R-precision", "R-prec.", QUALITY, "share", 1),
    ("precision_at_50", "precision at 50", "P at 50", QUALITY, "share", 1),
    ("precision_radius_2", "precision within radius 2", "P radius 2", QUALITY, "share", 1),
    ("recall_radius_2", "recall within radius 2", "R radius 2", QUALITY, "share", 1),
    ("queries_nonempty_radius_2", "queries with any code within radius 2", "nonempty", QUALITY,
     "share"),
    ("queries_without_relevant", "queries of people not in the gallery", "no person", QUALITY,
     "count"),
    ("queries_also_in_gallery", "queries also in the gallery", "in gallery", QUALITY, "count"),
]
COLUMNS = {name: Column(*fields) for name, *fields in [
    *MEASURES,
    *((f"unseen_{name}", f"{title}, never seen", f"unseen {short}", UNSEEN, *rest)
      for name, title, short, _, *rest in MEASURES if name in UNSEEN_RESULTS),
    ("unseen_num_identities", "number of people never seen", "unseen people", UNSEEN, "count"),
    ("unseen_num_gallery", "gallery images of people never seen", "unseen gallery", UNSEEN,
     "count"),
    ("unseen_num_queries", "queries of people never seen", "unseen queries", UNSEEN, "count"),
    ("open_set_num_known", "people enrolled (known)", "known", UNSEEN, "count"),
    ("open_set_num_known_unknown", "people trained, not enrolled", "known unknown", UNSEEN,
     "count"),
    ("open_set_num_known_queries", "queries of people enrolled", "known queries", UNSEEN, "count"),
    ("open_set_num_known_unknown_queries", "queries of people trained, not enrolled",
     "other queries", UNSEEN, "count"),
    *OPEN_SET,
    ("num_bits", "bits", "bits", CODES, "count"),
    ("num_values", "floating-point values", "floats", CODES, "count"),
    ("num_gallery", "gallery images", "gallery", CODES, "count"),
    ("num_queries", "queries", "queries", CODES, "count"),
    ("distinct_gallery_codes", "distinct gallery codes", "distinct", CODES, "count"),
    ("varying_bits", "bits that vary", "varying", CODES, "count"),
    ("independent_bits", "linearly independent bits", "independent", CODES, "count"),
    ("dataset", "data set", "data set", CODES, "text"),
    ("method", "method", "method", CODES, "text"),
    ("epoch", "weights of epoch", "epoch", CODES, "count"),
    ("trained_epochs", "epochs trained", "trained", CODES, "count"),
    ("codes", "codes from", "codes", CODES, "text"),
    ("parameters", "parameters", "parameters", COST, "large"),
    ("training_seconds", "training", "training", COST, "seconds", -1),
    ("network_training_seconds", "of which the network that gave the features", "network", COST,
     "seconds", -1),
    ("encoding_seconds", "encoding", "encoding", COST, "seconds", -1),
    ("ranking_seconds", "ranking and metrics", "ranking", COST, "seconds", -1),
]}
# What a comparison shows of each run, on the console and on its page.
COMPARED = ("mAP", "mAP_worst_case", "mAP_best_case", "mAP_euclidean", "top_1_accuracy",
            "r_precision", "precision_radius_2", "recall_radius_2", "unseen_mAP",
            "unseen_top_1_accuracy", "open_set_o3_dir_at_1_percent", "num_bits", "num_values",
            "distinct_gallery_codes", "training_seconds")


def column(name):
    """The Column of a name in results.json; a plain one of an unknown name."""
    if name in COLUMNS:
        return COLUMNS[name]
    cutoff = re.match(r"mAP_at_(\d+)\Z", name)
    if cutoff:
        title = f"mAP at {cutoff.group(1)}"
        return Column(title, title, QUALITY, "share", 1)
    title = name.replace("_", " ")
    return Column(title, title, CODES, "text")


def shown(name, value):
    """A result's value as text for people."""
    if value is None or value == "":
        return ""
    if isinstance(value, (bool, str, list, dict)):
        return str(value)
    kind = column(name).kind
    if kind == "seconds":
        return duration(value)
    if kind == "large":
        return large(value)
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def large(count):
    """A large number for people: 980, 61.2 k, 7.9 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.99995:
            return f"{count / size:.1f} {unit}"
    return str(int(count))


def counted(number, one, many=None):
    """A number and its noun: 1 query, 1,595 people."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def grouped(results):
    """Results in their groups: dict of group -> list of (name, title, text)."""
    groups = {group: [] for group in (QUALITY, UNSEEN, CODES, COST)}
    known = [name for name in COLUMNS if name in results]
    cutoffs = [name for name in results if name.startswith("mAP_at_")]
    known[known.index("r_precision") if "r_precision" in known else 0:0] = cutoffs
    for name in known + [name for name in results if name not in known]:
        entry = column(name)
        groups[entry.group].append((name, entry.title, shown(name, results[name])))
    return {group: rows for group, rows in groups.items() if rows}


def results_text(results):
    """Results in their groups for the console, one a line."""
    groups = grouped(results)
    width = max((len(title) for rows in groups.values() for _, title, _ in rows), default=0)
    lines = []
    for group, rows in groups.items():
        lines.append(group)
        # Numbers are right-aligned, so that they compare; texts follow their title.
        numbers = max((len(text) for name, _, text in rows if _is_number(name)), default=0)
        lines += [f"  {title.ljust(width)}  {text.rjust(numbers) if _is_number(name) else text}"
                  for name, title, text in rows]
    return "\n".join(line.rstrip() for line in lines)


def _is_number(name):
    return column(name).kind != "text"


# Several runs


class Entry(NamedTuple):
    """One value of a table: its text, whether it is the best of its column, and links beside it.
    """

    text: str
    best: bool = False
    links: tuple = ()  # of (text, address)


class Row(NamedTuple):
    """One run of a comparison: its place from 1 up, its name, an Entry for each column."""

    place: int
    name: str
    entries: list


def comparison(results):
    """Runs beside one another, the highest mAP first.

    Args:
        results: dict of run -> its results; a result that a run lacks stays empty.

    Returns:
        (names, rows): those of COMPARED that any run has, and a list of Rows.
    """
    names = [name for name in COMPARED if any(name in values for values in results.values())]
    best = {}
    for name in names:
        texts = [(values[name], shown(name, values[name])) for values in results.values()
                 if isinstance(values.get(name), (int, float))]
        better = column(name).better
        if better and len({text for _, text in texts}) > 1:
            # Compared as text: values that look equal are equally good.
            best[name] = max(texts, key=lambda pair: better * pair[0])[1]
    order = sorted(results, key=lambda run: -results[run].get("mAP", 0.0))
    return names, [Row(place, run, [
        Entry(text, name in best and text == best[name]) for name, text in (
            (name, shown(name, results[run].get(name))) for name in names)])
        for place, run in enumerate(order, 1)]


def comparison_text(results):
    """Runs beside one another for the console: one a row, the highest mAP first.

    An asterisk marks the best of a column.

    Args:
        results: dict of name -> results.
    """
    names, rows = comparison(results)
    prefix, shortened = without_common_folder(list(results))
    shortened = dict(zip(results, shortened))
    head = ["#"] + [column(name).short + " " for name in names]
    body = [[str(row.place)] + [(entry.text or "-") + ("*" if entry.best else " ")
                                for entry in row.entries] for row in rows]
    widths = [max(map(len, texts)) for texts in zip(head, *body)]
    # The name comes last: its letters may be of any width.
    run_names = ["run"] + [shortened[row.name] for row in rows]
    lines = [" ".join(text.rjust(width) for text, width in zip(texts, widths)) + "  " + name
             for texts, name in zip([head] + body, run_names)]
    return "\n".join(lines + ["* the best of its column"]
                     + ([f"runs in {prefix}"] if prefix else []))


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
