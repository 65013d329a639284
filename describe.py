"""Describes a data set. The options and the work: faces/describe.py."""

from config import run_command
from faces.describe import main

if __name__ == "__main__":
    run_command(main)
