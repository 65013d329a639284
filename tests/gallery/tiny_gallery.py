"""Small galleries for tests, without a run: codes around centers, thumbnails of one colour; and of
tiny photographs, whose whole image is the face.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation import packing
from evaluation.codes import signs
from gallery.following import Follower, Report
from gallery.questions import thumbnail_of
from gallery.store import Gallery, Writer
from methods.export import Encoder


def metadata(num_bits=48, **changes):
    """An encoder.json."""
    return dict(dict(method="itq", num_bits=num_bits, dataset="orl", crop=None, mean=0.0, std=1.0,
                     pixel_range=[0.0, 255.0], run="/runs/tiny", data="d", settings={"seed": 0},
                     provenance=[{"start": "2026-01-01"}]), **changes)


def codes_of_people(people, num_bits, noise=0.05, seed=0):
    """Codes near the center of each one's person: uint64 [n]."""
    centers = signs(np.random.RandomState(0).standard_normal((max(people, default=0) + 1,
                                                                num_bits)))
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
    with Writer(path, make=True) as writer:
        folder = writer.path / "encoder"
        folder.mkdir(exist_ok=True)
        (folder / "encoder.json").write_text(json.dumps(values))
        writer.start(values, "encoder")
        writer.info["engine"] = engine
        writer.run("INSERT INTO sources VALUES (?)", b"/photographs")
        add_faces(writer, people, num_bits, names, paths, seed)
        writer.commit()
    return Gallery.open(path)


def add_to_gallery(path, people, paths=None, seed=1):
    """Adds faces to a gallery; returns it."""
    with Writer(path) as writer:
        add_faces(writer, people, writer.info["num_bits"], None, paths, seed)
        writer.commit()
    return Gallery.open(path)


def add_faces(writer, people, num_bits, names, paths, seed):
    """Hands faces to a writer, and their photographs."""
    names = names or (lambda person: f"person {person}")
    codes = codes_of_people(people, num_bits, seed=seed)
    hashes = np.random.RandomState(seed).randint(2 ** 62, size=len(people))
    for row, (person, code) in enumerate(zip(people, codes)):
        number, label = None, names(person)
        if paths:
            number = writer.add_photograph(paths[row], bytes([seed, row % 256] * 16), 100 + row,
                                           200 + row, label, False, 1)
        writer.add_face(number, 0 if paths else row, writer.person(label), code, hashes[row],
                        colour(row + 1000 * seed), (1, 2, 3, 4))


class TinyEncoder(Encoder):
    """Stands for an exported encoder: a bit is whether a pixel is bright. Whole images are faces.
    """

    metadata = metadata(dataset="tiny", mean=127.5)
    encoded = 0  # images, by all of them

    def __init__(self):
        super().__init__(self.metadata, self._brightness, lambda: None)

    def _brightness(self, images):
        TinyEncoder.encoded += len(images)
        return images.reshape(len(images), -1)[:, :48 * 64:64], None

def save_photograph(path, number):
    """Writes a photograph that no other number gives; returns its Path."""
    path = Path(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(number).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(str(path))
    return path


def index_folders(path, *folders, people="folders", faces="auto", encoder=TinyEncoder):
    """Makes a gallery of folders of photographs; returns the Report."""
    with Writer(path, make=True) as writer:
        report = Report(writer.notes)
        folder = writer.path / "encoder"
        folder.mkdir(exist_ok=True)
        (folder / "encoder.json").write_text(json.dumps(encoder.metadata))
        writer.start(encoder.metadata, "encoder")
        writer.info.update(people=people, faces=faces)
        Follower(writer, report, encoder).follow([str(folder) for folder in folders])
        writer.commit()
    return report


def contents(path):
    """All that a gallery of photographs answers with, in an order that ids play no part in."""
    with Gallery.open(path) as gallery:
        gallery.check()
        faces = gallery.faces(gallery.ids)
        return sorted((face.place, face.name, face.box, face.sha256, int(code),
                       gallery.thumbnail(face.id))
                      for face, code in zip(faces, gallery.codes)), gallery.left_out()
