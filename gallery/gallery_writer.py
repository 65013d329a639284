"""Changes of a gallery: one writer at a time, each change whole or not at all.

The files of a change are written beside those of the state before; the change happens when
gallery.json is replaced. What is left over after that, or after a kill, is removed by the next
change.
"""

import contextlib
import os
import secrets
import shutil
import zlib

import numpy as np

from gallery import gallery_items, gallery_state
from gallery.engines import IvfIndex, build_index, choose_engine
from gallery.gallery import Gallery, is_gallery
from gallery.gallery_items import NO_NUMBER, Items, Photographs
from gallery.index import measured_recall
from gallery.threshold import calibrate
from runtime import files
from runtime.errors import UserError
from runtime.files import writing
from runtime.output_folder import OutputFolder


class GalleryWriter:
    """A change of a gallery that is being prepared; `commit` makes it happen.

    Use as a context: it holds the folder's lock. Faces are added one after another, so that memory
    does not grow with their thumbnails.

    Args:
        path: the folder; made if it is missing.

    Raises:
        UserError: the folder holds something else, is being written to, or the gallery is damaged.
    """

    def __init__(self, path):
        self.folder = OutputFolder.create(path, "gallery")
        self.path = self.folder.path
        self.old = None
        try:
            if is_gallery(self.path):
                self.old = Gallery.open(self.path)
            self.generation = 1 + (self.old.state["generation"] if self.old else 0)
            self._remove_leftovers()
            name = self.path / self._name("thumbnails", ".bin")
            with writing(name):
                self._thumbnails = open(str(name), "wb")
        except BaseException:
            self.folder.unlock()
            raise
        self._committed = False
        self._rows = []
        self._photographs = []
        self._names = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thumbnails.close()
        if not self._committed:
            self._remove_leftovers()
        if self.old:
            self.old.close()
        self.folder.unlock()

    def add_photograph(self, path, reason, size, time, digest):
        """Notes a photograph that was read; returns its number for add_face.

        Args:
            path: text.
            reason: why it gave no face, or "".
            size, time: of the file, bytes and nanoseconds.
            digest: hexadecimal sha256, or "" where it could not be read.
        """
        self._photographs.append((path, reason, size, time, digest or "0" * 64))
        return len(self._photographs) - 1

    def add_face(self, code, name, thumbnail, photograph=NO_NUMBER, face=0, box=(0, 0, 0, 0)):
        """Adds one face.

        Args:
            code: packed, see evaluation.packing.
            name: of the person, or None.
            thumbnail: bytes of a JPEG or PNG.
            photograph: number from add_photograph.
            face: see gallery_items.Items.
            box: (left, top, right, bottom).
        """
        with writing(self._thumbnails.name):
            offset = self._thumbnails.tell()
            self._thumbnails.write(thumbnail)
        number = NO_NUMBER if name is None else self._names.setdefault(name, len(self._names))
        self._rows.append((code, photograph, number, face, box, offset, len(thumbnail),
                           zlib.crc32(thumbnail)))

    def added(self, first_id, probe_codes=(), probe_names=()):
        """What was added so far, as Contents; ids count from first_id.

        Args:
            first_id: int.
            probe_codes, probe_names: codes and names of faces that calibrate the threshold.
        """
        count = len(self._rows)
        columns = list(zip(*self._rows)) or [[]] * 8
        codes, photographs, people, faces, boxes, offsets, lengths, checksums = columns
        items = Items(*(np.array(values, kind).reshape((count, 4) if name == "boxes" else count)
                        for name, values, kind in zip(Items._fields, (
                            codes, np.arange(first_id, first_id + count), photographs, people,
                            faces, boxes, np.full(count, self.generation), offsets, lengths,
                            checksums), gallery_items.ITEM_TYPES)))
        paths, reasons, sizes, times, digests = zip(*self._photographs) if self._photographs else (
            [], [], [], [], [])
        photographs = Photographs(
            list(paths), list(reasons), np.array(sizes, np.int64), np.array(times, np.int64),
            np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32))
        probes = np.array([self._names.setdefault(name, len(self._names))
                           for name in probe_names], np.int32)
        return gallery_items.Contents(items, photographs, list(self._names),
                                      np.array(probe_codes, np.uint64), probes)

    def commit(self, contents, encoder_folder=None, metadata=None, engine=None, sources=()):
        """Makes the change happen.

        Args:
            contents: all that the gallery then holds, thumbnails included by reference.
            encoder_folder: name of the subfolder with a new encoder; by default the old one stays.
            metadata: the new encoder's metadata.
            engine: name of the engine; by default the one that suits the gallery.
            sources: folders of photographs that the gallery is made of, texts.

        Returns:
            The new Gallery.
        """
        num_bits = metadata["num_bits"] if metadata else self.old.state["num_bits"]
        contents = self._with_own_thumbnails(contents)
        described = self._write_files(contents)
        state = self._identity(encoder_folder, metadata)
        names = sorted(str(path.relative_to(self.path)) for path in
                       (self.path / state["encoder"]).rglob("*")
                       if path.is_file() and path.name != "lock")
        described.update((name, gallery_state.describe(self.path / name)) for name in names)
        engine_auto = engine is None
        engine, recall = self._prepare_engine(contents.items.codes, num_bits, engine, described)
        calibration = calibrate(contents, num_bits)
        last_id = int(contents.items.ids.max()) if len(contents.items.ids) else -1
        next_id = max(last_id + 1, self.next_id)
        state.update(generation=self.generation, num_bits=num_bits, engine=engine, recall=recall,
                     engine_auto=engine_auto, next_id=next_id, sources=list(sources),
                     files=described, calibration=calibration and dict(calibration._asdict()))
        gallery_state.sync_folder(self.path)
        gallery_state.write_state(self.folder, state)
        self._committed = True
        new = Gallery.open(self.path)
        self._remove_leftovers(new.state)
        return new

    @property
    def next_id(self):
        """The id that the next face gets; that of a removed one is not given again."""
        return self.old.state["next_id"] if self.old else 0

    def _name(self, kind, ending):
        return "%s-%d%s" % (kind, self.generation, ending)

    def encoder_folder(self):
        """Name of the subfolder that a new encoder goes to."""
        return self._name("encoder", "")

    def _identity(self, encoder_folder, metadata):
        """The part of the state that says which run a gallery belongs to."""
        if metadata is None:
            kept = ("id", "encoder", "encoder_id", "method", "crop", "dataset", "run")
            return {name: self.old.state[name] for name in kept}
        return {"id": self.old.state["id"] if self.old else secrets.token_hex(8),
                "encoder": encoder_folder, "encoder_id": gallery_state.encoder_id(metadata),
                "method": metadata["method"], "crop": metadata["crop"],
                "dataset": metadata["dataset"],
                "run": os.path.basename(str(metadata.get("run", "")).rstrip("/"))}

    def _write_files(self, contents):
        """Writes items and thumbnails; returns their descriptions by name."""
        name = self._name("items", ".npz")
        with self.folder.replacing(name) as temporary, open(str(temporary), "wb") as stream:
            np.savez(stream, **gallery_items.to_arrays(contents))
        described = {name: gallery_state.describe(self.path / name)}
        with writing(self._thumbnails.name):
            self._thumbnails.close()
        for segment in np.unique(contents.items.segments):
            name = "thumbnails-%d.bin" % segment
            described[name] = (gallery_state.describe(self.path / name)
                               if segment == self.generation else self.old.state["files"][name])
        return described

    def _with_own_thumbnails(self, contents):
        """Contents whose thumbnails lie in files that hold no others: removed faces are gone."""
        if self.old is None:
            return contents
        items = contents.items
        segments = items.segments.copy()
        offsets = items.offsets.copy()
        for segment in np.unique(segments):
            before = np.count_nonzero(self.old.contents.items.segments == segment)
            rows = np.flatnonzero(items.segments == segment)
            if segment == self.generation or len(rows) == before:
                continue
            for row in rows:
                with writing(self._thumbnails.name):
                    offsets[row] = self._thumbnails.tell()
                    self._thumbnails.write(self.old.thumbnail(
                        self.old.row_of(int(items.ids[row]))))
                segments[row] = self.generation
        return contents._replace(items=items._replace(segments=segments, offsets=offsets))

    def _prepare_engine(self, codes, num_bits, engine, described):
        """Name and recall of the engine; what it needs is written and described."""
        engine = engine or choose_engine(len(codes), num_bits)
        if not len(codes):
            return engine, 1.0
        index = self._longer_lists(codes) if engine == IvfIndex.name else None
        if index is None:
            index = build_index(engine, codes, num_bits)
        if engine == IvfIndex.name:
            name = self._name("lists", ".faiss")
            with self.folder.replacing(name) as temporary:
                index.write(temporary)
            described[name] = gallery_state.describe(self.path / name)
        return engine, measured_recall(index)

    def _longer_lists(self, codes):
        """The lists there are, with codes that were added at the end; None if they don't fit."""
        count = len(self.old) if self.old else 0
        if (not count or self.old.state["engine"] != IvfIndex.name or len(codes) > 2 * count
                or not np.array_equal(codes[:count], self.old.contents.items.codes)):
            return None
        return self.old.index().extended(codes)

    def _remove_leftovers(self, state=None):
        """Removes files of ours that the gallery does not consist of."""
        state = state or (self.old.state if self.old else {"files": {}})
        used = {name.split("/")[0] for name in state["files"]}
        with files.reading(self.path):
            names = os.listdir(str(self.path))
        for name in names:
            if gallery_state.OURS.match(name) and name not in used:
                path = self.path / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(str(path), ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.unlink()


def check_same_encoder(old, metadata):
    """Raises UserError if a gallery's codes are those of another encoder.

    Args:
        old: a Gallery.
        metadata: of the encoder that shall write into it.
    """
    for name, new in (("num_bits", metadata["num_bits"]), ("crop", metadata["crop"]),
                      ("encoder_id", gallery_state.encoder_id(metadata))):
        if old.state[name] != new:
            raise UserError("%s is a gallery of another %s; name another --out, or remove it" % (
                old.path, {"num_bits": "length of codes (%d bits, the run has %d)" % (
                    old.num_bits, metadata["num_bits"]), "crop": "crop method",
                    "encoder_id": "run, or of other weights of it (%s)" % old.state["run"]}[name]))
