"""Imported first by every command: says in one line that the environment is not the right one.

It acts when it is imported: otherwise a missing package would end in a traceback from wherever it
is imported first.
"""

import importlib.util
import os
import signal
import sys

COMMANDS = ("main.py", "evaluate.py", "reproduce.py", "prepare.py", "describe.py", "search.py")
PACKAGES = ("numpy", "scipy", "PIL", "matplotlib", "tqdm", "imagehash", "jinja2", "pi_heif",
            "faiss", "tornado")

_missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if sys.version_info < (3, 7):
    _problem = ("Python %d.%d is too old: use Python 3.7 or 3.10 to 3.13, or make, which finds one"
                % sys.version_info[:2])
elif _missing:
    _problem = ("%s is not installed for %s: activate the environment first (source "
                ".venv/bin/activate, or .venv-tf2/bin/activate), or use make (make help)"
                % (_missing[0], sys.executable))
else:
    _problem = None
if _problem:
    print("error: " + _problem, file=sys.stderr)
    sys.exit(2)


def _stop(*_):
    """Ctrl-C while packages are being imported; run_command takes over then."""
    os.write(2, b"\nstopped\n")
    os._exit(130)


if (os.path.basename(sys.argv[0]) in COMMANDS
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
    signal.signal(signal.SIGINT, _stop)
