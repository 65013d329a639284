"""What took long to compute for a photograph, kept in a hidden file so that it is computed once.

One line a photograph is appended. A run that is stopped goes on from what is there.
"""

import hashlib
import json
import os
import threading


class KeptLines:
    """Lines by key in one file. One object serves several threads.

    Several processes may use the file at once: a line is one write at its end. A line that is not
    whole is passed over.

    Args:
        folder: Path; made when the first line is kept.
        name: of what is kept, for the file's name.
        description: JSON object, what the lines depend on: each has a file of its own.
    """

    def __init__(self, folder, name, description):
        text = json.dumps(description, sort_keys=True)
        self.path = folder / (".%s_%s.jsonl" % (
            name, hashlib.sha256(text.encode()).hexdigest()[:12]))
        self._lock = threading.Lock()
        self._lines = {}  # as text: a tenth of what tuples take
        self._descriptor = None
        self._broken = False
        try:
            with open(str(self.path), "rb") as stream:
                for line in stream:
                    key, _, value = line.partition(b" ")
                    if value.endswith(b"\n"):
                        self._lines[key] = value
        except OSError:
            pass  # none yet, or not readable: then they are made again

    def get_line(self, key):
        """The JSON value kept under a key (text), or None if none is, or it is damaged."""
        line = self._lines.get(key.encode())
        try:
            return None if line is None else json.loads(line.decode())
        except ValueError:
            return None

    def put_line(self, key, value):
        """Keeps a JSON value; where that fails it is computed again next time."""
        line = json.dumps(value).encode() + b"\n"
        key = key.encode()
        with self._lock:
            self._lines[key] = line
            if self._broken:
                return
            try:
                if self._descriptor is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._descriptor = os.open(
                        str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                    if os.fstat(self._descriptor).st_size:
                        os.write(self._descriptor, b"\n")  # ends what a killed run left
                os.write(self._descriptor, key + b" " + line)
            except OSError:
                self._broken = True

    def close(self):
        """Closes the file."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
