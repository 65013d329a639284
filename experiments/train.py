"""One run of a network, from a resolved Config and loaded data to a reported run folder."""

import sys
import time

from experiments.run import evaluate, finish
from reports import report
from retrieval import encode
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.provenance import noting_end
from runtime.tensorflow_setup import device_line, make_session, tf
from training.graph import build_step_graph
from training.loop import Interrupted, Trainer, TrainingDiverged
from training.recorder import Recorder


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
        with noting_end(run.folder), Recorder(run.folder, graph, session, statistics(run)) as recorder:
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


def where(error):
    """What a TrainingDiverged says of where it was: keyword arguments of the unfinished report."""
    if not isinstance(error, TrainingDiverged):
        return {}
    return dict(epoch=error.epoch, step=error.step, term=error.term)
