"""Photographs, or a run's own images -> a gallery; and how a gallery follows its folders.

A photograph is known by its path, size and time; where those have changed, by its content. So one
that was moved or renamed keeps its faces and gets its name from the new folder. One that is gone is
removed.
"""

import contextlib
import hashlib
import os
import shutil
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image
from tqdm import tqdm

import data_loader
from config import EMBEDDING_SIZE, IMAGE_SIZE, Config
from evaluation import packing
from faces import embedding, walker
from faces.cropping import detect_crop
from faces.duplicates import perceptual_hash
from faces.labels import Names, read_labels
from faces.photographs import PhotographError, open_photograph, quiet_pillow
from faces.reading import one_thread_a_call
from gallery.questions import (
    FaceCache,
    check_embedder,
    encoder_input,
    find_faces,
    find_photographs,
    is_more_than_a_face,
    stored_input,
    takes_embeddings,
    thumbnail_of,
)
from gallery.store import (
    Gallery,
    Writer,
    below,
    clean_name,
    encoder_id,
    is_gallery,
    open_encoder,
)
from methods.export import Encoder, check_searchable, export_encoder, export_projection
from methods.projection import fit_to_gallery
from methods.run import open_run
from methods.table import METHODS
from runtime import files
from runtime.errors import UserError, one_line
from runtime.run_folder import RunFolder

BATCH = 256  # faces encoded at once
AHEAD = 64  # photographs that are read before their faces are encoded
COMMITTED = 1000  # photographs after which what was read is safe
FACES = ("auto", "largest", "all")
# Of galleries without a run: bits of codes; of more faces than MOST_FITTED a sample is fitted.
NUM_BITS, MOST_FITTED = 64, 50000
DATA_DIR = Config().data_dir  # where prepare.py keeps what it finds in photographs
SHOWN = 20  # photographs that are looked at before a run without a crop takes them for faces
FOLDERS, NO_PEOPLE = "folders", "none"  # where names come from; else a list's path
SUFFIX = ".gallery"  # of a run's own gallery, beside the run's folder


class Report:
    """What a change did.

    Attributes:
        counts: {text: int}, in the order in which they are said.
        notes: lines for people.
    """

    def __init__(self):
        self.counts = Counter()
        self.notes = []

    def note_examples(self, count, what, examples):
        """Adds a note on so many things, with a few of them."""
        if count:
            shown = "; ".join(one_line(example, 200) for example in examples[:3])
            self.notes.append(f"{what} ({count}): {shown}{'; ...' * (count > 3)}")


class Found(NamedTuple):
    """A photograph's file as it lies on the disk: see store.Photograph."""

    path: str
    size: int
    time: int
    label: Optional[str]
    other_disk: int


class Reading(NamedTuple):
    """The result for a file: its faces, or the reason why there are none."""

    found: Found
    faces: list
    reason: str
    sha256: bytes


class Kept(NamedTuple):
    """What somebody said of a photograph that is read again: numbers of faces that were removed,
    and {number: person} of those named by hand."""

    removed: str = ""
    by_hand: dict = {}


# Making a gallery


def index(run, out, folders=(), own_images=False, data_dir=None, faces="auto", engine=None,
          people=FOLDERS, replace=False, compute_dtype=None):
    """Makes a gallery, or makes one of the same run again: the old one stays until then.

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

    Returns:
        Report.

    Raises:
        UserError: no such run, no faces, or a folder that holds something else.
    """
    run_folder, people = RunFolder.open(run), _people_source(people)
    check_searchable(run_folder)
    folders = outermost(map(real_folder, folders))
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
                writer.start(metadata, writer.take_encoder(temporary))
                writer.info.update(engine=engine, people=people, faces=faces)
                _set_sources(writer, folders)
                if is_new:  # from here on, a process that is killed leaves a gallery to go on with
                    writer.commit(go_on=True)
                report = Report()
                if own_images:
                    _add_run_images(writer, encoder, run, report)
                if folders:
                    Follower(writer, report, lambda: encoder, in_steps=is_new,
                             data_dir=run.config.data_dir).follow(folders)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        writer.commit(go_on=True)
        writer.remove_unused()
        _remove_old_form(writer.path)
        if not writer.rows("SELECT 1 FROM faces LIMIT 1"):
            raise UserError(f"no face was found; python search.py info {out} --left-out says why")
    return report


def index_photographs(out, folders, faces="auto", engine=None, people=FOLDERS, data_dir=None):
    """Makes a gallery without a run: embeddings of the faces, and codes fitted to those.

    Where there is such a gallery of the same folders, it is brought to their state.

    Args:
        out, folders, faces, engine, people: see index.
        data_dir: folder in which prepare.py keeps detections and embeddings; they are used, and
            new ones added.

    Returns:
        Report.

    Raises:
        UserError: the embedding network is missing or damaged, no photographs, no faces, or a
            folder that holds something else.
    """
    embedded_by = embedding.embedding_description()  # before the work
    folders = outermost(map(real_folder, folders))
    people, report = _people_source(people), Report()
    with Writer(out, make=True) as writer:
        if writer.info and writer.info["run"] and writer.rows("SELECT 1 FROM faces LIMIT 1"):
            raise UserError(f"{out} is a gallery of run {one_line(writer.info['run'])}; name "
                            "another --out, or remove it first")
        sources = {os.fsdecode(path) for path, in writer.rows("SELECT path FROM sources")}
        goes_on = bool(writer.info) and not writer.info["run"] and sources == set(folders) and (
            writer.info["people"], writer.info["faces"]) == (people, faces) and _has_encoder(writer)
        is_new = not writer.info
        if not goes_on:
            for folder in folders:
                find_photographs(folder)
            with _fitted_encoder(writer.path, np.zeros((0, EMBEDDING_SIZE)), NUM_BITS, embedded_by,
                                 detect_crop(IMAGE_SIZE)) as (temporary, metadata, _):
                writer.start(metadata, writer.take_encoder(temporary))
            writer.info.update(people=people, faces=faces)
            _set_sources(writer, folders)
        if engine is not None:
            writer.info["engine"] = engine
        if is_new:
            writer.commit(go_on=True)
        with open_encoder(writer.path, writer.info) as encoder:
            Follower(writer, report, lambda: encoder, goes_on or is_new,
                     data_dir=data_dir).follow([])
        fit_again(writer, report)
        writer.commit(go_on=True)
        writer.remove_unused()
        if not writer.rows("SELECT 1 FROM faces LIMIT 1"):
            raise UserError(f"no face was found; python search.py info {out} --left-out says why")
    return report


def _has_encoder(writer):
    """Whether a gallery's encoder is there and whole."""
    try:
        open_encoder(writer.path, writer.info).close()
    except UserError:
        return False
    return True


def fit_again(writer, report):
    """Fits the hashing of a gallery without a run again, once it has twice as many faces.

    The new encoder and all codes that it makes come in one transaction.
    """
    metadata = files.read_json(writer.path / writer.info["encoder"] / "encoder.json")
    fitted = metadata.get("fitted_faces")
    count = writer.rows("SELECT count(*) FROM faces")[0][0]
    if fitted is None or count < max(1, 2 * fitted):
        return
    ids, embeddings = writer.embeddings()
    with _fitted_encoder(writer.path, embeddings, metadata["num_bits"], metadata["embedding"],
                         metadata["crop"]) as (temporary, metadata, projection):
        writer.change_encoder(metadata, temporary, ids,
                              packing.pack(projection.encode(embeddings)))
    report.notes.append(f"codes of {metadata['num_bits']} bits were fitted to {count} faces")


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
    """Raises UserError if a gallery's codes are those of another encoder.

    Args:
        path: of the gallery.
        info: the gallery's; see store.INFO.
        metadata: of the encoder whose codes are to replace them.
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
    for some, codes in _encoded(encoder, run.train):
        shown = data_loader.displayable(run.train, some)
        for row, image, code in zip(range(some.start, some.stop), shown, codes):
            image = Image.fromarray(image)
            writer.add_face(None, int(row if run.train.rows is None else run.train.rows[row]),
                            people[run.train.labels[row]], code, perceptual_hash(image),
                            thumbnail_of(image), embedding=run.train.embeddings[row]
                            if takes_embeddings(encoder.metadata) else None)
    for images, are_known in [(run.test, True)] + [(part, False) for part in run.unseen or ()]:
        for some, codes in _encoded(encoder, images):
            for label, code in zip(images.labels[some], codes):
                writer.add_probe(code, people[label] if are_known else None)
    writer.info["results"] = _results_digest(run.folder.path)
    report.counts["faces"] += len(run.train.labels)


def _encoded(encoder, images):
    """Yields (slice, codes) of an ImageSet, a batch at a time."""
    for start in range(0, len(images.labels), BATCH):
        some = slice(start, min(start + BATCH, len(images.labels)))
        yield some, packing.pack(encoder.encode(stored_input(images, some, encoder.metadata)))


def _remove_old_form(path):
    """Removes the files of a gallery of an older version: those that its gallery.json names."""
    try:
        state = files.read_json(path / "gallery.json")
        names = [name for name in state["files"] if ".." not in name.split("/") and (
            name.split("/")[0].startswith(("items-", "thumbnails-", "lists-", "encoder-")))]
    except (UserError, TypeError, KeyError, AttributeError):
        return
    for name in names + ["gallery.json"]:
        with contextlib.suppress(OSError):
            (path / name).unlink()
    for folder in {(path / name).parents[depth] for name in names
                   for depth in range(len(name.split("/")) - 1)}:
        for left in (".dcbh.json", "lock"):
            with contextlib.suppress(OSError):
                (folder / left).unlink()
    for folder in sorted({parent for name in names for parent in (path / name).parents
                          if path in parent.parents}, key=lambda folder: -len(folder.parts)):
        with contextlib.suppress(OSError):
            folder.rmdir()


# Following the folders


def add(path, folders=(), faces=None, engine=None, people=None, keep_missing=False, rehash=False,
        restore=False, data_dir=None):
    """Updates a gallery from its folders.

    Args:
        path: of the gallery.
        folders: of photographs; by default those that the gallery was made of.
        faces, engine, people: see index; by default as the gallery was made.
        keep_missing: whether to keep photographs that are gone.
        rehash: whether to compare contents also where a file's size and time are the same.
        restore: whether to add photographs again that were removed.
        data_dir: see index_photographs.

    Returns:
        Report.

    Raises:
        UserError: no such gallery, or folders without photographs.
    """
    folders = list(dict.fromkeys(map(real_folder, folders)))
    with Writer(path) as writer, contextlib.ExitStack() as stack:
        report = Report()
        for name, value in (("faces", faces), ("engine", engine),
                            ("people", people and _people_source(people))):
            if value is not None:
                writer.info[name] = value

        follower = Follower(writer, report, lambda: stack.enter_context(
            open_encoder(writer.path, writer.info)), True, keep_missing, rehash, restore, data_dir)
        follower.follow(folders)
        fit_again(writer, report)
        writer.commit(go_on=True)
        writer.remove_unused()
    return report


class Follower:
    """One comparison of a gallery with its folders.

    Args:
        writer: store.Writer.
        report: Report, to which it adds.
        open_encoder: function that gives the encoder, called where there is something to encode.
        in_steps: whether what was read is committed in between.
        keep_missing, rehash, restore: see add.
        data_dir: see index_photographs.
    """

    def __init__(self, writer, report, open_encoder, in_steps=True, keep_missing=False,
                 rehash=False, restore=False, data_dir=None):
        self.writer, self.report, self.open_encoder = writer, report, open_encoder
        report.counts.update(new=0, changed=0, moved=0, gone=0)  # which are said in any case
        self.in_steps, self.keep_missing = in_steps, keep_missing
        self.rehash, self.restore = rehash, restore
        self.data_dir = Path(data_dir or DATA_DIR)
        self.faces, self.people = writer.info["faces"], writer.info["people"]
        self.lines = [] if self.people in (FOLDERS, NO_PEOPLE) else read_labels(Path(self.people))
        self.unmatched = {}  # number of a line -> how it differs, or None where it is found
        self.kept = {}  # path -> Kept
        self.fresh = []  # contents that were read or moved: sha256

    def follow(self, folders):
        """Walks folders (real paths; empty: the sources) and changes what is different."""
        old = [os.fsdecode(path) for path, in self.writer.rows("SELECT path FROM sources")]
        if not old and not folders:
            raise UserError(f"{self.writer.path} was made without photographs; name some with "
                            "--images")
        sources = outermost(old + folders)
        found, known = self._walk(folders or sources, sources, old)
        if not folders or set(folders) == set(sources):
            self._note_labels(found)
        _set_sources(self.writer, sources)
        gone = {path: photograph for path, photograph in known.items() if path not in found}
        dirty = self._compare(found, known)
        dirty = self._move(dirty, known, gone)
        self._remove_gone(gone, sources)
        self._read(dirty)
        self._note_shared()

    def _walk(self, folders, sources, old):
        """What lies below folders, and what the gallery knows there.

        Returns:
            (found, known): {path: Found} and {path: store.Photograph}, less what lies below folders
            that are missing or empty.
        """
        found, known = {}, {}
        for folder in outermost(folders):
            source = next(source for source in sources if _is_inside(folder, source))
            below_it = {photograph.path: photograph for photograph in self.writer.photographs(
                *_where(folder))}
            photographs, left_out = [], []
            if folder not in old and not below_it:
                photographs, left_out = find_photographs(folder)
            elif os.path.isdir(folder):
                photographs, left_out = walker.walk(Path(folder))
            if not photographs:
                self.report.counts["left alone"] += len(below_it)
                self.report.notes.append(
                    f"{one_line(folder)} is missing or holds no photographs: the "
                    f"{len(below_it)} that were there are left alone; mount its disk, or remove "
                    f"them: python search.py remove {self.writer.path} --file FOLDER")
                continue
            self.report.notes += walker.notes(left_out)
            self._note_left_out(folder, left_out)
            device, start = os.stat(source).st_dev, os.path.relpath(folder, source)
            places = {str(file.path): file.relative if start == "." else f"{start}/{file.relative}"
                      for file in photographs}
            labels = self._labels(places, source)
            self._note_nested(places.values(), folder)
            for file in photographs:
                path = str(file.path)
                with contextlib.suppress(OSError):
                    other = int(os.stat(file.path).st_dev != device)
                    found[path] = Found(path, file.size, file.mtime_ns, labels.get(path), other)
            known.update(below_it)
        return found, known

    def _note_nested(self, places, folder):
        """Says where the people seem to be, if all photographs bear the name of one folder."""
        parts = [place.split("/") for place in places]
        if self.people == FOLDERS and all(len(part) > 2 for part in parts) and (
                len({part[0] for part in parts}) == 1 < len({part[-2] for part in parts})):
            self.report.notes.append(
                f"all photographs get the name {parts[0][0]}, the one folder in "
                f"{one_line(folder)}; if each folder further down is a person, index with --images "
                f"{one_line(os.path.join(folder, *parts[0][:-2]))}")

    def _labels(self, places, source):
        """Labels of people: {path: label}.

        Args:
            places: {path: place below the source, with "/" between the parts}.
            source: its real path.
        """
        if self.people == NO_PEOPLE:
            return {}
        if self.people == FOLDERS:
            return {path: clean_name(place.split("/")[0])
                    for path, place in places.items() if "/" in place}
        by_place = {place: path for path, place in places.items()}
        names, labels = Names(by_place, source), {}
        for line in self.lines:
            place = names.find(line.file)
            if place is None:
                self.unmatched.setdefault(line.number, names.difference(line.file))
                continue
            self.unmatched[line.number] = None
            label = labels.setdefault(by_place[place], clean_name(line.identity))
            if label != clean_name(line.identity):
                raise UserError(f"{self.people}, line {line.number}: {line.file} is both {label} "
                                f"and {line.identity}; keep one of the lines")
        return labels

    def _note_labels(self, found):
        """Says which lines of the list name no photograph, and which photographs have no line."""
        differences = [difference for difference in self.unmatched.values() if difference]
        for kind in dict.fromkeys(kind for kind, _ in differences):
            texts = [text for other, text in differences if other == kind]
            self.report.note_examples(len(texts), f"files that {self.people} names {kind}", texts)
        unnamed = [path for path, file in found.items() if file.label is None]
        if self.lines:
            self.report.note_examples(len(unnamed), f"photographs that {self.people} does not name",
                                      unnamed)

    def _note_left_out(self, folder, left_out):
        """Keeps what is left out, for `info --left-out`; only where it has changed."""
        rows = {os.fsencode(f"{folder}/{item.relative}"): (item.reason, item.count)
                for item in left_out}
        where, values = below(folder)
        if rows != {path: tuple(rest) for path, *rest in self.writer.rows(
                f"SELECT path, reason, count FROM left_out WHERE {where}", *values)}:
            self.writer.run(f"DELETE FROM left_out WHERE {where}", *values)
            for path, (reason, count) in rows.items():
                self.writer.run("INSERT OR REPLACE INTO left_out VALUES (?, ?, ?)",
                                path, reason, count)

    def _compare(self, found, known):
        """Files what is known under its label; returns the Founds that are new or have changed."""
        dirty = []
        for path, file in found.items():
            photograph = known.get(path)
            if photograph is None:
                was_removed = not self.restore and self.writer.rows(
                    "SELECT 1 FROM removed_photographs WHERE path = ? AND size = ? AND time = ?",
                    self.writer.salted(os.fsencode(path)), file.size, file.time)
                if was_removed and not self.rehash:
                    self.report.counts["removed earlier"] += 1
                else:
                    dirty.append(file)
            elif self.rehash or (photograph.size, photograph.time) != (file.size, file.time):
                dirty.append(file)
            elif not self._file(photograph, file, dirty):
                self.report.counts["unchanged"] += 1
        return dirty

    def _file(self, photograph, file, dirty):
        """Files a photograph, whose content is the same, under its place and label.

        Where another choice of faces follows from the label, it goes to `dirty`, to be read again.

        Returns:
            Whether anything but size and time has changed.
        """
        if photograph.found > 1 and self._takes_all(photograph.label) != self._takes_all(
                file.label):
            self._set_aside(photograph, file.path)
            dirty.append(file)
            return True
        new = (file.path, file.size, file.time, file.label, file.other_disk)
        old = (photograph.path, photograph.size, photograph.time, photograph.label,
               photograph.other_disk)
        if new != old:
            self.writer.run(
                "UPDATE photographs SET path = ?, size = ?, time = ?, label = ?, other_disk = ? "
                "WHERE id = ?", os.fsencode(file.path), *new[1:], photograph.id)
        if file.label != photograph.label:
            person = self.writer.person(file.label)
            self.writer.faces_changed(self.writer.run(
                "UPDATE faces SET person = ? WHERE photograph = ? AND by_hand = 0 AND number = 0",
                person, photograph.id).rowcount)
            self.fresh.append(photograph.sha256)
            if file.path == photograph.path:
                self.report.counts["relabelled"] += 1
        return new[0] != old[0] or file.label != photograph.label

    def _takes_all(self, label):
        return self.faces == "all" or (self.faces == "auto" and label is None)

    def _set_aside(self, photograph, path):
        """Removes a photograph that is read again, and keeps what people have said of it."""
        self.kept[path] = Kept(photograph.removed, dict(self.writer.rows(
            "SELECT number, person FROM faces WHERE photograph = ? AND by_hand = 1",
            photograph.id)))
        self.writer.remove_photographs([photograph.id])

    def _move(self, dirty, known, gone):
        """Files photographs that lie elsewhere now, or were only touched.

        Args:
            dirty: Founds that are new or have changed.
            known, gone: {path: store.Photograph}; what was moved leaves `gone`.

        Returns:
            The Founds that have to be read.
        """
        hashed = self._hash([file for file in dirty if self.rehash or self.writer.rows(
            "SELECT 1 FROM photographs WHERE size = ? LIMIT 1", file.size)])
        contents = {file.path: hashed.get(file.path) for file in dirty}
        free = {}  # sha256 -> photographs whose content is not at their path any more
        for sha256 in set(hashed.values()):
            for photograph in self.writer.photographs("sha256 = ?", sha256):
                path = photograph.path
                is_there = (contents[path] == sha256 if path in contents
                            else path in known and path not in gone or (
                                path not in known and os.path.lexists(path)))
                if not is_there:
                    free.setdefault(sha256, deque()).append(photograph)
        rest, moves = [], []
        for file in dirty:
            photograph, sha256 = known.get(file.path), contents[file.path]
            if photograph is not None and photograph.sha256 == sha256:
                moves.append((photograph, file))  # to where it is
            elif free.get(sha256):
                moves.append((free[sha256].popleft(), file))
            else:
                rest.append(file)
        moving = {photograph.id for photograph, _ in moves}
        changed = [known[file.path] for file in dirty
                   if file.path in known and known[file.path].id not in moving]
        self.report.counts["changed"] += sum(file.path in known for file in rest)
        self.report.counts["new"] += sum(file.path not in known for file in rest)
        self.writer.remove_photographs([photograph.id for photograph in changed])
        for photograph, file in moves:  # two may change places
            if photograph.path != file.path:
                self.writer.run("UPDATE photographs SET path = ? WHERE id = ?",
                                b"\0%d" % photograph.id, photograph.id)
        for photograph, file in moves:
            gone.pop(photograph.path, None)
            if photograph.path != file.path:
                self.report.counts["moved"] += 1
            if not self._file(photograph, file, rest):
                self.report.counts["unchanged"] += 1
        return rest

    def _hash(self, found):
        """{path: sha256} of files, by several threads; those that cannot be read are left out."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = pool.map(_digest, [file.path for file in found])
            return {file.path: digest for file, digest in zip(found, tqdm(
                digests, total=len(found), unit=" photographs", desc="comparing", disable=None))
                if digest}

    def _remove_gone(self, gone, sources):
        """Removes photographs that are not on the disk any more."""
        unmounted = [path for path, photograph in gone.items()
                     if photograph.other_disk and not _is_mounted(path, sources)]
        if unmounted:
            self.report.counts["left alone"] += len(unmounted)
            self.report.note_examples(len(unmounted), "photographs left alone, whose disk is not "
                                      "mounted", unmounted)
        lost = [photograph.id for path, photograph in gone.items() if path not in set(unmounted)]
        if self.keep_missing:
            self.report.counts["missing, kept"] += len(lost)
        else:
            self.report.counts["gone"] += len(lost)
            self.writer.remove_photographs(lost)

    def _read(self, found):
        """Reads photographs, finds and encodes their faces, and adds them."""
        if not found:
            return
        encoder = self.open_encoder()
        check_embedder(encoder.metadata)
        if encoder.metadata["crop"] is None:
            _check_cut_out([file.path for file in found[:SHOWN]], self.writer.info["run"])
        waiting, count = [], 0
        with FaceCache(self.data_dir, encoder.metadata) as cache:
            for reading in tqdm(_read_ahead(found, encoder.metadata, cache), total=len(found),
                                unit=" photographs", desc="indexing", disable=None):
                waiting.append(reading)
                if sum(len(reading.faces) for reading in waiting) >= BATCH:
                    self._add(encoder, waiting)
                    waiting = []
                count += 1
                if self.in_steps and count % COMMITTED == 0:
                    self._add(encoder, waiting)
                    waiting = []
                    self.writer.commit(go_on=True)
        self._add(encoder, waiting)

    def _add(self, encoder, readings):
        """Encodes the faces of some Readings and adds them."""
        chosen = [(reading, [(number, face) for number, face in enumerate(reading.faces)
                             if (number == 0 or self._takes_all(reading.found.label))
                             and str(number) not in self._kept(reading).removed.split(",")])
                  for reading in readings]
        faces = [face for _, some in chosen for _, face in some]
        codes = iter(packing.pack(encoder.encode(encoder_input(faces, encoder.metadata)))
                     if faces else ())
        for reading, some in chosen:
            self._add_photograph(reading, [(number, face, next(codes)) for number, face in some])

    def _kept(self, reading):
        return self.kept.get(reading.found.path, Kept())

    def _add_photograph(self, reading, faces):
        """Adds a photograph with some of its faces: (number, face, code)."""
        file, kept = reading.found, self._kept(reading)
        path = os.fsencode(file.path)
        if self.restore:
            self.writer.run("DELETE FROM removed_photographs WHERE path = ? OR content = ?",
                            self.writer.salted(path), self.writer.salted(reading.sha256))
        elif self.writer.rows("SELECT 1 FROM removed_photographs WHERE content = ?",
                              self.writer.salted(reading.sha256)):
            self.writer.keep_out(path, reading.sha256, file.size, file.time)
            self.report.counts["new"] -= 1
            self.report.counts["removed earlier"] += 1
            return
        self.writer.run("DELETE FROM removed_photographs WHERE path = ?", self.writer.salted(path))
        if reading.reason:
            self.report.counts[reading.reason.split(":")[0]] += 1
        for condition in ("turned", "incomplete"):
            if any(getattr(face, condition) for face in reading.faces):
                self.report.counts[f"{condition}, and read"] += 1
        self.report.counts["faces"] += len(faces)
        photograph = self.writer.add_photograph(
            file.path, reading.sha256, file.size, file.time, file.label, file.other_disk,
            len(reading.faces), reading.reason)
        self.writer.run("UPDATE photographs SET removed = ? WHERE id = ? AND removed != ?",
                        kept.removed, photograph, kept.removed)
        for number, face, code in faces:
            added = self.writer.add_face(
                photograph, number, self.writer.person(file.label) if number == 0 else None, code,
                perceptual_hash(Image.fromarray(face.pixels)), face.thumbnail, face.box,
                face.embedding)
            if number in kept.by_hand:
                self.writer.run("UPDATE faces SET person = (SELECT id FROM people WHERE id = ?), "
                                "by_hand = 1 WHERE id = ?", kept.by_hand[number], added)
        self.fresh.append(reading.sha256)

    def _note_shared(self):
        """Says which contents of those that came lie in two people's folders."""
        shared = []
        for sha256 in dict.fromkeys(self.fresh):
            people = {self.writer.person(photograph.label): photograph
                      for photograph in self.writer.photographs(
                          "sha256 = ? AND label IS NOT NULL AND reason = ''", sha256)}
            if len(people) > 1:
                shared.append(" and ".join(f"{photograph.path} ({photograph.label})"
                                           for photograph in people.values()))
        self.report.note_examples(len(shared), "photographs filed under two people", shared)


def real_folder(path):
    """The real path of a folder that somebody typed. Raises UserError if it is empty."""
    if not str(path).strip():
        raise UserError("--images names nothing; name a folder of photographs")
    return os.path.realpath(path)


def outermost(folders):
    """Folders less those inside others, each once: names come from the place below the outermost.

    Args:
        folders: real paths, str.
    """
    folders = list(dict.fromkeys(folders))
    return [folder for folder in folders if not any(
        other != folder and _is_inside(folder, other) for other in folders)]


def _set_sources(writer, sources):
    if set(sources) != {os.fsdecode(path) for path, in writer.rows("SELECT path FROM sources")}:
        writer.run("DELETE FROM sources")
        for source in sources:
            writer.run("INSERT INTO sources VALUES (?)", os.fsencode(source))


def _is_inside(folder, other):
    return folder == other or folder.startswith(other.rstrip("/") + "/")


def _where(folder):
    where, values = below(folder)
    return (where, *values)


def _people_source(people):
    """Where names come from, checked: FOLDERS, NO_PEOPLE, or the whole path of a list."""
    if people in (FOLDERS, NO_PEOPLE):
        return people
    if not os.path.isfile(people):
        raise UserError(f"--people is {one_line(people, 80)!r}; it must be {FOLDERS}, {NO_PEOPLE} "
                        "or a list (file, identity)")
    return os.path.abspath(people)


def _is_mounted(path, sources):
    """Whether the disk of a missing photograph, another one than its source's, is there."""
    source = next((source for source in sources if _is_inside(path, source)), None)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return source is None or os.stat(path).st_dev != os.stat(source).st_dev


def _digest(path):
    try:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
        return digest.digest()
    except OSError:
        return None


def _check_cut_out(paths, run):
    """Raises UserError if most of some images show more than a face that was cut out."""
    wide = 0
    for path in paths:
        with contextlib.suppress(PhotographError), quiet_pillow():
            wide += is_more_than_a_face(open_photograph(Path(path)))
    if 2 * wide > len(paths):
        raise UserError(
            f"run {one_line(run)} takes each image for a face, but these are photographs that show "
            f"more ({wide} of the first {len(paths)}); index them without a run: python search.py "
            "index --images DIR --out GALLERY")


def _read_ahead(found, metadata, cache):
    """Yields Readings in order; a few are read ahead, by threads."""
    waiting = deque()
    with quiet_pillow(), one_thread_a_call(), ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for file in found:
                waiting.append(pool.submit(_read, file, metadata, cache))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(found, metadata, cache):
    try:
        photograph = open_photograph(Path(found.path))
        faces = find_faces(photograph, metadata, cache)
        reason = "incomplete, no face found" if photograph.incomplete else "no face found"
        return Reading(found, faces, "" if faces else reason,
                       bytes.fromhex(photograph.sha256))
    except PhotographError as error:
        reason = "too large" if error.code == "too_large" else "no whole image"
        return Reading(found, [], f"{reason}: {error.detail}", _digest(found.path) or b"")


# A run's own gallery


def gallery_of(path, data_dir=None):
    """The path of a gallery: itself, or where a run is named, that of the run's own images.

    The latter is made beside the run where it is missing, or of other results of the run.

    Args:
        path: of a gallery or a run.
        data_dir: see index.

    Returns:
        (path, report): report is None unless the gallery was made.
    """
    if is_gallery(path) or not _is_run(path):
        return path, None
    own = own_gallery(path)
    if is_gallery(own):
        with contextlib.suppress(UserError), Gallery.open(own) as gallery:
            if gallery.info["results"] == _results_digest(path):
                return own, None
    return own, index(path, own, own_images=True, data_dir=data_dir, replace=True)


def own_gallery(run):
    """Path of the gallery of a run's own images, beside the run's folder."""
    return os.path.realpath(run) + SUFFIX


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
        raise UserError(f"{folder} holds no finished run; name a gallery (python search.py index "
                        "--images DIR --out GALLERY makes one) or a run (python main.py)")
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


def _is_run(path):
    return os.path.isfile(os.path.join(path, "config.json"))


def _results_digest(run):
    """sha256 of a run's results.json; empty where there is none."""
    return (_digest(os.path.join(run, "results.json")) or b"").hex()
