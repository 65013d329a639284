"""Images -> codes or floats by what a trained network makes of them.

Yardsticks for the codes of that network (docs/evaluation.md): its floats, unhashed; its descriptor,
hashed afterwards; the number of the class that its hash classifier gives. Dimensions: n images,
D descriptor size, K bits, C identities.
"""

import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from config import METHODS, implementation
from evaluation import floats
from evaluation.codes import Codes, number_codes
from methods.projections import run_metadata, training_metadata
from runtime.tensorflow import device_line, make_session
from training.checkpoints import restore_best
from training.graph import build_inference_graph


def run_network(session, network, tensors, images, batch_size):
    """Values of a network's tensors for images, each image once and in order.

    Args:
        session: a tf.Session with the network's weights.
        network: a model.Network built for inference.
        tensors: one of its tensors, [B, ...], or a tuple of them.
        images: float32 [n, 32, 32, 3], normalised; n >= 1.
        batch_size: images a session run.

    Returns:
        float32 [n, ...], or a tuple of them.
    """
    parts = [session.run(tensors, {network.images: images[start:start + batch_size]})
             for start in range(0, len(images), batch_size)]
    if isinstance(tensors, tuple):
        return tuple(map(np.concatenate, zip(*parts)))
    return np.concatenate(parts)


class Features(NamedTuple):
    """What a network makes of n images.

    Attributes:
        multi_scale_feature: float32 [n, 768]; see model.Network.
        descriptor: float32 [n, D].
        class_numbers: int64 [n], 0..C-1, of the hash classifier's highest logit.
    """

    multi_scale_feature: np.ndarray
    descriptor: np.ndarray
    class_numbers: np.ndarray


class TrainedNetwork:
    """The network of a finished run, with its best weights and its classifiers; a context manager.

    Args:
        run: a methods.trained_run.TrainedRun.
        num_classes: C of that run.

    Attributes:
        device: text, what it computes on.
        metadata: OrderedDict, what results.json says of its training (see training_metadata).
    """

    def __init__(self, run, num_classes):
        graph = build_inference_graph(run.config, num_classes)
        self._network, self._batch_size = graph.inference, run.config.encode_batch_size
        self.session = make_session(graph.graph)
        self.device = device_line(self.session)
        state, num_parameters = restore_best(graph, self.session, run.folder)
        self.metadata = training_metadata(run.folder, state, num_parameters)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def features(self, images):
        """The Features of images, float32 [n, 32, 32, 3], normalised; each once and in order."""
        network = self._network
        tensors = network.multi_scale_feature, network.descriptor, network.hash_logits
        feature, descriptor, logits = run_network(
            self.session, network, tensors, images, self._batch_size)
        return Features(feature, descriptor, np.argmax(logits, axis=1))


def encode_features(network, config, dataset, train, test, unseen=None):
    """What a method makes of a trained network's features of both splits.

    Args:
        network: a TrainedNetwork.
        config, dataset: the Config and Dataset of the run that takes its features.
        train, test, unseen: see encode.encode_splits.

    Returns:
        (codes, unseen_codes, metadata): see encode.encode_splits; Floats in place of Codes where
        the method compares floats.
    """
    started = time.perf_counter()
    splits = [train, test] + list(unseen or ())
    features = [network.features(split.images) for split in splits]
    encoded = time.perf_counter()
    metadata = run_metadata(config, dataset, **network.metadata)
    metadata.update(network_training_seconds=metadata["training_seconds"],
                    encoding_seconds=round(encoded - started, 3))
    pairs = [tuple(zip(splits, features))[first:first + 2] for first in range(0, len(splits), 2)]
    method = METHODS[config.method]
    if method.floats:
        found = [_floats_of(*pair) for pair in pairs]
        metadata.update(_parts(*pairs[0]))
    elif method.fit:
        projection = implementation(method.fit)(
            features[0].descriptor, config.num_bits, config.seed)
        metadata["training_seconds"] += round(time.perf_counter() - encoded, 3)
        metadata["parameters"] += projection.columns.size + projection.mean.size
        found = [_codes_of(*pair, encode=lambda made: projection.encode(made.descriptor))
                 for pair in pairs]
    else:
        found = [_codes_of(*pair, encode=lambda made: number_codes(
            made.class_numbers, dataset.num_identities))._replace(numbers=1) for pair in pairs]
    return found[0], found[1] if unseen else None, metadata


def _codes_of(gallery, queries, encode):
    """Codes of two (ImageSet, Features); `encode` makes int8 [n, K] of Features."""
    (gallery, gallery_features), (queries, query_features) = gallery, queries
    return Codes(encode(gallery_features), gallery.labels, encode(query_features), queries.labels,
                 gallery.fingerprints, queries.fingerprints)


def _floats_of(gallery, queries, part=None):
    """Floats of two (ImageSet, Features): both vectors, one after the other, or one `part`."""
    def vectors(made):
        return getattr(made, part) if part else np.concatenate(
            [made.multi_scale_feature, made.descriptor], axis=1)

    (gallery, gallery_features), (queries, query_features) = gallery, queries
    return floats.Floats(vectors(gallery_features), gallery.labels, vectors(query_features),
                         queries.labels, gallery.fingerprints, queries.fingerprints)


def _parts(gallery, queries):
    """mAP of each of the two vectors alone: OrderedDict of name in results.json -> mAP."""
    results = OrderedDict()
    for name, part in (("feature", "multi_scale_feature"), ("descriptor", "descriptor")):
        vectors = _floats_of(gallery, queries, part)
        for ending, distances in (("", floats.cosine_distances),
                                  ("_euclidean", floats.euclidean_distances)):
            results["mAP_%s%s" % (name, ending)] = floats.mean_average_precision(
                vectors, distances)
    return results
