"""Records a training process: history.csv, TensorBoard, printed lines, checkpoints."""

import sys
import time

from tqdm import tqdm

from runtime.command_line import duration
from runtime.tensorflow import tf
from training.checkpoints import CheckpointWriter, restore

# TensorBoard's names for the columns of history.csv that are not loss terms
TAGS = {"accuracy": "train/accuracy", "mAP": "eval/mAP",
        "images_per_second": "speed/images_per_second"}


class Recorder:
    """Keeps the records of one training process; a context manager.

    Args:
        folder: a locked RunFolder.
        graph: a training.graph.StepGraph.
        session: a tf.Session on it.
        statistics: dict that is saved with each checkpoint: the training set's mean and std, and
            whatever else the encoding of a single photograph needs.
    """

    def __init__(self, folder, graph, session, statistics):
        self.folder = folder
        self._graph, self._session, self._statistics = graph, session, statistics
        self._checkpoints = CheckpointWriter(graph, session)
        self._events = self._bar = None
        self._started = time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._checkpoints.close()
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            self._events.close()

    def begin(self, epoch, images_seen, images_total):
        """Starts recording after `epoch` finished epochs."""
        self.folder.history.trim(epoch)
        self._events = tf.summary.FileWriter(str(self.folder.path / "tensorboard"))
        # TensorBoard then drops what a killed run wrote for later epochs.
        self._events.add_session_log(tf.SessionLog(status=tf.SessionLog.START), epoch + 1)
        self._bar = tqdm(total=images_total, initial=min(images_seen, images_total),
                         unit=" images", disable=not sys.stderr.isatty(), smoothing=0.1)
        self._started, self._seen_at_start = time.perf_counter(), images_seen
        self._seen, self._total = images_seen, images_total

    def advance(self, count):
        """Moves the progress bar on by `count` images."""
        self._seen += count
        self._bar.update(count)

    def say(self, text):
        """Prints a line, above the progress bar if there is one."""
        if self._bar is None:
            print(text, flush=True)
        else:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def times(self):
        """Text: how long this process has trained, and about how long is left."""
        elapsed = time.perf_counter() - self._started
        done, left = self._seen - self._seen_at_start, self._total - self._seen
        remaining = f", about {duration(elapsed / done * left)} left" if done and left > 0 else ""
        return duration(elapsed) + remaining

    def record_epoch(self, row):
        """Records a finished epoch.

        Args:
            row: dict of history.csv's columns; record_evaluation adds mAP.
        """
        self.folder.history.append(row)
        self._add_events(row["epoch"], {
            TAGS.get(name, f"loss/{name}"): value for name, value in row.items()
            if name not in ("epoch", "seconds", "mAP")})

    def record_evaluation(self, progress, results):
        """Records mAP in the epoch's row and for TensorBoard, and prints it.

        Args:
            progress: the Progress at which the evaluation was due.
            results: dict of metrics.Evaluation.
        """
        self.folder.history.set_value(progress.epoch, "mAP", results["mAP"])
        self._add_events(progress.epoch, {TAGS["mAP"]: results["mAP"]})
        unseen = ""
        if "unseen_mAP" in results:
            unseen = f", of people never seen {results['unseen_mAP']:.4f}"
        self.say(f"evaluation after epoch {progress.epoch}, with the weights of epoch "
                 f"{progress.best_epoch}: mAP {results['mAP']:.4f}{unseen}")

    def _add_events(self, epoch, values):
        self._events.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]), epoch)
        self._events.flush()

    # Checkpoints

    def save(self, progress, best):
        """Begins to save the session's variables; `wait` returns once they are saved.

        Args:
            progress: a Progress, saved with them.
            best: whether they are the best so far.

        Raises:
            UserError: the previous save failed; the checkpoint before it stays.
        """
        name, state = progress.checkpoint_name(), dict(progress.to_dict(), **self._statistics)
        self._checkpoints.start(
            lambda write: self.folder.save_checkpoint(name, write, state, best))

    def wait(self):
        """Waits until everything is saved. Raises UserError if it cannot be written."""
        self._checkpoints.wait()

    def restore(self, pointer):
        """Loads the checkpoint `best` or `last`; returns the dict saved with it."""
        self.wait()
        return restore(self._graph.saver, self._session, self.folder, pointer)[0]

    def last_saved_epoch(self):
        """The epoch of the last checkpoint, or None without one."""
        if not self.folder.has_checkpoint():
            return None
        return self.folder.checkpoint("last")[1]["epoch"]
