"""The range of raw pixels, which files do not state: bytes, fractions, 16 bits."""

import numpy as np

from runtime.errors import UserError

# By kind of type; the first range that holds all values is taken for theirs.
PIXEL_RANGES = {"u": [(0, 255), (0, 65535)], "i": [(0, 255), (0, 65535)],
                "f": [(0, 1), (-1, 1), (0, 255)]}
MAX_PIXEL = 2 ** 32  # magnitude; beyond that of any image format, and well within float32
# How many times as wide as another a range may be. -1..1 and 0..255 are beyond it; what differs
# less may be the darker part of the same data.
MAX_WIDTH_RATIO = 20


def find_pixel_range(images, source="images"):
    """The raw pixels that stand for black and white, told from type and values.

    Args:
        images: integer or floating array, not empty.
        source: what to call it in an error message.

    Returns:
        (low, high) as floats; for values of no usual range, the least and the greatest of them.
        None for values, bytes apart, that are all equal, which may be of any range.

    Raises:
        UserError: values that are NaN, infinite or beyond MAX_PIXEL.
    """
    if images.dtype == np.uint8:
        return 0.0, 255.0
    least, most = float(images.min()), float(images.max())
    if not -MAX_PIXEL <= least <= most <= MAX_PIXEL:  # comparisons with NaN are false
        raise UserError("%s: some pixels are NaN, infinite or beyond %d; download or prepare it "
                        "again" % (source, MAX_PIXEL))
    for low, high in PIXEL_RANGES[images.dtype.kind]:
        if low <= least and most <= high:
            return None if least == most else (float(low), float(high))
    return None if least == most else (least, most)


def common_range(ranges):
    """The pixel range of several files; refuses ranges that differ as 0..1 and 0..255 do.

    One mean and one standard deviation normalise all of them: the narrower would be all black.

    Args:
        ranges: [(path, pixel range)], a file or folder and what find_pixel_range returned.

    Returns:
        (low, high), or None if no range is known.

    Raises:
        UserError: the ranges differ; the message names a file of each.
    """
    by_width = sorted((found[1] - found[0], str(path), found)
                      for path, found in ranges if found is not None)
    if not by_width:
        return None
    (least, narrow_path, narrow), (most, wide_path, wide) = by_width[0], by_width[-1]
    if most > MAX_WIDTH_RATIO * least:
        raise UserError("%s: its pixels lie in %g..%g, but those of %s in %g..%g; store all of "
                        "them in one range" % ((narrow_path,) + narrow + (wide_path,) + wide))
    return (min(low for _, _, (low, _) in by_width), max(high for _, _, (_, high) in by_width))
