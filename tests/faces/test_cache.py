"""The store of computed values: what it depends on, kills, two processes, damage, full disks."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from config import ROOT
from faces.cache import FILE, Cache

WRITER = """
import sys
from pathlib import Path
from faces.cache import Cache
cache = Cache(Path(sys.argv[1]), "kind", None)
for number in range(int(sys.argv[3])):
    cache.put(b"%d" % number * 100, sys.argv[2], number)
    if number == 500:
        cache._flush()
        print("written", flush=True)
if sys.argv[4:]:
    sys.stdin.read()
cache.close()
"""


def writer(folder, name, count, *waits, **options):
    """A process that keeps `count` values under (name, number)."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(count), *waits],
                            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def test_values_are_found_by_all_they_depend_on(tmp_path):
    with Cache(tmp_path / "new", "floats", {"network": "a", "size": 1}) as cache:
        assert cache.get("ab", [1, 2]) is None
        cache.put(b"value", "ab", [1, 2])
        cache.put(b"", "ab", None)
        assert cache.get("ab", (1, 2)) == b"value"
    with Cache(tmp_path / "new", "floats", {"size": 1, "network": "a"}) as cache:
        assert cache.get("ab", [1, 2]) == b"value" and cache.get("ab", None) == b""
        for key in (("ab", [1, 3]), ("ab",), ("ac", [1, 2]), ("ab", [1, 2], 0)):
            assert cache.get(*key) is None
        cache.put(b"newer", "ab", [1, 2])
        assert cache.get("ab", [1, 2]) == b"newer"
    for kind, depends_on in (("boxes", {"size": 1, "network": "a"}),
                             ("floats", {"size": 1, "network": "b"})):
        with Cache(tmp_path / "new", kind, depends_on) as cache:
            assert cache.get("ab", [1, 2]) is None


def test_a_killed_process_leaves_what_was_written(tmp_path):
    process = writer(tmp_path, "x", 600, "wait")
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Cache(tmp_path, "kind", None) as cache:
        assert all(cache.get("x", number) == b"%d" % number * 100 for number in range(501))


def test_two_processes_and_several_threads_at_once(tmp_path):
    processes = [writer(tmp_path, name, 3000) for name in "xy"]
    with Cache(tmp_path, "kind", None) as cache:
        threads = [threading.Thread(target=lambda name=name: [
            cache.put(b"t", name, number) for number in range(500)]) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Cache(tmp_path, "kind", None) as cache:
        assert all(cache.get(name, number) == b"%d" % number * 100
                   for name in "xy" for number in range(3000))
        assert all(cache.get(name, number) == b"t" for name in "abc" for number in range(500))


def test_a_damaged_value_or_file_is_computed_again(tmp_path):
    with Cache(tmp_path, "kind", None) as cache:
        for number in range(500):
            cache.put(b"value %d" % number * 50, number)
    connection = sqlite3.connect(str(tmp_path / FILE))
    connection.execute("UPDATE cached SET value = X'00'")
    connection.execute("UPDATE cached SET value = 7 WHERE key < X'80'")
    connection.commit()
    connection.close()
    with Cache(tmp_path, "kind", None) as cache:
        assert {cache.get(number) for number in range(500)} == {None}
        for number in range(500):
            cache.put(b"value", number)
    path = tmp_path / FILE
    data = path.read_bytes()
    for damaged in (b"no database" * 100, data[:100] + os.urandom(len(data) - 100), data[:5000]):
        path.write_bytes(damaged)
        with Cache(tmp_path, "kind", None) as cache:
            assert cache.get(3) in (None, b"value")
            cache.put(b"new", 3)
        for _ in range(2):  # damage that was met while writing is repaired on the next opening
            with Cache(tmp_path, "kind", None) as cache:
                cache.put(b"new", 3)
        with Cache(tmp_path, "kind", None) as cache:
            assert cache.get(3) == b"new"


def test_a_place_that_cannot_be_written_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other" / FILE).mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "other"):
        with Cache(folder, "kind", None) as cache:
            cache.put(b"value", "ab")
        with Cache(folder, "kind", None) as cache:
            assert cache.get("ab") is None


@pytest.mark.parametrize("limit", [0, 10000])
def test_a_full_disk_does_no_harm(tmp_path, limit):
    process = writer(tmp_path, "x", 600, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (limit, limit)))
    process.communicate()
    assert process.returncode == 0
    with Cache(tmp_path, "kind", None) as cache:
        assert cache.get("x", 3) is None
        cache.put(b"value", "x", 3)
        cache.put(b"value", "x", 4)
    with Cache(tmp_path, "kind", None) as cache:
        assert cache.get("x", 4) == b"value"
