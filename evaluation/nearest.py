"""The faces of a gallery that are nearest to a query by the cosine distance of embeddings.

`nearest` compares the whole gallery; `rerank` only the faces with the nearest codes, which an index
of codes has found. Both give the same distances. Needs numpy alone.
"""

import numpy as np

FACES_AT_ONCE = 1 << 14  # faces of the gallery compared at once: bounds memory


def unit_vectors(embeddings):
    """Embeddings scaled to length 1, ready to be compared.

    Args:
        embeddings: float16, float32 or float64 [n, D].

    Returns:
        float32 [n, D]; a row of zeros stays zero, at distance 1 from everything.
    """
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(lengths > 0, lengths, 1)


def nearest(queries, gallery, count):
    """The nearest faces of a whole gallery.

    Args:
        queries: float32 [Q, D], of unit_vectors.
        gallery: float32 [n, D], of unit_vectors.
        count: number of faces, at least 1.

    Returns:
        (rows, distances): int64 and float32 [Q, min(count, n)]: rows of the gallery and their
        cosine distances (1 - cosine, 0..2), the nearest first, equal ones by row.
    """
    rows, distances = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(gallery), FACES_AT_ONCE):
        block = 1 - queries.dot(gallery[start:start + FACES_AT_ONCE].T)  # [Q, faces of the block]
        # Only `count` of a block can be answers. Faces as far as the last of them stay, so that the
        # order of equal distances does not depend on the blocks.
        if block.shape[1] > count:
            limit = np.partition(block, count - 1, axis=1)[:, count - 1].max()
            chosen = np.flatnonzero((block <= limit).any(axis=0))
            block = block[:, chosen]
        else:
            chosen = np.arange(block.shape[1])
        distances = np.concatenate([distances, block], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(start + chosen, block.shape)], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances = np.take_along_axis(distances, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
    return rows, distances


def rerank(query, gallery, candidates, count):
    """The nearest among some faces of a gallery: the candidates.

    Args:
        query: float32 [D], of unit_vectors.
        gallery: float32 [n, D], of unit_vectors.
        candidates: int [N], rows of the gallery, each once.
        count: how many, at least 1.

    Returns:
        (rows, distances): int64 and float32 [min(count, N)]; see nearest.
    """
    candidates = np.sort(candidates)
    rows, distances = nearest(query[None], gallery[candidates], count)
    return candidates[rows[0]], distances[0]


def candidate_recall(candidates, exact):
    """Share of the exact answers that are among the candidates: float64 [Q].

    Args:
        candidates: int [Q, N], rows of the gallery.
        exact: int [Q, count], of nearest.
    """
    return np.array([np.isin(rows, found).mean() for rows, found in zip(exact, candidates)])
