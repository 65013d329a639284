"""What the tuned recipe adds to training: mirrored images, a schedule, codewords. Numpy alone.

docs/recipe.md measures each part. Dimensions: B batch, C people, K number of bits.
"""

import zlib

import numpy as np

# Of choose_codewords
MEAN_MAGNITUDE = 0.5  # of the attraction of a bit, which is at most 1
REPULSION = 0.3  # weight of the other people's codewords
REPULSION_BITS = 12.0  # a difference of K / REPULSION_BITS bits lowers the repulsion e-fold
MAX_SWEEPS = 20  # over all people; about five suffice
CODEWORD_NORM = 2.8  # L2 norm of each person's weights in the hash classifier, all of one magnitude


# Mirrored images

def mirrored(images, config, epoch, step):
    """The batch to train on: with the setting flip, a random half of the images is mirrored.

    The draw depends on seed, epoch and step alone, so a resumed run needs no stored random state,
    and all workers draw the same for their joint batch.

    Args:
        images: float32 [B, 32, 32, 3], normalised.
        config: a config.Config.
        epoch, step: of the batch, from 0.

    Returns:
        float32 [B, 32, 32, 3]; the images themselves where none is mirrored.
    """
    plain = epoch >= config.epochs - round(config.epochs * config.plain_share)
    if plain or not config.flip:
        return images
    rng = np.random.RandomState(zlib.crc32(
        f"augmentation, seed {config.seed}, epoch {epoch}, step {step}".encode()))
    result = images.copy()
    chosen = rng.rand(len(images)) < 0.5
    result[chosen] = result[chosen, :, ::-1]
    return result


# The schedule: functions of the number of finished steps and of all steps

def learning_rate(config, done, total):
    """Adam's learning rate: it rises over warmup_steps, and falls to 0 over the last decay_share.

    With decay_after, it begins to fall after that many steps if that is sooner. As gradients
    shrink, Adam divides by ever smaller numbers, until a learning rate that was safe no longer is:
    after 1,800 to 3,400 steps at the full rate, networks forgot most of what they had learned
    (docs/recipe.md).

    Args:
        config: a config.Config.
        done: number of finished steps.
        total: number of steps of the whole training.

    Returns:
        A float; above 0 at every step.
    """
    rate = config.learning_rate
    if config.warmup_steps:
        rate *= min(1.0, (done + 1) / config.warmup_steps)
    share = config.decay_share
    if config.decay_after:
        share = max(share, 1 - config.decay_after / total)
    if share:
        rate *= min(1.0, max(1 - done / total, 0.0) / share)
    return rate


def restart_step(config, total):
    """The step before which the hash classifier restarts from codewords; None if it never does.

    Args:
        config: a config.Config.
        total: see learning_rate.

    Returns:
        An int from 0 to total - 1, or None.
    """
    if not config.codeword_share:
        return None
    return min(total - 1, total - round(total * config.codeword_share))


# Codewords: a code for each person, near where the network already puts that person, and far from
# the other people's. The model is error-correcting output codes (Dietterich and Bakiri, 1995),
# whose codes are fixed in advance.

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
    """One codeword per person: int8 [C, K], -1 or +1.

    A bit's attraction z is how far a person's mean lies above the bit's median over all people, so
    each bit is on for half of them. It is scaled so that the mean of |z| is 0.5, and clipped to 1.
    The words start as the signs of z. For each person c in turn, the bit is flipped that most
    increases

        sum_k z_ck w_ck / K  -  0.3 * sum_{j != c} exp(-12 d(w_c, w_j) / K)

    with d the Hamming distance, until no flip increases it.

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
    """Flips bits of a person's codeword in place, the best first; returns their number."""
    num_bits = words.shape[1]
    rate = REPULSION_BITS / num_bits
    flips = 0
    while True:
        same = words == words[person]  # [C, K]
        repulsion = np.exp(-rate * (num_bits - same.sum(axis=1)))
        repulsion[person] = 0.0
        # A flip changes each distance by 1: up where the bits agree, else down.
        after = repulsion @ np.where(same, np.exp(-rate), np.exp(rate))  # [K]
        gains = (-2 * z[person] * words[person] / num_bits
                 - REPULSION * (after - repulsion.sum()))
        best = int(np.argmax(gains))
        if gains[best] <= 1e-9 or flips == num_bits:
            return flips
        words[person, best] *= -1
        flips += 1
