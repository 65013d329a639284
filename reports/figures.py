"""Curves of rankings: precision and recall, over ranks and over Hamming radii.

Each function returns a Drawing: the figure, a caption with its numbers, and what is seen. Curves of
several runs are coloured and labelled while they are few; of many, only the named ones are.
"""

import textwrap
from collections import OrderedDict

import numpy as np

from reports import style
from reports.style import GREY, INK, Drawing

FEW = len(style.LINES)  # lines that can be told apart
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)


def line_styles(names, named=None):
    """A style.Line for each name.

    Args:
        names: names of the lines, best first.
        named: those that take colours; by default all while they are few, else the first three.

    Returns:
        OrderedDict of name -> Line, grey lines first so that coloured ones lie over them.
    """
    if named is None:
        named = names if len(names) <= FEW else names[:3]
    colours = OrderedDict(zip([name for name in names if name in named], style.LINES))
    styled = OrderedDict((name, style.OTHERS) for name in names if name not in colours)
    styled.update(colours)
    return styled


def _draw_all(axes, curves, styled, labels):
    """Draws name -> (x, y); labels the coloured lines. Returns the legend."""
    for name, line in styled.items():
        style.draw_line(axes, *curves[name], line=line,
                        linewidth=0.8 if line is style.OTHERS else 1.6)
    coloured = [name for name, line in styled.items() if line is not style.OTHERS]
    if len(curves) == 1:
        return ()
    style.label_lines(axes, [(labels[name],) + tuple(curves[name]) for name in coloured])
    legend = [(styled[name], name if name.startswith(labels[name])
               else "%s %s" % (labels[name], name)) for name in coloured]
    if len(coloured) < len(curves):
        legend.append((style.OTHERS, "the other %d" % (len(curves) - len(coloured))))
    return tuple(legend)


def _labels(rankings, labels):
    """Labels of lines; by default their numbers, as the tables beside the figures give them."""
    return labels or OrderedDict((name, str(place)) for place, name in enumerate(rankings, 1))


def precision_recall(rankings, name="precision_recall", subtitle="", named=None, labels=None):
    """Expected precision against expected recall over the first 1, 2, ... ranks, with chance.

    Args:
        rankings: OrderedDict of name -> ranking.Ranking, best first.
        name: of the file.
        subtitle: what the title shall say besides.
        named, labels: the lines that take colours (see line_styles), and what stands beside them.
    """
    figure, axes = style.new_figure("Precision and recall over ranks" + subtitle,
                                    "recall", "precision")
    axes.set_xlim(-0.02, 1.02)
    style.shares(axes)
    first = next(iter(rankings.values()))
    if first.chance is not None:
        axes.axhline(first.chance, color=INK, linewidth=0.8, linestyle=":")
        axes.text(0.0, first.chance + 0.015, "chance %.3f" % first.chance, color=INK, fontsize=8)
    legend = _draw_all(axes, OrderedDict((key, (curve.recall, curve.precision))
                                         for key, curve in rankings.items()),
                       line_styles(list(rankings), named), _labels(rankings, labels))
    caption = "Macro means over queries, expected over random orders of ties, for the first %d " \
        "ranks%s." % (first.ranks[-1], " of %s" % "{:,}".format(first.gallery)
                      if first.gallery and first.gallery > first.ranks[-1] else "")
    if len(rankings) == 1:
        seen = _recall_text(first)
        caption = seen + " " + caption
    else:
        seen = "; ".join("%s: precision %.3f at half of the recall" % (
            key, precision_at_recall(curve, 0.5)) for key, curve in list(rankings.items())[:FEW])
    return Drawing(name, figure, caption, "Curves of precision against recall. " + seen, legend)


def _recall_text(curve):
    found = [recall for recall in (0.1, 0.5, 0.9) if recall <= curve.recall[-1]]
    return "Precision is %s." % ", ".join("%.3f at recall %g" % (
        precision_at_recall(curve, recall), recall) for recall in found) if found else (
            "Recall ends at %.3f." % curve.recall[-1])


def precision_at_recall(curve, recall):
    """Precision of a Ranking where its recall reaches a value."""
    return float(np.interp(recall, curve.recall, curve.precision))


def at_n(rankings, which, labels=None):
    """Precision or recall (`which`) of the first N ranks, with its ceiling and chance."""
    title = which.capitalize() + " at N"
    figure, axes = style.new_figure(title, "N, first ranks", which)
    first = next(iter(rankings.values()))
    axes.set_xscale("log")
    axes.set_xlim(0.9, first.ranks[-1] * 1.1)
    style.shares(axes)
    _rank_ticks(axes, first.ranks[-1])
    ceiling, caption = None, "Expected over random orders of ties."
    if first.chance is not None:
        ceiling = getattr(first, which + "_ceiling")
        chance = (np.full(len(first.ranks), first.chance) if which == "precision"
                  else first.ranks / first.gallery)
        axes.fill_between(first.ranks, ceiling, 1.02, color=GREY, alpha=0.18, linewidth=0)
        axes.plot(first.ranks, ceiling, color=INK, linewidth=0.9, linestyle="--")
        axes.plot(first.ranks, chance, color=INK, linewidth=0.9, linestyle=":")
        caption = ("Dashed: the ceiling min(1, %s), R the query's relevant items; no code gets "
                   "into the grey. Dotted: chance. %s" % (
                       "R/N" if which == "precision" else "N/R", caption))
    legend = _draw_all(axes, OrderedDict((key, (curve.ranks, getattr(curve, which)))
                                         for key, curve in rankings.items()),
                       line_styles(list(rankings)), _labels(rankings, labels))
    seen = _rank_text(first, which, ceiling) if len(rankings) == 1 else "%d curves over N." % (
        len(rankings))
    return Drawing(which + "_at_n", figure, (seen + " " if len(rankings) == 1 else "") + caption,
                   title + ", N on a logarithmic axis. " + seen, legend)


def _rank_text(curve, which, ceiling):
    places = [number for number in (1, 10, 50, 100, 1000) if number <= curve.ranks[-1]]
    values = np.interp(places, curve.ranks, getattr(curve, which))
    parts = []
    for number, value in zip(places, values):
        most = np.interp(number, curve.ranks, ceiling) if ceiling is not None else None
        parts.append("%.3f at %d%s" % (
            value, number, "" if most is None else " (at most %.3f)" % most))
    return "%s: %s." % (which.capitalize(), ", ".join(parts))


def _rank_ticks(axes, most):
    """Ranks as plain numbers, not powers of ten; few enough to stand side by side."""
    step = 1 if most <= 300 else (2 if most <= 3000 else 3)
    ticks = [tick for tick in TICKS[::step] if tick <= most]
    axes.set_xticks(ticks)
    axes.set_xticklabels(["{:,}".format(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def within_radius(evaluation):
    """Precision against recall within Hamming radius 0..K; radii 0, 2 and the best are labelled."""
    figure, axes = style.new_figure("Precision and recall within Hamming radii", "recall",
                                    "precision")
    precision, recall = evaluation.precision_within, evaluation.recall_within
    style.draw_line(axes, recall, precision, style.LINES[0], marks=len(recall), linewidth=1.2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.1)  # room for labels above a curve that reaches 1
    best = best_radius(precision, recall)
    texts = OrderedDict((radius, "radius %d" % radius) for radius in (0, 2) if radius < len(recall))
    texts[best] = "radius %d, best" % best
    style.label_points(axes, [(text, recall[radius], precision[radius])
                              for radius, text in texts.items()], recall, precision)
    seen = "; ".join("radius %d: precision %.3f, recall %.3f" % (
        radius, precision[radius], recall[radius]) for radius in sorted(texts))
    caption = "%s. Best: the highest F1 of the two." % (seen[0].upper() + seen[1:])
    nonempty = evaluation.nonempty
    if nonempty[0] < 0.9995:
        caption += (" The curve's lower hook at small radii: a query that retrieves nothing "
                    "counts as precision 0. %s." % "; ".join(
                        "%.0f %% of the queries retrieve something within radius %d"
                        % (100 * nonempty[radius], radius)
                        for radius in (0, 2) if radius in texts))
    return Drawing("within_radius", figure, caption,
                   "Curve of precision against recall, one mark a radius. " + seen)


def best_radius(precision, recall):
    """The radius with the highest F1; the smallest of equals."""
    total = np.maximum(precision + recall, 1e-12)
    return int(np.argmax(np.round(2 * precision * recall / total, 12)))


def dot_plot(name, title, rows, chance=None):
    """mAP of many methods at one code length: a row each, bars of the standard deviation.

    The axis is cut to the range of the values. Far outliers, which would squeeze the others, are
    arrows at its edge with their value.

    Args:
        name: of the file.
        title: of the figure.
        rows: list of (method, mean, standard deviation), from top to bottom; mean None for none.
        chance: mAP of a random order; None where unknown.
    """
    figure, axes = style.new_figure(title, "mAP", "", (style.SIZE[0], 0.9 + 0.29 * len(rows)))
    low, high = dot_range([mean for _, mean, _ in rows if mean is not None])
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([style.plain(textwrap.fill(method, 20)) for method, _, _ in rows],
                         fontsize=8, linespacing=0.95)
    for number, (_, mean, deviation) in enumerate(rows):
        if mean is None:
            continue
        if mean < low:
            axes.annotate("%.3f" % mean, (0, number), xytext=(14, 0), color=INK, fontsize=8,
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", arrowprops=dict(arrowstyle="->", color=style.BLUE))
            continue
        axes.errorbar([mean], [number], xerr=[deviation or 0], fmt="o", color=style.BLUE,
                      markersize=5, capsize=3, linewidth=1.4)
    if chance is not None and chance > low:
        axes.axvline(chance, color=INK, linewidth=0.9, linestyle=":")
    found = sorted(((mean, method) for method, mean, _ in rows if mean is not None), reverse=True)
    seen = "%s is best with %.4f, %s last with %.4f%s." % (
        found[0][1], found[0][0], found[-1][1], found[-1][0],
        "" if chance is None else "; chance is %.4f" % chance)
    cut = " Arrows: values left of the axis, which is cut." if found[-1][0] < low else ""
    return Drawing(name, figure, seen + " Bars: standard deviation over seeds." + cut,
                   "Dot plot, one row a method. " + seen)


def dot_range(values):
    """The range of an axis for values: all but outliers far below (Tukey's 1.5 rule), with room."""
    quarter, three = np.percentile(values, [25, 75])
    kept = [value for value in values if value >= quarter - 1.5 * (three - quarter) - 1e-9]
    room = max(0.1 * (max(kept) - min(kept)), 0.01)
    return max(min(kept) - room, 0.0), min(max(kept) + room, 1.02)
