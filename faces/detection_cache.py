"""Detections that are kept, by file hash, so that no photograph is searched for faces twice.

A run that is stopped, or that crops otherwise, goes on from what is there.
"""

from faces.detection import Detection, detector_description
from faces.kept_lines import KeptLines


class DetectionCache(KeptLines):
    """The detections of one detector in one folder; see KeptLines.

    Args:
        folder: Path.
    """

    def __init__(self, folder):
        super().__init__(folder, "face_detections", detector_description())

    def get(self, sha256, region):
        """The Detections of a file (in a part of the image, or None), or None if not known."""
        try:
            faces = self.get_line(_key(sha256, region))
            return faces and [
                Detection(tuple(box), tuple((float(x), float(y)) for x, y in landmarks),
                          float(score)) for box, landmarks, score in faces]
        except (ValueError, TypeError):  # damaged
            return None

    def put(self, sha256, region, detections):
        """Keeps a file's Detections; where that fails they are found again next time."""
        self.put_line(_key(sha256, region), [list(face) for face in detections])


def _key(sha256, region):
    return "%s%s" % (sha256, "" if region is None else ":%d,%d,%d,%d" % region)
