"""GPUs for several processes: one for each."""

import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from runtime.errors import Failed, UserError

ROOT = Path(__file__).resolve().parents[1]
# Prints how many GPUs TensorFlow finds; a process of its own, since a look takes their memory.
COUNT_GPUS = ("from runtime.tensorflow import make_session, tf; "
              "print(sum(device.device_type == 'GPU' "
              "for device in make_session(tf.Graph()).list_devices()))")


def visible_devices(jobs, option="--jobs"):
    """A deque of one CUDA_VISIBLE_DEVICES a job; None leaves it as it is.

    Args:
        jobs: processes at a time.
        option: what their number was given with.

    Raises:
        UserError: there are fewer GPUs than jobs; the jobs beyond would train on the CPU unasked.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if jobs == 1 or (visible is not None and visible.strip() in ("", "-1")):
        return deque([None] * jobs)
    count = count_gpus()
    if not count:  # on the processor, jobs share the cores
        return deque([None] * jobs)
    devices = visible.split(",") if visible is not None else [str(gpu) for gpu in range(count)]
    if min(count, len(devices)) < jobs:
        raise UserError(f"{option} is {jobs}, but TensorFlow finds {min(count, len(devices))} "
                        "GPUs; use at most one process for each")
    return deque(devices[:jobs])


def count_gpus():
    """How many GPUs TensorFlow can use. Raises Failed if TensorFlow does not start."""
    if not os.path.exists("/proc/driver/nvidia/version"):
        return 0
    process = subprocess.run([sys.executable, "-c", COUNT_GPUS], cwd=str(ROOT),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.returncode:
        raise Failed("TensorFlow cannot be started to count GPUs; run one process alone, with: "
                     "python main.py")
    return int(process.stdout.split()[-1])
