"""Numbers -> text and pages: tables, and report.html of a run, of codes, of a comparison.

Each page is one file that asks for nothing else. Its figures are SVG that take the page's own text
colour, so that they read on light and dark; PNG copies on white go to figures/.
"""

import base64
import html
import io
import re
from collections import OrderedDict

import matplotlib

from reports import figures

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --page: #fff; --card: #f5f6f8;
  --line: #d9dde3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --page: #14171c;
  --card: #1d2229; --line: #343b46; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 16px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5em; line-height: 1.25; overflow-wrap: anywhere; } h2 { margin-top: 1.6em; }
p, td, th { overflow-wrap: anywhere; } .soft { color: var(--soft); }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; }
.numbers div { background: var(--card); border-radius: 8px; padding: 10px 16px; }
.numbers b { display: block; font-size: 1.5em; }
a { color: inherit; }
.figures { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
figure { margin: 0 0 14px; background: var(--card); border-radius: 8px; padding: 8px; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; } .scroll img { display: block; min-width: 720px; max-width: 100%; }
table { border-collapse: collapse; width: 100%; font-size: 0.93em; }
th, td { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.columns { display: grid; gap: 0 32px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
td.value { text-align: right; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; font-weight: 600; margin-top: 1.2em; }
"""


def label(name):
    """A result's name for people: mAP_at_1000 -> mAP at 1000."""
    return name.replace("_", " ")


def shown(value):
    """A result's value for people."""
    return "%.4f" % value if isinstance(value, float) else str(value)


def results_table(results):
    """Results as text, one a line."""
    return comparison_table({"": results})


def comparison_table(columns):
    """Text that sets several results side by side.

    Args:
        columns: dict of name -> results.
    """
    names = list(OrderedDict.fromkeys(name for results in columns.values() for name in results))
    cells = [list(columns)] + [
        [shown(results[name]) if name in results else "-" for results in columns.values()]
        for name in names]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  %-26s %s" % (title, "  ".join(cell.rjust(width) for cell, width in zip(
        row, widths))) for title, row in zip([""] + [label(name) for name in names], cells)]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def write_report(folder, evaluation, codes, splits=None, names=None):
    """Writes report.html and figures/ of a run, or of codes that are no run's.

    Args:
        folder: a RunFolder; its settings, provenance and history are shown if it has them.
        evaluation: metrics.Evaluation.
        codes: metrics.Codes.
        splits: (train, test) ImageSets in the order of the codes, to show retrievals.
        names: identities' names by label.

    Returns:
        The page's Path.
    """
    one = {"": evaluation}
    drawn = [("precision_recall", figures.precision_recall_figure(one)),
               ("precision_at_n", figures.at_n_figure(one, "precision")),
               ("recall_at_n", figures.at_n_figure(one, "recall")),
               ("distances", figures.distance_figure(evaluation)),
               ("bit_balance", figures.bit_balance_figure(codes)),
               ("bit_correlation", figures.bit_correlation_figure(codes))]
    history = folder.read_history()
    if history:
        drawn += zip(("losses", "accuracy"), figures.history_figures(history))
    results = evaluation.results
    parts = [_headline(results), "<h2>Figures</h2>", figures_html(folder, drawn)]
    if splits:
        sheet = figures.contact_sheet(evaluation, codes, *splits, names=names)
        parts += ["<h2>Retrievals</h2><p class=soft>Each row: a query, then the nearest gallery "
                  "images. Green frame and + : the same person; red and \u2212 : another. Below: "
                  "the Hamming distance.</p>", _sheet(folder, sheet)]
    parts += ["<h2>All results</h2>", _table(results, "columns")]
    if folder.holds_run():
        parts += ["<details open><summary>Settings</summary>",
                  _table(folder.read_settings(), "columns", str), "</details>"]
        for number, entry in enumerate(folder.provenance(), 1):
            parts += ["<details><summary>Provenance, start %d</summary>" % number,
                      _table(dict(entry, command_line=" ".join(entry["command_line"]))),
                      "</details>"]
    title = "%s \u2014 %d-bit codes" % (folder.path.resolve().name, results["num_bits"])
    return write_page(folder, title, parts)


def write_comparison(folder, evaluations):
    """Writes report.html and figures/ that lay several evaluations over one another.

    Args:
        folder: a RunFolder for the output.
        evaluations: OrderedDict of name -> metrics.Evaluation.

    Returns:
        The page's Path.
    """
    drawn = [("precision_recall", figures.precision_recall_figure(evaluations)),
               ("precision_at_n", figures.at_n_figure(evaluations, "precision")),
               ("recall_at_n", figures.at_n_figure(evaluations, "recall"))]
    names = list(next(iter(evaluations.values())).results)
    rows = ["<tr><th></th>%s</tr>" % "".join(
        "<th>%s</th>" % html.escape(name) for name in evaluations)]
    for name in names:
        cells = (one.results.get(name, "") for one in evaluations.values())
        rows.append("<tr><th>%s</th>%s</tr>" % (html.escape(label(name)), "".join(
            "<td>%s</td>" % shown(cell) for cell in cells)))
    return write_page(folder, "Comparison of %d runs" % len(evaluations), [
        figures_html(folder, drawn),
        "<h2>Results</h2><div class=scroll><table>%s</table></div>" % "".join(rows)])


def write_page(folder, title, parts):
    """Writes report.html: a title and parts of HTML. Returns its Path."""
    folder.write_text("report.html", (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<title>%s</title><style>%s</style></head><body><h1>%s</h1>\n%s\n</body></html>\n"
        % (html.escape(title), STYLE, html.escape(title), "\n".join(parts))))
    return folder.path / "report.html"


def _headline(results):
    cards = [("mAP", "mAP"), ("mAP_worst_case", "mAP, worst tie order"),
             ("mAP_best_case", "mAP, best tie order"), ("top_1_accuracy", "nearest code right"),
             ("precision_radius_2", "precision within radius 2"),
             ("recall_radius_2", "recall within radius 2")]
    warning = ""
    if results.get("queries_also_in_gallery"):
        warning = ("<p><b>%d queries are also in the gallery</b>: retrieving an image by itself "
                   "inflates every number here.</p>" % results["queries_also_in_gallery"])
    return "<div class=numbers>%s</div>%s" % ("".join(
        "<div><b>%.4f</b>%s</div>" % (results[name], text) for name, text in cards), warning)


def _table(values, kind="", shown=shown):
    """A dict as a table, or (kind "columns") as several that stand beside one another."""
    rows = ["<tr><th>%s</th><td class=value>%s</td></tr>" % (
        html.escape(label(name)), html.escape(shown(value))) for name, value in values.items()]
    size = -(-len(rows) // 3) if kind == "columns" else len(rows)
    return "<div class='%s'>%s</div>" % (kind, "".join(
        "<table>%s</table>" % "".join(rows[start:start + size])
        for start in range(0, len(rows), size)))


def figures_html(folder, drawn, wide=False):
    """Figures as HTML, with PNG copies in figures/.

    Args:
        folder: a RunFolder.
        drawn: list of (name, figure).
        wide: whether each takes the page's whole width.
    """
    return "<div class='%s'>%s</div>" % ("" if wide else "figures", "".join(
        "<figure>%s</figure>" % _figure(folder, name, figure) for name, figure in drawn))


def _figure(folder, name, figure):
    """Saves a figure as PNG, dark on white; returns it as SVG that takes the page's colour."""
    figure.tight_layout()
    with folder.replacing("figures/%s.png" % name) as temporary:
        figure.savefig(str(temporary), format="png", dpi=150, facecolor="white")
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        for axes in figure.axes:
            _paint(axes, figures.INK)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", facecolor="none", transparent=True,
                       metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg"):].replace(figures.INK, "currentColor")
    # ids are counted from 1 in each figure; the page has several
    svg = re.sub(r'(id="|"#|url\(#)', lambda match: match.group(0) + name + "-", svg)
    return svg.replace("<svg", "<svg role='img' aria-label='%s'" % html.escape(label(name)), 1)


def _paint(axes, colour):
    """Gives an axes' text, ticks and spines one colour."""
    axes.tick_params(colors=colour)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(colour)
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
    legend = axes.get_legend()
    for text in legend.get_texts() if legend else ():
        text.set_color(colour)


def _sheet(folder, sheet):
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    with folder.replacing("figures/retrievals.png") as temporary:
        temporary.write_bytes(stream.getvalue())
    return "<div class=scroll><img alt='Retrievals' src='data:image/png;base64,%s'></div>" % (
        base64.b64encode(stream.getvalue()).decode())
