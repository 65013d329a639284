"""Answers -> text, JSON, CSV, and copies of the photographs that were found."""

import csv
import io
import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gallery.answers import Answer, Judge
from gallery.index import SAMPLE, measured_recall
from gallery.query_faces import QueryFace
from runtime import files
from runtime.errors import UserError, one_line

COLUMNS = ("query", "face", "verdict", "rank", "id", "identity", "file", "distance")


class Result(NamedTuple):
    """One face of a query photograph, and what is found for it.

    Attributes:
        photograph: text, as it was named.
        number: of the face in its photograph, from 1.
        count: faces of that photograph.
        face: QueryFace.
        answer: Answer.
    """

    photograph: str
    number: int
    count: int
    face: QueryFace
    answer: Answer


def verdict_line(verdict):
    """A Verdict in one line."""
    if verdict.name is None:
        return "unknown (%s; nearest distance %d%s)" % (
            verdict.reason, verdict.nearest,
            "" if verdict.threshold is None else ", threshold %d" % verdict.threshold)
    others = ", ".join("%s %g" % vote for vote in verdict.votes[1:4])
    return "%s (%.0f %% of the nearest faces' votes%s; nearest distance %d, threshold %d)" % (
        one_line(verdict.name, 60), 100 * verdict.support, "; also " + others if others else "",
        verdict.nearest, verdict.threshold)


def title(result):
    """What a result is about, for people."""
    if result.count == 1:
        return one_line(result.photograph)
    return "%s, face %d of %d" % (one_line(result.photograph), result.number, result.count)


def table(gallery, result):
    """One result as text for people."""
    rows = [("rank", "identity", "distance", "id", "file")]
    for rank, (row, distance) in enumerate(zip(result.answer.rows, result.answer.distances), 1):
        rows.append((str(rank), one_line(gallery.name(row) or "-", 40), str(distance),
                     str(gallery.contents.items.ids[row]), one_line(gallery.place(row), 200)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [title(result), "  " + verdict_line(result.answer.verdict)]
    lines += ["  %s  %s  %s  %s  %s" % (
        row[0].rjust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]),
        row[3].rjust(widths[3]), row[4]) for row in rows]
    if len(rows) == 1:
        lines[2:] = ["  no face within the radius"]
    if result.answer.more_ties:
        lines.append("  %d more at distance %d" % (result.answer.more_ties,
                                                   result.answer.distances[-1]))
    return "\n".join(lines)


def engine_line(gallery, index):
    """Which engine compares codes, and how well it finds what an exact search finds."""
    if index.name == gallery.state["engine"]:
        recall = gallery.state["recall"]
    else:
        recall = measured_recall(index)
    return "%d faces, codes of %d bits; engine %s, recall %.4f on a sample of %d" % (
        len(gallery), gallery.num_bits, index.name, recall, SAMPLE)


def change_text(gallery, counts):
    """What a change of a gallery did, and what it is now."""
    done = ", ".join("%s: %d" % (name, count) for name, count in counts.items() if count)
    state = gallery.state
    return "%s%s: %d faces, %d people; engine %s, recall %.4f on a sample" % (
        done + "\n" if done else "", gallery.path, len(gallery), len(gallery.contents.names),
        state["engine"], state["recall"])


def gallery_text(gallery, judge):
    """What a gallery is, and the curve behind its threshold."""
    state, items = gallery.state, gallery.contents.items
    photographs = gallery.contents.photographs
    lines = [
        "%s: %d faces, %d people, %d photographs (%d without a face)" % (
            gallery.path, len(gallery), len(gallery.contents.names), len(photographs.paths),
            sum(1 for reason in photographs.reasons if reason)),
        "made by %s of run %s: %d bits, crop %s" % (
            state["method"], one_line(state["run"]), state["num_bits"],
            (state["crop"] or {}).get("method", "none")),
        "engine %s, recall %.4f on a sample of %d; %d distinct codes" % (
            state["engine"], state["recall"], SAMPLE, len(np.unique(items.codes)))]
    return "\n".join(lines + [threshold_text(gallery, judge)])


def threshold_text(gallery, judge):
    """The curve of a gallery's calibration as a table, and the threshold taken from it."""
    calibration = gallery.calibration
    if calibration is None:
        return "nobody is named: " + Judge(gallery).why_nobody()
    lines = ["%d faces %s, searched as strangers:" % (
        calibration.probes, "that the gallery does not hold" if calibration.of_queries
        else "of the gallery (if the encoder was trained on them, real strangers lie nearer)"),
        "distance  strangers named  at most (95 %)  known people missed"]
    for distance, count in enumerate(calibration.accepted):
        missed = calibration.miss_rate(distance)
        lines.append("%8d  %14.2f%%  %13.2f%%  %18s%s" % (
            distance, 100 * calibration.false_accept_rate(distance),
            100 * calibration.highest_rate(distance),
            "-" if missed is None else "%.2f%%" % (100 * missed),
            "  <- threshold" if distance == judge.threshold else ""))
        if count > calibration.probes / 2:
            break
    if judge.threshold is None:
        lines.append("nobody is named: " + judge.why_nobody())
    return "\n".join(lines)


def to_json(gallery, results, unread):
    """All results as a JSON text.

    Args:
        gallery: gallery.gallery.Gallery.
        results: list of Results.
        unread: list of (photograph, reason) without a face.
    """
    value = OrderedDict(
        gallery=str(gallery.path), num_bits=gallery.num_bits, faces=len(gallery),
        queries=[as_dict(gallery, result) for result in results],
        without_face=[OrderedDict(photograph=path, reason=reason) for path, reason in unread])
    return json.dumps(value, indent=1) + "\n"


def as_dict(gallery, result):
    """One result as plain values."""
    return OrderedDict(photograph=result.photograph, face=result.number, faces=result.count,
                       box=list(result.face.box), **answer_dict(gallery, result.answer))


def answer_dict(gallery, answer):
    """An Answer as plain values."""
    items = gallery.contents.items
    return OrderedDict(
        verdict=OrderedDict(answer.verdict._asdict()), more_ties=answer.more_ties,
        neighbours=[OrderedDict(
            rank=rank, id=int(items.ids[row]), identity=gallery.name(row),
            file=gallery.photograph(row), place=gallery.place(row),
            box=[float(edge) for edge in items.boxes[row]], distance=int(distance))
            for rank, (row, distance) in enumerate(zip(answer.rows, answer.distances), 1)])


def to_csv(gallery, results):
    """All results as a CSV text, a row a neighbour."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        for item in answer_dict(gallery, result.answer)["neighbours"]:
            writer.writerow([result.photograph, result.number,
                             result.answer.verdict.name or "unknown", item["rank"], item["id"],
                             item["identity"] or "", item["place"], item["distance"]])
    return stream.getvalue()


def write_text(path, text):
    """Writes a text file, whole or not at all; what is no Unicode is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path, data):
    """Writes a file, whole or not at all."""
    with files.replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def copy_matches(gallery, results, folder):
    """Copies the photographs that were found, named by query, rank and distance.

    An image of a data set has no photograph: its thumbnail is copied.

    Args:
        gallery, results: see to_json.
        folder: new or empty.

    Returns:
        (copied, missing): count, and list of photographs that are no longer there.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    folder = Path(folder)
    check_copy_folder(folder)
    copied, missing = 0, []
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for query, result in enumerate(results, 1):
            for rank, (row, distance) in enumerate(
                    zip(result.answer.rows, result.answer.distances), 1):
                start = "query%d_rank%02d_distance%02d_" % (query, rank, distance)
                source = gallery.photograph(row)
                if source is None:
                    name = "%s%s_%d.png" % (start, gallery.state["dataset"],
                                            gallery.contents.items.faces[row])
                    (folder / name).write_bytes(gallery.thumbnail(row))
                elif os.path.isfile(source):
                    shutil.copyfile(source, str(folder / (start + os.path.basename(source))))
                else:
                    missing.append(source)
                    continue
                copied += 1
    return copied, missing


def check_copy_folder(folder):
    """Raises UserError unless a folder is new or empty: nothing is overwritten."""
    with files.reading(folder):
        if os.path.lexists(str(folder)) and (not os.path.isdir(str(folder))
                                             or os.listdir(str(folder))):
            raise UserError("%s is not an empty folder; name a new one for --copy" % folder)
