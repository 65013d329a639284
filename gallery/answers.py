"""Who is this: the nearest faces of a gallery, and the name that they vote for."""

from typing import NamedTuple, Optional

import numpy as np

from gallery.comparison import COMPARISONS, ByCodes, Nearest

VOTERS = 5
MOST_TOP = 10000
DEFAULT_RATE = 0.01  # of strangers that may be named
# What Probable asks for: a share of the nearest faces, and how many strangers have one as near.
EVIDENCE, MOST_OF_THEM, MOST_STRANGERS = 10, 0.8, 0.03


class Probable(NamedTuple):
    """Whom the nearest faces speak for, although they lie beyond the threshold."""

    name: str  # of the person
    count: int  # so many
    of: int  # of so many nearest faces are that person's
    nearest: float  # distances of those
    farthest: float


class Verdict(NamedTuple):
    """Whose face it is. Distances are those that decide: see gallery.comparison."""

    name: Optional[str]  # of the person; None if unknown
    support: float  # share of the voters' votes for that name, 0..1
    votes: list  # (name, votes), most first, of those within the threshold
    nearest: float  # distance of the nearest face
    threshold: Optional[float]  # None where none is known, or even distance 0 is too far
    reason: str  # why it is unknown, for people; else empty
    probable: Optional[Probable] = None

    def to_dict(self):
        """The Verdict as plain values."""
        return dict(self._asdict(), probable=self.probable and self.probable._asdict())


class Answer(NamedTuple):
    """What is found for one face."""

    nearest: Nearest
    verdict: Verdict


class Result(NamedTuple):
    """One face of a query photograph, and what is found for it."""

    photograph: str  # as it was named
    number: int  # of the face in its photograph, from 1
    count: int  # faces of that photograph
    face: NamedTuple  # gallery.questions.QueryFace
    answer: Answer
    same: tuple = ()  # paths of the gallery's photographs that are this very file


class Judge:
    """Names faces by a gallery and a threshold.

    Args:
        rate: share of strangers that may be named.
        threshold: distance to use instead of a calibrated one.
        voters: nearest faces that vote.
        codes_alone: whether vectors are left out.

    Attributes:
        comparison: what decides, one of gallery.comparison's.
        threshold: distance, or None.
    """

    def __init__(self, gallery, rate=DEFAULT_RATE, threshold=None, voters=VOTERS,
                 codes_alone=False):
        self.gallery, self.rate, self.voters, self.codes_alone = gallery, rate, voters, codes_alone
        by_codes = codes_alone or not gallery.has_vectors
        self.comparison = ByCodes(gallery) if by_codes else COMPARISONS[gallery.info["vectors"]](
            gallery)
        self.calibrated = threshold is None
        if threshold is None:
            threshold = self.comparison.threshold(rate)
        elif by_codes:
            threshold = min(int(threshold), gallery.num_bits)
        self.threshold = threshold

    def with_threshold(self, threshold):
        """The same with another threshold; None leaves it as it is."""
        return self if threshold is None else Judge(self.gallery, self.rate, threshold, self.voters,
                                                    self.codes_alone)

    def why_nobody(self):
        """Why nobody at all is named, or an empty text."""
        return "" if self.threshold is not None else self.comparison.why_nobody(self.rate)

    def caution(self):
        """Why the rate of strangers may be exceeded, or an empty text."""
        if self.threshold is None or not self.calibrated:
            return ""
        return self.comparison.caution(self.rate)

    def strangers(self):
        """The evaluation.strangers.Rate of strangers that the threshold names.

        None if it is not known: also if it was measured on people whom the encoder knows.
        """
        if self.threshold is None or self.comparison.caution(self.rate):
            return None
        return self.comparison.strangers(self.threshold)

    def verdict(self, index, code, vector=None, found=None):
        """The Verdict on one face: the nearest faces within the threshold vote.

        Args:
            index, code, vector: see ByCodes.nearest.
            found: Nearest faces of the query, at least max(voters, EVIDENCE), if they are known.
        """
        if found is None:
            found = self.comparison.nearest(index, code, vector, max(self.voters, EVIDENCE))
        nearest = found.distances[0].item()
        reason = self.why_nobody()
        if not reason and nearest > self.threshold:
            reason = "the nearest face is farther than the threshold" + (
                f" for {percent(self.rate)} of strangers" if self.calibrated else "")
        if reason:
            return Verdict(None, 0.0, [], nearest, self.threshold, reason, self._probable(found))
        rows, distances, weights = self.comparison.voters(index, code, found, self.voters,
                                                          self.threshold)
        votes = {}
        for person, weight, distance in zip(self.gallery.people[rows].tolist(), weights,
                                            distances):
            if person in self.gallery.names:
                total, far = votes.get(person, (0.0, 0.0))
                votes[person] = total + weight, far + weight * distance
        if not votes:
            return Verdict(None, 0.0, [], nearest, self.threshold,
                           "the faces within the threshold have no names")
        # Most votes first; of equal ones the nearer on average, then by number.
        order = sorted(votes, key=lambda person: (
            -round(votes[person][0], 9), votes[person][1] / votes[person][0], person))
        named = [(self.gallery.names[person], round(float(votes[person][0]), 3))
                 for person in order]
        support = named[0][1] / min(self.voters, len(self.gallery))
        return Verdict(named[0][0], support, named, nearest, self.threshold, "")

    def _probable(self, found):
        """The Probable that the nearest faces speak for, or None.

        Nearly all of the nearest are one person's who has less than half of the gallery's faces:
        else a stranger's nearest faces would be that person's, too. And few strangers have a face
        as near as the nearest.
        """
        found = found.first(EVIDENCE)
        people = self.gallery.people
        person = int(people[found.rows[0]])
        total = np.count_nonzero(people == person)
        limit = min(len(found.rows), total)
        own = found.distances[people[found.rows] == person]
        rate = self.comparison.strangers(found.distances[0].item())
        if (person not in self.gallery.names or len(own) < max(2, MOST_OF_THEM * limit)
                or 2 * total > len(people) or rate is None or rate.rate > MOST_STRANGERS
                or found.distances[0] > self.comparison.farthest):
            return None
        return Probable(self.gallery.names[person], len(own), limit, own[0].item(), own[-1].item())

    def answer(self, index, code, top, radius=None, vector=None, least=0):
        """The Answer for one face.

        Args:
            index, code, vector: see ByCodes.nearest.
            top: how many of the nearest faces.
            radius: only those within this distance; None for any.
            least: so many of the nearest also beyond the radius.
        """
        found = self.comparison.nearest(index, code, vector, max(top, self.voters, EVIDENCE))
        verdict = self.verdict(index, code, vector, found)
        if top < len(found.rows):
            found = found.first(top) if found.cosines is not None else self.comparison.nearest(
                index, code, vector, top)  # with its own ties
        if radius is not None:
            kept = max(least, int(np.count_nonzero(found.distances <= radius)))
            found = found.first(kept)
        return Answer(found, verdict)


def percent(share):
    """A share as text, with two digits that count."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
