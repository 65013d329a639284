"""dlib's face recognition network in TensorFlow: its weights file, and its graph.

The network (Davis King, 2017) is a residual network of 29 convolutions. Its structure is public
(dlib's example dnn_face_recognition_ex.cpp), and its weights are in the public domain. Dimensions:
B faces, C channels.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from config import EMBEDDING_SIZE
from runtime.errors import UserError
from runtime.tensorflow import tf

CHIP_SIZE = 150  # pixels of a face's side
MEAN_COLOUR = (122.782, 117.001, 104.298)  # red, green, blue
SCALE = 1 / 256
STEM_SIZE, STEM_CHANNELS = 7, 32  # the first convolution's; all others have 3 x 3 pixels
# Channels of each level, and how many blocks of two convolutions it has. All levels but the first
# begin with a block that halves height and width.
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
FEATURES = LEVELS[-1][0]

WEIGHTS_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
WEIGHTS_BYTES = 22466066
# Between two tensors, dlib writes names and settings of layers, which the graph knows: at most 341
# bytes in this file.
MOST_BETWEEN = 400


class Weights(NamedTuple):
    """What the network has learned.

    Attributes:
        convolutions: 29 pairs (filters, bias), from the input to the output: float32 [height,
            width, C in, C out] and [C out].
        projection: float32 [256, 128], of the last layer.
    """

    convolutions: list
    projection: np.ndarray


def read_weights(path):
    """Reads dlib_face_recognition_resnet_model_v1.dat.

    Args:
        path: Path of the file.

    Returns:
        Weights.

    Raises:
        UserError: the file cannot be read, or is not exactly the one that dlib's author published.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})")
    if len(data) != WEIGHTS_BYTES:
        raise UserError(f"{path} has {len(data):,} bytes; the weights of dlib's face recognition "
                        f"network have {WEIGHTS_BYTES:,}")
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise UserError(f"{path} does not hold the weights of dlib's face recognition network: its "
                        "sha256 differs")
    return parse_weights(data)


def parse_weights(data):
    """The Weights in the bytes of the file; see read_weights.

    Raises:
        ValueError: a tensor is missing or has another size, or bytes are left over.
    """
    position, convolutions = 0, []
    for size, channels_in, channels_out in _convolution_sizes():
        # dlib keeps filters as [C out, C in, height, width], followed by the biases.
        shape = (channels_out, channels_in, size, size)
        values, position = _read_tensor(data, position, np.prod(shape) + channels_out)
        filters, bias = values[:-channels_out].reshape(shape), values[-channels_out:]
        # An affine layer stands in batch norm's place: gamma * (convolution + bias) + beta. That is
        # one convolution with other filters and biases.
        values, position = _read_tensor(data, position, 2 * channels_out)
        gamma, beta = values.reshape(2, channels_out)
        convolutions.append(((filters * gamma[:, None, None, None]).transpose(2, 3, 1, 0),
                             gamma * bias + beta))
    projection, position = _read_tensor(data, position, FEATURES, EMBEDDING_SIZE)
    if len(data) - position > MOST_BETWEEN:
        raise ValueError(f"{len(data) - position} bytes are left over")
    return Weights(convolutions, projection.reshape(FEATURES, EMBEDDING_SIZE))


def _convolution_sizes():
    """(height and width, C in, C out) of each convolution, from the input to the output."""
    sizes = [(STEM_SIZE, len(MEAN_COLOUR), STEM_CHANNELS)]
    for channels, blocks in LEVELS:
        for _ in range(2 * blocks):
            sizes.append((3, sizes[-1][2], channels))
    return sizes


def _read_tensor(data, position, rows, columns=1):
    """The next tensor after a position.

    Args:
        data: bytes of the file.
        position: where the tensor before it ends.
        rows, columns: its sizes; dlib's other two dimensions are 1.

    Returns:
        (values, position): float32 [rows * columns], and where they end.

    Raises:
        ValueError: no such tensor is there.
    """
    # The version of dlib's format (2), and the four dimensions.
    header = b"".join(map(_whole_number, (2, rows, columns, 1, 1)))
    found = data.find(header, position, position + MOST_BETWEEN + len(header))
    start, count = found + len(header), int(rows * columns)
    end = start + 4 * count
    if found < 0 or end > len(data):
        raise ValueError(f"no tensor of {rows} x {columns} values after byte {position}")
    return np.frombuffer(data, "<f4", count, start).astype(np.float32), end


def _whole_number(value):
    """dlib's form of a whole number above 0: the count of its bytes, then these, lowest first."""
    digits = int(value).to_bytes(8, "little").rstrip(b"\0")
    return bytes([len(digits)]) + digits


def embedding_graph(faces, weights):
    """Adds the network to the graph.

    Args:
        faces: uint8 tensor [B, 150, 150, 3], RGB.
        weights: Weights.

    Returns:
        float32 tensor [B, 128].
    """
    convolutions = iter(weights.convolutions)

    def convolve(maps, stride):
        filters, bias = next(convolutions)
        # Where the size stays, dlib pads; where it is halved, dlib does not.
        padding = "SAME" if stride == 1 else "VALID"
        return tf.nn.bias_add(tf.nn.conv2d(maps, filters, strides=[1, stride, stride, 1],
                                           padding=padding), bias)

    maps = (tf.cast(faces, tf.float32) - MEAN_COLOUR) * SCALE  # [B, 150, 150, 3]
    maps = tf.nn.relu(convolve(maps, stride=2))  # [B, 72, 72, 32]
    maps = tf.nn.max_pool(maps, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")  # [B, 35, 35, 32]
    # Height and width after the five levels: 35, 17, 8, 4 and 2.
    for level, (_, blocks) in enumerate(LEVELS):
        for block in range(blocks):
            halve = level > 0 and block == 0
            residual = tf.nn.relu(convolve(maps, stride=2 if halve else 1))
            residual = convolve(residual, stride=1)
            if halve:
                maps = tf.nn.avg_pool(maps, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
            maps = tf.nn.relu(_padded_sum(residual, maps))
    features = tf.reduce_mean(maps, axis=[1, 2])  # [B, 256]
    return tf.matmul(features, weights.projection)  # [B, 128]


def _padded_sum(first, second):
    """The sum of two tensors [B, height, width, C], the smaller padded with zeros at each end.

    A shortcut that was halved may have fewer channels, and one row and column more.
    """
    sizes = np.array([tensor.shape.as_list()[1:] for tensor in (first, second)])
    missing = sizes.max(axis=0) - sizes
    return tf.add(*(tf.pad(tensor, [(0, 0)] + [(0, count) for count in counts])
                    if counts.any() else tensor
                    for tensor, counts in zip((first, second), missing)))
