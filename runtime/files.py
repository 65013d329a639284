"""Files: replaced whole and flushed to the disk, read with one clear line for what is damaged."""

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import stat
from pathlib import Path

from runtime.errors import Failed, UserError

# What a killed process leaves of `replacing`; older versions wrote no second number.
TEMPORARY = re.compile(r"\..+?\.(?P<process>\d+)(\.\d+)?\.tmp\Z", re.DOTALL)
MAX_TEXT_BYTES = 1 << 26  # ours have kilobytes
# Reasons that lie in the machine, not in what the user asked for.
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE)

_numbers = itertools.count()  # of temporary files: two threads never share one


@contextlib.contextmanager
def writing(path):
    """Turns an operating system's refusal into a UserError or Failed that names `path`."""
    try:
        yield
    except OSError as error:
        kind = Failed if error.errno in FAILURES else UserError
        raise kind(f"{path} cannot be written: {error.strerror or error}")


@contextlib.contextmanager
def reading(path):
    """Turns an operating system's refusal to read into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}")


def open_regular(path, mode="rb", **options):
    """Opens a file that the user has named: a named pipe would block, a device never ends.

    Args:
        path: of the file.
        mode, options: of the built-in `open`; for reading alone.

    Raises:
        UserError: it is missing, unreadable, or not a regular file.
    """
    if "\0" in str(path):
        raise UserError(f"{str(path)!r} names no file")
    with reading(path):
        return open(path, mode, opener=regular_opener, **options)


def regular_opener(path, flags):
    """The `opener` of open_regular, for other classes of files. Raises OSError or UserError."""
    _refuse_irregular(path)
    return os.open(path, flags)


def _refuse_irregular(path):
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise UserError(f"{path} is {kind}; it must be a regular file")


def check_weights(prefix):
    """Raises UserError if a file of a checkpoint, which TensorFlow opens, is not a regular file.

    Args:
        prefix: path of the checkpoint, without the endings of its files. Missing ones are left to
            TensorFlow.
    """
    prefix = Path(prefix)
    for path in prefix.parent.glob(prefix.name + ".*"):
        with contextlib.suppress(OSError):
            _refuse_irregular(path)


def flush(path):
    """Writes a file's content, or a folder's names, to the disk, where a power cut spares them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no fsync
            raise
    finally:
        os.close(descriptor)


def flush_tree(folder):
    """Flushes a folder and everything below it."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(os.path.join(parent, name))
        flush(parent)


@contextlib.contextmanager
def replacing(path):
    """A temporary path that takes the place of the file `path` (a Path) at the end.

    After a kill or a power cut at any moment, `path` is the old file or the new one, whole. Raises
    UserError where `path` is a pipe or device.
    """
    temporary = temporary_path(path)
    with writing(path):
        with contextlib.suppress(FileNotFoundError):
            if not os.path.isdir(path):  # which the renaming refuses
                _refuse_irregular(path)  # /dev/null must stay what it is
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        flush(path.parent)


@contextlib.contextmanager
def replacing_folder(path):
    """A temporary folder that takes the place of the folder `path` (a Path) at the end.

    A kill between the two renamings leaves none at `path`: for folders that a file written after
    this one makes count. `remove_temporaries` removes what a kill leaves.
    """
    temporary, aside = temporary_path(path), temporary_path(path)
    with writing(path):
        try:
            yield temporary
            flush_tree(temporary)
            if os.path.lexists(path):
                os.rename(path, aside)
            try:
                os.rename(temporary, path)
            except OSError:
                if os.path.lexists(aside):
                    os.rename(aside, path)
                raise
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if os.path.lexists(path):
                shutil.rmtree(aside, ignore_errors=True)


def temporary_path(path):
    """A Path beside `path` for what is to become it, or was it; remove_temporaries knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}.tmp")


def remove_temporaries(folder, patterns=(".*.tmp", "*/.*.tmp")):
    """Removes from a folder (a Path) and its subfolders what killed processes left half-written.

    No deeper: below the folder of a grid lie those of its runs, which may be going on.
    """
    for pattern in patterns:
        for leftover in folder.glob(pattern):
            match = TEMPORARY.match(leftover.name)
            if match and not is_alive(int(match.group("process"))):
                with contextlib.suppress(OSError):
                    if leftover.is_dir() and not leftover.is_symlink():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink()


# Folders that --overwrite replaces: the old one is renamed to NAME.replaced (or NAME.replaced_2,
# ...), where people see it, and removed once the new one is finished. A process that is killed, or
# a power cut, leaves it there: the commands then say where it is.


def real_path(path):
    """The Path without symbolic links: the folder is renamed, not a link to it."""
    return Path(os.path.realpath(path))


def set_aside(path):
    """Renames the folder `path`; returns its Path now. Raises OSError if that is not possible."""
    path, number = real_path(path), 1
    while True:
        aside = path.with_name(f"{path.name}.replaced" + (f"_{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            break
        number += 1
    os.rename(path, aside)
    flush(path.parent)
    return aside


def put_back(aside, path):
    """Undoes set_aside, as far as nothing else is at `path`."""
    with contextlib.suppress(OSError):
        if not os.path.lexists(real_path(path)):
            os.rename(aside, real_path(path))


def folders_aside(path):
    """Paths of the folders beside `path` that have the names set_aside gives, in its order."""
    path, found = real_path(path), []
    pattern = re.compile(re.escape(path.name) + r"\.replaced(?:_([0-9]{1,9}))?\Z")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            match = pattern.match(entry.name)
            if match and entry.is_dir(follow_symlinks=False):
                found.append((int(match.group(1) or 1), path.with_name(entry.name)))
    return [folder for _, folder in sorted(found)]


def remove_replaced(folder, last):
    """Removes a folder (a Path) that has been replaced. Raises OSError if something in it stays.

    The files named `last`, which say what the folder is, go last: what a kill leaves of it still
    counts as ours.
    """
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name not in last:
            os.unlink(entry.path)
    for name in last:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
    os.rmdir(folder)


# Reading


def read_text(path):
    """The text of a file. Raises UserError if it is missing, no file, or no text."""
    with open_regular(path) as stream, reading(path):
        if os.fstat(stream.fileno()).st_size > MAX_TEXT_BYTES:
            raise UserError(f"{path} is too large to be a file of this program")
        content = stream.read()
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}")


def read_json(path, check=None):
    """The JSON value in a file.

    Args:
        path: of the file.
        check: function of the value; raises ValueError that says what is wrong with it.

    Raises:
        UserError: the file is missing, damaged, or refused by `check`.
    """
    text = read_text(path)
    try:
        value = parse_json(text)
        if check is not None:
            check(value)
    except RecursionError:
        raise UserError(f"{path} is damaged: it is nested too deeply")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}")
    return value


def parse_json(text):
    """The value of a JSON text whose numbers fit any array. Raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_bounded(float), parse_float=_bounded(float),
                      parse_int=_bounded(int))


def check_fields(value, fields, what):
    """Raises ValueError unless `value` is a dict whose fields have their types.

    Args:
        value: anything that JSON can hold.
        fields: dict of name -> type or tuple of types; a name may be missing if NoneType is one.
        what: what `value` is, for the message.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    for name, types in fields.items():
        types = types if isinstance(types, tuple) else (types,)
        found = value.get(name)
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            problem = "has a damaged" if name in value else "has no"
            raise ValueError(f"{what} {problem} {name!r}")


def digest_of(path):
    """The sha256 of a file, bytes. Raises UserError if it cannot be read."""
    digest = hashlib.sha256()
    with open_regular(path) as stream, reading(path):
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.digest()


def is_empty_file(path):
    """Whether `path` itself, no link to it, is a file without content."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def is_alive(process):
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _bounded(number):
    """A function of a number's text: what JSON allows, but no array holds, is refused."""
    def parse(text):
        if number is int and len(text.lstrip("-")) > 20:  # below 10^20 it fits a float
            raise ValueError(f"{text[:40]} is too large a number")
        value = number(text)
        if not math.isfinite(value):  # NaN, Infinity, and 1e999, which would be read as infinity
            raise ValueError(f"{text[:40]} is not a finite number")
        return value
    return parse
