"""Photographs, or a run's own images -> a gallery."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

import data_loader
from config import EMBEDDING_SIZE, IMAGE_SIZE
from evaluation import packing
from faces import embedding
from faces.cropping import detect_crop
from faces.duplicates import perceptual_hash
from gallery.following import (
    BATCH,
    FOLDERS,
    Follower,
    Report,
    outermost,
    people_source,
    real_folder,
    set_sources,
)
from gallery.groups import regroup
from gallery.questions import find_photographs, thumbnail_of
from gallery.sidecars import import_defusedxml, read_names
from gallery.store import Gallery, Writer, clean_name, encoder_id, is_gallery, open_encoder
from methods import export
from methods.export import Encoder, check_searchable, export_encoder, export_projection
from methods.projection import fit_to_gallery
from methods.run import open_run
from runtime import files
from runtime.errors import UserError, one_line
from runtime.run_folder import RunFolder

FACES = ("auto", "largest", "all")
# Of galleries without a run: bits of codes; of more faces than MOST_FITTED a sample is fitted.
NUM_BITS, MOST_FITTED = 64, 50000
SUFFIX = ".gallery"  # of a run's own gallery, beside the run's folder


def index(run, out, folders=(), own_images=False, data_dir=None, faces="auto", engine=None,
          people=FOLDERS, replace=False, compute_dtype=None, read_xmp=False):
    """Makes a gallery, or makes one of the same run again: the old one stays until then.

    Where there is one of the same folders, it is brought to their state.

    Args:
        run: folder of a run.
        out: folder of the gallery.
        folders: of photographs.
        own_images: whether the run's training images are to be in it.
        data_dir: folder of the data sets, if it has moved.
        faces: which faces of a photograph are kept: "all", "largest", or "auto", the largest where
            the photograph's person is known, else all. The largest alone gets that person's name.
        engine: name of an engine; by default the one that suits.
        people: FOLDERS, NO_PEOPLE, or path of a list (file, identity).
        replace: whether a gallery of another encoder may be replaced.
        compute_dtype: to encode in; by default the run's own.
        read_xmp: whether sidecars of the photographs say who is on them (gallery/sidecars.py).

    Returns:
        Report.

    Raises:
        UserError: no such run, no faces, or a folder that holds something else.
    """
    run_folder = RunFolder.open(run)
    folders, people = _checked(folders, people, read_xmp)
    check_searchable(run_folder)
    for folder in folders:  # before the long work
        find_photographs(folder)
    with Writer(out, make=True) as writer:
        temporary = files.temporary_path(writer.path / "encoder")
        try:
            run = open_run(run_folder, data_dir, compute_dtype)
            metadata = export_encoder(run, temporary)
            if writer.info and not replace:
                check_same_encoder(writer.path, writer.info, metadata)
            with Encoder.open(temporary) as encoder:
                is_new = not writer.info
                goes_on = not own_images and _is_made_of(writer, folders, people, faces) and (
                    writer.info["vectors"] == encoder.vectors)
                if goes_on:
                    writer.change_encoder(metadata, temporary)  # it may be damaged
                else:
                    if not replace:
                        _check_replaceable(writer)
                    writer.start(metadata, writer.take_encoder(temporary))
                    writer.info.update(people=people, faces=faces)
                    set_sources(writer, folders)
                writer.info["engine"] = engine
                if is_new:  # from here on, a process that is killed leaves a gallery to go on with
                    writer.commit(go_on=True)
                report = Report(writer.notes)
                if own_images:
                    _add_run_images(writer, encoder, run, report)
                if folders:
                    if is_new or goes_on:
                        writer.commit()
                    Follower(writer, report, lambda: encoder, in_steps=is_new or goes_on,
                             data_dir=run.config.data_dir).follow(folders)
                _look_at_faces(writer, report, read_xmp)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _finish(writer)
    return report


def index_photographs(out, folders, faces="auto", engine=None, people=FOLDERS, data_dir=None,
                      read_xmp=False):
    """Makes a gallery without a run: embeddings of the faces, and codes fitted to those.

    Where there is such a gallery of the same folders, it is brought to their state. Returns a
    Report; arguments and errors are those of index, but

    Args:
        data_dir: folder in which prepare.py keeps detections and embeddings; they are used, and
            new ones added.

    Raises:
        UserError: the embedding network is missing or damaged.
    """
    embedded_by = embedding.embedding_description()  # before the work
    folders, people = _checked(folders, people, read_xmp)
    if not is_gallery(out):
        for folder in folders:  # a mistyped one leaves nothing behind
            find_photographs(folder)
    with Writer(out, make=True) as writer:
        is_new, run = not writer.info, writer.info.get("run")
        if run and writer.rows("SELECT 1 FROM faces LIMIT 1"):
            raise UserError(f"{out} is a gallery of run {one_line(run)}; name another --out, or "
                            "remove it first")
        goes_on = not run and _is_made_of(writer, folders, people, faces)
        if goes_on and not _has_encoder(writer):
            _fit(writer, embedded_by)
            writer.commit(go_on=True)
        if not goes_on:
            _check_replaceable(writer)
            for folder in folders:
                find_photographs(folder)
            with _fitted_encoder(writer.path, np.zeros((0, EMBEDDING_SIZE)), NUM_BITS, embedded_by,
                                 detect_crop(IMAGE_SIZE)) as (temporary, metadata, _):
                writer.start(metadata, writer.take_encoder(temporary))
            writer.info.update(people=people, faces=faces)
            set_sources(writer, folders)
        if engine is not None:
            writer.info["engine"] = engine
        if is_new:
            writer.commit()
        elif goes_on:
            writer.pause()
        report = _follow(writer, [], read_xmp, in_steps=goes_on or is_new, data_dir=data_dir)
        _finish(writer)
    return report


def _follow(writer, folders, read_xmp, **options):
    """Brings a gallery to the state of its folders; see Follower. Returns its Report."""
    report = Report(writer.notes)
    with contextlib.ExitStack() as stack:
        Follower(writer, report, lambda: stack.enter_context(
            open_encoder(writer.path, writer.info)), **options).follow(folders)
    _fit_again(writer, report)
    _look_at_faces(writer, report, read_xmp)
    return report


def _is_made_of(writer, folders, people, faces):
    """Whether there is a gallery, and it was made of these folders with these settings."""
    return bool(writer.info) and (
        set(writer.sources()), writer.info["people"], writer.info["faces"]) == (
            set(folders), people, faces)


def _check_replaceable(writer):
    """Raises UserError if a gallery that is to be made anew holds what somebody has said."""
    if writer.info and writer.rows(
            "SELECT 1 FROM faces WHERE by_hand = 1 UNION SELECT 1 FROM rejected UNION "
            "SELECT 1 FROM apart UNION SELECT 1 FROM removed_photographs LIMIT 1"):
        raise UserError(
            f"{writer.path} was made with other folders or options, and indexing it anew would "
            "lose what was named, rejected or removed there; python search.py add "
            f"{writer.path} takes the same options and keeps that; or name another --out")


def _checked(folders, people, read_xmp):
    """(folders, people) as typed -> as a gallery keeps them; see index."""
    if read_xmp:
        import_defusedxml()
    return outermost(map(real_folder, folders)), people_source(people)


def _finish(writer):
    """Ends the making of a gallery. Raises UserError if it holds no face."""
    writer.commit(go_on=True)
    writer.remove_unused()
    if not writer.rows("SELECT 1 FROM faces LIMIT 1"):
        raise UserError(f"no face was found; python search.py info {writer.path} --left-out says "
                        "why")


def _look_at_faces(writer, report, read_xmp):
    """Names faces as sidecars say, if that is wanted, and groups those without a name."""
    if read_xmp:
        read_names(writer, report)
    if regroup(writer) is None:
        report.notes.append(f"new faces have no group yet; python search.py groups {writer.path} "
                            "groups them")


def _has_encoder(writer):
    """Whether a gallery's encoder is there and whole."""
    try:
        open_encoder(writer.path, writer.info).close()
    except UserError:
        return False
    return True


def _fit_again(writer, report):
    """Fits the hashing of a gallery without a run again, once it has twice as many faces.

    The new encoder and all codes that it makes come in one transaction.
    """
    metadata = files.read_json(writer.path / writer.info["encoder"] / "encoder.json")
    fitted = metadata.get("fitted_faces")
    count = writer.count("faces")
    if fitted is None or count < max(1, 2 * fitted):
        return
    _fit(writer, metadata["embedding"])
    report.notes.append(f"codes of {metadata['num_bits']} bits were fitted to {count} faces")


def _fit(writer, embedded_by):
    """Replaces the encoder of a gallery without a run by one that is fitted to its faces now."""
    ids, embeddings = writer.vectors()
    with _fitted_encoder(writer.path, embeddings.reshape(-1, EMBEDDING_SIZE),
                         writer.info["num_bits"], embedded_by,
                         writer.info["crop"]) as (temporary, metadata, projection):
        writer.change_encoder(metadata, temporary, ids,
                              packing.pack(projection.encode(embeddings)))


@contextlib.contextmanager
def _fitted_encoder(path, embeddings, num_bits, embedded_by, crop):
    """(folder, encoder.json, Projection) of an encoder that is fitted to embeddings.

    Args:
        path: Path of the gallery; the folder lies below it and is removed unless it was moved.
        embeddings: float32 [n, 128], n from 0.
        num_bits, embedded_by, crop: see export_projection.
    """
    sample = embeddings[np.random.RandomState(0).permutation(len(embeddings))[:MOST_FITTED]]
    projection = fit_to_gallery(sample if len(sample) else np.zeros((1, EMBEDDING_SIZE)), num_bits)
    temporary = files.temporary_path(path / "encoder")
    try:
        yield temporary, export_projection(
            temporary, projection, num_bits, embedded_by, crop,
            fitted_faces=len(embeddings)), projection
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_same_encoder(path, info, metadata):
    """Raises UserError if a gallery's codes are not of the encoder that has this encoder.json.

    Args:
        info: the gallery's; see store.INFO.
    """
    for what, old, new in (("length of codes", info["num_bits"], metadata["num_bits"]),
                           ("crop method", info["crop"], metadata["crop"]),
                           ("run, or of other weights of it", info["encoder_id"],
                            encoder_id(metadata))):
        if old != new:
            made = f"run {info['run']}" if info["run"] else "without a run"
            raise UserError(f"{path} is a gallery of another {what} ({made}, "
                            f"{info['num_bits']} bits); name another --out, or remove it first")


def _add_run_images(writer, encoder, run, report):
    """Adds a run's own gallery, its training images; its queries calibrate the threshold."""
    names = [clean_name(name) for name in run.names] if run.names else [
        f"{run.dataset.name} {label}" for label in range(run.dataset.num_identities)]
    people = list(map(writer.named, names))
    for some, codes, vectors in _encoded(encoder, run.train):
        shown = data_loader.displayable(run.train, some)
        for row, image, code, vector in zip(range(some.start, some.stop), shown, codes, vectors):
            image = Image.fromarray(image)
            writer.add_face(None, int(row if run.train.rows is None else run.train.rows[row]),
                            people[run.train.labels[row]], code, perceptual_hash(image),
                            thumbnail_of(image), vector=vector)
    for images, are_known in [(run.test, True)] + [(part, False) for part in run.unseen or ()]:
        for some, *encoded in _encoded(encoder, images):
            for label, code, vector in zip(images.labels[some], *encoded):
                writer.add_probe(code, people[label] if are_known else None, vector)
    writer.info["results"] = _results_digest(run.folder.path)
    report.counts["faces"] += len(run.train.labels)


def _encoded(encoder, images):
    """Yields (slice, codes, vectors) of an ImageSet, a batch at a time; see Encoder.describe."""
    for start in range(0, len(images.labels), BATCH):
        some = slice(start, min(start + BATCH, len(images.labels)))
        yield (some, *encoder.describe(encoder.given_of(images, some)))


def add(path, folders=(), faces=None, engine=None, people=None, keep_missing=False, rehash=False,
        restore=False, data_dir=None, read_xmp=False):
    """Updates a gallery from its folders, or some of them, or more. Returns a Report.

    Args:
        faces, engine, people, read_xmp: see index; by default as the gallery was made.
        keep_missing: whether to keep photographs that are gone.
        rehash: whether to compare contents also where a file's size and time are the same.
        restore: whether to add photographs again that were removed.
        data_dir: see index_photographs.

    Raises:
        UserError: no such gallery, or folders without photographs.
    """
    folders = list(dict.fromkeys(map(real_folder, folders)))
    if read_xmp:
        import_defusedxml()
    with Writer(path) as writer:
        writer.pause()  # until something is to be written
        for name, value in (("faces", faces), ("engine", engine),
                            ("people", people and people_source(people))):
            if value is not None:
                writer.info[name] = value
        report = _follow(writer, folders, read_xmp, keep_missing=keep_missing, rehash=rehash,
                         restore=restore, data_dir=data_dir)
        writer.commit(go_on=True)
        writer.remove_unused()
    return report


# A run's own gallery


def gallery_of(path):
    """(path, report) of a gallery: itself, or where a run is named, that of the run's own images.

    The latter is made beside the run where it is missing, or of other results of the run; the
    report is None unless it was made.
    """
    if is_gallery(path) or not _is_run(path):
        return path, None
    own = own_gallery(path)
    if is_gallery(own):
        with contextlib.suppress(UserError), Gallery.open(own) as gallery:
            if gallery.info["results"] == _results_digest(path):
                return own, None
    return own, index(path, own, own_images=True, replace=True)


def own_gallery(run):
    """Path of the gallery of a run's own images, beside the run's folder."""
    return os.path.realpath(run) + SUFFIX


def newest_run(folder):
    """Path of the run in a folder that was begun or went on last, of those with codes to search.

    Raises:
        UserError: there is none.
    """
    found = [(os.path.getmtime(results), str(results.parent))
             for results in Path(folder).glob("*/results.json")
             if _is_run(results.parent) and _is_searchable(results.parent)]
    if not found:
        raise UserError(f"{folder} holds no finished run; name a gallery (python search.py index "
                        "--images DIR --out GALLERY makes one) or a run (python main.py)")
    return max(found)[1]


def _is_searchable(path):
    """is_searchable of a run; a damaged one counts: whoever opens it says what is wrong with it."""
    try:
        return export.is_searchable(RunFolder(path))
    except UserError:
        return True


def _is_run(path):
    return os.path.isfile(os.path.join(path, "config.json"))


def _results_digest(run):
    """sha256 of a run's results.json; empty where there is none."""
    with contextlib.suppress(UserError):
        return files.digest_of(os.path.join(run, "results.json")).hex()
    return ""
