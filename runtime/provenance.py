"""Where a run's numbers come from: code, versions, machine, command line, times of each start."""

import contextlib
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from runtime.errors import UserError, one_line
from runtime.files import check_fields

ROOT = Path(__file__).resolve().parent.parent
# Of an entry of provenance.json; those that may be None are missing in older ones.
FIELDS = {
    "git_revision": (str, type(None)),
    "git_dirty": (bool, type(None)),
    "uncommitted_diff": (str, type(None)),
    "python": str,
    "tensorflow": (str, type(None)),
    "numpy": str,
    "device": str,
    "workers": (int, type(None)),
    "data": (str, type(None)),
    "network_start": (str, type(None)),
    "machine": str,
    "platform": (str, type(None)),
    "command_line": list,
    "start": str,
    "end": (str, type(None)),
    "ended_by": (str, type(None)),
}


def new_entry(tensorflow, device, data_digest, workers=1, network_start=None):
    """What is known when a run is started, and what its source tree had beyond its revision.

    Args:
        tensorflow: version, or None where it is not used.
        device: what it computes on.
        data_digest: see data_loader.data_digest.
        workers: how many processes share the training.
        network_start: when the run was first started whose features this one takes; or None.

    Returns:
        (entry, difference): a dict of FIELDS and text, which may be empty.
    """
    revision, difference = git_state()
    return {
        "git_revision": revision,
        "git_dirty": None if revision is None else bool(difference),
        "uncommitted_diff": None,  # the file that holds the difference
        "python": platform.python_version(),
        "tensorflow": tensorflow,
        "numpy": np.__version__,
        "device": device,
        "workers": workers,
        "data": data_digest,
        "network_start": network_start,
        "machine": machine(),
        "platform": platform.platform(),
        "command_line": [sys.executable] + sys.argv,
        "start": now(),
        "end": None,
        "ended_by": None,
    }, difference


def check_entries(value):
    """Raises ValueError unless `value` is a list of entries, one for each start of a run."""
    if not isinstance(value, list) or not value:
        raise ValueError("it is no JSON array of starts")
    for number, entry in enumerate(value, 1):
        check_fields(entry, FIELDS, f"start {number}")
        if not all(isinstance(argument, str) for argument in entry["command_line"]):
            raise ValueError(f"start {number} has a damaged 'command_line'")


def keep_difference(folder, difference, number):
    """Writes the difference of a run's start number `number`; those of other starts stay.

    Returns:
        Name of the file.
    """
    while True:
        name = "uncommitted.diff" if number == 1 else f"uncommitted_{number}.diff"
        if not os.path.lexists(folder.path / name):
            folder.write_text(name, difference)
            return name
        number += 1


@contextlib.contextmanager
def noting_end(folder):
    """Calls a begun RunFolder's `finish` with what ends the block, whatever that is."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(UserError):  # the first error counts
            folder.finish(_reason(error))
        raise
    folder.finish("finished")


def _reason(error):
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    if hasattr(error, "signal_number") or isinstance(error, SystemExit):  # a stop, saved before
        return one_line(error)
    name = "" if isinstance(error, UserError) else type(error).__name__ + ": "
    return f"error: {name}{one_line(error)}"


def git_state():
    """(revision, uncommitted difference) of the source tree; (None, "") where git knows nothing."""
    def git(*arguments):
        return subprocess.run(("git", "-C", ROOT) + arguments, check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.decode("utf-8", "replace")
    try:
        revision = git("rev-parse", "HEAD").strip()
        untracked = git("ls-files", "--others", "--exclude-standard")
        return revision, (git("diff", "HEAD")
                          + "".join(f"untracked: {name}\n" for name in untracked.splitlines()))
    except (OSError, subprocess.CalledProcessError):
        return None, ""


def machine():
    """Processor, cores and memory: "AMD EPYC 7763, 2 cores, 23 GB of memory"."""
    parts = [processor(), f"{os.cpu_count() or 1} cores"]
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        parts.append(f"{size / 2 ** 30:.0f} GB of memory")
    except (AttributeError, OSError, ValueError):  # the system does not tell
        pass
    return ", ".join(parts)


def processor():
    """The processor's name, or its architecture where the system does not tell."""
    name = cpu_info("model name")
    if name:
        return name
    try:  # macOS
        return subprocess.run(
            ("sysctl", "-n", "machdep.cpu.brand_string"), check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().strip()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return platform.processor() or platform.machine() or "unknown processor"


def cpu_info(*names):
    """The value of the first line of /proc/cpuinfo that has one of these names; "" without one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in names and value.strip():
                    return " ".join(value.split())
    except OSError:
        pass
    return ""


def now():
    """The time, UTC, as ISO 8601 text."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
