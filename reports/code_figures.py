"""Figures of codes and of training: distances, bits, losses, accuracy and mAP over epochs."""

import numpy as np
from matplotlib.patches import Rectangle

from evaluation.codes import bit_correlation
from reports import style
from reports.style import BLUE, GREEN, GREY, INK, VERMILLION, Drawing

# Columns of history.csv that are not terms of the loss.
NOT_LOSSES = ("epoch", "accuracy", "mAP", "images_per_second", "seconds")


def distances(evaluation):
    """Shares of same-label and different-label pairs at each Hamming distance."""
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
    seen = ("On average %.1f bits between pictures of one person, %.1f between those of different "
            "people; a pair of one person is the closer one in %.1f %% of cases." % (
                means[1], means[0], 100 * closer_share(evaluation.same, evaluation.different)))
    return Drawing("distances", figure, seen, "Two histograms of Hamming distances. " + seen)


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
        seen.append("Bits are on for %.0f to %.0f %% of the images, %.0f %% on average." % (
            100 * share[varies].min(), 100 * share[varies].max(), 100 * share[varies].mean()))
    if len(constant):
        always = [bit for bit in constant if share[bit - 1] == 1]
        never = [bit for bit in constant if share[bit - 1] == 0]
        seen.append("Hatched: the same for every image (%s)." % "; ".join(
            "always %s: %s" % (state, ranges(some)) for state, some in (
                ("on", always), ("off", never)) if some))
    seen = " ".join(seen)
    return Drawing("bit_balance", figure, seen, "Bars, one a bit. " + seen)


def bit_correlation_matrix(codes):
    """Correlation between bits; rows and columns of constant bits, which have none, are hatched."""
    figure, axes = style.new_figure("Bit correlation (gallery)", "bit", "bit")
    axes.grid(False)
    correlation = bit_correlation(codes.gallery_codes)
    count = len(correlation)
    edge = count + 0.5
    image = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0.5, edge, edge, 0.5))
    constant = bands(constant_bits(codes))
    varying = bands(sorted(set(range(1, count + 1)) - set(constant_bits(codes))))
    # Whole rows, then what is left of the columns: no place is hatched twice.
    for first, last, left, right in [(first, last, 1, count) for first, last in constant] + [
            (first, last, left, right) for left, right in constant for first, last in varying]:
        axes.add_patch(Rectangle((left - 0.5, first - 0.5), right - left + 1, last - first + 1,
                                 facecolor="#e3e5e9", edgecolor=GREY, hatch="////", linewidth=0.3))
    bar = figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK)
    for axis in (axes.xaxis, axes.yaxis):
        style.whole_numbers(axis)
    seen = _correlation_words(correlation, constant_bits(codes))
    return Drawing("bit_correlation", figure, seen, "Matrix of colours, bit by bit. " + seen)


def _correlation_words(correlation, constant):
    varying = np.setdiff1d(np.arange(len(correlation)), np.asarray(constant, int) - 1)
    if len(varying) < 2:
        return "Fewer than two bits vary: there is nothing to correlate."
    pairs = np.abs(correlation[np.ix_(varying, varying)] * (1 - np.eye(len(varying))))
    first, second = np.unravel_index(np.argmax(pairs), pairs.shape)
    mean = pairs.sum() / (len(varying) * (len(varying) - 1))
    return "Mean magnitude between two bits %.3f; most alike are bits %d and %d with %.3f.%s" % (
        mean, varying[first] + 1, varying[second] + 1,
        correlation[varying[first], varying[second]],
        " Hatched: constant bits, which correlate with nothing." if len(constant) else "")


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
        texts += ["%d to %d" % (first, last)] if last > first + 1 else [
            str(number) for number in range(first, last + 1)]
    return ", ".join(texts)


# Training


def history(rows, settings=None):
    """Training curves: list of Drawings.

    Args:
        rows: of history.csv.
        settings: dict, the run's; they say what a leap of the loss comes from.
    """
    epochs = [row["epoch"] for row in rows]
    drawings = [_losses(epochs, rows, (settings or {}).get("codeword_share"))]
    if "accuracy" in rows[0]:
        values = [row["accuracy"] for row in rows]
        drawings.append(_over_epochs(
            "accuracy", "Training accuracy of the hash classifier", epochs, values,
            "%.3f after epoch %d, %.3f after epoch %d." % (
                values[0], epochs[0], values[-1], epochs[-1])))
    evaluated = [(row["epoch"], row["mAP"]) for row in rows if row.get("mAP") is not None]
    if evaluated:
        best_epoch, best = max(evaluated, key=lambda pair: pair[1])
        drawings.append(_over_epochs(
            "map_over_epochs", "mAP over epochs", *zip(*evaluated),
            seen="%.4f at the last evaluation, after epoch %d; highest %.4f after epoch %d." % (
                evaluated[-1][1], evaluated[-1][0], best, best_epoch)))
    return drawings


def _over_epochs(name, title, epochs, values, seen):
    figure, axes = style.new_figure(title, "epoch", name.split("_")[0].replace("map", "mAP"))
    style.draw_line(axes, epochs, values, style.LINES[0], marks=20)
    style.shares(axes)
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    style.whole_numbers(axes.xaxis)
    return Drawing(name, figure, seen, "Curve over epochs. " + seen)


def _losses(epochs, rows, codeword_share):
    """The total loss and its weighted terms; a term that is 0 throughout is left out."""
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
    seen = "" if first is None else "Total %.3f after epoch %d, %.3f after epoch %d." % (
        first, epochs[0], last, epochs[-1])
    if codeword_share:
        seen += (" For the last %g %% of the steps the hash classifier starts again, from "
                 "codewords: losses before and after do not compare." % (100 * codeword_share))
    return Drawing("losses", figure, seen, "Curves over epochs, logarithmic. " + seen,
                   tuple(legend))
