"""report.html: of a run, of codes from elsewhere, of a comparison, and of a run that did not end.

A page is one file that loads nothing else, for light and dark screens.
"""

import datetime

from markupsafe import Markup

from evaluation.codes import Codes
from reports import columns, figures, ranking, runs, style, summary
from reports.columns import counted
from reports.html import TEMPLATES, data_url, render
from runtime.errors import UserError

CARDS = ("top_1_accuracy", "r_precision", "precision_radius_2", "recall_radius_2")
FLOAT_CARDS = ("top_1_accuracy", "r_precision", "precision_at_50", "mAP_euclidean")


def write_report(folder, evaluation, codes, splits=None, names=None, suspects=None):
    """Writes report.html and figures/ of a run, or of codes that belong to no run.

    Args:
        folder: an OutputFolder; if it holds a run, its settings, provenance and history are shown.
        evaluation: metrics.Evaluation.
        codes: Codes, or Floats. Floats and class numbers have no figures of bits.
        splits: (train, test) ImageSets in the order of the codes, to show retrievals.
        names: people's names by label.
        suspects: photographs that may be mislabelled, most suspect first: a list of dicts of
            column title -> text or number (of "picture": the address of an image), all with the
            same titles; None if they were not looked for.

    Returns:
        The page's Path.
    """
    record = runs.read_record(folder.path)
    results = evaluation.results
    is_codes = isinstance(codes, Codes)
    size = (f"{results['num_bits']} bits" if is_codes
            else f"{results['num_values']:,} floats")
    subject = f"{results['num_bits']}-bit codes" if is_codes else size
    if record.settings:
        subject = f"{runs.method_title(record.settings)} on {runs.dataset_title(record.settings)}"
    rankings = {"": ranking.ranking(evaluation, codes)}
    drawn = [("Ranking", [figures.precision_recall(rankings), figures.at_n(rankings, "precision"),
                          figures.at_n(rankings, "recall")])]
    if codes.has_bits:
        drawn.append(("Distances and bits", [
            figures.within_radius(evaluation), figures.distances(evaluation),
            figures.bit_balance(codes), figures.bit_correlation_matrix(codes)]))
    if record.history:
        drawn.append(("Training", figures.history(record.history, record.settings)))
    said = summary.summarise(evaluation, codes, subject)
    said.warnings.extend(summary.closing_notes(record, codes))
    return write_page(
        folder, "run.html",
        title=runs.run_title(record.settings, size), folder_name=folder.path.resolve().name,
        evaluated=_now(), status=runs.status(record), summary=said,
        cards=[(columns.column(name).title, columns.shown(name, results[name]))
               for name in (CARDS if is_codes else FLOAT_CARDS)],
        retrievals=ranking.examples(evaluation, codes, *splits, names=names) if splits else [],
        data_url=data_url,
        distance=_distance_note(codes), suspects=suspects,
        unseen=summary.unseen_people(folder, results, codes),
        figure_groups=[(title, embedded(folder, drawings)) for title, drawings in drawn],
        groups=columns.grouped(results), **_record_values(record))


def write_unfinished_report(folder, reason=None, epoch=None, step=None, term=None):
    """Writes report.html of a run that diverged, failed or was stopped.

    It needs history.csv, provenance.json and config.json alone, and shows the last evaluation if
    there is one.

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
    drawn = [("Training until then", figures.history(record.history, record.settings))] \
        if record.history else []
    try:
        results = folder.read_results()
    except UserError:  # not evaluated yet
        results = {}
    return write_page(
        folder, "unfinished.html",
        title=runs.run_title(record.settings, f"{record.settings.get('num_bits', '?')} bits"),
        folder_name=folder.path.resolve().name,
        status=runs.status(record, reason) or "Not finished.",
        where=[(name, value) for name, value in where if value is not None],
        last=record.history[-1] if record.history else None,
        epochs=record.settings.get("epochs"),
        figure_groups=[(title, embedded(folder, drawings)) for title, drawings in drawn],
        groups=columns.grouped(results) if results else {}, **_record_values(record))


def write_comparison(folder, compared):
    """Writes report.html and figures/ of several runs beside one another.

    Args:
        folder: an OutputFolder.
        compared: list of runs.ComparedRuns, in any order.

    Returns:
        The page's Path.
    """
    compared = sorted(compared, key=lambda run: -run.evaluation.results["mAP"])
    prefix, names = columns.without_common_folder([run.name for run in compared])
    keys, rows = columns.comparison(
        {name: run.evaluation.results for name, run in zip(names, compared)})
    warnings = runs.data_warnings(compared)
    rankings = {}
    for name, run in zip(names, compared):
        rankings[name] = ranking.ranking(run.evaluation, run.codes)
        if warnings:  # the bounds of one run are not those of the others
            rankings[name] = rankings[name]._replace(chance=None, gallery=None)
    drawn = [figures.precision_recall(rankings), figures.at_n(rankings, "precision"),
             figures.at_n(rankings, "recall")]
    best, worst = [run.evaluation.results["mAP"] for run in (compared[0], compared[-1])]
    return write_page(
        folder, "comparison.html", title=f"Comparison of {counted(len(compared), 'run')}",
        evaluated=_now(), prefix=prefix, warnings=warnings,
        sentence=f"{names[0]} is best with mAP {best:.4f}, {names[-1]} last with {worst:.4f}.",
        columns=[columns.column(key) for key in keys], rows=rows,
        differences=runs.differences(compared), known=any(run.settings for run in compared),
        figures=embedded(folder, drawn))


def write_page(folder, template, **values):
    """Fills in a template and writes it as report.html.

    Args:
        folder: an OutputFolder.
        template: name of a file in templates/.
        values: what the template shows.

    Returns:
        The page's Path.
    """
    folder.write_text("report.html", render(TEMPLATES / template, css=style.CSS, **values))
    return folder.path / "report.html"


def embedded(folder, drawings):
    """Drawings for the template macro `figures`; PNG copies, dark on white, go to figures/.

    Returns:
        List of dicts: name, svg (markup), caption, alt, legend.
    """
    found = []
    for drawing in drawings:
        drawing.figure.tight_layout(pad=0.5)
        with folder.replacing(f"figures/{drawing.name}.png") as temporary:
            style.save_png(drawing, temporary)
        found.append(dict(name=drawing.name, svg=Markup(style.svg(drawing)),
                          caption=drawing.caption, alt=drawing.alt, legend=drawing.legend))
    return found


def _distance_note(codes):
    """A sentence on the number beside each retrieved image."""
    if not isinstance(codes, Codes):
        return "The number is the cosine distance."
    if codes.numbers:
        bits = codes.gallery_codes.shape[1]
        return f"The number is 0 for the query's own class number, {bits} for any other."
    return "The number is the Hamming distance."


def _record_values(record):
    """What the templates show of a RunRecord."""
    return dict(settings=runs.applicable_settings(record.settings),
                entries=[runs.provenance_rows(entry) for entry in record.entries])


def _now():
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
