"""Photographs -> faces of one size: cut out and aligned, in a way that can be repeated.

How it is done is a JSON object, `crop`. A data set's manifest and every run on it keep it, so
that a query that comes later is cut as the gallery was (crop_like).
"""

import functools
import math
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image

from faces import alignment, detection
from faces.outcomes import Rejected
from runtime.errors import UserError

VERSION = 1  # of the whole way; goes up when the same photograph would give other pixels
METHODS = ("detect", "box", "none")
CHOICES = ("largest", "all", "only")  # of several faces
# Of a source that tells where the face is, only so much around that place is searched, as a share
# of the box on each side; and the face has to overlap it by this much of their union.
SEARCH_MARGIN, LEAST_OVERLAP = 0.5, 0.1


class CroppedFace(NamedTuple):
    """One face.

    Attributes:
        face: uint8 [size, size, 3].
        box: (left, top, right, bottom) in pixels of the photograph.
        landmarks: five (x, y), see faces.detection.Detection; None if none were sought.
        score: of the detector, 0..1; None if there was none.
    """

    face: np.ndarray
    box: tuple
    landmarks: Optional[tuple] = None
    score: Optional[float] = None


def detect_crop(size, margin=0.0):
    """The `crop` of faces that are sought and aligned by five landmarks.

    Args:
        size: pixels of a face's side.
        margin: see faces.alignment.template.
    """
    return {"method": "detect", "version": VERSION, "size": size,
            "detector": detection.detector_description(),
            "template": [list(point) for point in alignment.TEMPLATE],
            "template_size": alignment.TEMPLATE_SIZE,
            "template_source": alignment.TEMPLATE_SOURCE, "margin": margin}


def box_crop(size, box=None, fraction=1.0):
    """The `crop` of faces that lie in a known box.

    Args:
        size: pixels of a face's side.
        box: (left, top, right, bottom) that holds for all photographs; "listed" where the source
            has one for each; None for the whole image.
        fraction: share of width and height to keep around the center, 0..1.
    """
    method = "none" if box is None and fraction == 1 else "box"
    return {"method": method, "version": VERSION, "size": size, "fraction": fraction,
            "box": list(box) if isinstance(box, tuple) else box}


def crop_like(crop, image):
    """Cuts the faces out of a photograph as those of a data set were.

    Args:
        crop: the `crop` of a data set's manifest; None (not known) takes the whole image.
        image: a PIL image, or uint8 [height, width, 3], RGB, the right way up
            (faces.photographs.open_photograph).

    Returns:
        List of CroppedFaces, the largest first; empty where no face is found. Where the crop is a
        box it has one item: that part of the image, or the whole where each photograph of the
        source had a box of its own or the box lies outside.

    Raises:
        UserError: `crop` is damaged, or of another version of this program.
    """
    if crop is None:
        crop = box_crop(32)
    check_crop(crop)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image = image.convert("RGB")
    cropper = Cropper(crop, faces="all")
    found = cropper.crop(image)
    if isinstance(found, Rejected):
        return [] if found.code == "no_face" else Cropper(box_crop(crop["size"])).crop(image)
    return found


class Cropper:
    """Cuts faces out of photographs. One object serves several threads.

    Args:
        crop: as detect_crop or box_crop make it.
        faces: which of several: "largest", "all", or "only" (a photograph with more is rejected).
        cache: a faces.detection_cache.DetectionCache, or None.
    """

    def __init__(self, crop, faces="largest", cache=None):
        self.crop_settings = crop
        self._faces = faces
        self._cache = cache
        self._detector = _detector() if crop["method"] == "detect" else None

    def crop(self, image, box=None, sha256=None):
        """The faces of one photograph.

        Args:
            image: a PIL image of mode RGB.
            box: where the source says the face is, or None.
            sha256: hash of its file, by which detections are kept; or None.

        Returns:
            List of CroppedFaces, or Rejected.
        """
        if self._detector is None:
            return self._cut(image, box)
        pixels = np.asarray(image)
        found = self._detections(pixels, box, sha256)
        if isinstance(found, Rejected):
            return found
        size, margin = self.crop_settings["size"], self.crop_settings["margin"]
        return [CroppedFace(alignment.align(pixels, face.landmarks, size, margin), *face)
                for face in found]

    def _cut(self, image, box):
        settings = self.crop_settings
        if box is None and isinstance(settings["box"], list):
            box = settings["box"]
        inside = box_inside(image.size, box, settings["fraction"])
        if inside is None:
            return Rejected("crop_outside", "the image is %dx%d" % image.size)
        size = settings["size"]
        return [CroppedFace(np.asarray(image.crop(inside).resize((size, size), Image.BILINEAR)),
                            inside)]

    def _detections(self, pixels, box, sha256):
        region = None
        if box is not None:
            height, width = pixels.shape[:2]
            region = box_inside((width, height), box, 1 + 2 * SEARCH_MARGIN)
            if region is None:
                return Rejected("crop_outside", "the image is %dx%d" % (width, height))
        found = self._cache.get(sha256, region) if self._cache and sha256 else None
        if found is None:
            left, top, right, bottom = region or (0, 0, pixels.shape[1], pixels.shape[0])
            found = [face.shifted(left, top)
                     for face in self._detector.detect(pixels[top:bottom, left:right])]
            if self._cache and sha256:
                self._cache.put(sha256, region, found)
        if not found:
            return Rejected("no_face" if box is None else "no_face_in_box")
        if box is not None:
            best = max(found, key=lambda face: overlap(face.box, box))
            if overlap(best.box, box) < LEAST_OVERLAP:
                return Rejected("no_face_in_box", "%d found beside it" % len(found))
            return [best]
        if self._faces == "only" and len(found) > 1:
            return Rejected("several_faces", "%d found" % len(found))
        return found if self._faces == "all" else found[:1]


@functools.lru_cache(maxsize=None)
def _detector():
    return detection.FaceDetector()


def box_inside(size, box, fraction):
    """The part of a box that lies in an image of (width, height), or None if nothing does.

    Args:
        size: (width, height).
        box: (left, top, right, bottom); None for the whole image.
        fraction: share of the box's sides to keep around its center; above 1 widens it.
    """
    left, top, right, bottom = box or (0, 0) + tuple(size)
    cut_x, cut_y = (right - left) * (1 - fraction) / 2, (bottom - top) * (1 - fraction) / 2
    left, top = max(round(left + cut_x), 0), max(round(top + cut_y), 0)
    right, bottom = min(round(right - cut_x), size[0]), min(round(bottom - cut_y), size[1])
    return (left, top, right, bottom) if right > left and bottom > top else None


def overlap(first, second):
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def check_crop(crop):
    """Raises UserError for a `crop` that this program does not repeat exactly."""
    try:
        method, size = crop["method"], crop["size"]
        numbers = [size, crop["margin"] if method == "detect" else crop["fraction"]]
        box = crop.get("box")
        good = (method in METHODS and type(size) is int and 0 < size <= 1024
                and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
                and (box in (None, "listed") or len(box) == 4 and all(
                    type(value) is int for value in box)))
        version = crop["version"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("the data set's manifest does not say how faces were cropped (%r); "
                        "prepare it again" % error)
    if not good:
        raise UserError("the data set's manifest has a damaged crop; prepare it again")
    if version != VERSION or (method == "detect"
                              and crop.get("detector") != detection.detector_description()):
        raise UserError("the data set's faces were cropped by another version of the detector or "
                        "of the crop (%s) than is installed; prepare it again" % version)
