"""A gallery folder, as readers see it: codes, people, photographs, thumbnails and an encoder.

    GALLERY/gallery.json          what the gallery is and which files belong to it, with checksums
    GALLERY/encoder-N/            the run's exported encoder (methods/export.py)
    GALLERY/items-N.npz           codes, ids, names, paths (gallery/gallery_items.py)
    GALLERY/thumbnails-N.bin      images of faces after one another
    GALLERY/lists-N.faiss         inverted lists, if the engine is ivf

N is the number of the change that wrote a file. A gallery can be searched without run and
photographs, also by several processes while another one changes it (gallery/gallery_writer.py).
"""

import os
import zlib
from pathlib import Path

from gallery import gallery_state
from gallery.engines import ENGINES, IvfIndex, build_index
from gallery.gallery_items import ARRAYS, NO_NUMBER, from_arrays
from gallery.threshold import Calibration
from methods.export import Encoder
from runtime.array_file import read_arrays
from runtime.errors import UserError
from runtime.output_folder import OutputFolder

ATTEMPTS = 20  # a writer may change the gallery between our reads, again and again


class Gallery:
    """One state of a gallery; later changes do not reach it. Get one by `open`.

    Attributes:
        path: Path of the folder.
        state: dict, the gallery.json.
        contents: gallery.gallery_items.Contents.
        calibration: gallery.threshold.Calibration, or None.
    """

    def __init__(self, path, state):
        self.path = path
        self.state = state
        self.contents = _read_contents(path, state)
        self.calibration = state["calibration"] and Calibration(**state["calibration"])
        self._thumbnails = {}
        self._index_file = None
        for name, description in state["files"].items():
            if name.startswith(("thumbnails-", "lists-")):
                gallery_state.verify(path, name, description, whole=name.startswith("lists-"))
            if name.startswith("thumbnails-"):
                number = int(name[len("thumbnails-"):-len(".bin")])
                self._thumbnails[number] = open(str(path / name), "rb")

    @classmethod
    def open(cls, path):
        """The gallery in a folder, as it is now.

        Raises:
            UserError: there is none, or one of its files is missing or damaged.
        """
        folder = OutputFolder(path)
        if folder.path.is_dir() and folder.kind() not in ("gallery", None):
            raise UserError("%s is not a gallery but holds a %s" % (path, folder.kind()))
        for _ in range(ATTEMPTS):
            state = gallery_state.read_state(folder.path)
            try:
                return cls(folder.path, state)
            except (UserError, FileNotFoundError) as error:
                # A writer that is done removes the files of the state before.
                if gallery_state.read_state(folder.path)["generation"] == state["generation"]:
                    if isinstance(error, FileNotFoundError):
                        raise UserError("%s is missing from the gallery; index again"
                                        % (error.filename or error))
                    raise
        raise UserError("%s changes too fast to be read; try again" % path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the files of thumbnails."""
        for stream in self._thumbnails.values():
            stream.close()

    def __len__(self):
        return len(self.contents.items.ids)

    @property
    def num_bits(self):
        """K."""
        return self.state["num_bits"]

    def is_current(self):
        """Whether nobody has changed the gallery since it was opened."""
        return gallery_state.read_state(self.path)["checksum"] == self.state["checksum"]

    def name(self, row):
        """Name of the person of a face, or None."""
        number = self.contents.items.identities[row]
        return None if number == NO_NUMBER else self.contents.names[number]

    def photograph(self, row):
        """Path of the photograph of a face, or None for an image of a data set."""
        number = self.contents.items.photographs[row]
        return None if number == NO_NUMBER else self.contents.photographs.paths[number]

    def place(self, row):
        """Text that says where a face comes from."""
        face = int(self.contents.items.faces[row])
        path = self.photograph(row)
        if path is None:
            return "%s, image %d" % (self.state["dataset"], face)
        return path if not face else "%s, face %d" % (path, face + 1)

    def row_of(self, face_id):
        """The row of an id. Raises KeyError where there is none."""
        ids = self.contents.items.ids
        row = int(ids.searchsorted(face_id))
        if row == len(ids) or ids[row] != face_id:
            raise KeyError(face_id)
        return row

    def thumbnail(self, row):
        """The bytes of a face's thumbnail, a JPEG or PNG.

        Raises:
            UserError: the file is damaged.
        """
        items = self.contents.items
        stream = self._thumbnails[int(items.segments[row])]
        length = int(items.lengths[row])
        data = os.pread(stream.fileno(), length, int(items.offsets[row]))
        if zlib.crc32(data) != items.checksums[row]:
            raise UserError("%s is damaged: a thumbnail's checksum differs; index again"
                            % stream.name)
        return data

    def index(self, engine=None):
        """An index of the codes, by the gallery's engine or another of gallery.index."""
        if not len(self):
            raise UserError("%s is empty; python search.py add puts photographs into it"
                            % self.path)
        engine = engine or self.state["engine"]
        codes = self.contents.items.codes
        lists = [name for name in self.state["files"] if name.startswith("lists-")]
        if engine == IvfIndex.name and lists:
            return IvfIndex.read(self.path / lists[0], codes, self.num_bits)
        if engine not in ENGINES:
            raise UserError("%s is no engine; valid values: %s" % (engine, ", ".join(ENGINES)))
        return build_index(engine, codes, self.num_bits)

    def open_encoder(self):
        """The encoder that made the codes. Raises UserError if it is not that one any more."""
        check_encoder(self.path, self.state)
        encoder = Encoder.open(self.path / self.state["encoder"])
        if (encoder.metadata["num_bits"] != self.num_bits
                or gallery_state.encoder_id(encoder.metadata) != self.state["encoder_id"]):
            encoder.close()
            raise UserError("%s/%s is not the encoder of this gallery; index again"
                            % (self.path, self.state["encoder"]))
        return encoder

    def check(self):
        """Reads every file. Raises UserError for the first that is damaged."""
        check_encoder(self.path, self.state)
        for name, description in self.state["files"].items():
            gallery_state.verify(self.path, name, description)


def check_encoder(path, state):
    """Raises UserError if a file of the encoder is missing or damaged."""
    for name, description in state["files"].items():
        if name.startswith(state["encoder"] + "/"):
            try:
                gallery_state.verify(path, name, description)
            except FileNotFoundError:
                raise UserError("%s is missing from the gallery; index again" % (path / name))


def _read_contents(path, state):
    """The Contents that a state names, checked."""
    name = "items-%d.npz" % state["generation"]
    if name not in state["files"]:
        raise UserError("%s is damaged: it does not name %s" % (path / gallery_state.STATE, name))
    gallery_state.verify(path, name, state["files"][name])
    return from_arrays(read_arrays(path / name, ARRAYS))


def is_gallery(path):
    """Whether there is a gallery in a folder, whole or damaged."""
    return Path(path, gallery_state.STATE).is_file()
