"""Files of ours: written whole or not at all, read with one clear line for what is damaged."""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import stat

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
        raise kind("%s cannot be written: %s" % (path, error.strerror or error))


@contextlib.contextmanager
def reading(path):
    """Turns an operating system's refusal to read into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError("%s cannot be read: %s" % (path, error.strerror or error))


@contextlib.contextmanager
def replacing(path):
    """A temporary path that takes the place of the file `path` (a Path) at the end."""
    temporary = temporary_path(path)
    with writing(path):
        try:
            yield temporary
            os.replace(str(temporary), str(path))
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def temporary_path(path):
    """A Path beside `path` for what is to become it, or was it; remove_temporaries knows it."""
    return path.with_name(".%s.%d.%d.tmp" % (path.name, os.getpid(), next(_numbers)))


def remove_temporaries(folder):
    """Removes from a folder (a Path) and its subfolders what killed processes left half-written.

    No deeper: below the folder of a grid lie those of its runs, which may be going on.
    """
    for pattern in (".*.tmp", "*/.*.tmp"):
        for leftover in folder.glob(pattern):
            match = TEMPORARY.match(leftover.name)
            if match and not _is_alive(int(match.group("process"))):
                with contextlib.suppress(OSError):
                    if leftover.is_dir() and not leftover.is_symlink():
                        shutil.rmtree(str(leftover))
                    else:
                        leftover.unlink()


def read_text(path):
    """The text of a file. Raises UserError if it is missing, no file, or no text."""
    with reading(path):
        status = os.stat(str(path))
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise UserError("%s is not a file" % path)
        if status.st_size > MAX_TEXT_BYTES:
            raise UserError("%s is too large to be a file of this program" % path)
        with open(str(path), "rb") as stream:
            content = stream.read()
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise UserError("%s is damaged: %s" % (path, error))


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
        value = json.loads(text, parse_constant=_refuse_constant)
        if check is not None:
            check(value)
    except RecursionError:
        raise UserError("%s is damaged: it is nested too deeply" % path)
    except ValueError as error:
        raise UserError("%s is damaged: %s" % (path, error))
    return value


def check_fields(value, fields, what):
    """Raises ValueError unless `value` is a dict whose fields have their types.

    Args:
        value: anything that JSON can hold.
        fields: dict of name -> type or tuple of types; a name may be missing if NoneType is one.
        what: what `value` is, for the message.
    """
    if not isinstance(value, dict):
        raise ValueError("%s is no JSON object" % what)
    for name, types in fields.items():
        types = types if isinstance(types, tuple) else (types,)
        found = value.get(name)
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            raise ValueError("%s %s %r" % (
                what, "has a damaged" if name in value else "has no", name))


def is_empty_file(path):
    """Whether `path` itself, no link to it, is a file without content."""
    try:
        status = os.lstat(str(path))
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _refuse_constant(name):
    raise ValueError("%s is no number of JSON" % name)


def _is_alive(process):
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
