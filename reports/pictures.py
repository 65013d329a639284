"""Draws README's picture of what a run of main.py on ORL faces retrieves.

    python -m reports.pictures RUN_DIR docs/pictures/retrievals.png
"""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

import data_loader
from config import Config
from evaluation import metrics
from evaluation.codes import load_codes
from methods.run import load_run
from methods.table import resolve
from reports import ranking
from runtime.command_line import ArgumentParser, run_command
from runtime.errors import UserError
from runtime.run_folder import RunFolder

SHOWN = {"best": 1, "typical": 1, "worst": 2}
FACE, GAP, FRAME, MARGIN, TEXT = 64, 8, 4, 86, 18  # pixels
RIGHT, WRONG, QUERY, INK, PAPER = "#00805d", "#c2500a", "#8a8f98", "#1d2430", "#ffffff"
COLOURS = 128  # of the palette: the faces are grey


def retrieval_strip(folder, count=10):
    """A picture of some queries of a run, each with its nearest gallery images.

    A solid frame and + mark the same person, a double frame and - another; the number is the
    Hamming distance. Images after the person's last one are pale.

    Args:
        folder: RunFolder of an evaluated run.
        count: gallery images a query.

    Returns:
        A PIL image.

    Raises:
        UserError: the run has no codes yet, or its data is not here.
    """
    data = load_run(*resolve(Config.recorded(folder.read_settings()).to_dict()))
    train, test = data.train, data.test
    codes = load_codes(folder.path / "codes.npz")
    evaluation = metrics.evaluate_codes(codes)
    chosen = ranking.example_queries(evaluation.average_precision, codes.query_labels, SHOWN)
    step = FACE + GAP
    sheet = Image.new("RGB", (MARGIN + (count + 1) * step + 2 * GAP,
                              GAP + len(chosen) * (step + TEXT)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 12)
    for row, (kind, query) in enumerate(chosen):
        top = GAP + row * (step + TEXT)
        ap = evaluation.average_precision.expected[query]
        draw.multiline_text((GAP, top + 14), f"{kind}\nAP {ap:.3f}", INK, font, spacing=6)
        _draw_face(sheet, data_loader.displayable(test, [query])[0], MARGIN, top, QUERY, False)
        draw.text((MARGIN, top + FACE + 2), "query", INK, font)
        indices, distances = ranking.nearest(codes, query, count)
        faces = data_loader.displayable(train, indices)
        missing = np.count_nonzero(codes.gallery_labels == codes.query_labels[query])
        for column, (index, distance, face) in enumerate(zip(indices, distances, faces), 1):
            right = codes.gallery_labels[index] == codes.query_labels[query]
            colour = RIGHT if right else WRONG if missing else QUERY
            if not right and not missing:  # all images of the person have come before
                face = 255 - (255 - face) // 3
            left = MARGIN + 2 * GAP + column * step
            _draw_face(sheet, face, left, top, colour, not right)
            sign = "+" if right else "\u2212"
            draw.text((left, top + FACE + 2), f"{sign} {distance}", colour, font)
            missing -= right
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
    try:
        retrieval_strip(RunFolder.open(options.run_dir)).save(options.picture, "PNG", optimize=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{options.picture} cannot be written: {error}")


if __name__ == "__main__":
    run_command(main)
