"""Performs one run, from its loaded data to its report, in one or several workers."""

import contextlib
import sys
import time

import numpy as np

import data_loader
from config import Config
from evaluation.vectors import save_evaluation
from faces import mislabelled
from methods.run import load_run
from methods.table import method_of, resolve
from reports import columns, page
from reports.html import data_url
from reports.runs import read_record
from reports.summary import closing_notes, summarise
from runtime.command_line import duration
from runtime.errors import UserError
from runtime.provenance import noting_end
from training.distributed.coordination import ALONE, LostWorker
from training.loop import Interrupted, TrainingDiverged

# With fewer images, the mean and variance of a share are poor estimates.
FEW_IMAGES = 16


def perform(run, workers=ALONE):
    """Trains or fits the run's method, evaluates its codes and writes its report.

    Ctrl-C and SIGTERM save the state and end the process with the shell's exit code for the signal.

    Args:
        run: a methods.run.Run with a locked folder.
        workers: a training.distributed.coordination.Workers, of which this is worker 0, or ALONE.
    """
    started = time.perf_counter()
    try:
        with noting_end(run.folder):
            encoded, evaluation = run.method.make_codes(
                run, lambda encoded: evaluate(run, encoded), workers)
            report = write_report(run, encoded.codes, evaluation)
    except Interrupted as stop:
        write_unfinished_report(run)
        print(stop.way_out, file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except TrainingDiverged as error:
        write_unfinished_report(run, str(error), error.epoch, error.step, error.term)
        raise
    except UserError as error:
        write_unfinished_report(run, str(error))
        raise
    print(columns.results_text(evaluation.results))
    for note in (summarise(evaluation, encoded.codes, "").warnings
                 + closing_notes(read_record(run.folder.path), encoded.codes)):
        print(f"note: {note}")
    print(f"report: {report}", flush=True)
    print(f"took {duration(time.perf_counter() - started)} in all")


def evaluate(run, encoded, **options):
    """Evaluates a run's codes, writes the results into its folder, returns the metrics.Evaluation.

    Args:
        run: a Run.
        encoded: a methods.method.Encoded.
        options: of metrics.evaluate_codes.
    """
    options.setdefault("authors_evaluation", run.config.authors_evaluation)
    return save_evaluation(run.folder, encoded.codes, encoded.metadata, encoded.unseen_codes,
                           **options)


def write_report(run, codes, evaluation):
    """Writes the run's report.html; returns its Path.

    For prepared data sets, the report and suspects.csv list photographs whose codes lie among those
    of another person.

    Args:
        run: a Run.
        codes: its Codes, or Floats.
        evaluation: metrics.Evaluation.
    """
    suspects = None
    if run.dataset.source == "prepared" and codes.has_bits:
        rows = mislabelled.suspects_table(codes, run.dataset, run.names,
                                          (run.train.rows, run.test.rows))
        titles = [name.replace("_", " ") for name in mislabelled.COLUMNS]
        suspects = [dict(zip(titles, row), picture=_picture(run, *row[:2])) for row in rows]
        run.folder.write_table("suspects.csv", dict(zip(mislabelled.COLUMNS, zip(*rows)))
                               or dict.fromkeys(mislabelled.COLUMNS, ()))
    return page.write_report(run.folder, evaluation, codes, (run.train, run.test), run.names,
                             suspects=suspects)


def _picture(run, split, row):
    """The address of an image's picture; `row` is its row in the data set's split."""
    data = run.train if split == "train" else run.test
    index = row if data.rows is None else int(np.flatnonzero(data.rows == row)[0])
    return data_url(data_loader.displayable(data, [index])[0], jpeg_quality=85)


def write_unfinished_report(run, *reason):
    """Writes the page of a run that did not finish; an error here must not hide the reason."""
    with contextlib.suppress(UserError):
        page.write_unfinished_report(run.folder, *reason)


# Several workers

def lead(connect, config):
    """Connects worker 0, which is this process, with the others and sends them its settings.

    Args:
        connect: see training.distributed.workers.launch; None without other workers.
        config: the run's Config.

    Returns:
        training.distributed.coordination.Workers, or ALONE.

    Raises:
        UserError: the method has no steps to share; see also Workers.
    """
    if connect is None:
        return ALONE
    method_of(config).check_workers(config)
    workers = connect()
    settings = config.to_dict()
    if settings["data_dir"] == Config.data_dir:
        del settings["data_dir"]  # each worker has its own
    workers.exchange(settings)
    images = config.batch_size // workers.count
    if images < FEW_IMAGES and not config.sync_batch_norm:
        print(f"note: batch norm sees about {images} images of each batch in each worker, which "
              f"are few; --sync_batch_norm true lets it see all {config.batch_size}")
    return workers


def follow(workers, data_dir):
    """Performs the part of another worker in worker 0's run.

    Args:
        workers: Workers.
        data_dir: folder of the data sets on this machine; None for worker 0's, or the default.
    """
    try:
        settings = workers.exchange(None)[0]
        if data_dir is not None:
            settings["data_dir"] = data_dir
        try:
            run = load_run(*resolve(settings))
        except UserError as error:
            workers.check_data(None, str(error))
            raise
        workers.check_data(run.digest)
        run.method.take_part(run, workers)
    except Interrupted as stop:
        sys.exit(128 + stop.signal_number)
    except LostWorker as error:
        raise LostWorker(f"{error}; what worker 0 has saved stays; to continue: the same command "
                         "with --resume")
