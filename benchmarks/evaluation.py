"""Time and memory of the whole evaluation at the paper's sizes, against a naive double loop.

    python -m benchmarks.evaluation

Codes are random (nearly all distinct: the hardest case) or collapsed to few distinct ones, as
trained codes are. The naive loop compares a query with every gallery item and walks down the
ranking; it is timed on a slice of the queries in the same run and scaled, and its mAP on that slice
is checked to lie within the bounds we compute. Each case runs in a process of its own, so that its
peak memory is its own.
"""

import multiprocessing
import resource
import time

import numpy as np

from evaluation import metrics
from evaluation.codes import checked_codes
from runtime.command_line import ArgumentParser, run_command

SIZES = (("FaceScrub", 67177, 2650, 530), ("YouTube Faces", 63800, 7975, 1595))
NUM_BITS = 48
NAIVE_QUERIES = 4


def make_codes(num_gallery, num_queries, num_classes, collapsed):
    """Random codes; collapsed: one code a class with few bits flipped at random."""
    rng = np.random.RandomState(0)
    labels = [rng.randint(0, num_classes, count) for count in (num_gallery, num_queries)]
    if collapsed:
        prototypes = rng.randint(0, 2, (num_classes, NUM_BITS))
        bits = [prototypes[split] ^ (rng.rand(len(split), NUM_BITS) < 0.002) for split in labels]
    else:
        bits = [rng.randint(0, 2, (len(split), NUM_BITS)) for split in labels]
    gallery, queries = [(split * 2 - 1).astype(np.int8) for split in bits]
    return checked_codes(gallery, labels[0], queries, labels[1])


def naive_map(codes, num_queries):
    """mAP of the first queries, the plain way; whole numbers stand for codes."""
    powers = 1 << np.arange(NUM_BITS, dtype=np.int64)
    gallery = ((codes.gallery_codes > 0) @ powers).tolist()
    queries = ((codes.query_codes[:num_queries] > 0) @ powers).tolist()
    gallery_labels, total = codes.gallery_labels.tolist(), 0.0
    for query, label in zip(queries, codes.query_labels.tolist()):
        distances = [bin(query ^ item).count("1") for item in gallery]
        order = sorted(range(len(gallery)), key=distances.__getitem__)
        hits, precisions = 0, 0.0
        for rank, item in enumerate(order, 1):
            if gallery_labels[item] == label:
                hits += 1
                precisions += hits / rank
        total += precisions / max(hits, 1)
    return total / num_queries


def run_case(name, num_gallery, num_queries, num_classes, collapsed, results):
    codes = make_codes(num_gallery, num_queries, num_classes, collapsed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        evaluation = metrics.evaluate_codes(codes)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    naive = naive_map(codes, NAIVE_QUERIES)
    naive_seconds = (time.perf_counter() - started) * num_queries / NAIVE_QUERIES
    bounds = evaluation.average_precision
    low, high = (part[:NAIVE_QUERIES].mean() for part in (bounds.worst_case, bounds.best_case))
    assert low - 1e-12 <= naive <= high + 1e-12, (low, naive, high)
    median, kind = sorted(seconds)[1], "collapsed" if collapsed else "random"
    all_seconds = " ".join(f"{value:.2f}" for value in sorted(seconds))
    results.put(f"{name:14} {kind:9} {median:8.2f} s (of 3: {all_seconds})  naive "
                f"{naive_seconds:6.0f} s, {naive_seconds / median:5.0f} times as long  peak "
                f"{peak / 1024:4.0f} MB, {before / 1024:.0f} of it before")


def main(arguments):
    ArgumentParser(description=__doc__).parse_args(arguments)
    print(f"{NUM_BITS} bits, whole evaluation: all metrics and curves, without the authors' one")
    for size in SIZES:
        for collapsed in (False, True):
            results = multiprocessing.Queue()
            process = multiprocessing.Process(target=run_case, args=size + (collapsed, results))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"failed: {size[0]}")
            print(results.get(), flush=True)


if __name__ == "__main__":
    run_command(main)
