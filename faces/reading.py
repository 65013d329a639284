"""Photographs -> faces, by several threads."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image
from tqdm import tqdm

from faces import photographs
from faces.duplicates import perceptual_hash
from faces.outcomes import Rejected


class Face(NamedTuple):
    """What is kept of a photograph.

    Attributes:
        row: uint8 [3 * size * size], one image in the order channel, row, column.
        hash: uint64, the perceptual hash of the face.
        sha256: hash of the file.
        box: (left, top, right, bottom) in pixels of the photograph.
        landmarks, score: see faces.cropping.CroppedFace.
        number: of several faces of one photograph, which; from 0, the largest first.
    """

    row: np.ndarray
    hash: np.uint64
    sha256: str
    box: tuple
    landmarks: Optional[tuple] = None
    score: Optional[float] = None
    number: int = 0


def read_face(photo, cropper, verify_sha256=False):
    """Reads one photograph and cuts its face out. Runs in several threads at once.

    Args:
        photo: a faces.sources.Photo.
        cropper: a faces.cropping.Cropper.
        verify_sha256: whether the file must have the hash that the source's list gives.

    Returns:
        A Face, or Rejected; where the cropper takes all faces and there are several, a list of
        Faces.
    """
    try:
        image, sha256 = photographs.open_photograph(photo.path)
    except photographs.PhotographError as error:
        return Rejected(error.code, error.detail)
    if verify_sha256 and photo.sha256 and sha256 != photo.sha256.lower():
        return Rejected("wrong_sha256")
    if photo.size and image.size != photo.size:
        return Rejected("wrong_size", "%dx%d" % image.size)
    cropped = cropper.crop(image, photo.box, sha256)
    if isinstance(cropped, Rejected):
        return cropped
    faces = [Face(found.face.transpose(2, 0, 1).reshape(-1),
                  perceptual_hash(Image.fromarray(found.face)), sha256, found.box,
                  found.landmarks, found.score, number)
             for number, found in enumerate(cropped)]
    return faces if len(faces) > 1 else faces[0]


def read_faces(photos, cropper, verify_sha256=False, workers=None):
    """Reads all photographs, with a bar that shows rate and remaining time.

    Args:
        photos, cropper, verify_sha256: see read_face.
        workers: threads; all cores by default.

    Returns:
        (photos, faces): one Photo and one Face or Rejected an item, in the order of `photos`; a
        photograph with several faces comes once for each.
    """
    read_photos, faces = [], []
    with photographs.quiet_pillow(), one_thread_a_call(), \
            ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        results = pool.map(lambda photo: read_face(photo, cropper, verify_sha256), photos)
        try:
            for photo, result in zip(photos, tqdm(results, total=len(photos), unit=" images",
                                                  desc="reading", disable=None)):
                found = result if isinstance(result, list) else [result]
                read_photos += [photo] * len(found)
                faces += found
        finally:
            results.close()  # after an interruption, the photos that are not begun are not read
    return read_photos, faces


@contextlib.contextmanager
def one_thread_a_call():
    """OpenCV works in the thread that calls it alone, for a while: here is one for each core."""
    try:
        import cv2
    except ImportError:  # boxes are cut out without it
        yield
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
