"""Photographs -> faces as an encoder takes them, and their answers from a gallery."""

import io
import os
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image

from config import IMAGE_SIZE
from faces import cropping, embedding, walker
from faces.alignment import align
from faces.detection import Face, Rejected
from faces.photographs import PhotographError, open_photograph, quiet_pillow, turn_image
from gallery.answers import Result
from runtime.errors import UserError, one_line

MARGIN = 0.25  # what a thumbnail shows around a face, as a share of its box
# How much of the union of a box that somebody drew and of a face found there they share, at least.
MARKED_OVERLAP = 0.4
SIDE = 96  # pixels of a thumbnail's longer side; smaller images stay as they are
SMALL = 32  # images of at most so many pixels a side are kept without loss
JPEG_QUALITY = 88
# An image of a face, as ORL's, is filled by it to at least this share; of LFW's photographs, which
# were cut around the face already, it takes a fifth.
LEAST_FILLED = 0.35


class QueryFace(NamedTuple):
    """One face of a photograph."""

    pixels: np.ndarray  # uint8 [32, 32, 3], what most encoders take
    box: tuple  # left, top, right, bottom in pixels of the photograph
    thumbnail: bytes  # a JPEG or PNG, for people
    embedding: Optional[np.ndarray] = None  # float32 [128], where the encoder takes that
    turned: int = 0  # degrees counterclockwise that the photograph was turned by to find it
    incomplete: bool = False  # whether the photograph's file lacks its end
    # (Face, uint8 [150, 150, 3]): what was found, and what the embedding network takes, where the
    # embedding is still to be made.
    chip: Optional[tuple] = None
    code: Optional[int] = None  # uint64; this and the vector come from `encoded`
    vector: Optional[np.ndarray] = None  # float32 [V], if the encoder makes any


def query_photographs(gallery, index, judge, paths, top, radius=None, least=0):
    """The Results for all faces of some photographs.

    Args:
        index: gallery.engines.Index of the gallery.
        judge: gallery.answers.Judge.
        paths: photographs, or folders of them.
        top, radius, least: see Judge.answer.

    Returns:
        (results, unread): list of Results; list of (path, reason) of photographs without a face.

    Raises:
        UserError: there is no face on any of them.
    """
    found, unread = [], []
    with gallery.open_encoder() as encoder, quiet_pillow():
        encoder.check_embedder()
        for path in _all_photographs(paths):
            faces, sha256 = _faces_of(path, encoder, unread)
            if not faces:
                continue
            same = gallery.same_photographs(sha256)
            found += [Result(path, number, len(faces), face, judge.answer(
                index, face.code, top, radius, face.vector, least), same)
                for number, face in enumerate(encoded(faces, encoder), 1)]
    if not found:
        path, reason = unread[0]
        others = f"; no face in the other {len(unread) - 1} photographs either"
        raise UserError(f"{one_line(path)}: {reason}{others * (len(unread) > 1)}")
    return found, unread


def _all_photographs(paths):
    """The photographs that paths name; those of a folder in order. Texts."""
    return [photograph for path in paths for photograph in (
        [str(file.path) for file in find_photographs(path)[0]] if os.path.isdir(path)
        else [path])]


def find_photographs(folder):
    """What faces.walker.walk finds in a folder. Raises UserError if that is not a photograph."""
    photographs, left_out = walker.walk(Path(folder))
    if not photographs:
        raise UserError("; ".join([f"{one_line(folder)} holds no photographs"]
                                  + walker.notes(left_out)))
    return photographs, left_out


def _faces_of(path, encoder, unread):
    """(faces, sha256) of one photograph; where there is no face, the reason goes to `unread`."""
    try:
        photograph = open_photograph(Path(path))
        check_is_face(photograph, encoder)
    except PhotographError as error:
        unread.append((path, error.detail))
        return [], None
    faces = find_faces(photograph, encoder)
    if not faces:
        unread.append((path, "no face was found"))
    return faces, bytes.fromhex(photograph.sha256)


def check_is_face(photograph, encoder):
    """Raises PhotographError for a photograph where each image is taken for a face."""
    if encoder.metadata["crop"] is None and is_more_than_a_face(photograph):
        raise PhotographError("the photograph", "unreadable", "the gallery takes each image for a "
                              "face, and this photograph shows more than one; make a gallery of "
                              "photographs without naming a run")


def is_more_than_a_face(photograph):
    """Whether the largest face of a photograph fills so little of it that it was not cut out."""
    try:
        faces = cropping.crop_like(cropping.detect_crop(IMAGE_SIZE), photograph)
    except UserError:  # the detector is not installed
        return False
    width, height = photograph.size
    return bool(faces) and faces[0].area < LEAST_FILLED * width * height


def find_faces(photograph, encoder):
    """The faces of a photograph, the largest first: see cut_out and embed."""
    return embed(cut_out(photograph, encoder))


def cut_out(photograph, encoder, cache=None):
    """The faces of a photograph, the largest first; `embed` completes them.

    Args:
        photograph: a faces.photographs.Photograph.
        encoder: methods.export.Encoder. Its crop says how faces are cut out; where that is not
            known the whole image is the face; for ORL's grey faces it is taken without colour.
        cache: FaceCache, or None.

    Returns:
        List of QueryFaces; empty where no face is found.
    """
    metadata = encoder.metadata
    if metadata["dataset"] == "orl":
        photograph = photograph._replace(image=photograph.image.convert("L").convert("RGB"))
    faces = cropping.crop_like(metadata["crop"], photograph, cache and cache.detections)
    return _query_faces(photograph, faces, encoder, cache)


def face_in_box(photograph, box, encoder):
    """The face in a box that somebody has drawn, as a QueryFace.

    Where the detector finds no face that fills the box, its landmarks are taken to lie at the usual
    places.

    Args:
        photograph: a faces.photographs.Photograph.
        box: (left, top, right, bottom) in its pixels.
        encoder: methods.export.Encoder.

    Raises:
        UserError: the gallery does not look for faces in its photographs.
    """
    crop = encoder.metadata["crop"]
    if crop is None or crop["method"] != "detect":
        raise UserError("this gallery takes each image for a face; none can be marked in it")
    found = cropping.Cropper(crop).crop(photograph, box)
    if not isinstance(found, Rejected) and cropping.overlap(found[0].box, box) >= MARKED_OVERLAP:
        face = found[0]._replace(box=box)
    else:
        landmarks = embedding.usual_landmarks(box)
        face = Face(box, tuple(map(tuple, landmarks)), pixels=align(
            np.asarray(photograph.image), photograph.image_points(landmarks), crop["size"],
            crop["margin"]))
    return _query_faces(photograph, [face], encoder, None)[0]


def _query_faces(photograph, faces, encoder, cache):
    """The QueryFaces of detection.Faces of a photograph; see find_faces."""
    turned = faces[0].turned if faces else 0
    image = turn_image(photograph.image, turned)
    faces = [face._replace(sha256=photograph.sha256) for face in faces]
    known = [cache and cache.embeddings and cache.embeddings.get_embedding(face) for face in faces]
    chips = iter(encoder.face_chips(photograph, [
        face for face, vector in zip(faces, known) if vector is None]))
    found = []
    for face, vector in zip(faces, known):
        if face.pixels.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"faces are cut to {face.pixels.shape} pixels")
        shown = _surroundings(image, photograph.turned_box(face.box, turned))
        chip = next(chips) if vector is None else None
        found.append(QueryFace(
            face.pixels, tuple(map(float, face.box)), thumbnail_of(shown), vector, turned,
            photograph.incomplete, None if chip is None else (face, chip)))
    return found


def embed(faces, cache=None):
    """QueryFaces of cut_out, of any number of photographs, with their embeddings.

    Args:
        cache: FaceCache, or None.

    Raises:
        UserError: the embedding network is not installed.
    """
    chips = [face.chip[1] for face in faces if face.chip]
    made = iter(embedding.shared_embedder().embed_chips(chips) if chips else ())
    done = []
    for face in faces:
        if face.chip:
            found, face = face.chip[0], face._replace(embedding=next(made), chip=None)
            if cache:
                cache.embeddings.put_embedding(found, face.embedding)
        done.append(face)
    return done


def encoded(faces, encoder):
    """QueryFaces that `embed` has completed, with their codes and vectors."""
    if not faces:
        return []
    return [face._replace(code=code, vector=vector)
            for face, code, vector in zip(faces, *encoder.describe(encoder.given(faces)))]


class FaceCache:
    """Detections and embeddings in a folder (a Path), which prepare.py reads and writes, too.

    Closes itself as a context manager. See faces.cache.
    """

    def __init__(self, folder, encoder):
        detects = (encoder.metadata["crop"] or {}).get("method") == "detect"
        self.detections = cropping.detection_cache(folder) if detects else None
        self.embeddings = encoder.embedding_cache(folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for cache in (self.detections, self.embeddings):
            if cache:
                cache.close()


def _surroundings(image, box):
    """The part of an image in and around a box, within the image."""
    left, top, right, bottom = box
    add_x, add_y = (right - left) * MARGIN, (bottom - top) * MARGIN
    inside = (max(int(left - add_x), 0), max(int(top - add_y), 0),
              min(int(right + add_x), image.width), min(int(bottom + add_y), image.height))
    return image.crop(inside) if inside[2] > inside[0] and inside[3] > inside[1] else image


def thumbnail_of(image):
    """The bytes that show a PIL image of mode RGB in any browser: PNG where it is small, else JPEG.
    """
    buffer = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG")
    else:
        image = image.copy()
        image.thumbnail((SIDE, SIDE), Image.BILINEAR)
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
