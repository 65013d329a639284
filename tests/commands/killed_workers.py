"""main.py whose workers kill themselves: KILL=MOMENT:INDEX, with the usual arguments.

No test: tests/commands/test_workers.py runs it. Moments: step, checkpoint,
evaluation; `nobody`: none dies, and worker 0 evaluates when the others may have left.
"""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import main
from reports import page
from runtime.command_line import run_command
from runtime.run_folder import RunFolder


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(moment, index):
    """Replaces what this worker does at the moment of its death."""
    from methods.network import NetworkMethod
    from training.distributed import coordination
    from training.distributed.coordination import JointTrainer, Workers

    if moment == "nobody":
        coordination.LOOK_SECONDS = 0.0  # at every call
        encode = NetworkMethod._encode

        def encode_late(*arguments):
            time.sleep(2)
            return encode(*arguments)
        NetworkMethod._encode = encode_late
    elif moment == "step":
        compute = JointTrainer._compute_step

        def compute_or_die(self, *batch):
            if self.progress.epoch == 3 and self.progress.step == 2:
                die()
            return compute(self, *batch)
        JointTrainer._compute_step = compute_or_die
    elif moment == "evaluation" and index == 0:
        NetworkMethod._encode = die
    elif moment == "evaluation":
        Workers.wait = die
    elif index == 0:  # the second checkpoint, half-written
        save = RunFolder.save_checkpoint

        def save_or_die(self, name, write, state, best):
            def half(prefix):
                write(prefix)
                die()
            return save(self, name, write if state["epoch"] == 1 else half, state, best)
        RunFolder.save_checkpoint = save_or_die
    else:  # while worker 0 writes it
        compute_step = JointTrainer._compute_step

        def step_or_die(self, *batch):
            if self.progress.epoch == 2 and self.progress.step == 0:
                die()
            return compute_step(self, *batch)
        JointTrainer._compute_step = step_or_die


if __name__ == "__main__":
    page.embedded = lambda *_: []  # figures take seconds
    moment, index = os.environ["KILL"].split(":")
    if f'"index": {index}}}' in os.environ.get("TF_CONFIG", ""):
        prepare(moment, int(index))
    run_command(main.main)
