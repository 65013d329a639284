"""What all methods have in common: a few verbs, which are all that other rooms ask of them."""

import abc
from typing import NamedTuple, Optional

from config import EMBEDDING_SIZE, IMAGE_CHANNELS, IMAGE_SIZE, PIXEL_SETTINGS, Config
from evaluation.codes import Codes
from runtime.errors import UserError
from runtime.settings import setting_names

INPUT_SHAPES = {"images": (IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS), "embeddings": (EMBEDDING_SIZE,)}


class Encoded(NamedTuple):
    """What a method makes of a run's images.

    Attributes:
        codes: evaluation.codes.Codes of the gallery (training images) and queries (test images);
            of a method that compares floats, evaluation.floats.Floats.
        unseen_codes: those of people never seen in training; None where there are none.
        metadata: dict of plain values for results.json.
    """

    codes: Codes
    unseen_codes: Optional[Codes]
    metadata: dict


class Method(abc.ABC):
    """A way to make codes of faces. Subclasses know how; nobody else asks which kind one is.

    What a verb does stands here, not again in each subclass.

    Args:
        title: name for people.
        defaults: dict of settings whose defaults differ from DCBH's.
        inputs: what it takes of each face: "images" (pixels) or "embeddings".

    Attributes:
        is_searchable: whether Hamming distance compares its codes, so that a gallery can be made.
        needs_features_of: whether it uses the network of another run (setting features_of).
        trains: whether it trains a network, in epochs of steps.
        exports_network: whether its encoder has a network.
        vectors: what floats can compare besides its codes: "embeddings", "descriptor" (of the
            network, which its codes are made of), or None.
    """

    is_searchable = True
    needs_features_of = False
    trains = False
    exports_network = False

    def __init__(self, title, defaults=None, inputs="images"):
        self.title, self.defaults, self.inputs = title, defaults or {}, inputs

    @property
    def takes_embeddings(self):
        """Whether it takes the embedding of a face in place of its pixels."""
        return self.inputs == "embeddings"

    @property
    def vectors(self):
        """See Method."""
        return "embeddings" if self.takes_embeddings else (
            "descriptor" if self.exports_network else None)

    @property
    def input_shape(self):
        """Shape of what it takes of one face."""
        return INPUT_SHAPES[self.inputs]

    def given(self, split):
        """Its input for each image of an ImageSet: float32 [n, 32, 32, 3] or [n, 128]."""
        return split.embeddings if self.takes_embeddings else split.images

    def epochs_of(self, dataset):
        """Default of the setting epochs."""
        return dataset.epochs

    def images_trained(self, config, count):
        """How many times a training step sees an image, in all; 0 of a method without steps.

        Args:
            config: a Config.
            count: number of training images.
        """
        return 0

    def lacks(self, dataset):
        """What it takes and a Dataset has not, with the way out, as text; None if nothing."""
        if self.takes_embeddings and dataset.embedding is None:
            return "face embeddings (prepare.py --embedding)"
        return None

    def settings_for_network(self, path):
        """Settings that make it use the network of the run at `path`; {} if it uses none."""
        return {}

    def without_meaningless(self, values):
        """A dict of settings without those that mean nothing for what the method takes."""
        left_out = PIXEL_SETTINGS if self.takes_embeddings else ()
        return {name: value for name, value in values.items() if name not in left_out}

    def applicable_settings(self, settings):
        """Names of the settings, a dict, that affect a run of this method."""
        names = {"dataset_flag", "method", "num_bits", *setting_names(Config, "place", "sample")}
        return names - {"features_of", "encode_batch_size"}

    def recipe_name(self, recipe):
        """The recipe, if it is not the released one and affects this method; else ""."""
        return ""

    def notes(self, run):
        """Lines on what is unusual about a Run."""
        return []

    def check(self, config):
        """Raises UserError if settings contradict the method."""
        if config.features_of is not None and not self.needs_features_of:
            raise UserError(f"method {config.method} does not use features_of; leave it out")
        meaningless = [name for name in PIXEL_SETTINGS if getattr(config, name)]
        if self.takes_embeddings and self.trains and meaningless:
            raise UserError(f"method {config.method} takes embeddings, which have no mirror image: "
                            f"leave out {' and '.join(meaningless)} (with recipe tuned: --flip "
                            "false --flip_averaging false)")

    def check_before_data(self, config, dataset):
        """Raises UserError for what can be told before the long work of reading data."""

    def check_workers(self, config):
        """Raises UserError unless several workers can share the work."""
        raise UserError(f"method {config.method} trains no network that workers could share; leave "
                        "--num_workers and TF_CONFIG out")

    def start_up(self, run):
        """Does what can fail before the run's folder is written: imports, checks of other runs.

        Raises:
            UserError: the run does not fit what it uses; or a library cannot be imported.
        """

    @abc.abstractmethod
    def make_codes(self, run, evaluate, workers=None):
        """Trains or fits, and encodes.

        Args:
            run: a methods.run.Run with a locked folder.
            evaluate: function of an Encoded, called whenever codes are due for evaluation, at the
                end at the latest; returns a metrics.Evaluation.
            workers: training.distributed.coordination.Workers, or its ALONE.

        Returns:
            (Encoded, Evaluation), the last ones.
        """

    @abc.abstractmethod
    def encode(self, run):
        """The Encoded of a trained Run, whose training may be going on.

        Raises:
            UserError: no checkpoint yet, or a damaged one.
        """

    def export(self, run, path):
        """What an encoder of this run consists of. Only searchable methods have one.

        Args:
            run: a Run.
            path: of a folder that does not exist yet, where a SavedModel goes; None of a method
                that exports no network.

        Returns:
            (projection or None, dict for encoder.json).
        """

    def open_encoder(self, folder, config, metadata):
        """(describe, close) of an exported encoder: functions of normalised inputs, and of nothing.

        `describe` gives float [n, K], whose signs are the codes, and the descriptor, float32
        [n, D]; None of a method that exports no network.

        Args:
            folder: OutputFolder.
            config: the Config of encoder.json.
            metadata: encoder.json.

        Raises:
            UserError: a file is missing, damaged, or of other settings.
        """


def codes_of(gallery, queries, encode, kind=Codes):
    """The Codes of two ImageSets; `encode` makes int8 [n, K] of one. Or Floats (`kind`)."""
    return kind(encode(gallery), gallery.labels, encode(queries), queries.labels,
                gallery.fingerprints, queries.fingerprints)


def run_metadata(run, **values):
    """What results.json says of the run behind some codes: a dict of plain values."""
    return dict(dataset=run.dataset.name, method=run.config.method, **values)
