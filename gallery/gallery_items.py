"""What a gallery holds, as columns: faces, and the photographs that they come from."""

import hashlib
from typing import NamedTuple

import numpy as np

FORGOTTEN = "removed:"
NO_NUMBER = -1  # of a photograph or an identity that there is none of


class Items(NamedTuple):
    """The faces of a gallery, by ascending id.

    Attributes:
        codes: uint64 [n], see evaluation.packing.
        ids: int64 [n]; a face keeps its id, and no id is given twice.
        photographs: int32 [n], rows of Photographs; NO_NUMBER for an image of a data set.
        identities: int32 [n], numbers of names; NO_NUMBER where the person is not known.
        faces: int32 [n], which face of its photograph, from 0; of a data set, the image's row.
        boxes: float32 [n, 4], left, top, right, bottom in pixels of the photograph.
        segments, offsets, lengths: int64 [n], where the face's thumbnail lies: the generation that
            wrote its file, the first byte there, how many bytes.
        checksums: uint32 [n], crc32 of the thumbnail.
    """

    codes: np.ndarray
    ids: np.ndarray
    photographs: np.ndarray
    identities: np.ndarray
    faces: np.ndarray
    boxes: np.ndarray
    segments: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    checksums: np.ndarray

    def take(self, chosen):
        """The items that a mask or an array of rows chooses."""
        return Items(*(column[chosen] for column in self))


ITEM_TYPES = Items(np.uint64, np.int64, np.int32, np.int32, np.int32, np.float32, np.int64,
                   np.int64, np.int64, np.uint32)


class Photographs(NamedTuple):
    """The photographs of a gallery, also those without a face.

    Attributes:
        paths: list of m texts.
        reasons: list of m texts, why no face was taken; empty where one was.
        sizes, times: int64 [m], bytes, and nanoseconds of the last change, when they were read.
        digests: uint8 [m, 32], sha256 of the files.
    """

    paths: list
    reasons: list
    sizes: np.ndarray
    times: np.ndarray
    digests: np.ndarray


class Contents(NamedTuple):
    """All of a gallery but the thumbnails.

    Attributes:
        items: Items.
        photographs: Photographs.
        names: list of the identities' names.
        probe_codes: uint64 [p], codes of faces that are not in the gallery, but of whom is known
            who they are: a data set's queries. They calibrate the threshold.
        probe_identities: int32 [p].
    """

    items: Items
    photographs: Photographs
    names: list
    probe_codes: np.ndarray
    probe_identities: np.ndarray


# What Contents are as arrays: lists of texts become bytes.
TEXTS = ("paths", "reasons", "names")
ARRAYS = Items._fields + Photographs._fields + Contents._fields[2:]


def to_arrays(contents):
    """Contents as a dict of arrays, by ARRAYS."""
    values = dict(contents.items._asdict())
    values.update(contents.photographs._asdict())
    values.update(names=contents.names, probe_codes=contents.probe_codes,
                  probe_identities=contents.probe_identities)
    for name in TEXTS:  # a path can hold bytes that are no UTF-8, but no zero
        joined = "".join(text.replace("\0", " ") + "\0" for text in values[name])
        values[name] = np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)
    return values


def from_arrays(values):
    """The Contents that to_arrays took apart."""
    values = dict(values)
    for name in TEXTS:
        values[name] = values[name].tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
    items = Items(*(values[name].astype(kind, copy=False)
                    for name, kind in zip(Items._fields, ITEM_TYPES)))
    return Contents(items, Photographs(*(values[name] for name in Photographs._fields)),
                    *(values[name] for name in Contents._fields[2:]))


def empty_contents():
    """Contents of nothing."""
    items = Items(*(np.zeros((0, 4) if name == "boxes" else 0, kind)
                    for name, kind in zip(Items._fields, ITEM_TYPES)))
    photographs = Photographs([], [], np.zeros(0, np.int64), np.zeros(0, np.int64),
                              np.zeros((0, 32), np.uint8))
    return Contents(items, photographs, [], np.zeros(0, np.uint64), np.zeros(0, np.int32))


def join(first, second):
    """The Contents of two galleries after one another; names are joined by text."""
    numbers = {name: number for number, name in enumerate(first.names)}
    for name in second.names:
        numbers.setdefault(name, len(numbers))
    # One place more, so that NO_NUMBER (the last place) stays NO_NUMBER.
    renumber = np.array([numbers[name] for name in second.names] + [NO_NUMBER], np.int32)
    shift = len(first.photographs.paths)
    added = second.items._replace(
        identities=renumber[second.items.identities],
        photographs=np.where(second.items.photographs == NO_NUMBER, NO_NUMBER,
                             second.items.photographs + shift).astype(np.int32))
    items = Items(*(np.concatenate(pair) for pair in zip(first.items, added)))
    photographs = Photographs(*(
        one + other if isinstance(one, list) else np.concatenate([one, other])
        for one, other in zip(first.photographs, second.photographs)))
    return Contents(items, photographs, list(numbers),
                    np.concatenate([first.probe_codes, second.probe_codes]),
                    np.concatenate([first.probe_identities,
                                    renumber[second.probe_identities]]))


def forget(contents, rows, photographs):
    """Contents less some faces, that stay out when their photographs are found again.

    Of a photograph whose last face goes, a hash of its path is kept in place of the path.

    Args:
        contents: Contents.
        rows: bool [n], the faces that go.
        photographs: bool [m], the photographs all of whose faces go.
    """
    rows = rows | np.append(photographs, False)[contents.items.photographs]
    kept = contents.items.take(~rows)
    old = contents.photographs
    touched = np.zeros(len(old.paths) + 1, bool)
    touched[contents.items.photographs[rows]] = True
    touched[kept.photographs] = False
    gone = touched[:-1] | photographs
    return _without_unused_names(contents._replace(items=kept, photographs=old._replace(
        paths=[forgotten(path) if goes else path for path, goes in zip(old.paths, gone)],
        reasons=["removed" if goes else reason for reason, goes in zip(old.reasons, gone)],
        digests=np.where(gone[:, None], 0, old.digests).astype(np.uint8))))


def forgotten(path):
    """What stands for the path of a photograph that was removed."""
    if path.startswith(FORGOTTEN):
        return path
    return FORGOTTEN + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def without(contents, photographs):
    """Contents less some photographs and their faces.

    Args:
        contents: Contents.
        photographs: bool [m], the photographs that go.
    """
    items = contents.items
    kept = items.take(~np.append(photographs, False)[items.photographs])
    renumber = np.append(np.cumsum(~photographs) - 1, NO_NUMBER).astype(np.int32)
    kept = kept._replace(photographs=renumber[kept.photographs])
    stay = ~photographs
    old = contents.photographs
    shorter = Photographs([path for path, stays in zip(old.paths, stay) if stays],
                          [reason for reason, stays in zip(old.reasons, stay) if stays],
                          old.sizes[stay], old.times[stay], old.digests[stay])
    return _without_unused_names(contents._replace(items=kept, photographs=shorter))


def _without_unused_names(contents):
    """Names of people without a face go too: whoever is removed is not kept as a name."""
    used = np.unique(contents.items.identities)
    used = used[used != NO_NUMBER]
    renumber = np.full(len(contents.names) + 1, NO_NUMBER, np.int32)
    renumber[used] = np.arange(len(used))
    probes = renumber[contents.probe_identities] != NO_NUMBER
    return contents._replace(
        items=contents.items._replace(identities=renumber[contents.items.identities]),
        names=[contents.names[number] for number in used],
        probe_codes=contents.probe_codes[probes],
        probe_identities=renumber[contents.probe_identities[probes]])
