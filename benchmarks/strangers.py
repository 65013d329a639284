"""Measures how often strangers are named, for evaluation/strangers.json.

    python prepare.py --source lfw --images LFW --name lfw10 --crop detect --embedding
    python -m benchmarks.strangers data/lfw10 --out evaluation/strangers.json

Of the data set's faces only counts and rates are kept. It takes a minute.
"""

import csv
import json
from pathlib import Path

import numpy as np

from evaluation.strangers import GROUPS, measure
from faces.embedding import read_embeddings
from runtime.command_line import ArgumentParser, run_command

DISTANCES = np.round(np.arange(0.02, 0.0801, 0.0025), 4)
SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
KNOWN_SIZES = (1, 2, 3, 5, 9)


def read_data_set(folder):
    """A prepared data set's embeddings of both splits, and whose they are.

    Args:
        folder: Path of data/NAME.

    Returns:
        (embeddings, labels): float32 [n, 128], int [n].
    """
    with open(folder / "images.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["row"]]
    splits = {}
    for row in rows:
        splits.setdefault(row["status"], {})[int(row["row"])] = int(row["label"])
    found = [(read_embeddings(folder / split, len(labels)), [labels[row] for row in sorted(labels)])
             for split, labels in sorted(splits.items())]
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def main(arguments):
    """Writes the file, and prints thresholds for galleries of several sizes."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="data/NAME, prepared with --embedding")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    embeddings, labels = read_data_set(options.folder)
    found = measure(embeddings, labels, DISTANCES, SIZES, KNOWN_SIZES)
    description = json.loads((options.folder / "manifest.json").read_text())["embedding"]
    rounded = {name: np.array([float(f"{value:.4g}") for value in np.ravel(values)]).reshape(
        np.shape(values)).tolist() for name, values in found.to_json().items()}
    values = {"about": "Rates at which strangers are named and known people found, by cosine "
                       "distance; see evaluation/strangers.py.",
              "network_sha256": description["network_sha256"], "people": len(set(labels.tolist())),
              "faces": len(labels), "groups_of_the_jackknife": GROUPS, **rounded}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in values.items()]
    options.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for faces in (100, 300, 1000, 3000, 10000, 100000):
        threshold = found.threshold(faces)
        rate = found.rate(threshold, faces)
        print(f"{faces:7,} faces: threshold {threshold:.4f}, strangers named {rate.rate:.4f} "
              f"({rate.low:.4f} to {rate.high:.4f}), known people found "
              + ", ".join(f"{value:.3f} ({size})" for value, size in zip(found.known(threshold),
                                                                      KNOWN_SIZES)))


if __name__ == "__main__":
    run_command(main)
