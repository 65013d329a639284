"""The speed of training steps with several workers, compared with one.

    python -m benchmarks.distribution --num_workers 2 --batch_size 64 --rounds 3

Trains FaceScrub's network (48 bits, 530 people) on random images: as one worker with one thread on
one core, and as N workers with a thread and a core each, in turn. Each round prints images/s of
both for the same joint batch and for a batch N times as large, the seconds that the step's
collective calls take alone, and their share of the step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from config import ROOT, Config
from runtime.command_line import ArgumentParser, run_command

NUM_CLASSES = 530


def measure(batch_size, seconds):
    """In a worker: prints (images/s, seconds a step, seconds of its collective calls alone)."""
    import numpy as np

    from runtime.tensorflow import make_session, tf
    from training.distributed.cluster import WorkerSettings, read_cluster
    from training.graph import build_step_graph

    cluster = read_cluster(WorkerSettings())
    workers = None
    if cluster is not None:
        from training.distributed.coordination import Workers
        workers = Workers(cluster)
    rng = np.random.RandomState(0)
    images = np.clip(0.1 * rng.standard_normal((batch_size, 32, 32, 3)), -1, 1).astype(np.float32)
    labels = rng.randint(0, NUM_CLASSES, batch_size)
    graph = build_step_graph(Config(dataset_flag=1, batch_size=batch_size), NUM_CLASSES, workers)
    with graph.graph.as_default():
        local = tf.local_variables_initializer()
    session = workers.session(graph.graph) if workers else make_session(graph.graph)
    session.run((graph.initialize, local))
    run = session.run_jointly if workers else session.run
    feed = (graph.joint.feed(graph, images, labels, [0, 0]) if workers
            else {graph.images: images, graph.labels: labels})
    step = seconds_of(lambda: run((graph.step, graph.losses), feed), seconds, workers)
    alone = 0.0
    if workers:
        shapes = [gradient.shape.as_list() for gradient, _ in graph.gradients
                  if not isinstance(gradient, tf.IndexedSlices)]
        with tf.Graph().as_default() as calls, tf.device(workers.device):
            sums = workers.sum_all([tf.zeros(shape) for shape in shapes])
            rows = workers.gather(tf.zeros([-(-batch_size // workers.count), 2 * 288 + 1]))
            everything = tf.group(*(sums + [rows]))
        session = workers.session(calls)
        alone = seconds_of(lambda: session.run_jointly(everything), seconds / 2, workers)
    if workers is None or workers.index == 0:
        print(json.dumps([batch_size / step, step, alone]), flush=True)


def seconds_of(call, seconds, workers):
    """Median seconds of a call, the same number of times on all workers."""
    call()
    started = time.perf_counter()
    call()
    count = max(3, int(seconds / (time.perf_counter() - started)))
    if workers:
        count = workers.exchange(count)[0]
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def run(count, batch_size, seconds):
    """What worker 0 of `count` prints, each on a core of its own with one thread."""
    from training.distributed.cluster import free_addresses
    addresses, processes = free_addresses(count), []
    cores = sorted(os.sched_getaffinity(0))
    for index in range(count):
        environment = dict(os.environ, TF_CONFIG=json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}))
        core = cores[index % len(cores)]
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "benchmarks.distribution", "--worker", "--batch_size",
             str(batch_size), "--seconds", str(seconds)], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE if index == 0 else subprocess.DEVNULL,
            preexec_fn=lambda core=core: os.sched_setaffinity(0, [core])))
    answer = processes[0].communicate()[0]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a worker failed")
    return json.loads(answer.decode().splitlines()[-1])


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        from training.distributed.workers import end_at_once
        end_at_once(lambda: measure(options.batch_size, options.seconds))
    count, batch = options.num_workers, options.batch_size
    for number in range(1, options.rounds + 1):
        one = run(1, batch, options.seconds)
        same, larger = [run(count, size, options.seconds) for size in (batch, batch * count)]
        print(f"round {number}: 1 worker {one[0]:.1f} images/s; {count} workers: "
              f"{described(same, one, batch)}; {described(larger, one, batch * count)}", flush=True)


def described(many, one, batch_size):
    """Text on several workers' (images/s, seconds a step, seconds of calls)."""
    rate, step, calls = many
    return (f"batch of {batch_size}: {rate:.1f} images/s ({rate / one[0]:.2f}x), step {step:.2f} "
            f"s, collective calls alone {calls:.2f} s ({calls / step:.0%})")


if __name__ == "__main__":
    run_command(main)
