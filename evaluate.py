"""Evaluates runs, or codes from anywhere, by Hamming ranking.

    python evaluate.py RUN_DIR                      a run, also while it trains
    python evaluate.py RUN_DIR --export DIR         its encoder: weights alone, for use elsewhere
    python evaluate.py --codes FILE.npz --out DIR   codes from any source, without TensorFlow
    python evaluate.py RUN1 RUN2 ... --out DIR      compares runs by their saved codes

FILE.npz holds gallery_codes and query_codes ([images, num_bits], -1 and +1, or 0 and 1) and
gallery_labels and query_labels (integers or strings), like a run's codes.npz. A .mat file with the
same names works as well, and so does a folder with one .npy file for each array. docs/evaluation.md
defines the metrics.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os

from evaluation import vectors
from evaluation.codes import load_codes
from evaluation.vectors import save_evaluation
from experiments.run import evaluate, write_report
from methods.export import check_searchable, export_encoder
from methods.run import open_run
from reports import columns, page, runs
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError
from runtime.output_folder import OutputFolder, refuse_inside_output
from runtime.run_folder import RunFolder

DEFAULT_MAP_AT = 1000
MAX_MAP_AT = 10 ** 9  # beyond every gallery


def evaluate_run(path, data_dir, compute_dtype, options):
    """Encodes and evaluates one run; writes results, codes and report into its folder."""
    folder = RunFolder.open(path)
    options["authors_evaluation"] |= bool(folder.read_settings().get("authors_evaluation"))
    run = open_run(folder, data_dir, compute_dtype)
    encoded = run.method.encode(run)
    evaluation = evaluate(run, encoded, **options)
    report = write_report(run, encoded.codes, evaluation)
    epoch = encoded.metadata.get("epoch")
    print(f"{folder}{'' if epoch is None else f', weights of epoch {epoch}'}")
    print(f"{columns.results_text(evaluation.results)}\nreport: {report}")


def export_run(path, data_dir, compute_dtype, out):
    """Writes a run's encoder into the folder `out`."""
    refuse_inside_output(out)
    folder = RunFolder.open(path)
    check_searchable(folder)  # before the data is read
    metadata = export_encoder(open_run(folder, data_dir, compute_dtype), out)
    print(f"encoder: {out} ({metadata['method']}, {metadata['num_bits']} bits)")


def evaluate_file(path, out, options):
    """Evaluates codes from a file; writes results and report into the folder `out`."""
    notes = []
    codes = load_codes(path, notes)
    folder = OutputFolder.create(out, "evaluation")
    for note in notes:
        print(f"note: {note}")
    evaluation = save_evaluation(folder, codes, dict(codes=str(path)), **options)
    report = page.write_report(folder, evaluation, codes)
    print(f"{path}\n{columns.results_text(evaluation.results)}\nreport: {report}")


def compare_runs(paths, out, options):
    """Evaluates the saved codes or floats of several runs; one table and report go to `out`."""
    compared = []
    for path in paths:
        codes = vectors.load_vectors(RunFolder.open(path))
        compared.append(runs.compared_run(path, vectors.evaluate(codes, **options), codes))
    results = {run.name: run.evaluation.results for run in compared}
    folder = OutputFolder.create(out, "comparison")
    folder.write_json("comparison.json", results)
    report = page.write_comparison(folder, compared)
    print(f"{columns.comparison_text(results)}\nreport: {report}")


def parse_command_line(arguments):
    """The options. Raises UserError for ones that do not go together."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", nargs="*", help="folder of a finished or running run")
    parser.add_argument("--codes", metavar="FILE.npz", help="codes from any source")
    parser.add_argument("--out", metavar="DIR", help="folder for the results of --codes, or of a "
                                                     "comparison (default: comparison)")
    parser.add_argument("--export", metavar="DIR", help="folder for the run's encoder")
    parser.add_argument("--data_dir", metavar="DIR",
                        help="folder of the data sets, if it has moved since the run was trained")
    parser.add_argument("--compute_dtype", choices=("float32", "bfloat16"),
                        help="type to encode in (default: the run's own)")
    parser.add_argument("--map_at", type=int, default=DEFAULT_MAP_AT, metavar="R",
                        help="R of mAP@R, at least 1 (default: 1000)")
    parser.add_argument("--authors_evaluation", action="store_true",
                        help="also compute the mAP that the authors' release would print")
    options = parser.parse_args(arguments)
    if not 1 <= options.map_at <= MAX_MAP_AT:
        raise UserError(f"--map_at must be a whole number from 1 to {MAX_MAP_AT}")
    if bool(options.codes) == bool(options.run_dir):
        raise UserError("name either run folders or --codes FILE.npz; --help says more")
    if options.codes and not options.out:
        raise UserError("--codes needs --out DIR, the folder for its results")
    if len(options.run_dir) == 1 and options.out:
        raise UserError("--out goes with --codes or several runs; one run's results go into its "
                        "own folder")
    if len(options.run_dir) != 1 and (options.export or options.data_dir or options.compute_dtype):
        raise UserError("--export, --data_dir and --compute_dtype go with one run")
    if options.export and (options.authors_evaluation or options.map_at != DEFAULT_MAP_AT):
        raise UserError("--export evaluates nothing: leave --map_at and --authors_evaluation out")
    if len({os.path.realpath(path) for path in options.run_dir}) < len(options.run_dir):
        raise UserError("a run is named twice")
    return options


def main(arguments):
    """Evaluates what the command line names."""
    given = parse_command_line(arguments)
    options = dict(map_at=given.map_at, authors_evaluation=given.authors_evaluation)
    if given.codes:
        evaluate_file(given.codes, given.out, options)
    elif given.export:
        export_run(given.run_dir[0], given.data_dir, given.compute_dtype, given.export)
    elif len(given.run_dir) == 1:
        evaluate_run(given.run_dir[0], given.data_dir, given.compute_dtype, options)
    else:
        compare_runs(given.run_dir, given.out or "comparison", options)


if __name__ == "__main__":
    run_command(main)
