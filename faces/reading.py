"""Photographs -> faces, by several threads."""

import contextlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from tqdm import tqdm

from faces import photographs
from faces.detection import Face, Rejected
from faces.duplicates import perceptual_hash


def read_face(photo, cropper, verify_sha256=False):
    """Reads one photograph and cuts its faces out. Runs in several threads at once.

    Args:
        photo: a faces.sources.Photo.
        cropper: a faces.cropping.Cropper.
        verify_sha256: whether the file must have the hash that the source's list gives.

    Returns:
        A list of faces.detection.Faces, or of a Rejected alone.
    """
    try:
        photograph = photographs.open_photograph(photo.path)
    except photographs.PhotographError as error:
        return [Rejected(error.code, error.detail)]
    if verify_sha256 and photo.sha256 and photograph.sha256 != photo.sha256.lower():
        return [Rejected("wrong_sha256")]
    if photo.size and photograph.size != photo.size:
        width, height = photograph.size
        return [Rejected("wrong_size", f"{width}x{height}")]
    found = cropper.crop(photograph, photo.box)
    if isinstance(found, Rejected):
        return [found]
    return [face._replace(hash=perceptual_hash(Image.fromarray(face.pixels)),
                          sha256=photograph.sha256) for face in found]


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
            for photo, found in zip(photos, tqdm(results, total=len(photos), unit=" images",
                                                 desc="reading", disable=None)):
                read_photos += [photo] * len(found)
                faces += found
        finally:
            results.close()  # after an interruption, the photos that are not begun are not read
    return read_photos, faces


def count_conditions(faces):
    """How many photographs were turned, and how many are incomplete, of those that have faces.

    Args:
        faces: Faces (and, which do not count, Rejected or None); a photograph may have several.

    Returns:
        Counter with some of the keys "turned" (of which "turned 90", "turned 180", "turned 270",
        in degrees counterclockwise) and "incomplete".
    """
    counts = Counter()
    for face in faces:
        if isinstance(face, Face) and face.number == 0:
            counts.update(["turned", f"turned {face.turned}"] if face.turned else [])
            counts.update(["incomplete"] if face.incomplete else [])
    return counts


def condition_notes(faces):
    """Lines for people that say what count_conditions counts."""
    counts, notes = count_conditions(faces), []
    if counts["turned"]:
        each = ", ".join(f"{counts[f'turned {degrees}']} by {degrees}" for degrees in (
            90, 180, 270) if counts[f"turned {degrees}"])
        notes.append(f"{counts['turned']} photographs lay on their side or head and were turned "
                     f"({each} degrees counterclockwise)")
    if counts["incomplete"]:
        notes.append(f"{counts['incomplete']} photographs are incomplete files; their faces lie "
                     "in the part that is there")
    return notes


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
