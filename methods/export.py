"""An encoder on its own: weights without training, which turns face images into codes anywhere.

    DIR/encoder.json    method, bits, data set, crop, pixel statistics, settings, provenance
    DIR/saved_model/    of a network: its weights as a SavedModel, for TensorFlow Serving and
                        converters (serving_default: uint8 images [n, 32, 32, 3] -> int8 codes;
                        of embedding_dcbh: float32 embeddings [n, 128] -> int8 codes)
    DIR/projection.npz  of a projection: mean and columns; beside saved_model/ where it projects
                        the descriptor of a network
"""

import contextlib
import dataclasses
import re
from collections import OrderedDict

import numpy as np

import data_loader
from config import INPUT_SHAPES, METHODS, Config, implementation
from gallery.query_faces import takes_embeddings
from methods.baselines import Projection
from methods.encode import encode
from methods.features import TrainedNetwork, run_network
from methods.projections import open_run
from methods.trained_run import open_trained_run
from runtime.array_file import read_arrays
from runtime.errors import Failed, UserError
from runtime.files import check_fields
from runtime.output_folder import OutputFolder
from runtime.tensorflow import error_reason, make_session, tf
from training.checkpoints import restore_best
from training.graph import build_inference_graph, build_network

FORMAT = 1
# What a SavedModel of ours consists of, below saved_model/.
SAVED_MODEL_FILE = re.compile(
    r"(saved_model|fingerprint)\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})")


class Encoder:
    """Codes of face images, by an exported encoder. Open one with `Encoder.open`.

    Attributes:
        metadata: dict, the encoder.json: method, num_bits, dataset, crop, mean, std, ...
    """

    def __init__(self, metadata, encode_normalised, close):
        self.metadata = metadata
        self._encode_normalised = encode_normalised
        self.close = close

    @classmethod
    def open(cls, path):
        """The encoder in a folder that export_encoder wrote. Raises UserError if it is damaged."""
        folder = OutputFolder(path)
        metadata = _read_metadata(folder)
        config = Config.recorded(metadata["settings"])
        method = METHODS[config.method]
        if method.inputs == "features":
            network_config = Config.recorded(metadata["network_settings"])
            projection = _read_projection(folder, config, network_config.descriptor_size)
            session, graph = _open_network(folder, network_config)
            return cls(metadata, lambda images: projection.encode(run_network(
                session, graph.inference, graph.inference.descriptor, images,
                config.encode_batch_size)), session.close)
        if not method.features:
            size = int(np.prod(INPUT_SHAPES[method.inputs]))
            return cls(metadata, _read_projection(folder, config, size).encode, lambda: None)
        session, graph = _open_network(folder, config)
        return cls(metadata, lambda images: encode(
            graph.inference, session, images, config.encode_batch_size), session.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def encode(self, images):
        """Codes of images, normalised with the training set's statistics, or of embeddings.

        Args:
            images: uint8 [n, 32, 32, 3], RGB, cut out of photographs as metadata["crop"] says; of
                an encoder that takes embeddings float32 [n, 128], made of the faces as
                metadata["embedding"] says (gallery.query_faces.encoder_input).

        Returns:
            int8 [n, K], -1 or +1.

        Raises:
            ValueError: images of another shape or type.
        """
        images = np.asarray(images)
        shape, dtype = self._expected()
        if images.dtype != dtype or images.shape[1:] != shape:
            raise ValueError("images must be %s [n, %s], not %s %s" % (
                np.dtype(dtype), ", ".join(map(str, shape)), images.dtype, images.shape))
        if not len(images):
            return np.zeros((0, self.metadata["num_bits"]), np.int8)
        if takes_embeddings(self.metadata):
            return self._encode_normalised(images)
        return self._encode_normalised(data_loader.normalise_images(
            images, self.metadata["mean"], self.metadata["std"], self.metadata["pixel_range"]))

    def warm_up(self):
        """Encodes nothing of interest: the first time takes longer."""
        shape, dtype = self._expected()
        self.encode(np.zeros((1,) + shape, dtype))

    def _expected(self):
        """Shape and type of what `encode` takes of one image."""
        inputs = self.metadata.get("inputs", "images")
        return INPUT_SHAPES[inputs], np.uint8 if inputs == "images" else np.float32


def export_encoder(folder, path, data_dir=None):
    """Writes a run's best weights as an encoder.

    Args:
        folder: a RunFolder.
        path: folder to write, new or an encoder's.
        data_dir: see methods.projections.open_run. The data is needed: its pixel statistics go
            with the weights.

    Returns:
        The encoder.json, a dict.

    Raises:
        UserError: no checkpoint yet, a damaged one, a method without codes that Hamming distance
            compares, or a folder that holds something else, also within saved_model/.
    """
    _check_searchable(folder)
    data = open_run(folder, data_dir)
    config, dataset, train = data.config, data.dataset, data.train
    out = OutputFolder.create(path, "encoder")
    _check_saved_model(out.path / "saved_model")
    provenance = folder.provenance()
    metadata = OrderedDict(
        format=FORMAT, method=config.method, num_bits=config.num_bits, dataset=dataset.name,
        identities=data.names, crop=dataset.crop, embedding=dataset.embedding,
        inputs="embeddings" if METHODS[config.method].inputs == "embeddings" else "images",
        mean=train.mean, std=train.std, pixel_range=list(train.pixel_range),
        run=str(folder.path.resolve()),
        data=provenance[0].get("data") if provenance else None, settings=config.to_dict(),
        provenance=provenance)
    method = METHODS[config.method]
    projection, trained = None, (folder, config)
    values = data_loader.given_to(method, train).images
    if method.inputs == "features":
        trained = open_trained_run(config, dataset, data.digest, folder)
        metadata.update(network_settings=trained.config.to_dict())
        with TrainedNetwork(trained, dataset.num_identities) as network:
            values = network.features(train.images).descriptor
    if method.fit:
        projection = implementation(method.fit)(values, config.num_bits, config.seed)
    has_network = bool(method.features or method.inputs == "features")
    with contextlib.ExitStack() as replacing:
        if has_network:
            saved_model = replacing.enter_context(out.replacing_folder("saved_model"))
            state = _save_network(trained, saved_model, train, projection)
            metadata.update(epoch=state["best_epoch"])
        # What can fail is done: an encoder that was there has stayed whole so far. From here until
        # the new one is whole, there is none.
        out.remove("encoder.json")
        if projection is not None:
            out.write_arrays("projection.npz", **projection._asdict())
    out.write_json("encoder.json", metadata)
    return metadata


def _check_searchable(folder):
    """Raises UserError if a RunFolder's method makes no codes that Hamming distance compares."""
    config = Config.recorded(folder.read_settings())
    if not METHODS[config.method].is_searchable:
        other = ", such as %s" % config.features_of if config.features_of else ""
        raise UserError("%s: method %s makes no codes that Hamming distance compares; name a run "
                        "of another method%s" % (folder, config.method, other))


def _check_saved_model(path):
    """Raises UserError if a file in a folder is none of an export: it will be replaced whole."""
    for entry in sorted(path.rglob("*")):
        inside = entry.relative_to(path).as_posix()
        if not entry.is_dir() and not SAVED_MODEL_FILE.fullmatch(inside):
            raise UserError("%s is no file of an export, which replaces all of %s; move it away or "
                            "name another folder" % (entry, path))


def _read_metadata(folder):
    try:
        return folder.read_json("encoder.json", _check_metadata)
    except UserError as error:
        raise UserError(f"{error}; export the run again (evaluate.py RUN --export {folder})")


def _check_metadata(value):
    """Raises ValueError unless `value` is what export_encoder writes into encoder.json."""
    check_fields(value, {
        "format": int, "num_bits": int, "mean": (int, float), "std": (int, float),
        "pixel_range": list, "settings": dict, "network_settings": (dict, type(None)),
        "inputs": (str, type(None)), "identities": (list, type(None)),
        "crop": (dict, type(None))}, "the file")
    if value["format"] != FORMAT:
        raise ValueError(f"it is of another version ({value['format']})")
    settings = Config.recorded(value["settings"])
    method = METHODS[settings.method]
    if value["num_bits"] != settings.num_bits:
        raise ValueError(f"its num_bits is {value['num_bits']}, that of its settings "
                         f"{settings.num_bits}")
    if method.inputs == "features" and value.get("network_settings") is None:
        raise ValueError(f"it has no 'network_settings', which method {settings.method} needs")
    if value.get("inputs", "images") != ("embeddings" if method.inputs == "embeddings"
                                         else "images"):
        raise ValueError(f"its 'inputs' are not those of method {settings.method}")
    pixel_range = value["pixel_range"]
    if len(pixel_range) != 2 or not all(type(end) in (int, float) for end in pixel_range) or (
            not pixel_range[0] < pixel_range[1]):
        raise ValueError("its 'pixel_range' is no pair of numbers that ascend")
    if value["std"] < 0:
        raise ValueError("its 'std' is negative")


def _read_projection(folder, config, size):
    """The Projection of so many values of an image."""
    projection = Projection(**read_arrays(folder.path / "projection.npz", Projection._fields))
    if projection.columns.shape != (size, config.num_bits) or projection.mean.shape != (size,):
        raise UserError("%s/projection.npz is not what encoder.json says; export again" % folder)
    return projection


def _save_network(run, path, train, projection=None):
    """Writes a SavedModel with a run's best weights; returns the dict saved with those.

    Args:
        run: (RunFolder, Config), or a TrainedRun.
        path: the SavedModel's folder, which does not exist yet.
        train: ImageSet, for its statistics.
        projection: Projection of the network's descriptor, in place of its hash layer; or None.
    """
    folder, config = run
    if projection is not None:  # of the images alone
        config = dataclasses.replace(config, flip_averaging=False)
    graph = build_inference_graph(config)
    with make_session(graph.graph) as session:
        state, _ = restore_best(graph, session, folder)
        with graph.graph.as_default():
            weights = tf.global_variables()
            trained = session.run([variable.read_value() for variable in weights])
    with tf.Graph().as_default() as serving:
        inputs = METHODS[config.method].inputs
        given = tf.placeholder(tf.uint8 if inputs == "images" else tf.float32,
                               [None] + list(INPUT_SHAPES[inputs]), inputs)
        normalised = _normalised(given, train) if inputs == "images" else given
        network = build_network(config, normalised, False)
        values = network.code_activations
        if projection is not None:
            values = _projected(network.descriptor, projection)
        codes = tf.where(values >= 0, tf.ones_like(values), -tf.ones_like(values))
        codes = tf.cast(codes, tf.int8, name="codes")
        by_name = dict(zip((variable.op.name for variable in weights), trained))
        with make_session(serving) as session:
            session.run(tf.global_variables_initializer())
            for variable in tf.global_variables():
                if variable.op.name in by_name:
                    variable.load(by_name[variable.op.name], session)
            try:
                builder = tf.saved_model.Builder(str(path))
                builder.add_meta_graph_and_variables(
                    session, [tf.saved_model.SERVING], strip_default_attrs=True,
                    signature_def_map={"serving_default": tf.saved_model.predict_signature_def(
                        {inputs: given}, {"codes": codes})})
                builder.save()
            except tf.errors.OpError as error:
                raise Failed(f"{path} cannot be written: {error_reason(error)}")
    return state


def _normalised(pixels, train):
    """data_loader.normalise_images as tensors: uint8 [n, 32, 32, 3] -> float32.

    The statistics are variables: constants would be folded into others that round differently.
    """
    low, high = train.pixel_range
    with tf.variable_scope("normalisation"):
        values = [tf.get_variable(name, [], tf.float32, tf.constant_initializer(value),
                                  trainable=False, use_resource=True)
                  for name, value in (("low", low), ("scale", (high - low) / 255.0),
                                      ("mean", train.mean), ("divisor", train.std + 1e-5))]
    low, scale, mean, divisor = values
    raw = low + tf.cast(pixels, tf.float32) * scale
    return tf.clip_by_value(0.1 * (raw - mean) / divisor, -1.0, 1.0)


def _projected(descriptor, projection):
    """A Projection of the descriptor as a tensor: float32 [n, D] -> float64 [n, K]."""
    with tf.variable_scope("projection"):
        mean, columns = [tf.get_variable(name, value.shape, tf.float64,
                                         tf.constant_initializer(value), trainable=False,
                                         use_resource=True)
                         for name, value in projection._asdict().items()]
    return tf.matmul(tf.cast(descriptor, tf.float64) - mean, columns)


def _open_network(folder, config):
    """(session, InferenceGraph) with the weights of saved_model/."""
    graph = build_inference_graph(config)
    session = make_session(graph.graph)
    try:
        graph.saver.restore(session, str(folder.path / "saved_model/variables/variables"))
    except (tf.errors.OpError, ValueError) as error:
        session.close()
        raise UserError("%s/saved_model cannot be read (%s); export again"
                        % (folder, error_reason(error)))
    return session, graph
