"""history.csv: one row an epoch; an empty cell is a value that is missing (so far)."""

import csv
import io
import math
import os

from runtime.errors import UserError
from runtime.files import read_text, replacing

COLUMNS = ("epoch", "total", "accuracy", "images_per_second", "seconds")  # more may follow


class History:
    """The rows of a history. Each change replaces the file, whole or not at all.

    Args:
        path: Path of the file, which may be missing.

    All methods raise UserError if the file is damaged.
    """

    def __init__(self, path):
        self.path = path

    def read(self):
        """The rows: list of dicts of floats by column; None where a cell is empty."""
        return [{name: _value(cell) for name, cell in row.items()} for row in self._rows()]

    def append(self, row):
        """Adds a row: dict of numbers by column; None or "" is an empty cell.

        A column that is new is added to the rows before, with empty cells.
        """
        self._write(self._rows() + [row])

    def set_value(self, epoch, name, value):
        """Sets one cell of an epoch's row; nothing where the history has no such row."""
        rows = self._rows()
        for row in rows:
            if float(row["epoch"]) == epoch:
                row[name] = value
                self._write(rows)

    def trim(self, last_epoch):
        """Drops rows after `last_epoch`: what a killed run had not saved."""
        rows = self._rows()
        if rows:
            self._write([row for row in rows if float(row["epoch"]) <= last_epoch])

    def _rows(self):
        """The rows as dicts of text, checked to be numbers of ascending epochs."""
        if not os.path.lexists(self.path):
            return []
        text, rows, epoch = read_text(self.path), [], 0
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            for row in reader:
                if None in row or None in row.values() or len(row) < len(reader.fieldnames):
                    raise ValueError("it has other columns than the first line")
                values = {name: _value(cell) for name, cell in row.items()}
                missing = [name for name in COLUMNS if values.get(name) is None]
                if missing:
                    raise ValueError(f"it has no {missing[0]!r}")
                if values["epoch"] != int(values["epoch"]) or values["epoch"] <= epoch:
                    raise ValueError("it is not of a later epoch than the line before")
                epoch = values["epoch"]
                rows.append(dict(row))
            if text and not text.endswith("\n"):
                raise ValueError("its last line is not whole")
        except (csv.Error, ValueError) as error:
            raise UserError(f"{self.path} is damaged: line {reader.line_num}: {error}; repair it, "
                            f"or move the file away to continue without it")
        return rows

    def _write(self, rows):
        with replacing(self.path) as temporary, open(
                temporary, "w", newline="", encoding="utf-8") as stream:
            if rows:
                names = dict.fromkeys(name for row in rows for name in row)
                writer = csv.DictWriter(stream, list(names), restval="", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def _value(cell):
    """A cell as a float; None if it is empty. Raises ValueError if it is not a finite number."""
    value = float(cell) if cell else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{cell!r:.40} is not a number")
    return value
