"""What the page of a run says first: how good its codes are, and what to be careful about."""

from typing import NamedTuple, Optional

import numpy as np

from evaluation import open_set, vectors
from evaluation.distances import count_distances
from reports.columns import UNKNOWN, column, counted, shown
from reports.figures import constant_bits, ranges
from reports.ranking import chance_map

MOST_MISSED = 0.3  # share of known people's queries
STRANGERS_NAMED = 0.01  # share of strangers that a search may name
MOST_QUERIES = 2000  # to judge a search by; more hardly change its shares


class Summary(NamedTuple):
    """What a page says first.

    Attributes:
        value, low, high: mAP, and its bounds over orders of ties.
        chance: mAP of a random order.
        sentence: sizes, and how often the nearest code is right.
        warnings: sentences on why the numbers mean less than they seem to (often none).
    """

    value: float
    low: float
    high: float
    chance: float
    sentence: str
    warnings: list


def summarise(evaluation, codes, subject):
    """The Summary of codes.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats.
        subject: what was evaluated; the sentence begins with it.
    """
    results = evaluation.results
    is_codes = "num_bits" in results
    people, queries = len(np.unique(codes.gallery_labels)), results["num_queries"]
    right = results["top_1_accuracy"] * queries
    if abs(right - round(right)) < 0.005:
        share = f"{round(right):,} of {queries:,}"
    else:
        share = f"{right:,.1f} of {queries:,} (on average over orders of ties)"
    sentence = (
        f"{subject}: {counted(people, 'person', 'people')}, "
        f"{counted(results['num_gallery'], 'gallery image')}, "
        f"{counted(queries, 'query', 'queries')}; the nearest {'code' if is_codes else 'vector'} "
        f"is right for {share}.")
    return Summary(results["mAP"], results["mAP_worst_case"], results["mAP_best_case"],
                   chance_map(codes), sentence,
                   (code_warnings(results, codes, people) if is_codes else [])
                   + query_warnings(results))


def code_warnings(results, codes, people):
    """Sentences on collapsed codes."""
    distinct, constant = results["distinct_gallery_codes"], constant_bits(codes)
    if distinct == 1:
        return [f"The codes have collapsed: all {results['num_gallery']:,} gallery images have the "
                "same code. Every ranking is one tie, so only the expected mAP means anything."]
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} of {results['num_bits']} bits are the same for the whole "
                        f"gallery and carry no information: {ranges(constant)}.")
    if distinct < people:
        warnings.append(f"The codes have collapsed: {counted(distinct, 'distinct code')} for "
                        f"{counted(people, 'person', 'people')}.")
    return warnings


def query_warnings(results):
    """Sentences on queries that make the numbers mean less."""
    warnings = []
    inside = results.get("queries_also_in_gallery")
    if inside:
        warnings.append(f"{counted(inside, 'query is', 'queries are')} also in the gallery. An "
                        "image finds itself, so every number here is too high.")
    strangers = results.get("queries_without_relevant")
    if strangers:
        warnings.append(f"{counted(strangers, 'query is', 'queries are')} of people who are not in "
                        "the gallery; each counts as 0.")
    return warnings


# Notes that a run prints when it ends, and that its page repeats


def closing_notes(record, codes):
    """Sentences on what the results of a run mean for its use: a list, often empty.

    Args:
        record: its runs.RunRecord.
        codes: its Codes, or Floats.
    """
    notes = overfitting(record.history), missed_people(codes)
    return [note for note in notes if note]


def missed_people(codes):
    """A sentence where a search by these codes would miss many known people; else None.

    A query is missed if its nearest gallery image shows somebody else, or lies beyond the largest
    distance at which at most 1 % of strangers are named. Each query also stands for a stranger:
    with its own person left out of the gallery.

    Args:
        codes: Codes of a gallery and of queries that it does not hold. There is no sentence on
            Floats and class numbers, which no gallery searches.
    """
    if not codes.has_bits:
        return None
    some = np.unique(np.linspace(0, len(codes.query_labels) - 1, MOST_QUERIES).astype(int))
    counts = count_distances(codes._replace(
        query_codes=codes.query_codes[some], query_labels=codes.query_labels[some],
        gallery_fingerprints=None, query_fingerprints=None))
    known = counts.relevant.any(axis=1)
    others = counts.items - counts.relevant > 0
    strangers = np.argmax(others, axis=1)[others.any(axis=1)]
    if not known.any() or not len(strangers):
        return None
    rate = open_set.detection_rate(open_set.nearest_codes(counts).take(known), strangers,
                                   STRANGERS_NAMED)
    missed = 1 - rate.detection
    if missed <= MOST_MISSED:
        return None
    return (f"At a threshold that names at most 1 % of strangers, these codes miss "
            f"{100 * missed:.0f} % of the queries of known people. To search your own photographs "
            "no run is needed: python search.py find PHOTO DIR (docs/search.md).")


def overfitting(history):
    """A sentence if training went on long after accuracy was perfect and codes got worse; or None.

    Training accuracy must be 1.0 (to three digits) for at least the last quarter of the epochs, and
    the last evaluation's mAP more than 0.005 below the best one's.

    Args:
        history: rows of history.csv, dicts with epoch, accuracy and mAP, which may be None.
    """
    evaluated = [row for row in history if row.get("mAP") is not None]
    if not evaluated:
        return None
    last, best = evaluated[-1], max(evaluated, key=lambda row: row["mAP"])
    learned = last["epoch"] + 1
    for row in reversed(history):
        if not row.get("accuracy") or row["accuracy"] < 0.9995:
            break
        learned = row["epoch"]
    if learned > 0.75 * last["epoch"] or best["mAP"] - last["mAP"] <= 0.005:
        return None
    return (f"Training accuracy has been 1.0 since epoch {learned:.0f} of {last['epoch']:.0f}; mAP "
            f"fell from {best['mAP']:.4f} after epoch {best['epoch']:.0f} to {last['mAP']:.4f}: "
            "fewer epochs, or --recipe tuned, may give better codes.")


# People never seen in training

COMPARED = ("mAP", "mAP_worst_case", "mAP_best_case", "top_1_accuracy", "r_precision")
LIMITS = (("1_percent", "1 %"), ("10_percent", "10 %"))


class TextTable(NamedTuple):
    """A table of a page: a sentence above it, heads of its columns, rows; all of them texts."""

    sentence: str
    heads: list
    rows: list


class UnseenPeople(NamedTuple):
    """What a page says of people never seen: how well they and those seen are found, and open-set
    identification (None where it was not evaluated)."""

    retrieval: TextTable
    open_set: Optional[TextTable]


def unseen_people(folder, results, codes):
    """The UnseenPeople of an evaluated folder, or None if everybody was in the training set.

    Args:
        folder: an OutputFolder with unseen_codes.npz or unseen_floats.npz, if the results are of
            such a run.
        results: its results.json.
        codes: Codes or Floats of the people of the training set.
    """
    if "unseen_mAP" not in results:
        return None
    chances = [chance_map(split) for split in (codes, vectors.load_unseen(folder))]
    people = len(np.unique(codes.gallery_labels)), results["unseen_num_identities"]
    sentence = (
        f"{counted(people[1], 'person was', 'people were')} never seen in training: mAP is "
        f"{results['unseen_mAP']:.4f} (a random order: {chances[1]:.4f}) and the nearest image is "
        f"right for {100 * results['unseen_top_1_accuracy']:.1f} % of "
        f"{counted(results['unseen_num_queries'], 'query', 'queries')}. For the {people[0]:,} "
        f"people of the training set mAP is {results['mAP']:.4f} (a random order: "
        f"{chances[0]:.4f}).")

    def row(title, name):
        return [title] + [shown(name, results[prefix + name]) for prefix in ("", "unseen_")]

    rows = [["people", *(f"{count:,}" for count in people)],
            row("gallery images", "num_gallery"), row("queries", "num_queries"),
            ["mAP of a random order", *(f"{chance:.4f}" for chance in chances)],
            *(row(column(name).title, name) for name in COMPARED)]
    return UnseenPeople(TextTable(sentence, ["", "seen", "never seen"], rows),
                        _identification(results))


def _identification(results):
    """The TextTable of open-set identification, or None."""
    if "open_set_o3_dir_at_1_percent" not in results:
        return None
    enrolled, others = [counted(results[f"open_set_num_{kind}"], "person", "people")
                        for kind in ("known", "known_unknown")]
    unseen = counted(results["unseen_num_identities"], "person was", "people were")
    sentence = (
        f"Open-set identification: the training images of {enrolled} are enrolled. {others} took "
        f"part in training but are not enrolled (known unknown), and {unseen} never seen (unknown "
        "unknown). A query is identified as the person of its nearest enrolled image if that lies "
        "within a threshold: the largest distance at which at most 1 or 10 % of the unknown "
        "people's queries are accepted.")
    heads = ["unknown people", "known queries", "unknown"]
    for _, limit in LIMITS:
        heads += [f"identified at {limit}", "false accepts", "distance"]
    counts = {"o1": results["open_set_num_known_unknown_queries"],
              "o2": results["unseen_num_queries"]}
    counts["o3"] = counts["o1"] + counts["o2"]
    rows = []
    for name, title in UNKNOWN:
        row = [title, shown("num_queries", results["open_set_num_known_queries"]),
               shown("num_queries", counts[name])]
        for limit, _ in LIMITS:
            detection, accepts, threshold = [
                results.get(f"open_set_{name}_{part}_at_{limit}")
                for part in ("dir", "far", "threshold")]
            row += ["-" if detection is None else f"{detection:.4f}",
                    "-" if accepts is None else f"{accepts:.4f}",
                    "none" if threshold is None else f"{threshold:.4g}"]
        rows.append(row)
    return TextTable(sentence, heads, rows)
