"""Photographs, or a run's own images -> faces in a gallery."""

import contextlib
import os
import stat
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

import data_loader
from evaluation import packing
from faces.photographs import PhotographError, open_photograph, quiet_pillow, readable_extensions
from faces.reading import one_thread_a_call
from gallery.query_faces import check_embedder, encoder_input, find_faces, stored_input
from gallery.thumbnails import thumbnail_of
from runtime.errors import UserError

BATCH = 256  # faces encoded at once
AHEAD = 64  # photographs that are read before their faces are encoded
FACES = ("auto", "largest", "all")


class Photograph(NamedTuple):
    """A photograph file.

    Attributes:
        path: text, absolute.
        name: of the person, by the folder it lies in; None if it lies in none.
        size, time: bytes, and nanoseconds of its last change.
    """

    path: str
    name: str
    size: int
    time: int


class Reading(NamedTuple):
    """What became of a Photograph: its faces, or the reason why there are none."""

    faces: list
    reason: str
    digest: str


def find_photographs(folder):
    """The photographs in a folder, in the order of their paths.

    Args:
        folder: that holds photographs, or a folder for each person with photographs of them.

    Returns:
        List of Photographs.

    Raises:
        UserError: no such folder, or no photograph in it.
    """
    root = Path(os.path.abspath(str(folder)))
    if not root.is_dir():
        raise UserError("%s: no such folder of photographs" % folder)
    endings, found = readable_extensions(), []
    for place, folders, names in os.walk(str(root)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = Path(place).relative_to(root).parts
        for name in sorted(names):
            if name.lower().endswith(endings) and not name.startswith("."):
                with contextlib.suppress(OSError):  # gone, or a link to nothing
                    path = os.path.join(place, name)
                    status = os.stat(path)
                    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                        continue
                    found.append(Photograph(path, parts[0] if parts else None,
                                            status.st_size, status.st_mtime_ns))
    if not found:
        raise UserError("%s holds no photographs (%s)" % (folder, ", ".join(endings)))
    return found


def add_photographs(writer, encoder, photographs, faces="auto", workers=None):
    """Reads photographs, finds and encodes their faces, and hands them to a writer.

    Args:
        writer: a GalleryWriter.
        encoder: an Encoder.
        photographs: list of Photographs.
        faces: "all", "largest", or "auto": the largest where the person is known, else all. Of
            several faces the largest alone gets the person's name.
        workers: threads that read; all cores by default.

    Returns:
        OrderedDict: counts of photographs, faces, and photographs without a face by reason.
    """
    check_embedder(encoder.metadata)
    counts = OrderedDict(photographs=0, faces=0)
    waiting = []
    results = _read_ahead(photographs, encoder.metadata, workers or os.cpu_count())
    for photograph, reading in tqdm(results, total=len(photographs), unit=" photographs",
                                    desc="indexing", disable=None):
        counts["photographs"] += 1
        if reading.reason:
            counts[reading.reason] = counts.get(reading.reason, 0) + 1
        found = reading.faces
        if faces == "largest" or (faces == "auto" and photograph.name is not None):
            found = found[:1]
        counts["faces"] += len(found)
        number = writer.add_photograph(photograph.path, reading.reason, photograph.size,
                                       photograph.time, reading.digest)
        waiting += [(face, number, place, photograph.name if place == 0 else None)
                    for place, face in enumerate(found)]
        if len(waiting) >= BATCH:
            _encode(writer, encoder, waiting)
            waiting = []
    _encode(writer, encoder, waiting)
    return counts


def add_run_images(writer, encoder, dataset, train, names):
    """Hands a run's own gallery, its training images, to a writer.

    Args:
        writer: a GalleryWriter.
        encoder: an Encoder.
        dataset: config.Dataset.
        train: data_loader.ImageSet.
        names: list of people's names by label, or None.
    """
    for start in range(0, len(train.labels), BATCH):
        some = slice(start, start + BATCH)
        codes = packing.pack(encoder.encode(stored_input(train, some, encoder.metadata)))
        for place, (image, code) in enumerate(zip(data_loader.displayable(train, some), codes)):
            label = int(train.labels[start + place])
            row = start + place if train.rows is None else int(train.rows[start + place])
            writer.add_face(code, names[label] if names else "%s %d" % (dataset.name, label),
                            thumbnail_of(Image.fromarray(image)), face=row)


def _encode(writer, encoder, waiting):
    """Encodes faces and hands them to the writer."""
    if not waiting:
        return
    codes = packing.pack(encoder.encode(
        encoder_input([face for face, _, _, _ in waiting], encoder.metadata)))
    for code, (face, number, place, name) in zip(codes, waiting):
        writer.add_face(code, name, face.thumbnail, number, place, face.box)


def _read_ahead(photographs, metadata, workers):
    """Yields (Photograph, Reading) in order; a few are read ahead, by threads."""
    waiting = deque()
    with quiet_pillow(), one_thread_a_call(), ThreadPoolExecutor(workers) as pool:
        try:
            for photograph in photographs:
                waiting.append((photograph, pool.submit(_read, photograph, metadata)))
                if len(waiting) >= AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _read(photograph, metadata):
    try:
        opened = open_photograph(Path(photograph.path))
        found = find_faces(opened, metadata)
    except PhotographError as error:
        return Reading([], "too large" if error.code == "too_large" else "no whole image", "")
    return Reading(found, "" if found else "no face found", opened.sha256)
