"""Hostile cases over all commands, generated: names, numbers, damaged files, pipes, full disks.

    python tests/commands/hostile.py [--count 300] [--seed 0] [--only TEXT] [--listed] [--small]

Each case runs one command in a process of its own, forked from one that has imported everything, on
a copy of a small world: data, photographs, runs, an encoder, a gallery, a grid. A command must end
within a minute, with one line where it fails, and no file may be lost: what is no result of the
command is byte for byte what it was, and after a full disk runs and galleries still open.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import tiny_faces, write_pickle  # noqa: E402
from face_pictures import photo, save  # noqa: E402

import describe  # noqa: E402
import evaluate  # noqa: E402
import main  # noqa: E402
import prepare  # noqa: E402
import reproduce  # noqa: E402
import search  # noqa: E402
from config import Config  # noqa: E402
from methods.export import Encoder  # noqa: E402
from runtime.command_line import run_command  # noqa: E402
from runtime.run_folder import CONTENTS, RunFolder  # noqa: E402
from runtime.settings import value_types  # noqa: E402

SECONDS = 180  # a machine that tests run on is busy; nothing here takes 10 s on a quiet one
MEMORY = 6 << 30  # address space of a case
PICKLES = ["--dataset_flag", "1", "--data_dir", "data", "--num_bits", "8"]
ITQ = PICKLES + ["--method", "itq"]
PREPARE = ["--source", "folder", "--crop", "none", "--test_images", "2", "--images", "photographs",
           "--data_dir", "data", "--name", "new"]
PHOTO = "photographs/person 0/0.png"


def open_encoder(arguments):
    """Stands for a program that uses an exported encoder."""
    with Encoder.open(arguments[0]) as encoder:
        encoder.warm_up()


def open_all(_):
    """Opens every run and the gallery, for after a full disk."""
    for name in ("itq", "mine", "network"):
        path = Path("runs", name + ".replaced")  # of a new run that a full disk has ended early
        path = path if path.exists() else Path("runs", name)
        if name == "network" and not path.exists():
            continue  # a small world
        folder = RunFolder.open(path)
        folder.read_settings(), folder.provenance(), folder.read_results(), folder.history.read()
        assert folder.has_checkpoint() or name != "network"
        with np.load(path / "codes.npz") as arrays:
            assert len(arrays["gallery_codes"])
    search.main(["info", "gallery", "--check"])
    if os.path.exists("encoder"):
        open_encoder(["encoder"])


COMMANDS = {"main": main.main, "evaluate": evaluate.main, "reproduce": reproduce.main,
            "prepare": prepare.main, "describe": describe.main, "search": search.main,
            "encoder": open_encoder, "open_all": open_all}


class Case(NamedTuple):
    """One command on a damaged world.

    Attributes:
        kind: "name", "number", "damage" or "full disk".
        command: a key of COMMANDS.
        arguments: list of str.
        damage: (path in the world, name of a damage, seed), or None.
        limit: bytes that a file may have, or None.
    """

    kind: str
    command: str
    arguments: list
    damage: tuple = None
    limit: int = None

    def __str__(self):
        arguments = " ".join(repr(argument)[1:-1][:60] for argument in self.arguments)
        damage = f" with {self.damage[0]}: {self.damage[1]}" if self.damage else ""
        limit = "" if self.limit is None else f" with files of at most {self.limit} bytes"
        return f"{self.kind}: {self.command} {arguments}{damage}{limit}"


# The world


def make_world(world, small):
    """Makes the world in an empty folder; each command in a process of its own.

    Args:
        world: Path.
        small: whether to leave out what needs TensorFlow or takes long: network, encoder, grid.
    """
    train, test = tiny_faces()
    write_pickle(world / "data/train_folder_facescrub/part1", *train)
    write_pickle(world / "data/test_folder_facescrub/part1", *test)
    for person in range(4):
        for number in range(7):
            save(photo(100 * person + number), world / "photographs" / f"person {person}"
                 / f"{number}.png")
    for command, arguments in (
            ("prepare", PREPARE[:-1] + ["mine"]),
            ("main", ITQ + ["--run_dir", "runs/itq"]),
            ("main", PICKLES + ["--epochs", "1", "--batch_size", "30", "--run_dir",
                                "runs/network"]),
            ("main", ["--dataset_flag", "mine", "--data_dir", "data", "--num_bits", "8",
                      "--method", "itq", "--run_dir", "runs/mine"]),
            ("evaluate", ["runs/network", "--export", "encoder"]),
            ("search", ["index", "runs/mine", "--gallery", "--images", "photographs",
                        "--out", "gallery"]),
            ("reproduce", ["--datasets", "2", "--methods", "itq", "--bits", "12", "--seeds", "0",
                           "--out", "grid"])):
        if small and needs_all(arguments):
            continue
        code, text = run(Case("world", command, arguments), world)
        assert code == 0, (command, arguments, text)
    shutil.copy(world / "runs/itq/codes.npz", world / "codes.npz")
    odd = world / "odd"
    (odd / "notes").mkdir(parents=True)
    (odd / "notes/thesis.tex").write_text("years of work")
    (odd / "empty").mkdir()
    (odd / "file").write_text("the user's")
    (odd / "nothing").touch()
    (odd / "caf\udce9").write_text("no UTF-8")
    os.mkfifo(odd / "pipe")
    for name, target in (("dangling", "nowhere"), ("loop", "loop"), ("zero", "/dev/zero"),
                         ("link", "notes")):
        (odd / name).symlink_to(target)


def needs_all(arguments):
    """Whether a command line needs what a small world lacks."""
    return any(re.search("network|^encoder|^grid", argument) for argument in arguments) or (
        "--epochs" in arguments)


def copy_world(world, place):
    """A copy of the world; large files that nobody writes in place are linked."""
    for parent, folders, names in os.walk(world):
        parent = Path(parent)
        target = place / parent.relative_to(world)
        target.mkdir(parents=True, exist_ok=True)
        for name in folders:
            if (parent / name).is_symlink():
                (target / name).symlink_to(os.readlink(parent / name))
        for name in names:
            path = parent / name
            if path.is_symlink():
                (target / name).symlink_to(os.readlink(path))
            elif path.is_fifo():
                os.mkfifo(target / name)
            elif path.stat().st_size > 1 << 20:
                os.link(path, target / name)
            else:
                shutil.copy2(path, target / name)


def snapshot(place):
    """What every file of a world holds: path -> digest, target of a link, or kind."""
    found = {}
    for parent, folders, names in os.walk(place):
        for name in folders + names:
            path = Path(parent) / name
            key = os.path.relpath(path, place)
            if path.is_symlink():
                found[key] = "-> " + os.readlink(path)
            elif path.is_file():
                found[key] = (hashlib.md5(path.read_bytes()).hexdigest()
                              if path.stat().st_size < 1 << 20 else path.stat().st_size)
            else:
                found[key] = "folder" if path.is_dir() else "pipe"
    return found


# What may change: results of runs, which are computed from what stays, and the stores that only
# save time. A replaced run stays beside the new one until that is finished.
NAMES = "|".join(re.escape(name).replace(r"\*", ".*") for name in CONTENTS)
RESULTS = re.compile(rf"(runs|grid|comparison|out|odd/empty)(/.*)?/({NAMES}|tables\..*|"
                     r"comparison\.json|(figures|tensorboard|logs|checkpoints)/.*)")
STORES = re.compile(r"(data|runs|grid|gallery|encoder|odd/empty)(/.*)?/?(\.[^/]*|lock)"
                    r"|gallery(/.*)?|runs/[a-z]+(_gallery|\.replaced).*")


def losses(before, after, case):
    """Files that a case has lost or changed, and had no business with."""
    overwritten = "--overwrite" in case.arguments
    return [path for path, content in before.items() if after.get(path) != content
            and not (RESULTS.fullmatch(path) and (path in after or overwritten))
            and not STORES.fullmatch(path)
            and not (overwritten and case.command == "main" and path.startswith("runs/itq"))
            and not (case.command == "evaluate" and "--export" in case.arguments
                     and path.startswith("encoder"))]


# Running


def run(case, place):
    """Runs a case in a world: (exit code, standard error); the code is None after a hang."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(place)
            for number, file in enumerate((os.open(os.devnull, os.O_RDWR), 0, writer)):
                os.dup2(file, number)
            sys.stdin, sys.stdout, sys.stderr = (
                open(number, "r" if number == 0 else "w", closefd=False) for number in range(3))
            sys.argv = [case.command + ".py"] + case.arguments
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if case.kind != "world" and case.command != "reproduce":
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if case.limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (case.limit, case.limit))
            run_command(COMMANDS[case.command])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 98
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)
    os.close(writer)
    text, end, code = b"", time.monotonic() + SECONDS, None
    while time.monotonic() < end:
        if select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
            part = os.read(reader, 1 << 16)
            text += part[:1 << 20]
            if not part:
                break
    os.close(reader)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            break
        time.sleep(0.01)
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return code, text.decode("utf-8", "replace")


def try_case(case, world, place):
    """Runs a case on a copy of the world; returns a list of what is wrong, one text each."""
    copy_world(world, place)
    if case.damage:
        damage(place / case.damage[0], case.damage[1], random.Random(case.damage[2]))
    before = snapshot(place)
    code, text = run(case, place)
    wrong = []
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    others = [line for line in lines if not line.startswith(("error: ", "note: "))]
    if code is None:
        wrong.append("HANG")
    elif code not in (0, 1, 2):
        wrong.append(f"TRACEBACK (code {code}): {' | '.join(lines[-6:])}")
    elif code and (len(errors) != 1 or others):
        wrong.append(f"LINES: {' | '.join(lines[:4])}")
    wrong += ["LOST: " + repr(path) for path in losses(before, snapshot(place), case)]
    if case.limit is not None:
        code, text = run(Case("after", "open_all", []), place)
        if code != 0:
            wrong.append("NOT WHOLE: " + text[-600:])
    return wrong


# Damages of files

VALUES = (None, True, -1, 0, 10 ** 30, 1.5, "", "a/b", "\0", [], {}, [[]], [None, 5], "x" * 5000)


def damage(path, kind, rng):
    """Damages a file."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
        return
    if kind in ("folder", "dangling link", "link to itself", "device"):
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to({"device": "/dev/zero", "dangling link": "nowhere"}.get(
                kind, path.name))
        return
    if kind == "missing":
        return
    if kind == "truncated":
        del content[rng.randrange(len(content) + 1):]
    elif kind == "emptied":
        content = b""
    elif kind == "random":
        content = bytes(rng.randrange(256) for _ in range(1000))
    elif kind == "bits":
        for _ in range(min(len(content), 5)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        start = rng.randrange(len(content) + 1)
        content[start:start + 100] = bytes(100)
    elif kind == "longer":
        content += bytes(rng.randrange(256) for _ in range(50))
    elif kind == "deep":
        content = b"[" * 100000
    elif kind == "value":
        try:
            content = _changed_json(content, rng)
        except ValueError:  # no JSON
            content = content.replace(b"1", b"1e999").replace(b",", b",,", 2)
    path.write_bytes(bytes(content))


DAMAGES = ("pipe", "folder", "dangling link", "link to itself", "device", "missing", "truncated",
           "emptied", "random", "bits", "zeros", "longer", "deep", "value", "value", "value")


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


# Cases

NAMES = ["x" * 300, "x" * 250, "y/" * 2100, "a/" + "x" * 300, "two\nlines", "", ".", "..", " ",
         "-", "--", "-rf", "~", "\udcff", "odd/caf\udce9", "odd/pipe", "odd/zero", "odd/loop",
         "odd/dangling", "odd/notes", "odd/file", "odd/nothing", "odd/empty", "odd/link",
         "odd/file/below", "nowhere", "/proc/self/mem", "/proc/self/fd", "runs", "runs/itq",
         "runs/itq/checkpoints", "runs/network", "gallery", "gallery/below", "encoder", "grid",
         "data", "data/mine", "photographs", "codes.npz", "%s%d{}", "a,b", "'\"", "[a]*"]
NAME_OPTIONS = [
    ("main", ITQ + ["--run_dir", "?"]), ("main", ["--resume", "--run_dir", "?"]),
    ("main", ITQ + ["--run_dir", "?", "--overwrite"]),
    ("main", ITQ[:2] + ["--method", "itq", "--run_dir", "new", "--data_dir", "?"]),
    ("main", ["--method", "itq", "--data_dir", "data", "--dataset_flag", "?"]),
    ("main", PICKLES + ["--method", "feature_itq", "--run_dir", "new", "--features_of", "?"]),
    ("evaluate", ["?"]), ("evaluate", ["--codes", "?", "--out", "out"]),
    ("evaluate", ["--codes", "codes.npz", "--out", "?"]),
    ("evaluate", ["runs/itq", "--export", "?"]), ("evaluate", ["runs/itq", "--data_dir", "?"]),
    ("evaluate", ["runs/itq", "?", "--out", "out"]),
    ("evaluate", ["runs/itq", "runs/mine", "--out", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "2", "--out", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "?"]),
    ("prepare", PREPARE + ["--images", "?"]), ("prepare", PREPARE + ["--name", "?"]),
    ("prepare", PREPARE + ["--data_dir", "?"]), ("prepare", PREPARE + ["--labels", "?"]),
    ("prepare", PREPARE + ["--source", "facescrub", "--lists", "?"]),
    ("describe", ["?", "--data_dir", "data"]), ("describe", ["mine", "--data_dir", "?"]),
    ("describe", ["mine", "--data_dir", "data", "--sheet", "?"]),
    ("search", ["index", "?", "--gallery", "--out", "new"]),
    ("search", ["index", "runs/mine", "--gallery", "--out", "?"]),
    ("search", ["index", "runs/mine", "--images", "?", "--out", "new"]),
    ("search", ["index", "runs/mine", "--gallery", "--out", "new", "--data_dir", "?"]),
    ("search", ["add", "gallery", "--images", "?"]), ("search", ["add", "?"]),
    ("search", ["info", "?"]), ("search", ["query", "?", PHOTO]),
    ("search", ["query", "gallery", "?"]),
    ("search", ["query", "gallery", PHOTO, "--sheet", "?"]),
    ("search", ["query", "gallery", PHOTO, "--json", "?"]),
    ("search", ["query", "gallery", PHOTO, "--csv", "?"]),
    ("search", ["query", "gallery", PHOTO, "--copy", "?"]),
    ("search", ["remove", "gallery", "--file", "?"]),
    ("search", ["remove", "gallery", "--name", "?"]), ("search", ["remove", "?", "--id", "1"]),
    ("encoder", ["?"]),
]

NUMBERS = ["9223372036854775807", "9223372036854775808", "1e999", "-1e999", "nan", "inf", "-1", "0",
           "9" * 310, "9" * 5000, "0x10", "1_000", "\u0663", "1.5", "", " 5", "1e-400", "-0",
           "1e308", "4294967296", "2147483648", "--", "1e5", "5\n", "\udcff", "0.0000001", "1"]
NUMBER_OPTIONS = [
    ("main", ITQ + ["--run_dir", "new", "--" + field.name, "?"])
    for field in dataclasses.fields(Config)
    if set(value_types(field)) & {int, float} and field.name != "dataset_flag"
] + [("evaluate", ["--codes", "codes.npz", "--out", "out", "--map_at", "?"])] * 3 + [
    ("prepare", PREPARE + [option, "?"])
    for option in ("--margin", "--crop_box", "--crop_fraction", "--size", "--test_images",
                   "--min_images", "--unseen", "--seed", "--workers")
] + [
    ("prepare", PREPARE + ["--crop", "box", "--crop_box", "1,1,?,9"]),
    ("reproduce", ["--dry_run", "--datasets", "2", "--out", "new", "--bits", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "2", "--out", "new", "--seeds", "?"]),
    ("reproduce", ["--dry_run", "--datasets", "2", "--out", "new", "--jobs", "?"]),
    ("search", ["query", "gallery", PHOTO, "--top", "?"]),
    ("search", ["query", "gallery", PHOTO, "--radius", "?"]),
    ("search", ["query", "gallery", PHOTO, "--vote", "?"]),
    ("search", ["query", "gallery", PHOTO, "--threshold", "?"]),
    ("search", ["query", "gallery", PHOTO, "--far", "?"]),
    ("search", ["info", "gallery", "--far", "?"]),
    ("search", ["remove", "gallery", "--id", "?"]),
]

# Commands that read what lies below a folder of the world.
READERS = {
    "runs/itq": [("evaluate", ["runs/itq"]), ("evaluate", ["runs/itq", "--export", "new"]),
                 ("evaluate", ["runs/itq", "runs/mine", "--out", "out"]),
                 ("main", ["--resume", "--run_dir", "runs/itq"]),
                 ("main", ITQ + ["--run_dir", "runs/itq", "--overwrite"])],
    "runs/network": [("evaluate", ["runs/network"]),
                     ("main", ["--resume", "--run_dir", "runs/network"]),
                     ("main", PICKLES + ["--method", "feature_itq", "--run_dir", "new",
                                         "--features_of", "runs/network"]),
                     ("evaluate", ["runs/network", "--export", "encoder"])],
    "encoder": [("encoder", ["encoder"]), ("evaluate", ["runs/network", "--export", "encoder"])],
    "gallery": [("search", ["info", "gallery", "--check"]), ("search", ["query", "gallery", PHOTO]),
                ("search", ["add", "gallery", "--images", "odd/empty"]),
                ("search", ["remove", "gallery", "--id", "1"])],
    "data/mine": [("main", ["--dataset_flag", "mine", "--data_dir", "data", "--num_bits", "8",
                            "--method", "itq", "--run_dir", "new"]),
                  ("describe", ["mine", "--data_dir", "data"]),
                  ("evaluate", ["runs/mine"]),
                  ("prepare", PREPARE[:-1] + ["mine", "--overwrite"])],
    "data/train_folder_facescrub": [("main", ITQ + ["--run_dir", "new"]),
                                    ("describe", ["1", "--data_dir", "data"])],
    "grid": [("reproduce", ["--datasets", "2", "--methods", "itq", "--bits", "12", "--seeds", "0",
                            "--out", "grid", "--dry_run"])],
    "codes.npz": [("evaluate", ["--codes", "codes.npz", "--out", "out"])],
    "photographs": [("prepare", PREPARE), ("search", ["query", "gallery", PHOTO]),
                    ("search", ["index", "runs/mine", "--images", "photographs",
                                "--out", "new"])],
}
UNREAD = re.compile(r".*(/lock|\.html|\.png\.|events\.out.*|curves_.*|/figures/.*|\.log|tables.*)")

FULL_DISKS = [
    ("main", ITQ + ["--run_dir", "new"]), ("main", ITQ + ["--run_dir", "runs/itq", "--overwrite"]),
    ("main", PICKLES + ["--epochs", "1", "--batch_size", "30", "--run_dir", "new"]),
    ("main", ["--resume", "--run_dir", "runs/network", "--epochs", "2"]),
    ("evaluate", ["runs/itq"]), ("evaluate", ["runs/network"]),
    ("evaluate", ["runs/network", "--export", "new"]),
    ("evaluate", ["runs/network", "--export", "encoder"]),
    ("evaluate", ["runs/itq", "runs/mine", "--out", "out"]),
    ("evaluate", ["--codes", "codes.npz", "--out", "out"]), ("prepare", PREPARE),
    ("describe", ["mine", "--data_dir", "data", "--sheet", "sheet.html"]),
    ("search", ["index", "runs/network", "--gallery", "--out", "new"]),
    ("search", ["index", "runs/mine", "--images", "photographs", "--out", "gallery"]),
    ("search", ["add", "gallery", "--images", "odd"]),
    ("search", ["remove", "gallery", "--id", "1", "2"]),
    ("search", ["query", "gallery", PHOTO, "--json", "a.json"]),
    ("search", ["query", "gallery", PHOTO, "--copy", "new"]),
]
LIMITS = (0, 20, 300, 1000, 5000, 20000, 70000, 300000, 1000000, 3000000)


def with_value(option, value):
    command, arguments = option
    return command, [argument.replace("?", value) for argument in arguments]


def listed_cases():
    """Every option that takes a path, with one too long, a pipe and a device."""
    for value in ("x" * 300, "odd/pipe", "odd/zero"):
        for option in NAME_OPTIONS:
            yield Case("name", *with_value(option, value))


def make_cases(count, seed, world):
    """So many Cases, a quarter of each kind, always the same of one seed."""
    rng = random.Random(seed)
    files = [path for path in snapshot(world) if (world / path).is_file()
             and not path.startswith("odd") and not UNREAD.fullmatch(path)]
    by_reader = {prefix: [path for path in sorted(files) if path.startswith(prefix)]
                 for prefix in sorted(READERS)}
    prefixes = [prefix for prefix, paths in by_reader.items() if paths]
    made = 0
    while made < count:
        kind = ("name", "number", "damage", "full disk")[made % 4]
        if kind == "name":
            case = Case(kind, *with_value(rng.choice(NAME_OPTIONS), rng.choice(NAMES)))
        elif kind == "number":
            case = Case(kind, *with_value(rng.choice(NUMBER_OPTIONS), rng.choice(NUMBERS)))
        elif kind == "damage":
            prefix = rng.choice(prefixes)
            case = Case(kind, *rng.choice(READERS[prefix]),
                        damage=(rng.choice(by_reader[prefix]), rng.choice(DAMAGES),
                                rng.randrange(1 << 30)))
        else:
            case = Case(kind, *rng.choice(FULL_DISKS), limit=rng.choice(LIMITS))
        if (world / "grid").exists() or not needs_all(case.arguments):
            made += 1
            yield case


def parse_command_line():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose description holds this text")
    parser.add_argument("--listed", action="store_true", help="also what listed_cases names")
    parser.add_argument("--small", action="store_true", help="only what needs no TensorFlow")
    parser.add_argument("--world", help="folder of a world, made if it is missing and kept")
    return parser.parse_args()


def try_all(options):
    """Tries all cases; returns how many went wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(options.world or scratch + "/world")
        if not world.exists():
            world.mkdir(parents=True)
            make_world(world, options.small)
        bad = tried = 0
        cases = list(make_cases(options.count, options.seed, world))
        for number, case in enumerate(cases + list(listed_cases()) * options.listed):
            if options.only in str(case):
                tried += 1
                place = Path(scratch) / "place"
                wrong = try_case(case, world, place)
                shutil.rmtree(place)
                bad += bool(wrong)
                for text in wrong:
                    print(f"{number} {ascii(str(case))}\n    {ascii(text)}", flush=True)
    print(f"{tried} cases, {bad} wrong")
    return bad


if __name__ == "__main__":
    sys.exit(min(try_all(parse_command_line()), 1))
