"""Writes pages: each is one file that loads nothing else, for light and dark screens."""

from pathlib import Path

from markupsafe import Markup

from reports import style
from runtime.pages import render

TEMPLATES = Path(__file__).resolve().parent / "templates"


def write_page(folder, template, **values):
    """Fills a template in and writes it as report.html.

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
    """Drawings as the template `figures` takes them; PNG copies, dark on white, go to figures/.

    Returns:
        List of dicts: name, svg (markup), caption, alt, legend.
    """
    shown = []
    for drawing in drawings:
        with folder.replacing("figures/%s.png" % drawing.name) as temporary:
            style.save_png(drawing, temporary)
        shown.append(dict(name=drawing.name, svg=Markup(style.svg(drawing)),
                          caption=drawing.caption, alt=drawing.alt, legend=drawing.legend))
    return shown
