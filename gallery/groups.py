"""Faces that seem to be one person's, without names.

Clusters of faces are joined, the two nearest first, as long as the mean distance between their
faces (cosine, of embeddings) is small: average linkage. Only neighbours are compared: clusters of
which at least two faces lie near each other. Named people and the groups of earlier times are
clusters from the start, so that what people have merged stays together. Never joined are

    two people with names
    faces of one photograph: nobody is on it twice
    a face and a person, or two faces, that somebody has said are not the same

New faces that join a person get the name; the others form groups.
"""

import heapq
import itertools
from typing import NamedTuple, Optional

import numpy as np

from evaluation.floats import unit_vectors
from gallery.engines import build_index, choose_engine
from gallery.store import NO_GROUP, NOBODY, PERSON, PHOTOGRAPH, Writer

NEW = -1  # number of a face's group: not looked at yet

# Mean distances up to which clusters are joined: two single faces, and two large clusters, of which
# the mean says more. docs/search.md says how well that does.
SINGLES, CLUSTERS = 0.05, 0.075
SUGGESTED = 0.085  # mean distance up to which two groups are suggested as one person
NEIGHBOURS = 30  # of a face: more are not looked at
EXACT_FACES = 100000  # up to which all faces are compared; of more, codes find CANDIDATES of each
CANDIDATES = 200
FACES_AT_ONCE = 1 << 9  # whose neighbours are sought at once
PAIRS_AT_ONCE = 1 << 17
MOST_SUGGESTIONS, MOST_COMPARED = 24, 5000  # groups, the largest first


class Group(NamedTuple):
    """A person (name and id), or faces without a name that seem to be one person's (number).

    Attributes:
        rows: int64 [n], of the faces in the gallery's arrays; see sort_by_likeness.
    """

    name: Optional[str]
    person: Optional[int]
    number: Optional[int]
    rows: np.ndarray

    @property
    def who(self):
        """What commands call it: its name, or "group 7"."""
        return self.name if self.name is not None else f"group {self.number}"


class Suggestion(NamedTuple):
    """Two Groups that may be one person, and the mean distance between their faces."""

    first: Group
    second: Group
    distance: float


def group_new(path):
    """Groups the new faces of a gallery of any size; see regroup."""
    with Writer(path) as writer:
        regroup(writer, at_any_size=True)
        writer.commit()


def regroup(writer, at_any_size=False):
    """Looks at the faces that are in no group and have no name, and groups them.

    A gallery whose faces have no embeddings stays as it is.

    Args:
        at_any_size: also where there are more than EXACT_FACES faces; reading a million takes
            longer than adding one photograph should.

    Returns:
        int, how many faces were looked at; None where there are too many.
    """
    if writer.info["vectors"] != "embeddings" or not writer.rows(
            "SELECT 1 FROM faces JOIN embeddings ON face = id WHERE person IS NULL AND "
            "by_hand = 0 AND id NOT IN (SELECT face FROM groups) LIMIT 1"):
        return 0
    if not at_any_size and writer.count("faces") > EXACT_FACES:
        return None
    rows = writer.rows(
        f"SELECT id, {PERSON}, by_hand, {PHOTOGRAPH}, coalesce(groups.number, {NEW}), code "
        "FROM faces LEFT JOIN groups ON face = id ORDER BY id")
    ids, people, by_hand, photographs, numbers, codes = np.array(rows, np.int64).reshape(-1, 6).T
    nameless = (people == NOBODY) & (by_hand == 0)
    new = np.flatnonzero(nameless & (numbers == NEW))
    known, vectors = writer.vectors()
    if len(known) < len(ids):
        return 0
    vectors = unit_vectors(vectors)
    vectors[(people == NOBODY) & (by_hand == 1)] = 0  # somebody has said: nobody. Near to nothing
    # From the start, people and groups are clusters, and so is each other face.
    first = writer.next_group()
    keys = np.where(people != NOBODY, -people, np.where(
        numbers == NEW, first + np.arange(len(ids)), numbers))
    keys, start = np.unique(keys, return_inverse=True)
    pairs = near_pairs(vectors, new, codes.view(np.uint64), writer.info["num_bits"])
    clusters = {-key: cluster for cluster, key in enumerate(keys.tolist()) if key < 0}
    enemies = conflicts(ids, start, photographs, clusters, *writer.kept_apart())
    joined = join_clusters(vectors, start, pairs, keys < 0, enemies)
    fresh = itertools.count(first)
    for rows in sorted((rows for _, rows in _rows_by(joined, None)), key=len, reverse=True):
        person = int(people[rows].max())
        known = numbers[rows][numbers[rows] > 0]
        number = NO_GROUP if person else int(known.min()) if len(known) else next(fresh)
        for row in rows[nameless[rows] & (numbers[rows] != number)].tolist():
            if person:
                writer.run("UPDATE faces SET person = ? WHERE id = ?", person, int(ids[row]))
                writer.faces_changed(1)
            writer.set_group(int(ids[row]), number)
    return len(new)


def near_pairs(vectors, rows, codes, num_bits, most_exact=EXACT_FACES):
    """Pairs of faces that lie near each other, at least one of them among `rows`.

    Args:
        vectors: float32 [n, 128], of unit length.
        rows: int64 [m], faces whose neighbours are sought.
        codes: uint64 [n], which find candidates where there are many faces.
        num_bits: K.
        most_exact: faces that are compared with all others; of more, codes find candidates.

    Returns:
        int64 [p, 2].
    """
    if len(vectors) > most_exact:
        index = build_index(choose_engine(len(codes)), codes, num_bits)
    found = []
    for start in range(0, len(rows), FACES_AT_ONCE):
        some = rows[start:start + FACES_AT_ONCE]
        if len(vectors) > most_exact:
            columns = index.search(codes[some], CANDIDATES).rows
            distances = 1 - np.einsum("nd,ncd->nc", vectors[some], vectors[columns])
        else:
            distances = 1 - vectors[some].dot(vectors.T)
            columns = None
        near, places = np.nonzero(distances <= CLUSTERS)
        found.append(_nearest_of_each(
            some[near], places if columns is None else columns[near, places],
            distances[near, places]))
    return _different(np.concatenate(found), len(vectors))


def _different(pairs, count):
    """Pairs of different numbers below `count`, each once, the smaller number first."""
    keys = np.unique(pairs.min(axis=1) * count + pairs.max(axis=1))
    pairs = np.stack([keys // count, keys % count], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _nearest_of_each(first, second, distances):
    """The NEIGHBOURS nearest pairs of each face in `first`: int64 [p, 2]."""
    order = np.lexsort((distances, first))
    first, second = first[order], second[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    kept = rank <= NEIGHBOURS  # a face is its own first neighbour
    return np.stack([first[kept], second[kept]], axis=1)


def conflicts(ids, start, photographs, clusters, apart, rejected):
    """Pairs of clusters that must not be joined: set of (int, int).

    Args:
        ids, start, photographs: int64 [n], of the faces: id, cluster and photograph.
        clusters: {id of a person: cluster}.
        apart, rejected: see Gallery.kept_apart.
    """
    found = set()
    _, photographs, counts = np.unique(photographs, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(counts[photographs] > 1)
    on_it = {}  # photograph -> clusters of its faces
    for photograph, cluster in zip(photographs[shared].tolist(), start[shared].tolist()):
        others = on_it.setdefault(photograph, [])
        found.update((cluster, other) for other in others)
        others.append(cluster)
    of_id = dict(zip(ids.tolist(), start.tolist()))
    found.update((of_id[face], of_id[other]) for face, other in apart.tolist())
    found.update((of_id[face], clusters[person]) for face, person in rejected.tolist()
                 if person in clusters)
    return {(one, other) for one, other in found if one != other}


def limits(counts, others):
    """Mean distances up to which clusters of so many faces are joined: ints -> float64."""
    return CLUSTERS - (CLUSTERS - SINGLES) / np.sqrt(counts * others)


def join_clusters(vectors, start, pairs, named, enemies):
    """Joins clusters of faces by average linkage along a graph of neighbours.

    Args:
        vectors: float32 [n, D], of unit length.
        start: int64 [n], the cluster of each face: 0..m-1.
        pairs: int64 [p, 2], faces that are neighbours.
        named: bool [m], clusters of which no two are joined.
        enemies: pairs of clusters that are not joined.

    Returns:
        int64 [n], the cluster of each face at the end: faces of one cluster have the same number.
    """
    count = len(named)
    sums = np.zeros((2 * count, vectors.shape[1]))  # with room for what joining makes
    np.add.at(sums, start, vectors)
    counts = np.concatenate([np.bincount(start, minlength=count), np.zeros(count, np.int64)])
    named = np.concatenate([named, np.zeros(count, bool)])
    near, hostile = [set() for _ in range(count)], {}
    for one, other in enemies:
        hostile.setdefault(int(one), set()).add(int(other))
        hostile.setdefault(int(other), set()).add(int(one))
    pairs = _different(start[pairs], count)
    pairs = pairs[~named[pairs].all(axis=1)]
    heap = []
    for some in np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1):
        one, other = some.T
        distances = 1 - np.einsum("pd,pd->p", sums[one], sums[other]) / (
            counts[one] * counts[other])
        kept = distances <= limits(counts[one], counts[other])
        heap += zip(distances[kept].tolist(), one[kept].tolist(), other[kept].tolist())
        for first, second in some.tolist():
            near[first].add(second)
            near[second].add(first)
    heapq.heapify(heap)
    into = list(range(count))
    while heap:
        _, one, other = heapq.heappop(heap)
        if into[one] != one or into[other] != other or other in hostile.get(one, ()):
            continue
        new = len(into)
        into[one] = into[other] = new
        into.append(new)
        sums[new], counts[new] = sums[one] + sums[other], counts[one] + counts[other]
        named[new] = named[one] or named[other]
        if one in hostile or other in hostile:
            hostile[new] = hostile.pop(one, set()) | hostile.pop(other, set())
            for enemy in hostile[new]:
                hostile[enemy] -= {one, other}
                hostile[enemy].add(new)
        near.append((near[one] | near[other]) - {one, other})
        for neighbour in near[new]:
            near[neighbour] -= {one, other}
            near[neighbour].add(new)
        near[one] = near[other] = None
        others = np.array([neighbour for neighbour in near[new]
                           if not (named[neighbour] and named[new])], np.int64)
        distances = 1 - sums[others].dot(sums[new]) / (counts[others] * counts[new])
        for place in np.flatnonzero(distances <= limits(counts[others], counts[new])).tolist():
            heapq.heappush(heap, (float(distances[place]), int(others[place]), new))
    for cluster in range(len(into) - 1, -1, -1):  # what a cluster went into has a higher number
        into[cluster] = into[into[cluster]]
    return np.array(into)[start]


# What there is


def groups_of(gallery, least=1):
    """Groups, the largest first; of the same size, people come first, by name.

    Args:
        least: faces of a group without a name, at least.
    """
    nameless = np.where(gallery.people == NOBODY, gallery.groups, NO_GROUP)
    found = [Group(gallery.names[person], person, None, rows)
             for person, rows in _rows_by(gallery.people, NOBODY)]
    found += [Group(None, None, number, rows) for number, rows in _rows_by(nameless, NO_GROUP)
              if len(rows) >= least]
    return sorted(found, key=lambda group: (-len(group.rows), group.name is None, group.who))


def _rows_by(values, none):
    """Yields (value, rows) of each of some values, int64 [n], but the one that means none."""
    order = np.argsort(values, kind="stable")
    order = order[values[order] != none] if none is not None else order
    if len(order):
        for rows in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
            yield int(values[rows[0]]), rows


def sort_by_likeness(gallery, rows):
    """Faces of a group, those that are most like the others first: int64 [n] -> [n]."""
    if not gallery.has_vectors:
        return rows
    vectors = gallery.vectors_of(rows)
    return rows[np.argsort(-vectors.dot(vectors.sum(axis=0)), kind="stable")]


def suggestions(gallery, groups, most=MOST_SUGGESTIONS):
    """At most so many Suggestions among groups (of groups_of, with single faces), nearest first.

    Not those that somebody has kept apart, nor two that one photograph shows, nor two single faces.
    """
    groups = groups[:MOST_COMPARED]
    if not gallery.has_embeddings or not groups:
        return []
    means = np.stack([gallery.vectors_of(group.rows).mean(axis=0) for group in groups])
    # Single faces without a name come last.
    many = sum(len(group.rows) > 1 or group.name is not None for group in groups)
    distances = 1 - means[:many].dot(means.T)
    first, second = np.nonzero(np.triu(distances <= SUGGESTED, 1))
    order = np.argsort(distances[first, second], kind="stable")
    start = np.full(len(gallery), len(groups))  # of faces in none of them
    for place, group in enumerate(groups):
        start[group.rows] = place
    clusters = {group.person: place for place, group in enumerate(groups) if group.person}
    enemies = conflicts(gallery.ids, start, gallery.photographs, clusters, *gallery.kept_apart())
    found = []
    for one, other in zip(first[order].tolist(), second[order].tolist()):
        if len(found) < most and (one, other) not in enemies and (other, one) not in enemies:
            found.append(Suggestion(groups[one], groups[other], float(distances[one, other])))
    return found
