"""What can be done to a gallery: make one of a run, add photographs, remove faces."""

import os
from collections import OrderedDict

import numpy as np

from evaluation import packing
from gallery import gallery_items, indexing
from gallery.gallery import Gallery, is_gallery
from gallery.gallery_writer import GalleryWriter, check_same_encoder
from gallery.query_faces import stored_input
from methods.export import Encoder, check_searchable, export_encoder
from methods.run import open_run
from methods.table import METHODS
from runtime.errors import UserError
from runtime.run_folder import RunFolder

SUFFIX = ".gallery"  # of a run's own gallery, beside the run's folder


def index(run, out, folders=(), own_images=False, data_dir=None, faces="auto", engine=None):
    """Makes a gallery, or makes one of the same run again: the old one stays until then.

    Args:
        run: folder of a run.
        out: folder of the gallery.
        folders: of photographs.
        own_images: whether the run's training images are to be in it.
        data_dir: see methods.run.open_run.
        faces: see indexing.add_photographs.
        engine: name of an engine; by default the one that suits.

    Returns:
        (Gallery, counts): see indexing.add_photographs.

    Raises:
        UserError: no such run, no faces, or a folder that holds something else.
    """

    run = RunFolder.open(run)
    check_searchable(run)
    photographs = _all_photographs(folders)
    with GalleryWriter(out) as writer:
        name = writer.encoder_folder()
        data = open_run(run, data_dir)
        metadata = export_encoder(data, writer.path / name)
        if writer.old:
            check_same_encoder(writer.old, metadata)
        counts, probes = OrderedDict(), ((), ())
        with Encoder.open(writer.path / name) as encoder:
            if own_images:
                indexing.add_run_images(writer, encoder, data.dataset, data.train, data.names)
                probes = _probes(encoder, data.dataset, data.test, data.names)
                counts["faces"] = len(data.train.labels)
            if photographs:
                counts.update(indexing.add_photographs(writer, encoder, photographs, faces))
        contents = writer.added(writer.next_id, *probes)
        if not len(contents.items.ids):
            raise UserError("no face was found in %d photographs; no gallery was made"
                            % len(photographs))
        return writer.commit(contents, name, metadata, engine, _absolute(folders)), counts


def add(path, folders=(), faces="auto", engine=None):
    """Adds photographs that a gallery does not hold yet, or that have changed since.

    Args:
        path: of the gallery.
        folders: of photographs; by default those that it was made of.
        faces, engine: see index.

    Returns:
        (Gallery, counts): counts also has "unchanged" and "replaced" photographs.
    """
    check_gallery(path)
    with GalleryWriter(path) as writer:
        old = writer.old
        folders = _absolute(folders) or old.state["sources"]
        if not folders:
            raise UserError("%s was made without photographs; name some with --images" % path)
        known = known_photographs(old)
        photographs = _all_photographs(folders)
        fresh = [photograph for photograph in photographs if not is_known(photograph, known)]
        changed = {text for photograph in fresh
                   for text in (photograph.path, gallery_items.forgotten(photograph.path))
                   if text in known}
        counts = OrderedDict(unchanged=len(photographs) - len(fresh), replaced=len(changed))
        contents = old.contents
        if fresh:
            with old.open_encoder() as encoder:
                counts.update(indexing.add_photographs(writer, encoder, fresh, faces))
        if changed:
            contents = gallery_items.without(contents, np.array(
                [text in changed for text in contents.photographs.paths]))
        contents = gallery_items.join(contents, writer.added(writer.next_id))
        sources = list(OrderedDict.fromkeys(old.state["sources"] + folders))
        if not fresh and engine in (None, old.state["engine"]) and sources == old.state["sources"]:
            return Gallery.open(path), counts
        return writer.commit(contents, engine=engine or _chosen(old), sources=sources), counts


def known_photographs(gallery):
    """What a gallery knows of photographs: dict of path, or what stands for it -> (size, time)."""
    photographs = gallery.contents.photographs
    return dict(zip(photographs.paths, zip(photographs.sizes.tolist(),
                                           photographs.times.tolist())))


def is_known(photograph, known):
    """Whether a photograph was read, and may be removed since, and has not changed.

    Args:
        photograph: gallery.indexing.Photograph.
        known: of known_photographs.
    """
    now = photograph.size, photograph.time
    return now in (known.get(photograph.path),
                   known.get(gallery_items.forgotten(photograph.path)))


def remove(path, ids=(), names=(), files=()):
    """Removes faces, and their thumbnails and names, from a gallery.

    Args:
        path: of the gallery.
        ids: ids of faces.
        names: of people, whose faces all go.
        files: photographs, or folders of them, that go with their faces.

    Their photographs stay out: `add` takes one of them up again once the file changes.

    Returns:
        (Gallery, count of removed faces).

    Raises:
        UserError: an id, name or file that the gallery does not hold; nothing is removed then.
    """
    check_gallery(path)
    with GalleryWriter(path) as writer:
        old = writer.old
        rows = np.zeros(len(old), bool)
        for face_id in ids:
            try:
                rows[old.row_of(face_id)] = True
            except KeyError:
                raise UserError("%s holds no face of id %d" % (path, face_id))
        for name in names:
            if name not in old.contents.names:
                raise UserError("%s knows nobody by the name %s" % (path, name))
            rows |= old.contents.items.identities == old.contents.names.index(name)
        paths = old.contents.photographs.paths
        goes = np.zeros(len(paths), bool)
        for wanted in _absolute(files):
            found = np.array([text == wanted or text.startswith(wanted + os.sep)
                              for text in paths], bool)
            if not found.any():
                raise UserError("%s holds no photograph %s" % (path, wanted))
            goes |= found
        contents = gallery_items.forget(old.contents, rows, goes)
        count = len(old) - len(contents.items.ids)
        return writer.commit(contents, engine=_chosen(old), sources=old.state["sources"]), count


def gallery_of(path, data_dir=None):
    """The path of a gallery: itself, or where a run is named, that of the run's own images.

    The latter is made beside the run where it is missing, or of older weights.

    Args:
        path: of a gallery or a run.
        data_dir: see index.

    Returns:
        (path, counts): counts is None unless the gallery was made.
    """
    if is_gallery(path) or not _is_run(path):
        return path, None
    own = own_gallery(path)
    if is_gallery(own) and not _is_older(own, path):
        return own, None
    return own, index(path, own, own_images=True, data_dir=data_dir)[1]


def own_gallery(run):
    """Path of the gallery of a run's own images, beside the run's folder."""
    return os.path.realpath(str(run)) + SUFFIX


def newest_run(folder):
    """Path of the run in a folder that was begun or went on last, of those with codes to search.

    Raises:
        UserError: there is none.
    """
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        results = os.path.join(path, "results.json")
        if _is_run(path) and os.path.isfile(results) and _is_searchable(path):
            found.append((os.path.getmtime(results), path))
    if not found:
        raise UserError("%s holds no finished run; name a gallery or a run, or train one first: "
                        "python main.py" % folder)
    return max(found)[1]


def _is_searchable(path):
    """Whether the method of the run at a path makes codes to search; a damaged run counts as one.

    Whoever opens it says what is wrong with it.
    """
    try:
        method = RunFolder(path).read_settings().get("method", "dcbh")
        return method not in METHODS or METHODS[method].is_searchable
    except (UserError, TypeError):
        return True


def check_gallery(path):
    """Raises UserError if there is no gallery; nothing is made then."""
    Gallery.open(path).close()


def _is_run(path):
    return os.path.isfile(os.path.join(str(path), "config.json"))


def _is_older(own, run):
    """Whether a run's own gallery was made before the run's results."""
    results = os.path.join(str(run), "results.json")
    state = os.path.join(own, "gallery.json")
    return os.path.isfile(results) and os.path.getmtime(results) > os.path.getmtime(state)


def _chosen(gallery):
    """An engine that was asked for stays; one that was chosen by size is chosen again."""
    return None if gallery.state["engine_auto"] else gallery.state["engine"]


def _probes(encoder, dataset, test, names):
    """(codes, names) of the queries of a data set, normalised as lone photographs are."""
    images = stored_input(test, slice(None), encoder.metadata)
    return packing.pack(encoder.encode(images)), [
        names[label] if names else "%s %d" % (dataset.name, label) for label in test.labels]


def _all_photographs(folders):
    found = OrderedDict()
    for folder in folders:
        found.update((photograph.path, photograph)
                     for photograph in indexing.find_photographs(folder))
    return list(found.values())


def _absolute(paths):
    return [os.path.abspath(str(path)) for path in paths]
