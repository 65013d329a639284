"""Images that are nearly the same, by perceptual hashes, in time that hardly exceeds what is found.

Two hashes of 64 bits that differ in at most 6 agree in full in at least one of 7 bands of bits (a
pigeonhole argument): only hashes that share a band are compared.
"""

import imagehash
import numpy as np

from evaluation.packing import distances

# Of the 64 bits of a perceptual hash, copies of one photograph, resized or compressed again, differ
# in few. How often chance alone comes as near shows in pairs of different people: in 1,612
# photographs of FaceScrub 28 of 1.2 million such pairs lie within 6 bits, which leaves 2 or 3 to
# expect among the 153 pairs of one person found there.
NEAR_BITS = 6
HASH_BITS = 64
PAIRS_AT_ONCE = 1 << 22  # compared at once; bounds the memory


def perceptual_hash(image):
    """The 64-bit perceptual hash (pHash) of a PIL image, as a uint64."""
    return np.packbits(imagehash.phash(image).hash.reshape(-1)).view(">u8").astype(np.uint64)[0]


def near_hashes(hashes, bits=NEAR_BITS):
    """Pairs of different hashes that differ in few bits.

    Args:
        hashes: uint64 [n], all different.
        bits: most bits that a pair may differ in, 0..63.

    Returns:
        int64 [pairs, 2]: indices, the smaller first; pairs in ascending order.
    """
    hashes = np.asarray(hashes, np.uint64)
    masks = _bands(bits + 1)
    found = [np.zeros((0, 2), np.int64)]
    for number, mask in enumerate(masks):
        for first, second in _pairs_that_agree(hashes & mask):
            near = distances(hashes[first], hashes[second]) <= bits
            first, second = first[near], second[near]
            different = hashes[first] ^ hashes[second]
            # A pair that agrees in an earlier band, too, was found there.
            earlier = np.zeros(len(first), bool)
            for other in masks[:number]:
                earlier |= (different & other) == 0
            found.append(np.stack([first[~earlier], second[~earlier]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _bands(count):
    """Masks (uint64) that share the 64 bits out evenly; neighbouring bits, which are alike in many
    images, go to different bands."""
    return [np.uint64(sum(1 << bit for bit in range(band, HASH_BITS, count)))
            for band in range(count)]


def _pairs_that_agree(keys):
    """Yields pairs of arrays of indices, a part at a time: all pairs with equal keys, each once."""
    order = np.argsort(keys, kind="mergesort")
    keys = keys[order]
    ends = np.searchsorted(keys, keys, side="right")
    # Each hash is paired with those behind it in its bucket.
    partners = ends - np.arange(len(keys)) - 1
    totals = np.cumsum(partners)
    start = 0
    while start < len(keys):
        done = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, done + PAIRS_AT_ONCE, side="right")))
        counts = partners[start:stop]
        first = np.repeat(np.arange(start, stop), counts)
        offsets = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield order[first], order[first + 1 + offsets]
        start = stop


def near_pairs(hashes, groups):
    """Pairs of images that are nearly the same, without listing all pairs of many equal ones.

    Of images with one hash and one group, each is paired with the first alone; other pairs are
    between first images. Of different groups with one hash, each is paired with the first alone.

    Args:
        hashes: uint64 [n], perceptual hashes.
        groups: int [n], such as a number for each identity.

    Returns:
        int64 [pairs, 2]: indices, the smaller first; pairs in ascending order.
    """
    hashes, groups = np.asarray(hashes, np.uint64), np.asarray(groups, np.int64)
    if not len(hashes):
        return np.zeros((0, 2), np.int64)
    unique, firsts, of_image = np.unique(hashes, return_index=True, return_inverse=True)
    of_image = of_image.reshape(-1)
    # Cells: images with one hash and one group. The first image of each stands for it.
    cell_keys = np.stack([of_image, groups], axis=1)
    _, cell_firsts, cell_of_image = np.unique(cell_keys, axis=0, return_index=True,
                                              return_inverse=True)
    cell_of_image = cell_of_image.reshape(-1)
    images = np.arange(len(hashes))
    own_first = cell_firsts[cell_of_image]
    pairs = [np.stack([own_first, images], axis=1)[own_first != images]]
    others = cell_firsts[cell_firsts != firsts[of_image[cell_firsts]]]
    pairs.append(np.stack([firsts[of_image[others]], others], axis=1))
    cells = {}
    for first in cell_firsts:
        cells.setdefault(of_image[first], {})[groups[first]] = first
    for left, right in near_hashes(unique):
        shared = set(cells[left]) & set(cells[right])
        pairs.append(np.array([(cells[left][group], cells[right][group]) for group in shared]
                              or [(firsts[left], firsts[right])], np.int64))
    pairs = np.sort(np.concatenate(pairs), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def shared_images(keys, people):
    """Equal images of different people: lists of indices, the first image of each person.

    Args:
        keys: one for each image, equal for equal images alone.
        people: of each image.
    """
    firsts = {}  # key -> {person: index}
    for index, (key, person) in enumerate(zip(keys, people)):
        firsts.setdefault(key, {}).setdefault(person, index)
    return [list(found.values()) for found in firsts.values() if len(found) > 1]


def near_across(hashes, labels, others, other_labels):
    """Which images are nearly the same as one of the same label of another collection: bool [n].

    Args:
        hashes, labels: uint64 and int [n] of the images.
        others, other_labels: uint64 and int [m] of the other collection.
    """
    unique, of_image = np.unique(np.concatenate([hashes, others]).astype(np.uint64),
                                 return_inverse=True)
    of_image = of_image.reshape(-1).tolist()
    there = [set() for _ in unique]  # labels of the other collection, by hash
    for place, label in zip(of_image[len(hashes):], other_labels):
        there[place].add(label)
    near = [set(found) for found in there]
    for left, right in near_hashes(unique).tolist():
        near[left] |= there[right]
        near[right] |= there[left]
    return np.array([label in near[place] for place, label in zip(of_image, labels)], bool)
