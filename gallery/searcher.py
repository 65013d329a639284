"""What the page asks of a gallery, as plain values; each answer is of the gallery as it is now."""

import io
import math
import threading
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image, ImageDraw

from evaluation import packing
from faces.photographs import PhotographError, decode_photograph, open_photograph, quiet_pillow
from gallery import groups, marking, people, texts
from gallery.answers import MOST_TOP, Judge
from gallery.engines import Index
from gallery.questions import check_is_face, encoded, find_faces
from gallery.store import Gallery
from methods.export import Encoder
from reports.html import data_url
from runtime.errors import Failed, UserError

PAGE = 24  # faces a page, unless asked for otherwise
MOST_PAGE = 200
SHOWN_SIDE = 1600  # pixels of the longer side of a photograph that is shown
FRAME = "#00a878"
EXAMPLES, SUGGESTIONS = 4, 12  # faces of a group that its card shows; and suggestions
MOST_CHANGED = 10000  # faces at once
ATTEMPTS = 10  # the gallery may change while an answer is put together


class NotThere(Exception):
    """What was asked for is not there; the text says why."""


class State(NamedTuple):
    """One state of the gallery, and what searches it."""

    gallery: Gallery
    index: Optional[Index]  # None of an empty gallery
    judge: Judge
    encoder: Encoder


class Searcher:
    """Answers the page's questions. One object serves several threads.

    Args:
        gallery: gallery.store.Gallery.
        open_index: function of a Gallery; gives an Index.
        make_judge: function of a Gallery; gives a Judge.
    """

    def __init__(self, gallery, open_index, make_judge):
        self._open_index = open_index
        self._make_judge = make_judge
        self._encoding = threading.Lock()
        self._changing = threading.Lock()
        self._grouped = None  # version of the gallery, its groups and suggestions
        self._state = self._opened(gallery, self._open_encoder(gallery))

    def _open_encoder(self, gallery):
        encoder = gallery.open_encoder()
        encoder.check_embedder()
        encoder.warm_up()
        return encoder

    def _opened(self, gallery, encoder):
        index = self._open_index(gallery) if len(gallery) else None
        return State(gallery, index, self._make_judge(gallery), encoder)

    def now(self):
        """The State of the gallery that is on the disk.

        Raises:
            UserError: it is not there any more, or damaged.
        """
        with self._changing:
            gallery, encoder = self._state.gallery, self._state.encoder
            if not gallery.is_current():
                new = Gallery.open(gallery.path)
                new.take_vectors(gallery)
                if new.info["encoder_id"] == gallery.info["encoder_id"]:
                    self._state = self._opened(new, encoder)
                else:
                    self._state = self._opened(new, self._open_encoder(new))
                    with self._encoding:
                        encoder.close()
            return self._state

    def _answer(self, ask):
        """What `ask` says of the State that is on the disk: a function of it.

        Where that raises KeyError because a face was removed meanwhile, it is asked again.

        Raises:
            UserError: see now.
            NotThere: `ask` raises KeyError although nothing has changed.
        """
        for _ in range(ATTEMPTS):
            state = self.now()
            try:
                return ask(state)
            except KeyError:
                if state.gallery.is_current():
                    raise NotThere("the gallery holds no such face or photograph")
        raise Failed(f"{state.gallery.path} changes too fast to be searched; try again")

    def describe(self):
        """What the page says of the gallery, and the curve behind its threshold."""
        state = self.now()
        gallery, judge = state.gallery, state.judge
        points = judge.comparison.curve()
        curve = points and {"source": judge.comparison.source(), "points": points}
        return {"name": gallery.path.name, "faces": len(gallery), "people": len(gallery.names),
                "num_bits": gallery.num_bits, "engine": state.index.name if state.index else "none",
                "threshold": judge.threshold, "step": judge.comparison.step,
                "decided_by": judge.comparison.name, "why_nobody": judge.why_nobody(),
                "rate": judge.rate, "rate_text": texts.rate_line(judge),
                "caution": judge.caution(), "curve": curve, "page": PAGE}

    def people(self):
        """The names that the gallery knows, in order."""
        return {"names": sorted(self.now().gallery.names.values())}

    def browse(self, offset, count):
        """Some faces of the gallery in the order of their ids."""
        return self._answer(lambda state: {
            "total": len(state.gallery),
            "faces": _faces(state.gallery, state.gallery.ids[offset:offset + count])})

    def thumbnail(self, face_id):
        """The bytes of a face's thumbnail. Raises NotThere where there is none."""
        return self._answer(lambda state: state.gallery.thumbnail(face_id))

    def photograph(self, face_id):
        """The photograph that a face is on, the face framed: bytes of a JPEG.

        Only what was indexed is shown: a gallery from elsewhere can name any file.

        Raises:
            NotThere: there is no such face, or its photograph is gone or changed.
        """
        face, = self._answer(lambda state: state.gallery.faces([face_id]))
        if face.photograph is None:
            raise NotThere(f"{face.place} is not a photograph's")
        photograph = _as_indexed(face.photograph, face.sha256)
        return framed(photograph.image, photograph.image_box(face.box))

    def whole_photograph(self, number):
        """A photograph as a page shows it: bytes of a JPEG. Raises NotThere, see photograph."""
        found = self._answer(lambda state: state.gallery.photograph(number))
        return framed(_as_indexed(found.path, found.sha256).image, None)

    def without_face(self, offset, count):
        """Some photographs in which no face was found."""
        gallery = self.now().gallery
        return {"total": gallery.count("photographs", "reason LIKE '%no face found'"),
                "photographs": [{"photograph": number, "place": path}
                                for number, path in gallery.without_face(offset, count)]}

    # People, and groups of faces without a name

    def groups(self, offset, count):
        """Some people and groups, the largest first; and which may be one person."""
        def ask(state):
            gallery = state.gallery
            if self._grouped is None or self._grouped[0] != gallery.version:
                found = groups.groups_of(gallery)
                shown = [group for group in found
                         if group.name is not None or len(group.rows) > 1]
                self._grouped = (gallery.version, shown, len(found) - len(shown),
                                 groups.suggestions(gallery, found, SUGGESTIONS))
            _, shown, single, suggested = self._grouped
            return {"total": len(shown), "single": single, "last_step": gallery.last_step(),
                    "groups": [_group(gallery, group) for group in shown[offset:offset + count]],
                    "suggestions": [{"first": _group(gallery, first),
                                     "second": _group(gallery, second),
                                     "distance": round(distance, 4)}
                                    for first, second, distance in suggested]}
        return self._answer(ask)

    def group(self, who, offset, count):
        """Some faces of a person or group, those most like the others first. Raises NotThere."""
        def ask(state):
            gallery = state.gallery
            found = next((group for group in groups.groups_of(gallery) if group.who == who), None)
            if found is None:
                raise NotThere("the gallery has no such person or group")
            rows = groups.sort_by_likeness(gallery, found.rows)[offset:offset + count]
            return dict(_group(gallery, found), total=len(found.rows),
                        faces=_faces(gallery, gallery.ids[rows]))
        return self._answer(ask)

    def change(self, values):
        """Does what a person says of people, groups and faces.

        Args:
            values: dict with "do" and what that takes; see CHANGES.

        Returns:
            dict: the last step, which can be undone, as text.

        Raises:
            ValueError: the values are none, or what they ask cannot be; the text says why.
            Failed: another process is changing the gallery.
        """
        path = str(self._state.gallery.path)
        try:
            change, fields = CHANGES[values["do"]]
            given = [_checked(values[name], kind) for name, kind in fields.items()]
        except (KeyError, TypeError):
            raise ValueError("a change is sent as JSON: " + ", ".join(CHANGES))
        try:
            change(path, *given)
        except Failed:
            raise
        except UserError as error:
            raise ValueError(str(error))
        return {"last_step": self.now().gallery.last_step()}

    def query(self, data):
        """The faces of a photograph's bytes, each with its nearest faces.

        Raises:
            PhotographError: it is not an image, damaged, or too large.
        """
        with quiet_pillow():
            photograph = decode_photograph(data)
            return self._answer(lambda state: {"faces": self._query(state, photograph)})

    def _query(self, state, photograph):
        check_is_face(photograph, state.encoder)
        faces = find_faces(photograph, state.encoder)
        if not faces:
            return []
        same = state.gallery.same_photographs(bytes.fromhex(photograph.sha256))
        with self._encoding:
            if state.encoder is not self._state.encoder:
                raise KeyError("the encoder has changed meanwhile")
            faces = encoded(faces, state.encoder)
        return [dict(_neighbours(state, code_text(face.code, face.vector)), box=list(face.box),
                     same=same, image=data_url(face.thumbnail)) for face in faces]

    def neighbours_of(self, face_id, offset=0, count=PAGE, threshold=None):
        """The nearest faces of one of the gallery's; see neighbours. Raises NotThere."""
        def ask(state):
            gallery = state.gallery
            text = code_text(gallery.codes[gallery.row_of(face_id)],
                             gallery.vector_of(face_id))
            return dict(_neighbours(state, text, offset, count, threshold),
                        **_faces(gallery, [face_id])[0])
        return self._answer(ask)

    def neighbours(self, code, offset=0, count=PAGE, threshold=None):
        """A page of the nearest faces of a code.

        Args:
            code: text, see code_text.
            offset, count: which of them.
            threshold: distance to name by; None for the calibrated one.

        Raises:
            ValueError: the code is none.
        """
        return self._answer(lambda state: _neighbours(state, code, offset, count, threshold))


def _neighbours(state, code, offset=0, count=PAGE, threshold=None):
    packed, vector = from_code_text(code)
    total = min(len(state.gallery), MOST_TOP)
    answer = {"verdict": None, "more_ties": 0, "neighbours": []}
    if state.index is not None:
        judge = state.judge.with_threshold(threshold)
        if judge.comparison.name != "codes" and (
                vector is None or len(vector) != state.gallery.vector_size):
            raise ValueError(f"the face's vector has not {state.gallery.vector_size} values")
        answer = texts.answer_dict(state.gallery, judge.answer(
            state.index, packed, min(offset + count, total), vector=vector))
    answer["neighbours"] = answer["neighbours"][offset:]
    for face in answer["neighbours"]:
        face["photograph"] = _photograph_of(state.gallery, face["id"])
    return dict(answer, code=code, offset=offset, total=total)


def code_text(code, vector=None):
    """What a face is searched by, as text: packing.to_text, and its vector, if any, as float16."""
    return packing.to_text(code) + ("" if vector is None else vector.astype("<f2").tobytes().hex())


def from_code_text(text):
    """(code, vector or None) of code_text's text. Raises ValueError for anything else."""
    digits = 2 * packing.CODE_BYTES
    code = packing.from_text(text[:digits])
    if len(text) == digits:
        return code, None
    vector = np.frombuffer(bytes.fromhex(text[digits:]), "<f2").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a value of a vector is not finite")
    return code, vector


def framed(image, box):
    """A PIL image (RGB) with a frame around a box, if any, as a page shows it: bytes of a JPEG."""
    scale = min(1, SHOWN_SIDE / max(image.size))
    size = [max(1, round(edge * scale)) for edge in image.size]
    image = image.resize(size, Image.BILINEAR)
    if box is not None and all(map(math.isfinite, box)):
        left, top, right, bottom = (float(edge) * scale for edge in box)
        if left <= right and top <= bottom:
            ImageDraw.Draw(image).rectangle((left, top, right, bottom), outline=FRAME,
                                            width=max(2, max(size) // 250))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _as_indexed(path, sha256):
    """The photographs.Photograph of a file that was indexed. Raises NotThere if it is another."""
    try:
        with quiet_pillow():
            photograph = open_photograph(Path(path))
    except PhotographError as error:
        raise NotThere(f"{path} {error.detail}")
    if photograph.sha256 != sha256.hex():
        raise NotThere(f"{path} has changed since it was indexed")
    return photograph


def _group(gallery, group):
    """A Group as plain values, with some of its faces."""
    return {"who": group.who, "name": group.name, "size": len(group.rows),
            "examples": gallery.ids[group.rows[:EXAMPLES]].tolist()}


def _checked(value, kind):
    """A value of a request. Raises ValueError if it is of another kind."""
    kind, is_list = (kind[0], True) if isinstance(kind, list) else (kind, False)
    items = value if is_list else [value]
    if not isinstance(items, list) or not all(
            type(item) is kind or (kind is float and type(item) is int) for item in items) or any(
            kind is int and abs(item) >= 2 ** 63 for item in items) or (
            is_list and not 1 <= len(items) <= MOST_CHANGED):
        raise ValueError("a change has a value of another kind than it takes")
    return value


def _mark(path, photograph, box, name):
    """Marks a face; its box is in shares of the photograph's width and height."""
    marking.mark(path, photograph, box, name.strip() or None, in_shares=True)


# What the page may ask to be changed: a function of the gallery's path, and what it takes.
CHANGES = {
    "name": (people.name_faces, {"ids": [int], "name": str}),
    "name_group": (people.name_group, {"who": str, "name": str}),
    "rename": (people.rename, {"old": str, "new": str}),
    "merge": (people.merge, {"who": str, "into": str}),
    "keep_apart": (people.keep_apart, {"who": str, "other": str}),
    "split": (people.split, {"ids": [int]}),
    "reject": (people.reject, {"ids": [int]}),
    "mark": (_mark, {"photograph": int, "box": [float], "name": str}),
    "undo": (people.undo, {})}


def _faces(gallery, ids):
    """Faces as plain values. Raises KeyError for an id that is not there."""
    return [{"id": face.id, "person": face.name, "place": face.place, "file": face.photograph,
             "photograph": _photograph_of(gallery, face.id)} for face in gallery.faces(ids)]


def _photograph_of(gallery, face_id):
    """Number of the photograph that a face is on; below 0 of a data set's image."""
    return int(gallery.photographs[gallery.row_of(face_id)])
