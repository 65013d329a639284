"""One interface for what runs compare: binary codes (Codes) or floating-point vectors (Floats).

A run's folder holds codes.npz or floats.npz, whichever its method makes, the curves, and
results.json.
"""

import time

import numpy as np

from evaluation import floats, metrics
from evaluation.codes import Codes, load_codes
from evaluation.distances import count_distances
from evaluation.open_set import open_set_results
from runtime.errors import UserError

UNSEEN = "unseen_"  # prefix of the file of people who are not in training
# What results.json has of unseen people, too, as unseen_NAME.
UNSEEN_RESULTS = (
    "mAP", "mAP_worst_case", "mAP_best_case", "mAP_euclidean", "top_1_accuracy", "r_precision")


def load_vectors(folder):
    """The Codes or Floats that a run has saved.

    Args:
        folder: an OutputFolder.

    Raises:
        UserError: there are none yet, or the file is damaged.
    """
    found = _load(folder, "")
    if found is None:
        raise UserError(f"{folder} has no codes.npz yet; run: python evaluate.py {folder}")
    return found


def load_unseen(folder):
    """The Codes or Floats of people who are not in training; None if a run has none.

    Args:
        folder: an OutputFolder.

    Raises:
        UserError: the file is damaged.
    """
    return _load(folder, UNSEEN)


def _load(folder, prefix):
    for kind, load in ((Codes, load_codes), (floats.Floats, floats.load_floats)):
        path = folder.path / (prefix + kind.file_name)
        if path.exists():
            try:
                return load(path)
            except UserError as error:
                raise UserError(f"{error}; evaluate the run again: python evaluate.py {folder}")
    return None


def evaluate(vectors, **options):
    """The metrics.Evaluation of Codes or Floats; options are those of metrics.evaluate_codes."""
    if isinstance(vectors, Codes):
        return metrics.evaluate_codes(vectors, **options)
    return floats.evaluate_floats(vectors, **options)


def precision_recall_at(vectors, ranks):
    """Expected macro precision and recall of the first N ranks; see metrics.precision_recall_at."""
    blocks = ([count_distances(vectors)] if isinstance(vectors, Codes)
              else floats.ranked_blocks(vectors, floats.cosine_distances))
    found = [np.multiply(metrics.precision_recall_at(counts, ranks), len(counts.items))
             for counts in blocks]
    return tuple(np.sum(found, axis=0) / len(vectors.query_labels))


def distances_of(vectors, query):
    """The distance of one query to every gallery item: Hamming, or cosine of Floats.

    Args:
        vectors: Codes or Floats.
        query: the query's index.

    Returns:
        int or float64 [N].
    """
    if not isinstance(vectors, Codes):
        return floats.cosine_distances(vectors.query_vectors[query:query + 1],
                                       vectors.gallery_vectors)[0]
    distances = np.count_nonzero(vectors.gallery_codes != vectors.query_codes[query], axis=1)
    return np.where(distances > 0, vectors.gallery_codes.shape[1], 0) if vectors.numbers \
        else distances


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
    evaluation = evaluate(codes, **options)
    evaluation.results.update(metadata)
    if unseen_codes is not None:
        evaluation.results.update(unseen_results(codes, unseen_codes))
        folder.write_arrays(UNSEEN + codes.file_name, **unseen_codes.arrays())
    evaluation.results["ranking_seconds"] = round(time.perf_counter() - started, 3)
    folder.write_arrays(codes.file_name, **codes.arrays())
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
    found = evaluate(unseen_codes).results
    results = {f"unseen_{name}": found[name] for name in UNSEEN_RESULTS if name in found}
    results.update(unseen_num_identities=len(np.unique(unseen_codes.gallery_labels)),
                   unseen_num_gallery=found["num_gallery"],
                   unseen_num_queries=found["num_queries"])
    results.update(open_set_results(codes, unseen_codes))
    return results
