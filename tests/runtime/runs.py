"""Made-up runs, and processes that die or race over them: helpers of the tests of this folder."""

import os
import signal

from runtime.errors import UserError
from runtime.run_folder import RunFolder

ROW = {"epoch": 1, "total": 2.5, "hash_classification": 2.5, "accuracy": 0.25,
       "images_per_second": 80.0, "seconds": 1.5}
STATE = {"epoch": 1, "step": 0, "sums": {}, "best_epoch": 1, "best_loss": 2.5,
         "train_mean": 100.0, "train_std": 50.0}


def save(folder, name, best=True, **state):
    """Saves a made-up checkpoint of two files."""
    def write(prefix):
        for part in (".index", ".data-00000-of-00001"):
            with open(prefix + part, "w") as stream:
                stream.write(name)
    folder.save_checkpoint(name, write, dict(STATE, **state), best)


def make_run(path, settings=None, **create):
    """A whole, unlocked run of one epoch."""
    folder = RunFolder.create(path, settings or {"seed": 7}, **create)
    folder.begin("1.14.0", "CPU", "digest")
    folder.history.append(ROW)
    save(folder, "epoch_000001")
    folder.write_json("results.json", {"mAP": 0.5})
    folder.write_text("figures/map.png", "a picture")
    folder.write_text("tensorboard/events.out.tfevents.1", "events")
    folder.write_text("report.html", "a page")
    folder.finish("finished")
    folder.unlock()
    return folder


def die_after(last, action):
    """In a child process: killed before the call that changes the disk after the first `last`."""
    calls = []

    def counted(changing):
        def call(*arguments, **options):
            calls.append(changing)
            if len(calls) > last:
                os.kill(os.getpid(), signal.SIGKILL)
            return changing(*arguments, **options)
        return call

    try:
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "open", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        action()
    except BaseException:
        os._exit(1)
    os._exit(0)


def in_child(action, as_nobody=False):
    """Runs an action in a forked process: "done", "refused" (a UserError), or what else it raised.

    Args:
        action: function without arguments.
        as_nobody: whether the process has no rights but everybody's.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            if as_nobody and os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            action()
            outcome = "done"
        except UserError:
            outcome = "refused"
        except BaseException as error:
            outcome = repr(error)
        os.write(writer, outcome.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        outcome = stream.read()
    os.waitpid(child, 0)
    return outcome


def race(count, action):
    """Runs action(number) in forked processes at once; each ends when all are through.

    Returns:
        Their outcomes, "done" or "refused" or the error, by number.
    """
    start, go = os.pipe()
    end, over = os.pipe()
    children = []
    for number in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.close(over)
            os.read(start, 1)  # until the parent closes its end
            try:
                kept = action(number)  # noqa: F841 - it holds the lock
                outcome = b"done"
            except UserError:
                outcome = b"refused"
            except BaseException as error:
                outcome = repr(error).encode()
            os.write(writer, outcome)
            os.read(end, 1)
            os._exit(0)
        os.close(writer)
        children.append((child, reader))
    os.close(go)
    outcomes = [os.read(reader, 1000).decode() for _, reader in children]
    os.close(over)
    for child, reader in children:
        os.waitpid(child, 0)
        os.close(reader)
    os.close(start)
    os.close(end)
    return outcomes
