"""Templates -> pages. Each page is one file that asks for nothing else, readable on light and dark.

Text goes into the templates by jinja2 with autoescape, so that no name can be taken for markup.
"""

from pathlib import Path

import jinja2
from markupsafe import Markup

from reports import style

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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(TEMPLATES)), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals.update(css=style.CSS)
    folder.write_text("report.html", environment.get_template(template).render(values) + "\n")
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
