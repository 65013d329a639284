"""A prepared data set's embeddings on disk: beside each folder of images, a file of their rows."""

import numpy as np

from config import EMBEDDING_SIZE
from runtime.array_file import read_array
from runtime.errors import UserError


def embeddings_file(folder):
    """Path of the embeddings of the images in a folder of a prepared data set."""
    return folder.with_name(folder.name + "_embeddings.npy")


def read_embeddings(folder, count):
    """The embeddings of a folder's images, in the order of its rows: float32 [count, 128].

    Args:
        folder: Path, train_folder or test_folder of a prepared Dataset.
        count: images there.

    Raises:
        UserError: missing, damaged, of another number of images, or not finite.
    """
    path, shape = embeddings_file(folder), (count, EMBEDDING_SIZE)
    again = "prepare the data again with --embedding"
    try:
        embeddings = read_array(path)
    except UserError as error:
        raise UserError("%s; %s" % (error, again))
    if embeddings.dtype != np.float32 or embeddings.shape != shape:
        raise UserError("%s holds %s %s, not float32 %s; %s" % (
            path, embeddings.dtype, embeddings.shape, shape, again))
    if not np.isfinite(embeddings).all():
        raise UserError("%s holds values that are not finite; %s" % (path, again))
    return embeddings
