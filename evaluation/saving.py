"""Evaluates codes or floating-point vectors and writes the results into a folder."""

import time

import numpy as np

from evaluation import vectors
from evaluation.open_set import open_set_results

# What results.json has of unseen people, too, as unseen_NAME.
UNSEEN_RESULTS = (
    "mAP", "mAP_worst_case", "mAP_best_case", "mAP_euclidean", "top_1_accuracy", "r_precision")


def save_evaluation(folder, codes, metadata, unseen_codes=None, **options):
    """Evaluates codes and writes results.json, codes.npz and the curves into a folder.

    Args:
        folder: an OutputFolder.
        codes: evaluation.codes.Codes; or Floats, which go to floats.npz.
        metadata: dict of further entries of results.json.
        unseen_codes: those of people who are not in training, or None.
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
    folder.write_table("curves_at_n.csv", {
        "n": range(1, len(evaluation.precision_at) + 1),
        "precision": evaluation.precision_at, "recall": evaluation.recall_at})
    if evaluation.precision_within is not None:
        folder.write_table("curves_within_radius.csv", {
            "radius": range(len(evaluation.precision_within)),
            "precision": evaluation.precision_within, "recall": evaluation.recall_within,
            "queries_nonempty": evaluation.nonempty,
            "pairs_of_same_label": evaluation.same,
            "pairs_of_different_labels": evaluation.different})
    folder.write_json("results.json", evaluation.results)
    return evaluation


def unseen_results(codes, unseen_codes):
    """The entries of results.json on unseen people: those who are not in training.

    Args:
        codes: Codes or Floats of the people in training.
        unseen_codes: those of the unseen people.

    Returns:
        Dict of plain values: retrieval among the unseen people alone, and open-set identification
        of seen ones.
    """
    found = vectors.evaluate(unseen_codes).results
    results = {f"unseen_{name}": found[name] for name in UNSEEN_RESULTS if name in found}
    results.update(unseen_num_identities=len(np.unique(unseen_codes.gallery_labels)),
                   unseen_num_gallery=found["num_gallery"],
                   unseen_num_queries=found["num_queries"])
    results.update(open_set_results(codes, unseen_codes))
    return results
