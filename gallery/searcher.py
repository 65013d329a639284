"""What the page asks of a gallery, as plain values; each answer is of the gallery as it is now."""

import hashlib
import io
import math
import threading
from pathlib import Path
from typing import NamedTuple, Optional

from PIL import Image, ImageDraw

from evaluation import packing
from faces.photographs import PhotographError, decode_photograph, quiet_pillow, read_photograph
from gallery import answers
from gallery.answers import MOST_TOP, Judge
from gallery.engines import Index
from gallery.questions import check_embedder, encoder_input, find_faces
from gallery.store import Gallery
from runtime.pages import data_url

PAGE = 24  # faces a page, unless asked for otherwise
MOST_PAGE = 200


SHOWN_SIDE = 1600  # pixels of the longer side of a photograph that is shown
FRAME = "#00a878"


class NotThere(Exception):
    """What was asked for is not there; the text says why."""


class State(NamedTuple):
    """One state of the gallery, and what searches it.

    Attributes:
        gallery: Gallery.
        index: Index; None of an empty gallery.
        judge: Judge.
    """

    gallery: Gallery
    index: Optional[Index]
    judge: Judge


class Searcher:
    """Answers the page's questions. One object serves several threads.

    Args:
        gallery: gallery.gallery.Gallery.
        open_index: function of a Gallery; gives an Index.
        make_judge: function of a Gallery; gives a Judge.
    """

    def __init__(self, gallery, open_index, make_judge):
        self._open_index = open_index
        self._make_judge = make_judge
        self._state = self._opened(gallery)
        self._encoder = gallery.open_encoder()
        self._encoding = threading.Lock()
        self._changing = threading.Lock()
        check_embedder(self._encoder.metadata)
        self._encoder.warm_up()

    def _opened(self, gallery):
        index = self._open_index(gallery) if len(gallery) else None
        return State(gallery, index, self._make_judge(gallery))

    def now(self):
        """The State of the gallery that is on the disk.

        Raises:
            UserError: it is not there any more, or damaged.
        """
        with self._changing:
            old = self._state.gallery
            if not old.is_current():
                new = Gallery.open(old.path)
                if new.info["encoder_id"] != old.info["encoder_id"]:
                    with self._encoding:
                        self._encoder.close()
                        self._encoder = new.open_encoder()
                self._state = self._opened(new)
            return self._state

    def describe(self):
        """What the page says of the gallery, and the curve behind its threshold."""
        state = self.now()
        gallery, calibration = state.gallery, state.gallery.calibration
        curve = None
        if calibration:
            curve = {"probes": calibration.probes, "source": calibration.source,
                     "of_queries": calibration.is_held_out,
                     "points": [[calibration.false_accept_rate(distance),
                                 calibration.highest_rate(distance),
                                 calibration.miss_rate(distance)]
                                for distance in range(gallery.num_bits + 1)]}
        return {"name": gallery.path.name, "faces": len(gallery),
                "people": len(gallery.names), "num_bits": gallery.num_bits,
                "engine": state.index.name if state.index else "none",
                "threshold": state.judge.threshold, "why_nobody": state.judge.why_nobody(),
                "rate": state.judge.rate, "caution": state.judge.caution(),
                "curve": curve, "page": PAGE}

    def browse(self, offset, count):
        """Some faces of the gallery in the order of their ids."""
        gallery = self.now().gallery
        rows = range(min(offset, len(gallery)), min(offset + count, len(gallery)))
        return {"total": len(gallery), "faces": [
            self._face(face) for face in gallery.faces(gallery.ids[rows.start:rows.stop])]}

    def _face(self, face):
        return {"id": face.id, "identity": face.name, "place": face.place,
                "file": face.photograph}

    def thumbnail(self, face_id):
        """The bytes of a face's thumbnail. Raises NotThere where there is none."""
        gallery = self.now().gallery
        return gallery.thumbnail(gallery.ids[_row_of(gallery, face_id)])

    def photograph(self, face_id):
        """The photograph that a face is on, the face framed: bytes of a JPEG.

        Only what was indexed is shown: a gallery from elsewhere can name any file.

        Raises:
            NotThere: there is no such face, or its photograph is gone or changed.
        """
        gallery = self.now().gallery
        face = gallery.faces([gallery.ids[_row_of(gallery, face_id)]])[0]
        if face.photograph is None:
            raise NotThere(f"this face is no photograph's: {face.place}")
        try:
            data = read_photograph(Path(face.photograph))
            if hashlib.sha256(data).digest() != face.sha256:
                raise NotThere(f"{face.photograph} has changed since it was indexed")
            photograph = decode_photograph(data)
        except PhotographError as error:
            raise NotThere(f"{face.photograph} {error.detail}")
        return framed(photograph.image, photograph.image_box(face.box))

    def query(self, data):
        """The faces of a photograph's bytes, each with its nearest faces.

        Raises:
            PhotographError: it is no image, damaged, or too large.
        """
        self.now()  # whose encoder it is
        metadata = self._encoder.metadata
        with quiet_pillow():
            faces = find_faces(decode_photograph(data), metadata)
        if not faces:
            return {"faces": []}
        with self._encoding:
            codes = packing.pack(self._encoder.encode(encoder_input(faces, metadata)))
        return {"faces": [dict(self.neighbours(packing.to_text(code)), box=list(face.box),
                               image=data_url(face.thumbnail))
                          for face, code in zip(faces, codes)]}

    def neighbours_of(self, face_id, offset=0, count=PAGE, threshold=None):
        """The nearest faces of one of the gallery's; see neighbours.

        Raises:
            NotThere: there is none of this id.
        """
        gallery = self.now().gallery
        row = _row_of(gallery, face_id)
        code = packing.to_text(gallery.codes[row])
        return dict(self.neighbours(code, offset, count, threshold),
                    **self._face(gallery.faces([gallery.ids[row]])[0]))

    def neighbours(self, code, offset=0, count=PAGE, threshold=None):
        """A page of the nearest faces of a code.

        Args:
            code: text, see packing.to_text.
            offset, count: which of them.
            threshold: distance to name by; None for the calibrated one.

        Raises:
            ValueError: the code is none.
        """
        state = self.now()
        packed = packing.from_text(code)
        if state.index is None:
            return {"verdict": None, "more_ties": 0, "neighbours": [], "code": code,
                    "offset": offset, "total": 0}
        judge = state.judge if threshold is None else Judge(
            state.gallery, state.judge.rate, threshold, state.judge.voters)
        top = min(offset + count, MOST_TOP, len(state.gallery))
        answer = answers.answer_dict(state.gallery, judge.answer(state.index, packed, top))
        answer["neighbours"] = answer["neighbours"][offset:]
        return dict(answer, code=code, offset=offset, total=min(len(state.gallery), MOST_TOP))


def framed(image, box):
    """An image with a frame around a box, no larger than a page shows it: bytes of a JPEG.

    Args:
        image: a PIL image of mode RGB.
        box: left, top, right, bottom in pixels.
    """
    scale = min(1, SHOWN_SIDE / max(image.size))
    size = [max(1, round(edge * scale)) for edge in image.size]
    image = image.resize(size, Image.BILINEAR)
    left, top, right, bottom = (float(edge) * scale for edge in box)
    if all(map(math.isfinite, box)) and left <= right and top <= bottom:
        ImageDraw.Draw(image).rectangle((left, top, right, bottom), outline=FRAME,
                                        width=max(2, max(size) // 250))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _row_of(gallery, face_id):
    try:
        return gallery.row_of(face_id)
    except KeyError:
        raise NotThere("the gallery holds no such face")
