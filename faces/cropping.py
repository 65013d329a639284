"""Photographs -> faces of one size: cut out and aligned, in a way that can be repeated.

How it is done is a JSON object, `crop`. A data set's manifest and every run on it keep it, so
that a query that comes later is cut as the gallery was (crop_like).
"""

import functools
import json
import math

import numpy as np
from PIL import Image

from faces import alignment, detection
from faces.cache import Cache
from faces.detection import Face, Rejected
from faces.photographs import Photograph, decoding_description, photograph_of
from runtime.errors import UserError

# Of the whole way; goes up when the same photograph would give other pixels. Version 1 did not turn
# photographs that lie on their side or head; the others give the same pixels.
VERSION, READABLE_VERSIONS = 2, (1, 2)
CROPS = ("detect", "box", "none")
CHOICES = ("largest", "all", "only")  # of several faces
# Of a source that tells where the face is, only so much around that place is searched, as a share
# of the box on each side; and the face has to overlap it by this much of their union.
SEARCH_MARGIN, LEAST_OVERLAP = 0.5, 0.1


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


def crop_like(crop, photograph, cache=None):
    """Cuts the faces out of a photograph as those of a data set were.

    Args:
        crop: the `crop` of a data set's manifest; None (not known) takes the whole image.
        photograph: a faces.photographs.Photograph, a PIL image, or uint8 [height, width, 3], RGB.
        cache: of detection_cache, or None.

    Returns:
        List of faces.detection.Face, the largest first; empty where no face is found. Where the
        crop is a box it has one item: that part of the image, or the whole where each photograph
        of the source had a box of its own or the box lies outside.

    Raises:
        UserError: `crop` is damaged, or of another version of this program.
    """
    if crop is None:
        crop = box_crop(32)
    check_crop(crop)
    if not isinstance(photograph, Photograph):
        photograph = photograph_of(photograph)
    found = Cropper(crop, faces="all", cache=cache).crop(photograph)
    if isinstance(found, Rejected) and found.code == "crop_outside":
        found = Cropper(box_crop(crop["size"])).crop(photograph)
    return [] if isinstance(found, Rejected) else found


def detection_cache(folder):
    """The Cache of detections in a folder; see Cropper.

    Args:
        folder: Path.
    """
    return Cache(folder, "detections", {
        "decoding": decoding_description(), "detector": detection.detector_description(),
        "version": VERSION})


class Cropper:
    """Cuts faces out of photographs. One object serves several threads.

    Args:
        crop: as detect_crop or box_crop make it.
        faces: which of several: "largest", "all", or "only" (a photograph with more is rejected).
        cache: of detection_cache, or None.
    """

    def __init__(self, crop, faces="largest", cache=None):
        self.crop_settings = crop
        self._faces = faces
        self._cache = cache
        self._detector = _detector() if crop["method"] == "detect" else None

    def crop(self, photograph, box=None):
        """The faces of one photograph.

        Args:
            photograph: a faces.photographs.Photograph.
            box: where the source says the face is, in pixels of the photograph, or None.

        Returns:
            List of faces.detection.Face with their pixels, or Rejected.
        """
        if self._detector is None:
            faces = self._cut(photograph, box)
        else:
            faces = self._find(photograph, box)
        if photograph.incomplete:
            faces = [] if isinstance(faces, Rejected) else [
                face for face in faces if _lies_in(photograph.image_box(face.box), photograph)]
            if not faces:
                return Rejected("incomplete")
        if isinstance(faces, Rejected):
            return faces
        return [face._replace(number=number, incomplete=photograph.incomplete)
                for number, face in enumerate(faces)]

    def _cut(self, photograph, box):
        settings = self.crop_settings
        if box is None and isinstance(settings["box"], list):
            box = settings["box"]
        inside = box_inside(photograph.size, box, settings["fraction"])
        if inside is None:
            return Rejected("crop_outside", _size_detail(photograph))
        size = settings["size"]
        part = photograph.image.crop(_whole_pixels(photograph.image_box(inside)))
        return [Face(inside, pixels=np.asarray(part.resize((size, size), Image.BILINEAR)))]

    def _find(self, photograph, box):
        faces = self._detections(photograph, box)
        if isinstance(faces, Rejected):
            return faces
        pixels = np.asarray(photograph.image)
        size, margin = self.crop_settings["size"], self.crop_settings["margin"]
        return [face._replace(pixels=alignment.align(
            pixels, photograph.image_points(face.landmarks), size, margin)) for face in faces]

    def _detections(self, photograph, box):
        region = None
        if box is not None:
            region = box_inside(photograph.size, box, 1 + 2 * SEARCH_MARGIN)
            if region is None:
                return Rejected("crop_outside", _size_detail(photograph))
        found = self._kept_or_detected(photograph, region)
        if not found:
            return Rejected("no_face" if box is None else "no_face_in_box")
        if box is not None:
            best = max(found, key=lambda face: overlap(face.box, box))
            if overlap(best.box, box) < LEAST_OVERLAP:
                return Rejected("no_face_in_box", f"{len(found)} found beside it")
            return [best]
        if self._faces == "only" and len(found) > 1:
            return Rejected("several_faces", f"{len(found)} found")
        return found if self._faces == "all" else found[:1]

    def _kept_or_detected(self, photograph, region):
        """The Faces in a part of a photograph, a box, or in all of it (None)."""
        cache = self._cache if photograph.sha256 else None
        kept = cache.get(photograph.sha256, region) if cache else None
        if kept is not None:
            return [Face(tuple(box), tuple(map(tuple, landmarks)), score, turned)
                    for box, landmarks, score, turned in json.loads(kept.decode())]
        pixels, left, top = np.asarray(photograph.image), 0, 0
        if region is not None:
            left, top, right, bottom = _whole_pixels(photograph.image_box(region))
            pixels = pixels[top:bottom, left:right]
        found = [face.moved(left, top, photograph.shrunk)
                 for face in self._detector.detect(pixels)]
        if cache:
            cache.put(json.dumps([face[:4] for face in found]).encode(),
                      photograph.sha256, region)
        return found


def _size_detail(photograph):
    width, height = photograph.size
    return f"the image is {width}x{height}"


def _whole_pixels(box):
    """The smallest box of whole pixels around a box."""
    left, top, right, bottom = box
    return (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))


def _lies_in(box, photograph):
    """Whether a box lies in the part of an incomplete photograph that was read."""
    width, height = photograph.image.size
    left, top, right, bottom = photograph.read
    return (max(box[0], 0) >= left and max(box[1], 0) >= top
            and min(box[2], width) <= right and min(box[3], height) <= bottom)


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
        good = (method in CROPS and type(size) is int and 0 < size <= 1024
                and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
                and (box in (None, "listed") or len(box) == 4 and all(
                    type(value) is int for value in box)))
        version = crop["version"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("the data set's manifest does not say how faces were cropped "
                        f"({error!r}); prepare it again")
    if not good:
        raise UserError("the data set's manifest has a damaged crop; prepare it again")
    if version not in READABLE_VERSIONS or (method == "detect"
                              and crop.get("detector") != detection.detector_description()):
        raise UserError("the data set's faces were cropped by another version of the detector or "
                        f"of the crop ({version}) than is installed; prepare it again")
