"""Codes -> numbers: Hamming ranking metrics, and the command that evaluates a run.

    python evaluate.py RUN_DIR

The metrics are numpy alone. With few bits nearly every rank is a tie, so they are stated on tie
groups. For one query, let n_d be the number of gallery items at Hamming distance d and r_d the
number of relevant ones (same label) among them; N_d and R_d are their sums over smaller distances,
R the number of all relevant items. These counts are all that the metrics need. "Expected" means
over a uniformly random order inside each tie, which makes a metric independent of the order of the
gallery. Means over queries are macro means: every query counts once, a query without any relevant
gallery item as 0.
"""

import argparse
import sys
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from config import UserError
from run_folder import RunFolder

# A block of this many queries x gallery items is compared at once: its product, indices and
# histogram stay in a processor's second-level cache, and memory is bounded by it.
QUERY_BLOCK, GALLERY_BLOCK = 256, 4096
# Fewer distinct gallery codes than this share of the gallery: compare distinct codes only.
DISTINCT_SHARE = 0.5


class Codes(NamedTuple):
    """Gallery and queries, as codes.npz holds them.

    Attributes:
        gallery_codes: int8 [N, K], -1 or +1.
        gallery_labels: [N], integers or strings.
        query_codes: int8 [Q, K].
        query_labels: [Q].
    """

    gallery_codes: np.ndarray
    gallery_labels: np.ndarray
    query_codes: np.ndarray
    query_labels: np.ndarray


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


def checked_codes(gallery_codes, gallery_labels, query_codes, query_labels, source="codes"):
    """The four arrays as Codes.

    Args:
        gallery_codes, query_codes: [N, K] and [Q, K], of values -1 and +1, any numeric type.
        gallery_labels, query_labels: [N] and [Q], integers or strings.
        source: what to call them in an error message.

    Raises:
        UserError: an array is empty, holds other values, or its shape does not fit the others'.
    """
    arrays = Codes(*[np.asarray(array) for array in (
        gallery_codes, gallery_labels, query_codes, query_labels)])
    for name in ("gallery", "query"):
        codes, labels = getattr(arrays, name + "_codes"), getattr(arrays, name + "_labels")
        if codes.ndim != 2 or 0 in codes.shape:
            raise UserError("%s: %s_codes must have shape [images, num_bits], none of them 0; "
                            "they have %s" % (source, name, codes.shape))
        if codes.dtype.kind not in "iuf" or not np.all(np.abs(codes) == 1):
            raise UserError("%s: %s_codes must be -1 or +1 everywhere" % (source, name))
        if labels.shape != codes.shape[:1]:
            raise UserError("%s: %d %s_codes but %s_labels of shape %s"
                            % (source, len(codes), name, name, labels.shape))
        if labels.dtype.kind not in "iuUS":
            raise UserError("%s: %s_labels must be integers or strings, not %s"
                            % (source, name, labels.dtype))
    if arrays.gallery_codes.shape[1] != arrays.query_codes.shape[1]:
        raise UserError("%s: gallery_codes have %d bits, query_codes %d" % (
            source, arrays.gallery_codes.shape[1], arrays.query_codes.shape[1]))
    if (arrays.gallery_labels.dtype.kind in "iu") != (arrays.query_labels.dtype.kind in "iu"):
        raise UserError("%s: gallery_labels are %s but query_labels %s" % (
            source, arrays.gallery_labels.dtype, arrays.query_labels.dtype))
    return arrays._replace(gallery_codes=arrays.gallery_codes.astype(np.int8),
                           query_codes=arrays.query_codes.astype(np.int8))


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


def evaluate_codes(codes):
    """The table of metrics.

    Args:
        codes: Codes.

    Returns:
        An OrderedDict of numbers; all but the counts lie in [0, 1].
    """
    counts = count_distances(codes)
    precision = average_precision(counts)
    top = min(50, len(codes.gallery_codes))
    within, recall_within, answered = precision_recall_within(counts)
    radius = min(2, codes.query_codes.shape[1])
    return OrderedDict([
        ("mAP", float(precision.expected.mean())),
        ("mAP_best_case", float(precision.best_case.mean())),
        ("mAP_worst_case", float(precision.worst_case.mean())),
        ("precision_at_50", float(precision_recall_at(counts, np.array([top]))[0][0])),
        ("precision_radius_2", float(within[radius])),
        ("recall_radius_2", float(recall_within[radius])),
        ("queries_answered_radius_2", float(answered[radius])),
        ("top_1_accuracy", float(nearest_accuracy(counts).mean())),
        ("r_precision", float(r_precision(counts).mean())),
        ("num_bits", int(codes.query_codes.shape[1])),
        ("num_gallery", len(codes.gallery_codes)),
        ("num_queries", len(codes.query_codes)),
        ("queries_without_relevant", int(np.count_nonzero(counts.num_relevant == 0))),
        ("distinct_gallery_codes", len(_distinct(codes.gallery_codes)[0])),
    ])


def results_table(results):
    """The results as text, one metric a line."""
    lines = []
    for name, value in results.items():
        shown = "%.4f" % value if isinstance(value, float) else str(value)
        lines.append("  %-26s %s" % (name.replace("_", " "), shown))
    return "\n".join(lines)


# Runs


def save_evaluation(folder, codes, config, state):
    """Evaluates codes and writes codes.npz and results.json into a run folder.

    Args:
        folder: a RunFolder.
        codes: Codes of gallery and queries in the order of the data.
        config: the run's Config.
        state: dict with best_epoch, the epoch whose weights made the codes, and epoch, the number
            of finished ones.

    Returns:
        The results, an OrderedDict: what results.json holds.
    """
    results = evaluate_codes(codes)
    results["dataset"] = config.dataset.name
    results["epoch"] = state["best_epoch"]
    results["trained_epochs"] = state["epoch"]
    folder.write_codes(**codes._asdict())
    folder.write_json("results.json", results)
    return results


def encode_run(folder):
    """Codes of a run's gallery and queries, from its best checkpoint; training may be going on.

    Args:
        folder: a RunFolder.

    Returns:
        (codes, config, state): Codes, the run's Config, the best checkpoint's state.
    """
    # Here alone, so that codes from elsewhere can be evaluated without TensorFlow.
    import data_loader
    import training
    from tensorflow_setup import device_line, make_session

    config = folder.read_config()
    folder.checkpoint("best")  # before the long work: is there one?
    train, test = data_loader.load_dataset(config)
    graph = training.build_training_graph(config, config.dataset.num_identities)
    with make_session(graph.graph) as session:
        print(device_line(session), flush=True)
        state = training.restore_best(graph, session, folder)
        return training.encode_splits(graph, session, train, test, config), config, state


def run_command(main):
    """Runs a command's main function; a mistake of the user ends in one line, not a traceback.

    Args:
        main: function of the command line's words.
    """
    try:
        main(sys.argv[1:])
    except UserError as error:
        print("error: %s" % error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        sys.exit(1)


def main(arguments):
    """Evaluates the run that the command line names."""
    parser = argparse.ArgumentParser(description="Evaluate the best checkpoint of a run.")
    parser.add_argument("run_dir", help="folder of a finished or running run")
    folder = RunFolder.open(parser.parse_args(arguments).run_dir)
    codes, config, state = encode_run(folder)
    results = save_evaluation(folder, codes, config, state)
    print("%s, weights of epoch %d\n%s" % (folder, results["epoch"], results_table(results)))


if __name__ == "__main__":
    run_command(main)
