"""How near a face must be to be named: a distance calibrated on faces of strangers.

A gallery names a stranger if one of its faces lies within the threshold. How often that happens is
measured with faces whose own person is left out of the gallery: for them everyone in it is a
stranger. Faces are those of the gallery itself, or better ones that it does not hold and that the
encoder was not trained on.
"""

from typing import NamedTuple, Optional

import numpy as np
from scipy.special import betaincinv

from evaluation import packing
from gallery.engines import FlatIndex
from gallery.gallery_items import NO_NUMBER

MOST_PROBES = 2000
CONFIDENCE = 0.95


class Calibration(NamedTuple):
    """What was measured, by distance d = 0..K.

    Attributes:
        probes: faces that were searched as strangers.
        accepted: list of K + 1 counts: strangers to whom somebody lies within d.
        known: faces that were searched with their own person in the gallery (less the very face).
        missed: list of K + 1 counts: those of them to whom no face of their own lies within d.
        of_queries: whether the faces are ones that the gallery does not hold.
    """

    probes: int
    accepted: list
    known: int
    missed: list
    of_queries: bool

    def threshold(self, rate):
        """The largest distance at which no more than this share of strangers is named.

        Returns:
            int, or None if even distance 0 names more of them.
        """
        good = [distance for distance, count in enumerate(self.accepted)
                if count <= rate * self.probes]
        return good[-1] if good else None

    def false_accept_rate(self, distance):
        """Share of strangers named within a distance; 0 for None."""
        return 0.0 if distance is None else self.accepted[distance] / self.probes

    def highest_rate(self, distance):
        """The rate that is not exceeded, with 95 % confidence (Clopper and Pearson)."""
        count = 0 if distance is None else self.accepted[distance]
        if count >= self.probes:
            return 1.0
        return float(betaincinv(count + 1, self.probes - count, CONFIDENCE))

    def miss_rate(self, distance):
        """Share of known people who are not found within a distance; None if unknown."""
        if not self.known:
            return None
        return 1.0 if distance is None else self.missed[distance] / self.known


def calibrate(contents, num_bits) -> Optional[Calibration]:
    """Calibration of a gallery.

    Args:
        contents: gallery.gallery_items.Contents.
        num_bits: K.

    Returns:
        Calibration; None unless the faces of two people or more are known.
    """
    labelled = contents.items.identities != NO_NUMBER
    codes, people = contents.items.codes[labelled], contents.items.identities[labelled]
    if len(np.unique(people)) < 2:
        return None
    pairs = np.unique(np.rec.fromarrays([people, codes], names="person,code"),
                      return_counts=True)
    distinct = _Distinct(pairs[0].code, pairs[0].person, pairs[1])
    of_queries = len(contents.probe_codes) > 0
    if of_queries:
        codes, people = contents.probe_codes, contents.probe_identities
    chosen = np.random.RandomState(0).permutation(len(codes))[:MOST_PROBES]
    codes, people = codes[chosen], people[chosen]
    strangers = _nearest_of_others(distinct, codes, people, num_bits)
    own = _nearest_of_own(distinct, codes, people, leave_out=not of_queries)
    own = own[own != NO_NUMBER]
    distances = np.arange(num_bits + 1)
    return Calibration(
        probes=len(codes), accepted=[int(count) for count in (
            strangers[:, None] <= distances).sum(axis=0)],
        known=len(own), missed=[int(count) for count in (own[:, None] > distances).sum(axis=0)],
        of_queries=of_queries)


class _Distinct(NamedTuple):
    """Each code of each person once: codes, people, and how many faces have it."""

    codes: np.ndarray
    people: np.ndarray
    counts: np.ndarray


def _nearest_of_others(distinct, codes, people, num_bits):
    """Distance of each probe to the nearest face of another person: int [p]."""
    codes_of = np.ascontiguousarray(distinct.codes)
    index = FlatIndex(codes_of, num_bits)
    result = np.full(len(codes), num_bits + 1)
    open_, top = np.arange(len(codes)), 4
    while len(open_):
        found = index.search(codes[open_], top)
        others = distinct.people[found.rows] != people[open_, None]
        settled = others.any(axis=1)
        first = others.argmax(axis=1)
        result[open_[settled]] = found.distances[settled, first[settled]]
        if top >= len(codes_of):
            break
        open_, top = open_[~settled], top * 8
    return result


def _nearest_of_own(distinct, codes, people, leave_out):
    """Distance of each probe to the nearest face of its own person; NO_NUMBER without any.

    With leave_out, the probe itself is among those and does not count.
    """
    order = np.argsort(distinct.people, kind="mergesort")
    sorted_people = distinct.people[order]
    starts = np.searchsorted(sorted_people, people, side="left")
    ends = np.searchsorted(sorted_people, people, side="right")
    result = np.full(len(codes), NO_NUMBER)
    for probe, (start, end) in enumerate(zip(starts, ends)):
        rows = order[start:end]
        distances = packing.distances(codes[probe], distinct.codes[rows])
        if leave_out:
            distances = distances[(distances > 0) | (distinct.counts[rows] > 1)]
        if len(distances):
            result[probe] = distances.min()
    return result
