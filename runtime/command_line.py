"""What all commands share: how they start, end and refuse, and settings as command-line options."""

import argparse
import contextlib
import ctypes
import dataclasses
import errno
import os
import re
import signal
import sys
from pathlib import Path

from runtime.errors import Failed, UserError, one_line
from runtime.files import FAILURES
from runtime.settings import nearest_names, parse_value, value_types

PR_SET_PDEATHSIG = 1  # of prctl, in Linux


def run_command(main):
    """Runs a command's main function; a user error ends in one line, not a traceback.

    A command whose output nobody reads any more (`| head -1`), or whose output is closed or full,
    still finishes its work.

    Args:
        main: function of the command line's arguments.
    """
    _protect_output()
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _check_working_directory()
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {one_line(error, 2000)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it without a traceback
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:  # a path that cannot be, a right that is missing: no fault of ours
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {one_line(f'{place}{error.strerror or error}', 2000)}", file=sys.stderr)
        sys.exit(1 if error.errno in FAILURES else 2)
    except MemoryError:
        print("error: out of memory; use smaller batches or fewer images", file=sys.stderr)
        sys.exit(1)


def end_with_parent():
    """In a new process: asks for SIGTERM when the process that started it ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _check_working_directory():
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the working directory is gone ({error.strerror}); change to another")


class _LossyStream:
    """A text stream that drops what can't be written, once writing has failed.

    Attributes:
        lost: why what was written is not there, text; None where it is, or where the reader went
            away by itself.
    """

    def __init__(self, stream):
        self._stream, self.lost = stream, None

    def write(self, text):
        return self._try(lambda: self._stream.write(text), len(text))

    def flush(self):
        self._try(self._stream.flush, None)

    def _try(self, action, otherwise):
        try:
            return action()
        except (BrokenPipeError, ValueError):  # ValueError: the stream was closed
            self._drop()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT):
                raise
            self.lost = error.strerror
            self._drop()
        return otherwise

    def _drop(self):
        self._stream = open(os.devnull, "w")

    def __getattr__(self, name):
        return getattr(self._stream, name)


def check_output():
    """Raises Failed if standard output is lost: for a command whose answer is what it prints."""
    sys.stdout.flush()
    if getattr(sys.stdout, "lost", None):
        raise Failed(f"standard output cannot be written: {sys.stdout.lost}; the answer is lost")


def _protect_output():
    """Standard output and error never raise: a lost line of text must not lose a result.

    Where the shell closed one (`>&-`), the next file that is opened would get its number, and with
    it what libraries print.
    """
    while True:
        number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if number > 2:
            os.close(number)
            break
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w")
        elif hasattr(stream, "reconfigure"):
            # Names may hold what the terminal's encoding lacks, or bytes that are not text.
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _LossyStream(stream))


def path(text):
    """The type of an argument that is a path."""
    return Path(_text(text))


def _text(text):
    """The type of all other texts: an empty one means nothing, and as a path the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the text is empty")
    return text


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser whose refusals are UserErrors.

    It takes no shortened options and no empty texts.
    """

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                         **options)
        self.register("type", None, _text)  # of arguments that name no type
        # argparse knows -1 and -.5 as values, but takes -1e-3 for an option.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")

    def error(self, message):
        raise UserError(f"{message}; --help lists the options")

    def parse_args(self, args=None, namespace=None):
        """The options. Raises UserError for an unknown one, with the nearest that there are."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise UserError(self._unknown(unknown[0]))
        return options

    def _unknown(self, argument):
        names = [name for action in self._actions for name in action.option_strings
                 if name.startswith("--")]
        if not argument.startswith("-"):
            hint = (f"settings are given as --name value (a data set as --dataset_flag {argument})"
                    if "--dataset_flag" in names else
                    "put a name or path with spaces in quotes")
            return f"unexpected argument {argument!r}; {hint}"
        name = argument.split("=")[0]
        underscored = "--" + name[2:].replace("-", "_")
        alike = [underscored] if underscored in names else nearest_names(name, names)
        hint = f"did you mean {' or '.join(alike)}? " if alike else ""
        return f"unknown setting {name}; {hint}--help lists all"


def add_setting_arguments(parser, settings_class, leave_out=(), defaults=None, choices=None):
    """Gives a parser one option a setting; setting_values reads them back.

    Args:
        parser: an ArgumentParser.
        settings_class: a dataclass of settings (runtime.settings).
        leave_out: names that get no option.
        defaults: dict of defaults to state in the help, for those that depend on something.
        choices: dict of values to list in the help, for those that settings_class does not know.
    """
    for field in dataclasses.fields(settings_class):
        if field.name not in leave_out:
            value = (defaults or {}).get(field.name, field.default)
            default = "" if value is None else f" (default: {value})"
            types = "|".join(kind.__name__.upper() for kind in value_types(field))
            values = (choices or {}).get(field.name) or field.metadata["choices"]
            listed = f": {', '.join(values)}" if values else ""
            parser.add_argument(f"--{field.name}", metavar=types, help=(
                field.metadata["help"] + listed + default).replace("%", "%%"))


def setting_values(options, settings_class):
    """The settings that a command line names, as a dict.

    Args:
        options: what a parser with add_setting_arguments has read.
        settings_class: the same as there.

    Raises:
        UserError: a value of the wrong type.
    """
    return {field.name: parse_value(field, getattr(options, field.name))
            for field in dataclasses.fields(settings_class)
            if getattr(options, field.name, None) is not None}


def counted(count, one, several):
    """A count with its noun: 1 person, 2 people."""
    return f"{count} {one if count == 1 else several}"


def duration(seconds):
    """Seconds for people: 0.04 s, 7.2 s, 41 s, 2 min 41 s, 3 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 0.995 else f"{seconds:.1f} s"
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
