"""The table of methods, and a run's settings completed by it.

A new method is one line of METHODS and, where none of the classes makes its codes, a class of its
own beside methods/network.py, methods/projection.py and methods/features.py.
"""

import dataclasses

from config import RECIPES, Config, find_dataset
from methods.features import ClassNumber, NetworkFloats, ProjectedFeatures
from methods.network import NetworkMethod
from methods.projection import EmbeddingMethod, ProjectionMethod, fit_itq, fit_lsh, fit_pcah
from model import HASH_LAYERS
from published_losses.table import LOSSES
from runtime.errors import UserError

METHODS = {
    "dcbh": NetworkMethod("DCBH"),
    # Lin, Li, Tang, IJCAI 2017
    "ddh": NetworkMethod("DDH", dict(
        block_length=4, hash_layer="divide_and_encode", quantization_target=1.0,
        quantization_weight=0.01, descriptor_classification_weight=0.0, center_weight=0.0,
        weight_decay=0.0001), max_epochs=200),
    # DCBH's network with the losses of other publications. In file order ORL's batches never show
    # a person twice, so losses of pairs would see no similar ones; and the lowest loss says nothing
    # where a loss grows steeper in the course of training (HashNet).
    **{name: NetworkMethod(loss.title, dict(hash_layer=loss.hash_layer, shuffle=True,
                                            weights="last"))
       for name, loss in LOSSES.items()},
    "lsh": ProjectionMethod("LSH on pixels", fit_lsh),
    "pcah": ProjectionMethod("PCA hashing on pixels", fit_pcah),
    "itq": ProjectionMethod("ITQ on pixels", fit_itq),
    # What a trained network is compared with; see methods/features.py.
    "feature_lsh": ProjectedFeatures("LSH on the network's descriptor", fit_lsh),
    "feature_pcah": ProjectedFeatures("PCA hashing on the network's descriptor", fit_pcah),
    "feature_itq": ProjectedFeatures("ITQ on the network's descriptor", fit_itq),
    "float": NetworkFloats("The network's floats, unhashed"),
    "class_number": ClassNumber("The network's class number"),
    # On the face embedding of a network that other people trained (faces/embedding.py).
    "embedding": EmbeddingMethod("dlib's face embedding, unhashed"),
    "embedding_itq": ProjectionMethod("ITQ on dlib's face embedding", fit_itq, "embeddings"),
    # A small network learns in few, large steps; chosen on training images held back of lfw10
    # (docs/data.md). In file order all batches stay the same, and 48 bits lose 4 points; without
    # codewords 12 bits lose 10.
    "embedding_dcbh": NetworkMethod("DCBH on dlib's face embedding", dict(
        epochs=60, batch_size=128, learning_rate=0.005, shuffle=True, decay_share=0.3,
        codeword_share=0.5), "embeddings"),
}


def method_of(config):
    """The Method of a Config. Raises UserError if there is none of that name."""
    return _find("method", config.method, METHODS)


def resolve(values):
    """The settings of a run, complete, and its data set.

    Args:
        values: dict of settings, by name; what it leaves out takes the default of the method, then
            of the recipe, then the released one.

    Returns:
        (Config, Dataset).

    Raises:
        UserError: a bad setting, or no such data set.
    """
    settings = {}
    if isinstance(values.get("method"), str):
        settings.update(_find("method", values["method"], METHODS).defaults)
    if isinstance(values.get("recipe"), str):
        settings.update(RECIPES.get(values["recipe"], {}))
    config = Config.from_dict({**settings, **values})
    method = method_of(config)
    _find("hash_layer", config.hash_layer, HASH_LAYERS)
    method.check(config)
    dataset = find_dataset(config.dataset_flag, config.data_dir)
    defaults = dict(epochs=method.epochs_of(dataset), batch_size=dataset.batch_size,
                    evaluate_every=dataset.evaluate_every)
    config = dataclasses.replace(config, **{
        name: value for name, value in defaults.items() if getattr(config, name) is None})
    return config, dataset


def _find(setting, name, table):
    if name not in table:
        raise UserError(f"{setting} is {name!r:.60}; valid values: {', '.join(table)}")
    return table[name]
