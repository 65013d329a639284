"""Images -> codes, with the weights of a session, of a run's best checkpoint, or by a baseline."""

import time
from collections import OrderedDict

import numpy as np

import data_loader
import model
from config import SHALLOW_METHODS
from retrieval import baselines
from retrieval.metrics import Codes
from runtime.errors import UserError
from runtime.tensorflow_setup import device_line, make_session
from training import loop as training


def encode(network, session, images, batch_size):
    """Codes of images, each once and in order.

    Args:
        network: a model.Network built for inference.
        session: a tf.Session with its weights.
        images: float32 [n, 32, 32, 3], normalised.
        batch_size: images a session run.

    Returns:
        int8 [n, K], -1 or +1.
    """
    return np.concatenate([
        model.codes_from_activations(session.run(
            network.hash_activations, {network.images: images[start:start + batch_size]}))
        for start in range(0, len(images), batch_size)])


def encode_splits(network, session, train, test, batch_size):
    """Codes of both splits (data_loader.ImageSets): the training set is the gallery."""
    return Codes(encode(network, session, train.images, batch_size), train.labels,
                 encode(network, session, test.images, batch_size), test.labels,
                 train.fingerprints, test.fingerprints)


def encode_trained(graph, session, folder, train, test, state):
    """Codes of both splits by a session's weights, and what results.json says of them.

    Args:
        graph: a training.TrainingGraph.
        session: a tf.Session with its weights.
        folder: the RunFolder that they come from.
        train, test: data_loader.ImageSets.
        state: dict with best_epoch, the epoch whose weights these are, and epoch, the number of
            finished ones.

    Returns:
        (Codes, facts): facts is an OrderedDict of plain values.
    """
    config = folder.read_config()
    started = time.perf_counter()
    codes = encode_splits(graph.inference, session, train, test, config.encode_batch_size)
    encoding_seconds = time.perf_counter() - started
    training_seconds = sum(row["seconds"] for row in folder.read_history())
    return codes, OrderedDict([
        ("dataset", config.dataset.name), ("method", config.method),
        ("epoch", state["best_epoch"]), ("trained_epochs", state["epoch"]),
        ("parameters", graph.num_parameters), ("training_seconds", round(training_seconds, 3)),
        ("encoding_seconds", round(encoding_seconds, 3))])


def encode_projected(config, train, test):
    """Fits the baseline that `config` names; codes and facts as of encode_trained."""
    started = time.perf_counter()
    projection = baselines.fit(config.method, train.images, config.num_bits, config.seed)
    fitted = time.perf_counter()
    gallery, queries = [projection.encode(split.images) for split in (train, test)]
    encoded = time.perf_counter()
    return Codes(gallery, train.labels, queries, test.labels,
                 train.fingerprints, test.fingerprints), OrderedDict([
        ("dataset", config.dataset.name), ("method", config.method),
        ("parameters", projection.columns.size + projection.mean.size),
        ("training_seconds", round(fitted - started, 3)),
        ("encoding_seconds", round(encoded - fitted, 3))])


def encode_run(folder):
    """Codes of a run's gallery and queries, from its best checkpoint; training may be going on.

    A baseline has no checkpoint: it is fitted again.

    Args:
        folder: a RunFolder.

    Returns:
        (codes, facts, train, test): see encode_trained; train and test are ImageSets.

    Raises:
        UserError: no checkpoint yet, or a damaged one; see also data_loader.load_dataset.
    """
    config = folder.read_config()
    projected = config.method in SHALLOW_METHODS
    if not projected:
        folder.checkpoint("best")  # before the long work: is there one?
    train, test = data_loader.load_dataset(config)
    folder.check_data(data_loader.data_digest(train, test))
    if projected:
        return encode_projected(config, train, test) + (train, test)
    graph = training.build_training_graph(config, config.dataset.num_identities)
    with make_session(graph.graph) as session:
        print(device_line(session), flush=True)
        state = _restore_best(graph, session, folder)
        return encode_trained(graph, session, folder, train, test, state) + (train, test)


def _restore_best(graph, session, folder):
    """Restores `best`, which a training process may replace between our reads of its files."""
    while True:
        prefix, _ = folder.checkpoint("best")
        try:
            return training.restore(graph, session, folder, "best")
        except UserError:
            if folder.checkpoint("best")[0] == prefix:  # nobody replaced it: it is damaged
                raise
