"""All figures: curves of rankings, dots of methods, distances and bits of codes, training.

Each function returns a Drawing: a figure, its caption with the numbers, and a description. Up to
seven runs are coloured and labelled; of more, only the named ones are.
"""

import textwrap

import numpy as np
from matplotlib.patches import Rectangle

from evaluation.codes import bit_correlation
from reports import style
from reports.style import BLUE, GREEN, GREY, INK, VERMILLION, Drawing

# Columns of history.csv that are not terms of the loss.
NOT_LOSSES = ("epoch", "accuracy", "mAP", "images_per_second", "seconds")
FEW = len(style.LINES)  # lines that can be told apart
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)


def line_styles(names, named=None):
    """A style.Line for each name.

    Args:
        names: names of the lines, best first.
        named: those to colour; by default all of a few, else the first three.

    Returns:
        dict of name -> Line, grey lines first so that coloured ones lie over them.
    """
    if named is None:
        named = names if len(names) <= FEW else names[:3]
    colours = dict(zip([name for name in names if name in named], style.LINES))
    return {**{name: style.OTHERS for name in names if name not in colours}, **colours}


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
               else f"{labels[name]} {name}") for name in coloured]
    if len(coloured) < len(curves):
        legend.append((style.OTHERS, f"the other {len(curves) - len(coloured)}"))
    return tuple(legend)


def _numbered(rankings):
    """Labels of lines: their numbers, as in the tables beside the figures."""
    return {name: str(place) for place, name in enumerate(rankings, 1)}


def precision_recall(rankings, name="precision_recall", subtitle="", named=None, labels=None):
    """Expected precision against expected recall over the first 1, 2, ... ranks, with chance.

    Args:
        rankings: dict of name -> ranking.Ranking, best first.
        name: of the file.
        subtitle: added to the title.
        named: the lines to colour (see line_styles).
        labels: dict of name -> label beside its line; by default their numbers.
    """
    figure, axes = style.new_figure("Precision and recall over ranks" + subtitle,
                                    "recall", "precision")
    axes.set_xlim(-0.02, 1.02)
    style.shares(axes)
    first = next(iter(rankings.values()))
    if first.chance is not None:
        axes.axhline(first.chance, color=INK, linewidth=0.8, linestyle=":")
        axes.text(0.0, first.chance + 0.015, f"chance {first.chance:.3f}", color=INK, fontsize=8)
    legend = _draw_all(axes, {key: (curve.recall, curve.precision)
                              for key, curve in rankings.items()},
                       line_styles(list(rankings), named), labels or _numbered(rankings))
    last = first.ranks[-1]
    caption = ("Means over queries, expected over random orders of ties, for the first "
               f"{last} ranks")
    caption += f" of {first.gallery:,}." if first.gallery and first.gallery > last else "."
    if len(rankings) == 1:
        seen = _recall_text(first)
        caption = seen + " " + caption
    else:
        seen = "; ".join(f"{key}: precision {precision_at_recall(curve, 0.5):.3f} at recall 0.5"
                         for key, curve in list(rankings.items())[:FEW])
    return Drawing(name, figure, caption, "Curves of precision against recall. " + seen, legend)


def _recall_text(curve):
    found = [recall for recall in (0.1, 0.5, 0.9) if recall <= curve.recall[-1]]
    if not found:
        return f"Recall ends at {curve.recall[-1]:.3f}."
    return "Precision is " + ", ".join(
        f"{precision_at_recall(curve, recall):.3f} at recall {recall:g}" for recall in found) + "."


def precision_at_recall(curve, recall):
    """Precision of a Ranking where its recall reaches a value."""
    return float(np.interp(recall, curve.recall, curve.precision))


def at_n(rankings, which):
    """"precision" or "recall" (`which`) of the first N ranks, with its ceiling and chance."""
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
        ratio = "R/N" if which == "precision" else "N/R"
        caption = (f"Dashed: the ceiling min(1, {ratio}), where R is the number of relevant items; "
                   f"no code reaches the grey area. Dotted: chance. {caption}")
    legend = _draw_all(axes, {key: (curve.ranks, getattr(curve, which))
                              for key, curve in rankings.items()},
                       line_styles(list(rankings)), _numbered(rankings))
    if len(rankings) == 1:
        seen = _rank_text(first, which, ceiling)
        caption = f"{seen} {caption}"
    else:
        seen = f"{len(rankings)} curves over N."
    return Drawing(which + "_at_n", figure, caption,
                   f"{title}, N on a logarithmic axis. {seen}", legend)


def _rank_text(curve, which, ceiling):
    places = [number for number in (1, 10, 50, 100, 1000) if number <= curve.ranks[-1]]
    values = np.interp(places, curve.ranks, getattr(curve, which))
    parts = []
    for number, value in zip(places, values):
        parts.append(f"{value:.3f} at {number}")
        if ceiling is not None:
            parts[-1] += f" (at most {np.interp(number, curve.ranks, ceiling):.3f})"
    return f"{which.capitalize()}: {', '.join(parts)}."


def _rank_ticks(axes, most):
    """Ranks as plain numbers, not powers of ten; few enough to stand side by side."""
    step = 1 if most <= 300 else (2 if most <= 3000 else 3)
    ticks = [tick for tick in TICKS[::step] if tick <= most]
    axes.set_xticks(ticks)
    axes.set_xticklabels([f"{tick:,}" for tick in ticks])
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
    texts = {radius: f"radius {radius}" for radius in (0, 2) if radius < len(recall)}
    texts[best] = f"radius {best}, best"
    style.label_points(axes, [(text, recall[radius], precision[radius])
                              for radius, text in texts.items()], recall, precision)
    seen = "; ".join(
        f"radius {radius}: precision {precision[radius]:.3f}, recall {recall[radius]:.3f}"
        for radius in sorted(texts))
    caption = f"{seen[0].upper()}{seen[1:]}. Best: the highest F1."
    nonempty = evaluation.nonempty
    if nonempty[0] < 0.9995:
        found = "; ".join(
            f"{100 * nonempty[radius]:.0f} % of the queries retrieve something within radius "
            f"{radius}" for radius in (0, 2) if radius in texts)
        caption += (" The curve bends down at small radii because a query that retrieves nothing "
                    f"counts as precision 0. {found}.")
    return Drawing("within_radius", figure, caption,
                   "Curve of precision against recall, one mark a radius. " + seen)


def best_radius(precision, recall):
    """The radius with the highest F1; the smallest of equals."""
    total = np.maximum(precision + recall, 1e-12)
    return int(np.argmax(np.round(2 * precision * recall / total, 12)))


def dot_plot(name, title, rows, chance=None):
    """mAP of many methods at one code length: one row each, bars for the standard deviation.

    The axis covers the range of the values without far outliers, which would squeeze the others;
    those are arrows at its edge, with their values.

    Args:
        name: of the file.
        title: of the figure.
        rows: list of (method, mean, standard deviation), from top to bottom; None where unknown.
        chance: mAP of a random order; None where unknown.
    """
    figure, axes = style.new_figure(title, "mAP", "", (style.SIZE[0], 0.9 + 0.29 * len(rows)))
    low, high = dot_range([(mean, deviation) for _, mean, deviation in rows if mean is not None])
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([style.plain(textwrap.fill(method, 20)) for method, _, _ in rows],
                         fontsize=8, linespacing=0.95)
    for number, (_, mean, deviation) in enumerate(rows):
        if mean is None:
            continue
        if mean < low:
            axes.annotate(f"{mean:.3f}", (0, number), xytext=(14, 0), color=INK, fontsize=8,
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", arrowprops=dict(arrowstyle="->", color=style.BLUE))
            continue
        axes.errorbar([mean], [number], xerr=[deviation or 0], fmt="o", color=style.BLUE,
                      markersize=5, capsize=3, linewidth=1.4)
    if chance is not None and chance > low:
        axes.axvline(chance, color=INK, linewidth=0.9, linestyle=":")
    found = sorted(((mean, method) for method, mean, _ in rows if mean is not None), reverse=True)
    seen = f"{found[0][1]} is best with {found[0][0]:.4f}, {found[-1][1]} last with " \
        f"{found[-1][0]:.4f}"
    seen += "." if chance is None else f"; chance is {chance:.4f}."
    cut = " Arrows: values left of the axis." if found[-1][0] < low else ""
    return Drawing(name, figure, f"{seen} Bars: standard deviation over seeds.{cut}",
                   f"Dot plot, one row a method. {seen}")


def dot_range(values):
    """The range of an axis for pairs (mean, deviation or None): all bars, with room, but those of
    outliers far below (Tukey's 1.5 rule)."""
    quarter, three = np.percentile([mean for mean, _ in values], [25, 75])
    kept = [(mean, deviation or 0) for mean, deviation in values
            if mean >= quarter - 1.5 * (three - quarter) - 1e-9]
    low = min(mean - deviation for mean, deviation in kept)
    high = max(mean + deviation for mean, deviation in kept)
    room = max(0.1 * (high - low), 0.01)
    return max(low - room, 0.0), min(high + room, 1.02)


# Distances and bits


def distances(evaluation):
    """Shares of the pairs of one person and of different people at each Hamming distance."""
    figure, axes = style.new_figure("Distance of query and gallery item", "Hamming distance",
                                    "share of pairs")
    radii = np.arange(len(evaluation.same))
    means = []
    for counts, name, colour, hatch in (
            (evaluation.different, "different people", VERMILLION, "///"),
            (evaluation.same, "same person", GREEN, "")):
        share = counts / max(counts.sum(), 1)
        axes.bar(radii, share, width=1.0, facecolor=colour, alpha=0.45, linewidth=0)
        axes.bar(radii, share, width=1.0, facecolor="none", edgecolor=colour, hatch=hatch,
                 linewidth=1.0, label=name)
        means.append(float(share.dot(radii)))
    style.whole_numbers(axes.xaxis)
    legend = axes.legend(frameon=False, fontsize=9, ncol=2, loc="lower right",
                         bbox_to_anchor=(1.0, 0.98), borderaxespad=0)
    for text in legend.get_texts():
        text.set_color(INK)
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=20, fontsize=10)
    closer = 100 * closer_share(evaluation.same, evaluation.different)
    seen = (f"On average {means[1]:.1f} bits lie between two images of one person, {means[0]:.1f} "
            f"between images of different people. In {closer:.1f} % of cases the pair of one "
            "person is the closer one.")
    return Drawing("distances", figure, seen, f"Two histograms of Hamming distances. {seen}")


def closer_share(same, different):
    """Chance that a same-label pair is closer than a different-label pair; a tie counts half."""
    same, different = [counts / max(counts.sum(), 1) for counts in (same, different)]
    farther = different[::-1].cumsum()[::-1] - different
    return float(same.dot(farther + different / 2))


def bit_balance(codes):
    """Share of gallery images for which each bit is on; constant bits are hatched."""
    figure, axes = style.new_figure("Bit balance (gallery)", "bit", "share of images with +1")
    share = (codes.gallery_codes > 0).mean(axis=0)
    bits = np.arange(1, len(share) + 1)
    constant = constant_bits(codes)
    varies = ~np.isin(bits, constant)
    axes.bar(bits[varies], share[varies], color=BLUE)
    axes.bar(bits[~varies], np.ones(len(constant)), facecolor="none", edgecolor=GREY,
             hatch="////", linewidth=0.5)
    axes.axhline(0.5, linewidth=0.9, color=INK, linestyle=":")
    axes.set_xlim(0.2, len(share) + 0.8)
    axes.set_ylim(0, 1)
    style.whole_numbers(axes.xaxis)
    seen = []
    if varies.any():
        percent = 100 * share[varies]
        seen.append(f"Bits are on for {percent.min():.0f} to {percent.max():.0f} % of the images, "
                    f"{percent.mean():.0f} % on average.")
    if len(constant):
        states = [(state, [bit for bit in constant if share[bit - 1] == value])
                  for state, value in (("on", 1), ("off", 0))]
        listed = "; ".join(f"always {state}: {ranges(bits)}" for state, bits in states if bits)
        seen.append(f"Hatched: the same for every image ({listed}).")
    seen = " ".join(seen)
    return Drawing("bit_balance", figure, seen, f"Bars, one a bit. {seen}")


def bit_correlation_matrix(codes):
    """Correlation between bits; rows and columns of constant bits are hatched."""
    figure, axes = style.new_figure("Bit correlation (gallery)", "bit", "bit")
    axes.grid(False)
    correlation = bit_correlation(codes.gallery_codes)
    count = len(correlation)
    edge = count + 0.5
    image = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0.5, edge, edge, 0.5))
    constant = bands(constant_bits(codes))
    # Whole rows, then whole columns over them: where they cross, they look the same.
    for first, last, left, right in [(first, last, 1, count) for first, last in constant] + [
            (1, count, left, right) for left, right in constant]:
        axes.add_patch(Rectangle((left - 0.5, first - 0.5), right - left + 1, last - first + 1,
                                 facecolor="#e3e5e9", edgecolor=GREY, hatch="////", linewidth=0.3))
    bar = figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK)
    for axis in (axes.xaxis, axes.yaxis):
        style.whole_numbers(axis)
    seen = _correlation_words(correlation, constant_bits(codes))
    return Drawing("bit_correlation", figure, seen, f"Matrix of colours, bit by bit. {seen}")


def _correlation_words(correlation, constant):
    varying = np.setdiff1d(np.arange(len(correlation)), np.asarray(constant, int) - 1)
    if len(varying) < 2:
        return "Fewer than two bits vary: there is no correlation to show."
    pairs = np.abs(correlation[np.ix_(varying, varying)] * (1 - np.eye(len(varying))))
    first, second = np.unravel_index(np.argmax(pairs), pairs.shape)
    mean = pairs.sum() / (len(varying) * (len(varying) - 1))
    first, second = varying[first], varying[second]
    seen = (f"The mean magnitude between two bits is {mean:.3f}; bits {first + 1} and {second + 1} "
            f"are the most alike with {correlation[first, second]:.3f}.")
    return seen + (" Hatched: constant bits, which have no correlation." if len(constant) else "")


def constant_bits(codes):
    """Numbers, from 1 up, of the bits that are the same for the whole gallery: list of int."""
    same = (codes.gallery_codes == codes.gallery_codes[0]).all(axis=0)
    return (np.flatnonzero(same) + 1).tolist()


def bands(numbers):
    """Numbers in ascending order as (first, last) of each unbroken run."""
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def ranges(numbers):
    """Numbers in ascending order for people: 1 to 4, 7, 9 and so on."""
    texts = []
    for first, last in bands(numbers):
        texts += [f"{first} to {last}"] if last > first + 1 else [
            str(number) for number in range(first, last + 1)]
    return ", ".join(texts)


# Training


def history(rows, settings=None):
    """Training curves: list of Drawings.

    Args:
        rows: of history.csv.
        settings: dict, the run's; codeword_share explains a jump of the loss.
    """
    epochs = [row["epoch"] for row in rows]
    drawings = [_losses(epochs, rows, (settings or {}).get("codeword_share"))]
    if "accuracy" in rows[0]:
        values = [row["accuracy"] for row in rows]
        drawings.append(_over_epochs(
            "accuracy", "Training accuracy of the hash classifier", epochs, values,
            f"{values[0]:.3f} after epoch {epochs[0]:.0f}, {values[-1]:.3f} after epoch "
            f"{epochs[-1]:.0f}."))
    evaluated = [(row["epoch"], row["mAP"]) for row in rows if row.get("mAP") is not None]
    if evaluated:
        (best_epoch, best), (last_epoch, last) = max(
            evaluated, key=lambda pair: pair[1]), evaluated[-1]
        drawings.append(_over_epochs(
            "map_over_epochs", "mAP over epochs", *zip(*evaluated),
            seen=f"{last:.4f} at the last evaluation, after epoch {last_epoch:.0f}; the highest is "
            f"{best:.4f} after epoch {best_epoch:.0f}."))
    return drawings


def _over_epochs(name, title, epochs, values, seen):
    figure, axes = style.new_figure(title, "epoch", name.split("_")[0].replace("map", "mAP"))
    style.draw_line(axes, epochs, values, style.LINES[0], marks=20)
    style.shares(axes)
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    style.whole_numbers(axes.xaxis)
    return Drawing(name, figure, seen, f"Curve over epochs. {seen}")


def _losses(epochs, rows, codeword_share):
    """The total loss and its weighted terms, without those that are always 0."""
    terms = [name for name in rows[0] if name not in NOT_LOSSES
             and any((row[name] or 0) > 0 for row in rows)]
    figure, axes = style.new_figure("Training loss, weighted terms", "epoch", "loss")
    axes.set_yscale("log")
    legend = []
    for name, line in zip(sorted(terms, key=lambda name: name != "total"),
                          (style.LINES[6],) + style.LINES[:6]):
        style.draw_line(axes, epochs, [row[name] for row in rows], line,
                        linewidth=2.0 if name == "total" else 1.2)
        legend.append((line, name.replace("_", " ")))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    style.whole_numbers(axes.xaxis)
    first, last = rows[0].get("total"), rows[-1].get("total")
    seen = "" if first is None else (f"Total {first:.3f} after epoch {epochs[0]:.0f}, {last:.3f} "
                                     f"after epoch {epochs[-1]:.0f}.")
    if codeword_share:
        seen += (f" For the last {100 * codeword_share:g} % of the steps the hash classifier "
                 "starts again from codewords, so losses before and after do not compare.")
    return Drawing("losses", figure, seen, f"Curves over epochs, logarithmic. {seen}",
                   tuple(legend))
