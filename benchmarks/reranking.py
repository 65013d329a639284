"""Codes find, floats decide: how many faces the codes must give, and what the ranking is worth.

    python prepare.py --source lfw --images LFW --name lfw10 --crop detect --embedding
    python -m benchmarks.reranking data/lfw10 --bits 48 64 128

Faces have no names here: hashing is fitted on all faces of the data set. --queries of them, drawn
at random, are ranked against all others. With --faces N the gallery has N faces: the data set's,
and others that are drawn from a normal distribution with the mean and the covariance of theirs.
Lines of JSON: exact floats and float16; then for each length and way of hashing the codes alone,
and by the number of candidates that are ranked again mAP, top-1, and recall: of the nearest, of the
ten nearest, and of all faces within some distances.
"""

import json
import time
from pathlib import Path

import numpy as np

from benchmarks.strangers import read_data_set
from evaluation import packing
from evaluation.codes import signs
from evaluation.floats import nearest, unit_vectors
from methods.projection import fit_itq, fit_lsh
from runtime.command_line import ArgumentParser, run_command

CANDIDATES = (50, 100, 200, 300, 500, 700, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
TOP = 10  # exact answers that the candidates should hold
WITHIN = (0.03, 0.045, 0.06)  # cosine distances
AT_ONCE = 1 << 16  # faces
FITS = {"itq": fit_itq, "random": fit_lsh}


def packed_words(codes):
    """Codes of any length, int8 [n, K] of -1 and +1: list of uint64 [n], 64 bits each."""
    return [packing.pack(codes[:, start:start + packing.MAX_BITS])
            for start in range(0, codes.shape[1], packing.MAX_BITS)]


def drawn_like(embeddings, count, rng):
    """So many vectors from a normal distribution with the mean and covariance of others."""
    factor = np.linalg.cholesky(np.cov(embeddings.T)).T.astype(np.float32)
    drawn = np.empty((count, embeddings.shape[1]), np.float32)
    for start in range(0, count, AT_ONCE):
        part = drawn[start:start + AT_ONCE]
        part[:] = rng.standard_normal(part.shape).astype(np.float32).dot(factor)
    return drawn + embeddings.mean(axis=0)


def average_precision(relevant):
    """Of one ranking, bool [n]."""
    ranks = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def main(arguments):
    """Prints the lines."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="data/NAME, prepared with --embedding")
    parser.add_argument("--bits", type=int, nargs="+", default=[48, 64, 128])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--faces", type=int, default=0, help="of the gallery (the data set's)")
    parser.add_argument("--fitted_on", type=int, default=0, help="faces, at random (all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    embeddings, labels = read_data_set(options.folder)
    rng = np.random.RandomState(options.seed)
    queries = rng.permutation(len(labels))[:options.queries]
    more = max(options.faces - len(labels), 0)
    if more:
        embeddings = np.concatenate([embeddings, drawn_like(embeddings, more, rng)])
        labels = np.concatenate([labels, np.full(more, -1)])
    gallery = unit_vectors(embeddings)
    exact, precisions, right = [], [], []
    half, half_precisions, half_right = unit_vectors(embeddings.astype(np.float16)), [], []
    started = time.perf_counter()
    for query in queries:
        exact.append(ranking(gallery, query, TOP))
    milliseconds = 1000 * (time.perf_counter() - started) / len(queries)
    for query in queries:
        for vectors, scores, first in ((gallery, precisions, right),
                                       (half, half_precisions, half_right)):
            relevant = labels[full_ranking(1 - vectors.dot(vectors[query]), query)] == labels[query]
            scores.append(average_precision(relevant))
            first.append(relevant[0])
    print(json.dumps({"faces": len(gallery), "queries": len(queries), "ms_exact": milliseconds,
                      "exact": [np.mean(precisions), np.mean(right)],
                      "float16": [np.mean(half_precisions), np.mean(half_right)]}), flush=True)
    fitted = embeddings
    if options.fitted_on:
        fitted = embeddings[rng.permutation(len(embeddings))[:options.fitted_on]]
    for bits in options.bits:
        for name, fit in FITS.items():
            if name == "itq" and len(fitted) <= bits:
                continue
            print(json.dumps({"bits": bits, "hashing": name, "fitted_on": len(fitted),
                              **by_candidates(gallery, fit(fitted, bits, options.seed), embeddings,
                                              labels, queries, np.array(exact))}), flush=True)


def rerank(query, gallery, candidates, count):
    """The nearest among some faces of a gallery.

    Args:
        query, gallery: float32 [D] and [n, D], of unit_vectors.
        candidates: int [N], rows of the gallery, each once.
        count: how many, at least 1.

    Returns:
        int64 [min(count, N)], rows of the gallery.
    """
    candidates = np.sort(candidates)
    rows, _ = nearest(query[None], gallery[candidates], count)
    return candidates[rows[0]]


def full_ranking(distances, query):
    """All faces but the query, the nearest first."""
    order = np.argsort(distances, kind="stable")
    return order[order != query]


def ranking(gallery, query, count):
    """The nearest faces of a query of the gallery, itself left out."""
    rows, _ = nearest(gallery[query][None], gallery, count + 1)
    return rows[0][rows[0] != query][:count]


def by_candidates(gallery, projection, embeddings, labels, queries, exact):
    """mAP and top-1 of codes alone; recall, mAP and top-1 by the number of candidates.

    Candidates are the nearest by Hamming distance, and of codes of one word also by what the
    query's code is made of (packing.weighted_distances).
    """
    activations = projection.project(embeddings).astype(np.float32)
    words = packed_words(signs(activations))

    def hamming(query):
        return sum(packing.distances(word, word[query]) for word in words)

    def weighted(query):
        return packing.weighted_distances(activations[query], words[0])

    counts = [count for count in CANDIDATES if count < len(gallery)]
    found = {}
    for ranked_by in (hamming, weighted)[:1 if len(words) > 1 else 2]:
        alone, ranked = [], {count: [] for count in counts}
        for query, answers in zip(queries, exact):
            order = full_ranking(ranked_by(query), query)
            relevant = labels[order] == labels[query]
            alone.append((average_precision(relevant), relevant[0]))
            apart = 1 - gallery.dot(gallery[query])
            apart[query] = np.inf
            for count in counts:
                first = order[:count]
                rows = rerank(gallery[query], gallery, first, count)
                relevant = labels[np.concatenate([rows, order[count:]])] == labels[query]
                ranked[count].append((
                    average_precision(relevant), relevant[0], float(answers[0] in first),
                    np.isin(answers, first).mean(),
                    *(_share(apart[first] <= far, apart <= far) for far in WITHIN)))
        names = ("mAP", "top-1", "recall of 1", f"of {TOP}", *(f"within {far}" for far in WITHIN))
        found[ranked_by.__name__] = {
            "codes alone": np.mean(alone, axis=0).round(4).tolist(), "candidates": {
                count: dict(zip(names, np.nanmean(values, axis=0).round(4).tolist()))
                for count, values in ranked.items()}}
    return found


def _share(some, whole):
    """How many of the true values of `whole` are among `some`; nan where there are none."""
    return np.count_nonzero(some) / np.count_nonzero(whole) if whole.any() else np.nan


if __name__ == "__main__":
    run_command(main)
