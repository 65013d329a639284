"""Codes or floats from what another run's trained network makes of an image.

Yardsticks for the codes of that network (docs/evaluation.md): its floats, unhashed; its descriptor,
hashed afterwards; the number of the class that its hash classifier gives. Dimensions: n images,
D descriptor size, K bits, C people.
"""

import abc
import operator
import time
from typing import NamedTuple

import numpy as np

from config import Config, find_dataset
from data_loader import ImageSet
from evaluation import floats
from evaluation.codes import number_codes
from methods.method import INPUT_SHAPES, Encoded, Method, codes_of, run_metadata
from methods.network import BestNetwork, open_network, save_network
from methods.projection import check_count, read_projection
from model import BACKBONES, backbone_of
from published_losses.table import LOSSES, loss_of
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from runtime.tensorflow import start_tensorflow, tf
from training.graph import run_network


class Features(NamedTuple):
    """What a network makes of the n images of a split.

    Attributes:
        split: the ImageSet.
        multi_scale_feature: float32 [n, 768]; see model.Network.
        descriptor: float32 [n, D].
        class_numbers: int64 [n], 0..C-1, of the hash classifier's highest logit; None of a network
            without one.
    """

    split: ImageSet
    multi_scale_feature: np.ndarray
    descriptor: np.ndarray
    class_numbers: np.ndarray

    labels = property(lambda self: self.split.labels)
    fingerprints = property(lambda self: self.split.fingerprints)


class FeatureMethod(Method):
    """Uses the network of the finished run that the setting features_of names.

    Args:
        title: see Method.
    """

    needs_features_of = True

    def applicable_settings(self, settings):
        return super().applicable_settings(settings) | {"features_of", "encode_batch_size"}

    def settings_for_network(self, path):
        return dict(features_of=str(path))

    def check_before_data(self, config, dataset):
        open_trained_run(config, dataset)

    def start_up(self, run):
        self._trained(run)
        start_tensorflow()

    def make_codes(self, run, evaluate, workers=None):
        trained = self._trained(run)
        with self._network(trained, run) as network:
            print(network.device, flush=True)
            run.folder.begin(tf.VERSION, network.device, run.digest, 1, trained.first_start)
            encoded = self._encode(run, network)
        return encoded, evaluate(encoded)

    def encode(self, run):
        with self._network(self._trained(run), run) as network:
            print(network.device, flush=True)
            return self._encode(run, network)

    def _encode(self, run, network):
        started = time.perf_counter()
        features = [_features(network, split, run) for split in run.splits]
        encoded = time.perf_counter()
        metadata = run_metadata(run, **network.metadata)
        metadata.update(network_training_seconds=metadata["training_seconds"],
                        encoding_seconds=round(encoded - started, 3))
        codes, unseen_codes = self.codes(run, features[:2], features[2:] or None, metadata)
        return Encoded(codes, unseen_codes, metadata)

    @abc.abstractmethod
    def codes(self, run, seen, unseen, metadata):
        """The Codes or Floats of people in training, and those of people never seen (or None).

        Args:
            run: a Run.
            seen, unseen: the Features of gallery and queries; unseen may be None.
            metadata: dict for results.json, which this adds to.
        """

    @staticmethod
    def _trained(run):
        return open_trained_run(run.config, run.dataset, run.digest, run.folder)

    @staticmethod
    def _network(trained, run):
        has_classifiers = loss_of(trained.config).has_classifiers
        return BestNetwork(trained.folder, trained.config,
                           run.dataset.num_identities if has_classifiers else None)


class ProjectedFeatures(FeatureMethod):
    """Hashes the network's descriptor by a projection.

    Args:
        title: see Method.
        fit: see methods.projection.ProjectionMethod.
    """

    exports_network = True

    def __init__(self, title, fit):
        super().__init__(title)
        self.fit = fit

    def start_up(self, run):
        check_count(self.fit, len(run.train.labels), run.config.num_bits)
        super().start_up(run)

    def codes(self, run, seen, unseen, metadata):
        started = time.perf_counter()
        projection = self.fit(seen[0].descriptor, run.config.num_bits, run.config.seed)
        metadata["training_seconds"] += round(time.perf_counter() - started, 3)
        metadata["parameters"] += projection.num_parameters
        return [pair and codes_of(*pair, encode=lambda made: projection.encode(made.descriptor))
                for pair in (seen, unseen)]

    def export(self, run, path):
        trained = self._trained(run)
        with self._network(trained, run) as network:
            descriptors = _features(network, run.train, run).descriptor
        projection = self.fit(descriptors, run.config.num_bits, run.config.seed)
        state = save_network(trained.folder, trained.config, run.train, path, projection)
        return projection, dict(network_settings=trained.config.to_dict(),
                                      epoch=state["best_epoch"])

    def open_encoder(self, folder, config, metadata):
        network_config = Config.recorded(metadata["network_settings"])
        projection = read_projection(folder, network_config.descriptor_size, config.num_bits)
        session, graph = open_network(folder, network_config)

        def describe(images):
            descriptors = run_network(session, graph.inference, graph.inference.descriptor, images,
                                      config.encode_batch_size)
            return projection.project(descriptors), descriptors
        return describe, session.close


class NetworkFloats(FeatureMethod):
    """No codes: compares the network's multi-scale feature and descriptor, as one vector."""

    is_searchable = False

    def codes(self, run, seen, unseen, metadata):
        """See FeatureMethod. metadata takes the mAP of each of the two vectors alone."""
        for name, part in (("feature", "multi_scale_feature"), ("descriptor", "descriptor")):
            vectors = codes_of(*seen, operator.attrgetter(part), floats.Floats)
            for ending, distances in (("", floats.cosine_distances),
                                      ("_euclidean", floats.euclidean_distances)):
                metadata[f"mAP_{name}{ending}"] = floats.mean_average_precision(vectors, distances)
        return [pair and codes_of(*pair, lambda made: np.concatenate(
            [made.multi_scale_feature, made.descriptor], axis=1), floats.Floats)
            for pair in (seen, unseen)]


class ClassNumber(FeatureMethod):
    """Codes that are the number of the class that the hash classifier gives, compared as a whole.
    """

    is_searchable = False

    def check_before_data(self, config, dataset):
        trained = open_trained_run(config, dataset)
        if not loss_of(trained.config).has_classifiers:
            raise UserError(f"features_of {config.features_of}: method {trained.config.method} has "
                            "no hash classifier; name a run that has one (dcbh, ddh)")

    def codes(self, run, seen, unseen, metadata):
        return [pair and codes_of(*pair, encode=lambda made: number_codes(
            made.class_numbers, run.dataset.num_identities))._replace(numbers=1)
            for pair in (seen, unseen)]


def _features(network, split, run):
    """The Features of an ImageSet by a BestNetwork."""
    tensors = network.network
    wanted = [tensors.multi_scale_feature, tensors.descriptor]
    if tensors.hash_logits is not None:
        wanted.append(tensors.hash_logits)
    feature, descriptor, *logits = run_network(
        network.session, tensors, tuple(wanted), split.images, run.config.encode_batch_size)
    return Features(split, feature, descriptor, np.argmax(logits[0], axis=1) if logits else None)


# The finished run whose network is used


class TrainedRun(NamedTuple):
    """A finished run of a network: its RunFolder and its Config."""

    folder: RunFolder
    config: Config

    @property
    def first_start(self):
        """When the run was first started: what tells its network from others, wherever it lies."""
        return self.folder.provenance()[0]["start"]


def open_trained_run(config, dataset, digest=None, used_by=None):
    """The run that the setting features_of names, if it fits the run that uses its network.

    Args:
        config: the Config of the run that uses it.
        dataset: the config.Dataset of that run.
        digest: data_loader.data_digest of that run's images; None to leave it unchecked.
        used_by: RunFolder of the run that uses it, if it may have used a network before.

    Returns:
        A TrainedRun.

    Raises:
        UserError: no run is named, or none is there, or it is not finished, or it is one of another
            data set, code length or fold of people, or one that trains no network on images, or
            another network than `used_by` had.
    """
    if config.features_of is None:
        raise UserError(f"method {config.method} uses the network of a finished run; name its "
                        "folder with --features_of")

    def refuse(reason):
        raise UserError(f"features_of {config.features_of}: {reason}")

    try:
        folder = RunFolder.open(config.features_of)
    except UserError as error:
        raise UserError(f"{error}; name the run whose network method {config.method} uses with "
                        "--features_of")
    trained = Config.recorded(folder.read_settings())
    if (trained.method not in (*BACKBONES, *LOSSES)
            or backbone_of(trained.method).input_shape != INPUT_SHAPES["images"]):
        refuse(f"method {trained.method} trains no network on images; name a run that does")
    if not _is_of_dataset(trained, config, dataset):
        refuse(f"it was trained on data set {trained.dataset_flag}, not on {dataset.name}")
    for name in ("num_bits", "unseen_split"):
        if getattr(trained, name) != getattr(config, name):
            refuse(f"it has {name} {getattr(trained, name)}, not {getattr(config, name)}; name "
                   "another run, or give that value")
    starts = folder.provenance()
    if not starts or starts[-1].get("ended_by") != "finished":
        refuse("this run is not finished; continue it with python main.py --resume --run_dir "
               f"{config.features_of}")
    if digest is not None and starts[0].get("data") not in (None, digest):
        refuse("it was trained on other data than there is now under its name; train it again")
    run = TrainedRun(folder, trained)
    before = used_by.provenance()[:1] if used_by is not None else []
    if before and before[0].get("network_start") not in (None, run.first_start):
        refuse(f"this is another network than the one that {used_by} used, which was first started "
               f"at {before[0]['network_start']}; name that one, or start a new run")
    return run


def _is_of_dataset(trained, config, dataset):
    """Whether a run's settings name a Dataset, in the data folder of another run's Config."""
    try:
        return find_dataset(trained.dataset_flag, config.data_dir).name == dataset.name
    except UserError:  # it is not there
        return False
