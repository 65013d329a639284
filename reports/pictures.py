"""Draws README's picture of what a run of main.py on ORL faces retrieves.

    python -m reports.pictures RUN_DIR docs/pictures/retrievals.png
"""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from evaluation.codes import load_codes
from evaluation.metrics import evaluate_codes
from methods.run import open_run
from reports import ranking
from runtime.command_line import ArgumentParser, run_command
from runtime.files import writing
from runtime.run_folder import RunFolder

SHOWN = {"best": 1, "typical": 1, "worst": 2}
FACE, GAP, FRAME, MARGIN, TEXT = 64, 8, 4, 86, 18  # pixels
RIGHT, WRONG, QUERY, INK, PAPER = "#00805d", "#c2500a", "#8a8f98", "#1d2430", "#ffffff"
COLOURS = 128  # of the palette: the faces are grey


def retrieval_strip(folder):
    """A picture of some queries of a run, each with its nearest gallery images.

    A solid frame and + mark the same person, a double frame and - another; the number is the
    Hamming distance. Images after the person's last one are pale.

    Args:
        folder: RunFolder of an evaluated run.

    Returns:
        A PIL image.

    Raises:
        UserError: the run has no codes yet, or its data is not here.
    """
    run, codes = open_run(folder), load_codes(folder.path / "codes.npz")
    shown = ranking.examples(evaluate_codes(codes), codes, run.train, run.test, counts=SHOWN)
    step = FACE + GAP
    sheet = Image.new("RGB", (MARGIN + (ranking.NEAREST + 1) * step + 2 * GAP,
                              GAP + len(shown) * (step + TEXT)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
    for row, query in enumerate(shown):
        top = GAP + row * (step + TEXT)
        draw.multiline_text((GAP, top + 14), f"{query.kind}\nAP {query.average_precision:.3f}", INK,
                            font, spacing=6)
        _draw_face(sheet, query.image, MARGIN, top, QUERY, False)
        draw.text((MARGIN, top + FACE + 2), "query", INK, font)
        for column, item in enumerate(query.items, 1):
            colour = RIGHT if item.right else QUERY if item.done else WRONG
            face = 255 - (255 - item.image) // 3 if item.done else item.image
            left = MARGIN + 2 * GAP + column * step
            _draw_face(sheet, face, left, top, colour, not item.right)
            sign = "+" if item.right else "\u2212"
            draw.text((left, top + FACE + 2), f"{sign} {item.distance}", colour, font)
    return sheet.quantize(COLOURS)


def _draw_face(sheet, face, left, top, colour, double):
    """Pastes a face, uint8 [32, 32, 3], in a frame of one line or two."""
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + FACE - 1, top + FACE - 1), fill=colour)
    if double:
        draw.rectangle((left + 1, top + 1, left + FACE - 2, top + FACE - 2), outline=PAPER)
    side = FACE - 2 * FRAME
    picture = Image.fromarray(np.asarray(face)).resize((side, side), Image.BICUBIC)
    sheet.paste(picture, (left + FRAME, top + FRAME))


def main(arguments):
    """Draws the picture of a run's folder; both paths are on the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("run_dir")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args(arguments)
    strip = retrieval_strip(RunFolder.open(options.run_dir))
    with writing(options.picture):
        strip.save(options.picture, "PNG", optimize=True)


if __name__ == "__main__":
    run_command(main)
