"""A face that the detector missed: somebody draws a box around it."""

import json
import math
import os
from pathlib import Path

from PIL import Image

from faces.cropping import overlap
from faces.duplicates import perceptual_hash
from faces.photographs import open_photograph, quiet_pillow
from gallery import steps
from gallery.groups import regroup
from gallery.people import name_in, photographs_at
from gallery.questions import embed, encoded, face_in_box
from gallery.store import GIVEN, MARKED, open_encoder
from runtime.errors import UserError, one_line

LEAST_SIDE = 8  # pixels of a box
SAME = 0.5  # of the union of two boxes that they share: one face


def mark(path, file, box, name=None, in_shares=False):
    """Adds a face to a photograph of a gallery.

    Args:
        path: of the gallery.
        file: the photograph's path, as somebody types it, or its id (int).
        box: (left, top, right, bottom) in pixels of the upright photograph.
        name: of the person; None: whom the face resembles.
        in_shares: whether the box is in shares of the photograph's width and height instead.

    Returns:
        int, the face's id.

    Raises:
        UserError: there is no such photograph, its file is gone or has changed, the box is none or
            holds a face that is known, or the gallery takes each image for a face.
    """
    with steps.step(path) as writer:
        photograph = _photograph(writer, file)
        with quiet_pillow():
            opened = open_photograph(Path(photograph.path))
            if opened.sha256 != photograph.sha256.hex():
                raise UserError(f"{one_line(photograph.path)} has changed since it was indexed; "
                                f"first: python search.py add {path}")
            if in_shares:
                box = [share * side for share, side in zip(box, opened.size * 2)]
            _check_box(writer, photograph, box, opened.size)
            with open_encoder(writer.path, writer.info) as encoder:
                encoder.check_embedder()
                face, = encoded(embed([face_in_box(opened, tuple(map(float, box)), encoder)]),
                                encoder)
        steps.begin(writer, "a face was marked on "
                    + one_line(os.path.basename(photograph.path), 60))
        number = writer.rows("SELECT max(coalesce(max(number) + 1, 0), ?) FROM faces WHERE "
                             "photograph = ?", MARKED, photograph.id)[0][0]
        made = writer.add_face(
            photograph.id, number, None, face.code, perceptual_hash(Image.fromarray(face.pixels)),
            face.thumbnail, face.box, face.vector)
        writer.run("UPDATE photographs SET reason = '' WHERE id = ? AND reason != ''",
                   photograph.id)
        if name is not None:
            name_in(writer, [made], name)
        regroup(writer)
        return made


def _photograph(writer, file):
    """The store.Photograph of a path that somebody typed, or of an id."""
    ids = [file] if isinstance(file, int) else photographs_at(writer, [file])
    found = writer.read_photographs(f"id {GIVEN}", json.dumps(ids))
    if len(found) != 1:
        raise UserError(f"{one_line(file)} names {len(found) or 'no'} photographs; name one")
    return found[0]


def _check_box(writer, photograph, box, size):
    """Raises UserError unless a box lies in a photograph of (width, height), where no face is."""
    left, top, right, bottom = box if len(box) == 4 else [math.nan] * 4
    if not (0 <= left <= right - LEAST_SIDE <= size[0] - LEAST_SIDE  # not of NaN, either
            and 0 <= top <= bottom - LEAST_SIDE <= size[1] - LEAST_SIDE):
        raise UserError(f"{one_line(photograph.path)} has {size[0]}x{size[1]} pixels; a box is "
                        f"LEFT TOP RIGHT BOTTOM in those, with sides of at least {LEAST_SIDE}")
    for face, *known in writer.rows("SELECT id, box_left, box_top, box_right, box_bottom FROM "
                                    "faces WHERE photograph = ?", photograph.id):
        if overlap(known, box) >= SAME:
            raise UserError(f"face {face} is there already; say who it is: python search.py name "
                            f"{writer.path} --id {face} NAME")
