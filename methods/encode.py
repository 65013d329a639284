"""Images -> codes of a run's gallery and queries, by its weights."""

import time

from config import METHODS, Config
from evaluation.codes import signs
from methods.features import TrainedNetwork, encode_features, run_network
from methods.projections import (
    codes_of,
    encode_projected,
    open_run,
    run_metadata,
    training_metadata,
)
from methods.trained_run import open_trained_run
from runtime.tensorflow import device_line, make_session
from training.checkpoints import restore_best
from training.graph import build_inference_graph


def encode(network, session, images, batch_size):
    """Codes of images, each once and in order (deviation f: the release loses some).

    Args:
        network: a model.Network built for inference.
        session: a tf.Session with its weights.
        images: float32 [n, 32, 32, 3], normalised; or what else the method is given; n >= 1.
        batch_size: images a session run.

    Returns:
        int8 [n, K], -1 or +1.
    """
    return signs(run_network(session, network, network.code_activations, images, batch_size))


def encode_splits(network, session, config, dataset, train, test, unseen=None):
    """Codes of both splits, and of the people that are never seen; the training set is the gallery.

    Args:
        network, session: see encode.
        config, dataset: the run's Config and Dataset.
        train, test: data_loader.ImageSets.
        unseen: (gallery, queries) of people never seen, two ImageSets, or None.

    Returns:
        (codes, unseen_codes, metadata): Codes; Codes, or None; an OrderedDict of plain values for
        results.json.
    """
    def encoded(images):
        return encode(network, session, images, config.encode_batch_size)

    method = METHODS[config.method]
    started = time.perf_counter()
    codes = codes_of(method, train, test, encoded)
    seconds = round(time.perf_counter() - started, 3)
    return codes, unseen and codes_of(method, *unseen, encode=encoded), run_metadata(
        config, dataset, encoding_seconds=seconds)


def encode_run(folder, data_dir=None):
    """Codes of a run's gallery and queries, from its best checkpoint; training may be going on.

    A projection has no checkpoint: it is fitted again. What is made of another run's features takes
    that run's checkpoint.

    Args:
        folder, data_dir: see open_run.

    Returns:
        (data, codes, unseen_codes, metadata): see open_run and encode_splits.

    Raises:
        UserError: no checkpoint yet, or a damaged one; see also open_run.
    """
    method = METHODS[Config.recorded(folder.read_settings()).method]
    if method.features:
        folder.checkpoint("best")  # before the long work: is there one?
    data = open_run(folder, data_dir)
    images = data.config, data.dataset, data.train, data.test, data.unseen
    if method.inputs == "features":
        trained = open_trained_run(data.config, data.dataset, data.digest, folder)
        with TrainedNetwork(trained, data.dataset.num_identities) as network:
            print(network.device, flush=True)
            return (data,) + encode_features(network, *images)
    if not method.features:
        return (data,) + encode_projected(*images)
    graph = build_inference_graph(data.config)
    with make_session(graph.graph) as session:
        print(device_line(session), flush=True)
        state, num_parameters = restore_best(graph, session, folder)
        codes, unseen_codes, metadata = encode_splits(graph.inference, session, *images)
    metadata.update(training_metadata(folder, state, num_parameters))
    return data, codes, unseen_codes, metadata
