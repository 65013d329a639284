"""Files: replaced whole and flushed to the disk, read with one clear line for what is damaged."""

import contextlib
import errno
import itertools
import json
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


def remove_temporaries(folder):
    """Removes from a folder (a Path) and its subfolders what killed processes left half-written.

    No deeper: below the folder of a grid lie those of its runs, which may be going on.
    """
    for pattern in (".*.tmp", "*/.*.tmp"):
        for leftover in folder.glob(pattern):
            match = TEMPORARY.match(leftover.name)
            if match and not is_alive(int(match.group("process"))):
                with contextlib.suppress(OSError):
                    if leftover.is_dir() and not leftover.is_symlink():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink()


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
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float,
                      parse_int=_bounded_int)


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


def _refuse_constant(name):
    raise ValueError(f"{name} is not a JSON number")


def _bounded_int(text):
    """A whole number of JSON below 10^20, so that it fits a float and is turned to text fast."""
    if len(text.lstrip("-")) > 20:
        raise ValueError(f"{text[:40]} is too large a number")
    return int(text)


def _finite_float(text):
    """A number of JSON; 1e999 would be read as infinity."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
