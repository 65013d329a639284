"""Evaluations -> figures, and a contact sheet of retrievals.

Text and axes of the figures have the colour INK, which a page can replace by its own.
"""

from collections import OrderedDict

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

import data_loader
from retrieval import metrics

# Readable on white and on near-black, and told apart with any colour vision.
COLOURS = ("#2878c8", "#d9650f", "#1f9e76", "#b85fa6", "#a8860b", "#7a7a7a")
WIDE = 9.6, 4.6  # inches, of figures with a legend beside the axes
INK = "#010203"  # as good as black, and found nowhere else in an SVG
RIGHT, WRONG = (38, 166, 91), (220, 60, 50)


def new_figure(title, x_label="", y_label="", width=5.2, height=3.7):
    """(figure, axes) in the house style."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # so that its layout can be computed without a screen
    axes = figure.add_subplot(1, 1, 1)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, linewidth=0.4, alpha=0.4)
    return figure, axes


def precision_recall_figure(evaluations, subtitle="", wide=False):
    """Precision against recall over Hamming radii 0..K.

    Args:
        evaluations: dict of name -> Evaluation.
        subtitle: what the title shall say besides.
        wide: whether the legend stands beside the axes, for many names.
    """
    title = "Precision and recall over Hamming radii" + (subtitle and ", " + subtitle)
    figure, axes = new_figure(title, "recall", "precision", *(WIDE if wide else ()))
    for (colour, line), (name, one) in zip(_styles(), evaluations.items()):
        axes.plot(one.recall_within, one.precision_within, marker="o", linestyle=line,
                  markersize=3, linewidth=1.4, color=colour, label=name)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return _with_legend(figure, axes, evaluations, wide)


def map_figure(lines):
    """mAP against code length; lines: dict of name -> (bits, means, standard deviations)."""
    figure, axes = new_figure("mAP by code length (bars: standard deviation over seeds)", "bits",
                              "mAP", *WIDE)
    for (colour, line), (name, (bits, means, deviations)) in zip(_styles(), lines.items()):
        axes.errorbar(bits, means, deviations, marker="o", linestyle=line, markersize=4,
                      linewidth=1.4, capsize=2, color=colour, label=name)
    axes.set_xticks(sorted({one for bits, _, _ in lines.values() for one in bits}))
    axes.set_ylim(-0.02, 1.02)
    return _with_legend(figure, axes, lines, wide=True)


def at_n_figure(evaluations, which):
    """Precision or recall (`which`) of the first N ranks."""
    figure, axes = new_figure(which.capitalize() + " at N", "N, first ranks", which)
    for (colour, line), (name, one) in zip(_styles(), evaluations.items()):
        values = getattr(one, which + "_at")
        axes.plot(np.arange(1, len(values) + 1), values, linestyle=line, linewidth=1.6,
                  color=colour, label=name)
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _with_legend(figure, axes, evaluations)


def distance_figure(evaluation):
    """Shares of same-label and different-label pairs at each Hamming distance."""
    figure, axes = new_figure("Hamming distance of query and gallery item", "Hamming distance",
                              "share of pairs")
    radii = np.arange(len(evaluation.same))
    for values, name, colour in ((evaluation.same, "same person", COLOURS[2]),
                                 (evaluation.different, "different people", COLOURS[1])):
        axes.bar(radii, values / max(values.sum(), 1), width=1.0, alpha=0.6, color=colour,
                 label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def bit_balance_figure(codes):
    """Share of gallery images for which each bit is on."""
    figure, axes = new_figure("Bit balance (gallery)", "bit", "share of images with +1")
    share = (codes.gallery_codes > 0).mean(axis=0)
    axes.bar(np.arange(1, len(share) + 1), share, color=COLOURS[0])
    axes.axhline(0.5, linewidth=0.8, color=INK, linestyle=":")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def bit_correlation_figure(codes):
    """The matrix of metrics.bit_correlation."""
    figure, axes = new_figure("Bit correlation (gallery)", "bit", "bit")
    axes.grid(False)
    correlation = metrics.bit_correlation(codes.gallery_codes)
    edge = len(correlation) + 0.5
    image = axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0.5, edge, edge, 0.5))
    figure.colorbar(image, ax=axes).outline.set_visible(False)
    return figure


def history_figures(history):
    """Training curves from the rows of history.csv: (losses, accuracy)."""
    epochs = [row["epoch"] for row in history]
    terms = [name for name in history[0]
             if name not in ("epoch", "accuracy", "images_per_second", "seconds")]
    losses, axes = new_figure("Training loss (weighted terms)", "epoch", "loss")
    for (colour, _), name in zip(_styles(), terms):
        axes.plot(epochs, [row[name] for row in history], color=colour,
                  label=name.replace("_", " "), linewidth=2.0 if name == "total" else 1.2)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    accuracy, axes = new_figure("Training accuracy of the hash classifier", "epoch", "accuracy")
    axes.plot(epochs, [row["accuracy"] for row in history], color=COLOURS[0])
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return losses, accuracy


def _styles():
    """(colour, line style) of one line after the other; no two of the first 18 are alike."""
    while True:
        for line in ("-", "--", ":"):
            for colour in COLOURS:
                yield colour, line


def _with_legend(figure, axes, lines, wide=False):
    if wide:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    elif len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


# Retrievals


def nearest(codes, query, count):
    """The nearest gallery items of one query, gallery order inside a tie.

    Returns:
        (indices, distances): int [min(count, N)] each.
    """
    distances = np.count_nonzero(codes.gallery_codes != codes.query_codes[query], axis=1)
    indices = np.argsort(distances, kind="mergesort")[:count]
    return indices, distances[indices]


def example_queries(average_precision, labels, count=3):
    """The best, typical (around the median) and worst queries by expected AP.

    Queries of people not shown yet go first.

    Args:
        average_precision: metrics.AveragePrecision.
        labels: [Q], the queries' labels.
        count: queries of each kind.

    Returns:
        List of (kind, query index).
    """
    order = np.argsort(-average_precision.expected, kind="mergesort")
    ranks = np.arange(len(order))
    chosen = OrderedDict()  # of query -> kind
    people = set()
    for kind, closeness in (("best", ranks), ("worst", -ranks),
                            ("typical", np.abs(ranks - len(order) // 2))):
        candidates = order[np.argsort(closeness, kind="mergesort")].tolist()
        fresh = [query for query in candidates if query not in chosen]
        for _ in range(min(count, len(fresh))):
            query = next((one for one in fresh if labels[one] not in people), fresh[0])
            fresh.remove(query)
            people.add(labels[query])
            chosen[query] = kind
    return [(kind, query) for kind in ("best", "typical", "worst")
            for query, own in chosen.items() if own == kind]


def contact_sheet(evaluation, codes, train, test, names=None, count=10, size=72):
    """Retrievals as a picture: a query, then its nearest gallery images.

    A green frame and + stand for the same person, a red frame and - for another; the Hamming
    distance stands below.

    Args:
        evaluation: metrics.Evaluation of the codes.
        codes: metrics.Codes in the order of the images.
        train, test: data_loader.ImageSets of gallery and queries.
        names: identities' names by label; None to show labels.
        count: gallery images a query.
        size: pixels of a face's side.

    Returns:
        A PIL Image.
    """
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
    examples = example_queries(evaluation.average_precision, codes.query_labels)
    gap, text_height, margin = 8, 18, 150
    columns = min(count, len(codes.gallery_codes))
    sheet = Image.new("RGB", (margin + (columns + 1) * (size + gap) + 2 * gap,
                              len(examples) * (size + text_height + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)

    def face(image, x, y, colour):
        draw.rectangle((x - 3, y - 3, x + size + 2, y + size + 2), fill=colour)
        sheet.paste(Image.fromarray(image).resize((size, size), Image.BICUBIC), (x, y))

    for row, (kind, query) in enumerate(examples):
        y = gap + row * (size + text_height + gap)
        person = codes.query_labels[query]
        name = names[person] if names else "label %s" % person
        draw.multiline_text((gap, y + 8), "%s query\nAP %.3f\n%s" % (
            kind, evaluation.average_precision.expected[query], name[:20]), "black", font)
        face(data_loader.displayable(test, [query])[0], margin, y, (120, 120, 120))
        draw.text((margin, y + size + 3), "query", "black", font)
        indices, distances = nearest(codes, query, columns)
        images = data_loader.displayable(train, indices)
        for column, (index, distance, image) in enumerate(zip(indices, distances, images), 1):
            x = margin + gap + column * (size + gap)
            right = codes.gallery_labels[index] == person
            face(image, x, y, RIGHT if right else WRONG)
            draw.text((x, y + size + 3), "%s %d" % ("+" if right else "\u2212", distance),
                      "black", font)
    return sheet
