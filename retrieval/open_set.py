"""Open-set identification: who is this, or nobody who is enrolled? Needs numpy alone.

People are of three kinds (Gunther, Cruz, Rudd and Boult, arXiv 1705.01567): known ones are enrolled
in the gallery; known unknown ones took part in training but are not enrolled; unknown unknown ones
are never seen before they are a query. A query is accepted as the person of its nearest enrolled
code if that lies within a threshold. docs/evaluation.md has the equations.
"""

from collections import OrderedDict
from typing import NamedTuple, Optional

import numpy as np

from retrieval.codes import Codes
from retrieval.distances import count_distances
from retrieval.folds import folds_of_people

# Of the seen people a third is known unknown. Where a quarter of all people is unseen, that makes
# two quarters known, one known unknown and one unknown unknown: as many unknowns of either kind.
SEEN_PARTS = 3
FALSE_ACCEPTS = OrderedDict([("1_percent", 0.01), ("10_percent", 0.1)])
PREFIX = "open_set_"


class Probes(NamedTuple):
    """How some queries lie to the enrolled gallery.

    Attributes:
        distances: int64 [P], Hamming distance to the nearest enrolled code.
        right: float64 [P], share of the enrolled codes at that distance that are of the query's own
            person: the chance that a random one of a tie is.
    """

    distances: np.ndarray
    right: np.ndarray


class Rate(NamedTuple):
    """A point of operation.

    Attributes:
        detection: detection and identification rate.
        false_accepts: the false accept rate that is reached, at most the limit.
        threshold: the distance up to which queries are accepted; None where distance 0 already
            accepts too many unknown queries, so that nobody is accepted and both rates are 0.
    """

    detection: float
    false_accepts: float
    threshold: Optional[int]


def open_set_results(codes, unseen_codes):
    """Detection and identification rates of known people's queries among those of unknown people.

    The unknown ones of O1 are the known unknown, of O2 the unknown unknown, of O3 both.

    Args:
        codes: Codes of the seen people.
        unseen_codes: Codes of the unseen people, whose queries alone count.

    Returns:
        OrderedDict of plain values for results.json; empty where fewer than three people are seen.
    """
    people = np.unique(codes.gallery_labels)
    if len(people) < SEEN_PARTS:
        return OrderedDict()
    known = people[folds_of_people(len(people), SEEN_PARTS) != 0]
    enrolled = np.isin(codes.gallery_labels, known)
    gallery = codes.gallery_codes[enrolled], codes.gallery_labels[enrolled]
    of_known = np.isin(codes.query_labels, known)
    seen = nearest(*gallery, codes=codes.query_codes, labels=codes.query_labels)
    known_probes, known_unknown = [Probes(*(column[chosen] for column in seen))
                                   for chosen in (of_known, ~of_known)]
    # Labels of unseen people are numbers of their own: only the distances mean something.
    strangers = nearest(*gallery, codes=unseen_codes.query_codes, labels=unseen_codes.query_labels)
    results = OrderedDict([
        (PREFIX + "num_known", len(known)),
        (PREFIX + "num_known_unknown", len(people) - len(known)),
        (PREFIX + "num_known_queries", int(np.count_nonzero(of_known))),
        (PREFIX + "num_known_unknown_queries", int(np.count_nonzero(~of_known)))])
    for name, unknown in (("o1", (known_unknown,)), ("o2", (strangers,)),
                          ("o3", (known_unknown, strangers))):
        distances = np.concatenate([probes.distances for probes in unknown])
        for limit_name, limit in FALSE_ACCEPTS.items():
            if len(distances) and len(known_probes.distances):
                rate = detection_rate(known_probes, distances, limit)
                for part, value in zip(("dir", "far", "threshold"), rate):
                    results["%s%s_%s_at_%s" % (PREFIX, name, part, limit_name)] = value
    return results


def nearest(gallery_codes, gallery_labels, codes, labels):
    """The Probes of some queries.

    Args:
        gallery_codes, gallery_labels: of the enrolled: int8 [N, K] and [N], N >= 1.
        codes, labels: of the queries: int8 [P, K] and [P].
    """
    if not len(codes):
        return Probes(np.zeros(0, np.int64), np.zeros(0))
    counts = count_distances(Codes(gallery_codes, gallery_labels, codes, labels))
    rows, distances = np.arange(len(codes)), np.argmax(counts.items > 0, axis=1)
    return Probes(distances, counts.relevant[rows, distances] / counts.items[rows, distances])


def detection_rate(known, unknown_distances, limit):
    """The Rate of the largest threshold whose false accept rate is not above the limit.

    Args:
        known: Probes of known people, at least one.
        unknown_distances: int64 [U], of unknown people's queries to their nearest enrolled code.
        limit: false accept rate, below 1.
    """
    thresholds = np.arange(int(unknown_distances.max()) + 1)  # the last one accepts all of them
    accepted = (unknown_distances[:, None] <= thresholds).sum(axis=0)
    # In whole queries, so that a rate that equals the limit is not lost by rounding.
    allowed = np.flatnonzero(accepted <= int(np.floor(limit * len(unknown_distances) + 1e-9)))
    if not len(allowed):
        return Rate(0.0, 0.0, None)
    threshold = int(allowed[-1])
    inside = known.distances <= threshold
    return Rate(float((known.right * inside).mean()),
                float(accepted[threshold] / len(unknown_distances)), threshold)
