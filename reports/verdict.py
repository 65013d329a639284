"""The top of a run's page: how good the codes are, in one number and one sentence."""

from typing import NamedTuple

import numpy as np

from reports.code_figures import constant_bits, ranges
from reports.ranking import chance_map


class Verdict(NamedTuple):
    """What a page says first.

    Attributes:
        value, low, high: mAP, and its bounds over orders of ties.
        chance: mAP of a random order.
        sentence: sizes, and how often the nearest code is right.
        warnings: sentences that say why the numbers mean less than they seem to (often none).
    """

    value: float
    low: float
    high: float
    chance: float
    sentence: str
    warnings: list


def verdict(evaluation, codes, subject):
    """The Verdict on codes.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats.
        subject: what was evaluated, to begin the sentence with.
    """
    results = evaluation.results
    people = len(np.unique(codes.gallery_labels))
    queries = results["num_queries"]
    right = results["top_1_accuracy"] * queries
    whole = abs(right - round(right)) < 0.005
    sentence = ("%s: %s, %s, %s; the nearest %s is right for %s of %s%s." % (
        subject, counted(people, "person", "people"), counted(results["num_gallery"],
                                                              "gallery image"),
        counted(queries, "query", "queries"), "code" if "num_bits" in results else "vector",
        "{:,}".format(int(round(right))) if whole else "{:,.1f}".format(right),
        "{:,}".format(queries), "" if whole else " (on average over orders of ties)"))
    return Verdict(results["mAP"], results["mAP_worst_case"], results["mAP_best_case"],
                   chance_map(codes), sentence,
                   (code_warnings(results, codes, people) if "num_bits" in results else [])
                   + query_warnings(results))


def code_warnings(results, codes, people):
    """Sentences on collapsed codes."""
    warnings = []
    distinct, constant = results["distinct_gallery_codes"], constant_bits(codes)
    if distinct == 1:
        warnings.append(
            "The codes have collapsed: all %s have one and the same code. Every ranking is a "
            "single tie, so that best orders of ties, recall within a radius and the like say "
            "nothing." % counted(results["num_gallery"], "gallery image"))
    else:
        if constant:
            warnings.append("%d of %d bits are the same for the whole gallery and say nothing: %s."
                            % (len(constant), results["num_bits"], ranges(constant)))
        if distinct < people:
            warnings.append("The codes have collapsed: %s for %s." % (
                counted(distinct, "distinct code"), counted(people, "person", "people")))
    return warnings


def query_warnings(results):
    """Sentences on queries that make the numbers mean less."""
    warnings = []
    inside = results.get("queries_also_in_gallery")
    if inside:
        warnings.append("%s also in the gallery: to find an image by itself inflates every number "
                        "here." % counted(inside, "query is", "queries are"))
    strangers = results.get("queries_without_relevant")
    if strangers:
        warnings.append("%s of people who are not in the gallery; each counts as 0."
                        % counted(strangers, "query is", "queries are"))
    return warnings


def overfitting(history):
    """A sentence where training went on long after all was learned, and codes got worse; or None.

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
    return ("Training accuracy is 1.0 since epoch %d of %d, and mAP fell from %.4f after epoch %d "
            "to %.4f: fewer epochs, or --recipe tuned, may give better codes." % (
                learned, last["epoch"], best["mAP"], best["epoch"], last["mAP"]))


def counted(number, one, many=None):
    """A number and its noun: 1 query, 1,595 people."""
    return "{:,} {}".format(number, one if number == 1 else many or one + "s")
