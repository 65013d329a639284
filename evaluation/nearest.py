"""The faces of a gallery that are nearest to a query by the cosine distance of embeddings.

`nearest` compares the whole gallery; `rerank` only the faces with the nearest codes, which an index
of codes has found. Both give the same distances. Needs numpy alone.
"""

import numpy as np

MOST_DISTANCES = 1 << 24  # held at once: bounds memory


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
    count = min(count, len(gallery))
    rows = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float32)
    step = max(1, MOST_DISTANCES // max(len(gallery), 1))
    for start in range(0, len(queries), step):
        block = 1 - queries[start:start + step].dot(gallery.T)  # [queries of the block, n]
        for place, apart in enumerate(block, start):
            # All faces as far as the last one stay, so that of equal ones the first are taken.
            chosen = np.arange(len(apart)) if count == len(apart) else np.flatnonzero(
                apart <= np.partition(apart, count - 1)[count - 1])
            order = np.argsort(apart[chosen], kind="stable")[:count]
            rows[place], distances[place] = chosen[order], apart[chosen[order]]
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
