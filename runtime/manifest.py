"""The manifest.json of a data set that prepare.py made, read and checked."""

import json
from typing import NamedTuple, Optional

from runtime.errors import UserError

UNSEEN_COUNTS = ("num_unseen_identities", "num_unseen_gallery", "num_unseen_queries")


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
    """The Manifest in a file. Raises UserError if it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        counts = [values[key] for key in ("num_identities", "num_train", "num_test")]
        unseen_counts = [values[key] for key in UNSEEN_COUNTS if UNSEEN_COUNTS[0] in values]
        rest = [values.get(key) for key in ("crop", "embedding", "protocol")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError("%s is not a manifest of prepare.py (%r); prepare the data again"
                        % (path, error))
    if not all(type(count) is int and 0 < count < 2 ** 31 for count in counts + unseen_counts):
        raise UserError("%s: its counts must be whole numbers above 0" % path)
    if not all(isinstance(value, (dict, type(None))) for value in rest[:2]):
        raise UserError("%s: its crop and embedding must be objects; prepare the data again" % path)
    return Manifest(counts, unseen_counts, *rest)
