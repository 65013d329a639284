"""The distance within which a face is named, calibrated on faces of strangers.

A gallery names a stranger if one of its faces lies within the threshold. Faces whose own person is
left out of the gallery tell how often that happens. Faces of people who were not in the encoder's
training set are preferred, because an encoder keeps those of its training set farther apart than
real strangers.

Copies of one photograph under two names are one person, not strangers. So two people who share a
copy are left out together.

Distances are Hamming distances of codes, or cosine distances of vectors, which are counted in steps
of STEP.
"""

import math
from collections import Counter, defaultdict
from typing import NamedTuple

import faiss
import numpy as np
from scipy.special import betaincinv

from evaluation import packing

NOBODY = 0  # the person of a probe who has no face in the gallery
MOST_PROBES = 2000
FEWEST_HELD_OUT = 20  # faces; with fewer, all faces are searched
CONFIDENCE = 0.95
# Perceptual hashes of copies that were resized or compressed differ in few of 64 bits; see
# faces/duplicates.py.
NEAR_BITS = 6
NEAR_CODES = 2  # bits by which a copy may lie farther than the nearest face
STEP, STEPS = 0.001, 1000  # of cosine distances; those of vectors without negative values end at 1
NEAR_STEPS = 20  # NEAR_CODES of vectors
PAIRS_AT_ONCE = 1 << 24  # of vectors that are compared
MOST_SHARING = 50  # people linked by one copy
CLOSEST = 3  # pairs of people named as the reason

# Whose faces were searched, from the best to the least certain.
UNSEEN = "people that the encoder never saw and the gallery does not hold"
HELD_OUT = "people of the gallery that the encoder was not trained on"
QUERIES = "photographs that the gallery does not hold, of people that the encoder was trained on"
GALLERY = "faces of the gallery, on whose people the encoder was or may have been trained"
SOURCES = (UNSEEN, HELD_OUT, QUERIES, GALLERY)


class Calibration(NamedTuple):
    """Counts by distance d = 0..K; of vectors by distance d * STEP, d = 0..STEPS.

    Attributes:
        source: one of SOURCES: whose faces were searched as strangers.
        probes: number of strangers, at least 1.
        accepted: list of K + 1 counts: strangers with any face within d.
        known: number of faces searched with their own person in the gallery, without the face
            itself and its copies.
        missed: list of K + 1 counts: those of them without a face of their own person within d.
        closest: list of (person, other person, count) of people with faces at distance 0.
    """

    source: str
    probes: int
    accepted: list
    known: int
    missed: list
    closest: list

    @classmethod
    def checked(cls, values, farthest):
        """The Calibration of a dict of JSON values.

        Args:
            farthest: the largest distance that it counts: K or STEPS.

        Raises:
            ValueError: it is damaged, or counts others.
        """
        try:
            found = cls(**values)
            counts = [found.probes, found.known, *found.accepted, *found.missed]
            if not (found.source in SOURCES and all(type(count) is int for count in counts)
                    and found.probes > 0 and found.known >= 0
                    and len(found.accepted) == len(found.missed) == farthest + 1
                    and all(0 <= count <= found.probes for count in found.accepted)
                    and all(0 <= count <= found.known for count in found.missed)
                    and all(type(number) is int for pair in found.closest for number in pair)
                    and all(len(pair) == 3 for pair in found.closest)):
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError("its calibration is damaged")
        return found

    @property
    def is_held_out(self):
        """Whether the encoder was not trained on the strangers."""
        return self.source in (UNSEEN, HELD_OUT)

    def threshold(self, rate):
        """The largest distance that names at most this share of strangers.

        Returns:
            int, or None if even distance 0 names more.
        """
        good = [distance for distance, count in enumerate(self.accepted)
                if count <= rate * self.probes]
        return good[-1] if good else None

    def false_accept_rate(self, distance):
        """Share of strangers named within a distance; 0 for None."""
        return 0.0 if distance is None else self.accepted[distance] / self.probes

    def highest_rate(self, distance):
        """The upper bound of the rate with 95 % confidence (Clopper and Pearson)."""
        count = 0 if distance is None else self.accepted[distance]
        if count >= self.probes:
            return 1.0
        return float(betaincinv(count + 1, self.probes - count, CONFIDENCE))

    def miss_rate(self, distance):
        """Share of known people who are not found within a distance; None if unknown."""
        if not self.known:
            return None
        return 1.0 if distance is None else self.missed[distance] / self.known


def calibrate(codes, people, num_bits, probes=None, hashes=None, trained=None, vectors=None):
    """Measures the distances of strangers and known people from a gallery.

    Args:
        codes: uint64 [n], of the gallery's faces whose person is known; see evaluation.packing.
        people: int [n], their people, above 0.
        num_bits: K.
        probes: (codes, people), uint64 [p] and int [p], of faces that the gallery does not hold. If
            there are faces of NOBODY among them, these alone are the strangers.
        hashes: uint64 [n], perceptual hashes of the faces (faces.duplicates) that identify copies;
            None if there are none.
        trained: bool [n], whether the encoder was, or may have been, trained on the face's person;
            None if that may hold for all.
        vectors: float32 [n, V], unit vectors without negative values, whose distances count in
            place of the codes'; `probes` then are (vectors, people). None to compare codes.

    Returns:
        Calibration; None if there are no strangers: fewer than two people, where people who share
        copies count as one.
    """
    codes, people = np.asarray(codes, np.uint64), np.asarray(people, np.int64)
    if vectors is None:
        faces, gallery = codes, _Gallery(codes, people, hashes, num_bits)
    else:
        faces, gallery = vectors, _VectorGallery(codes, people, hashes, vectors)
    rows = np.arange(len(codes))
    source = GALLERY
    if trained is not None and np.count_nonzero(~trained) >= FEWEST_HELD_OUT:
        rows, source = rows[~trained], HELD_OUT
    known = strangers = _Probes(faces, people, rows).sample(rows)
    if probes is not None and len(probes[0]):
        outside = _Probes(np.asarray(probes[0]), np.asarray(probes[1], np.int64), None)
        unseen = outside.people == NOBODY
        strangers = known = outside.sample(np.flatnonzero(~unseen))
        source = QUERIES
        if unseen.any():
            strangers, source = outside.sample(np.flatnonzero(unseen)), UNSEEN
    if not len(codes):
        return None
    distances, others = gallery.nearest_of_others(strangers)
    if not (others != NOBODY).any():
        return None
    closest = _closest(strangers.people, others, distances)
    distances = distances[others != NOBODY]  # the gallery holds no others for the rest
    own = gallery.nearest_of_own(known)
    own = own[own >= 0]
    steps = np.arange(gallery.farthest + 1)
    return Calibration(
        source, len(distances),
        [int(count) for count in (distances[:, None] <= steps).sum(axis=0)], len(own),
        [int(count) for count in (own[:, None] > steps).sum(axis=0)],
        closest)


class _Probes(NamedTuple):
    """Faces that are searched: codes or vectors, people, and rows in the gallery, or None."""

    faces: np.ndarray
    people: np.ndarray
    rows: np.ndarray

    def sample(self, places):
        """At most MOST_PROBES of the faces at some places, the same each time."""
        chosen = places[np.random.RandomState(0).permutation(len(places))[:MOST_PROBES]]
        return _Probes(self.faces[chosen], self.people[chosen],
                       None if self.rows is None else chosen)


class _Gallery:
    """Labelled faces, and which people share copies."""

    near = NEAR_CODES

    def __init__(self, codes, people, hashes, farthest):
        self.codes, self.people, self.farthest = codes, people, farthest
        self.hashes = None if hashes is None else np.asarray(hashes, np.uint64)
        self.order = np.lexsort((codes, people))
        keys = np.rec.fromarrays([people[self.order], codes[self.order]], names="person,code")
        first = np.append(True, keys[1:] != keys[:-1]) if len(keys) else np.zeros(0, bool)
        self.starts = np.append(np.flatnonzero(first), len(keys))
        # Each code of each person once.
        self.entry_codes = np.ascontiguousarray(keys.code[first])
        self.entry_people = keys.person[first]
        self.linked = defaultdict(set)  # person -> people who share copies
        for group in self._groups_of_copies():
            for person in group:
                self.linked[person] |= set(group) - {person}

    def _groups_of_copies(self):
        """Sets of people who have the same face."""
        if self.hashes is None or not len(self.codes):
            return []
        order = np.lexsort((self.people, self.codes, self.hashes))
        hashes, codes, people = self.hashes[order], self.codes[order], self.people[order]
        starts = np.flatnonzero(np.append(True, (hashes[1:] != hashes[:-1])
                                          | (codes[1:] != codes[:-1])))
        ends = np.append(starts[1:], len(order))
        several = people[starts] != people[ends - 1]
        return [np.unique(people[start:end])[:MOST_SHARING].tolist()
                for start, end in zip(starts[several], ends[several])]

    def nearest_of_others(self, probes):
        """Distance of each probe to the nearest face of another person, and that person.

        People who share copies with the probe's own count as the same. Distance farthest + 1 and
        NOBODY where there is no other.
        """
        distances = np.full(len(probes.faces), self.farthest + 1)
        others = np.full(len(probes.faces), NOBODY)
        again = np.arange(len(probes.faces))
        while len(again):
            distances[again], others[again] = self.farthest + 1, NOBODY
            self._search(probes, again, distances, others)
            linked = self._link_copies(probes, distances, others)
            again = np.flatnonzero(np.isin(probes.people, linked))
        return distances, others

    def _search(self, probes, open_, distances, others):
        """Fills in `distances` and `others` of the probes at the places `open_`."""
        index = faiss.IndexBinaryFlat(packing.MAX_BITS)
        index.use_heap = False  # counting distances is faster
        index.add(packing.as_bytes(self.entry_codes))
        top, count = 4, len(self.entry_codes)
        while len(open_):
            top, left = min(top, count), []
            # faiss allocates `top` rows for each distance of each probe: some 250 MB a block.
            for block in np.array_split(open_, 1 + len(open_) * top // (1 << 19)):
                apart, rows = index.search(packing.as_bytes(probes.faces[block]), top)
                people = self.entry_people[rows]
                other = self._are_others(probes.people[block], people)
                settled, first = other.any(axis=1), other.argmax(axis=1)
                distances[block[settled]] = apart[settled, first[settled]]
                others[block[settled]] = people[settled, first[settled]]
                left.append(block[~settled])
            if top == count:
                break
            open_, top = np.concatenate(left), top * 8

    def _are_others(self, own, people):
        """Whether people, int [b, n], are others than those of probes, int [b]: bool [b, n]."""
        other = people != own[:, None]
        for place, person in enumerate(own.tolist()):
            if person in self.linked:
                other[place] &= ~np.isin(people[place], sorted(self.linked[person]))
        return other

    def _link_copies(self, probes, distances, others):
        """Links people whose nearest face is nearly a copy of the probe; returns those people."""
        if self.hashes is None or probes.rows is None:
            return []
        found = set()
        for place in np.flatnonzero(others != NOBODY):
            own, other = int(probes.people[place]), int(others[place])
            if other in self.linked[own]:
                continue
            rows = self._rows_of(other)
            rows = rows[self._distances(rows, probes.faces[place]) <= distances[place] + self.near]
            if self._are_near(probes, place, rows).any():
                self.linked[own].add(other)
                self.linked[other].add(own)
                found |= {own, other}
        return sorted(found)

    def _distances(self, rows, face):
        """Distances of some of the gallery's faces from another: int [n]."""
        return packing.distances(self.codes[rows], face)

    def _are_near(self, probes, place, rows):
        """Whether faces of the gallery are nearly copies of a probe."""
        return packing.distances(self.hashes[rows],
                                 self.hashes[probes.rows[place]]) <= NEAR_BITS

    def _rows_of(self, person):
        """Rows of a person's faces."""
        first, last = np.searchsorted(self.entry_people, [person, person + 1])
        return self.order[self.starts[first]:self.starts[last]]

    def nearest_of_own(self, probes):
        """Distance of each probe to the nearest other face of its own person that is not a copy.

        -1 where there is none.
        """
        result = np.full(len(probes.faces), -1)
        for place, person in enumerate(probes.people):
            rows = self._rows_of(person)
            if probes.rows is not None:
                rows = rows[rows != probes.rows[place]]
                if self.hashes is not None:
                    rows = rows[~self._are_near(probes, place, rows)]
            if len(rows):
                result[place] = self._distances(rows, probes.faces[place]).min()
        return result


class _VectorGallery(_Gallery):
    """The same of unit vectors, float32 [n, V], whose distances are counted in steps."""

    near = NEAR_STEPS

    def __init__(self, codes, people, hashes, vectors):
        super().__init__(codes, people, hashes, STEPS)
        self.vectors = vectors

    def _search(self, probes, open_, distances, others):
        size = max(1, PAIRS_AT_ONCE // len(self.vectors))
        for block in np.array_split(open_, math.ceil(len(open_) / size)):
            apart = in_steps(1 - probes.faces[block].dot(self.vectors.T))
            other = self._are_others(probes.people[block],
                                     np.broadcast_to(self.people, apart.shape))
            apart[~other] = STEPS + 1
            first = apart.argmin(axis=1)
            found = other.any(axis=1)
            distances[block[found]] = apart[found, first[found]]
            others[block[found]] = self.people[first[found]]

    def _distances(self, rows, face):
        return in_steps(1 - self.vectors[rows].dot(face))


def in_steps(distances):
    """Cosine distances as the number of steps, int, within which they lie: 0..STEPS."""
    return np.clip(np.ceil(np.asarray(distances) / STEP), 0, STEPS).astype(np.int32)


def _closest(people, others, distances):
    """The pairs of people whose faces most often lie at distance 0 from each other."""
    pairs = Counter(tuple(sorted(pair)) for pair in zip(
        people[distances == 0].tolist(), others[distances == 0].tolist()) if NOBODY not in pair)
    best = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:CLOSEST]
    return [(*pair, pairs[pair]) for pair in best]
