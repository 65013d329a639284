"""Time and peak memory of loading a data set of FaceScrub's size.

    python -m benchmarks.loading [uint8|float32]

Writes synthetic pixels in the real format (67,177 and 2,650 rows of 3,072 values, one file a split,
as Python 3 pickles of protocol 2) to a temporary folder, then loads them as main.py does, in a
process of its own.
"""

import multiprocessing
import pickle
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import data_loader
from config import DATASETS, find_dataset
from runtime.command_line import ArgumentParser, run_command


def write(folder, dtype):
    dataset = DATASETS[1]
    rng = np.random.RandomState(0)
    for name, count in ((dataset.train_folder, dataset.num_train),
                        (dataset.test_folder, dataset.num_test)):
        (Path(folder) / name).mkdir()
        rows = rng.randint(0, 256, (count, data_loader.ROW_LENGTH), np.uint8).astype(dtype)
        labels = np.arange(count) % dataset.num_identities
        with open(Path(folder) / name / "part", "wb") as stream:
            pickle.dump((rows, labels), stream, protocol=2)


def load(folder):
    started = time.perf_counter()
    train, test = data_loader.load_dataset(find_dataset(1, folder))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = (train.images.nbytes + test.images.nbytes) / 1024 ** 3
    print(f"{len(train.labels)} and {len(test.labels)} images in {seconds:.1f} s, peak memory "
          f"{peak / 1024 ** 2:.2f} GB; the arrays hold {held:.2f} GB")


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dtype", nargs="?", choices=("uint8", "float32"), default="uint8")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for target, given in ((write, (folder, options.dtype)), (load, (folder,))):
            process = multiprocessing.get_context("spawn").Process(target=target, args=given)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit("failed")


if __name__ == "__main__":
    run_command(main)
