"""Codes -> files: evaluates codes and writes what came out into a folder."""

import time
from collections import OrderedDict

from retrieval import metrics


def save_evaluation(folder, codes, metadata, **options):
    """Evaluates codes and writes results.json, codes.npz and the curves into a folder.

    Args:
        folder: an OutputFolder.
        codes: retrieval.codes.Codes.
        metadata: dict of what else results.json shall say (see encode.encode_splits).
        options: of metrics.evaluate_codes.

    Returns:
        A metrics.Evaluation.
    """
    started = time.perf_counter()
    evaluation = metrics.evaluate_codes(codes, **options)
    evaluation.results.update(metadata)
    evaluation.results["ranking_seconds"] = round(time.perf_counter() - started, 3)
    folder.write_arrays("codes.npz", **{name: array for name, array in codes._asdict().items()
                          if array is not None})
    folder.write_table("curves_at_n.csv", OrderedDict([
        ("n", range(1, len(evaluation.precision_at) + 1)),
        ("precision", evaluation.precision_at), ("recall", evaluation.recall_at)]))
    folder.write_table("curves_within_radius.csv", OrderedDict([
        ("radius", range(len(evaluation.precision_within))),
        ("precision", evaluation.precision_within), ("recall", evaluation.recall_within),
        ("queries_nonempty", evaluation.nonempty),
        ("pairs_of_same_label", evaluation.same),
        ("pairs_of_different_labels", evaluation.different)]))
    folder.write_json("results.json", evaluation.results)
    return evaluation
