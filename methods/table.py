"""The tables of methods and of hash layers: what a run's codes can be made by."""

import importlib
from collections import OrderedDict
from typing import NamedTuple, Optional


class Method(NamedTuple):
    """How codes are made: by a network that is trained, or by a projection that is fitted.

    What is neither takes the class or the features of a network that was trained by another run.
    A new method is one entry of METHODS and the function that it names.

    Attributes:
        title: name for people.
        defaults: dict of settings whose defaults differ from DCBH's.
        features: of a network, "module.function" that builds its convolutions; see
            model.dcbh_features for what it takes and returns.
        fit: of a projection, "module.function" that fits it; see methods.baselines.
        inputs: what it is given: "images" (pixels), "embeddings" (ImageSet.embeddings), or
            "features" (of the trained run that the setting features_of names).
        floats: whether it compares floating-point vectors, unhashed; there are no codes.
        max_epochs: most epochs that it defaults to; None for the data set's.
    """

    title: str
    defaults: dict
    features: Optional[str] = None
    fit: Optional[str] = None
    max_epochs: Optional[int] = None
    inputs: str = "images"
    floats: bool = False

    @property
    def is_searchable(self):
        """Whether a photograph's code can be found by Hamming distance: not of class numbers."""
        return bool(self.features or self.fit)


METHODS = OrderedDict([
    ("dcbh", Method("DCBH", {}, features="model.dcbh_features")),
    # Lin, Li, Tang, IJCAI 2017
    ("ddh", Method("DDH", dict(
        block_length=4, hash_layer="divide_and_encode", quantization_target=1.0,
        quantization_weight=0.01, descriptor_classification_weight=0.0, center_weight=0.0,
        weight_decay=0.0001), features="model.ddh_features", max_epochs=200)),
    ("lsh", Method("LSH on pixels", {}, fit="methods.baselines.fit_lsh")),
    ("pcah", Method("PCA hashing on pixels", {}, fit="methods.baselines.fit_pcah")),
    ("itq", Method("ITQ on pixels", {}, fit="methods.baselines.fit_itq")),
    # What a trained network is held against; see methods.features.
    ("feature_lsh", Method("LSH on the network's descriptor", {},
                           fit="methods.baselines.fit_lsh", inputs="features")),
    ("feature_pcah", Method("PCA hashing on the network's descriptor", {},
                            fit="methods.baselines.fit_pcah", inputs="features")),
    ("feature_itq", Method("ITQ on the network's descriptor", {},
                           fit="methods.baselines.fit_itq", inputs="features")),
    ("float", Method("The network's floats, unhashed", {}, inputs="features", floats=True)),
    ("class_number", Method("The network's class number", {}, inputs="features")),
    # On the face embedding of a network that other people trained (faces/embedding.py).
    ("embedding", Method("dlib's face embedding, unhashed", {}, inputs="embeddings", floats=True)),
    ("embedding_itq", Method("ITQ on dlib's face embedding", {},
                             fit="methods.baselines.fit_itq", inputs="embeddings")),
    # A small network learns in few steps, from larger ones; chosen on training images held back of
    # lfw10 (docs/data.md). In file order all batches stay the same, and 48 bits lose 4 points;
    # without codewords 12 bits lose 10.
    ("embedding_dcbh", Method("DCBH on dlib's face embedding", dict(
        epochs=60, batch_size=128, learning_rate=0.005, shuffle=True, decay_share=0.3,
        codeword_share=0.5), features="model.embedding_features", inputs="embeddings")),
])
# Layers that turn the descriptor into hash activations, each with the function that builds it.
HASH_LAYERS = OrderedDict([
    ("block", "model.block_hashing"),
    ("divide_and_encode", "model.divide_and_encode"),
    ("dense", "model.dense_hashing"),
])
# How training goes: recipe -> settings whose defaults differ from the release's (docs/recipe.md).
RECIPES = OrderedDict([
    ("released", {}),
    ("tuned", dict(shuffle=True, even_batches=True, flip=True, plain_share=0.2,
                   flip_averaging=True, learning_rate=0.0015, warmup_steps=20, decay_share=0.2,
                   decay_after=1500, hash_temperature=0.25, temperature_share=0.3,
                   descriptor_gain=1.5, codeword_share=0.35, weights="last")),
])


def implementation(path):
    """The function that METHODS or HASH_LAYERS names as "module.function".

    Named and imported only when it is needed: a table of names must not import TensorFlow.
    """
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
