"""What becomes of a photograph: it trains, it is a query, or it is left out for a reason.

Those of people who are kept out of training are a gallery and queries of their own.
"""

from typing import NamedTuple

TRAIN, TEST, LEFT_OUT = "train", "test", "left_out"
UNSEEN_GALLERY, UNSEEN_QUERIES = "unseen_gallery", "unseen_queries"
# Of seen and of unseen people: what a query is found among, and queries. Names of folders, too.
SPLITS = ((TRAIN, TEST), (UNSEEN_GALLERY, UNSEEN_QUERIES))

# Why a photograph is left out: codes, and what they mean.
REASONS = {
    "unreadable": "unreadable as an image",
    "too_large": "more pixels than are read, a threat to memory",
    "incomplete": "incomplete, and no face in the part that is there",
    "wrong_size": "not of the size that the source's photographs have",
    "wrong_sha256": "sha256 differs from the list's",
    "crop_outside": "the crop lies outside the image",
    "no_face": "no face was found",
    "no_face_in_box": "no face was found where the source has it",
    "several_faces": "more than one face was found",
    "near_duplicate": "nearly the same as an earlier one",
    "copy_of_test": "exact copy of a test image",
    "not_sampled": "frame was not sampled",
    "beyond_max_images": "the person has more photographs than --max_images",
    "too_few_images": "too few usable photographs of the person",
}


class Rejected(NamedTuple):
    """Why no face was taken from a photograph.

    Attributes:
        code: one of REASONS.
        detail: text for people that adds to the reason; may be empty.
    """

    code: str
    detail: str = ""


class Outcome(NamedTuple):
    """What became of a photograph.

    Attributes:
        status: TRAIN, TEST, UNSEEN_GALLERY, UNSEEN_QUERIES or LEFT_OUT.
        reason: of one that is left out, one of REASONS; else empty.
        detail: text for people; may be empty.
    """

    status: str
    reason: str = ""
    detail: str = ""
