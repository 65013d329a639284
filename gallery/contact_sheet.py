"""Answers -> a contact sheet: one HTML file that asks for nothing else, and a PNG."""

import io
import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from faces.photographs import decode_photograph
from gallery import output_files, texts
from reports.html import data_url, render

TEMPLATE = Path(__file__).resolve().parent / "templates" / "contact_sheet.html"
CELL, MARGIN, LINE = 96, 12, 13  # pixels of the PNG
MOST_CELLS = 10  # neighbours in a row of the PNG
MOST_ROWS = 200  # faces in the PNG: pictures have a largest size


def html(gallery, judge, results):
    """The page, as text, of what a gallery.answers.Judge says: list of Results."""
    shown = [dict(title=texts.title(result), verdict=texts.verdict_line(result.answer.verdict),
                  same=texts.same_line(result),
                  known=result.answer.verdict.name is not None,
                  image=data_url(result.face.thumbnail),
                  more_ties=result.answer.nearest.more_ties,
                  neighbours=[dict(item, image=data_url(gallery.thumbnail(item["id"])),
                                   file_name=os.path.basename(item["place"]),
                                   within=_is_within(distance, result))
                              for item, distance in zip(
                                  texts.answer_dict(gallery, result.answer)["neighbours"],
                                  result.answer.nearest.distances)])
             for result in results]
    return render(TEMPLATE, gallery=str(gallery.path), faces=len(gallery),
                  num_bits=gallery.num_bits, caution=judge.caution(),
                  rate=texts.rate_line(judge), results=shown)


def png(gallery, results):
    """The sheet as the bytes of a PNG: a row a face, the face first; the first MOST_ROWS of them.

    Raises:
        UserError: a thumbnail is damaged.
    """
    results = results[:MOST_ROWS]
    columns = 1 + min(MOST_CELLS, max([0] + [
        len(result.answer.nearest.rows) for result in results]))
    height = CELL + 3 * LINE + MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * (CELL + MARGIN), MARGIN + height * len(results)),
                      "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for line, result in enumerate(results):
        top = MARGIN + line * height
        verdict, found = result.answer.verdict, result.answer.nearest
        _cell(sheet, draw, font, MARGIN, top, result.face.thumbnail,
              [Path(result.photograph).name, verdict.name or "unknown"])
        for column, (row, distance) in enumerate(zip(found.rows[:MOST_CELLS], found.distances)):
            _cell(sheet, draw, font, MARGIN + (column + 1) * (CELL + MARGIN), top,
                  gallery.thumbnail(gallery.ids[row]),
                  [gallery.name(row) or "-", f"distance {texts.number_text(distance)}"])
    buffer, mark = io.BytesIO(), PngInfo()
    mark.add_text("Software", output_files.MARKS[".png"].decode())
    sheet.save(buffer, "PNG", pnginfo=mark)
    return buffer.getvalue()


def _cell(sheet, draw, font, left, top, thumbnail, lines):
    """One face with lines of text below it."""
    image = decode_photograph(thumbnail, "a thumbnail").image
    scale = CELL / max(image.size)
    size = [max(1, round(edge * scale)) for edge in image.size]
    face = image.resize(size, Image.BILINEAR)
    sheet.paste(face, (left + (CELL - size[0]) // 2, top + CELL - size[1]))
    for number, text in enumerate(lines):
        # The font that comes with Pillow has Latin letters alone.
        text = text.encode("latin-1", "replace").decode("latin-1")
        while text and draw.textlength(text, font=font) > CELL:
            text = text[:-1]
        draw.text((left, top + CELL + 2 + number * LINE), text, fill="black", font=font)


def _is_within(distance, result):
    threshold = result.answer.verdict.threshold
    return threshold is not None and distance <= threshold
