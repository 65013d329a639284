"""Files of answers: which may be replaced, and copies of the photographs found."""

import contextlib
import os
import shutil
from pathlib import Path

from gallery.texts import COLUMNS, found_faces
from runtime import files
from runtime.errors import UserError, one_line

# How files of ours begin, so that they may be replaced; bytes, within the first thousand.
MARKS = {".html": b"<title>Faces found</title>", ".png": b"DCBH faces found",
         ".json": b'{\n "gallery": ', ".csv": ",".join(COLUMNS[:5]).encode()}


def check_replaceable(path):
    """Raises UserError if a file is there that this program has not written."""
    path = Path(path)
    if not os.path.lexists(path):
        return
    mark = b""
    if path.is_file() and not path.is_symlink():
        with files.reading(path), open(path, "rb") as stream:
            mark = stream.read(1000)
    if not any(path.name.endswith(ending) and ours in mark for ending, ours in MARKS.items()):
        raise UserError(f"{path} exists, and this program did not write it; name another file, or "
                        "add --overwrite")


def write(path, data):
    """Writes a file, whole or not at all, or prints it (path "-").

    Args:
        data: bytes, or a text, of which what is no Unicode is escaped.
    """
    if path == "-":
        print(data, end="")
        return
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")
    with files.replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def check_copy_folder(folder):
    """Raises UserError unless a folder is new or empty: nothing is overwritten."""
    if not str(folder).strip():
        raise UserError("--copy names nothing; name a new folder")
    with files.reading(folder):
        if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise UserError(f"{folder} is not an empty folder; name a new one for --copy")


def copy_matches(gallery, results, folder):
    """Copies the photographs that were found, named by query, rank and distance.

    An image of a data set has no photograph: its thumbnail is copied. Names that are too long for
    the file system are cut.

    Returns:
        (copied, failed): count, and list of lines that say what could not be copied.

    Raises:
        UserError: the folder is neither new nor empty, or cannot be made.
    """
    folder = Path(folder)
    check_copy_folder(folder)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        longest = os.pathconf(folder, "PC_NAME_MAX")
    copied, failed = 0, []
    for query, result in enumerate(results, 1):
        for rank, face, distance in found_faces(gallery, result.answer):
            source = face.photograph
            name = os.path.basename(source) if source else f"{face.place}.png"
            name = _cut(f"query{query}_rank{rank:02d}_distance{distance:02d}_", name, longest)
            try:
                if source is None:
                    (folder / name).write_bytes(gallery.thumbnail(face.id))
                elif os.path.isfile(source):
                    shutil.copyfile(source, folder / name)
                else:
                    failed.append(f"{one_line(source)}: it is no longer there")
                    continue
                copied += 1
            except OSError as error:
                with contextlib.suppress(OSError):
                    (folder / name).unlink()  # half a copy
                failed.append(f"{one_line(source or face.place)}: {error.strerror or error}")
    return copied, failed


def _cut(start, name, longest):
    """A file's name of at most so many bytes that keeps its start and its ending."""
    stem, ending = os.path.splitext(name.replace("/", "_"))
    ending = os.fsencode(ending)[:20]
    stem = os.fsencode(stem)[:longest - len(start) - len(ending)]
    try:
        stem.decode()
    except UnicodeDecodeError as error:
        if error.end == len(stem):  # a letter is kept whole or not at all
            stem = stem[:error.start]
    return os.fsdecode(os.fsencode(start) + stem + ending)
