"""gallery.json: which files a gallery consists of, and what they must hold.

Every change of a gallery writes new files, named after its number (the generation), and then
replaces gallery.json by one renaming: killed at any moment, a process leaves the old gallery or the
new one. Files that gallery.json does not name are leftovers.
"""

import hashlib
import json
import os
import re

from evaluation import packing
from runtime import files
from runtime.errors import UserError

FORMAT = 1
STATE = "gallery.json"
OURS = re.compile(r"(items|lists|thumbnails|encoder)-[0-9]+(\.npz|\.faiss|\.bin)?\Z")
FIELDS = {"format": int, "generation": int, "id": str, "encoder": str, "encoder_id": str,
          "method": str, "num_bits": int, "crop": (dict, type(None)), "dataset": str,
          "run": str, "engine": str, "engine_auto": bool, "recall": (float, int),
          "next_id": int, "sources": list, "calibration": (dict, type(None)),
          "files": dict, "checksum": str}


def read_state(path):
    """The value of a gallery's gallery.json, checked.

    Args:
        path: Path of the folder.

    Raises:
        UserError: there is none, it is damaged, or of another version.
    """
    if not path.is_dir():
        raise UserError("%s: no such gallery; python search.py index makes one" % path)
    if not (path / STATE).is_file():
        raise UserError("%s is no gallery, or indexing never came to an end: it has no %s; run: "
                        "python search.py index RUN --out %s" % (path, STATE, path))
    state = files.read_json(path / STATE, _check)
    if state["format"] != FORMAT:
        raise UserError("%s was made by another version of this program (format %d); index again"
                        % (path, state["format"]))
    return state


def write_state(folder, state):
    """Replaces gallery.json: the moment at which a gallery changes.

    Args:
        folder: the locked OutputFolder.
        state: dict with the fields of FIELDS, without the checksum.
    """
    state = dict(state, format=FORMAT)
    state["checksum"] = _checksum(state)
    with folder.replacing(STATE) as temporary, open(str(temporary), "w") as stream:
        json.dump(state, stream, indent=1, sort_keys=True, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(folder.path)


def describe(path):
    """What gallery.json says of a file: its length and sha256. Flushes it to the disk."""
    with files.reading(path), open(str(path), "rb") as stream:
        digest = _digest(stream)
        os.fsync(stream.fileno())
        return {"bytes": stream.tell(), "sha256": digest}


def verify(folder, name, description, whole=True):
    """Raises UserError that names a file which is not as it was written.

    Args:
        folder: Path of the gallery.
        name: of the file, below it.
        description: what `describe` said of it.
        whole: whether to read it all; else only its length is compared.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(str(path))
    if path.stat().st_size != description["bytes"]:
        raise UserError("%s is damaged: it has %d bytes instead of %d; index again"
                        % (path, path.stat().st_size, description["bytes"]))
    if whole:
        with files.reading(path), open(str(path), "rb") as stream:
            if _digest(stream) != description["sha256"]:
                raise UserError("%s is damaged, or not of this gallery: its checksum differs; "
                                "index again" % path)


def sync_folder(path):
    """Flushes a folder's list of names to the disk, where the system can."""
    try:
        handle = os.open(str(path), os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def encoder_id(metadata):
    """A text that is equal for equal encoders: of one run, and of one state of its weights.

    Args:
        metadata: an encoder.json.
    """
    settings = {name: value for name, value in metadata["settings"].items() if name != "data_dir"}
    starts = [entry.get("start") for entry in metadata.get("provenance") or []]
    identity = [settings, metadata["mean"], metadata["std"], metadata.get("pixel_range"),
                metadata.get("crop"), metadata.get("data"), metadata.get("epoch"), starts[:1]]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _check(value):
    files.check_fields(value, FIELDS, "the gallery")
    if value["checksum"] != _checksum(value):
        raise ValueError("its checksum differs")
    if not 1 <= value["num_bits"] <= packing.MAX_BITS:
        raise ValueError("it has %d bits" % value["num_bits"])
    for name, description in value["files"].items():
        parts = name.split("/")
        if not OURS.match(parts[0]) or ".." in parts or name.startswith("/"):
            raise ValueError("%.40r is no file of a gallery" % name)
        files.check_fields(description, {"bytes": int, "sha256": str}, "a file")


def _checksum(state):
    rest = {name: value for name, value in state.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digest(stream):
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()
