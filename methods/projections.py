"""A run's data, and codes of it by a fitted projection, or its embeddings. Needs no TensorFlow."""

import time
from collections import OrderedDict

from config import METHODS, Config, implementation, resolve
from data_loader import given_to
from evaluation.codes import Codes
from evaluation.floats import Floats
from methods.run_data import load_run_data


def open_run(folder, data_dir=None):
    """The settings and the data of a run, as it was trained: a methods.run_data.RunData.

    Args:
        folder: a RunFolder.
        data_dir: folder of the data sets where it has moved since; by default the run's own.

    Raises:
        UserError: the data is not the run's, or missing, or damaged.
    """
    values = Config.recorded(folder.read_settings()).to_dict()
    if data_dir is not None:
        values["data_dir"] = data_dir
    data = load_run_data(*resolve(values))
    folder.check_data(data.digest)
    return data


def encode_projected(config, dataset, train, test, unseen=None):
    """Fits the projection that `config` names; returns what encode.encode_splits does.

    Where the method compares what it is given as it is, as floats, nothing is fitted.
    """
    method = METHODS[config.method]
    if method.floats:
        return floats_of(method, train, test), unseen and floats_of(method, *unseen), run_metadata(
            config, dataset, training_seconds=0.0, encoding_seconds=0.0)
    started = time.perf_counter()
    projection = implementation(method.fit)(
        given_to(method, train).images, config.num_bits, config.seed)
    fitted = time.perf_counter()
    codes = codes_of(method, train, test, projection.encode)
    encoded = time.perf_counter()
    return codes, unseen and codes_of(method, *unseen, encode=projection.encode), run_metadata(
        config, dataset, parameters=projection.columns.size + projection.mean.size,
        training_seconds=round(fitted - started, 3), encoding_seconds=round(encoded - fitted, 3))


def codes_of(method, gallery, queries, encode):
    """The Codes of two ImageSets.

    Args:
        method: a config.Method.
        gallery, queries: ImageSets.
        encode: function of what the method is given of n images to codes, int8 [n, K].
    """
    gallery, queries = given_to(method, gallery), given_to(method, queries)
    return Codes(encode(gallery.images), gallery.labels, encode(queries.images), queries.labels,
                 gallery.fingerprints, queries.fingerprints)


def floats_of(method, gallery, queries):
    """The Floats of two ImageSets: what a method is given of each image."""
    return Floats(given_to(method, gallery).images, gallery.labels,
                  given_to(method, queries).images, queries.labels,
                  gallery.fingerprints, queries.fingerprints)


def run_metadata(config, dataset, **values):
    """What results.json says of the run behind some codes: an OrderedDict of plain values."""
    return OrderedDict([("dataset", dataset.name), ("method", config.method)], **values)


def training_metadata(folder, state, num_parameters):
    """What results.json says of the training behind some weights.

    Args:
        folder: the RunFolder.
        state: dict saved with the weights (training.loop.Progress).
        num_parameters: trainable values, centers included.

    Returns:
        An OrderedDict of plain values.
    """
    rows = folder.read_history()
    seconds = sum(row["seconds"] for row in rows) + (state.get("seconds") or 0.0)
    trained = max([int(row["epoch"]) for row in rows] + [state["epoch"]])
    return OrderedDict(epoch=state["best_epoch"], trained_epochs=trained,
                       parameters=num_parameters, training_seconds=round(seconds, 3))
