"""What a run is made of, and how it ends: evaluated and reported. Needs no TensorFlow."""

from collections import OrderedDict
from typing import NamedTuple, Optional

import numpy as np

from config import Config, Dataset
from data_loader import ImageSet
from evaluation.codes import Codes
from evaluation.saving import save_evaluation
from faces import mislabelled
from methods.projections import encode_projected
from reports import columns, page
from reports.runs import read_record
from reports.summary import closing_notes
from runtime.provenance import noting_end
from runtime.run_folder import RunFolder


class Run(NamedTuple):
    """What a run is made of.

    Attributes:
        config, dataset: its settings, complete, and its data set.
        folder: its locked RunFolder.
        train, test: ImageSets: the gallery, and the queries.
        digest: data_loader.data_digest of all images.
        names: the identities' names by label, or None.
        unseen: (gallery, queries) of people never seen, two ImageSets; None where there are none.
    """

    config: Config
    dataset: Dataset
    folder: RunFolder
    train: ImageSet
    test: ImageSet
    digest: str
    names: list
    unseen: Optional[tuple] = None


def fit_projection(run):
    """Fits a projection, or takes embeddings as they are; evaluates and writes the run's report."""
    finish_run(run, encode_projected, None, "CPU (numpy %s)" % np.__version__)


def finish_run(run, encode, tensorflow, device, network_start=None):
    """A run without training of its own: encodes, evaluates and reports.

    Args:
        run: a Run.
        encode: function that takes and returns what methods.projections.encode_projected does.
        tensorflow, device, network_start: see runtime.provenance.new_entry.
    """
    run.folder.begin(tensorflow, device, run.digest, 1, network_start)
    with noting_end(run.folder):
        codes, unseen_codes, metadata = encode(
            run.config, run.dataset, run.train, run.test, run.unseen)
        evaluation = evaluate(run, codes, metadata, unseen_codes)
        path = write_report(run, codes, evaluation)
    print_results(run, codes, evaluation, path)


def evaluate(run, codes, metadata, unseen_codes=None):
    """Evaluates a run's codes into its folder: a metrics.Evaluation."""
    return save_evaluation(run.folder, codes, metadata, unseen_codes,
                           authors_evaluation=run.config.authors_evaluation)


def write_report(run, codes, evaluation):
    """Writes the run's report.html; returns its Path.

    Of people's own photographs, those that the codes place with somebody else are listed, there
    and in suspects.csv.

    Args:
        run: a Run.
        codes: its Codes, or Floats.
        evaluation: metrics.Evaluation.
    """
    suspects = None
    if run.dataset.source == "prepared" and isinstance(codes, Codes) and not codes.numbers:
        rows = mislabelled.suspects_table(codes, run.dataset, run.names,
                                          (run.train.rows, run.test.rows))
        titles = [name.replace("_", " ") for name in mislabelled.COLUMNS]
        suspects = [OrderedDict(zip(titles, row)) for row in rows]
        run.folder.write_table("suspects.csv", OrderedDict(zip(
            mislabelled.COLUMNS, zip(*rows) if rows else [[]] * len(titles))))
    return page.write_report(run.folder, evaluation, codes, (run.train, run.test), run.names,
                               suspects=suspects)


def print_results(run, codes, evaluation, path):
    """Prints the results, what they mean for the run's use, and where the report is."""
    print(columns.results_text(evaluation.results))
    for note in closing_notes(read_record(run.folder.path), codes):
        print("note: " + note)
    print("report: %s" % path, flush=True)
