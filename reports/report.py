"""report.html of a run, of codes from elsewhere, of a comparison, and of a run that did not end."""

import datetime
from collections import OrderedDict

from evaluation.codes import Codes
from reports import code_figures, columns, figures, page, retrievals, runs
from reports.ranking import ranking
from reports.unseen import unseen_part
from reports.verdict import counted, overfitting, verdict
from runtime.errors import UserError

CARDS = ("top_1_accuracy", "r_precision", "precision_radius_2", "recall_radius_2")
FLOAT_CARDS = ("top_1_accuracy", "r_precision", "precision_at_50", "mAP_euclidean")


def write_report(folder, evaluation, codes, splits=None, names=None, suspects=None, baselines=None,
                 evaluated=None):
    """Writes report.html and figures/ of a run, or of codes that are no run's.

    Args:
        folder: an OutputFolder; if it holds a run, its settings, provenance and history are shown.
        evaluation: metrics.Evaluation.
        codes: Codes, or Floats. These, and codes that are numbers, have no figures of bits.
        splits: (train, test) ImageSets in the order of the codes, to show retrievals.
        names: identities' names by label.
        suspects: photographs that may be mislabelled, most suspect first: a list of dicts of
            column title -> text or number, all with the same titles; None where nobody looked.
        baselines: OrderedDict of name -> results of other runs to hold the mAP against.
        evaluated: datetime of the evaluation; by default now.

    Returns:
        The page's Path.
    """
    record = runs.read_record(folder.path)
    results = evaluation.results
    is_codes = isinstance(codes, Codes)
    size = ("%d bits" % results["num_bits"] if is_codes
            else "{:,} floats".format(results["num_values"]))
    subject = "%d-bit codes" % results["num_bits"] if is_codes else size
    if record.settings:
        subject = "%s on %s" % (runs.method_title(record.settings),
                                runs.dataset_title(record.settings))
    rankings = OrderedDict([("", ranking(evaluation, codes))])
    drawn = [("Ranking", [figures.precision_recall(rankings), figures.at_n(rankings, "precision"),
                          figures.at_n(rankings, "recall")])]
    if is_codes and not codes.numbers:
        drawn.append(("Distances and bits", [
            figures.within_radius(evaluation), code_figures.distances(evaluation),
            code_figures.bit_balance(codes), code_figures.bit_correlation_matrix(codes)]))
    if record.history:
        drawn.append(("Training", code_figures.history(record.history, record.settings)))
    said = verdict(evaluation, codes, subject)
    said.warnings.extend(filter(None, [overfitting(record.history)]))
    found = retrievals.examples(evaluation, codes, *splits, names=names) if splits else []
    return page.write_page(
        folder, "run.html",
        title=runs.run_title(record.settings, size),
        folder_name=folder.path.resolve().name, evaluated=_date(evaluated),
        status=runs.status(record), verdict=said,
        baselines=[(name, values["mAP"]) for name, values in (baselines or {}).items()],
        cards=[(columns.column(name).title, columns.shown(name, results[name]))
               for name in (CARDS if is_codes else FLOAT_CARDS)],
        retrievals=found, distance=_distance_note(codes), suspects=suspects,
        unseen=unseen_part(folder, results, codes),
        figure_groups=[(title, page.embedded(folder, drawings)) for title, drawings in drawn],
        groups=columns.grouped(results), **_record_values(record))


def write_unfinished_report(folder, reason=None, epoch=None, step=None, term=None):
    """Writes report.html of a run that diverged, failed or was stopped.

    It needs history.csv, provenance.json and config.json alone; results of an evaluation on the
    way are shown if there are any.

    Args:
        folder: the run's RunFolder.
        reason: why it ended; by default what its provenance says.
        epoch, step: where it ended, counted from 1.
        term: the term of the loss that was not finite.

    Returns:
        The page's Path.
    """
    record = runs.read_record(folder.path)
    where = [("epoch", epoch), ("step", step), ("term that was not finite", term)]
    drawn = [("Training until then", code_figures.history(record.history, record.settings))] \
        if record.history else []
    try:
        results = folder.read_results()
    except UserError:  # not evaluated yet
        results = {}
    return page.write_page(
        folder, "unfinished.html",
        title=runs.run_title(record.settings,
                             "%s bits" % record.settings.get("num_bits", "?")),
        folder_name=folder.path.resolve().name,
        status=runs.status(record, reason) or "Not finished.",
        where=[(name, value) for name, value in where if value is not None],
        last=record.history[-1] if record.history else None,
        epochs=record.settings.get("epochs"),
        figure_groups=[(title, page.embedded(folder, drawings)) for title, drawings in drawn],
        groups=columns.grouped(results) if results else {}, **_record_values(record))


def write_comparison(folder, compared):
    """Writes report.html and figures/ that lay several runs over one another.

    Args:
        folder: an OutputFolder.
        compared: list of runs.ComparedRuns, in any order.

    Returns:
        The page's Path.
    """
    compared = sorted(compared, key=lambda run: -run.evaluation.results["mAP"])
    prefix, names = columns.without_common_folder([run.name for run in compared])
    keys, rows = columns.comparison(OrderedDict(
        (name, run.evaluation.results) for name, run in zip(names, compared)))
    warnings = runs.data_warnings(compared)
    rankings = OrderedDict()
    for name, run in zip(names, compared):
        drawn_run = ranking(run.evaluation, run.codes)
        if warnings:  # bounds of one run are not those of the others
            drawn_run = drawn_run._replace(chance=None, gallery=None)
        rankings[name] = drawn_run
    drawn = [figures.precision_recall(rankings), figures.at_n(rankings, "precision"),
             figures.at_n(rankings, "recall")]
    best = compared[0].evaluation.results["mAP"]
    worst = compared[-1].evaluation.results["mAP"]
    return page.write_page(
        folder, "comparison.html", title="Comparison of %s" % counted(len(compared), "run"),
        evaluated=_date(None), prefix=prefix, warnings=warnings,
        sentence="%s is best with mAP %.4f, %s last with %.4f." % (
            names[0], best, names[-1], worst),
        columns=[columns.column(key) for key in keys], rows=rows,
        differences=runs.differences(compared), known=any(run.settings for run in compared),
        figures=page.embedded(folder, drawn))


def _distance_note(codes):
    """A sentence on the number beside each retrieved image."""
    if not isinstance(codes, Codes):
        return "The number is 1 - the cosine of the angle."
    if codes.numbers:
        return "The number is 0 for the query's own class number, %d for any other." % (
            codes.gallery_codes.shape[1])
    return "The number is the Hamming distance."


def _record_values(record):
    """What the templates show of a RunRecord."""
    return dict(settings=runs.applicable_settings(record.settings),
                entries=[runs.provenance_rows(entry) for entry in record.entries])


def _date(moment):
    moment = moment or datetime.datetime.now(datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d %H:%M UTC" if moment.tzinfo else "%Y-%m-%d %H:%M")
