"""What hostile.py tries: commands with names, numbers, damages and circumstances, by a seed."""

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import socket
import sqlite3
from typing import NamedTuple

from config import Config
from runtime.settings import value_types

PICKLES = ["--dataset_flag", "1", "--data_dir", "data", "--num_bits", "8"]
ITQ = PICKLES + ["--method", "itq"]
MINE = ["--dataset_flag", "mine", "--data_dir", "data", "--num_bits", "8", "--method", "itq"]
PREPARE = ["--source", "folder", "--crop", "none", "--test_images", "2", "--images", "photographs",
           "--data_dir", "data", "--name", "new"]
FACESCRUB = PREPARE + ["--source", "facescrub", "--min_images", "3"]
PHOTO = "photographs/person 0/0.png"
INDEX = ["index", "runs/mine", "--images", "photographs"]
QUERY = ["query", "gallery", PHOTO]
SERVE = ["serve", "gallery", "--port", "0"]
FIND = ["find", "scenes/0.png", "scenes"]
DRY_RUN = ["--dry_run", "--datasets", "2", "--methods", "itq", "dcbh"]
GRID = ["--datasets", "2", "--methods", "itq", "--bits", "12", "--seeds", "0", "--out", "grid"]
TF_CONFIG = '{"cluster": {"worker": ["127.0.0.1:%s", "127.0.0.1:9"]}, "task": %s}'


class Case(NamedTuple):
    """One command on a damaged world, or in odd circumstances.

    Attributes:
        kind: one of KINDS.
        command: a key of hostile.COMMANDS.
        arguments: list of str.
        damage: (path in the world, name of a damage, seed), or None.
        circumstances: dict of what hostile.run does to the process: "limit" (bytes that a file may
            have), "room" (bytes that the disk has left), "files" (that may be open), "stop" (number
            of a signal, and seconds until it comes), "environment" (dict), "closed" (descriptors),
            "full" (descriptors that lead to a full device), "twice" (in how many processes at
            once), "rights" (path, mode; and the process has no rights but its files'), "umask"
            (likewise), "read_only" (the disk), "gone" (the working directory).
    """

    kind: str
    command: str
    arguments: list
    damage: tuple = None
    circumstances: dict = {}

    def __str__(self):
        arguments = " ".join(repr(argument)[1:-1][:60] for argument in self.arguments)
        damage = f" with {self.damage[0]}: {self.damage[1]}" if self.damage else ""
        others = "".join(f" {name}={value!r:.90}" for name, value in self.circumstances.items())
        return f"{self.kind}: {self.command} {arguments}{damage}{others}"


# Damages of files

VALUES = (None, True, -1, 0, 10 ** 19, 10 ** 30, 10 ** 400, 1.5, 1e300, "", "a/b", "\0", [],
          {}, [[]], [None, 5], "x" * 5000)
CELLS = (b"", b" ", b"9" * 310, b"-1", b"0", b"1e999", b"nan", b"\0", b"../../../etc/passwd",
         b"/dev/zero", b"odd/pipe", b"odd/loop", b"odd", b"x" * 300, b"y/" * 3000, b'"', b"'", b",",
         b"\t", b"\r", b"\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"=1+1", b"caf\xc3",
         b"x" * 300000, "\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}".encode())
# Of a column of a database; a number goes into no column of text.
ENTRIES = (-1, 0, 1, 7, 2 ** 63 - 1, -2 ** 63, 10 ** 15, 1e308, -1.5, float("inf"), "", "x" * 5000,
           "\0", "../..", "null", "[]", "{}", '"/"', "[" * 100000, "9" * 400, "1e999", b"", b"\0",
           b"\xff" * 300, b"/etc/passwd", None)
DAMAGES = ("pipe", "socket", "folder", "dangling link", "link to itself", "device", "missing",
           "truncated", "emptied", "random", "bits", "zeros", "longer", "deep") + ("value",) * 6


def damage(path, kind, rng):
    """Damages a file (a Path)."""
    content = bytearray(path.read_bytes())
    if kind == "value" and path.suffix == ".db":
        _change_database(path, rng)
        return
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind in ("dangling link", "link to itself", "device"):
        path.symlink_to({"device": "/dev/zero", "dangling link": "nowhere"}.get(kind, path.name))
    elif kind != "missing":
        path.write_bytes(_damaged(content, kind, rng))


def _damaged(content, kind, rng):
    """The bytes of a damaged file."""
    if kind == "truncated":
        return content[:rng.randrange(len(content) + 1)]
    if kind == "emptied":
        return b""
    if kind == "random":
        return bytes(rng.randrange(256) for _ in range(1000))
    if kind == "bits":
        for _ in range(min(len(content), 5)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        start = rng.randrange(len(content) + 1)
        content[start:start + 100] = bytes(100)
    elif kind == "longer":
        content += bytes(rng.randrange(256) for _ in range(50))
    elif kind == "deep":
        return b"[" * 100000
    elif kind == "value":
        try:
            return _changed_json(content, rng)
        except ValueError:  # no JSON
            return _changed_text(bytes(content), rng)
    return bytes(content)


def _changed_json(content, rng):
    """A JSON text with another value at a random place."""
    value = json.loads(content.decode("utf-8"))
    place, key = [value], 0
    while isinstance(place[key], (dict, list)) and place[key] and (
            rng.random() < 0.8 or place[key] is value):
        place = place[key]
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    other = rng.choice(VALUES + ("huge",))
    place[key] = "HUGE" if other == "huge" else other
    return json.dumps(value).replace('"HUGE"', "1e999").encode()


def _changed_text(content, rng):
    """A text or other content with another cell at a random place between separators."""
    cells = re.split(rb"([,;\t\n])", content)
    cells[rng.randrange(0, len(cells), 2)] = rng.choice(CELLS)
    return b"".join(cells)


def _change_database(path, rng):
    """Puts other values into random cells of a gallery.db, or changes its structure."""
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        tables = [name for name, in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        for _ in range(rng.choice((1, 1, 5))):
            with contextlib.suppress(sqlite3.Error):
                if rng.random() < 0.1:
                    connection.execute(rng.choice((
                        f"PRAGMA user_version = {rng.choice((0, 1, 99, -1))}",
                        f"DROP TABLE {rng.choice(tables)}", "CREATE TABLE more (x)",
                        f"ALTER TABLE {rng.choice(tables)} ADD COLUMN more",
                        "CREATE VIEW more AS SELECT 1")))
                    continue
                table = rng.choice(tables + ["info"] * 4)
                rows = connection.execute(f"SELECT * FROM {table}")
                names, rows = [column[0] for column in rows.description], rows.fetchall()
                if not rows:
                    continue
                row, column = rng.choice(rows), rng.choice(names)
                where = " AND ".join(f"{name} IS ?" for name in names)
                old, new = row[names.index(column)], rng.choice(ENTRIES)
                if table == "info" and column == "value" and rng.random() < 0.7:
                    new = _changed_json(old.encode(), rng).decode()
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (new, *row))


# Cases

NAMES = ["x" * 300, "x" * 250, "y/" * 2100, "a/" + "x" * 300, "two\nlines", "", ".", "..", " ",
         "-", "--", "-rf", "~", "\udcff", "odd/caf\udce9", "odd/pipe", "odd/zero", "odd/loop",
         "odd/dangling", "odd/notes", "odd/file", "odd/nothing", "odd/empty", "odd/link",
         "odd/socket", "odd/zoe\N{COMBINING DIAERESIS}", "odd/zo\u00eb",
         "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "\N{GRINNING FACE}", "odd/deep",
         "odd/file/below", "nowhere", "nowhere/below", "/proc/self/mem", "/proc/self/fd",
         "/dev/null", "/dev/full", "/dev/stdin", "/dev/fd/0", "/proc/nobody", "runs", "runs/itq",
         "runs/itq/", "runs//itq/../itq/.", "runs/itq/checkpoints", "runs/itq/codes.npz",
         "runs/network", "gallery", "gallery/below", "gallery/gallery.db", "encoder", "grid",
         "data", "data/mine", "photographs", "photographs/person 0/../..", "codes.npz", "codes.mat",
         "arrays", "labels.csv", "actors.txt", "%s%d{}", "a,b", "'\"", "[a]*", "CON", "a\\b",
         "file:///etc/passwd", "C:\\x", "x.json", ".json", ".csv", ".html", "odd/sheet.html",
         "sheet.html", "nowhere/a.html", "a.csv", "person 0", "person 1", "2019"]
NAME_OPTIONS = [
    ("main", ITQ + ["--run_dir", "?"]), ("main", ["--resume", "--run_dir", "?"]),
    ("main", ITQ + ["--run_dir", "?", "--overwrite"]),
    ("main", ITQ[:2] + ["--method", "itq", "--run_dir", "new", "--data_dir", "?"]),
    ("main", ["--method", "itq", "--data_dir", "data", "--dataset_flag", "?"]),
    ("main", PICKLES + ["--method", "feature_itq", "--run_dir", "new", "--features_of", "?"]),
    ("main", ["--resume", "--run_dir", "runs/itq", "--data_dir", "?"]),
    ("main", ITQ + ["--run_dir", "new", "--hash_layer", "?"]),
    ("main", PICKLES + ["--run_dir", "new", "--method", "?"]),
    ("evaluate", ["?"]), ("evaluate", ["--codes", "?", "--out", "out"]),
    ("evaluate", ["--codes", "codes.npz", "--out", "?"]),
    ("evaluate", ["runs/itq", "--export", "?"]), ("evaluate", ["runs/itq", "--data_dir", "?"]),
    ("evaluate", ["runs/itq", "?", "--out", "out"]),
    ("evaluate", ["runs/itq", "runs/mine", "--out", "?"]),
    ("reproduce", DRY_RUN + ["--out", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "?"]),
    ("reproduce", ["--dry_run", "--methods", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "mine", "--data_dir", "?", "--out", "new"]),
    ("reproduce", GRID[:-1] + ["?"]),
    ("prepare", PREPARE + ["--images", "?"]), ("prepare", PREPARE + ["--name", "?"]),
    ("prepare", PREPARE + ["--data_dir", "?"]), ("prepare", PREPARE + ["--labels", "?"]),
    ("prepare", PREPARE + ["--source", "facescrub", "--lists", "?"]),
    ("prepare", PREPARE + ["--source", "facescrub", "--lists", "actors.txt", "?"]),
    ("prepare", PREPARE + ["--source", "lfw", "--images", "?"]),
    ("prepare", PREPARE + ["--source", "youtube_faces", "--images", "?"]),
    ("describe", ["?", "--data_dir", "data"]), ("describe", ["mine", "--data_dir", "?"]),
    ("describe", ["mine", "--data_dir", "data", "--sheet", "?"]),
    ("search", ["index", "?", "--gallery", "--out", "new"]),
    ("search", ["index", "runs/mine", "--gallery", "--out", "?"]),
    ("search", ["index", "runs/mine", "--images", "?", "--out", "new"]),
    ("search", INDEX + ["--images", "?", "--out", "new"]),
    ("search", INDEX + ["--people", "?", "--out", "new"]),
    ("search", ["index", "runs/mine", "--gallery", "--out", "new", "--data_dir", "?"]),
    ("search", ["index", "--images", "?", "--out", "new"]),
    ("search", ["add", "gallery", "--images", "?"]), ("search", ["add", "?"]),
    ("search", ["add", "gallery", "--people", "?"]),
    ("search", ["add", "gallery", "--data_dir", "?"]),
    ("search", ["info", "?"]), ("search", ["query", "?", PHOTO]),
    ("search", ["query", "gallery", "?"]), ("search", QUERY + ["?"]),
    ("search", QUERY + ["--sheet", "?"]), ("search", QUERY + ["--json", "?"]),
    ("search", QUERY + ["--csv", "?"]), ("search", QUERY + ["--copy", "?"]),
    ("search", QUERY + ["--json", "?", "--overwrite"]),
    ("search", QUERY + ["--engine", "milvus", "--uri", "?"]),
    ("search", ["remove", "gallery", "--file", "?"]),
    ("search", ["remove", "gallery", "--name", "?"]), ("search", ["remove", "?", "--id", "1"]),
    ("search", ["rename", "gallery", "?", "somebody"]),
    ("search", ["rename", "gallery", "person 0", "?"]), ("search", ["rename", "?", "a", "b"]),
    ("search", ["name", "gallery", "--id", "1", "?"]), ("search", ["name", "?", "--id", "1", "a"]),
    ("search", ["name", "gallery", "--group", "?", "somebody"]), ("search", ["groups", "?"]),
    ("search", ["groups", "gallery", "--json", "?"]), ("search", ["undo", "?"]),
    ("search", ["merge", "gallery", "?", "person 0"]),
    ("search", ["merge", "gallery", "person 0", "?", "--never"]),
    ("search", ["reject", "gallery", "--id", "1", "?"]), ("search", ["export", "?", "--xmp"]),
    ("search", ["mark", "gallery", "?", "0", "0", "20", "20"]),
    ("search", ["mark", "gallery", PHOTO, "0", "0", "20", "20", "--name", "?"]),
    ("search", ["serve", "?", "--port", "0"]), ("search", SERVE + ["--host", "?"]),
    ("search", SERVE + ["--public_url", "?"]), ("search", ["?"]),
    ("search", QUERY + ["--engine", "milvus", "--uri", "localhost:9", "--ca", "?"]),
    ("search", ["find", "?", "photographs"]), ("search", ["find", PHOTO, "?"]),
    ("encoder", ["?"]),
]

NUMBERS = ["9223372036854775807", "9223372036854775808", "1e999", "-1e999", "nan", "inf", "-1", "0",
           "9" * 310, "9" * 5000, "0x10", "1_000", "\u0663", "1.5", "", " 5", "1e-400", "-0",
           "1e308", "4294967296", "2147483648", "--", "1e5", "5\n", "\udcff", "0.0000001", "1",
           "-9" * 40, "+5", "5e-324", "1e-3", "\u00bd", "true", "None", "1,5", "65535", "65536"]
NUMBER_OPTIONS = [
    ("main", ITQ + ["--run_dir", "new", "--" + field.name, "?"])
    for field in dataclasses.fields(Config)
    if set(value_types(field)) & {int, float, bool} and field.name != "dataset_flag"
] + [("evaluate", ["--codes", "codes.npz", "--out", "out", "--map_at", "?"])] * 3 + [
    ("prepare", PREPARE + [option, "?"])
    for option in ("--margin", "--crop_box", "--crop_fraction", "--size", "--test_images",
                   "--min_images", "--unseen", "--seed", "--workers")
] + [
    ("search", QUERY + [option, "?"])
    for option in ("--top", "--radius", "--vote", "--threshold", "--far")
] + [
    ("prepare", PREPARE + ["--crop", "box", "--crop_box", "1,1,?,9"]),
    ("prepare", PREPARE + ["--crop", "box", "--crop_box", "?,?,?,?"]),
    ("main", ["--resume", "--run_dir", "runs/itq", "--epochs", "?"]),
    ("main", ["--method", "itq", "--dataset_flag", "?"]),
    ("main", ITQ + ["--run_dir", "new", "--worker_timeout", "?"]),
    ("reproduce", DRY_RUN + ["--out", "new", "--bits", "?"]),
    ("reproduce", DRY_RUN + ["--out", "new", "--seeds", "?"]),
    ("reproduce", DRY_RUN + ["--out", "new", "--jobs", "?"]),
    ("reproduce", DRY_RUN + ["--out", "new", "--unseen_splits", "?"]),
    ("reproduce", DRY_RUN + ["--out", "new", "--epochs", "?"]),
    ("search", ["info", "gallery", "--far", "?"]),
    ("search", ["remove", "gallery", "--id", "?"]), ("search", ["remove", "gallery", "--id", "1",
                                                                "?"]),
    ("search", ["name", "gallery", "--id", "?", "somebody"]),
    ("search", ["name", "gallery", "--group", "?", "somebody"]),
    ("search", ["groups", "gallery", "--least", "?"]), ("search", ["split", "gallery", "--id",
                                                                   "?"]),
    ("search", ["reject", "gallery", "--id", "?"]), ("search", ["merge", "gallery", "?", "1"]),
    ("search", ["mark", "gallery", PHOTO, "?", "0", "?", "20"]),
    ("search", ["serve", "gallery", "--port", "?"]), ("search", SERVE + ["--threshold", "?"]),
]

# Commands that read what lies below a folder of the world.
READERS = {
    "runs/itq": [("evaluate", ["runs/itq"]), ("evaluate", ["runs/itq", "--export", "new"]),
                 ("evaluate", ["runs/itq", "runs/mine", "--out", "out"]),
                 ("main", ["--resume", "--run_dir", "runs/itq"]),
                 ("main", ITQ + ["--run_dir", "runs/itq", "--overwrite"])],
    "runs/mine": [("search", ["index", "runs/mine", "--gallery", "--out", "new"]),
                  ("search", ["query", "runs/mine", PHOTO]), ("search", ["info", "runs/mine"])],
    "runs/network": [("evaluate", ["runs/network"]),
                     ("main", ["--resume", "--run_dir", "runs/network"]),
                     ("main", PICKLES + ["--method", "feature_itq", "--run_dir", "new",
                                         "--features_of", "runs/network"]),
                     ("evaluate", ["runs/network", "--export", "encoder"])],
    "encoder": [("encoder", ["encoder"]), ("evaluate", ["runs/network", "--export", "encoder"])],
    "gallery": [("search", ["info", "gallery", "--check", "--left-out"]), ("search", QUERY),
                ("search", ["add", "gallery", "--images", "odd/empty"]),
                ("search", ["add", "gallery"]), ("search", INDEX + ["--out", "gallery"]),
                ("search", ["rename", "gallery", "person 0", "person 1"]),
                ("search", ["name", "gallery", "--id", "1", "somebody"]), ("search", SERVE),
                ("search", ["groups", "gallery", "--json", "-"]), ("search", ["undo", "gallery"]),
                ("search", ["merge", "gallery", "person 0", "person 1"]),
                ("search", ["split", "gallery", "--id", "1"]),
                ("search", ["reject", "gallery", "--id", "1"]),
                ("search", ["export", "gallery", "--xmp"]),
                ("search", ["remove", "gallery", "--id", "1"]),
                ("search", ["remove", "gallery", "--name", "person 2"])],
    "gallery/gallery.db": [("search", ["info", "gallery", "--check", "--left-out"]),
                           ("search", QUERY + ["--json", "-"]), ("search", ["add", "gallery"]),
                           ("search", ["remove", "gallery", "--name", "person 2"]),
                           ("search", ["undo", "gallery"]),
                           ("search", ["export", "gallery", "--xmp"]),
                           ("search", ["groups", "gallery", "--json", "-"]),
                           ("search", INDEX + ["--out", "gallery"])],
    "data/mine": [("main", MINE + ["--run_dir", "new"]),
                  ("describe", ["mine", "--data_dir", "data"]),
                  ("evaluate", ["runs/mine"]),
                  ("prepare", PREPARE[:-1] + ["mine", "--overwrite"])],
    "data/train_folder_facescrub": [("main", ITQ + ["--run_dir", "new"]),
                                    ("describe", ["1", "--data_dir", "data"])],
    "grid": [("reproduce", GRID + ["--dry_run"]), ("reproduce", GRID)],
    "codes.npz": [("evaluate", ["--codes", "codes.npz", "--out", "out"])],
    "codes.mat": [("evaluate", ["--codes", "codes.mat", "--out", "out"])],
    "arrays": [("evaluate", ["--codes", "arrays", "--out", "out"])],
    "labels.csv": [("prepare", PREPARE + ["--labels", "labels.csv"]),
                   ("search", INDEX + ["--people", "labels.csv", "--out", "new"]),
                   ("search", ["add", "gallery", "--people", "labels.csv"])],
    "actors.txt": [("prepare", FACESCRUB + ["--lists", "actors.txt"])],
    "photographs": [("prepare", PREPARE), ("search", QUERY), ("search", ["add", "gallery"]),
                    ("search", ["query", "gallery", "photographs"]),
                    ("search", ["export", "gallery", "--xmp"]),
                    ("search", ["add", "gallery", "--read_xmp"]),
                    ("search", INDEX + ["--out", "new"])],
}
UNREAD = re.compile(r".*(/lock|\.html|\.png\.|events\.out.*|curves_.*|/figures/.*|\.log|tables.*)")

# Commands that write, for full disks, signals and the like.
WRITERS = [
    ("main", ITQ + ["--run_dir", "new"]), ("main", ITQ + ["--run_dir", "runs/itq", "--overwrite"]),
    ("main", PICKLES + ["--epochs", "1", "--batch_size", "30", "--run_dir", "new"]),
    ("main", ["--resume", "--run_dir", "runs/network", "--epochs", "2"]),
    ("evaluate", ["runs/itq"]), ("evaluate", ["runs/network"]),
    ("evaluate", ["runs/itq", "--export", "new"]),
    ("evaluate", ["runs/network", "--export", "new"]),
    ("evaluate", ["runs/network", "--export", "encoder"]),
    ("evaluate", ["runs/itq", "runs/mine", "--out", "out"]),
    ("evaluate", ["--codes", "codes.npz", "--out", "out"]), ("prepare", PREPARE),
    ("prepare", PREPARE[:-1] + ["mine", "--overwrite"]),
    ("describe", ["mine", "--data_dir", "data", "--sheet", "sheet.html"]),
    ("search", ["index", "runs/network", "--gallery", "--out", "new"]),
    ("search", INDEX + ["--out", "gallery"]), ("search", INDEX + ["--out", "new"]),
    ("search", ["add", "gallery", "--images", "scenes"]),
    ("search", ["add", "gallery", "--rehash", "--people", "none"]),
    ("search", ["remove", "gallery", "--id", "1", "2"]),
    ("search", ["rename", "gallery", "person 0", "person 1"]),
    ("search", ["name", "gallery", "--id", "1", "2", "somebody"]),
    ("search", ["merge", "gallery", "person 0", "person 1"]),
    ("search", ["split", "gallery", "--id", "1", "2"]), ("search", ["undo", "gallery"]),
    ("search", ["reject", "gallery", "--id", "1"]), ("search", ["export", "gallery", "--xmp"]),
    ("search", ["groups", "gallery", "--json", "a.json"]),
    ("search", QUERY + ["--json", "a.json", "--csv", "a.csv", "--sheet", "a.html"]),
    ("search", QUERY + ["--json", "-"]), ("search", QUERY + ["--copy", "new"]),
    ("search", SERVE), ("search", FIND), ("reproduce", GRID[:5] + ["--bits", "8", *GRID[6:]]),
]
LIMITS = (0, 20, 300, 1000, 5000, 20000, 70000, 300000, 1000000, 3000000)
ENVIRONMENTS = [("TF_CONFIG", value) for value in (
    "{", "[]", "[" * 100000, '{"cluster": 5}', '{"cluster": {"worker": [5, null]}}',
    TF_CONFIG % ("99999", '{"type": "worker", "index": 0}'),
    TF_CONFIG % ("2222", '{"type": "worker", "index": 1e999}'),
    TF_CONFIG % ("2222", '{"type": "chief", "index": 0}'), TF_CONFIG % ("2222", "null"),
    TF_CONFIG % ("22\u0662", '{"type": "worker", "index": 0}'), "\udcff", "9" * 5000)] + [
    (name, value) for name in ("XDG_CACHE_HOME", "HOME", "TMPDIR", "MPLCONFIGDIR")
    for value in ("", "nowhere", "odd/file", "odd/pipe", "odd/loop", "x" * 300, "\udcff")] + [
    ("CUDA_VISIBLE_DEVICES", value) for value in ("x", "0,0", "9" * 300, "-1", "\udcff")] + [
    ("TF_NUM_INTRAOP_THREADS", value) for value in ("x", "-1", "9" * 30, "")]
MODES = (0o000, 0o111, 0o222, 0o444, 0o555)
KINDS = ("name", "number", "damage", "full disk", "name", "damage", "stopped", "circumstances")


def with_value(option, value):
    """(command, arguments) of an option with a value in its place."""
    command, arguments = option
    return command, [argument.replace("?", value) for argument in arguments]


def listed_cases():
    """Every option that takes a path, with one too long, a pipe and a device."""
    for value in ("x" * 300, "odd/pipe", "odd/zero"):
        for option in NAME_OPTIONS:
            yield _timed(Case("name", *with_value(option, value)))


def needs_tensorflow(case):
    """Whether a case needs what a small world lacks, or takes long."""
    return any(re.search("network|^encoder|^grid", argument) for argument in case.arguments) or (
        "--epochs" in case.arguments or case.arguments[:1] == ["find"]
        or case.arguments[:2] == ["index", "--images"])


def needs_small_disk(case):
    """Whether a case needs a disk of its own."""
    return "room" in case.circumstances or "read_only" in case.circumstances


def make_cases(count, seed, files, small, can_mount):
    """So many Cases, the kinds in turn, always the same of one seed.

    Args:
        count, seed: int.
        files: names of the world's files, sorted.
        small: whether the world is small.
        can_mount: whether a small disk can be had.
    """
    rng = random.Random(seed)
    files = [path for path in files if not path.startswith("odd") and not UNREAD.fullmatch(path)]
    made = 0
    while made < count:
        case = _timed(_random_case(KINDS[made % len(KINDS)], rng, files))
        if needs_small_disk(case) and not can_mount:
            continue
        if not (small and needs_tensorflow(case)):
            made += 1
            yield case


def _random_case(kind, rng, files):
    if kind == "name":
        return Case(kind, *with_value(rng.choice(NAME_OPTIONS), rng.choice(NAMES)))
    if kind == "number":
        return Case(kind, *with_value(rng.choice(NUMBER_OPTIONS), rng.choice(NUMBERS)))
    if kind == "damage":
        prefix = rng.choice(sorted(READERS))
        below = [path for path in files if path.startswith(prefix)] or files
        return Case(kind, *rng.choice(READERS[prefix]), damage=(
            rng.choice(below), rng.choice(DAMAGES), rng.randrange(1 << 30)))
    writer = rng.choice(WRITERS)
    if kind == "full disk":
        what = rng.choice(("limit", "room"))
        return Case(kind, *writer, circumstances={what: rng.choice(LIMITS)})
    if kind == "stopped":
        # What reproduce.py has started goes on where it is killed.
        number = rng.choice((signal.SIGINT, signal.SIGTERM) + (
            signal.SIGKILL, signal.SIGHUP) * (writer[0] != "reproduce"))
        return Case(kind, *writer, circumstances=dict(
            stop=(number, round(0.02 * 300 ** rng.random(), 3))))
    what = rng.choice(("files", "environment", "environment", "closed", "full", "twice", "rights",
                       "rights", "umask", "read_only", "read_only", "gone"))
    value = {
        "files": lambda: rng.choice((4, 8, 12, 20, 32, 64)),
        "environment": lambda: dict([rng.choice(ENVIRONMENTS)]),
        "closed": lambda: rng.choice(((0,), (1,), (2,), (1, 2), (0, 1, 2))),
        "full": lambda: rng.choice(((1,), (2,), (1, 2))),
        "twice": lambda: 2, "read_only": lambda: True, "gone": lambda: True,
        "umask": lambda: rng.choice((0o777, 0o222, 0o444, 0o111)),
        "rights": lambda: (rng.choice(files + [os.path.dirname(path) for path in files]),
                           rng.choice(MODES))}[what]()
    return Case(kind, *writer, circumstances={what: value})


def _timed(case):
    """A case that would serve for ever gets a SIGINT."""
    if case.arguments[:1] == ["serve"] and "stop" not in case.circumstances:
        return case._replace(circumstances=dict(case.circumstances, stop=(signal.SIGINT, 3.0)))
    return case
