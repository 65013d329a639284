"""checkpoints/index.json: which TensorFlow checkpoint beside it is `best`, which is `last`.

A checkpoint is several files; it counts from the moment that the index, renamed, names it.
"""

import contextlib
import re
import shutil

from runtime.files import check_fields

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")
# A checkpoint's files, and what a TensorFlow that was killed or failed leaves of them.
PART = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*?)(?P<part>\.index|\.meta"
                  r"|\.data-\d{5}-of-\d{5}|_temp(_[0-9a-f]+)?)(\.tempstate\d+)?\Z")
# Of the state kept with a checkpoint; more may follow. best_loss is None before the first epoch.
STATE = {"epoch": int, "step": int, "sums": dict, "best_epoch": int,
         "seconds": (int, float, type(None)), "best_loss": (int, float, type(None))}


def check(value):
    """Raises ValueError unless `value` is what save_checkpoint writes into the index."""
    check_fields(value, {"last": dict, "best": (dict, type(None))}, "the file")
    for which, entry in value.items():
        check_fields(entry, {"checkpoint": str, "state": dict}, "%.40r" % which)
        if not NAME.match(entry["checkpoint"]):
            raise ValueError("%.60r names no checkpoint" % entry["checkpoint"])
        state = entry["state"]
        check_fields(state, STATE, "the state of %.40r" % which)
        most = dict(epoch=10 ** 9, step=10 ** 9, best_epoch=10 ** 9,
                    restart_epoch=state["epoch"] + 1)  # which older versions did not save
        for name, bound in most.items():
            number = state.get(name, 0)
            if type(number) is not int or not 0 <= number <= bound:
                raise ValueError("the state of %.40r has %s %.40r" % (which, name, number))
        if state.get("best_loss") is None and state["best_epoch"] > 0:
            raise ValueError("the state of %.40r has no 'best_loss'" % which)
        if not all(type(total) in (int, float) for total in state["sums"].values()):
            raise ValueError("the state of %.40r has damaged 'sums'" % which)


def names(folder):
    """Names of the whole checkpoints in a folder (a Path), whatever the index says."""
    return {match.group("name") for match in map(PART.match, _listed(folder))
            if match and match.group(0).endswith(".index")}


def remove_others(folder, index):
    """Removes the files of all checkpoints in a folder (a Path) that the index does not name."""
    kept = {entry["checkpoint"] for entry in index.values()}
    for name in _listed(folder):
        match = PART.match(name)
        if match and match.group("name") not in kept:
            with contextlib.suppress(OSError):
                if (folder / name).is_dir():
                    shutil.rmtree(str(folder / name))
                else:
                    (folder / name).unlink()


def _listed(folder):
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
