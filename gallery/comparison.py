"""What decides how near a face is: its vector where the gallery has vectors, else its code.

Codes find, floats decide. Of a gallery of up to store.EXACT_VALUES values all vectors are compared;
of a larger one those of the share CANDIDATES whose codes lie nearest. ByCodes, ByEmbeddings and
ByDescriptors answer the same questions: the nearest faces, who of them votes, and where the
threshold lies. Distances are whole Hamming distances, or cosine distances (0..2).
"""

import math
from typing import NamedTuple, Optional

import numpy as np

from evaluation import packing
from evaluation.floats import nearest, unit_vectors
from evaluation.strangers import Rate, measured_strangers
from evaluation.threshold import STEP, STEPS
from runtime.errors import one_line

# Share of a gallery's faces whose vectors are compared after their codes: those hold all of the
# ten nearest (docs/evaluation.md).
CANDIDATES = 0.05
PERHAPS = 0.25  # one query in four finds a face of somebody else (docs/search.md)
# What the rates of ByEmbeddings were measured on.
PUBLIC_PEOPLE = "158 people of LFW, 4,324 photographs"


class Nearest(NamedTuple):
    """The nearest faces of a query, the nearest first."""

    rows: np.ndarray  # int64 [n], of the gallery
    bits: np.ndarray  # int32 [n], Hamming distances of the codes
    cosines: Optional[np.ndarray]  # float32 [n], of the vectors; None where codes decide
    more_ties: int  # how many more faces lie as far as the last one

    @property
    def distances(self):
        """Those that decide."""
        return self.bits if self.cosines is None else self.cosines

    def first(self, count):
        """The first so many of them."""
        if count >= len(self.rows):
            return self
        return Nearest(self.rows[:count], self.bits[:count],
                       None if self.cosines is None else self.cosines[:count], 0)


class _Calibrated:
    """A threshold that is calibrated on the gallery's own people.

    Attributes:
        calibration: evaluation.threshold.Calibration, or None.
        step: of thresholds that are worth telling apart, and of the distances that it counts.
        shown_steps: how many of them lie between two rows of a table.
        farthest: the largest distance that it counts.
    """

    def threshold(self, rate):
        """The largest distance that names at most this share of strangers, or None."""
        place = self.calibration and self.calibration.threshold(rate)
        return place if place is None else place * self.step

    def _place(self, distance):
        """How many steps a distance is."""
        return min(math.floor(distance / self.step + 1e-6), round(self.farthest / self.step))

    def why_nobody(self, rate):
        """Why there is no threshold."""
        if self.calibration is None:
            return ("the gallery knows fewer than two people by name (people who share a copy of a "
                    "photograph count as one), so no threshold can be calibrated")
        names = self.gallery.names
        pairs = ", ".join(f"{one_line(names[one], 40)} and {one_line(names[other], 40)} ({count})"
                          for one, other, count in self.calibration.closest
                          if one in names and other in names)
        return (f"even distance 0 names {self.calibration.false_accept_rate(0):.3g} of strangers, "
                f"more than the {rate:.3g} allowed" + (
                    f"; it most often confuses {pairs}; if two of these are one person, join "
                    "them with python search.py merge" if pairs else "")
                + self.else_why)

    def caution(self, rate):
        """Why the rate of strangers may be exceeded, or an empty text."""
        if self.calibration is None or self.calibration.is_held_out:
            return ""
        return (f"far more than {rate:.3g} of strangers may be named: the threshold is calibrated "
                f"on {self.calibration.source}")

    def strangers(self, distance):
        """The Rate of strangers that a threshold names, or None; its low end was not measured."""
        if self.calibration is None:
            return None
        place = self._place(distance)
        return Rate(self.calibration.false_accept_rate(place), None,
                    self.calibration.highest_rate(place))

    def source(self):
        """Whose faces were searched as strangers, for people."""
        return f"{self.calibration.probes} faces were queried as strangers: " + (
            self.calibration.source)

    def curve(self):
        """[strangers named, at most, known people missed] at each multiple of `step`; or None."""
        if self.calibration is None:
            return None
        return [[self.calibration.false_accept_rate(place),
                 self.calibration.highest_rate(place), self.calibration.miss_rate(place)]
                for place in range(len(self.calibration.accepted))]


class ByCodes(_Calibrated):
    """Hamming distance."""

    name, step, shown_steps = "codes", 1, 1

    def __init__(self, gallery):
        self.gallery, self.calibration = gallery, gallery.calibration
        self.farthest = gallery.num_bits
        self.else_why = f"; else codes of {gallery.num_bits} bits are too short"

    def nearest(self, index, code, vector, count):
        """The Nearest `count` faces.

        Args:
            index: gallery.engines.Index of the gallery.
            code: uint64.
            vector: float [V], of a gallery with vectors.
            count: at least 1.
        """
        bits, rows, more = index.nearest(code, count)
        return Nearest(rows, bits, None, more)

    def voters(self, index, code, found, count, threshold):
        """Those of the nearest `count` faces that lie within a threshold.

        Where the last of the nearest tie with more faces, those share the votes that are left, so
        that no order inside a tie plays a part.

        Args:
            index, code: see nearest.
            found: Nearest, at least `count`.

        Returns:
            (rows, distances, weights): int64, int32 and float64 [n].
        """
        first = found.first(count)
        last = int(first.bits[-1])
        distances, rows = index.within(code, min(last, threshold))
        certain = np.count_nonzero(distances < last)
        tied = np.count_nonzero(distances == last)
        return rows, distances, np.where(
            distances < last, 1.0, (len(first.rows) - certain) / max(tied, 1))


class _ByVectors:
    """Cosine distance of vectors. Where nothing else is said, a method is that of ByCodes."""

    step = STEP

    @property
    def candidates(self):
        """How many faces' vectors are compared."""
        count = len(self.gallery)
        return count if self.gallery.compares_all else math.ceil(CANDIDATES * count)

    def nearest(self, index, code, vector, count):
        query = unit_vectors(np.asarray(vector)[None])
        if self.gallery.compares_all:
            candidates, vectors = None, self.gallery.vectors()
        else:
            count = min(count, len(self.gallery))
            candidates = index.candidates(code, self.gallery.activate(code, vector), max(
                self.candidates, count))
            vectors = self.gallery.vectors_of(candidates)
        (rows,), (cosines,) = nearest(query, vectors, count)
        if candidates is not None:
            rows = candidates[rows]
        bits = packing.distances(np.asarray(self.gallery.codes[rows]), np.uint64(code))
        return Nearest(rows, bits, np.maximum(cosines, 0), 0)

    def voters(self, index, code, found, count, threshold):
        """See ByCodes; no two cosine distances are equal, as a rule."""
        found = found.first(count)
        kept = found.cosines <= threshold
        return found.rows[kept], found.cosines[kept], np.ones(np.count_nonzero(kept))


class ByDescriptors(_ByVectors, _Calibrated):
    """Cosine distance of what the gallery's own network makes of a face."""

    name, shown_steps = "descriptors", 20
    else_why = ""

    def __init__(self, gallery):
        self.gallery, self.calibration = gallery, gallery.vector_calibration
        self.farthest = STEP * STEPS

    def curve(self):
        """See _Calibrated; up to where half of the strangers are named."""
        points = super().curve()
        return points and points[:1 + next(
            (place for place, point in enumerate(points) if point[0] > 0.5), STEPS)]


class ByEmbeddings(_ByVectors):
    """Cosine distance of embeddings; a threshold from public pairs, by the gallery's size."""

    name = "embeddings"

    def __init__(self, gallery):
        self.gallery = gallery
        self.measured = measured_strangers()
        self.farthest = float(self.measured.distances[-1])

    def threshold(self, rate):
        return self.measured.threshold(max(len(self.gallery), 1), rate)

    def why_nobody(self, rate):
        return ""

    def caution(self, rate):
        return ""

    def strangers(self, distance):
        return self.of_size(distance, len(self.gallery))

    def of_size(self, distance, faces):
        """The Rate of strangers that a threshold names in a gallery of so many faces."""
        return self.measured.rate(distance, max(faces, 1))

    def perhaps(self):
        """The distance within which PERHAPS faces of other people are to be expected a query."""
        return self.measured.threshold(1, min(PERHAPS / max(len(self.gallery), 1), 0.5))

    def source(self):
        return f"measured on {PUBLIC_PEOPLE}, for a gallery of {len(self.gallery)} faces"

    def curve(self):
        """See ByCodes; of people with one face in the gallery."""
        points = []
        for number in range(int(round(self.farthest / self.step)) + 1):
            distance = number * self.step
            found = self.strangers(distance)
            points.append([found.rate, found.high, 1 - self.found(distance)[0]])
        return points

    def found(self, distance):
        """Shares of known people found, by the faces that they have: see Strangers.known_sizes."""
        return self.measured.known(distance)


# By what a gallery's vectors are.
COMPARISONS = {"embeddings": ByEmbeddings, "descriptor": ByDescriptors}
