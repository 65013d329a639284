"""Detections that are kept, by file hash, so that no photograph is searched for faces twice.

One line of JSON a photograph is appended to a hidden file beside the data sets. A run that is
stopped, or that crops otherwise, goes on from what is there.
"""

import hashlib
import json
import os
import threading

from faces.detection import Detection, detector_description


class DetectionCache:
    """The detections of one detector in one folder. One object serves several threads.

    Several processes may use the file at once: a line is one write at its end. A line that is not
    whole is passed over.

    Args:
        folder: Path; made when the first detection is kept.
    """

    def __init__(self, folder):
        description = json.dumps(detector_description(), sort_keys=True)
        self.path = folder / (".face_detections_%s.jsonl" % hashlib.sha256(
            description.encode()).hexdigest()[:12])
        self._lock = threading.Lock()
        self._lines = {}  # as text: a tenth of what the tuples take
        self._descriptor = None
        self._broken = False
        try:
            with open(str(self.path), "rb") as stream:
                for line in stream:
                    key, _, faces = line.partition(b" ")
                    if faces.endswith(b"\n"):
                        self._lines[key] = faces
        except OSError:
            pass  # none yet, or not readable: then they are made again

    def get(self, sha256, region):
        """The Detections of a file (in a part of the image, or None), or None if not known."""
        line = self._lines.get(_key(sha256, region))
        if line is None:
            return None
        try:
            return [Detection(tuple(box), tuple((float(x), float(y)) for x, y in landmarks),
                              float(score))
                    for box, landmarks, score in json.loads(line.decode())]
        except (ValueError, TypeError):  # damaged
            return None

    def put(self, sha256, region, detections):
        """Keeps a file's Detections; where that fails they are found again next time."""
        key = _key(sha256, region)
        line = json.dumps([list(face) for face in detections]).encode() + b"\n"
        with self._lock:
            self._lines[key] = line
            if self._broken:
                return
            try:
                if self._descriptor is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._descriptor = os.open(
                        str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                    if os.fstat(self._descriptor).st_size:
                        os.write(self._descriptor, b"\n")  # ends what a killed run left
                os.write(self._descriptor, key + b" " + line)
            except OSError:
                self._broken = True

    def close(self):
        """Closes the file."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _key(sha256, region):
    return ("%s%s" % (sha256, "" if region is None else ":%d,%d,%d,%d" % region)).encode()
