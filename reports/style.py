"""The style of all figures: colours, axes, labels of lines, and how a figure is saved.

Text and axes have the colour INK, which a page replaces by its own text colour.
"""

import io
import itertools
import re
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

INK = "#010203"  # nearly black, and found nowhere else in an SVG
GREY = "#8a8f98"
# Okabe and Ito's colours, safe for any colour vision, on white and on near-black; without yellow,
# which hardly shows on white. Dashes and markers tell the lines apart without colour.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY = "#E69F00", "#56B4E9"
# Colours that a page replaces: by its own text colour, and by a blue that is lighter on dark.
CSS = {INK: "currentColor", BLUE: "var(--line-blue)"}
SIZE = 4.6, 3.3  # inches: on a phone the letters of a figure are as large as the page's


class Line(NamedTuple):
    """How one line is drawn: colour, dashes (on and off in points; () for none), marker."""

    colour: str
    dashes: tuple
    marker: str


LINES = (Line(BLUE, (), "o"), Line(VERMILLION, (5, 2), "s"), Line(GREEN, (6, 2, 1, 2), "^"),
         Line(PURPLE, (1.5, 1.5), "D"), Line(ORANGE, (9, 3), "v"),
         Line(SKY, (3, 1, 1, 1, 1, 1), "P"), Line(INK, (), "X"))
OTHERS = Line(GREY, (), "")


class Drawing(NamedTuple):
    """A figure and its texts.

    Attributes:
        name: of its file in figures/, without ending; letters, digits, - and _.
        figure: a matplotlib Figure.
        caption: sentences below it, with the numbers that matter.
        alt: description for screen readers.
        legend: list of (Line, text), shown below it.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    legend: tuple = ()


def make_figure(size):
    """A matplotlib Figure of a size in inches, whose layout needs no screen."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def new_figure(title, x_label="", y_label="", size=SIZE):
    """(figure, axes) in our style. Texts are shown as they are, never as formulas."""
    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color",
                             "ytick.color"), INK)
    with matplotlib.rc_context(dict(colours, **{"font.size": 9, "axes.titlesize": 10})):
        figure = make_figure(size)
        axes = figure.add_subplot(1, 1, 1)
        axes.set_title(plain(title), loc="left")
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        axes.tick_params(which="both", colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, linewidth=0.4, alpha=0.4, color=GREY)
    axes.set_axisbelow(True)
    return figure, axes


def plain(text):
    """Text that matplotlib shows as it is: dollar signs start no formula.

    A letter that the figures' font lacks becomes a question mark; the page's own texts have it.
    """
    known = FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if letter == "\n" or ord(letter) in known else "?"
                   for letter in text).replace("$", r"\$")


def shares(axes):
    """A y axis from 0 to 1."""
    axes.set_ylim(-0.02, 1.02)


def whole_numbers(axis):
    """An axis whose ticks are whole numbers."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def draw_line(axes, x, y, line, marks=6, **options):
    """Draws values with a few markers, so that a single value shows, too."""
    every = max(1, len(x) // marks)
    return axes.plot(x, y, color=line.colour, dashes=line.dashes or (None, None),
                     marker=line.marker or None, markevery=every, markersize=4,
                     **{"linewidth": 1.6, **options})[0]


def label_lines(axes, labelled):
    """Writes each line's label beside it, where it is farthest from the other lines.

    Args:
        axes: their axes, limits set.
        labelled: list of (label, x, y).
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    paths = [to_axes.transform(np.column_stack([x, y]).astype(float)) for _, x, y in labelled]
    taken = []
    for number, ((label, _, _), path) in enumerate(zip(labelled, paths)):
        inside = path[(path[:, 0] > 0.03) & (path[:, 0] < 0.85) & (path[:, 1] < 0.93)]
        candidates = inside if len(inside) else path
        candidates = candidates[:: max(1, len(candidates) // 60)]
        others = [_dense(other) for index, other in enumerate(paths) if index != number]
        others += [np.array(taken)] if taken else []
        room = np.full(len(candidates), 1.0)
        for other in others:
            gaps = np.abs(candidates[:, None] - other[None]).max(axis=2)
            room = np.minimum(room, gaps.min(axis=1))
        place = candidates[np.argmax(room)]
        taken.append(place)
        # On the side away from the nearest other line.
        rest = np.concatenate(others) if others else place[None] - 1
        above = rest[np.argmin(np.abs(rest - place).max(axis=1))][1] > place[1]
        axes.annotate(label, place, xycoords="axes fraction", textcoords="offset points",
                      xytext=(0, -5 if above else 5), va="top" if above else "bottom",
                      ha="right" if above and place[0] > 0.15 else "left",
                      color=INK, fontweight="bold", fontsize=9)


def label_points(axes, labelled, x, y):
    """Writes labels beside points of a curve, each on the side with most room, inside the axes.

    Args:
        axes: the curve's axes, limits set.
        labelled: list of (text, x, y).
        x, y: the curve.
    """
    width, height = axes.get_position().bounds[2:] * axes.figure.get_size_inches() * 72  # points
    to_points = axes.transData + axes.transAxes.inverted()
    size = np.array([width, height])
    busy = _dense(to_points.transform(np.column_stack([x, y])), 400) * size
    for text, *point in labelled:
        half = np.array([2.7 * len(text), 5.0])  # of the text, about
        places = []
        for across, up, reach in itertools.product((1, 0, -1), (1, 0, -1), (5, 17)):
            center = to_points.transform(point) * size + np.array([across, up]) * (half + reach)
            outside = np.clip(np.abs(center - size / 2) + half - size / 2, 0, None).sum()
            gaps = np.clip(np.abs(busy - center) - half, 0, None)
            gap = np.hypot(*gaps.T).min()
            room = min(gap, 6) if gap > 0 else -20  # over something else
            places.append((room - 0.2 * reach - 10 * outside, tuple(center)))
        center = np.array(max(places)[1])
        axes.annotate(text, center / size, xycoords="axes fraction", ha="center", va="center",
                      color=INK, fontsize=9)
        rectangle = np.array(list(itertools.product(np.linspace(-1, 1, 9), (-1, 0, 1))))
        busy = np.concatenate([busy, center + half * rectangle])


def _dense(path, count=80):
    """A path of axes fractions as points that lie close to one another."""
    steps = np.linspace(0, len(path) - 1, count)
    index = np.arange(len(path))
    return np.column_stack([np.interp(steps, index, path[:, axis]) for axis in (0, 1)])


def save_png(drawing, path):
    """Writes a Drawing as PNG, dark on white."""
    drawing.figure.savefig(path, format="png", dpi=150, facecolor="white")


def svg(drawing):
    """A Drawing as the text of an SVG element that takes the page's text colour."""
    with matplotlib.rc_context({"svg.hashsalt": drawing.name, "svg.fonttype": "path"}):
        stream = io.StringIO()
        drawing.figure.savefig(stream, format="svg", facecolor="none", transparent=True,
                               metadata=dict.fromkeys(
                                   ("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg"):]
    for colour, css in CSS.items():
        text = text.replace(colour.lower(), css)
    # Each figure counts its ids from 1, and a page has several figures.
    return re.sub(r'(\bid="|href="#|url\(#)',
                  lambda match: match.group(0) + drawing.name + "-", text)
