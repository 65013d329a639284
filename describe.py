"""Describes a data set: counts, images, duplicates, and whether it is ready to train.

    python describe.py 2                 by flag: 0, 1 or 2
    python describe.py myfaces           by name, as prepared by prepare.py

It writes a contact sheet, one row a person, to contact_sheet_NAME.html in the working directory, or
to --sheet: look there for wrong faces. It replaces an older sheet, but no other file.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import contextlib
import os
import stat
from pathlib import Path

from config import Config, find_dataset
from faces.describe import describe, report_lines
from reports.html import contact_sheet
from runtime.command_line import ArgumentParser, path, run_command
from runtime.errors import UserError
from runtime.files import open_regular, reading, replacing

MARK = b"DCBH contact sheet"  # stands in each page of reports/templates/contact_sheet.html


def check_sheet(path):
    """Raises UserError unless a contact sheet can go to `path`: nothing else is replaced."""
    if not os.path.isdir(path.parent):
        raise UserError(f"{path.parent} is not a folder; name another --sheet")
    with reading(path), contextlib.suppress(FileNotFoundError):
        ours = stat.S_ISREG(os.lstat(path).st_mode)
        if ours:
            with open_regular(path) as stream:
                ours = MARK in stream.read(1000)
        if not ours:
            raise UserError(f"{path} exists and is not a contact sheet; name another --sheet")


def main(arguments):
    """Describes the data set that the command line names."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", metavar="DATASET",
                        help="0, 1, 2, or the name of a prepared data set")
    parser.add_argument("--data_dir", default=Config.data_dir, metavar="DIR",
                        help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--sheet", type=path, metavar="FILE.html",
                        help="where the contact sheet goes (default: contact_sheet_NAME.html in "
                             "the working directory)")
    options = parser.parse_args(arguments)
    dataset = find_dataset(options.dataset, options.data_dir, "DATASET")
    sheet = Path.cwd() / (options.sheet or f"contact_sheet_{dataset.name}.html")
    check_sheet(sheet)  # before the long work
    description, train, test = describe(dataset)
    with replacing(sheet) as temporary:
        temporary.write_text(contact_sheet(dataset, train, test), encoding="utf-8")
    print("\n".join(report_lines(description)))
    print(f"contact sheet: {sheet}")


if __name__ == "__main__":
    run_command(main)
