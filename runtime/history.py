"""history.csv: one row an epoch, appended; an empty cell is a value that is missing (so far).

A process that is killed while it appends leaves a last line without a line break, which is ignored.
Anything else that is no row of numbers is reported as damage.
"""

import csv
import io
import math
import os
import re

from runtime.errors import UserError
from runtime.files import flush, read_text, replacing, writing

COLUMNS = ("epoch", "total", "accuracy", "images_per_second", "seconds")  # more may follow

# What a killed process can leave of a line.
HALF_ROW = re.compile(r"[0-9eE.+,-]*\Z")
HALF_HEADER = re.compile(r"(e|ep|epo|epoc|epoch|epoch,[a-zA-Z0-9_,]*)?\Z")


def read(path):
    """The rows of a history.

    Args:
        path: Path of the file, which may be missing.

    Returns:
        List of dicts of floats by column; None where a cell is empty.

    Raises:
        UserError: the file is damaged.
    """
    header, rows, _ = _read_cells(path)
    result = []
    for number, row in enumerate(rows, 2):
        values = {name: _value(cell) for name, cell in zip(header, row)}
        previous = result[-1]["epoch"] if result else 0
        if values["epoch"] != int(values["epoch"]) or values["epoch"] <= previous:
            raise _damaged(path, f"line {number} is not of a later epoch than the line before")
        result.append(values)
    return result


def append(path, row):
    """Adds a row.

    Args:
        path: Path of the file, which may be missing.
        row: dict of numbers by column; None or "" is an empty cell. The first row names the
            columns; a column that is new is added to the rows before, with empty cells.
    """
    header, rows, whole = _read_cells(path)
    added = [name for name in row if name not in header]
    if added or not whole:
        header = header + added
        rows = [earlier + [""] * len(added) for earlier in rows]
        _write(path, header, rows + [[row.get(name, "") for name in header]])
        return
    with writing(path):
        with open(path, "a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow(
                [row.get(name, "") for name in header])
        flush(path)


def set_value(path, epoch, name, value):
    """Sets one cell of an epoch's row; nothing where the history has no such row.

    Args:
        path: Path of the file.
        epoch: number of the row.
        name: of the column, which is added if need be.
        value: number, or None for an empty cell.
    """
    header, rows, _ = _read_cells(path)
    if name not in header:
        header = header + [name]
        rows = [row + [""] for row in rows]
    for row in rows:
        if _value(row[header.index("epoch")]) == epoch:
            row[header.index(name)] = "" if value is None else value
            _write(path, header, rows)


def trim(path, last_epoch):
    """Drops rows after `last_epoch`, and half a row: what a killed run had not saved."""
    if os.path.lexists(path):
        header, rows, _ = _read_cells(path)
        kept = [row for row in rows if _value(row[header.index("epoch")]) <= last_epoch]
        _write(path, header if kept else [], kept)


def _read_cells(path):
    """What a history holds, checked to be numbers.

    Returns:
        (header, rows, whole): lists of text, empty where there is none; whole says whether a row
        can be appended as it is.
    """
    if not os.path.lexists(path):
        return [], [], True
    text = read_text(path)
    end = text.rfind("\n") + 1
    lines, half = text[:end], text[end:]
    if not (HALF_ROW if lines else HALF_HEADER).match(half):
        raise _damaged(path, "its last line is no part of a row")
    if not lines:
        return [], [], not half
    try:
        header, *rows = csv.reader(io.StringIO(lines, newline=""), strict=True)
    except csv.Error as error:
        raise _damaged(path, error)
    missing = [name for name in COLUMNS if name not in header]
    if missing or len(set(header)) < len(header):
        raise _damaged(path, f"it has no column {missing[0]!r}" if missing else
                       "it names a column twice")
    for number, row in enumerate(rows, 2):
        try:
            if len(row) != len(header):
                raise ValueError(f"it has {len(row)} columns, not {len(header)}")
            values = dict(zip(header, map(_value, row)))
            if any(values[name] is None for name in COLUMNS):
                raise ValueError("a number is missing")
        except ValueError as error:
            raise _damaged(path, f"line {number}: {error}")
    return header, rows, not half


def _value(cell):
    """A cell as a float; None if it is empty. Raises ValueError if it is no finite number."""
    if cell == "":
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{cell!r:.40} is not a number")
    return value


def _damaged(path, reason):
    return UserError(f"{path} is damaged: {reason}; repair it, or move the file away to go on "
                     f"without it")


def _write(path, header, rows):
    """Replaces the file: whole or not at all."""
    with replacing(path) as temporary, open(
            temporary, "w", newline="", encoding="utf-8") as stream:
        if header:
            csv.writer(stream, lineterminator="\n").writerows([header] + rows)
