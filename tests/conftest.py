"""Puts the project's root on the import path, so that `pytest` alone works from any folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
