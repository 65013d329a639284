"""Faces -> 128 floats each, by a network that was trained on other people: dlib's.

The network (Davis King, 2017) is a ResNet of 29 convolutions that was trained on about 3 million
photographs of 7,485 people, at 150x150 pixels, to put each person's faces into a ball of radius 0.6
that no other person's reaches. dlib finds five landmarks in the face's box (the corners of the
eyes, and the nose) and turns and scales the face by them, as the network's training faces were. The
trained networks are two files of the package face_recognition_models, whose own code is not
imported: it needs pkg_resources. Both packages are optional.
"""

import functools
import hashlib
import importlib.util
import threading
from pathlib import Path

import numpy as np

from config import EMBEDDING_SIZE
from runtime.errors import UserError

PACKAGE = "face_recognition_models 0.3.0"
LANDMARKS, NETWORK = ("shape_predictor_5_face_landmarks.dat",
                      "dlib_face_recognition_resnet_model_v1.dat")
CHIP_SIZE, PADDING = 150, 0.25  # what the network was trained on
INSTALL = "pip install -r requirements-embedding.txt"


class FaceEmbedder:
    """dlib's networks. One object serves several threads, one at a time: they keep state.

    Raises:
        UserError: a package is not installed, or a network's file is damaged.
    """

    def __init__(self):
        landmarks, network = model_files()
        import dlib

        try:
            self._find_landmarks = dlib.shape_predictor(str(landmarks))
            self._network = dlib.face_recognition_model_v1(str(network))
        except RuntimeError as error:
            raise UserError("the networks of face_recognition_models cannot be read (%s); run: pip "
                            "install --force-reinstall --no-deps %s"
                            % (str(error)[:100], PACKAGE.replace(" ", "==")))
        self._lock = threading.Lock()

    def embed(self, image, boxes):
        """The embeddings of some faces of a photograph.

        Args:
            image: uint8 [height, width, 3], RGB.
            boxes: of each face, (left, top, right, bottom) in pixels; may reach beyond the image.

        Returns:
            float32 [n, 128].
        """
        image = np.ascontiguousarray(image)
        found = np.empty((len(boxes), EMBEDDING_SIZE), np.float32)
        with self._lock:
            for place, box in enumerate(boxes):
                found[place] = self._network.compute_face_descriptor(self._chip(image, box))
        return found

    def _chip(self, image, box):
        """The face turned and scaled by its landmarks: uint8 [150, 150, 3]."""
        import dlib

        left, top, right, bottom = [int(round(edge)) for edge in box]
        # dlib's boxes include their right and lower edges.
        inside = dlib.rectangle(left, top, max(right - 1, left + 1), max(bottom - 1, top + 1))
        landmarks = self._find_landmarks(image, inside)
        return dlib.get_face_chip(image, landmarks, CHIP_SIZE, PADDING)


@functools.lru_cache(maxsize=None)
def shared_embedder():
    """One FaceEmbedder for the whole process: the networks take a second to read."""
    return FaceEmbedder()


def model_files():
    """Paths of the two files: landmarks, network.

    Raises:
        UserError: a package is not installed or not whole.
    """
    if importlib.util.find_spec("dlib") is None:
        raise UserError("face embeddings need the package dlib-bin, which is not installed; run: "
                        + INSTALL)
    spec = importlib.util.find_spec("face_recognition_models")  # finds it without importing it
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folder) / "models" / name for folder in folders[:1]
             for name in (LANDMARKS, NETWORK)]
    if not files or not all(path.is_file() for path in files):
        raise UserError("face embeddings need the networks of the package face_recognition_models, "
                        "which is not installed or not whole; run: " + INSTALL)
    return files


def embedding_description():
    """What an embedding depends on, as a JSON object: kept with every set that has embeddings.

    Raises:
        UserError: see model_files.
    """
    landmarks, network = model_files()
    import dlib

    return {"name": "dlib face recognition, ResNet-29", "dlib": dlib.__version__,
            "package": PACKAGE, "landmarks_sha256": _sha256(landmarks),
            "network_sha256": _sha256(network), "chip_size": CHIP_SIZE, "padding": PADDING,
            "size": EMBEDDING_SIZE}


def check_same_embedding(description):
    """Raises UserError unless embeddings made here can be compared with those of a data set.

    Args:
        description: of the data set: its manifest's "embedding".
    """
    here = embedding_description()
    for name in ("network_sha256", "landmarks_sha256", "chip_size", "padding"):
        if not isinstance(description, dict) or description.get(name) != here[name]:
            raise UserError("the gallery's embeddings were made by another network than the one "
                            "that is installed (%s differs); prepare the data again with "
                            "--embedding and train again" % name)


@functools.lru_cache(maxsize=None)
def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
