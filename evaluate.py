"""Evaluates runs, or codes from anywhere, by Hamming ranking.

    python evaluate.py RUN_DIR                      a run's best checkpoint, also while it trains
    python evaluate.py --codes FILE.npz --out DIR   codes from any source, without TensorFlow
    python evaluate.py RUN1 RUN2 ... --out DIR      compares runs by the codes they have saved

FILE.npz holds gallery_codes and query_codes ([images, num_bits], -1 or +1) and gallery_labels and
query_labels (integers or strings), as a run's codes.npz does. Definitions: metrics.py.
"""

import time
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np

from config import ArgumentParser, UserError, run_command
from reports import report
from retrieval import metrics
from runtime.run_folder import RunFolder


def load_codes(path):
    """metrics.Codes from an .npz file. Raises UserError if it is missing, damaged or malformed."""
    if not Path(path).exists():
        raise UserError("%s: no such file" % path)
    if not zipfile.is_zipfile(str(path)):
        raise UserError("%s is not an .npz file" % path)
    try:
        with np.load(str(path), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in metrics.Codes._fields if name in arrays.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError("%s cannot be read as codes: %s" % (path, error))
    missing = [name for name in metrics.Codes._fields[:4] if name not in found]
    if missing:
        raise UserError("%s lacks the array %s" % (path, ", ".join(missing)))
    return metrics.checked_codes(source=path, **found)


def save_evaluation(folder, codes, facts, **options):
    """Evaluates codes and writes results.json, codes.npz and the curves into a folder.

    Args:
        folder: a RunFolder.
        codes: metrics.Codes.
        facts: dict of what else results.json shall say (see encode.encode_trained).
        options: of metrics.evaluate_codes.

    Returns:
        A metrics.Evaluation.
    """
    started = time.perf_counter()
    evaluation = metrics.evaluate_codes(codes, **options)
    evaluation.results.update(facts)
    evaluation.results["ranking_seconds"] = round(time.perf_counter() - started, 3)
    folder.write_codes(**{name: array for name, array in codes._asdict().items()
                          if array is not None})
    folder.write_table("curves_at_n.csv", OrderedDict([
        ("n", range(1, len(evaluation.precision_at) + 1)),
        ("precision", evaluation.precision_at), ("recall", evaluation.recall_at)]))
    folder.write_table("curves_within_radius.csv", OrderedDict([
        ("radius", range(len(evaluation.precision_within))),
        ("precision", evaluation.precision_within), ("recall", evaluation.recall_within),
        ("queries_answered", evaluation.answered),
        ("pairs_of_same_label", evaluation.same),
        ("pairs_of_different_labels", evaluation.different)]))
    folder.write_json("results.json", evaluation.results)
    return evaluation


def evaluate_run(path, options):
    """Encodes and evaluates one run; writes results, codes and report into its folder."""
    # Here alone: codes from elsewhere are evaluated without TensorFlow.
    import data_loader
    from retrieval import encode

    folder = RunFolder.open(path)
    config = folder.read_config()
    options["authors_evaluation"] |= config.authors_evaluation
    codes, facts, train, test = encode.encode_run(folder)
    evaluation = save_evaluation(folder, codes, facts, **options)
    weights = ", weights of epoch %d" % facts["epoch"] if "epoch" in facts else ""
    print("%s%s\n%s" % (folder, weights, report.results_table(evaluation.results)))
    print("report: %s" % report.write_report(
        folder, evaluation, codes, (train, test), data_loader.identity_names(config)))


def evaluate_file(path, out, options):
    """Evaluates codes from a file; writes results and report into the folder `out`."""
    codes = load_codes(path)
    folder = RunFolder.output(out)
    evaluation = save_evaluation(folder, codes, {"codes": str(path)}, **options)
    print("%s\n%s" % (path, report.results_table(evaluation.results)))
    print("report: %s" % report.write_report(folder, evaluation, codes))


def compare_runs(paths, out, options):
    """Evaluates the saved codes of several runs; writes one table and one report into `out`."""
    evaluations = OrderedDict()
    for path in paths:
        folder = RunFolder.open(path)
        if not (folder.path / "codes.npz").exists():
            raise UserError("%s has no codes.npz yet; run: python evaluate.py %s" % (path, path))
        evaluations[str(path)] = metrics.evaluate_codes(
            load_codes(folder.path / "codes.npz"), **options)
    results = OrderedDict((name, one.results) for name, one in evaluations.items())
    folder = RunFolder.output(out)
    folder.write_json("comparison.json", results)
    print(report.comparison_table(results))
    print("report: %s" % report.write_comparison(folder, evaluations))


def main(arguments):
    """Evaluates what the command line names."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", nargs="*", help="folder of a finished or running run")
    parser.add_argument("--codes", metavar="FILE.npz", help="codes from any source")
    parser.add_argument("--out", metavar="DIR", help="folder for the results of --codes, or of a "
                                                     "comparison (default: comparison)")
    parser.add_argument("--map_at", type=int, default=1000, metavar="R",
                        help="R of mAP@R, at least 1 (default: 1000)")
    parser.add_argument("--authors_evaluation", action="store_true",
                        help="also the mAP that the authors' release would print")
    given = parser.parse_args(arguments)
    if given.map_at < 1:
        raise UserError("--map_at is %d; it must be at least 1" % given.map_at)
    options = dict(map_at=given.map_at, authors_evaluation=given.authors_evaluation)
    if bool(given.codes) == bool(given.run_dir):
        raise UserError("name either run folders or --codes FILE.npz; --help says more")
    if given.codes:
        if not given.out:
            raise UserError("--codes needs --out DIR, the folder for its results")
        evaluate_file(given.codes, given.out, options)
    elif len(given.run_dir) == 1:
        if given.out:
            raise UserError("--out goes with --codes or several runs; one run's results go into "
                            "its own folder")
        evaluate_run(given.run_dir[0], options)
    else:
        if len(set(map(Path, given.run_dir))) < len(given.run_dir):
            raise UserError("a run is named twice")
        compare_runs(given.run_dir, given.out or "comparison", options)


if __name__ == "__main__":
    run_command(main)
