"""Finds the photograph files below a folder: the one walker of prepare.py and search.py.

    files, left_out = walk(root)

`files` holds every photograph file once, in a stable order. `left_out` says what was passed over
and why. Each file below the folder is in one of the two: by itself, or counted with its folder.

    - Photographs are known by their ending (faces/photographs.py), HEIC and AVIF included.
    - Links are followed, each file and folder once (by device and inode): loops end, and the real
      place of a file comes before a link to it. Hard links are files like any other.
    - Hidden entries (names that begin with a dot), folders of other programs (OTHER_PROGRAMS) and
      what this program wrote itself (runs, galleries, data sets, copies, contact sheets) are left
      out and counted.
    - What cannot be read, pipes, devices and links to nothing are left out with the reason.
    - Names may be any bytes: those that are no UTF-8 are kept as surrogate escapes (os.fsdecode).

`notes(left_out)` sums `left_out` up in a few lines for people.
"""

import errno
import os
import re
import stat
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from faces.photographs import AVIF_EXTENSIONS, EXTENSIONS
from runtime.errors import UserError, first_few, one_line
from runtime.output_folder import MARKER

ENDINGS = EXTENSIONS + AVIF_EXTENSIONS
# Folders that cameras, storage devices and other programs keep for themselves; in lower case.
OTHER_PROGRAMS = {
    "@eadir", "@synoresource", "@tmp", "#recycle", "#snapshot",  # Synology
    "@recycle", "@recently-snapshot", "@__thumb", "@transcode",  # QNAP
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",  # Windows
    "lost+found", "__macosx", "network trash folder", "temporary items",  # Linux, macOS
    "ipod photo cache", "paxheader", "paxheaders", "_vti_cnf", "_gsdata_", "__pycache__",
}
OTHER_PROGRAM_ENDINGS = (".lrdata",)  # previews of Lightroom

# Why something is left out. What cannot be read has the operating system's reason in brackets.
NOT_A_PHOTOGRAPH = "not photographs by their ending"
HIDDEN = "hidden"
OTHER_PROGRAM = "in folders of other programs"
OURS = "written by this program"
LINK_AGAIN = "links to what is read elsewhere"
BROKEN_LINK = "links to nothing"
NOT_A_FILE = "pipes, devices or sockets"
UNREADABLE = "cannot be read"

COPIES = re.compile(r"query\d+_rank\d+_distance\d+_")  # of search.py query --copy
SHEET_MARKS = (b'name="generator" content="DCBH', b"<title>Faces found</title>")


class FoundFile(NamedTuple):
    """A photograph file.

    Attributes:
        path: Path, as reached from the root that walk was given.
        relative: str, the same below the root, with "/" between the parts.
        size: int, bytes.
        mtime_ns: int, nanoseconds of the last change.
    """

    path: Path
    relative: str
    size: int
    mtime_ns: int

    @property
    def parts(self):
        """The folders below the root, and the file's name: tuple of str."""
        return tuple(self.relative.split("/"))


class LeftOut(NamedTuple):
    """A file or folder that is passed over.

    Attributes:
        relative: str, its place below the root; "/" at the end marks a folder.
        reason: str, one of the constants above, or UNREADABLE with the reason in brackets.
        count: int, the files in it at all depths; 1 for a file, a link, or an unreadable folder.
        detail: str, for a link: where the file or folder is read; else empty.
    """

    relative: str
    reason: str
    count: int = 1
    detail: str = ""


def walk(root):
    """Finds the photograph files below a folder; the head of this module says the rules.

    Args:
        root: Path of the folder.

    Returns:
        (files, left_out): lists of FoundFile and LeftOut, each in the order of their places.

    Raises:
        UserError: `root` is not a folder, cannot be read, or was written by this program.
    """
    walker = _Walker(Path(root))
    walker.run()
    return (sorted(walker.files, key=lambda file: file.relative.split("/")),
            sorted(walker.left_out, key=lambda item: item.relative.split("/")))


def notes(left_out):
    """Lines for people that say how many files were passed over, and why; most frequent first."""
    counts, examples = Counter(), {}
    for item in left_out:
        counts[item.reason] += item.count
        examples.setdefault(item.reason, []).append(item.relative)
    lines = []
    for reason, count in counts.most_common():
        names = first_few(examples[reason], lambda name: one_line(name, 60), ", ")
        lines.append(f"passed over, {reason}: {count} ({names})")
    return lines


def is_ours(names):
    """Whether this program wrote a folder that holds these names (a set of str)."""
    if MARKER in names or {"manifest.json", "labels.txt", "images.csv"} <= names:
        return True
    return bool(names) and all(COPIES.match(name) for name in names)


class _Walker:
    """The state of one walk."""

    def __init__(self, root):
        self.root = root
        self.files, self.left_out = [], []
        self.folders = {}  # (device, inode) -> relative, of the folders that were listed
        self.read = {}  # the same of photograph files
        self.waiting = []  # folders to list: (path, relative, (device, inode))
        self.folder_links, self.file_links = [], []

    def run(self):
        """Lists real folders first, then links to folders, then links to files."""
        try:
            status = os.stat(self.root)
        except (OSError, ValueError) as error:
            raise UserError(f"{one_line(self.root)}: no such folder of photographs "
                            f"({getattr(error, 'strerror', None) or error})")
        if not stat.S_ISDIR(status.st_mode):
            raise UserError(f"{one_line(self.root)} is not a folder of photographs")
        self.waiting.append((str(self.root), "", _key(status)))
        while self.waiting or self.folder_links:
            if not self.waiting:
                self.folder_links.sort(key=lambda link: link[1].split("/"))
                self.waiting.append(self.folder_links.pop(0))
            self._list(*self.waiting.pop())
        for path, relative, status in sorted(self.file_links,
                                             key=lambda link: link[1].split("/")):
            elsewhere = self.read.get(_key(status))
            if elsewhere is None:
                self._add_file(path, relative, status)
            else:
                self.left_out.append(LeftOut(relative, LINK_AGAIN, 1, elsewhere))

    def _list(self, path, relative, key):
        if key in self.folders:
            self.left_out.append(LeftOut(relative + "/", LINK_AGAIN, 1, self.folders[key] or "."))
            return
        self.folders[key] = relative
        try:
            with os.scandir(path) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not relative:
                raise UserError(f"the folder {one_line(self.root)} cannot be read "
                                f"({error.strerror}); make it readable, or name another")
            self.left_out.append(LeftOut(relative + "/", _unreadable(error)))
            return
        names = {entry.name for entry in entries}
        if is_ours(names):
            if not relative:
                raise UserError(f"{one_line(self.root)} was written by this program (a run, a "
                                "gallery, a data set or copies); name the folder of photographs")
            self.left_out.append(LeftOut(relative + "/", OURS, _count_files(path)))
            return
        for entry in entries:
            self._enter(entry, relative + "/" + entry.name if relative else entry.name, names)

    def _enter(self, entry, relative, names):
        """Puts an entry of a folder where it belongs."""
        try:
            is_link = entry.is_symlink()
            status = entry.stat()
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ELOOP)
            self.left_out.append(LeftOut(relative, BROKEN_LINK if missing else _unreadable(error)))
            return
        if stat.S_ISDIR(status.st_mode):
            reason = (HIDDEN if entry.name.startswith(".") else
                      OTHER_PROGRAM if _is_other_programs(entry.name) else None)
            if reason:
                count = 1 if is_link else _count_files(entry.path)
                self.left_out.append(LeftOut(relative + "/", reason, count))
            else:
                (self.folder_links if is_link else self.waiting).append(
                    (entry.path, relative, _key(status)))
            return
        reason = (NOT_A_FILE if not stat.S_ISREG(status.st_mode) else
                  HIDDEN if entry.name.startswith(".") else
                  NOT_A_PHOTOGRAPH if not entry.name.lower().endswith(ENDINGS) else
                  OURS if _is_sheet(entry.path, names) else None)
        if reason:
            self.left_out.append(LeftOut(relative, reason))
        elif is_link:
            self.file_links.append((entry.path, relative, status))
        else:
            self._add_file(entry.path, relative, status)

    def _add_file(self, path, relative, status):
        self.read.setdefault(_key(status), relative)
        self.files.append(FoundFile(Path(path), relative, status.st_size, status.st_mtime_ns))


def _key(status):
    return status.st_dev, status.st_ino


def _unreadable(error):
    return f"{UNREADABLE} ({error.strerror})"


def _is_other_programs(name):
    return name.lower() in OTHER_PROGRAMS or name.lower().endswith(OTHER_PROGRAM_ENDINGS)


def _is_sheet(path, names):
    """Whether a picture is the PNG beside a contact sheet's page."""
    start, ending = os.path.splitext(path)
    if ending.lower() != ".png" or os.path.basename(start) + ".html" not in names:
        return False
    try:
        if not stat.S_ISREG(os.stat(start + ".html").st_mode):
            return False
        with open(start + ".html", "rb") as stream:
            head = stream.read(1000)
    except OSError:
        return False
    return any(mark in head for mark in SHEET_MARKS)


def _count_files(folder):
    """The files below a folder at all depths; links are not followed."""
    return sum(len(names) for _, _, names in os.walk(folder))
