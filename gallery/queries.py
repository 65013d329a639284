"""Photographs -> answers: finds, encodes and searches every face on them."""

import os
from pathlib import Path

from evaluation import packing
from faces.photographs import PhotographError, open_photograph, quiet_pillow
from gallery import indexing
from gallery.query_faces import check_embedder, encoder_input, find_faces
from gallery.results import Result
from runtime.errors import UserError


def query_photographs(gallery, index, judge, paths, top, radius=None):
    """The Results for all faces of some photographs.

    Args:
        gallery: gallery.gallery.Gallery.
        index: gallery.index.Index of it.
        judge: gallery.answers.Judge.
        paths: photographs, or folders of them.
        top, radius: see Judge.answer.

    Returns:
        (results, unread): list of Results; list of (path, reason) of photographs without a face.

    Raises:
        UserError: there is no face on any of them.
    """
    photographs = _all_photographs(paths)
    found, unread = [], []
    with gallery.open_encoder() as encoder, quiet_pillow():
        check_embedder(encoder.metadata)
        for path in photographs:
            faces = _faces_of(path, encoder.metadata, unread)
            if not faces:
                continue
            codes = packing.pack(encoder.encode(encoder_input(faces, encoder.metadata)))
            found += [Result(path, number, len(faces), face,
                             judge.answer(index, code, top, radius))
                      for number, (face, code) in enumerate(zip(faces, codes), 1)]
    if not found:
        path, reason = unread[0]
        raise UserError("%s: %s%s" % (path, reason, "" if len(unread) == 1 else
                                      "; nor has any other of the %d photographs a face"
                                      % len(unread)))
    return found, unread


def _all_photographs(paths):
    """The photographs that paths name; those of a folder in order. Texts."""
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += [photograph.path for photograph in indexing.find_photographs(path)]
        else:
            found.append(path)
    return found


def _faces_of(path, metadata, unread):
    """The faces of one photograph; where there are none, the reason goes to `unread`."""
    try:
        photograph = open_photograph(Path(path))
    except PhotographError as error:
        unread.append((path, error.detail))
        return []
    faces = find_faces(photograph, metadata)
    if not faces:
        unread.append((path, "no face was found"))
    return faces
