"""The manifest.json of a data set that prepare.py made, read and checked."""

from typing import NamedTuple, Optional

from runtime import files
from runtime.errors import UserError

COUNTS = ("num_identities", "num_train", "num_test")
UNSEEN_COUNTS = ("num_unseen_identities", "num_unseen_gallery", "num_unseen_queries")
OPTIONAL = {"crop": (dict, type(None)), "embedding": (dict, type(None)),
            "protocol": (str, type(None))}


class Manifest(NamedTuple):
    """What a manifest says; config.Dataset has more on each.

    Attributes:
        counts: [identities, training images, test images], ints above 0.
        unseen_counts: [identities, gallery images, queries] of people kept out, likewise; or [].
        crop, embedding: dicts, or None.
        protocol: name of the published data set that it was made like, or None.
    """

    counts: list
    unseen_counts: list
    crop: Optional[dict]
    embedding: Optional[dict]
    protocol: Optional[str]


def read_manifest(path):
    """The Manifest in a file. Raises UserError if it is missing or damaged."""
    try:
        values = files.read_json(path, _check)
    except UserError as error:
        raise UserError("%s; prepare the data again" % error)
    unseen_counts = [values[name] for name in UNSEEN_COUNTS if name in values]
    return Manifest([values[name] for name in COUNTS], unseen_counts,
                    *(values.get(name) for name in OPTIONAL))


def _check(values):
    files.check_fields(values, dict(OPTIONAL, **dict.fromkeys(COUNTS, int)), "the manifest")
    counts = COUNTS
    if any(name in values for name in UNSEEN_COUNTS):  # all of them, then
        counts += UNSEEN_COUNTS
        files.check_fields(values, dict.fromkeys(counts, int), "the manifest")
    for name in counts:
        if not 0 < values[name] < 2 ** 31:
            raise ValueError("its %s must be above 0 and below 2 ** 31" % name)
