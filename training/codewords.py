"""Codewords: a code for each person, like what its activations say and unlike the other people's.

Error-correcting output codes (Dietterich and Bakiri, 1995), with codes that are not given but
chosen near where the network already puts each person. Numpy alone.

Dimensions: C identities, K number of bits.
"""

import numpy as np

MEAN_MAGNITUDE = 0.5  # of the attraction of a bit, which is at most 1
REPULSION = 0.3  # weight of the other people's codewords
REPULSION_BITS = 12.0  # a difference of K / REPULSION_BITS bits lowers the repulsion e-fold
MAX_SWEEPS = 20  # over all people; some five are enough


def class_means(activations, labels, num_classes):
    """Mean activations of each person: float [n, K] and int [n] -> float64 [C, K].

    A person without images takes the mean of all images.
    """
    sums, counts = np.zeros((num_classes, activations.shape[1])), np.zeros(num_classes)
    np.add.at(sums, labels, activations)
    np.add.at(counts, labels, 1)
    absent = counts == 0
    sums[absent], counts[absent] = activations.mean(axis=0, dtype=np.float64), 1
    return sums / counts[:, None]


def choose_codewords(means):
    """One codeword a person: int8 [C, K], -1 or +1.

    A bit's attraction z is how far a person's mean lies above the bit's median over all people, so
    that a bit is on for half of them; in units in which |z| is 0.5 on the mean, and at most 1.
    From the signs of z, one bit after the other is flipped that most increases

        sum_k z_ck w_ck / K  -  0.3 * sum_{j != c} exp(-12 d(w_c, w_j) / K)

    of its person c, with d the Hamming distance, until none does.

    Args:
        means: float [C, K], see class_means.
    """
    means = np.asarray(means, np.float64)
    z = means - np.median(means, axis=0)
    magnitudes = np.abs(z).mean(axis=0)
    z = np.clip(z * MEAN_MAGNITUDE / np.where(magnitudes > 0, magnitudes, 1.0), -1, 1)
    words = np.where(z >= 0, 1, -1).astype(np.int8)
    for _ in range(MAX_SWEEPS):
        flips = sum(_settle(words, z, person) for person in range(len(words)))
        if not flips:
            break
    return words


def _settle(words, z, person):
    """Flips bits of a person's codeword in place, the best first; returns how many."""
    num_bits = words.shape[1]
    rate = REPULSION_BITS / num_bits
    flips = 0
    while True:
        same = words == words[person]  # [C, K]
        repulsion = np.exp(-rate * (num_bits - same.sum(axis=1)))
        repulsion[person] = 0.0
        # A flip moves the others by one bit: away where they agree, else nearer.
        after = repulsion @ np.where(same, np.exp(-rate), np.exp(rate))  # [K]
        gains = (-2 * z[person] * words[person] / num_bits
                 - REPULSION * (after - repulsion.sum()))
        best = int(np.argmax(gains))
        if gains[best] <= 1e-9 or flips == num_bits:
            return flips
        words[person, best] *= -1
        flips += 1
