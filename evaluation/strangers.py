"""How often a stranger is named, depending on the threshold and the size of the gallery.

A gallery without names does not tell at which distance two faces are two people. Public photographs
of named people do (strangers.json: counts and rates of LFW's people). A query is named if its
nearest face of the gallery lies within the threshold. A stranger is a query whose person has no
face in the gallery.

The rate for n faces: suppose that c of N faces of other people lie within the threshold t of a
query. Then n of the N, drawn at random, are a gallery without the query's person, and the chance
that at least one of them lies within t is

    1 - C(N - c, n) / C(N, n)         C: binomial coefficient

The rate is the mean of this over the queries of a person, then over people. The same formula, with
the faces of the query's own person, gives how often somebody with n faces in the gallery is found.
Beyond the largest measured n (M), each further M faces are assumed to name strangers independently,
which overestimates the rate: 1 - (1 - rate(M)) ^ (n / M).

Distances are cosine distances of embeddings. Needs numpy alone.
"""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.floats import unit_vectors

FILE = Path(__file__).with_name("strangers.json")
QUERIES_AT_ONCE = 256
GROUPS = 20  # of people, for the interval
SIGMAS = 1.96  # of a 95 % interval
# Thresholds within which fewer pairs of people have faces are not measured.
FEWEST_PAIRS = 5


class Rate(NamedTuple):
    """A share of queries, with a 95 % interval over people: each 0..1."""

    rate: float
    low: float
    high: float


class Strangers(NamedTuple):
    """The measured rates.

    Attributes:
        distances: float64 [T], thresholds in ascending order.
        sizes: int [S], faces of a gallery, ascending.
        rates: float64 [S, T], strangers named, above 0 and below 1.
        errors: float64 [S, T], standard errors of the rates' logarithms.
        known_distances: float64 [D], thresholds in ascending order.
        known_sizes: int [K], faces that a person has in the gallery.
        known_rates: float64 [K, D], people found by at least one of their faces.
        exponent: below the smallest threshold, rates fall with this power of the threshold.
    """

    distances: np.ndarray
    sizes: np.ndarray
    rates: np.ndarray
    errors: np.ndarray
    known_distances: np.ndarray
    known_sizes: np.ndarray
    known_rates: np.ndarray
    exponent: float

    def rate(self, threshold, faces):
        """The Rate at which a threshold names strangers.

        Args:
            threshold: cosine distance; above the largest measured one, that one counts.
            faces: of the gallery, at least 1.
        """
        rate, error = self.curve(faces)
        if threshold < self.distances[0]:
            shrink = (max(threshold, 0) / self.distances[0]) ** self.exponent
            return _interval(rate[0] * shrink, error[0])
        at = [np.interp(threshold, self.distances, values) for values in (np.log(rate), error)]
        return _interval(np.exp(at[0]), at[1])

    def threshold(self, faces, limit=0.01):
        """The largest threshold that names at most the share `limit` of strangers.

        Args:
            faces: of the gallery, at least 1.
            limit: above 0, below 1.
        """
        rates, _ = self.curve(faces)
        if limit < rates[0]:
            return float(self.distances[0] * (limit / rates[0]) ** (1 / self.exponent))
        return float(np.interp(np.log(limit), np.log(rates), self.distances))

    def known(self, threshold):
        """Shares of people found, by how many faces they have in the gallery: float64 [K].

        Args:
            threshold: cosine distance; outside the measured range, its nearest end counts.
        """
        return np.array([np.interp(threshold, self.known_distances, rates)
                         for rates in self.known_rates])

    def curve(self, faces):
        """The rates of all thresholds for a gallery of a given size.

        Returns:
            (rates, errors): float64 [T] each, increasing rates and errors of their logarithms.
        """
        largest = self.sizes[-1]
        if faces >= largest:
            return -np.expm1(np.log1p(-self.rates[-1]) * faces / largest), self.errors[-1]
        # Between sizes, rates are interpolated as powers of the size.
        steps = np.interp(np.log(max(faces, 1)), np.log(self.sizes), np.arange(len(self.sizes)))
        low, share = int(steps), steps - int(steps)
        high = min(low + 1, len(self.sizes) - 1)
        return (self.rates[low] ** (1 - share) * self.rates[high] ** share,
                self.errors[low] * (1 - share) + self.errors[high] * share)

    def to_json(self):
        """Plain lists and numbers; see from_json."""
        return {name: value if isinstance(value, float) else value.tolist()
                for name, value in self._asdict().items()}


def from_json(values):
    """The Strangers of to_json's values; ignores further entries."""
    return Strangers(*(values[name] if name == "exponent" else np.array(values[name])
                       for name in Strangers._fields))


@functools.lru_cache(maxsize=None)
def measured_strangers():
    """The Strangers of strangers.json."""
    return from_json(json.loads(FILE.read_text()))


def measure(embeddings, labels, distances, sizes, known_sizes):
    """Measures how often strangers are named, and known people found.

    Args:
        embeddings: float [n, D], of faces of people with several photographs each.
        labels: int [n], their people.
        distances: thresholds, ascending, at least two; those within which fewer than FEWEST_PAIRS
            pairs of people have faces count for known people alone.
        sizes, known_sizes: see Strangers; smaller than the number of faces of other people, and of
            one person.

    Returns:
        Strangers.
    """
    people, labels = np.unique(labels, return_inverse=True)
    groups = np.arange(len(people)) % GROUPS
    within, closest = _count_within(unit_vectors(embeddings), labels, distances, len(people))
    least = np.sort(closest[np.triu_indices(len(people), 1)])[FEWEST_PAIRS - 1]
    own_close = within[np.arange(len(labels)), labels]
    kept = np.asarray(distances) > least
    known_distances, distances = np.asarray(distances), np.asarray(distances)[kept]
    within = within[:, :, kept]
    faces = np.bincount(labels)
    own = labels[:, None] == np.arange(len(people))

    def strangers(chosen):
        """Rates [S, T] among some people."""
        queries = chosen[labels]
        others = ~own[queries] & chosen  # [Q, people]
        close = np.einsum("qp,qpt->qt", others, within[queries], dtype=np.int64)
        return np.stack([_mean_by_person(chance_of_any(
            close, others.dot(faces)[:, None], size), labels[queries]) for size in sizes])

    rates = strangers(np.ones(len(people), bool))
    # A jackknife: each group of people is left out, of queries and gallery.
    without = np.log(np.maximum([strangers(groups != group) for group in range(GROUPS)], 1e-12))
    errors = np.sqrt((GROUPS - 1) * without.var(axis=0))
    known = []
    for size in known_sizes:
        many = faces[labels] > size
        known.append(_mean_by_person(chance_of_any(
            own_close[many], (faces[labels] - 1)[many, None], size), labels[many]))
    few = distances <= max(1.5 * distances[0], distances[1])
    exponent = np.polyfit(np.log(distances[few]), np.log(rates[-1][few]), 1)[0]
    return Strangers(distances, np.array(sizes), rates, errors, known_distances,
                     np.array(known_sizes), np.stack(known), float(exponent))


def chance_of_any(close, others, size):
    """The chance that at least one of `size` faces, drawn at random, is close.

    Args:
        close: int [...], number of close faces.
        others: int [...], number of all faces, at least `size`.
        size: number of faces drawn.

    Returns:
        float64 [...].
    """
    close, others = np.broadcast_arrays(close, others)
    factorials = np.concatenate([[0], np.cumsum(np.log(np.arange(1, others.max() + 1)))])
    far = others - close
    # The logarithm of C(far, size) / C(others, size).
    chances = factorials[far] + factorials[others - size] - factorials[others] \
        - factorials[np.maximum(far - size, 0)]
    return np.where(far >= size, -np.expm1(np.minimum(chances, 0)), 1.0)


def _count_within(vectors, labels, distances, num_people):
    """Counts each person's faces within each distance of each face.

    Returns:
        (within, closest): int32 [n, people, T], without the face itself, and float32 [people,
        people], the smallest distance between two people's faces.
    """
    within = np.zeros((len(vectors), num_people, len(distances)), np.int32)
    closest = np.full((num_people, num_people), np.inf, np.float32)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(num_people))
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        queries = np.arange(start, min(start + QUERIES_AT_ONCE, len(vectors)))
        apart = 1 - vectors[queries].dot(vectors[order].T)  # [Q, n]
        apart[queries[:, None] == order] = np.inf
        np.minimum.at(closest, labels[queries], np.minimum.reduceat(apart, starts, axis=1))
        for place, distance in enumerate(distances):
            within[queries, :, place] = np.add.reduceat(
                apart < distance, starts, axis=1, dtype=np.int32)
    return within, closest


def _mean_by_person(values, labels):
    """The mean over people of their means: float [n, T] -> [T]."""
    people, labels = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(people), values.shape[1]))
    np.add.at(sums, labels, values)
    return (sums / np.bincount(labels)[:, None]).mean(axis=0)


def _interval(rate, error):
    """The Rate whose logarithm has this standard error."""
    return Rate(float(rate), float(rate * np.exp(-SIGMAS * error)),
                float(min(1, rate * np.exp(SIGMAS * error))))
