"""An encoder on its own: weights without training, which turns face images into codes anywhere.

    DIR/encoder.json    method, bits, data set, crop, pixel statistics, settings, provenance
    DIR/saved_model/    of a network: its weights as a SavedModel, for TensorFlow Serving and
                        converters (serving_default: uint8 images [n, 32, 32, 3] -> int8 codes;
                        of embedding_dcbh: float32 embeddings [n, 128] -> int8 codes)
    DIR/projection.npz  of a projection: mean and columns; beside saved_model/ where it projects
                        the descriptor of a network
"""

import contextlib
import hashlib
import re

import numpy as np

import data_loader
from config import EMBEDDING_SIZE, Config
from evaluation import packing
from evaluation.codes import signs
from faces import embedding
from methods.method import INPUT_SHAPES
from methods.table import method_of
from runtime.errors import UserError
from runtime.files import check_fields, replacing_folder, writing
from runtime.output_folder import OutputFolder, json_bytes, npz_bytes

FORMAT = 1
# What a SavedModel of ours consists of, below saved_model/.
SAVED_MODEL_FILE = re.compile(
    r"(saved_model|fingerprint)\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})")


class Encoder:
    """Codes of face images, by an exported encoder. Open one with `Encoder.open`.

    Some take the pixels of a face, others its embedding; its verbs know which.

    Attributes:
        metadata: dict, the encoder.json: method, num_bits, dataset, crop, mean, std, ...
        vectors: see methods.method.Method; None also for older encoders, which do not say.
    """

    def __init__(self, metadata, describe_normalised, close):
        self.metadata = metadata
        self._takes_embeddings = metadata.get("inputs") == "embeddings"
        self.vectors = "embeddings" if self._takes_embeddings else metadata.get("vectors")
        self._describe_normalised = describe_normalised
        self.close = close

    @classmethod
    def open(cls, path):
        """The encoder in a folder that export_encoder wrote. Raises UserError if it is damaged."""
        folder = OutputFolder(path)
        try:
            metadata = folder.read_json("encoder.json", _check_metadata)
        except UserError as error:
            raise UserError(f"{error}; export the run again (evaluate.py RUN --export {folder})")
        config = Config.recorded(metadata["settings"])
        method = method_of(config)
        return cls(metadata, *method.open_encoder(folder, config, metadata))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def encode(self, images):
        """Codes: int8 [n, K], -1 or +1; see activate."""
        return signs(self.activate(images))

    def activate(self, images):
        """What is binarised to codes, float [n, K]; see describe."""
        return self._described(images)[0]

    def describe(self, images):
        """Codes, and the vectors by which floats can decide between faces.

        Args:
            images: uint8 [n, 32, 32, 3], RGB, cut out of photographs as metadata["crop"] says; of
                an encoder that takes embeddings float32 [n, 128], made of the faces as
                metadata["embedding"] says.

        Returns:
            (codes, vectors): uint64 [n], see evaluation.packing; float32 [n, V], or n times None.

        Raises:
            ValueError: images of another shape or type.
        """
        activations, descriptors = self._described(images)
        vectors = {"embeddings": images, "descriptor": descriptors, None: [None] * len(images)}
        return packing.pack(signs(activations)), vectors[self.vectors]

    def _described(self, images):
        """(activations, descriptors) of images, normalised with the training set's statistics, or
        of embeddings; see methods.method.Method.open_encoder."""
        images = np.asarray(images)
        shape, dtype = self._expected()
        if images.dtype != dtype or images.shape[1:] != shape:
            raise ValueError(f"images must be {np.dtype(dtype)} [n, {', '.join(map(str, shape))}], "
                             f"not {images.dtype} {images.shape}")
        if not len(images):
            return np.zeros((0, self.metadata["num_bits"]), np.float32), None
        if not self._takes_embeddings:
            images = data_loader.normalise_images(
                images, self.metadata["mean"], self.metadata["std"], self.metadata["pixel_range"])
        return self._describe_normalised(images)

    @property
    def vector_size(self):
        """V, how many values a vector has; 0 if there are none."""
        if self.vectors != "descriptor":
            return EMBEDDING_SIZE if self.vectors else 0
        settings = self.metadata.get("network_settings") or self.metadata["settings"]
        return Config.recorded(settings).descriptor_size

    def warm_up(self):
        """Encodes one blank input, so that the first real one takes no longer than the others."""
        shape, dtype = self._expected()
        self.encode(np.zeros((1,) + shape, dtype))

    def check_embedder(self):
        """Before the work: raises UserError if faces cannot be embedded here as it expects."""
        if self._takes_embeddings:
            embedding.check_same_embedding(self.metadata.get("embedding"))

    def embedding_cache(self, folder):
        """The faces.embedding.EmbeddingCache of a folder (a Path); None if it takes pixels."""
        return embedding.EmbeddingCache(folder) if self._takes_embeddings else None

    def face_chips(self, photograph, faces):
        """What the embedding network takes of some faces.

        Args:
            photograph: a faces.photographs.Photograph.
            faces: list of faces.detection.Faces on it.

        Returns:
            List of uint8 [150, 150, 3]; of None if the encoder takes pixels.
        """
        return embedding.face_chips(photograph, faces) if self._takes_embeddings else (
            [None] * len(faces))

    def given(self, faces):
        """What `describe` takes of faces that have `pixels` and `embedding`, at least one."""
        return np.stack([face.embedding if self._takes_embeddings else face.pixels
                         for face in faces])

    def given_of(self, data, rows):
        """What `describe` takes of some images of an ImageSet, as if each had come alone."""
        return data.embeddings[rows] if self._takes_embeddings else (
            data_loader.displayable(data, rows))

    def _expected(self):
        """Shape and type of what `encode` takes of one face."""
        inputs = self.metadata.get("inputs", "images")
        return INPUT_SHAPES[inputs], np.float32 if self._takes_embeddings else np.uint8


def export_encoder(run, path):
    """Writes a run's best weights as an encoder.

    Args:
        run: a methods.run.Run of an existing folder. The data is needed, since its pixel statistics
            go with the weights.
        path: folder to write, new or an encoder's.

    Returns:
        The encoder.json, a dict.

    Raises:
        UserError: no checkpoint yet, a damaged one, a method without codes that Hamming distance
            compares, or a folder that holds something else, also within saved_model/.
    """
    check_searchable(run.folder)
    config, dataset, train = run.config, run.dataset, run.train
    out = OutputFolder.create(path, "encoder")
    _check_saved_model(out.path / "saved_model")
    provenance = run.folder.provenance()
    metadata = dict(
        format=FORMAT, method=config.method, num_bits=config.num_bits, dataset=dataset.name,
        identities=run.names, crop=dataset.crop, embedding=dataset.embedding,
        inputs=run.method.inputs, vectors=run.method.vectors, mean=train.mean, std=train.std,
        pixel_range=list(train.pixel_range), run=str(run.folder.path.resolve()),
        data=provenance[0].get("data") if provenance else None, settings=config.to_dict(),
        provenance=provenance)
    with contextlib.ExitStack() as parts:  # written beside the old ones, renamed at the end
        description = parts.enter_context(out.replacing("encoder.json"))
        saved_model = parts.enter_context(replacing_folder(
            out.path / "saved_model")) if run.method.exports_network else None
        projection, more = run.method.export(run, saved_model)
        metadata.update(more)
        with writing(out.path / "encoder.json"):
            description.write_bytes(json_bytes(metadata))
        if projection is not None:
            parts.enter_context(out.replacing("projection.npz")).write_bytes(
                npz_bytes(projection._asdict()))
        # What can fail is done: an encoder that was there has stayed whole so far. From here until
        # the last part, encoder.json, is renamed, there is none.
        out.remove("encoder.json")
    return metadata


def export_projection(path, projection, num_bits, embedding, crop, **more):
    """Writes an encoder of embeddings that was fitted without a run, of method embedding_itq.

    Args:
        path: folder to write, new.
        projection: methods.projection.Projection of embeddings.
        num_bits: K.
        embedding, crop: dicts that say how faces are cut out and embedded.
        more: further fields of the encoder.json.

    Returns:
        The encoder.json, a dict.
    """
    settings = Config(method="embedding_itq", num_bits=num_bits)
    arrays = projection._asdict()
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(arrays[name]).tobytes()
                                     for name in sorted(arrays))).hexdigest()
    metadata = dict(
        format=FORMAT, method=settings.method, num_bits=num_bits, dataset="", identities=[],
        crop=crop, embedding=embedding, inputs="embeddings", vectors="embeddings", mean=0.0,
        std=1.0, pixel_range=[0.0, 255.0], run="", data=digest, settings=settings.to_dict(),
        provenance=[], **more)
    out = OutputFolder.create(path, "encoder")
    out.write_arrays("projection.npz", **arrays)
    out.write_json("encoder.json", metadata)
    return metadata


def is_searchable(folder):
    """Whether the method of a RunFolder makes codes that Hamming distance compares.

    Raises:
        UserError: its settings are damaged.
    """
    return method_of(Config.recorded(folder.read_settings())).is_searchable


def check_searchable(folder):
    """Raises UserError if a RunFolder's method makes no codes that Hamming distance compares."""
    if not is_searchable(folder):
        config = Config.recorded(folder.read_settings())
        other = f", such as {config.features_of}" if config.features_of else ""
        raise UserError(f"{folder}: method {config.method} makes no codes that Hamming distance "
                        f"compares; name a run of another method{other}")


def _check_saved_model(path):
    """Raises UserError if a file in a folder is none of an export: it will be replaced whole."""
    for entry in sorted(path.rglob("*")):
        inside = entry.relative_to(path).as_posix()
        if not entry.is_dir() and not SAVED_MODEL_FILE.fullmatch(inside):
            raise UserError(f"{entry} is not part of an export, which replaces all of {path}; move "
                            "it away or name another folder")


def _check_metadata(value):
    """Raises ValueError unless an encoder.json is what export_encoder writes."""
    check_fields(value, {
        "format": int, "num_bits": int, "mean": (int, float), "std": (int, float),
        "pixel_range": list, "settings": dict, "network_settings": (dict, type(None)),
        "inputs": (str, type(None)), "vectors": (str, type(None)),
        "identities": (list, type(None)),
        "crop": (dict, type(None))}, "the file")
    if value["format"] != FORMAT:
        raise ValueError(f"it is of another version ({value['format']})")
    try:
        settings = Config.recorded(value["settings"])
        method = method_of(settings)
    except UserError as error:
        raise ValueError(str(error))
    if not method.is_searchable:
        raise ValueError(f"method {settings.method} has no encoder")
    if value["num_bits"] != settings.num_bits:
        raise ValueError(f"its num_bits is {value['num_bits']}, that of its settings "
                         f"{settings.num_bits}")
    if method.needs_features_of and value.get("network_settings") is None:
        raise ValueError(f"it has no 'network_settings', which method {settings.method} needs")
    if value.get("inputs", "images") != method.inputs:
        raise ValueError(f"its 'inputs' are not those of method {settings.method}")
    if value.get("vectors") not in (None, method.vectors):
        raise ValueError(f"its 'vectors' are not those of method {settings.method}")
    pixel_range = value["pixel_range"]
    if len(pixel_range) != 2 or not all(type(end) in (int, float) for end in pixel_range) or (
            not pixel_range[0] < pixel_range[1]):
        raise ValueError("its 'pixel_range' is not an ascending pair of numbers")
    if value["std"] < 0:
        raise ValueError("its 'std' is negative")
