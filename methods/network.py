"""Codes by a network that the run trains: DCBH, DDH, and DCBH on embeddings."""

import contextlib
import dataclasses
import time

from evaluation.codes import signs
from methods.method import Encoded, Method, codes_of, run_metadata
from model import BACKBONES, backbone_of
from published_losses.table import LOSSES, loss_of, settings_of
from runtime.errors import Failed, UserError
from runtime.files import check_weights
from runtime.tensorflow import (
    check_compute_dtype,
    device_line,
    error_reason,
    make_session,
    start_tensorflow,
    tf,
)
from training.checkpoints import restore_best
from training.distributed.coordination import ALONE, LostWorker
from training.graph import build_inference_graph, build_network, build_step_graph, run_network
from training.loop import Interrupted, Progress


class NetworkMethod(Method):
    """Trains a network: model.backbone_of the method's name, with the loss of that name.

    Args:
        title, defaults, inputs: see Method.
        max_epochs: most epochs that it defaults to; None for the data set's.
    """

    trains = True
    exports_network = True

    def __init__(self, title, defaults=None, inputs="images", max_epochs=None):
        super().__init__(title, defaults, inputs)
        self.max_epochs = max_epochs

    def applicable_settings(self, settings):
        """All, but for those of a part that the network does not have."""
        method = settings["method"]
        left_out = {"features_of"}.union(settings_of("dcbh"), *map(settings_of, LOSSES))
        left_out.difference_update(settings_of(method))
        if settings.get("quantization_weight") == 0:
            left_out.add("quantization_target")
        if backbone_of(method) is not BACKBONES["dcbh"]:
            left_out.add("multi_scale")
        return set(settings) - left_out

    def check(self, config):
        super().check(config)
        if config.codeword_share and not loss_of(config).has_classifiers:
            tuned = " (the tuned recipe sets it)" * (config.recipe == "tuned")
            raise UserError(f"method {config.method} has no hash classifier to restart from "
                            f"codewords: add --codeword_share 0{tuned}")

    def recipe_name(self, recipe):
        return "" if recipe == "released" else recipe

    def notes(self, run):
        batch_size, count = run.config.batch_size, len(run.train.labels)
        return [f"note: batch_size is {batch_size}, so an epoch is one step: there are {count} "
                "training images"] if batch_size > count else []

    def check_workers(self, config):
        if loss_of(config).compares_images:
            raise UserError(f"method {config.method} compares the images of a batch with each "
                            "other, so workers cannot share one; leave --num_workers and TF_CONFIG "
                            "out")

    def epochs_of(self, dataset):
        return min(dataset.epochs, self.max_epochs or dataset.epochs)

    def images_trained(self, config, count):
        return config.epochs * count

    def start_up(self, run):
        start_tensorflow()
        note = check_compute_dtype(run.config.compute_dtype)
        if note:
            print(note, flush=True)

    def make_codes(self, run, evaluate, workers=ALONE):
        """Trains from the start or from the last checkpoint, and encodes whenever it is due.

        Raises:
            Interrupted: stopped by a signal; the state is saved.
            TrainingDiverged: a loss or a weight is not finite.
            LostWorker: another worker is gone.
        """
        graph = build_step_graph(run.config, run.dataset.num_identities, workers)
        with workers.session(graph.graph) as session:
            device = device_line(session)
            print(device, flush=True)
            run.folder.begin(tf.VERSION, device, run.digest, workers.count)
            statistics = dict(train_mean=run.train.mean, train_std=run.train.std,
                              pixel_range=list(run.train.pixel_range), crop=run.dataset.crop)
            with workers.recorder(run.folder, graph, session, statistics) as recorder, \
                    _telling_what_is_saved(run, workers):
                trainer = self._trainer(run, graph, session, recorder, workers)
                if run.folder.has_checkpoint():
                    trainer.resume()
                    recorder.say(f"resuming after {trainer.progress}")
                else:
                    trainer.start()
                for progress in trainer.train():
                    with workers.keep_waiting(progress.epoch >= run.config.epochs):
                        encoded = self._encode(run, graph.inference, session)
                        encoded.metadata.update(_training_metadata(
                            run.folder, progress.to_dict(), graph.num_parameters))
                        evaluation = evaluate(encoded)
                        recorder.record_evaluation(progress, evaluation.results)
        return encoded, evaluation

    def take_part(self, run, workers):
        """What a worker other than 0 does while worker 0 does make_codes: its part of each step.

        Args:
            run: a Run without a folder.
            workers: Workers.
        """
        graph = build_step_graph(run.config, run.dataset.num_identities, workers)
        with workers.session(graph.graph) as session:
            print(device_line(session), flush=True)
            trainer = self._trainer(run, graph, session,
                                    workers.recorder(None, graph, session, None), workers)
            trainer.follow()
            for progress in trainer.train():
                if progress.epoch < run.config.epochs:
                    workers.wait()  # for the evaluation

    def _trainer(self, run, graph, session, recorder, workers):
        return workers.trainer(run.config, run.train._replace(images=self.given(run.train)),
                               graph, session, recorder)

    def encode(self, run):
        with BestNetwork(run.folder, run.config) as network:
            print(network.device, flush=True)
            encoded = self._encode(run, network.network, network.session)
            encoded.metadata.update(network.metadata)
        return encoded

    def _encode(self, run, network, session):
        """The Encoded of a Run by a session's weights; without what is known of the training."""
        def encode(split):
            return signs(run_network(session, network, network.code_activations, self.given(split),
                                     run.config.encode_batch_size))

        started = time.perf_counter()
        codes = codes_of(run.train, run.test, encode)
        metadata = run_metadata(run, encoding_seconds=round(time.perf_counter() - started, 3))
        if run.config.compute_dtype != "float32":
            metadata["compute_dtype"] = run.config.compute_dtype
        return Encoded(codes, run.unseen and codes_of(*run.unseen, encode=encode), metadata)

    def export(self, run, path):
        state = save_network(run.folder, run.config, run.train, path)
        return None, dict(epoch=state["best_epoch"])

    def open_encoder(self, folder, config, metadata):
        session, graph = open_network(folder, config)
        network = graph.inference
        return lambda inputs: run_network(
            session, network, (network.code_activations, network.descriptor), inputs,
            config.encode_batch_size), session.close


@contextlib.contextmanager
def _telling_what_is_saved(run, workers):
    """Adds to a LostWorker or Interrupted what is saved, and how to continue from there."""
    resume = f"to continue: python main.py --resume --run_dir {run.folder}{workers.how_to_start}"
    try:
        yield
    except Interrupted as stop:
        stop.way_out = f"{stop.state}; {resume}"
        raise
    except LostWorker as error:
        if not run.folder.has_checkpoint():
            raise LostWorker(f"{error}; nothing is saved yet: start again with --overwrite "
                             f"--run_dir {run.folder}")
        progress = Progress.from_dict(run.folder.checkpoint("last")[1])
        raise LostWorker(f"{error}; saved after {progress}; {resume}")


def _training_metadata(folder, state, num_parameters):
    """What results.json says of the training behind some weights: a dict of plain values.

    Args:
        folder: the RunFolder.
        state: dict saved with the weights (training.loop.Progress).
        num_parameters: trainable values, centers included.
    """
    rows = folder.history.read()
    seconds = sum(row["seconds"] for row in rows) + (state.get("seconds") or 0.0)
    trained = max([int(row["epoch"]) for row in rows] + [state["epoch"]])
    return dict(epoch=state["best_epoch"], trained_epochs=trained, parameters=num_parameters,
                training_seconds=round(seconds, 3))


class BestNetwork:
    """A run's network with its best weights, for encoding; a context manager.

    Args:
        folder, config: the run's RunFolder and Config.
        num_classes: C, to have its classifiers, too; codes need none.

    Attributes:
        network: a model.Network for inference.
        session: a tf.Session with the weights.
        device: text, what it computes on.
        metadata: dict, what results.json says of its training.
    """

    def __init__(self, folder, config, num_classes=None):
        folder.checkpoint("best")  # before the long work: is there one?
        check_compute_dtype(config.compute_dtype)
        graph = build_inference_graph(config, num_classes)
        self.network, self.session = graph.inference, make_session(graph.graph)
        self.device = device_line(self.session)
        state, num_parameters = restore_best(graph, self.session, folder)
        self.metadata = _training_metadata(folder, state, num_parameters)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()


# A network on its own: a SavedModel


def save_network(folder, config, train, path, projection=None):
    """Writes a SavedModel with a run's best weights; returns the dict saved with those.

    Args:
        folder, config: the run's RunFolder and Config.
        train: its training ImageSet, whose pixel statistics go with the weights.
        path: the SavedModel's folder, which does not exist yet.
        projection: Projection of the network's descriptor, in place of its hash layer; or None.
    """
    if projection is not None:  # of the images alone
        config = dataclasses.replace(config, flip_averaging=False)
    graph = build_inference_graph(config)
    with make_session(graph.graph) as session:
        state, _ = restore_best(graph, session, folder)
        with graph.graph.as_default():
            weights = tf.global_variables()
            trained = session.run([variable.read_value() for variable in weights])
    with tf.Graph().as_default() as serving:
        shape = graph.inference.images.shape.as_list()[1:]
        takes_pixels = len(shape) == 3
        inputs = tf.placeholder(tf.uint8 if takes_pixels else tf.float32, [None] + shape,
                                "images" if takes_pixels else "embeddings")
        network = build_network(_normalised(inputs, train) if takes_pixels else inputs,
                                config, training=False)
        values = network.code_activations
        if projection is not None:
            values = _projected(network.descriptor, projection)
        codes = tf.where(values >= 0, tf.ones_like(values), -tf.ones_like(values))
        codes = tf.cast(codes, tf.int8, name="codes")
        by_name = dict(zip((variable.op.name for variable in weights), trained))
        with make_session(serving) as session:
            session.run(tf.global_variables_initializer())
            for variable in tf.global_variables():
                if variable.op.name in by_name:
                    variable.load(by_name[variable.op.name], session)
            try:
                builder = tf.saved_model.Builder(str(path))
                builder.add_meta_graph_and_variables(
                    session, [tf.saved_model.SERVING], strip_default_attrs=True,
                    signature_def_map={"serving_default": tf.saved_model.predict_signature_def(
                        {inputs.op.name: inputs}, {"codes": codes})})
                builder.save()
            except tf.errors.OpError as error:
                raise Failed(f"{path} cannot be written: {error_reason(error)}")
    return state


def _normalised(pixels, train):
    """data_loader.normalise_images as tensors: uint8 [n, 32, 32, 3] -> float32.

    The statistics are variables: constants would be folded into others that round differently.
    """
    low, high = train.pixel_range
    with tf.variable_scope("normalisation"):
        values = [tf.get_variable(name, [], tf.float32, tf.constant_initializer(value),
                                  trainable=False, use_resource=True)
                  for name, value in (("low", low), ("scale", (high - low) / 255.0),
                                      ("mean", train.mean), ("divisor", train.std + 1e-5))]
    low, scale, mean, divisor = values
    raw = low + tf.cast(pixels, tf.float32) * scale
    return tf.clip_by_value(0.1 * (raw - mean) / divisor, -1.0, 1.0)


def _projected(descriptor, projection):
    """A Projection of the descriptor as a tensor: float32 [n, D] -> float64 [n, K]."""
    with tf.variable_scope("projection"):
        mean, columns = [tf.get_variable(name, value.shape, tf.float64,
                                         tf.constant_initializer(value), trainable=False,
                                         use_resource=True)
                         for name, value in projection._asdict().items()]
    return tf.matmul(tf.cast(descriptor, tf.float64) - mean, columns)


def open_network(folder, config):
    """(session, InferenceGraph) with the weights of an encoder's saved_model/.

    Raises:
        UserError: it is missing or damaged.
    """
    check_compute_dtype(config.compute_dtype)
    weights = str(folder.path / "saved_model/variables/variables")
    check_weights(weights)
    graph = build_inference_graph(config)
    session = make_session(graph.graph)
    try:
        graph.saver.restore(session, weights)
    except (tf.errors.OpError, ValueError) as error:
        session.close()
        raise UserError(f"{folder}/saved_model cannot be read ({error_reason(error)}); export "
                        "again")
    return session, graph
