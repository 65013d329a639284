"""Images/s of training and of encoding, here and in other environments, in alternating runs.

    python -m benchmarks.speed                                  this environment alone
    python -m benchmarks.speed --compute_dtype bfloat16 --peer float32 torch torch-bfloat16
    python -m benchmarks.speed --peer .venv/bin/python torch    and another TensorFlow

Each run is a process of its own; the environments take turns, and a ratio is the median over rounds
of this environment's rate to a peer's; on a busy machine that of the best rounds says more. Peers
are other Pythons with TensorFlow, "float32" (this environment without bfloat16), "torch" and
"torch-bfloat16" (autocast). PyTorch's network is the same one (channels-last, inference mode for
encoding) with the same losses, centers' rule and Adam; it is installed into .venv-torch and is no
requirement of anything.
"""

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np

from runtime.command_line import ArgumentParser, run_command
from runtime.provenance import ROOT

NUM_BITS, BLOCK_LENGTH, NUM_CLASSES = 48, 6, 530
CASES = [(task, batch) for task in ("training", "encoding") for batch in (64, 256)]


def inputs(batch):
    rng = np.random.RandomState(0)
    images = np.clip(0.1 * rng.standard_normal((batch, 32, 32, 3)), -1, 1).astype(np.float32)
    return images, rng.randint(0, NUM_CLASSES, batch)


def rate(step, batch, seconds):
    """Images/s of calling step() again and again for about so many seconds, after a warm-up."""
    step()
    step()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        count += batch
    return count / (time.perf_counter() - started)


# TensorFlow: the project's own graph, as main.py and evaluate.py run it


def tensorflow_step(task, batch, compute_dtype):
    from config import Config
    from evaluation.codes import signs
    from runtime.tensorflow import make_session
    from training.graph import build_step_graph, run_network

    config = Config(dataset_flag=1, num_bits=NUM_BITS, encode_batch_size=batch,
                    compute_dtype=compute_dtype)
    graph = build_step_graph(config, NUM_CLASSES)
    session = make_session(graph.graph)
    session.run(graph.initialize)
    images, labels = inputs(batch)
    if task == "training":
        return lambda: session.run((graph.step, graph.losses, graph.accuracy),
                                   {graph.images: images, graph.labels: labels})
    network = graph.inference
    return lambda: signs(run_network(session, network, network.code_activations, images, batch))


# PyTorch


def torch_network():
    """The network's convolutional part, descriptor and classifiers as PyTorch modules."""
    from torch import nn

    groups, channels = nn.ModuleList(), 3
    for widths in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512)):
        layers = []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False),
                       nn.BatchNorm2d(width, eps=0.001, momentum=0.1), nn.ReLU(inplace=True)]
            channels = width
        groups.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    size = NUM_BITS * BLOCK_LENGTH
    descriptor = nn.Sequential(nn.Linear(768, size), nn.BatchNorm1d(size, eps=0.001), nn.ReLU())
    return nn.ModuleDict(dict(groups=groups, descriptor=descriptor,
                              hash_classifier=nn.Linear(NUM_BITS, NUM_CLASSES),
                              descriptor_classifier=nn.Linear(size, NUM_CLASSES)))


def torch_forward(network, images):
    """(descriptor, hash activations) of images."""
    import torch

    outputs = []
    for group in network["groups"]:
        images = group(images)
        outputs.append(images)
    feature = torch.cat([outputs[3].mean((2, 3)), outputs[2].mean((2, 3))], 1)
    descriptor = network["descriptor"](feature)
    blocks = descriptor.view(-1, NUM_BITS, BLOCK_LENGTH)
    return descriptor, torch.tanh(torch.softmax(blocks, 2).amax(2) - 0.5)


def torch_step(task, batch, compute_dtype):
    import torch
    from torch.nn import functional

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=compute_dtype == "bfloat16")

    torch.manual_seed(0)
    network = torch_network().to(memory_format=torch.channels_last)
    images, labels = inputs(batch)

    def feed():
        return torch.from_numpy(images).permute(0, 3, 1, 2)  # channels-last already

    if task == "encoding":
        network.eval()

        def encode_step():
            with torch.inference_mode(), autocast():
                return (torch_forward(network, feed())[1] >= 0).numpy().astype(np.int8) * 2 - 1
        return encode_step

    centers = torch.nn.Parameter(torch.randn(NUM_CLASSES, NUM_BITS * BLOCK_LENGTH) * 0.1)
    optimizer = torch.optim.Adam(list(network.parameters()) + [centers], lr=0.001)

    def train_step():
        targets = torch.from_numpy(labels)
        with autocast():
            descriptor, activations = torch_forward(network, feed())
            logits = network["hash_classifier"](activations)
            terms = [functional.cross_entropy(logits, targets),
                     functional.cross_entropy(
                         network["descriptor_classifier"](descriptor), targets),
                     0.1 * (0.5 - activations.abs()).abs().mean(),
                     0.0001 * 0.5 * (descriptor - centers[targets]).square().sum()]
            total = sum(terms)
        accuracy = (logits.argmax(1) == targets).float().mean()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        with torch.no_grad():
            counts = (targets[:, None] == targets[None, :]).sum(1)
            moves = (centers[targets] - descriptor) / (1 + counts)[:, None]
            centers.index_add_(0, targets, -moves)
        optimizer.step()
        return [term.item() for term in terms] + [total.item(), accuracy.item()]
    return train_step


# Runs


def torch_python():
    """The interpreter of .venv-torch, made if need be."""
    python = ROOT / ".venv-torch/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "torch==2.13.0", "numpy==2.2.6"],
                       check=True)
    return str(python)


def measure(python, framework, compute_dtype, task, batch, seconds):
    """Images/s from a process of its own."""
    output = subprocess.run(
        [python, "-m", "benchmarks.speed", "--worker", framework, task, str(batch),
         "--compute_dtype", compute_dtype, "--seconds", str(seconds)], cwd=str(ROOT), check=True,
        stdout=subprocess.PIPE, universal_newlines=True).stdout
    return float(output.split()[-1])


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--peer", nargs="+", default=[], metavar="PEER",
                        help="float32, torch, torch-bfloat16, or another environment's Python")
    parser.add_argument("--compute_dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--peer_python", help="with --peer torch: a Python that has it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        framework, task, batch = given.worker[0], given.worker[1], int(given.worker[2])
        make = torch_step if framework == "torch" else tensorflow_step
        print(rate(make(task, batch, given.compute_dtype), batch, given.seconds))
        return
    environments = [(sys.executable, "tensorflow", given.compute_dtype)]
    for peer in given.peer:
        framework, _, dtype = peer.partition("-")
        if framework == "torch":
            environments.append((given.peer_python or torch_python(), "torch", dtype or "float32"))
        elif peer == "float32":
            environments.append((sys.executable, "tensorflow", peer))
        else:
            environments.append((peer, "tensorflow", given.compute_dtype))
    for task, batch in CASES:
        rounds = [[measure(*environment, task, batch, given.seconds)
                   for environment in environments] for _ in range(given.rounds)]
        rates, *others = zip(*rounds)
        line = f"{task}, batch {batch:3}: {statistics.median(rates):.1f} images/s"
        for peer, other in zip(given.peer, others):
            ratios = [ours / theirs for ours, theirs in zip(rates, other)]
            line += (f"; {peer} {statistics.median(other):.1f}, ratio "
                     f"{statistics.median(ratios):.2f} "
                     f"({' '.join(f'{ratio:.2f}' for ratio in ratios)}), of the best rounds "
                     f"{max(rates) / max(other):.2f}")
        print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
