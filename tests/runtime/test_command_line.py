"""How commands start: standard streams that the shell has closed."""

import subprocess
import sys

import pytest
from conftest import ROOT

# A library that prints, while a file of ours is open.
PRINTS = """
import os, sys
sys.path.insert(0, sys.argv.pop(1))
from runtime.command_line import run_command

def main(arguments):
    with open("ours", "w") as stream:
        for number in (1, 2):
            os.write(number, b"theirs")
        stream.write("ours")

run_command(main)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_libraries_print_goes_into_no_file_of_ours(tmp_path, closed):
    process = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" "$2" {closed}', sys.executable,
                              PRINTS, str(ROOT)], cwd=str(tmp_path), stdout=subprocess.DEVNULL)
    assert process.returncode == 0 and (tmp_path / "ours").read_text() == "ours"
