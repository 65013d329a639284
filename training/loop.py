"""The training graph, and the loop that runs it: epochs, checkpoints, stops on request.

The order within a step is the release's: losses and gradients from the variables as they are, then
the centers' own move, then Adam on everything, the moved centers included.
"""

import contextlib
import dataclasses
import math
import os
import signal
import sys
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import data_loader
import losses as loss_terms
import model
from config import IMAGE_CHANNELS, IMAGE_SIZE
from runtime.errors import Failed, UserError
from runtime.tensorflow_setup import tf


class TrainingDiverged(Failed):
    """A loss or a weight is no longer finite."""


class Interrupted(Exception):
    """The user asked to stop, and the state was saved. Attribute signal_number."""

    def __init__(self, signal_number):
        super().__init__("stopped by %s" % signal.Signals(signal_number).name)
        self.signal_number = signal_number


class TrainingGraph(NamedTuple):
    """What the loop runs and fetches.

    Attributes:
        graph: the tf.Graph that holds all of it.
        images, labels: placeholders, float32 [B, 32, 32, 3] and int32 [B].
        step: op of one training step.
        losses: OrderedDict of float32 scalars, "total" and its weighted terms, as they are before
            the step.
        accuracy: float32 scalar, share of the batch that the hash classifier gets right, from the
            same pass (deviation b: the release runs a second pass for it).
        gradients: list of (gradient, variable) of the total.
        network: the model.Network that is trained.
        inference: the model.Network with the same weights and moving statistics.
        weights_finite: bool scalar, whether all trainable variables are.
        num_parameters: trainable values, centers included.
        saver: a tf.train.Saver of all variables, Adam's slots included.
        initialize: op that gives every variable its first value.
    """

    graph: tf.Graph
    images: tf.Tensor
    labels: tf.Tensor
    step: tf.Operation
    losses: OrderedDict
    accuracy: tf.Tensor
    gradients: list
    network: model.Network
    inference: model.Network
    weights_finite: tf.Tensor
    num_parameters: int
    saver: tf.train.Saver
    initialize: tf.Operation


@dataclasses.dataclass
class Progress:
    """How far training is; kept with each checkpoint, so that a resumed run goes on from there.

    Image order hangs on seed and epoch alone, so that this and the variables are the whole state.
    """

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch after those
    sums: dict = dataclasses.field(default_factory=dict)  # of losses and accuracy over these steps
    best_epoch: int = 0
    best_loss: float = None  # lowest mean training loss of an epoch

    def checkpoint_name(self):
        """A name no other state of the run has."""
        name = "epoch_%06d" % self.epoch
        return name + "_step_%06d" % self.step if self.step else name


def build_training_graph(config, num_classes):
    """Builds network, losses and training step in a graph of their own.

    Args:
        config: a Config.
        num_classes: C.

    Returns:
        A TrainingGraph.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.set_random_seed(config.seed)
        images = tf.placeholder(
            tf.float32, [None, IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS], "images")
        labels = tf.placeholder(tf.int32, [None], "labels")
        network, inference = [model.build_network(
            images, num_bits=config.num_bits, block_length=config.block_length,
            num_classes=num_classes, training=training, method=config.method,
            hash_layer=config.hash_layer, multi_scale=config.multi_scale,
            descriptor_classifier=config.descriptor_classification_weight > 0,
            batch_norm_decay=config.batch_norm_decay,
            batch_norm_epsilon=config.batch_norm_epsilon) for training in (True, False)]
        centers = centers_before = None
        if config.center_weight > 0:
            centers = model.class_centers(num_classes, config.descriptor_size, config.method)
            centers_before = centers.read_value()
        losses = loss_terms.weighted_losses(
            network, labels, centers_before, model.weight_kernels(), config)
        correct = tf.equal(tf.argmax(network.hash_logits, axis=1, output_type=tf.int32), labels)
        accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

        optimizer = tf.train.AdamOptimizer(config.learning_rate, config.adam_beta1,
                                           config.adam_beta2, config.adam_epsilon)
        gradients = optimizer.compute_gradients(losses["total"], tf.trainable_variables())
        before_update = [network.update_moving_statistics]
        if centers is not None:
            moves = loss_terms.center_moves(
                network.descriptor, centers_before, labels, config.center_alpha)
            with tf.control_dependencies([gradient for gradient, _ in gradients]
                                         + list(losses.values())):
                before_update.append(centers.scatter_sub(tf.IndexedSlices(moves, labels)))
        with tf.control_dependencies(before_update):
            step = optimizer.apply_gradients(gradients)

        weights_finite = tf.reduce_all(tf.stack(
            [tf.reduce_all(tf.is_finite(variable)) for variable in tf.trainable_variables()]))
        return TrainingGraph(
            graph, images, labels, step, losses, accuracy, gradients, network, inference,
            weights_finite, sum(int(np.prod(variable.shape.as_list()))
                                for variable in tf.trainable_variables()),
            tf.train.Saver(max_to_keep=None), tf.global_variables_initializer())


class StopRequest:
    """Notes Ctrl-C and SIGTERM instead of dying of them; a second one is obeyed at once.

    Use as a context manager. `signal_number` is None until a signal comes.
    """

    def __init__(self):
        self.signal_number = None
        self._previous = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _frame):
        self.signal_number = number
        for other, handler in self._previous.items():
            signal.signal(other, handler)
        os.write(sys.stderr.fileno(), b"\nfinishing the step, then saving; once more to quit now\n")


class Trainer:
    """Runs the training of one run folder.

    Args:
        config: a Config.
        data: the training set, a data_loader.ImageSet.
        training_graph: a TrainingGraph.
        session: a tf.Session on its graph.
        folder: a locked run_folder.RunFolder.
    """

    def __init__(self, config, data, training_graph, session, folder):
        self.config = config
        self.data = data
        self.graph = training_graph
        self.session = session
        self.folder = folder
        self.progress = Progress()
        self._bar = tqdm
        self.steps_per_epoch = data_loader.steps_per_epoch(len(data.labels), config.batch_size)

    def start(self):
        """Gives every variable its first value."""
        self.session.run(self.graph.initialize)

    def resume(self):
        """Goes back to the folder's `last` checkpoint."""
        self.progress = Progress(**self._restore("last"))

    def train(self, evaluate):
        """Trains until config.epochs, evaluating the best weights on the way.

        Args:
            evaluate: function of the progress (a dict of the fields of Progress), called every
                config.evaluate_every epochs and at the end, with the best weights in the session.

        Raises:
            Interrupted: after a signal; the state is saved.
            TrainingDiverged: a term of the loss, or a weight, is not finite.
            UserError: a checkpoint cannot be written; the one before it stays.
        """
        config = self.config
        self.folder.trim_history(self.progress.epoch)
        total = config.epochs * len(self.data.labels)
        with StopRequest() as stop, contextlib.closing(
                tf.summary.FileWriter(self.folder.subfolder("tensorboard"))) as writer, tqdm(
                total=total, initial=min(self._images_seen(), total), unit=" images",
                disable=not sys.stderr.isatty(), smoothing=0.1) as bar:
            # TensorBoard drops what a killed run had written for epochs after this one
            writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START),
                                   self.progress.epoch + 1)
            self._bar = bar
            while True:
                # A saved state at an epoch's end is one before its evaluation; so a run that is
                # killed during evaluation evaluates first when it is resumed.
                if stop.signal_number is not None:
                    raise Interrupted(stop.signal_number)
                if self._evaluation_is_due():
                    self._evaluate_best(evaluate)
                if self.progress.epoch >= config.epochs:
                    return
                self._run_epoch(stop, writer)

    def _evaluation_is_due(self):
        epoch = self.progress.epoch
        return self.progress.step == 0 and epoch > 0 and (
            epoch % self.config.evaluate_every == 0 or epoch >= self.config.epochs)

    def _evaluate_best(self, evaluate):
        self._restore("best")
        evaluate(dataclasses.asdict(self.progress))
        # Deviation j: as released, training goes on from the best weights; this turns it off.
        if not self.config.continue_from_best:
            self._restore("last")

    def _run_epoch(self, stop, writer):
        """The steps of one epoch that are still to do; its row; its checkpoint."""
        progress, config = self.progress, self.config
        order = None
        if config.shuffle:
            order = data_loader.image_order(
                len(self.data.labels), True, config.seed, progress.epoch + 1)
        fetches = (self.graph.step, self.graph.losses, self.graph.accuracy)
        started, images = time.perf_counter(), 0
        for index, (batch_images, batch_labels) in enumerate(
                data_loader.batches(self.data, config.batch_size, order)):
            if index < progress.step:
                continue
            _, losses, accuracy = self.session.run(fetches, {
                self.graph.images: batch_images, self.graph.labels: batch_labels})
            self._add(losses, accuracy, len(batch_labels))
            progress.step += 1
            images += len(batch_labels)
            self._bar.update(len(batch_labels))
            if stop.signal_number is not None and progress.step < self.steps_per_epoch:
                self._save(best=False)
                raise Interrupted(stop.signal_number)
        seconds = time.perf_counter() - started
        self._check_weights()
        self._finish_epoch(images / seconds, seconds, writer)

    def _add(self, losses, accuracy, count):
        """Adds one step to the epoch's sums, unless a term is not finite."""
        for name, value in reversed(list(losses.items())):  # the terms before their total
            if not math.isfinite(value):
                raise TrainingDiverged(
                    "epoch %d, step %d: the %s loss is %s; training stopped. %s" % (
                        self.progress.epoch + 1, self.progress.step + 1, name, value,
                        self._last_good()))
        sums = self.progress.sums
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        sums["accuracy"] = sums.get("accuracy", 0.0) + float(accuracy) * count

    def _check_weights(self):
        """Weights can turn infinite in an epoch's last step, which no later loss then shows."""
        if not self.session.run(self.graph.weights_finite):
            raise TrainingDiverged(
                "epoch %d, step %d: a weight is not finite after the update; training stopped. %s"
                % (self.progress.epoch + 1, self.progress.step, self._last_good()))

    def _last_good(self):
        if not self.folder.has_checkpoint():
            return "No checkpoint was saved yet; try a lower learning_rate"
        return ("The checkpoint of epoch %d stays in %s; try a lower learning_rate"
                % (self.folder.checkpoint("last")[1]["epoch"], self.folder))

    def _finish_epoch(self, rate, seconds, writer):
        progress = self.progress
        means = OrderedDict((name, value / (len(self.data.labels) if name == "accuracy"
                                            else self.steps_per_epoch))
                            for name, value in progress.sums.items())
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        best = progress.best_loss is None or means["total"] < progress.best_loss
        if best:
            progress.best_epoch, progress.best_loss = progress.epoch, means["total"]
        row = OrderedDict(epoch=progress.epoch)
        row.update(means)
        row.update(images_per_second=round(rate, 2), seconds=round(seconds, 3))
        # The row first: a row without a checkpoint is dropped on resume, not the reverse.
        self.folder.append_history(row)
        self._save(best)
        writer.add_summary(tf.Summary(value=[
            tf.Summary.Value(tag=name, simple_value=value) for name, value in row.items()
            if name not in ("epoch", "seconds")]), progress.epoch)
        writer.flush()
        self.say("epoch %d/%d  loss %.4f  accuracy %.3f  %.1f images/s%s" % (
            progress.epoch, self.config.epochs, means["total"], means["accuracy"], rate,
            "  best so far" if best else ""))

    def say(self, text):
        """Prints text, above the progress bar where there is one."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _images_seen(self):
        count = len(self.data.labels)
        return self.progress.epoch * count + min(
            self.progress.step * self.config.batch_size, count)

    def _save(self, best):
        def save(prefix):
            try:
                self.graph.saver.save(self.session, prefix, write_meta_graph=False,
                                      write_state=False)
            except (tf.errors.OpError, ValueError) as error:
                raise UserError("%s cannot be written (%s); the checkpoint before it stays"
                                % (prefix, str(error).splitlines()[0]))
        state = dataclasses.asdict(self.progress)
        state.update(train_mean=self.data.mean, train_std=self.data.std)
        self.folder.save_checkpoint(self.progress.checkpoint_name(), save, state, best)

    def _restore(self, pointer):
        return restore(self.graph, self.session, self.folder, pointer)


def restore(training_graph, session, folder, pointer):
    """Loads the checkpoint `best` or `last` of a run folder into a session.

    Returns:
        The Progress fields saved with it, as a dict.

    Raises:
        UserError: there is none, or it is damaged or of another network.
    """
    prefix, state = folder.checkpoint(pointer)
    try:
        training_graph.saver.restore(session, prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise UserError("checkpoint %s cannot be read (%s)" % (prefix, str(error).splitlines()[0]))
    return {field.name: state[field.name] for field in dataclasses.fields(Progress)}
