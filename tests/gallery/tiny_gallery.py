"""Small galleries for tests, without a run: codes around centers, thumbnails of one colour."""

import json

import numpy as np
from PIL import Image

from evaluation import packing
from evaluation.codes import signs
from gallery import gallery_items
from gallery.gallery_writer import GalleryWriter
from gallery.thumbnails import thumbnail_of


def metadata(num_bits=48, **changes):
    """An encoder.json."""
    return dict(dict(method="itq", num_bits=num_bits, dataset="orl", crop=None, mean=0.0, std=1.0,
                     pixel_range=[0.0, 255.0], run="/runs/tiny", data="d", settings={"seed": 0},
                     provenance=[{"start": "2026-01-01"}]), **changes)


def codes_of_people(people, num_bits, noise=0.05, seed=0):
    """Codes near the center of each one's person: uint64 [n]."""
    centers = signs(np.random.RandomState(0).standard_normal((max(people) + 1, num_bits)))
    flips = np.where(np.random.RandomState(seed).rand(len(people), num_bits) < noise, -1, 1)
    return packing.pack(centers[list(people)] * flips)


def colour(number):
    """A thumbnail that no other number has."""
    return thumbnail_of(Image.new("RGB", (8, 8), (number % 256, number // 256, 7)))


def write_gallery(path, people, num_bits=48, names=None, paths=None, engine=None, seed=0,
                  **changes):
    """Writes a gallery, or one of the same encoder again; returns the Gallery.

    Args:
        path: its folder.
        people: number of the person of each face.
        names: function of that number; gives a name or None.
        paths: texts, a photograph for each face; by default images of a data set.
    """
    values = metadata(num_bits, **changes)
    with GalleryWriter(path) as writer:
        folder = writer.path / writer.encoder_folder()
        folder.mkdir()
        (folder / "encoder.json").write_text(json.dumps(values))
        add_faces(writer, people, num_bits, names, paths, seed)
        return writer.commit(writer.added(writer.next_id), writer.encoder_folder(), values,
                             engine, ["/photographs"])


def add_to_gallery(path, people, paths=None, seed=1):
    """Adds faces to a gallery; returns it."""
    with GalleryWriter(path) as writer:
        add_faces(writer, people, writer.old.num_bits, None, paths, seed)
        return writer.commit(gallery_items.join(writer.old.contents,
                                                writer.added(writer.next_id)))


def add_faces(writer, people, num_bits, names, paths, seed):
    """Hands faces to a writer, and their photographs."""
    names = names or (lambda person: "person %d" % person)
    codes = codes_of_people(people, num_bits, seed=seed)
    for row, (person, code) in enumerate(zip(people, codes)):
        number = gallery_items.NO_NUMBER
        if paths:
            number = writer.add_photograph(paths[row], "", 100 + row, 200 + row, "%064x" % row)
        writer.add_face(code, names(person), colour(row + 1000 * seed), number,
                        face=0 if paths else row, box=(1, 2, 3, 4))
