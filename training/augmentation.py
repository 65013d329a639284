"""Training images -> other images of the same people: flipped, shifted, partly erased. Numpy alone.

Dimensions: B batch.
"""

import zlib

import numpy as np

# Random erasing (Zhong et al., AAAI 2020): share of the image, and ratio of its sides.
ERASED_AREA = (0.02, 0.25)
ERASED_RATIO = (0.3, 3.3)


def augmented(images, config, epoch, step):
    """The batch as it is trained on; the images themselves where the settings ask for no change.

    What is drawn depends on seed, epoch and step alone, so that a resumed run needs no stored
    random state and several workers draw the same for their joint batch.

    Args:
        images: float32 [B, 32, 32, 3], normalised.
        config: anything with seed, epochs, flip, shift, erase and plain_share of config.Config.
        epoch, step: of the batch, from 0.

    Returns:
        float32 [B, 32, 32, 3].
    """
    plain = epoch >= config.epochs - round(config.epochs * config.plain_share)
    if plain or not (config.flip or config.shift or config.erase):
        return images
    rng = np.random.RandomState(zlib.crc32(
        ("augmentation, seed %d, epoch %d, step %d" % (config.seed, epoch, step)).encode()))
    result = images.copy()
    if config.flip:
        mirrored = rng.rand(len(images)) < 0.5
        result[mirrored] = result[mirrored, :, ::-1]
    if config.shift:
        result = shifted(result, rng.randint(0, 2 * config.shift + 1, (len(images), 2)),
                         config.shift)
    for index in np.flatnonzero(rng.rand(len(images)) < config.erase):
        rows, columns = erased_box(rng, images.shape[1:3])
        result[index, rows, columns] = 0.0  # the mean of all training pixels
    return result


def shifted(images, offsets, most):
    """Images cut out of their continuation by the border's pixels, `most` on each side.

    Args:
        images: float32 [B, height, width, channels].
        offsets: int [B, 2], row and column of the cut, 0..2 * most; `most` changes nothing.
        most: pixels.

    Returns:
        float32 of the same shape.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), "edge")
    return np.stack([image[row:row + height, column:column + width]
                     for image, (row, column) in zip(padded, offsets)])


def erased_box(rng, shape):
    """A random box inside an image of `shape` (height, width): slices of rows and columns."""
    area = rng.uniform(*ERASED_AREA) * shape[0] * shape[1]
    ratio = np.exp(rng.uniform(*np.log(ERASED_RATIO)))
    sides = [int(np.clip(round(side), 1, most)) for side, most in zip(
        (np.sqrt(area * ratio), np.sqrt(area / ratio)), shape)]
    starts = [rng.randint(0, most - side + 1) for side, most in zip(sides, shape)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides))
