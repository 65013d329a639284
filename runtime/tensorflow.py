"""The only module that imports TensorFlow, and only when it is first used.

All other modules take `tf` from here. It is TensorFlow's version 1 interface, tensorflow.compat.v1,
which TensorFlow 1.14 and TensorFlow 2 both have: one graph runs under either. The import takes
seconds, so bad settings and data fail before it.
"""

import contextlib
import functools
import os
import subprocess
import sys
import warnings
from collections import deque

from runtime.errors import Failed, UserError
from runtime.provenance import ROOT, cpu_info

# With any of these set, the number of threads is the user's choice.
THREAD_VARIABLES = ("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")

# The C++ side prints a page of CUDA library messages where there is no GPU; device_line says in
# one line what they say. A user who sets this variable to 0 sees them again.
SILENT = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"


@contextlib.contextmanager
def _without_stderr():
    """Drops what C++ writes to standard error: TensorFlow 2 logs before it looks at levels."""
    if not SILENT:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def gpu_hidden_or_absent():
    """Why no NVIDIA GPU can be used, as far as can be told before TensorFlow; None if one may."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU"
    if not os.path.exists("/proc/driver/nvidia/version"):
        return "no NVIDIA driver is running"
    return None


@functools.lru_cache(maxsize=None)
def _tensorflow():
    """tensorflow.compat.v1, imported at the first call."""
    # On a CPU, TensorFlow 2 leaves its fast kernels (oneDNN) off on many processors. TensorFlow
    # 1.14 ignores this variable.
    if gpu_hidden_or_absent():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with warnings.catch_warnings(), _without_stderr():
        warnings.simplefilter("ignore")  # numpy's FutureWarnings about TensorFlow 1.14's dtypes
        try:
            import tensorflow.compat.v1 as tensorflow
        except ImportError as error:
            raise Failed(f"TensorFlow cannot be imported ({error}); run: make run, or pip install "
                         "-r requirements.txt (Python 3.7) or -r requirements-tf2.txt (Python "
                         "3.10 to 3.13)")
        tensorflow.logging.set_verbosity(tensorflow.logging.ERROR)
        tensorflow.disable_eager_execution()  # TensorFlow 2's default; in 1.14 it is off
    return tensorflow


class _LateTensorFlow:
    """Stands for the module: an attribute's first use imports TensorFlow."""

    def __getattr__(self, name):
        return getattr(_tensorflow(), name)


tf = _LateTensorFlow()


def start_tensorflow():
    """Imports TensorFlow, and says so: it takes seconds. Raises Failed if it cannot be imported."""
    print("starting TensorFlow", flush=True)
    _tensorflow()


def global_avg_pool(features, name):
    """Mean over rows and columns, by tflearn as released: [B, height, width, C] -> [B, C].

    tflearn 0.5 does not import under TensorFlow 2, where the same mean is taken directly.
    """
    _tensorflow()
    # Importing tflearn makes a variable, which must not be one of the network's graph.
    with warnings.catch_warnings(), _without_stderr(), tf.Graph().as_default():
        warnings.simplefilter("ignore")
        try:
            from tflearn.layers.conv import global_avg_pool as released
        except ImportError:
            def released(features, name):
                return tf.reduce_mean(features, axis=[1, 2], name=name)
    return released(features, name=name)


def check_compute_dtype(compute_dtype):
    """A line on why bfloat16 will not be faster here, or None.

    Args:
        compute_dtype: the setting, "float32" or "bfloat16".

    Raises:
        UserError: this TensorFlow cannot compute in it.
    """
    if compute_dtype == "float32":
        return None
    if tf.VERSION.startswith("1."):
        raise UserError(f"compute_dtype {compute_dtype} needs TensorFlow 2, and this is "
                        f"{tf.VERSION}: use TF=2, or compute_dtype float32")
    if not gpu_hidden_or_absent() or {"avx512_bf16", "amx_bf16"} & set(
            cpu_info("flags", "Features").split()):
        return None
    return (f"note: this processor has no instructions for {compute_dtype} (avx512_bf16 or "
            "amx_bf16); compute_dtype float32 is as fast or faster")


def make_session(graph):
    """A tf.Session on `graph`: any device CUDA_VISIBLE_DEVICES leaves, memory taken as needed."""
    return tf.Session(graph=graph, config=session_options())


def session_options():
    """The tf.ConfigProto of all our sessions.

    On a CPU, TensorFlow 2 runs this network faster one operation after the other, each on all
    cores, than with its own defaults (docs/performance.md). A number of threads set in the
    environment is kept.
    """
    options = tf.ConfigProto(allow_soft_placement=True)
    options.gpu_options.allow_growth = True
    if gpu_hidden_or_absent() and not tf.VERSION.startswith("1.") and not any(
            name in os.environ for name in THREAD_VARIABLES):
        options.inter_op_parallelism_threads = 1
        options.intra_op_parallelism_threads = available_cores()
    return options


def available_cores():
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_line(session):
    """One line that says on what `session` computes, and why if that is not a GPU."""
    gpus = [device.name.split("device:")[-1] for device in session.list_devices()
            if device.device_type == "GPU"]
    prefix = f"TensorFlow {tf.VERSION} on "
    if gpus:
        return prefix + ", ".join(gpus)
    reason = gpu_hidden_or_absent()
    if not tf.test.is_built_with_cuda():
        reason = "this TensorFlow is built without CUDA"
    elif reason is None:
        needs = ("CUDA 10.0 and cuDNN 7" if tf.VERSION.startswith("1.")
                 else "the packages of pip install tensorflow[and-cuda]")
        reason = (f"an NVIDIA driver is running but TensorFlow found no usable GPU; it needs "
                  f"{needs}; TF_CPP_MIN_LOG_LEVEL=0 shows what is missing")
    return f"{prefix}CPU ({reason})"


# Prints how many GPUs TensorFlow finds; a process of its own, since a look takes their memory.
COUNT_GPUS = ("from runtime.tensorflow import make_session, tf; "
              "print(sum(device.device_type == 'GPU' "
              "for device in make_session(tf.Graph()).list_devices()))")


def visible_devices(jobs, option="--jobs"):
    """A deque of one CUDA_VISIBLE_DEVICES for each of several processes; None leaves it as it is.

    Args:
        jobs: processes at a time.
        option: what their number was given with.

    Raises:
        UserError: there are fewer GPUs than jobs; the jobs beyond would train on the CPU unasked.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = count_gpus() if jobs > 1 else 0
    if not count:  # on the processor, jobs share the cores
        return deque([None] * jobs)
    devices = visible.split(",") if visible is not None else [str(gpu) for gpu in range(count)]
    if min(count, len(devices)) < jobs:
        raise UserError(f"{option} is {jobs}, but TensorFlow finds {min(count, len(devices))} "
                        "GPUs; use at most one process for each")
    return deque(devices[:jobs])


def count_gpus():
    """How many GPUs TensorFlow can use. Raises Failed if TensorFlow does not start."""
    if gpu_hidden_or_absent():
        return 0
    process = subprocess.run([sys.executable, "-c", COUNT_GPUS], cwd=ROOT,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.returncode:
        raise Failed("TensorFlow cannot be started to count GPUs; run one process alone, with: "
                     "python main.py")
    return int(process.stdout.split()[-1])


def error_reason(error):
    """The line of a TensorFlow error that says what went wrong.

    TensorFlow 2 wraps it in "Graph execution error:" and a stack trace of the graph's making.
    """
    message = (getattr(error, "message", None) or str(error)).split("Original stack trace")[0]
    noise = ("Graph execution error", "Detected at node", "File ", "Node:", "[[")
    lines = [line.strip() for line in message.splitlines()
             if line.strip() and not line.strip().startswith(noise)]
    return lines[0] if lines else type(error).__name__
