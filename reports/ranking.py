"""Rankings for pages: curves with their bounds, and the nearest images of example queries."""

from typing import NamedTuple, Optional

import numpy as np

import data_loader
from evaluation import metrics, vectors
from evaluation.codes import Codes
from evaluation.distances import DistanceCounts

CURVE_POINTS = 150  # of a curve beyond the ranks that metrics computes
# Queries shown of each kind: more failures than successes, since they teach more.
EXAMPLES = {"best": 2, "typical": 2, "worst": 5}
NEAREST = 10  # gallery images shown of each query


class Ranking(NamedTuple):
    """Mean precision and recall of the first N ranks, and their bounds.

    Attributes:
        ranks: int [M], the values of N, from 1 up.
        precision, recall: float64 [M], expected.
        precision_ceiling, recall_ceiling: float64 [M], means of min(1, R / N) and min(1, N / R)
            over queries with R relevant items; None where R is unknown.
        chance: precision of a random order at any N; None where R is unknown.
        gallery: N of the whole gallery.
    """

    ranks: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    precision_ceiling: Optional[np.ndarray] = None
    recall_ceiling: Optional[np.ndarray] = None
    chance: Optional[float] = None
    gallery: Optional[int] = None


def ranking(evaluation, codes):
    """The Ranking of codes over the whole gallery.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats.
    """
    gallery = len(codes.gallery_labels)
    known = len(evaluation.precision_at)
    ranks = np.arange(1, known + 1)
    precision, recall = evaluation.precision_at, evaluation.recall_at
    if known < gallery:  # metrics stops here: add some ranks up to the last
        more = np.unique(np.round(np.geomspace(known + 1, gallery, CURVE_POINTS)).astype(int))
        beyond = vectors.precision_recall_at(codes, more)
        ranks = np.concatenate([ranks, more])
        precision, recall = [np.concatenate(parts) for parts in zip((precision, recall), beyond)]
    # Queries of equal R have equal bounds.
    relevant, times = np.unique(relevant_items(codes), return_counts=True)
    weights = times / times.sum()
    ratio = relevant[:, None] / ranks
    inverse = np.where(relevant[:, None] > 0, ranks / np.maximum(relevant, 1)[:, None], 0)
    return Ranking(ranks, precision, recall, weights.dot(np.minimum(1, ratio)),
                   weights.dot(np.minimum(1, inverse)), float(weights.dot(relevant) / gallery),
                   gallery)


def relevant_items(codes):
    """R of each query, the number of gallery items with its label: int64 [Q]."""
    labels, counts = np.unique(codes.gallery_labels, return_counts=True)
    place = np.minimum(np.searchsorted(labels, codes.query_labels), len(labels) - 1)
    return np.where(labels[place] == codes.query_labels, counts[place], 0)


def chance_map(codes):
    """mAP of a random order: that of codes whose whole gallery is one tie."""
    relevant, times = np.unique(relevant_items(codes), return_counts=True)
    gallery = np.full_like(relevant, len(codes.gallery_labels))
    expected = metrics.average_precision(
        DistanceCounts(gallery[:, None], relevant[:, None])).expected
    return float(np.average(expected, weights=times))


# Example queries


class Item(NamedTuple):
    """One gallery image of a retrieval.

    Attributes:
        image: uint8 [32, 32, 3].
        name: whom it shows.
        distance: to the query (see evaluation.vectors.distances_of): int, or text of Floats.
        right: whether it shows the query's person.
        done: whether all gallery images of the person come before it, so that it cannot be right.
    """

    image: np.ndarray
    name: str
    distance: object
    right: bool
    done: bool


class Retrieval(NamedTuple):
    """One query: its kind, whom it shows, its image, AP, its person's gallery images, Items."""

    kind: str
    name: str
    image: np.ndarray
    average_precision: float
    relevant: int
    items: list


def nearest(codes, query, count):
    """The nearest gallery items of one query, in gallery order inside a tie.

    Returns:
        (indices, distances): [min(count, N)] each.
    """
    distances = vectors.distances_of(codes, query)
    indices = np.argsort(distances, kind="mergesort")[:count]
    return indices, distances[indices]


def example_queries(average_precision, labels, counts):
    """The best, typical (around the median) and worst queries by expected AP.

    Queries of people who are not shown yet go first.

    Args:
        average_precision: metrics.AveragePrecision.
        labels: [Q], the queries' labels.
        counts: dict of kind -> number of queries, such as EXAMPLES.

    Returns:
        List of (kind, query index).
    """
    order = np.argsort(-average_precision.expected, kind="mergesort")
    ranks = np.arange(len(order))
    chosen = {}  # query -> kind
    people = set()
    for kind, closeness in (("worst", -ranks), ("best", ranks),
                            ("typical", np.abs(ranks - len(order) // 2))):
        candidates = order[np.argsort(closeness, kind="mergesort")].tolist()
        fresh = [query for query in candidates if query not in chosen]
        for _ in range(min(counts[kind], len(fresh))):
            query = next((found for found in fresh if labels[found] not in people), fresh[0])
            fresh.remove(query)
            people.add(labels[query])
            chosen[query] = kind
    return [(kind, query) for kind in counts
            for query, of_kind in chosen.items() if of_kind == kind]


def examples(evaluation, codes, train, test, names=None, counts=EXAMPLES):
    """Retrievals of example queries, each with its ten nearest gallery images.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats, in the order of the images.
        train, test: data_loader.ImageSets of gallery and queries.
        names: people's names by label; None to show labels.
        counts: see example_queries.

    Returns:
        List of Retrievals.
    """
    def name(label):
        return names[label] if names else f"label {label}"

    found = []
    for kind, query in example_queries(evaluation.average_precision, codes.query_labels, counts):
        label = codes.query_labels[query]
        relevant = int(np.count_nonzero(codes.gallery_labels == label))
        indices, distances = nearest(codes, query, NEAREST)
        items, hits = [], 0
        for index, distance, image in zip(indices, distances,
                                          data_loader.displayable(train, indices)):
            right = bool(codes.gallery_labels[index] == label)
            items.append(Item(image, name(codes.gallery_labels[index]),
                              int(distance) if isinstance(codes, Codes) else f"{distance:.3f}",
                              right, done=hits == relevant))
            hits += right
        found.append(Retrieval(kind, name(label), data_loader.displayable(test, [query])[0],
                               float(evaluation.average_precision.expected[query]), relevant,
                               items))
    return found
