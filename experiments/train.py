"""One run of a network, from a resolved Config and loaded data to a reported run folder."""

import contextlib
import sys
import time

from config import METHODS
from data_loader import given_to
from experiments.run import evaluate, print_results, write_report
from methods import encode
from reports import page
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.provenance import noting_end
from runtime.tensorflow import device_line, tf
from training.distributed.distribution import ALONE
from training.distributed.worker_session import LostWorker
from training.graph import build_step_graph
from training.loop import Interrupted, Progress, TrainingDiverged


def train_network(run, workers=None):
    """Trains the network from the start or the last checkpoint, evaluates it on the way, reports.

    Ctrl-C and SIGTERM save the state and end the process with the shell's code for the signal.

    Args:
        run: an experiments.run.Run.
        workers: a Workers, of which this is worker 0; None for one process.
    """
    started = time.perf_counter()
    graph = build_step_graph(run.config, run.dataset.num_identities, workers)
    workers = workers or ALONE
    with workers.session(graph.graph) as session:
        device = device_line(session)
        print(device, flush=True)
        run.folder.begin(tf.VERSION, device, run.digest, workers.count)
        try:
            with noting_end(run.folder):
                codes, evaluation = train_and_evaluate(run, graph, session, workers)
                path = write_report(run, codes, evaluation)
        except Interrupted as stop:
            write_unfinished_report(run)
            print("%s; to go on: python main.py --resume --run_dir %s%s"
                  % (stop.state, run.folder, workers.how_to_start), file=sys.stderr)
            sys.exit(128 + stop.signal_number)
        except TrainingDiverged as error:
            write_unfinished_report(run, str(error), error.epoch, error.step, error.term)
            raise
        except UserError as error:
            write_unfinished_report(run, str(error))
            raise
    print_results(run, codes, evaluation, path)
    print("took %s in all" % duration(time.perf_counter() - started))


def train_and_evaluate(run, graph, session, workers):
    """The training loop of one process; returns the last evaluation, as (Codes, Evaluation)."""
    with workers.recorder(run.folder, graph, session, statistics(run)) as recorder, \
            telling_what_is_saved(run, workers):
        trainer = workers.trainer(run.config, given_to(METHODS[run.config.method], run.train),
                                  graph, session, recorder)
        if run.folder.has_checkpoint():
            trainer.resume()
            recorder.say("resuming after %s" % trainer.progress)
        else:
            trainer.start()
        for progress in trainer.train():
            with workers.keep_waiting(progress.epoch >= run.config.epochs):
                codes, evaluation = evaluate_network(run, graph, session, progress)
                recorder.record_evaluation(progress.epoch, evaluation.results["mAP"])
                unseen = evaluation.results.get("unseen_mAP")
                recorder.say("evaluation after epoch %d, with the weights of epoch %d: mAP %.4f%s"
                             % (progress.epoch, progress.best_epoch, evaluation.results["mAP"],
                                "" if unseen is None else ", of people never seen %.4f" % unseen))
    return codes, evaluation


def evaluate_network(run, graph, session, progress):
    """Evaluates the session's weights; returns (Codes, evaluation.metrics.Evaluation)."""
    codes, unseen_codes, metadata = encode.encode_splits(
        graph.inference, session, run.config, run.dataset, run.train, run.test, run.unseen)
    metadata.update(encode.training_metadata(
        run.folder, progress.to_dict(), graph.num_parameters))
    return codes, evaluate(run, codes, metadata, unseen_codes)


@contextlib.contextmanager
def telling_what_is_saved(run, workers):
    """Adds to a LostWorker what is saved, and how to go on from there."""
    try:
        yield
    except LostWorker as error:
        if not run.folder.has_checkpoint():
            raise LostWorker("%s; nothing is saved yet: start again with --overwrite --run_dir %s"
                             % (error, run.folder))
        progress = Progress.from_dict(run.folder.checkpoint("last")[1])
        raise LostWorker("%s; saved after %s; to go on: python main.py --resume --run_dir %s%s"
                         % (error, progress, run.folder, workers.how_to_start))


def statistics(run):
    """What is saved with the weights, so that a lone photograph can be encoded: a dict."""
    return dict(train_mean=run.train.mean, train_std=run.train.std,
                pixel_range=list(run.train.pixel_range), crop=run.dataset.crop)


def write_unfinished_report(run, *reason):
    """The page of a run that did not end well; where it can't be written, the reason counts."""
    with contextlib.suppress(UserError):
        page.write_unfinished_report(run.folder, *reason)
