"""Codes or floats -> files: evaluates them and writes what came out into a folder."""

import time
from collections import OrderedDict

import numpy as np

from evaluation import vectors
from evaluation.open_set import open_set_results

# Of people never seen: name in results.json -> name in metrics.Evaluation's results.
UNSEEN_RESULTS = OrderedDict(("unseen_" + name, name) for name in (
    "mAP", "mAP_worst_case", "mAP_best_case", "mAP_euclidean", "top_1_accuracy", "r_precision"))


def save_evaluation(folder, codes, metadata, unseen_codes=None, **options):
    """Evaluates codes and writes results.json, codes.npz and the curves into a folder.

    Args:
        folder: an OutputFolder.
        codes: evaluation.codes.Codes; or Floats, which go to floats.npz.
        metadata: dict of what else results.json shall say (see encode.encode_splits).
        unseen_codes: those of people that are never seen in training, or None.
        options: of metrics.evaluate_codes.

    Returns:
        A metrics.Evaluation.
    """
    started = time.perf_counter()
    evaluation = vectors.evaluate(codes, **options)
    evaluation.results.update(metadata)
    if unseen_codes is not None:
        evaluation.results.update(unseen_results(codes, unseen_codes))
        folder.write_arrays(vectors.UNSEEN + vectors.file_name(codes), **unseen_codes.arrays())
    evaluation.results["ranking_seconds"] = round(time.perf_counter() - started, 3)
    folder.write_arrays(vectors.file_name(codes), **codes.arrays())
    folder.write_table("curves_at_n.csv", OrderedDict([
        ("n", range(1, len(evaluation.precision_at) + 1)),
        ("precision", evaluation.precision_at), ("recall", evaluation.recall_at)]))
    if evaluation.precision_within is not None:
        folder.write_table("curves_within_radius.csv", OrderedDict([
            ("radius", range(len(evaluation.precision_within))),
            ("precision", evaluation.precision_within), ("recall", evaluation.recall_within),
            ("queries_nonempty", evaluation.nonempty),
            ("pairs_of_same_label", evaluation.same),
            ("pairs_of_different_labels", evaluation.different)]))
    folder.write_json("results.json", evaluation.results)
    return evaluation


def unseen_results(codes, unseen_codes):
    """What results.json says of people that are never seen in training.

    Args:
        codes: Codes or Floats of the people that are seen.
        unseen_codes: those of the others' gallery and queries.

    Returns:
        OrderedDict of plain values: retrieval among the unseen people alone, and open-set
        identification of seen ones.
    """
    found = vectors.evaluate(unseen_codes).results
    results = OrderedDict((name, found[source]) for name, source in UNSEEN_RESULTS.items()
                          if source in found)
    results.update(unseen_num_identities=len(np.unique(unseen_codes.gallery_labels)),
                   unseen_num_gallery=found["num_gallery"],
                   unseen_num_queries=found["num_queries"])
    results.update(open_set_results(codes, unseen_codes))
    return results
