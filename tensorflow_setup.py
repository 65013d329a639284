"""The one place that imports TensorFlow: which version, which noise, which device.

Everything else takes `tf` from here. It is TensorFlow's version 1 interface, which TensorFlow 1.14
has under the name tensorflow.compat.v1.
"""

import os
import warnings

# The C++ side prints a page of CUDA library messages where there is no GPU; device_line says in
# one line what they say. A user who sets this variable sees them again.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # numpy's FutureWarnings about TensorFlow 1.14's dtypes
    try:
        import tensorflow.compat.v1 as tf
    except ImportError as error:
        raise SystemExit("error: TensorFlow cannot be imported (%s); run: make run, or "
                         "pip install -r requirements.txt with Python 3.7" % error)
    tf.logging.set_verbosity(tf.logging.ERROR)
    try:  # as released; tflearn 0.5 does not import everywhere, and is needed for this alone
        from tflearn.layers.conv import global_avg_pool
    except ImportError:
        def global_avg_pool(incoming, name="GlobalAvgPool"):
            """Mean over rows and columns: [B, height, width, channels] -> [B, channels]."""
            return tf.reduce_mean(incoming, axis=[1, 2], name=name)

__all__ = ["tf", "global_avg_pool", "make_session", "device_line"]


def make_session(graph):
    """A tf.Session on `graph`: any device CUDA_VISIBLE_DEVICES leaves, memory taken as needed."""
    options = tf.ConfigProto(allow_soft_placement=True)
    options.gpu_options.allow_growth = True
    return tf.Session(graph=graph, config=options)


def device_line(session):
    """One line that says on what `session` computes, and why if that is not a GPU."""
    gpus = [device.name.split("device:")[-1] for device in session.list_devices()
            if device.device_type == "GPU"]
    prefix = "TensorFlow %s on " % tf.VERSION
    if gpus:
        return prefix + ", ".join(gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not tf.test.is_built_with_cuda():
        reason = "this TensorFlow is built without CUDA"
    elif visible is not None and visible.strip() in ("", "-1"):
        reason = "CUDA_VISIBLE_DEVICES=%r hides every GPU" % visible
    elif not os.path.exists("/proc/driver/nvidia/version"):
        reason = "no NVIDIA driver is running"
    else:
        reason = ("an NVIDIA driver is running but TensorFlow found no usable GPU; version 1.14 "
                  "needs CUDA 10.0 and cuDNN 7; TF_CPP_MIN_LOG_LEVEL=0 shows what is missing")
    return prefix + "CPU (%s)" % reason
