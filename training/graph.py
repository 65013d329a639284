"""Builds the graphs of a run: one that trains, one that only encodes.

A training step follows the release's order: losses and gradients from the current variables, then
the centers' own update, then Adam on all variables, the moved centers included (row i of the table
of deviations: as released).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import losses
import model
from model import build_network
from published_losses.table import loss_of
from runtime.tensorflow import tf
from training.distributed.joint_step import OneDevice

# Adam as released: TensorFlow's defaults.
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class StepGraph(NamedTuple):
    """What training runs and fetches.

    Attributes:
        graph: the tf.Graph that holds everything below.
        images, labels: placeholders, float32 [B, 32, 32, 3] and int32 [B]; instead of images, some
            methods take embeddings [B, 128].
        step: op of one training step.
        losses: dict of float32 scalars, "total" and its weighted terms, before the update.
        accuracy: float32 scalar, share of the batch that is told apart (losses.batch_accuracy; for
            DCBH what its hash classifier gets right), from the same pass (deviation b: the release
            runs a second pass for it).
        gradients: list of (gradient, variable) of the total.
        network: the model.Network that is trained.
        inference: the model.Network with the same weights and moving statistics, for codes.
        weights_finite: bool scalar, whether all trainable variables are finite.
        num_parameters: number of trainable values, centers included.
        saver: a tf.train.Saver of all variables, Adam's slots included.
        initialize: op that gives every variable its first value.
        joint: the JointStep where several workers share each batch, else OneDevice.
        learning_rate: placeholder, float32: Adam's learning rate; config.learning_rate if not fed.
        progress: placeholder, float32: share of the training's steps that are done; 1 if not fed.
        codewords: placeholder, float32 [C, K].
        restart_hash_classifier: op that makes the codewords the hash classifier's weights and sets
            its bias to zero.
    """

    graph: tf.Graph
    images: tf.Tensor
    labels: tf.Tensor
    step: tf.Operation
    losses: dict
    accuracy: tf.Tensor
    gradients: list
    network: model.Network
    inference: model.Network
    weights_finite: tf.Tensor
    num_parameters: int
    saver: tf.train.Saver
    initialize: tf.Operation
    joint: object
    learning_rate: tf.Tensor
    progress: tf.Tensor
    codewords: tf.Tensor
    restart_hash_classifier: tf.Operation


class InferenceGraph(NamedTuple):
    """What encoding needs: no labels, gradients or Adam slots.

    Attributes:
        graph: the tf.Graph that holds everything below.
        inference: a model.Network; its images are a placeholder, as in StepGraph.
        saver: a tf.train.Saver of weights and moving statistics.
    """

    graph: tf.Graph
    inference: model.Network
    saver: tf.train.Saver


def build_step_graph(config, num_classes, workers=None):
    """Builds network, losses and training step in a graph of their own.

    Args:
        config: a Config.
        num_classes: C.
        workers: a training.distributed.coordination.Workers where several share each batch.

    Returns:
        A StepGraph.
    """
    graph = tf.Graph()
    with graph.as_default(), tf.device(workers.device if workers else None):
        tf.set_random_seed(config.seed)
        joint = workers.joint_step(config) if workers else OneDevice()
        images = _images_placeholder(config)
        labels = tf.placeholder(tf.int32, [None], "labels")
        loss = loss_of(config)
        network = build_network(images, config, True, num_classes if loss.has_classifiers else None,
                                joint.batch_norm)
        inference = build_network(images, config, False)
        progress = tf.placeholder_with_default(np.float32(1.0), [], "progress")
        magnitude = model.BLOCK_MAGNITUDE if config.hash_layer == "block" else 1.0
        batch = losses.Batch(network, magnitude, labels, num_classes, progress, config.seed)
        with tf.variable_scope(config.method, reuse=tf.AUTO_REUSE):
            terms, logits = loss.terms(batch)
        terms = losses.with_total(terms, model.weight_kernels(), config.weight_decay)
        accuracy = losses.batch_accuracy(batch, logits)

        variables = tf.trainable_variables()
        learning_rate = tf.placeholder_with_default(
            np.float32(config.learning_rate), [], "learning_rate")
        optimizer = tf.train.AdamOptimizer(learning_rate, ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON)
        terms, accuracy = joint.shares(terms, accuracy, loss.summed_terms)
        gradients = optimizer.compute_gradients(terms["total"], variables)
        descriptors, batch_labels, terms, accuracy, gradients, update = joint.together(
            network, labels, terms, accuracy, gradients)
        with tf.control_dependencies([gradient for gradient, _ in gradients]
                                     + list(terms.values())):
            own_updates = loss.own_updates(descriptors, batch_labels)
        with tf.control_dependencies([update] + own_updates):
            step = optimizer.apply_gradients(gradients)

        weights_finite = tf.reduce_all(tf.stack(
            [tf.reduce_all(tf.is_finite(variable)) for variable in variables]))
        codewords = tf.placeholder(tf.float32, [num_classes, config.num_bits], "codewords")
        restart = _restart_hash_classifier(codewords, optimizer)
        num_parameters = sum(int(np.prod(variable.shape.as_list())) for variable in variables)
        return StepGraph(graph, images, labels, step, terms, accuracy, gradients, network,
                         inference, weights_finite, num_parameters,
                         tf.train.Saver(max_to_keep=None), tf.global_variables_initializer(), joint,
                         learning_rate, progress, codewords, restart)


def _restart_hash_classifier(codewords, optimizer):
    """StepGraph's op. It also resets Adam's moments, which belong to the old weights."""
    values = {"kernel": tf.transpose(codewords)}
    assignments = []
    for variable in tf.trainable_variables():
        if "hash_classifier" in variable.op.name.split("/"):
            zeros = tf.zeros(variable.shape)
            value = values.get(variable.op.name.split("/")[-1], zeros)
            slots = [optimizer.get_slot(variable, name) for name in optimizer.get_slot_names()]
            assignments += [variable.assign(value)] + [slot.assign(zeros) for slot in slots]
    return tf.group(*assignments)


def build_inference_graph(config, num_classes=None):
    """Builds the network for encoding, in a graph of its own.

    Args:
        config: a Config whose method trains a network.
        num_classes: C, to build the classifiers as well; codes need none.

    Returns:
        An InferenceGraph.
    """
    graph = tf.Graph()
    with graph.as_default():
        inference = build_network(_images_placeholder(config), config, False, num_classes)
        return InferenceGraph(graph, inference, tf.train.Saver())


def _images_placeholder(config):
    return tf.placeholder(
        tf.float32, (None,) + model.backbone_of(config.method).input_shape, "images")


def run_network(session, network, tensors, images, batch_size):
    """Values of a network's tensors for each image once, in order.

    Deviation f: the release loses some images when it encodes.

    Args:
        session: a tf.Session with the network's weights.
        network: a model.Network built for inference.
        tensors: one of its tensors, [B, ...], or a tuple of them.
        images: float32 [n, 32, 32, 3], normalised, or whatever else the network takes; n >= 1.
        batch_size: images per session run.

    Returns:
        float32 [n, ...], or a tuple of them.
    """
    parts = [session.run(tensors, {network.images: images[start:start + batch_size]})
             for start in range(0, len(images), batch_size)]
    if isinstance(tensors, tuple):
        return tuple(map(np.concatenate, zip(*parts)))
    return np.concatenate(parts)
