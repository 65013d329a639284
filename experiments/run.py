"""One run, from a resolved Config and loaded data to an evaluated, reported run folder."""

import sys
import time
from typing import NamedTuple

import numpy as np

from config import Config, Dataset
from data_loader import ImageSet
from reports import console, report
from retrieval import encode
from retrieval.evaluation import save_evaluation
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from runtime.tensorflow_setup import device_line, make_session, tf
from training.graph import build_step_graph
from training.loop import Interrupted, Trainer, TrainingDiverged
from training.recorder import Recorder


class Run(NamedTuple):
    """What a run is made of.

    Attributes:
        config, dataset: its settings, complete, and its data set.
        folder: its locked RunFolder.
        train, test: ImageSets: the gallery, and the queries.
        digest: data_loader.data_digest of both.
        names: the identities' names by label, or None.
    """

    config: Config
    dataset: Dataset
    folder: RunFolder
    train: ImageSet
    test: ImageSet
    digest: str
    names: list


def fit_projection(run):
    """Fits a projection of the pixels, evaluates its codes and writes the run's report."""
    run.folder.begin(None, "CPU (numpy %s)" % np.__version__, run.digest)
    codes, metadata = encode.encode_projected(run.config, run.dataset, run.train, run.test)
    finish(run, codes, evaluate(run, codes, metadata))


def train_network(run):
    """Trains the network from the start or the last checkpoint, evaluates it on the way, reports.

    Ctrl-C and SIGTERM save the state and end the process with the shell's code for the signal.
    """
    started = time.perf_counter()
    graph = build_step_graph(run.config, run.dataset.num_identities)
    with make_session(graph.graph) as session:
        device = device_line(session)
        print(device, flush=True)
        run.folder.begin(tf.VERSION, device, run.digest)
        with Recorder(run.folder, graph, session, statistics(run)) as recorder:
            trainer = Trainer(run.config, run.train, graph, session, recorder)
            if run.folder.has_checkpoint():
                trainer.resume()
                recorder.say("resuming after epoch %d, step %d"
                             % (trainer.progress.epoch, trainer.progress.step))
            else:
                trainer.start()
            try:
                for progress in trainer.train():
                    codes, metadata = encode.encode_splits(
                        graph.inference, session, run.config, run.dataset, run.train, run.test)
                    metadata.update(encode.training_metadata(
                        run.folder, progress.to_dict(), graph.num_parameters))
                    evaluation = evaluate(run, codes, metadata)
                    recorder.record_evaluation(progress.epoch, evaluation.results["mAP"])
                    recorder.say("evaluation after epoch %d, with the weights of epoch %d: mAP %.4f"
                                 % (progress.epoch, progress.best_epoch,
                                    evaluation.results["mAP"]))
            except Interrupted as stop:
                run.folder.finish(str(stop))
                report.write_unfinished_report(run.folder)
                print("saved after epoch %d, step %d; to go on: python main.py --resume --run_dir "
                      "%s" % (trainer.progress.epoch, trainer.progress.step, run.folder),
                      file=sys.stderr)
                sys.exit(128 + stop.signal_number)
            except UserError as error:
                run.folder.finish("error: %s" % error)
                report.write_unfinished_report(run.folder, str(error), **where(error))
                raise
    finish(run, codes, evaluation)
    print("took %s in all" % duration(time.perf_counter() - started))


def statistics(run):
    """What is saved with the weights, so that a lone photograph can be encoded: a dict."""
    return dict(train_mean=run.train.mean, train_std=run.train.std,
                pixel_range=list(run.train.pixel_range), crop=run.dataset.crop)


def evaluate(run, codes, metadata):
    """Evaluates a run's codes into its folder: a metrics.Evaluation."""
    return save_evaluation(run.folder, codes, metadata,
                           authors_evaluation=run.config.authors_evaluation)


def where(error):
    """What a TrainingDiverged says of where it was: keyword arguments of the unfinished report."""
    if not isinstance(error, TrainingDiverged):
        return {}
    return dict(epoch=error.epoch, step=error.step, term=error.term)


def finish(run, codes, evaluation):
    """Writes the run's report, notes that the run is finished and prints its results."""
    path = report.write_report(run.folder, evaluation, codes, (run.train, run.test), run.names)
    run.folder.finish("finished")
    print(console.results_table(evaluation.results))
    print("report: %s" % path)
