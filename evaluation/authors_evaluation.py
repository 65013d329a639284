"""mAP as the authors' release computes it. Needs numpy alone."""

import numpy as np

# Pairs of query and gallery item that are ranked at once; each takes about 40 bytes.
PAIRS_AT_ONCE = 1 << 22


def authors_average_precision(codes):
    """AP as the authors' release computes it, to compare with numbers that it prints.

    Two properties change the ranking (deviations c and d). Codes are packed into bytes as if their
    bits were 0 and 1 (the first bit lowest), but they are -1 and +1: as uint8, a byte v becomes
    2v - 255 modulo 256. So the highest bit of every byte drops out, and the last bit of a byte of
    m < 8 bits counts 8 - m times. And the order inside a tie is whatever numpy's default argsort
    leaves.

    Args:
        codes: Codes.

    Returns:
        float64 [Q]; 0 for a query without relevant items.
    """
    gallery, queries = _authors_bytes(codes.gallery_codes), _authors_bytes(codes.query_codes)
    ones = np.array([bin(value).count("1") for value in range(256)], np.uint16)
    ranks = np.arange(1, len(gallery) + 1)
    result = np.zeros(len(queries))
    rows = max(1, PAIRS_AT_ONCE // len(gallery))
    for start in range(0, len(queries), rows):
        block = queries[start:start + rows]
        distances = np.zeros((len(block), len(gallery)), np.uint16)
        for query_bytes, gallery_bytes in zip(block.T, gallery.T):
            distances += ones[query_bytes[:, None] ^ gallery_bytes]
        order = np.argsort(distances, axis=1)
        relevant = codes.gallery_labels[order] == codes.query_labels[start:start + rows, None]
        precision = np.cumsum(relevant, axis=1) / ranks
        result[start:start + rows] = (np.sum(precision * relevant, axis=1)
                                      / np.maximum(np.count_nonzero(relevant, axis=1), 1))
    return result


def _authors_bytes(codes):
    """-1/+1 [n, K] -> uint8 [n, ceil(K / 8)], each byte the sum of its -1/+1 bits' powers of 2."""
    powers = 2 ** (np.arange(codes.shape[1]) % 8)
    starts = np.arange(0, codes.shape[1], 8)
    return np.add.reduceat(codes * powers, starts, axis=1).astype(np.uint8)
