"""Which queries a page shows, and what lies nearest to each, as small pictures."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

import data_loader
from evaluation import vectors
from evaluation.codes import Codes
from runtime.pages import data_url

# Queries shown of each kind: more failures than successes, since they teach more.
SHOWN = OrderedDict([("best", 2), ("typical", 2), ("worst", 5)])


class Item(NamedTuple):
    """One gallery image of a retrieval.

    Attributes:
        source: data URI of its picture.
        name: whom it shows.
        distance: to the query (see evaluation.vectors.distances_of): int, or text of Floats.
        right: whether it shows the query's person.
        done: whether all of the person's gallery images come before it, so that it cannot be right.
    """

    source: str
    name: str
    distance: object
    right: bool
    done: bool


class Retrieval(NamedTuple):
    """One query: its kind, whom it shows, its picture, AP, its person's gallery images, Items."""

    kind: str
    name: str
    source: str
    average_precision: float
    relevant: int
    items: list


def nearest(codes, query, count):
    """The nearest gallery items of one query, gallery order inside a tie.

    Returns:
        (indices, distances): [min(count, N)] each.
    """
    distances = vectors.distances_of(codes, query)
    indices = np.argsort(distances, kind="mergesort")[:count]
    return indices, distances[indices]


def example_queries(average_precision, labels, counts=SHOWN):
    """The best, typical (around the median) and worst queries by expected AP.

    Queries of people not shown yet go first.

    Args:
        average_precision: metrics.AveragePrecision.
        labels: [Q], the queries' labels.
        counts: OrderedDict of kind -> queries of it.

    Returns:
        List of (kind, query index).
    """
    order = np.argsort(-average_precision.expected, kind="mergesort")
    ranks = np.arange(len(order))
    chosen = OrderedDict()  # of query -> kind
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


def examples(evaluation, codes, train, test, names=None, count=10):
    """Retrievals of example queries.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: Codes, or Floats, in the order of the images.
        train, test: data_loader.ImageSets of gallery and queries.
        names: identities' names by label; None to show labels.
        count: gallery images a query.

    Returns:
        List of Retrievals.
    """
    def name(label):
        return names[label] if names else "label %s" % label

    found = []
    for kind, query in example_queries(evaluation.average_precision, codes.query_labels):
        label = codes.query_labels[query]
        relevant = int(np.count_nonzero(codes.gallery_labels == label))
        indices, distances = nearest(codes, query, count)
        items, hits = [], 0
        for index, distance, image in zip(indices, distances,
                                          data_loader.displayable(train, indices)):
            right = bool(codes.gallery_labels[index] == label)
            items.append(Item(data_url(image), name(codes.gallery_labels[index]),
                              int(distance) if isinstance(codes, Codes) else "%.3f" % distance,
                              right, done=hits == relevant))
            hits += right
        found.append(Retrieval(kind, name(label),
                               data_url(data_loader.displayable(test, [query])[0]),
                               float(evaluation.average_precision.expected[query]), relevant,
                               items))
    return found
