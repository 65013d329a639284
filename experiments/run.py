"""What a run is made of, and how it ends: evaluated and reported. Needs no TensorFlow."""

from typing import NamedTuple

import numpy as np

from config import Config, Dataset
from data_loader import ImageSet
from reports import console, report
from retrieval.evaluation import save_evaluation
from retrieval.projections import encode_projected
from runtime.run_folder import RunFolder


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
    codes, metadata = encode_projected(run.config, run.dataset, run.train, run.test)
    finish(run, codes, evaluate(run, codes, metadata))


def evaluate(run, codes, metadata):
    """Evaluates a run's codes into its folder: a metrics.Evaluation."""
    return save_evaluation(run.folder, codes, metadata,
                           authors_evaluation=run.config.authors_evaluation)


def finish(run, codes, evaluation):
    """Writes the run's report, notes that the run is finished and prints its results."""
    path = report.write_report(run.folder, evaluation, codes, (run.train, run.test), run.names)
    run.folder.finish("finished")
    print(console.results_table(evaluation.results))
    print("report: %s" % path)
