"""A run's data, and codes of its images by a fitted projection. Needs no TensorFlow."""

import time
from collections import OrderedDict

import data_loader
from config import METHODS, Config, find_dataset, implementation
from retrieval.codes import Codes


def open_run(folder, data_dir=None):
    """The settings and the data of a run, as it was trained.

    Args:
        folder: a RunFolder.
        data_dir: folder of the data sets where it has moved since; by default the run's own.

    Returns:
        (config, dataset, train, test): Config, Dataset and two ImageSets.

    Raises:
        UserError: the data is not the run's, or missing, or damaged.
    """
    values = folder.read_settings()
    if data_dir is not None:
        values["data_dir"] = data_dir
    config = Config.from_dict(values)
    dataset = find_dataset(config.dataset_flag, config.data_dir)
    train, test = data_loader.load_dataset(dataset)
    folder.check_data(data_loader.data_digest(train, test))
    return config.for_dataset(dataset), dataset, train, test


def encode_projected(config, dataset, train, test):
    """Fits the projection that `config` names; (Codes, metadata) as of encode_splits."""
    started = time.perf_counter()
    projection = implementation(METHODS[config.method].fit)(
        train.images, config.num_bits, config.seed)
    fitted = time.perf_counter()
    gallery, queries = [projection.encode(split.images) for split in (train, test)]
    encoded = time.perf_counter()
    codes = Codes(gallery, train.labels, queries, test.labels,
                  train.fingerprints, test.fingerprints)
    return codes, run_metadata(
        config, dataset, parameters=projection.columns.size + projection.mean.size,
        training_seconds=round(fitted - started, 3), encoding_seconds=round(encoded - fitted, 3))


def run_metadata(config, dataset, **values):
    """What results.json says of the run behind some codes: an OrderedDict of plain values."""
    return OrderedDict([("dataset", dataset.name), ("method", config.method)], **values)
