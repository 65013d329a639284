"""The metrics of Hamming ranking. Needs numpy alone.

With few bits nearly every rank is a tie, so the metrics are defined on tie groups. For one query,
let n_d be the number of gallery items at Hamming distance d and r_d the number of relevant ones
(same label) among them; N_d and R_d are their sums over smaller distances, R the number of all
relevant items. The metrics need nothing but these counts. "Expected" means over a uniformly random
order inside each tie, which makes a metric independent of the order of the gallery. Means over
queries are macro means: every query counts once, and one without any relevant gallery item as 0.
"""

from typing import NamedTuple, Optional

import numpy as np

from evaluation.authors_evaluation import authors_average_precision
from evaluation.codes import distinct, effective_bits
from evaluation.distances import count_distances

# Ranks that precision and recall at N are computed for.
CURVE_RANKS = 1000


class AveragePrecision(NamedTuple):
    """Average precision of each query, float64 [Q]: expected, and its bounds over tie orders."""

    expected: np.ndarray
    best_case: np.ndarray
    worst_case: np.ndarray


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
        ranks: int [M], or [Q, M] for each query's own; a rank above the gallery's size stands for
            the whole gallery.

    Returns:
        float64 [Q, M].
    """
    ends = np.cumsum(np.pad(counts.items, ((0, 0), (1, 0)), "constant"), axis=1)
    hits = np.cumsum(np.pad(counts.relevant, ((0, 0), (1, 0)), "constant"), axis=1)
    ranks = np.broadcast_to(ranks, (len(ends), np.shape(ranks)[-1]))
    # Inside a tie, expected hits grow in proportion to ranks.
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
        (precision, recall, nonempty): float64 [K + 1] each; nonempty is the share of queries that
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


class Evaluation(NamedTuple):
    """All results for one set of codes.

    Attributes:
        results: dict of numbers, the table.
        average_precision: AveragePrecision of each query.
        precision_at, recall_at: float64 [min(1000, N)], of the first 1, 2, ... ranks.
        precision_within, recall_within, nonempty: float64 [K + 1], within radius 0..K.
        same, different: int64 [K + 1], pairs of query and gallery item at each distance, with the
            same label and with different ones.
            The last five are None for floating-point vectors (evaluation.floats).
    """

    results: dict
    average_precision: AveragePrecision
    precision_at: np.ndarray
    recall_at: np.ndarray
    precision_within: Optional[np.ndarray] = None
    recall_within: Optional[np.ndarray] = None
    nonempty: Optional[np.ndarray] = None
    same: Optional[np.ndarray] = None
    different: Optional[np.ndarray] = None


def evaluate_rankings(blocks, vectors, map_at):
    """The Evaluation of what codes and floating-point vectors have in common.

    Args:
        blocks: iterable of DistanceCounts, of a few queries each, in order.
        vectors: Codes, or evaluation.floats.Floats.
        map_at: R of mAP@R.
    """
    num_gallery, num_queries = len(vectors.gallery_labels), len(vectors.query_labels)
    ranks = np.arange(1, min(CURVE_RANKS, num_gallery) + 1)
    precisions, values, curves = [], [], []
    for counts in blocks:
        precisions.append(average_precision(counts))
        values.append((average_precision_at(counts, map_at), nearest_accuracy(counts),
                       r_precision(counts), counts.num_relevant == 0))
        curves.append(np.multiply(precision_recall_at(counts, ranks),
                                  len(counts.items) / num_queries))
    precision = AveragePrecision(*map(np.concatenate, zip(*precisions)))
    at_cutoff, nearest, r_precisions, irrelevant = map(np.concatenate, zip(*values))
    precision_at, recall_at = np.sum(curves, axis=0)
    results = {
        "mAP": precision.expected.mean(), "mAP_best_case": precision.best_case.mean(),
        "mAP_worst_case": precision.worst_case.mean(), f"mAP_at_{map_at}": at_cutoff.mean(),
        "precision_at_50": precision_at[min(50, len(precision_at)) - 1],
        "top_1_accuracy": nearest.mean(), "r_precision": r_precisions.mean(),
        "num_gallery": num_gallery, "num_queries": num_queries,
        "queries_without_relevant": np.count_nonzero(irrelevant)}
    if vectors.gallery_fingerprints is not None and vectors.query_fingerprints is not None:
        results["queries_also_in_gallery"] = np.count_nonzero(
            np.isin(vectors.query_fingerprints, vectors.gallery_fingerprints))
    return Evaluation(results, precision, precision_at, recall_at)


def evaluate_codes(codes, map_at=1000, authors_evaluation=False):
    """All metrics of one set of codes.

    Args:
        codes: Codes.
        map_at: R of mAP@R.
        authors_evaluation: whether to add mAP_authors_evaluation, which sorts the gallery for each
            query. Codes that are numbers have none: it would compare them bit by bit.

    Returns:
        An Evaluation. All its results but counts lie in [0, 1].
    """
    counts = count_distances(codes)
    evaluation = evaluate_rankings([counts], codes, map_at)
    precision_within, recall_within, nonempty = precision_recall_within(counts)
    radius = min(2, codes.query_codes.shape[1]) if codes.has_bits else 0
    varying, independent = effective_bits(codes.gallery_codes)
    results = dict(
        evaluation.results, precision_radius_2=precision_within[radius],
        recall_radius_2=recall_within[radius], queries_nonempty_radius_2=nonempty[radius],
        num_bits=codes.query_codes.shape[1],
        distinct_gallery_codes=len(distinct(codes.gallery_codes)[0]), varying_bits=varying,
        independent_bits=independent)
    if authors_evaluation and codes.has_bits:
        results["mAP_authors_evaluation"] = authors_average_precision(codes).mean()
    same, items = counts.relevant.sum(axis=0), counts.items.sum(axis=0)
    return evaluation._replace(
        results=plain(results), precision_within=precision_within, recall_within=recall_within,
        nonempty=nonempty, same=same, different=items - same)


def plain(results):
    """Results as plain numbers, for JSON."""
    return {name: float(value) if isinstance(value, np.floating) else int(value)
            for name, value in results.items()}
