"""Open-set identification: which enrolled person is this, or none of them? Needs numpy alone.

There are three kinds of people (Gunther, Cruz, Rudd and Boult, arXiv 1705.01567): known people are
enrolled in the gallery; known unknown people are in training but not enrolled; unknown unknown
people are neither. A query is accepted as the person of its nearest enrolled code, or vector, if
that lies within a threshold. docs/evaluation.md has the equations.
"""

from typing import NamedTuple, Optional

import numpy as np

from evaluation import floats
from evaluation.codes import Codes
from evaluation.distances import count_distances
from evaluation.metrics import nearest_accuracy

FOLDS = 4  # of the setting unseen_split
SHUFFLE_SEED = 20181202  # not the run's seed: all runs share the parts
# A third of the seen people is known unknown. Where a quarter of all people is unseen, two quarters
# are known, one is known unknown and one unknown unknown: as many unknowns of either kind.
SEEN_PARTS = 3
FALSE_ACCEPTS = {"1_percent": 0.01, "10_percent": 0.1}
PREFIX = "open_set_"
QUERIES_AT_ONCE = 256  # vectors that are compared with the gallery at once


class Probes(NamedTuple):
    """The nearest enrolled items of some queries.

    Attributes:
        distances: [P], to the nearest enrolled item: Hamming distance, int64, or cosine distance of
            vectors, float64.
        right: float64 [P], share of the query's own person among the enrolled items at that
            distance: the chance that a random one of the tie is right.
    """

    distances: np.ndarray
    right: np.ndarray

    def take(self, chosen):
        """The Probes that a mask selects."""
        return Probes(self.distances[chosen], self.right[chosen])


class Rate(NamedTuple):
    """An operating point.

    Attributes:
        detection: detection and identification rate.
        false_accepts: the false accept rate that is reached, at most the limit.
        threshold: queries are accepted up to this Hamming distance, or below this cosine distance.
            None where distance 0 already accepts too many unknown queries: then nobody is accepted,
            and both rates are 0.
    """

    detection: float
    false_accepts: float
    threshold: Optional[float]


def open_set_results(seen, unseen):
    """Detection and identification rates of known people's queries among those of unknown people.

    The unknown people are the known unknown in O1, the unknown unknown in O2, and both in O3.

    Args:
        seen: Codes or Floats of the people in training.
        unseen: those of the unseen people, of which only the queries count.

    Returns:
        Dict of plain values for results.json; empty if fewer than three people are in training.
    """
    people = np.unique(seen.gallery_labels)
    if len(people) < SEEN_PARTS:
        return {}
    known = people[folds_of_people(len(people), SEEN_PARTS) != 0]
    probes = nearest(_enrolled(seen, known, seen))
    of_known = np.isin(seen.query_labels, known)
    known_probes, known_unknown = probes.take(of_known), probes.take(~of_known)
    # Unseen people are numbered from 0, too: only the distances mean something here.
    strangers = nearest(_enrolled(seen, known, unseen))
    results = {PREFIX + "num_known": len(known),
               PREFIX + "num_known_unknown": len(people) - len(known),
               PREFIX + "num_known_queries": int(np.count_nonzero(of_known)),
               PREFIX + "num_known_unknown_queries": int(np.count_nonzero(~of_known))}
    for name, unknown in (("o1", (known_unknown,)), ("o2", (strangers,)),
                          ("o3", (known_unknown, strangers))):
        distances = np.concatenate([probes.distances for probes in unknown])
        for limit_name, limit in FALSE_ACCEPTS.items():
            if len(distances) and len(known_probes.distances):
                rate = detection_rate(known_probes, distances, limit)
                for part, value in zip(("dir", "far", "threshold"), rate):
                    results[f"{PREFIX}{name}_{part}_at_{limit_name}"] = value
    return results


def _enrolled(seen, known, queries):
    """The known people's gallery of `seen` with the queries of `queries`, as Codes or Floats."""
    enrolled = np.isin(seen.gallery_labels, known)
    of_queries = dict(zip(queries._fields, queries))
    return seen._replace(
        gallery_fingerprints=None, query_fingerprints=None, **{
            name: value[enrolled] if name.startswith("gallery") else of_queries[name]
            for name, value in zip(seen._fields[:4], seen)})


def folds_of_people(num_people, folds=FOLDS):
    """The fold of each person: int64 [C], 0..folds-1; it depends on C and `folds` alone.

    The people are shuffled and dealt out in turns, so sizes differ by one at most.
    """
    result = np.empty(num_people, np.int64)
    result[np.random.RandomState(SHUFFLE_SEED).permutation(num_people)] = (
        np.arange(num_people) % folds)
    return result


def nearest(vectors):
    """The Probes of the queries of Codes or Floats."""
    if isinstance(vectors, Codes):
        return nearest_codes(count_distances(vectors))
    parts = [_nearest_vectors(vectors, slice(start, start + QUERIES_AT_ONCE))
             for start in range(0, len(vectors.query_labels), QUERIES_AT_ONCE)]
    return Probes(*map(np.concatenate, zip(*parts)))


def nearest_codes(counts):
    """The Probes of queries whose evaluation.distances.DistanceCounts are known."""
    return Probes(np.argmax(counts.items > 0, axis=1), nearest_accuracy(counts))


def _nearest_vectors(vectors, some):
    """(distances, right) of some queries of Floats; see floats.RESOLUTION for what is a tie."""
    distances = floats.cosine_distances(vectors.query_vectors[some], vectors.gallery_vectors)
    least = distances.min(axis=1, keepdims=True)
    ties = distances <= least + floats.RESOLUTION * distances.max(axis=1, keepdims=True)
    relevant = vectors.query_labels[some, None] == vectors.gallery_labels
    # In whole steps, so that equal distances of different queries are equal, too.
    steps = np.rint(np.maximum(least[:, 0], 0) / floats.RESOLUTION)
    return steps * floats.RESOLUTION, (ties & relevant).sum(axis=1) / ties.sum(axis=1)


def detection_rate(known, unknown_distances, limit):
    """The Rate of the largest threshold whose false accept rate is not above the limit.

    Args:
        known: Probes of known people, at least one.
        unknown_distances: [U], of unknown people's queries to their nearest enrolled item.
        limit: false accept rate, below 1.
    """
    # A whole number of queries, so that rounding does not lose a rate that equals the limit.
    allowed = int(np.floor(limit * len(unknown_distances) + 1e-9))
    # The first unknown query too many must be refused, and with it all that are as near.
    refused = np.sort(unknown_distances)[allowed]
    if refused <= 0:
        return Rate(0.0, 0.0, None)
    whole = np.issubdtype(unknown_distances.dtype, np.integer)
    return Rate(float((known.right * (known.distances < refused)).mean()),
                float((unknown_distances < refused).mean()),
                int(refused) - 1 if whole else float(refused))
