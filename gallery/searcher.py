"""What the page asks of a gallery, as plain values; follows the gallery when it changes."""

import os
import threading
from typing import NamedTuple

from evaluation import packing
from faces.photographs import decode_photograph, quiet_pillow
from gallery import results
from gallery.answers import MOST_TOP, Judge
from gallery.gallery import Gallery
from gallery.index import Index
from gallery.query_faces import check_embedder, encoder_input, find_faces
from runtime.errors import UserError
from runtime.pages import data_url

PAGE = 24  # faces a page, unless asked for otherwise
MOST_PAGE = 200


class State(NamedTuple):
    """One state of the gallery, and what searches it."""

    gallery: Gallery
    index: Index
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
        self._state = State(gallery, open_index(gallery), make_judge(gallery))
        self._encoder = gallery.open_encoder()
        self._encoding = threading.Lock()
        # An image takes up to some hundred MB while it is unpacked and searched for faces.
        self._reading = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._changing = threading.Lock()
        check_embedder(self._encoder.metadata)
        self._encoder.warm_up()

    @property
    def state(self):
        """The State that answers now."""
        return self._state

    def refresh(self):
        """Takes up a change of the gallery's; if it cannot be read, goes on with what there was."""
        if not self._changing.acquire(False):
            return
        try:
            old = self._state.gallery
            if not old.is_current():
                new = Gallery.open(old.path)
                if new.state["encoder_id"] != old.state["encoder_id"]:
                    with self._encoding:
                        self._encoder.close()
                        self._encoder = new.open_encoder()
                self._state = State(new, self._open_index(new), self._make_judge(new))
        except UserError:
            pass
        finally:
            self._changing.release()

    def describe(self):
        """What the page says of the gallery, and the curve behind its threshold."""
        self.refresh()
        state = self._state
        gallery, calibration = state.gallery, state.gallery.calibration
        curve = None
        if calibration:
            curve = {"probes": calibration.probes, "of_queries": calibration.of_queries,
                     "points": [[calibration.false_accept_rate(distance),
                                 calibration.highest_rate(distance),
                                 calibration.miss_rate(distance)]
                                for distance in range(gallery.num_bits + 1)]}
        return {"name": gallery.path.name, "faces": len(gallery),
                "people": len(gallery.contents.names), "num_bits": gallery.num_bits,
                "engine": state.index.name, "threshold": state.judge.threshold,
                "why_nobody": state.judge.why_nobody(), "rate": state.judge.rate, "curve": curve,
                "page": PAGE}

    def browse(self, offset, count):
        """Some faces of the gallery in the order of their ids."""
        gallery = self._state.gallery
        rows = range(min(offset, len(gallery)), min(offset + count, len(gallery)))
        return {"total": len(gallery), "faces": [
            {"id": int(gallery.contents.items.ids[row]), "identity": gallery.name(row)}
            for row in rows]}

    def thumbnail(self, face_id):
        """The bytes of a face's thumbnail. Raises KeyError where there is none."""
        gallery = self._state.gallery
        return gallery.thumbnail(gallery.row_of(face_id))

    def query(self, data):
        """The faces of a photograph's bytes, each with its nearest faces.

        Raises:
            PhotographError: it is no image, damaged, or too large.
        """
        with self._reading, quiet_pillow():
            metadata = self._encoder.metadata
            faces = find_faces(decode_photograph(data), metadata)
        if not faces:
            return {"faces": []}
        codes = packing.pack(self._encode(encoder_input(faces, metadata)))
        return {"faces": [dict(self.neighbours(packing.to_text(code)), box=list(face.box),
                               image=data_url(face.thumbnail))
                          for face, code in zip(faces, codes)]}

    def neighbours_of(self, face_id, **options):
        """The nearest faces of one of the gallery's; see neighbours.

        Raises:
            KeyError: there is none of this id.
        """
        gallery = self._state.gallery
        row = gallery.row_of(face_id)
        answer = self.neighbours(packing.to_text(gallery.contents.items.codes[row]), **options)
        return dict(answer, id=face_id, identity=gallery.name(row), place=gallery.place(row))

    def neighbours(self, code, offset=0, count=PAGE, threshold=None):
        """A page of the nearest faces of a code.

        Args:
            code: text, see packing.to_text.
            offset, count: which of them.
            threshold: distance to name by; None for the calibrated one.

        Raises:
            ValueError: the code is none.
        """
        state = self._state
        judge = state.judge if threshold is None else Judge(
            state.gallery, state.judge.rate, threshold, state.judge.voters)
        top = min(offset + count, MOST_TOP, len(state.gallery))
        answer = results.answer_dict(state.gallery, judge.answer(
            state.index, packing.from_text(code), top))
        answer["neighbours"] = answer["neighbours"][offset:]
        return dict(answer, code=code, offset=offset, total=min(len(state.gallery), MOST_TOP))

    def _encode(self, images):
        with self._encoding:
            return self._encoder.encode(images)
