"""Hostile cases over all commands, generated: names, numbers, damaged files, full disks, signals.

    python tests/commands/hostile.py [--count 300] [--seed 0] [--only TEXT] [--listed] [--small]

Each case (hostile_cases.py) runs one command in a process of its own, forked from one that has
imported everything, on a copy of a small world: data, photographs, lists, runs, an encoder, a
gallery, a grid. A command must end in time, with one line where it fails, and no file may be lost:
what is no result of the command is byte for byte what it was, and after a full disk or a signal
runs, galleries and data sets still open.
"""

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import tiny_faces, write_pickle  # noqa: E402
from face_pictures import orl_face, photo, save, scene  # noqa: E402
from scipy import io  # noqa: E402

import describe  # noqa: E402
import evaluate  # noqa: E402
import main  # noqa: E402
import prepare  # noqa: E402
import reproduce  # noqa: E402
import search  # noqa: E402
from methods.export import Encoder  # noqa: E402
from runtime.command_line import run_command  # noqa: E402
from runtime.run_folder import CONTENTS, RunFolder  # noqa: E402
from runtime.tensorflow import tf  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hostile_cases import (  # noqa: E402
    GRID,
    INDEX,
    ITQ,
    MINE,
    PICKLES,
    PREPARE,
    Case,
    damage,
    listed_cases,
    make_cases,
    needs_small_disk,
    needs_tensorflow,
)

SECONDS = 180  # nothing here takes 10 s on a quiet machine; a busy one gets more
MEMORY = 6 << 30  # address space of a case
SMALL_DISK = 300 << 20
LINKED = 1 << 20  # bytes from which on a copy of the world shares a file with it
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2  # capabilities of root


def open_encoder(arguments):
    """Stands for a program that uses an exported encoder."""
    with Encoder.open(arguments[0]) as encoder:
        encoder.warm_up()


def open_all(arguments):
    """Opens every run, data set and gallery, and encoders if named, for after a signal and such."""
    for name in ("itq", "mine", "network"):
        path = Path("runs", name + ".replaced")  # of a new run that has ended early
        path = path if path.exists() else Path("runs", name)
        if name == "network" and not path.exists():
            continue  # a small world
        folder = RunFolder.open(path)
        folder.read_settings(), folder.provenance(), folder.read_results(), folder.history.read()
        assert folder.has_checkpoint() or name != "network"
        with np.load(path / "codes.npz") as arrays:
            assert len(arrays["gallery_codes"])
    path = Path("data/mine" if os.path.exists("data/mine") else "data/mine.replaced")
    for name, digest in json.loads((path / "manifest.json").read_text())["sha256"].items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest, name
    search.main(["info", "gallery", "--check"])
    for path in arguments:
        open_encoder([path])


COMMANDS = {"main": main.main, "evaluate": evaluate.main, "reproduce": reproduce.main,
            "prepare": prepare.main, "describe": describe.main, "search": search.main,
            "encoder": open_encoder, "open_all": open_all}


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
    labels, actors = ["file,identity"], ["name\timage_id\tface_id\turl\tbbox\tsha256"]
    for person in range(4):
        for number in range(7):
            path = save(photo(100 * person + number), world / "photographs" / f"person {person}"
                        / f"{number}.png")
            labels.append(f"person {person}/{number}.png,person {person}")
            actors.append(f"person {person}\t{number}\t1\thttp://x/{number}\t1,1,30,30\t"
                          + hashlib.sha256(path.read_bytes()).hexdigest())
    (world / "labels.csv").write_text("\n".join(labels) + "\n")
    (world / "actors.txt").write_text("\n".join(actors) + "\n")
    for number in range(2):
        save(scene([(orl_face(number + 1, 1), (40, 60)), (orl_face(number + 2, 2), (220, 100))]),
             world / f"scenes/{number}.png")
    for command, arguments in (
            ("prepare", PREPARE[:-1] + ["mine"]), ("main", ITQ + ["--run_dir", "runs/itq"]),
            ("main", PICKLES + ["--epochs", "1", "--batch_size", "30", "--run_dir",
                                "runs/network"]),
            ("main", MINE + ["--run_dir", "runs/mine"]),
            ("evaluate", ["runs/network", "--export", "encoder"]),
            ("search", INDEX + ["--gallery", "--out", "gallery"]), ("reproduce", GRID),
            ("search", ["export", "gallery", "--xmp"]),
            ("search", ["name", "gallery", "--id", "21", "22", "Zoe"])):
        case = Case("world", command, arguments)
        if not (small and needs_tensorflow(case)):
            (code, text), = run(case, world)
            assert code == 0, (command, arguments, text)
    shutil.copy(world / "runs/itq/codes.npz", world / "codes.npz")
    (world / "arrays").mkdir()
    with np.load(world / "codes.npz") as arrays:
        io.savemat(world / "codes.mat", {name: arrays[name] for name in arrays if len(name) < 16})
        for name in arrays:
            np.save(world / "arrays" / name, arrays[name])
    odd = world / "odd"
    (odd / "notes").mkdir(parents=True)
    (odd / "notes/thesis.tex").write_text("years of work")
    (odd / "empty").mkdir()
    odd.joinpath("deep", *["d" * 200] * 10).mkdir(parents=True)
    for name in ("file", "sheet.html", "zoe\N{COMBINING DIAERESIS}", "caf\udce9"):
        (odd / name).write_text("the user's")
    (odd / "nothing").touch()
    os.mkfifo(odd / "pipe")
    make_socket(odd / "socket")
    for name, target in (("dangling", "nowhere"), ("loop", "loop"), ("zero", "/dev/zero"),
                         ("link", "notes")):
        (odd / name).symlink_to(target)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def copy_world(world, place):
    """A copy of the world; large files that nobody writes in place are linked where possible."""
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
            elif path.is_socket():
                make_socket(target / name)
            elif path.stat().st_size > LINKED and path.stat().st_dev == target.stat().st_dev:
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
                              if path.stat().st_size < LINKED else path.stat().st_size)
            else:
                found[key] = "folder" if path.is_dir() else "pipe"
    return found


# What may change: results of runs, which are computed from what stays, and the stores that only
# save time. What is replaced stays beside the new one until that is finished.
NAMES = "|".join(re.escape(name).replace(r"\*", ".*") for name in CONTENTS)
RESULTS = re.compile(rf"(runs|grid|comparison|out|odd/empty)(/.*)?/({NAMES}|tables\..*|"
                     r"comparison\.json|(figures|tensorboard|logs|checkpoints)/.*)")
STORES = re.compile(r"(data|runs|grid|gallery|encoder|odd/empty)(/.*)?/?(\.[^/]*|lock)"
                    r"|gallery(/.*)?|runs/[a-z]+(\.gallery|\.replaced).*"
                    r"|photographs/.*\.png\.xmp")


def losses(before, after, case):
    """Files that a case has lost or changed, and had no business with."""
    overwritten = "--overwrite" in case.arguments
    replaced = {"main": "runs/itq", "prepare": "data/mine"}.get(case.command, "nothing")
    return [path for path, content in before.items() if after.get(path) != content
            and not (RESULTS.fullmatch(path) and (path in after or overwritten))
            and not STORES.fullmatch(path)
            and not (overwritten and (path + "/").startswith(replaced + "/"))
            and not (case.command == "evaluate" and "--export" in case.arguments
                     and path.startswith("encoder"))]


# Running


def run(case, place):
    """Runs a case in a world, in one or several processes at once.

    Returns:
        List of (exit code, standard error); the code is None after a hang.
    """
    children = [start(case, place) for _ in range(case.circumstances.get("twice", 1))]
    patience = SECONDS * max(1, os.getloadavg()[0] / os.cpu_count())
    number, seconds = case.circumstances.get("stop", (None, patience))
    begin, found = time.monotonic(), []
    for child, reader in children:
        text, end, is_open = b"", begin + seconds, True
        while is_open and time.monotonic() < end:
            if select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
                part = os.read(reader, 1 << 16)
                text, is_open = text + part[:1 << 20], bool(part)
            if number is not None and time.monotonic() >= end:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
                number, end = None, begin + patience
        if number is not None and is_open is False:  # it closed its standard error and works on
            while time.monotonic() < end and not os.waitid(
                    os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        os.close(reader)
        found.append((wait_for(child, begin + patience), text.decode("utf-8", "replace")))
    return found


def wait_for(child, end):
    """The exit code of a process that ends in time; None of another, which is ended."""
    code = None
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        else:
            time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # and what it has started
    if code is None:
        os.waitpid(child, 0)
    return code


def start(case, place):
    """Starts a case in a process of its own: (process, descriptor of its standard error)."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 99
    try:
        os.close(reader)
        os.setsid()
        os.chdir(place)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        prepare_process(case, writer)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run_command(COMMANDS[case.command])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 98
    except KeyboardInterrupt:  # it came before the command began
        code = 130
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stderr.flush()
    os._exit(code)


def prepare_process(case, writer):
    """Gives the process of a case its streams, limits, rights and environment."""
    ours = case.kind in ("world", "after")
    circumstances = {} if ours else case.circumstances
    os.environ["XDG_CACHE_HOME"] = os.path.abspath("cache")
    os.environ.update(circumstances.get("environment", {}))
    sys.argv = [case.command + ".py"] + case.arguments
    nothing, full = os.open(os.devnull, os.O_RDWR), os.open("/dev/full", os.O_RDWR)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        file = full if number in circumstances.get("full", ()) else writer if number == 2 else (
            nothing)
        os.dup2(file, number)
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))
    for number in (nothing, full, writer):
        os.close(number)
    for number in circumstances.get("closed", ()):
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: circumstances.get("limit"),
              resource.RLIMIT_NOFILE: circumstances.get("files")}
    if not ours and case.command != "reproduce":
        limits[resource.RLIMIT_AS] = MEMORY
    for which, most in limits.items():
        if most is not None:
            resource.setrlimit(which, (most, most))
    if "gone" in circumstances:
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
    os.umask(circumstances.get("umask", 0o022))
    if {"rights", "umask"} & set(circumstances) and os.geteuid() == 0:
        give_up_rights()


def give_up_rights():
    """Takes from root what it may do beyond a file's owner."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    sets = ctypes.create_string_buffer(24)
    assert libc.capget(header, sets) == 0
    effective, permitted, *others = struct.unpack("6I", sets.raw)
    kept = ~(DAC_OVERRIDE | DAC_READ_SEARCH) & 0xffffffff
    sets = struct.pack("6I", effective & kept, permitted & kept, *others)
    assert libc.capset(header, sets) == 0


def try_case(case, world, place):
    """Runs a case on a copy of the world; returns a list of what is wrong, one text each.

    Args:
        case: Case.
        world: Path.
        place: Path that the world was made at: what it holds names paths there. It is made, and
            removed in the end.
    """
    with small_disk(place) if needs_small_disk(case) else contextlib.nullcontext():
        copy_world(world, place)
        if case.damage:
            damage(place / case.damage[0], case.damage[1], random.Random(case.damage[2]))
        before = snapshot(place)
        with circumstances_of(case, place):
            results = run(case, place)
        wrong = list(faults_of(case, results))
        wrong += ["LOST: " + repr(path) for path in losses(before, snapshot(place), case)]
        if case.circumstances and not case.damage:
            written = ["encoder"] * ("encoder" in case.arguments)
            (code, text), = run(Case("after", "open_all", written), place)
            if code != 0:
                wrong.append("NOT WHOLE: " + text[-600:])
    shutil.rmtree(place)
    return wrong


def faults_of(case, results):
    """Yields what is wrong with the ends of a case's processes, one text each."""
    for code, text in results:
        lines = [line for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        others = [line for line in lines
                  if not line.startswith(("error: ", "note: ", "not copied: ", "not written: ",
                                          "failed: "))]
        stopped = "stop" in case.circumstances
        if code is None:
            yield "HANG"
        elif "Traceback" in text or not (code in (0, 1, 2) or stopped and (code < 0 or code > 128)):
            yield f"TRACEBACK (code {code}): {' | '.join(lines[-6:])}"
        elif code in (1, 2) and (len(errors) != 1 or others) and not stopped and not (
                {2} & {*case.circumstances.get("closed", ()), *case.circumstances.get("full", ())}):
            yield f"LINES: {' | '.join(lines[:4])}"


@contextlib.contextmanager
def circumstances_of(case, place):
    """The circumstances of a case that lie in the world, not in the process."""
    with contextlib.ExitStack() as stack:
        if "room" in case.circumstances:
            status, ballast = os.statvfs(place), place / "ballast"
            size = status.f_bavail * status.f_frsize - case.circumstances["room"]
            with open(ballast, "wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
            stack.callback(ballast.unlink)
        if "read_only" in case.circumstances:
            remount(place, "ro")
            stack.callback(remount, place, "rw")
        if "rights" in case.circumstances:
            path, mode = case.circumstances["rights"]
            before = (place / path).stat().st_mode
            (place / path).chmod(mode)
            stack.callback(lambda: (place / path).exists() and (place / path).chmod(before))
        yield


def remount(place, how):
    subprocess.run(["mount", "-o", "remount," + how, str(place)], check=True)


@contextlib.contextmanager
def small_disk(folder):
    """Mounts a small disk at a folder (a Path) that is made; whether that could be done."""
    folder.mkdir()
    done = os.geteuid() == 0 and shutil.which("mount") and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)],
        stderr=subprocess.DEVNULL).returncode
    try:
        yield bool(done)
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)])


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
    if not options.small:
        assert tf.VERSION  # imported once: it takes seconds
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(os.path.realpath(options.world or scratch + "/world"))
        place = world.with_name(world.name + "_place")
        if not world.exists():
            place.mkdir(parents=True)
            make_world(place, options.small)
            place.rename(world)
        with small_disk(place) as can_mount:
            pass
        place.rmdir()
        files = sorted(path for path in snapshot(world) if (world / path).is_file())
        cases = list(make_cases(options.count, options.seed, files, options.small, can_mount))
        bad = tried = 0
        for number, case in enumerate(cases + list(listed_cases()) * options.listed):
            if options.only in str(case):
                tried += 1
                wrong = try_case(case, world, place)
                bad += bool(wrong)
                for text in wrong:
                    print(f"{number} {ascii(str(case))}\n    {ascii(text)}", flush=True)
    print(f"{tried} cases, {bad} wrong")
    return bad


if __name__ == "__main__":
    sys.exit(min(try_all(parse_command_line()), 1))
