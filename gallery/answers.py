"""Who is this: the nearest faces of a gallery, the name they vote for, and all of it as text."""

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from gallery.engines import SAMPLE
from runtime import files
from runtime.errors import UserError, one_line

VOTERS = 5
MOST_TOP = 10000
DEFAULT_RATE = 0.01  # of strangers that may be named
COLUMNS = ("query", "face", "verdict", "rank", "id", "identity", "file", "distance")
# How files of ours begin, so that they may be replaced; bytes, within the first thousand.
MARKS = {".html": b"<title>Faces found</title>", ".png": b"DCBH faces found",
         ".json": b'{\n "gallery": ', ".csv": ",".join(COLUMNS).encode()}


class Verdict(NamedTuple):
    """Whose face it is.

    Attributes:
        name: of the person; None if unknown.
        support: share of the voters' votes for that name, 0..1.
        votes: list of (name, votes), most first, of those within the threshold.
        nearest: distance of the nearest face.
        threshold: the largest distance at which a face is taken for the same person's; None where
            none is known, or even distance 0 is too far.
        reason: why it is unknown, for people; else empty.
    """

    name: Optional[str]
    support: float
    votes: list
    nearest: int
    threshold: Optional[int]
    reason: str


class Answer(NamedTuple):
    """What is found for one face.

    Attributes:
        distances: int32 [top], ascending; ties by id.
        rows: int64 [top], the faces' rows in the gallery.
        more_ties: how many more faces lie as far as the last one.
        verdict: Verdict.
    """

    distances: np.ndarray
    rows: np.ndarray
    more_ties: int
    verdict: Verdict


class Result(NamedTuple):
    """One face of a query photograph, and what is found for it.

    Attributes:
        photograph: text, as it was named.
        number: of the face in its photograph, from 1.
        count: faces of that photograph.
        face: gallery.questions.QueryFace.
        answer: Answer.
    """

    photograph: str
    number: int
    count: int
    face: NamedTuple
    answer: Answer


class Judge:
    """Names faces by a gallery and a threshold.

    Args:
        gallery: gallery.store.Gallery.
        rate: share of strangers that may be named.
        threshold: distance to use instead of a calibrated one.
        voters: nearest faces that vote.
    """

    def __init__(self, gallery, rate=DEFAULT_RATE, threshold=None, voters=VOTERS):
        self.gallery = gallery
        self.voters = voters
        self.rate = rate
        calibration = gallery.calibration
        self.calibrated = threshold is None and calibration is not None
        if self.calibrated:
            threshold = calibration.threshold(rate)
        self.threshold = None if threshold is None else min(threshold, gallery.num_bits)

    def why_nobody(self):
        """Why nobody at all is named, or an empty text."""
        if self.threshold is not None:
            return ""
        if not self.calibrated:
            return ("the gallery knows fewer than two people by name (people who share a copy of a "
                    "photograph count as one), so no threshold can be calibrated")
        calibration = self.gallery.calibration
        names = self.gallery.names
        pairs = ", ".join(f"{one_line(names[one], 40)} and {one_line(names[other], 40)} ({count})"
                          for one, other, count in calibration.closest
                          if one in names and other in names)
        return (f"even distance 0 names {calibration.false_accept_rate(0):.3g} of strangers, more "
                f"than the {self.rate:.3g} that may be" + (
                    f"; most often it takes one of these for the other: {pairs}; if they are one "
                    "person, join them with python search.py rename" if pairs else "")
                + f"; else codes of {self.gallery.num_bits} bits are too short")

    def caution(self):
        """Why the rate of strangers may be exceeded, or an empty text."""
        if self.threshold is None or not self.calibrated or self.gallery.calibration.is_held_out:
            return ""
        return (f"more than {self.rate:.3g} of strangers may be named: the threshold is calibrated "
                f"on {self.gallery.calibration.source}")

    def verdict(self, index, code):
        """The Verdict on one face.

        The nearest faces vote, one vote each. Where the last of them tie with more faces, those
        share the votes that are left, so that no order inside a tie plays a part.

        Args:
            index: gallery.engines.Index of the gallery.
            code: packed.
        """
        first = index.search(np.array([code], np.uint64), self.voters)
        nearest, last = int(first.distances[0, 0]), int(first.distances[0, -1])
        reason = self.why_nobody()
        if not reason and nearest > self.threshold:
            reason = "the nearest face is farther than the threshold"
        if reason:
            return Verdict(None, 0.0, [], nearest, self.threshold, reason)
        distances, rows = index.within(code, min(last, self.threshold))
        certain = np.count_nonzero(distances < last)
        tied = np.count_nonzero(distances == last)
        weights = np.where(distances < last, 1.0,
                           (first.rows.shape[1] - certain) / max(tied, 1))
        votes = {}
        for person, weight, distance in zip(self.gallery.people[rows].tolist(), weights,
                                            distances):
            if person in self.gallery.names:
                total, far = votes.get(person, (0.0, 0.0))
                votes[person] = total + weight, far + weight * distance
        if not votes:
            return Verdict(None, 0.0, [], nearest, self.threshold,
                           "the faces within the threshold have no names")
        # Most votes first; of equal ones the nearer on average, then by number.
        order = sorted(votes, key=lambda person: (
            -round(votes[person][0], 9), votes[person][1] / votes[person][0], person))
        named = [(self.gallery.names[person], round(float(votes[person][0]), 3))
                 for person in order]
        return Verdict(named[0][0], named[0][1] / first.rows.shape[1], named, nearest,
                       self.threshold, "")

    def answer(self, index, code, top, radius=None):
        """The Answer for one face.

        Args:
            index, code: see verdict.
            top: how many of the nearest faces.
            radius: only those within this distance; None for any.
        """
        distances, rows, more = index.nearest(code, top)
        if radius is not None:
            kept = int(np.count_nonzero(distances <= radius))
            more = more if kept == len(rows) else 0
            distances, rows = distances[:kept], rows[:kept]
        return Answer(distances, rows, more, self.verdict(index, code))


# Text


def verdict_line(verdict):
    """A Verdict in one line."""
    if verdict.name is None:
        threshold = "" if verdict.threshold is None else f", threshold {verdict.threshold}"
        return f"unknown ({verdict.reason}; nearest distance {verdict.nearest}{threshold})"
    others = ", ".join(f"{one_line(name, 60)} {votes:g}" for name, votes in verdict.votes[1:4])
    return (f"{one_line(verdict.name, 60)} ({100 * verdict.support:.0f} % of the nearest faces' "
            f"votes{'; also ' + others if others else ''}; nearest distance {verdict.nearest}, "
            f"threshold {verdict.threshold})")


def title(result):
    """What a result is about, for people."""
    several = f", face {result.number} of {result.count}" if result.count > 1 else ""
    return one_line(result.photograph) + several


def table(gallery, result):
    """One result as text for people."""
    answer = result.answer
    rows = [("rank", "identity", "distance", "id", "file")]
    for rank, (face, distance) in enumerate(zip(found_faces(gallery, answer), answer.distances), 1):
        rows.append((str(rank), one_line(face.name or "-", 40), str(distance), str(face.id),
                     one_line(face.place, 200)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [title(result), "  " + verdict_line(answer.verdict)]
    lines += [f"  {rank.rjust(widths[0])}  {name.ljust(widths[1])}  {distance.rjust(widths[2])}  "
              f"{face.rjust(widths[3])}  {place}" for rank, name, distance, face, place in rows]
    if len(rows) == 1:
        lines[2:] = ["  no face within the radius"]
    if answer.more_ties:
        lines.append(f"  {answer.more_ties} more at distance {answer.distances[-1]}")
    return "\n".join(lines)


def found_faces(gallery, answer):
    """The store.Faces of an Answer. Raises KeyError if one was removed since."""
    return gallery.faces(gallery.ids[answer.rows])


def engine_line(gallery, index):
    """Which engine compares codes, and how well it finds what an exact search finds."""
    recall = "exact" if index.exact else f"recall {index.recall:.4f} on a sample of {SAMPLE}"
    return (f"{len(gallery)} faces, codes of {gallery.num_bits} bits; engine {index.name}, "
            f"{recall}")


def gallery_text(gallery, judge, index):
    """What a gallery is, and the curve behind its threshold.

    Args:
        gallery: gallery.store.Gallery.
        judge: Judge.
        index: gallery.engines.Index, or None of an empty gallery.
    """
    info = gallery.info
    crop = (info["crop"] or {}).get("method", "none")
    empty = gallery.count("photographs", "reason != ''")
    lines = [f"{gallery.path}: {len(gallery)} faces, {len(gallery.names)} people, "
             f"{gallery.count('photographs')} photographs ({empty} without a face)"]
    lines += [f"  of {one_line(source)}" for source in gallery.sources()]
    left_out = sum(count for _, _, count in gallery.left_out()) - empty
    if left_out:
        lines.append(f"{left_out} other files were left out; --left-out lists them")
    lines.append(f"made by {one_line(info['method'], 40)} of run {one_line(info['run'])}: "
                 f"{info['num_bits']} bits, crop {one_line(crop, 40)}")
    if index is not None:
        lines.append(f"{engine_line(gallery, index)}; {len(np.unique(gallery.codes))} distinct "
                     "codes")
    return "\n".join(lines + [threshold_text(gallery, judge)])


def threshold_text(gallery, judge):
    """The curve of a gallery's calibration as a table, and the threshold taken from it."""
    calibration = gallery.calibration
    if calibration is None:
        return "nobody is named: " + Judge(gallery).why_nobody()
    lines = [f"{calibration.probes} faces were searched as strangers: {calibration.source}",
             "distance  strangers named  at most (95 %)  known people missed"]
    for distance, count in enumerate(calibration.accepted):
        missed = calibration.miss_rate(distance)
        missed = "-" if missed is None else f"{100 * missed:.2f}%"
        lines.append(f"{distance:8d}  {100 * calibration.false_accept_rate(distance):14.2f}%  "
                     f"{100 * calibration.highest_rate(distance):13.2f}%  {missed:>18}"
                     + "  <- threshold" * (distance == judge.threshold))
        if count > calibration.probes / 2:
            break
    if judge.threshold is None:
        lines.append("nobody is named: " + judge.why_nobody())
    if judge.caution():
        lines.append(judge.caution())
    return "\n".join(lines)


# JSON and CSV


def to_json(gallery, judge, results, unread):
    """All results as a JSON text.

    Args:
        gallery: gallery.store.Gallery.
        judge: the Judge that gave them.
        results: list of Results.
        unread: list of (photograph, reason) without a face.
    """
    value = dict(
        gallery=str(gallery.path), num_bits=gallery.num_bits, faces=len(gallery),
        caution=judge.caution(), queries=[dict(
            photograph=result.photograph, face=result.number, faces=result.count,
            box=list(result.face.box), **answer_dict(gallery, result.answer))
            for result in results],
        without_face=[dict(photograph=path, reason=reason) for path, reason in unread])
    return json.dumps(value, indent=1) + "\n"


def answer_dict(gallery, answer):
    """An Answer as plain values. Raises KeyError if one of its faces was removed since."""
    return dict(
        verdict=answer.verdict._asdict(), more_ties=answer.more_ties,
        neighbours=[dict(rank=rank, id=face.id, identity=face.name, file=face.photograph,
                         place=face.place, box=list(face.box), distance=int(distance))
                    for rank, (face, distance) in enumerate(
                        zip(found_faces(gallery, answer), answer.distances), 1)])


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


# Files


def check_replaceable(path):
    """Raises UserError if a file is there that this program has not written."""
    path = Path(path)
    if not os.path.lexists(path):
        return
    mark = b""
    if path.is_file() and not path.is_symlink():
        with files.reading(path), open(path, "rb") as stream:
            mark = stream.read(1000)
    if MARKS[path.suffix] not in mark:
        raise UserError(f"{path} is there already, and this program has not written it; name "
                        "another file, or add --overwrite")


def write_file(path, data):
    """Writes a file, whole or not at all; of a text, what is no Unicode is escaped."""
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")
    with files.replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def check_copy_folder(folder):
    """Raises UserError unless a folder is new or empty: nothing is overwritten."""
    if not str(folder).strip():
        raise UserError("--copy names nothing; name a new folder")
    with files.reading(folder):
        if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise UserError(f"{folder} is not an empty folder; name a new one for --copy")


def copy_matches(gallery, results, folder):
    """Copies the photographs that were found, named by query, rank and distance.

    An image of a data set has no photograph: its thumbnail is copied. Names that are too long for
    the file system are cut.

    Args:
        gallery, results: see to_json.
        folder: new or empty.

    Returns:
        (copied, failed): count, and list of lines that say what could not be copied.

    Raises:
        UserError: the folder holds something, or cannot be made.
    """
    folder = Path(folder)
    check_copy_folder(folder)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        longest = os.pathconf(folder, "PC_NAME_MAX")
    copied, failed = 0, []
    for query, result in enumerate(results, 1):
        for rank, (face, distance) in enumerate(
                zip(found_faces(gallery, result.answer), result.answer.distances), 1):
            source = face.photograph
            name = os.path.basename(source) if source else f"{face.place}.png"
            name = _cut(f"query{query}_rank{rank:02d}_distance{distance:02d}_", name, longest)
            try:
                if source is None:
                    (folder / name).write_bytes(gallery.thumbnail(face.id))
                elif os.path.isfile(source):
                    shutil.copyfile(source, folder / name)
                else:
                    failed.append(f"{one_line(source)}: it is no longer there")
                    continue
                copied += 1
            except OSError as error:
                failed.append(f"{one_line(source or face.place)}: {error.strerror or error}")
    return copied, failed


def _cut(start, name, longest):
    """A file's name of at most so many bytes that keeps its start and its ending."""
    stem, ending = os.path.splitext(name.replace("/", "_"))
    ending = os.fsencode(ending)[:20]
    stem = os.fsencode(stem)[:longest - len(start) - len(ending)]
    while True:  # a letter is kept whole or not at all, unless the name is no UTF-8 anyway
        try:
            stem.decode()
            break
        except UnicodeDecodeError as error:
            if error.end != len(stem):
                break
            stem = stem[:error.start]
    return os.fsdecode(os.fsencode(start) + stem + ending)
