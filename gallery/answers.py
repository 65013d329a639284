"""Who is this: the nearest faces of a gallery, and the name that they vote for, or "unknown"."""

from typing import NamedTuple, Optional

import numpy as np

from gallery.gallery_items import NO_NUMBER

VOTERS = 5
MOST_TOP = 10000
DEFAULT_RATE = 0.01  # of strangers that may be named


class Verdict(NamedTuple):
    """Whose face it is.

    Attributes:
        name: of the person; None if unknown.
        support: share of the voters' votes for that name, 0..1.
        votes: list of (name, votes), most first, of those within the threshold.
        nearest: distance of the nearest face.
        threshold: the largest distance at which a face is taken for the same person's; None where
            none is known, or even distance 0 is too far.
        reason: why it is unknown, for people; else empty.
    """

    name: Optional[str]
    support: float
    votes: list
    nearest: int
    threshold: Optional[int]
    reason: str


class Answer(NamedTuple):
    """What is found for one face.

    Attributes:
        distances: int32 [top], ascending; ties by id.
        rows: int64 [top], the faces' rows in the gallery.
        more_ties: how many more faces lie as far as the last one.
        verdict: Verdict.
    """

    distances: np.ndarray
    rows: np.ndarray
    more_ties: int
    verdict: Verdict


class Judge:
    """Names faces by a gallery and a threshold.

    Args:
        gallery: gallery.gallery.Gallery.
        rate: share of strangers that may be named.
        threshold: distance to use instead of a calibrated one.
        voters: nearest faces that vote.
    """

    def __init__(self, gallery, rate=DEFAULT_RATE, threshold=None, voters=VOTERS):
        self.gallery = gallery
        self.voters = voters
        self.rate = rate
        calibration = gallery.calibration
        self.calibrated = threshold is None and calibration is not None
        if self.calibrated:
            threshold = calibration.threshold(rate)
        self.threshold = None if threshold is None else min(threshold, gallery.num_bits)

    def why_nobody(self):
        """Why nobody at all is named, or an empty text."""
        if self.threshold is not None:
            return ""
        if not self.calibrated:
            return ("the gallery knows fewer than two people by name, so that no threshold can be "
                    "calibrated")
        least = self.gallery.calibration.false_accept_rate(0)
        return ("no threshold names at most %.3g of strangers: codes of %d bits are so few that "
                "even distance 0 names %.3g of them" % (self.rate, self.gallery.num_bits, least))

    def verdict(self, index, code):
        """The Verdict on one face.

        The nearest faces vote, one vote each. Where the last of them tie with more faces, those
        share the votes that are left, so that no order inside a tie plays a part.

        Args:
            index: gallery.index.Index of the gallery.
            code: packed.
        """
        first = index.search(np.array([code], np.uint64), self.voters)
        nearest, last = int(first.distances[0, 0]), int(first.distances[0, -1])
        reason = self.why_nobody()
        if not reason and nearest > self.threshold:
            reason = "the nearest face is farther than the threshold"
        if reason:
            return Verdict(None, 0.0, [], nearest, self.threshold, reason)
        distances, rows = index.within(code, min(last, self.threshold))
        certain = np.count_nonzero(distances < last)
        tied = np.count_nonzero(distances == last)
        weights = np.where(distances < last, 1.0,
                           (first.rows.shape[1] - certain) / max(tied, 1))
        people = self.gallery.contents.items.identities[rows]
        votes = {}
        for number, weight, distance in zip(people, weights, distances):
            if number != NO_NUMBER:
                total, far = votes.get(number, (0.0, 0.0))
                votes[number] = total + weight, far + weight * distance
        if not votes:
            return Verdict(None, 0.0, [], nearest, self.threshold,
                           "the faces within the threshold have no names")
        # Most votes first; of equal ones the nearer on average, then by number.
        order = sorted(votes, key=lambda number: (
            -round(votes[number][0], 9), votes[number][1] / votes[number][0], number))
        named = [(self.gallery.contents.names[number], round(float(votes[number][0]), 3))
                 for number in order]
        return Verdict(named[0][0], named[0][1] / first.rows.shape[1], named, nearest,
                       self.threshold, "")

    def answer(self, index, code, top, radius=None):
        """The Answer for one face.

        Args:
            index, code: see verdict.
            top: how many of the nearest faces.
            radius: only those within this distance; None for any.
        """
        distances, rows, more = index.nearest(code, top)
        if radius is not None:
            kept = int(np.count_nonzero(distances <= radius))
            more = more if kept == len(rows) else 0
            distances, rows = distances[:kept], rows[:kept]
        return Answer(distances, rows, more, self.verdict(index, code))
