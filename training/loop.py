"""The training loop: runs epochs, stops on request, yields when an evaluation is due."""

import dataclasses
import math
import os
import signal
import time

import data_loader
from runtime.errors import Failed
from runtime.tensorflow import tf
from training import recipe
from training.graph import run_network


class TrainingDiverged(Failed):
    """A loss or a weight is no longer finite. Attributes epoch, step (from 1) and term.

    Args:
        epoch, step: where, counted from 1.
        term: name of the loss term, or "weights".
        reason: text.
    """

    def __init__(self, epoch, step, term, reason):
        super().__init__(f"epoch {epoch}, step {step}: {reason}")
        self.epoch, self.step, self.term = epoch, step, term


class Interrupted(Exception):
    """The user asked to stop, and the state was saved.

    Attributes:
        signal_number: the signal.
        state: text, what was saved.
    """

    def __init__(self, signal_number, progress):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
        self.state = f"saved after {progress}"


@dataclasses.dataclass
class Progress:
    """How far training has come; saved with each checkpoint.

    The order of images depends on seed and epoch alone, so this and the variables are all that a
    resumed run needs.
    """

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the next epoch
    sums: dict = dataclasses.field(default_factory=dict)  # of losses and accuracy, of these steps
    seconds: float = 0.0  # time these steps took
    best_epoch: int = 0
    best_loss: float = None  # lowest mean training loss of an epoch
    restart_epoch: int = 0  # in which the hash classifier restarted, from 1; 0: not yet

    @classmethod
    def from_dict(cls, state):
        """Progress from a saved dict; fields that an older version lacked keep their defaults."""
        return cls(**{field.name: state[field.name] for field in dataclasses.fields(cls)
                      if state.get(field.name) is not None})

    def to_dict(self):
        """All fields as a dict of plain values."""
        return dataclasses.asdict(self)

    def __str__(self):
        return f"epoch {self.epoch}, step {self.step}"

    def checkpoint_name(self):
        """A name that no other state of the run has."""
        return f"epoch_{self.epoch:06d}" + (f"_step_{self.step:06d}" if self.step else "")


class StopRequest:
    """Notes Ctrl-C, SIGTERM and a closed terminal (SIGHUP); a second signal takes effect at once.

    A context manager. `signal_number` is None until a signal arrives.
    """

    def __init__(self):
        self.signal_number = None
        self._previous = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _frame):
        self.signal_number = number
        for other, handler in self._previous.items():
            signal.signal(other, handler)
        try:
            os.write(2, b"\nfinishing this step, then saving; repeat to quit now\n")
        except OSError:
            pass  # standard error is closed; the request still counts


class Trainer:
    """Trains the network of one run.

    Args:
        config: a Config.
        data: the training set, a data_loader.ImageSet.
        graph: a training.graph.StepGraph.
        session: a tf.Session on it.
        recorder: a training.recorder.Recorder.
    """

    def __init__(self, config, data, graph, session, recorder):
        self.config = config
        self.data = data
        self.graph = graph
        self.session = session
        self.recorder = recorder
        self.progress = Progress()
        self.stop = StopRequest()
        self.steps_per_epoch = data_loader.steps_per_epoch(len(data.labels), config.batch_size)

    def start(self):
        """Gives every variable its first value."""
        self.session.run(self.graph.initialize)

    def resume(self):
        """Goes back to the run's `last` checkpoint."""
        self.progress = Progress.from_dict(self.recorder.restore("last"))

    def train(self):
        """Trains until config.epochs; yields whenever an evaluation is due.

        An evaluation is due every config.evaluate_every epochs and at the end. While the caller
        evaluates, the session holds the best weights so far. An epoch's checkpoint precedes its
        evaluation, so a run that is killed while it evaluates repeats that when resumed.

        Yields:
            The Progress.

        Raises:
            Interrupted: after a signal; the state is saved.
            TrainingDiverged: a term of the loss, or a weight, is not finite.
            UserError: a checkpoint cannot be written; the previous one stays.
        """
        count = len(self.data.labels)
        bounds = data_loader.batch_bounds(count, self.config.batch_size, self.config.even_batches)
        seen = self.progress.epoch * count + bounds[self.progress.step]
        self.recorder.begin(self.progress.epoch, seen, self.config.epochs * count)
        # Batch norm turns any two values into -1 and +1. Last batches of 1, 3, 4 and 8 images did
        # no harm (docs/recipe.md).
        if bounds[-1] - bounds[-2] == 2 < bounds[1]:
            self.recorder.say("the last batch of each epoch has 2 images; batch norm turns them "
                              "into noise that can spoil the codes. Start a new run with "
                              "--even_batches true to avoid it")
        with self.stop as stop:
            while True:
                if stop.signal_number is not None:
                    self.recorder.wait()
                    raise Interrupted(stop.signal_number, self.progress)
                if self._evaluation_is_due():
                    self.recorder.restore("best")
                    yield self.progress
                    if self.progress.epoch >= self.config.epochs:
                        return
                    # Deviation j: the release goes on from the best weights; this setting turns
                    # that off.
                    if not self.config.continue_from_best:
                        self.recorder.restore("last")
                self._run_epoch(stop)

    def _evaluation_is_due(self):
        epoch, step = self.progress.epoch, self.progress.step
        # A run that stopped inside an epoch after the last one asked for has nothing to train.
        return epoch >= self.config.epochs or (
            step == 0 and epoch > 0 and epoch % self.config.evaluate_every == 0)

    def _run_epoch(self, stop):
        """Runs the remaining steps of an epoch, then records and saves it."""
        progress, config = self.progress, self.config
        order = None
        if config.shuffle:
            order = data_loader.image_order(
                len(self.data.labels), True, config.seed, progress.epoch + 1)
        started, images = time.perf_counter(), 0
        for index, (batch_images, batch_labels) in enumerate(data_loader.batches(
                self.data, config.batch_size, order, config.even_batches)):
            if index < progress.step:
                continue
            batch_images = recipe.mirrored(batch_images, config, progress.epoch, index)
            losses, accuracy = self._run_step(batch_images, batch_labels)
            self._add(losses, accuracy, len(batch_labels))
            progress.step += 1
            images += len(batch_labels)
            self.recorder.advance(len(batch_labels))
            if stop.signal_number is not None and progress.step < self.steps_per_epoch:
                progress.seconds += time.perf_counter() - started
                self.recorder.save(progress, best=False)
                self.recorder.wait()
                raise Interrupted(stop.signal_number, self.progress)
        seconds = time.perf_counter() - started
        self._check_weights()
        self._finish_epoch(images / seconds, progress.seconds + seconds)

    def _run_step(self, images, labels):
        """One training step; returns its losses (a dict) and its accuracy."""
        try:
            return self._compute_step(images, labels)
        except tf.errors.ResourceExhaustedError:
            raise Failed(f"out of memory on the device in epoch {self.progress.epoch + 1}, step "
                         f"{self.progress.step + 1}: lower --batch_size (it is "
                         f"{self.config.batch_size})")

    def _compute_step(self, images, labels):
        self._prepare_step()
        feed = {self.graph.images: images, self.graph.labels: labels}
        feed.update(self._scheduled())
        _, losses, accuracy = self.session.run(
            (self.graph.step, self.graph.losses, self.graph.accuracy), feed)
        return losses, accuracy

    def _steps_done(self):
        return self.progress.epoch * self.steps_per_epoch + self.progress.step

    def _steps_in_all(self):
        return self.config.epochs * self.steps_per_epoch

    def _prepare_step(self):
        """Restarts the hash classifier before the step at which that is due."""
        due = recipe.restart_step(self.config, self._steps_in_all())
        if due is None or self.progress.restart_epoch or self._steps_done() < due:
            return
        self._restart_hash_classifier()
        self.progress.restart_epoch = self.progress.epoch + 1

    def _restart_hash_classifier(self):
        """Makes codewords near each person's activations the hash classifier's weights."""
        activations = run_network(self.session, self.graph.inference,
                                  self.graph.inference.hash_activations, self.data.images,
                                  self.config.encode_batch_size)
        words = recipe.choose_codewords(recipe.class_means(
            activations, self.data.labels, self.graph.codewords.shape.as_list()[0]))
        self.session.run(self.graph.restart_hash_classifier, {
            self.graph.codewords: words * recipe.CODEWORD_NORM / len(words[0]) ** 0.5})
        self.recorder.say("the hash classifier restarts from codewords")

    def _scheduled(self):
        """The feed of what changes from step to step."""
        done, total = self._steps_done(), self._steps_in_all()
        return {self.graph.learning_rate: recipe.learning_rate(self.config, done, total),
                self.graph.progress: done / total}

    def _add(self, losses, accuracy, count):
        """Adds one step to the epoch's sums, unless a term is not finite."""
        for name, value in reversed(list(losses.items())):  # the total comes last
            if not math.isfinite(value):
                raise TrainingDiverged(
                    self.progress.epoch + 1, self.progress.step + 1, name,
                    f"the {name} loss is {value}; training stopped. {self._way_out()}")
        sums = self.progress.sums
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        sums["accuracy"] = sums.get("accuracy", 0.0) + float(accuracy) * count

    def _check_weights(self):
        """Checks the weights, since no loss shows what the last step of an epoch made of them."""
        if not self.session.run(self.graph.weights_finite):
            raise TrainingDiverged(
                self.progress.epoch + 1, self.progress.step, "weights",
                f"a weight is not finite after the update; training stopped. {self._way_out()}")

    def _way_out(self):
        self.recorder.wait()
        saved = self.recorder.last_saved_epoch()
        if saved is None:
            return "No checkpoint was saved yet; try a lower learning_rate"
        return (f"The checkpoint of epoch {saved} stays in {self.recorder.folder}; try a lower "
                "learning_rate")

    def _finish_epoch(self, rate, seconds):
        progress, config = self.progress, self.config
        means = {name: value / (len(self.data.labels) if name == "accuracy"
                                else self.steps_per_epoch)
                 for name, value in progress.sums.items()}
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.sums, progress.seconds = {}, 0.0
        # Losses from before a restart are not comparable, and those weights would undo it.
        best = (progress.best_loss is None or means["total"] < progress.best_loss
                or config.weights == "last" or progress.best_epoch < progress.restart_epoch)
        if best:
            progress.best_epoch, progress.best_loss = progress.epoch, means["total"]
        row = dict(epoch=progress.epoch, **means, images_per_second=round(rate, 2),
                   seconds=round(seconds, 3), mAP="")
        # The row comes first: resuming drops a row without a checkpoint, but could not add one.
        self.recorder.record_epoch(row)
        self.recorder.save(progress, best)
        best_before = "" if best else (
            f"  (best: epoch {progress.best_epoch}, loss {progress.best_loss:.4f})")
        self.recorder.say(
            f"epoch {progress.epoch}/{config.epochs}  loss {means['total']:.4f}  "
            f"accuracy {means['accuracy']:.3f}  {rate:.1f} images/s  {self.recorder.times()}"
            f"{best_before}")
