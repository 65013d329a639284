"""Describes a data set: counts, images, duplicates, and whether it is ready to train.

    python describe.py 2                 by flag: 0, 1 or 2
    python describe.py myfaces           by name, as prepared by prepare.py

A contact sheet, one row a person, is written to --sheet: look there for wrong faces.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os
from pathlib import Path

from config import ROOT, find_dataset
from faces.contact_sheet import contact_sheet
from faces.describe import describe, report_lines
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError
from runtime.files import replacing

MARK = "DCBH contact sheet"  # stands in each page of faces/contact_sheet.html


def refuse_foreign(path):
    """Raises UserError if there is something at `path` that is no contact sheet of ours."""
    if os.path.lexists(path):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                ours = not os.path.islink(path) and MARK in stream.read(1000)
        except OSError:
            ours = False
        if not ours:
            raise UserError("%s is there and is no contact sheet; name another --sheet" % path)


def main(arguments):
    """Describes the data set that the command line names."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="0, 1, 2 or a prepared data set's name")
    parser.add_argument("--data_dir", default=str(ROOT / "data"), metavar="DIR",
                        help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--sheet", metavar="FILE.html",
                        help="where the contact sheet goes (default: contact_sheet_NAME.html)")
    options = parser.parse_args(arguments)
    dataset = find_dataset(options.dataset, options.data_dir)
    description, train, test = describe(dataset)
    path = options.sheet or "contact_sheet_%s.html" % dataset.name
    refuse_foreign(path)
    text = contact_sheet(dataset, train, test)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print("\n".join(report_lines(description)))
    print("contact sheet: %s" % path)


if __name__ == "__main__":
    run_command(main)
