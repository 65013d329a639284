"""Values that took long to compute, kept in one SQLite file so that they are computed once.

    with Cache(folder, "embeddings", {"network": network_sha256}) as cache:
        value = cache.get(photograph_sha256, box)            # bytes, or None
        if value is None:
            value = compute(photograph, box).tobytes()
            cache.put(value, photograph_sha256, box)

A value is found again only if everything it depends on is the same: the kind, `depends_on` (of a
Cache) and the parts of the key (of a value), all of them JSON values. So name what the value was
computed from and how: sha256 of the file, faces.photographs.decoding_description() (how its pixels
were read), the network and its settings. Values of another version are not found and do no harm.

Several threads may share a Cache, and several processes the file. Values are written once a second
and on close; a process that is killed loses at most the last second's. A folder that is full or
read-only never stops the work: then values are computed again next time. A damaged file is
replaced. The file may be deleted at any time that no process uses it.
"""

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
import zlib

FILE = ".face_cache.sqlite3"
SECONDS_TO_FLUSH = 1.0
MOST_WAITING = 1000  # values that are held in memory before they are written
LOCK_TIMEOUT = 10.0  # seconds to wait for another process, which writes for milliseconds


class Cache:
    """The values of one kind in a folder's cache file. Closes itself as a context manager.

    Args:
        folder: Path; made if it is missing.
        kind: text, what the values are.
        depends_on: JSON value, what all of them depend on.
    """

    def __init__(self, folder, kind, depends_on):
        self.path = folder / FILE
        self._depends_on = hashlib.sha256(_json([kind, depends_on]))
        self._lock = threading.Lock()
        self._waiting = {}  # key -> value, not written yet
        self._flushed = time.monotonic()
        self._connection = self._open()

    def get(self, *key):
        """The bytes kept under a key, or None.

        Args:
            key: JSON values, what this value depends on.
        """
        digest = self._digest(key)
        with self._lock:
            if digest in self._waiting:
                return self._waiting[digest]
            rows = self._run(lambda connection: connection.execute(
                "SELECT value, checksum FROM cached WHERE key = ?", (digest,)).fetchall())
        for value, checksum in rows or ():
            if isinstance(value, bytes) and checksum == zlib.crc32(digest + value):
                return value
        return None

    def put(self, value, *key):
        """Keeps bytes under a key; see get."""
        with self._lock:
            self._waiting[self._digest(key)] = bytes(value)
            if (len(self._waiting) >= MOST_WAITING
                    or time.monotonic() - self._flushed >= SECONDS_TO_FLUSH):
                self._flush()

    def close(self):
        """Writes what is waiting, and closes the file."""
        with self._lock:
            self._flush()
            self._disconnect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _digest(self, key):
        digest = self._depends_on.copy()
        digest.update(_json(key))
        return digest.digest()

    def _flush(self):
        rows = [(digest, value, zlib.crc32(digest + value))
                for digest, value in self._waiting.items()]
        self._waiting = {}
        if rows:
            self._run(lambda connection: _write(connection, rows))
        self._flushed = time.monotonic()

    def _open(self):
        """A connection, or None where the file can be neither opened nor made."""
        for _ in range(2):
            connection = None
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self.path, timeout=LOCK_TIMEOUT,
                                             isolation_level=None, check_same_thread=False)
                connection.execute("CREATE TABLE IF NOT EXISTS cached (key BLOB PRIMARY KEY, "
                                   "value BLOB, checksum INTEGER) WITHOUT ROWID")
                return connection
            except (OSError, sqlite3.Error) as error:
                if connection is not None:
                    connection.close()
                if not _is_damage(error):
                    return None
                self._remove()
        return None

    def _run(self, work):
        """What `work` gives for the connection; None, and no more work, where that fails."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            if _is_damage(error):
                self._disconnect()
                self._remove()
            elif self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            return None

    def _disconnect(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remove(self):
        for path in (self.path, self.path.with_name(FILE + "-journal")):
            with contextlib.suppress(OSError):
                path.unlink()


def _write(connection, rows):
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR REPLACE INTO cached VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")


def _is_damage(error):
    """Whether the file is damaged or no database: the only sqlite3.DatabaseErrors proper."""
    return type(error) is sqlite3.DatabaseError


def _json(value):
    return json.dumps(value, sort_keys=True).encode()
