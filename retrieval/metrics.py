"""Codes -> numbers: the metrics of Hamming ranking. Needs numpy alone.

With few bits nearly every rank is a tie, so the metrics are stated on tie groups. For one query,
let n_d be the number of gallery items at Hamming distance d and r_d the number of relevant ones
(same label) among them; N_d and R_d are their sums over smaller distances, R the number of all
relevant items. These counts are all that the metrics need. "Expected" means over a uniformly random
order inside each tie, which makes a metric independent of the order of the gallery. Means over
queries are macro means: every query counts once, one without any relevant gallery item as 0.
"""

from collections import OrderedDict
from typing import NamedTuple, Optional

import numpy as np

from runtime.errors import UserError

# A block of this many queries x gallery items is compared at once: its product, indices and
# histogram stay in a processor's second-level cache, and memory is bounded by it.
QUERY_BLOCK, GALLERY_BLOCK = 256, 4096
# Fewer distinct gallery codes than this share of the gallery: compare distinct codes only.
DISTINCT_SHARE = 0.5
# Ranks that precision and recall at N are computed for.
CURVE_RANKS = 1000
# Pairs that the authors' evaluation ranks at once; each takes about 40 bytes.
AUTHORS_PAIRS = 1 << 22


class Codes(NamedTuple):
    """Gallery and queries, as codes.npz holds them.

    Attributes:
        gallery_codes: int8 [N, K], -1 or +1.
        gallery_labels: [N], integers or strings.
        query_codes: int8 [Q, K].
        query_labels: [Q].
        gallery_fingerprints, query_fingerprints: uint64 [N] and [Q], equal for equal images; None
            where the images are unknown.
    """

    gallery_codes: np.ndarray
    gallery_labels: np.ndarray
    query_codes: np.ndarray
    query_labels: np.ndarray
    gallery_fingerprints: Optional[np.ndarray] = None
    query_fingerprints: Optional[np.ndarray] = None


class DistanceCounts(NamedTuple):
    """How the gallery lies around each query.

    Attributes:
        items: int64 [Q, K + 1], n_d: gallery items at each Hamming distance 0..K.
        relevant: int64 [Q, K + 1], r_d: those with the query's label.
    """

    items: np.ndarray
    relevant: np.ndarray

    @property
    def items_before(self):
        """N_d: int64 [Q, K + 1]."""
        return np.cumsum(self.items, axis=1) - self.items

    @property
    def relevant_before(self):
        """R_d: int64 [Q, K + 1]."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @property
    def num_relevant(self):
        """R: int64 [Q]."""
        return self.relevant.sum(axis=1)


class AveragePrecision(NamedTuple):
    """Average precision of each query, float64 [Q]: expected, and its bounds over tie orders."""

    expected: np.ndarray
    best_case: np.ndarray
    worst_case: np.ndarray


# Codes -> counts


def checked_codes(gallery_codes, gallery_labels, query_codes, query_labels,
                  gallery_fingerprints=None, query_fingerprints=None, source="codes"):
    """The arrays as Codes.

    Args:
        gallery_codes, query_codes: [N, K] and [Q, K], of values -1 and +1, any numeric type.
        gallery_labels, query_labels: [N] and [Q], integers or strings.
        gallery_fingerprints, query_fingerprints: see Codes.
        source: what to call the arrays in an error message.

    Raises:
        UserError: an array is empty, holds other values, or its shape does not fit the others'.
    """
    def refuse(message, *values):
        raise UserError("%s: %s" % (source, message % values))

    splits = []
    for name, codes, labels, fingerprints in (
            ("gallery", gallery_codes, gallery_labels, gallery_fingerprints),
            ("query", query_codes, query_labels, query_fingerprints)):
        codes, labels = np.asarray(codes), np.asarray(labels)
        if codes.ndim != 2 or 0 in codes.shape:
            refuse("%s_codes must have shape [images, num_bits], neither of them 0; it has %s",
                   name, codes.shape)
        if codes.dtype.kind not in "iuf" or not np.all(np.abs(codes) == 1):
            refuse("%s_codes must be -1 or +1 everywhere", name)
        if labels.shape != codes.shape[:1]:
            refuse("%s_codes has %d rows but %s_labels has shape %s",
                   name, len(codes), name, labels.shape)
        if labels.dtype.kind not in "iuUS":
            refuse("%s_labels must be integers or strings, not %s", name, labels.dtype)
        if fingerprints is not None and np.shape(fingerprints) != labels.shape:
            refuse("%s_fingerprints must have shape %s", name, labels.shape)
        splits.append((codes.astype(np.int8), labels, fingerprints))
    (gallery, gallery_labels, _), (queries, query_labels, _) = splits
    if gallery.shape[1] != queries.shape[1]:
        refuse("gallery_codes has %d bits, query_codes %d", gallery.shape[1], queries.shape[1])
    if (gallery_labels.dtype.kind in "iu") != (query_labels.dtype.kind in "iu"):
        refuse("gallery_labels holds %s but query_labels %s",
               gallery_labels.dtype, query_labels.dtype)
    return Codes(gallery, gallery_labels, queries, query_labels,
                 gallery_fingerprints, query_fingerprints)


def count_distances(codes):
    """DistanceCounts of Codes. Memory beyond input and result is a few blocks."""
    gallery, weights, _ = _distinct(codes.gallery_codes)
    if len(gallery) > DISTINCT_SHARE * len(codes.gallery_codes):
        gallery, weights = codes.gallery_codes, None
    queries, _, origin = _distinct(codes.query_codes)
    return DistanceCounts(_histograms(gallery, weights, queries)[origin], _relevant_counts(codes))


def _distinct(codes):
    """Distinct rows of codes, how often each occurs (float64), and each row's index among them."""
    packed = np.packbits(codes > 0, axis=1)
    keys = packed.view("V%d" % packed.shape[1])[:, 0]
    _, first, origin, counts = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True)
    return codes[first], counts.astype(np.float64), origin.reshape(-1)


def _histograms(gallery, weights, queries):
    """n_d for each query: int64 [Q, K + 1]; each gallery row counts `weights` times (None: once).

    d = (K - <q, g>) / 2. One more column makes the matrix product give d plus the start of the
    query's own stretch of a flat histogram; these are whole numbers below 2^24, exact in float32.
    """
    num_bits = gallery.shape[1]
    width = num_bits + 1
    with_one = np.ones((width, len(gallery)), np.float32)
    with_one[:num_bits] = gallery.T
    result = np.empty((len(queries), width), np.int64)
    for start in range(0, len(queries), QUERY_BLOCK):
        block = queries[start:start + QUERY_BLOCK]
        offsets = np.arange(len(block))[:, None] * width + num_bits / 2.0
        halves = np.concatenate([block * -0.5, offsets], axis=1).astype(np.float32)
        counts = np.zeros(len(block) * width)
        for column in range(0, len(gallery), GALLERY_BLOCK):
            columns = slice(column, column + GALLERY_BLOCK)
            slots = np.matmul(halves, with_one[:, columns]).astype(np.int64)
            repeated = None if weights is None else np.broadcast_to(
                weights[columns], slots.shape).ravel()
            counts += np.bincount(slots.ravel(), repeated, minlength=len(counts))
        result[start:start + QUERY_BLOCK] = counts.reshape(len(block), width)
    return result


def _relevant_counts(codes):
    """r_d for each query, from the gallery items of its own label alone: int64 [Q, K + 1]."""
    result = np.zeros((len(codes.query_codes), codes.query_codes.shape[1] + 1), np.int64)
    gallery_order = np.argsort(codes.gallery_labels, kind="mergesort")
    gallery_labels = codes.gallery_labels[gallery_order]
    query_order = np.argsort(codes.query_labels, kind="mergesort")
    labels, starts = np.unique(codes.query_labels[query_order], return_index=True)
    firsts = np.searchsorted(gallery_labels, labels, side="left")
    lasts = np.searchsorted(gallery_labels, labels, side="right")
    for rows, first, last in zip(np.split(query_order, starts[1:]), firsts, lasts):
        if first < last:
            own = codes.gallery_codes[gallery_order[first:last]]
            result[rows] = _histograms(own, None, codes.query_codes[rows])
    return result


# Counts -> metrics


def average_precision(counts):
    """Average precision under ties, in closed form (McSherry and Najork, ECIR 2008).

    AP = 1/R * sum of the precision at the rank of each relevant item. With H the harmonic numbers,
    a tie group at distance d contributes to the sum:

    expected    r_d/n_d * [ (R_d + 1) * S + (r_d - 1)/(n_d - 1) * (n_d - (N_d + 1) * S) ],
                S = H(N_d + n_d) - H(N_d): at each rank, the chance r_d/n_d of a relevant item
                times the expected precision there, given that.
    best case   its relevant items first: r_d + (R_d - N_d) * (H(N_d + r_d) - H(N_d)).
    worst case  its relevant items last:  r_d + (R_d - N_d - n_d + r_d)
                                                * (H(N_d + n_d) - H(N_d + n_d - r_d)).

    Args:
        counts: DistanceCounts.

    Returns:
        AveragePrecision; 0 for a query without relevant items.
    """
    n, r = counts.items, counts.relevant
    before, hits = counts.items_before, counts.relevant_before
    harmonic = _harmonic_numbers(int(n.sum(axis=1).max()))
    best = r + (hits - before) * (harmonic[before + r] - harmonic[before])
    worst = r + (hits - before - n + r) * (harmonic[before + n] - harmonic[before + n - r])
    expected = _expected_precision_sums(counts, n, harmonic)
    divisor = np.maximum(counts.num_relevant, 1)
    return AveragePrecision(expected.sum(axis=1) / divisor, best.sum(axis=1) / divisor,
                            worst.sum(axis=1) / divisor)


def average_precision_at(counts, cutoff):
    """Expected AP of the top `cutoff` ranks (mAP@R): the sum over those ranks / min(R, cutoff).

    Args:
        counts: DistanceCounts.
        cutoff: ranks that count, >= 1.

    Returns:
        float64 [Q].
    """
    inside = np.clip(cutoff - counts.items_before, 0, counts.items)
    harmonic = _harmonic_numbers(int(counts.items.sum(axis=1).max()))
    sums = _expected_precision_sums(counts, inside, harmonic).sum(axis=1)
    return sums / np.maximum(np.minimum(counts.num_relevant, cutoff), 1)


def _expected_precision_sums(counts, inside, harmonic):
    """Expected sum of precision at relevant ranks over the first `inside` ranks of each tie."""
    n, r = counts.items, counts.relevant
    before, hits = counts.items_before, counts.relevant_before
    chance = r / np.maximum(n, 1)
    chance_of_another = (r - 1) / np.maximum(n - 1, 1)
    span = harmonic[before + inside] - harmonic[before]
    return chance * ((hits + 1) * span + chance_of_another * (inside - (before + 1) * span))


def _harmonic_numbers(count):
    """H(0)..H(count): float64 [count + 1]."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, count + 1))])


def expected_hits(counts, ranks):
    """Expected number of relevant items among the first `ranks` of each query.

    Args:
        counts: DistanceCounts.
        ranks: int [M], or [Q, M] for ranks of each query's own; above the gallery's size, all of
            the gallery is meant.

    Returns:
        float64 [Q, M].
    """
    ends = np.cumsum(np.pad(counts.items, ((0, 0), (1, 0)), "constant"), axis=1)
    hits = np.cumsum(np.pad(counts.relevant, ((0, 0), (1, 0)), "constant"), axis=1)
    ranks = np.broadcast_to(ranks, (len(ends), np.shape(ranks)[-1]))
    # Inside a tie, hits grow in proportion to ranks.
    return np.stack([np.interp(*row) for row in zip(ranks, ends, hits)])


def precision_recall_at(counts, ranks):
    """Expected macro precision and recall of the first N ranks, for each N of `ranks`.

    Args:
        counts: DistanceCounts.
        ranks: int [M], 1..gallery size.

    Returns:
        (precision, recall): float64 [M] each.
    """
    hits = expected_hits(counts, ranks)
    recall = hits / np.maximum(counts.num_relevant, 1)[:, None]
    return (hits / ranks).mean(axis=0), recall.mean(axis=0)


def precision_recall_within(counts):
    """Macro precision and recall within each Hamming radius 0..K.

    A query that retrieves nothing within a radius has precision 0 there, as in the release.

    Args:
        counts: DistanceCounts.

    Returns:
        (precision, recall, answered): float64 [K + 1] each; answered is the share of queries that
        retrieve anything.
    """
    retrieved = np.cumsum(counts.items, axis=1)
    hits = np.cumsum(counts.relevant, axis=1)
    precision = hits / np.maximum(retrieved, 1)
    recall = hits / np.maximum(counts.num_relevant, 1)[:, None]
    return precision.mean(axis=0), recall.mean(axis=0), (retrieved > 0).mean(axis=0)


def r_precision(counts):
    """Expected precision of the first R ranks, R each query's own: float64 [Q]."""
    relevant = counts.num_relevant
    return expected_hits(counts, relevant[:, None])[:, 0] / np.maximum(relevant, 1)


def nearest_accuracy(counts):
    """Chance that the nearest gallery item (a random one of a tie) is relevant: float64 [Q]."""
    rows = np.arange(len(counts.items))
    nearest = np.argmax(counts.items > 0, axis=1)
    return counts.relevant[rows, nearest] / counts.items[rows, nearest]


def bit_correlation(codes):
    """Correlation between bits: int8 [N, K] -> float64 [K, K]; 0 for a constant bit."""
    bits = codes.astype(np.float32)  # sums of up to 2^24 signs are exact
    mean = bits.sum(axis=0).astype(np.float64) / len(bits)
    covariance = bits.T.dot(bits).astype(np.float64) / len(bits) - np.outer(mean, mean)
    deviations = np.sqrt(np.diag(covariance))
    scale = np.where(deviations > 0, deviations, np.inf)
    return covariance / scale[:, None] / scale


def effective_bits(codes):
    """How many bits of codes (int8 [N, K]) carry anything.

    Returns:
        (varying, independent): bits that are not constant, and the rank of their correlation. The
        rank counts a bit out that is a linear combination of others (a copy, a complement).
    """
    correlation = bit_correlation(codes)
    varying = int(np.count_nonzero(np.diag(correlation)))
    return varying, int(np.linalg.matrix_rank(correlation)) if varying else 0


def authors_average_precision(codes):
    """AP as the authors' release computes it; for comparison with numbers printed by it.

    Two of its properties change the ranking. Codes are packed into bytes as if their bits were 0
    and 1 (the first bit lowest), but they are -1 and +1: as uint8, a byte v becomes 2v - 255 modulo
    256, so that the highest bit of every byte drops out, and the last bit of a byte of m < 8 bits
    counts 8 - m times. And the order inside a tie is whatever numpy's default argsort leaves.

    Args:
        codes: Codes.

    Returns:
        float64 [Q]; 0 for a query without relevant items.
    """
    gallery, queries = _authors_bytes(codes.gallery_codes), _authors_bytes(codes.query_codes)
    ones = np.array([bin(value).count("1") for value in range(256)], np.uint16)
    ranks = np.arange(1, len(gallery) + 1)
    result = np.zeros(len(queries))
    rows = max(1, AUTHORS_PAIRS // len(gallery))
    for start in range(0, len(queries), rows):
        block = queries[start:start + rows]
        distances = np.zeros((len(block), len(gallery)), np.uint16)
        for query_bytes, gallery_bytes in zip(block.T, gallery.T):
            distances += ones[query_bytes[:, None] ^ gallery_bytes]
        order = np.argsort(distances, axis=1)
        relevant = codes.gallery_labels[order] == codes.query_labels[start:start + rows, None]
        precision = np.cumsum(relevant, axis=1) / ranks
        result[start:start + rows] = (np.sum(precision * relevant, axis=1)
                                      / np.maximum(np.count_nonzero(relevant, axis=1), 1))
    return result


def _authors_bytes(codes):
    """-1/+1 [n, K] -> uint8 [n, ceil(K / 8)], each byte the sum of its -1/+1 bits' powers of 2."""
    powers = 2 ** (np.arange(codes.shape[1]) % 8)
    starts = np.arange(0, codes.shape[1], 8)
    return np.add.reduceat(codes * powers, starts, axis=1).astype(np.uint8)


class Evaluation(NamedTuple):
    """Everything that is reported of one set of codes.

    Attributes:
        results: OrderedDict of numbers, the table.
        average_precision: AveragePrecision of each query.
        precision_at, recall_at: float64 [min(1000, N)], of the first 1, 2, ... ranks.
        precision_within, recall_within, answered: float64 [K + 1], within radius 0..K.
        same, different: int64 [K + 1], pairs of query and gallery item at each distance, of the
            same label and of different ones.
    """

    results: OrderedDict
    average_precision: AveragePrecision
    precision_at: np.ndarray
    recall_at: np.ndarray
    precision_within: np.ndarray
    recall_within: np.ndarray
    answered: np.ndarray
    same: np.ndarray
    different: np.ndarray


def evaluate_codes(codes, map_at=1000, authors_evaluation=False):
    """All metrics of one set of codes.

    Args:
        codes: Codes.
        map_at: R of mAP@R.
        authors_evaluation: whether to compute that, too; it sorts the gallery for each query.

    Returns:
        An Evaluation. In its results everything but counts lies in [0, 1].
    """
    counts = count_distances(codes)
    precision = average_precision(counts)
    precision_at, recall_at = precision_recall_at(
        counts, np.arange(1, min(CURVE_RANKS, len(codes.gallery_codes)) + 1))
    precision_within, recall_within, answered = precision_recall_within(counts)
    radius = min(2, codes.query_codes.shape[1])
    results = OrderedDict(mAP=precision.expected.mean(), mAP_best_case=precision.best_case.mean(),
                          mAP_worst_case=precision.worst_case.mean())
    if authors_evaluation:
        results["mAP_authors_evaluation"] = authors_average_precision(codes).mean()
    results["mAP_at_%d" % map_at] = average_precision_at(counts, map_at).mean()
    results.update([
        ("precision_at_50", precision_at[min(50, len(precision_at)) - 1]),
        ("precision_radius_2", precision_within[radius]),
        ("recall_radius_2", recall_within[radius]),
        ("queries_answered_radius_2", answered[radius]),
        ("top_1_accuracy", nearest_accuracy(counts).mean()),
        ("r_precision", r_precision(counts).mean()),
        ("num_bits", codes.query_codes.shape[1]),
        ("num_gallery", len(codes.gallery_codes)),
        ("num_queries", len(codes.query_codes)),
        ("queries_without_relevant", np.count_nonzero(counts.num_relevant == 0)),
        ("distinct_gallery_codes", len(_distinct(codes.gallery_codes)[0])),
    ])
    results["varying_bits"], results["independent_bits"] = effective_bits(codes.gallery_codes)
    if codes.gallery_fingerprints is not None and codes.query_fingerprints is not None:
        results["queries_also_in_gallery"] = np.count_nonzero(
            np.isin(codes.query_fingerprints, codes.gallery_fingerprints))
    for name, value in results.items():  # plain numbers, for JSON
        results[name] = float(value) if isinstance(value, np.floating) else int(value)
    same, items = counts.relevant.sum(axis=0), counts.items.sum(axis=0)
    return Evaluation(results, precision, precision_at, recall_at, precision_within,
                      recall_within, answered, same, items - same)
