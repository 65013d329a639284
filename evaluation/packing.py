"""Codes of up to 64 bits, each packed into one unsigned number for search. Needs numpy alone.

Shorter codes are padded with zeros, which changes no distance: comparing 64-bit numbers is several
times faster than comparing, say, six bytes.
"""

import numpy as np

MAX_BITS = 64
CODE_BYTES = MAX_BITS // 8


def pack(codes):
    """Codes as numbers.

    Args:
        codes: [n, K] of -1 and +1 (any numeric type), K from 1 to 64.

    Returns:
        uint64 [n]. Bit k of a code is bit k % 8, from the highest, of byte k // 8 in memory.

    Raises:
        ValueError: another shape.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= MAX_BITS:
        raise ValueError(f"codes must have shape [n, 1..{MAX_BITS}], not {codes.shape}")
    padded = np.zeros((len(codes), CODE_BYTES), np.uint8)
    padded[:, :(codes.shape[1] + 7) // 8] = np.packbits(codes > 0, axis=1)
    return padded.view(np.uint64)[:, 0]


def unpack(packed, num_bits):
    """The codes of `pack`'s numbers: uint64 [n] -> int8 [n, num_bits], -1 or +1."""
    bits = np.unpackbits(as_bytes(packed), axis=1)[:, :num_bits]
    return bits.astype(np.int8) * 2 - 1


def as_bytes(packed):
    """Numbers as bytes: uint64 [n] -> uint8 [n, 8], the same memory."""
    return np.ascontiguousarray(packed, np.uint64).view(np.uint8).reshape(-1, CODE_BYTES)


def distances(first, second):
    """Hamming distances of packed codes, broadcast: uint64 arrays -> int32."""
    bits = np.bitwise_xor(first, second).astype(np.uint64)
    # Counts the bits of each pair, group of four and byte; the product adds up the bytes.
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + (
        (bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0f0f0f0f0f0f0f0f)
    with np.errstate(over="ignore"):
        return ((bits * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int32)


def weighted_distances(activations, packed):
    """Distances of codes from a query that is not binarised, so that they tell more faces apart.

    A bit that differs counts as much as the query's activation is away from 0, where bits change
    (asymmetric distances: Gordo, Perronnin, Gong and Lazebnik, PAMI 2014).

    Args:
        activations: float [K], of the query; their signs are its code.
        packed: uint64 [n].

    Returns:
        float32 [n].
    """
    weights = np.zeros(MAX_BITS)
    weights[:len(activations)] = activations
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1  # [256, 8]
    # What each value of each byte adds; two bytes are looked up at once.
    of_byte = [np.maximum(-bits * part, 0).sum(axis=1) for part in weights.reshape(-1, 8)]
    words = np.ascontiguousarray(packed, np.uint64).view("<u2").reshape(-1, CODE_BYTES // 2)
    result = np.zeros(len(words), np.float32)
    for place in range(CODE_BYTES // 2):
        table = np.add.outer(of_byte[2 * place + 1], of_byte[2 * place]).ravel()
        result += table.astype(np.float32)[words[:, place]]
    return result


def to_text(number):
    """A packed code as 16 hexadecimal digits."""
    return as_bytes(np.array([number], np.uint64)).tobytes().hex()


def from_text(text):
    """The packed code of to_text's digits. Raises ValueError for anything else."""
    if len(text) != 2 * CODE_BYTES:
        raise ValueError(f"a code has {2 * CODE_BYTES} hexadecimal digits")
    return np.frombuffer(bytes.fromhex(text), np.uint64)[0]
