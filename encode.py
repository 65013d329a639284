"""Images -> codes, with the weights of a session or of a run's best checkpoint."""

import numpy as np

import data_loader
import model
import training
from config import UserError
from metrics import Codes
from tensorflow_setup import device_line, make_session


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


def encode_run(folder):
    """Codes of a run's gallery and queries, from its best checkpoint; training may be going on.

    Args:
        folder: a RunFolder.

    Returns:
        (codes, state, train, test): Codes, the state kept with the checkpoint, two ImageSets.

    Raises:
        UserError: no checkpoint yet, or a damaged one; see also data_loader.load_dataset.
    """
    config = folder.read_config()
    folder.checkpoint("best")  # before the long work: is there one?
    train, test = data_loader.load_dataset(config)
    folder.check_data(data_loader.data_digest(train, test))
    graph = training.build_training_graph(config, config.dataset.num_identities)
    with make_session(graph.graph) as session:
        print(device_line(session), flush=True)
        state = _restore_best(graph, session, folder)
        codes = encode_splits(graph.inference, session, train, test, config.encode_batch_size)
    return codes, state, train, test


def _restore_best(graph, session, folder):
    """Restores `best`, which a training process may replace between our reads of its files."""
    while True:
        prefix, _ = folder.checkpoint("best")
        try:
            return training.restore(graph, session, folder, "best")
        except UserError:
            if folder.checkpoint("best")[0] == prefix:  # nobody replaced it: it is damaged
                raise
