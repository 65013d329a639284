"""Codes find, floats decide: how many faces the codes must give, and what the ranking is worth.

    python prepare.py --source lfw --images LFW --name lfw10 --crop detect --embedding
    python -m benchmarks.reranking data/lfw10 --bits 48 64 128

Faces have no names here: hashing is fitted on all faces of the data set. --queries of them, drawn
at random, are ranked against all others. With --faces N the gallery has N faces: the data set's,
and others that are drawn from a normal distribution with the mean and the covariance of theirs.
One line of JSON each: exact floats, float16, then for each length and way of hashing the codes
alone, and recall and mAP by the number of candidates that are ranked again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.strangers import read_data_set
from evaluation import packing
from evaluation.nearest import candidate_recall, nearest, rerank, unit_vectors
from methods.projection import fit_itq, fit_lsh

CANDIDATES = (50, 100, 200, 300, 500, 700, 1000, 2000, 5000, 10000)
TOP = 10  # exact answers that the candidates should hold
FITS = {"itq": fit_itq, "random": fit_lsh}


def hamming_distances(query, codes):
    """Distances of codes of any length: int8 [K], [n, K] of -1 and +1 -> int32 [n]."""
    bits = len(query)
    return sum(packing.distances(packing.pack(query[None, start:start + packing.MAX_BITS]),
                                 packing.pack(codes[:, start:start + packing.MAX_BITS]))
               for start in range(0, bits, packing.MAX_BITS))


def average_precision(relevant):
    """Of one ranking, bool [n]."""
    ranks = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def main(arguments=None):
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
        drawn = rng.multivariate_normal(embeddings.mean(axis=0), np.cov(embeddings.T), more)
        embeddings = np.concatenate([embeddings, drawn.astype(np.float32)])
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
            codes = fit(fitted, bits, options.seed).encode(embeddings)
            print(json.dumps({"bits": bits, "hashing": name, "fitted_on": len(fitted),
                              **by_candidates(gallery, codes, labels, queries, np.array(exact))}),
                  flush=True)


def full_ranking(distances, query):
    """All faces but the query, the nearest first."""
    order = np.argsort(distances, kind="stable")
    return order[order != query]


def ranking(gallery, query, count):
    """The nearest faces of a query of the gallery, itself left out."""
    rows, _ = nearest(gallery[query][None], gallery, count + 1)
    return rows[0][rows[0] != query][:count]


def by_candidates(gallery, codes, labels, queries, exact):
    """mAP and top-1 of codes alone; recall, mAP and top-1 by the number of candidates."""
    counts = [count for count in CANDIDATES if count < len(gallery)]
    alone, ranked = [], {count: [] for count in counts}
    for query, answers in zip(queries, exact):
        order = full_ranking(hamming_distances(codes[query], codes), query)
        relevant = labels[order] == labels[query]
        alone.append((average_precision(relevant), relevant[0]))
        for count in counts:
            rows, _ = rerank(gallery[query], gallery, order[:count], count)
            relevant = labels[np.concatenate([rows, order[count:]])] == labels[query]
            ranked[count].append((candidate_recall(order[None, :count], answers[None])[0],
                                  float(answers[0] in order[:count]),
                                  average_precision(relevant), relevant[0]))
    return {"codes": np.mean(alone, axis=0).round(4).tolist(),
            "candidates: recall of 10, of 1, mAP, top-1": {
                count: np.mean(values, axis=0).round(4).tolist()
                for count, values in ranked.items()}}


if __name__ == "__main__":
    main()
