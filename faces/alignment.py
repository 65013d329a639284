"""Faces turned, scaled and shifted so that eyes, nose and mouth always lie at the same places."""

import numpy as np

# Where the five landmarks lie in a square of 112 pixels: the reference points that ArcFace (Deng et
# al., CVPR 2019) and its successors align to. They are those of SphereFace (Liu et al., CVPR 2017)
# for 96 x 112 pixels, 8 pixels further right. Order: as faces.detection.Face's.
TEMPLATE_SIZE = 112
TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366),
            (41.5493, 92.3655), (70.7299, 92.2041))
TEMPLATE_SOURCE = ("ArcFace (Deng et al., CVPR 2019), 112x112; from SphereFace (Liu et al., "
                   "CVPR 2017), 96x112")

# Pixels of a larger square for one of the result, in each direction: see align.
MOST_SUPERSAMPLING = 32


def template(size, margin):
    """Where the five landmarks go in a square crop.

    Args:
        size: pixels of its side.
        margin: what is added on each side, as a share of the template's own side; may be negative.

    Returns:
        float [5, 2], x and y in pixels (the first pixel's center is 0).
    """
    shares = (np.array(TEMPLATE) + 0.5) / TEMPLATE_SIZE  # from the first pixel's left upper corner
    return (shares + margin) / (1 + 2 * margin) * size - 0.5


def similarity(source, target):
    """The rotation, scaling and shift that takes points nearest to others, in least squares.

    Args:
        source, target: float [n, 2], n >= 2, not all of a side equal.

    Returns:
        float [2, 3]: the matrix M with target ~ M . (x, y, 1).

    Raises:
        ValueError: the source points coincide.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    from_center, to_center = source.mean(axis=0), target.mean(axis=0)
    # As complex numbers, rotation and scaling are one factor.
    from_points, to_points = [points[:, 0] + 1j * points[:, 1] for points in (
        source - from_center, target - to_center)]
    spread = np.sum(np.abs(from_points) ** 2)
    if spread < 1e-9:
        raise ValueError("the landmarks coincide")
    factor = np.sum(np.conj(from_points) * to_points) / spread
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([linear, (to_center - linear.dot(from_center))[:, None]])


def align(image, landmarks, size, margin):
    """The face with these landmarks, warped to the template.

    Args:
        image: uint8 [height, width, 3].
        landmarks: five (x, y) in its pixels.
        size: pixels of the result's side.
        margin: see template.

    Returns:
        uint8 [size, size, 3]. Outside the photograph its edge pixels are repeated.

    Raises:
        ValueError: the landmarks coincide.
    """
    return warp(image, landmarks, template(size, margin), size)


def warp(image, landmarks, target, size):
    """The face turned, scaled and shifted so that its landmarks lie at given places; see align.

    Args:
        image: uint8 [height, width, 3].
        landmarks: n >= 2 (x, y) in its pixels.
        target: float [n, 2], where they go in the result (the first pixel's center is 0).
        size: pixels of the result's side.
    """
    import cv2

    # A warp reads single pixels. Where many fall on one of the result, it goes to a larger square
    # first, whose pixels are then averaged.
    matrix = similarity(landmarks, target)
    image, landmarks = _window(image, landmarks, matrix, size)
    scale = np.linalg.norm(matrix[:, 0])
    finer = int(np.clip(np.ceil(1 / max(scale, 1e-9)), 1, MOST_SUPERSAMPLING))
    matrix = similarity(landmarks, (np.asarray(target) + 0.5) * finer - 0.5)
    warped = cv2.warpAffine(image, matrix, (size * finer, size * finer), flags=cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REPLICATE)
    return warped if finer == 1 else cv2.resize(warped, (size, size),
                                                interpolation=cv2.INTER_AREA)


def _window(image, landmarks, matrix, size):
    """The part of an image that a crop needs, and landmarks there: OpenCV warps 32,767 at most.
    """
    corners = np.array([[-1, -1], [size, -1], [-1, size], [size, size]], float)
    source = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    low = np.floor(source.min(axis=0)).astype(int) - 2
    high = np.ceil(source.max(axis=0)).astype(int) + 3
    edge = np.array(image.shape[1::-1])
    low, high = np.clip(low, 0, edge - 1), np.clip(high, 1, edge)
    low = np.minimum(low, high - 1)
    return image[low[1]:high[1], low[0]:high[0]], np.asarray(landmarks, float) - low
