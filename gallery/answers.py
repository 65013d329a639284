"""Who is this: the nearest faces of a gallery, the name they vote for, and all of it as text."""

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from gallery.comparison import CANDIDATES, ByCodes, ByEmbeddings, Nearest
from gallery.engines import SAMPLE
from runtime import files
from runtime.errors import UserError, one_line

VOTERS = 5
MOST_TOP = 10000
DEFAULT_RATE = 0.01  # of strangers that may be named
# What Probable asks for: a share of the nearest faces, and how many strangers have one as near.
EVIDENCE, MOST_OF_THEM, MOST_STRANGERS = 10, 0.8, 0.1
COLUMNS = ("query", "face", "verdict", "rank", "id", "identity", "file", "distance", "cosine",
           "probably")
# How files of ours begin, so that they may be replaced; bytes, within the first thousand.
MARKS = {".html": b"<title>Faces found</title>", ".png": b"DCBH faces found",
         ".json": b'{\n "gallery": ', ".csv": ",".join(COLUMNS[:8]).encode()}


class Probable(NamedTuple):
    """Whom the nearest faces speak for, although they lie beyond the threshold.

    Attributes:
        name: of the person.
        count, of: so many of the so many nearest faces are that person's.
        nearest, farthest: distances of those.
    """

    name: str
    count: int
    of: int
    nearest: float
    farthest: float


class Verdict(NamedTuple):
    """Whose face it is. Distances are those that decide: see gallery.comparison.

    Attributes:
        name: of the person; None if unknown.
        support: share of the voters' votes for that name, 0..1.
        votes: list of (name, votes), most first, of those within the threshold.
        nearest: distance of the nearest face.
        threshold: the largest distance at which a face is taken for the same person's; None where
            none is known, or even distance 0 is too far.
        reason: why it is unknown, for people; else empty.
        probable: Probable, or None.
    """

    name: Optional[str]
    support: float
    votes: list
    nearest: float
    threshold: Optional[float]
    reason: str
    probable: Optional[Probable] = None

    def to_dict(self):
        """As plain values."""
        return dict(self._asdict(), probable=self.probable and self.probable._asdict())


class Answer(NamedTuple):
    """What is found for one face.

    Attributes:
        nearest: gallery.comparison.Nearest.
        verdict: Verdict.
    """

    nearest: Nearest
    verdict: Verdict

    @property
    def rows(self):
        """int64 [n], the faces' rows in the gallery."""
        return self.nearest.rows

    @property
    def distances(self):
        """[n], ascending; those that decide."""
        return self.nearest.distances

    @property
    def more_ties(self):
        """How many more faces lie as far as the last one."""
        return self.nearest.more_ties


class Result(NamedTuple):
    """One face of a query photograph, and what is found for it.

    Attributes:
        photograph: text, as it was named.
        number: of the face in its photograph, from 1.
        count: faces of that photograph.
        face: gallery.questions.QueryFace.
        answer: Answer.
        same: paths of the gallery's photographs that are this very file.
    """

    photograph: str
    number: int
    count: int
    face: NamedTuple
    answer: Answer
    same: tuple = ()


class Judge:
    """Names faces by a gallery and a threshold.

    Args:
        gallery: gallery.store.Gallery.
        rate: share of strangers that may be named.
        threshold: distance to use instead of a calibrated one.
        voters: nearest faces that vote.
        codes_alone: whether embeddings are left out.

    Attributes:
        comparison: gallery.comparison.ByCodes or ByEmbeddings: what decides.
        threshold: distance, or None.
    """

    def __init__(self, gallery, rate=DEFAULT_RATE, threshold=None, voters=VOTERS,
                 codes_alone=False):
        self.gallery, self.rate, self.voters, self.codes_alone = gallery, rate, voters, codes_alone
        by_codes = codes_alone or not gallery.has_embeddings
        self.comparison = (ByCodes if by_codes else ByEmbeddings)(gallery)
        self.calibrated = threshold is None
        if threshold is None:
            threshold = self.comparison.threshold(rate)
        elif by_codes:
            threshold = min(int(threshold), gallery.num_bits)
        self.threshold = threshold

    def with_threshold(self, threshold):
        """The same with another threshold; None leaves it as it is."""
        return self if threshold is None else Judge(self.gallery, self.rate, threshold, self.voters,
                                                    self.codes_alone)

    def why_nobody(self):
        """Why nobody at all is named, or an empty text."""
        return "" if self.threshold is not None else self.comparison.why_nobody(self.rate)

    def caution(self):
        """Why the rate of strangers may be exceeded, or an empty text."""
        if self.threshold is None or not self.calibrated:
            return ""
        return self.comparison.caution(self.rate)

    def strangers(self):
        """The evaluation.strangers.Rate of strangers that the threshold names, or None."""
        return None if self.threshold is None else self.comparison.strangers(self.threshold)

    def verdict(self, index, code, embedding=None, found=None):
        """The Verdict on one face: the nearest faces within the threshold vote.

        Args:
            index: gallery.engines.Index of the gallery.
            code: packed.
            embedding: float [128] of the face, where the gallery has embeddings.
            found: Nearest faces of the query, at least max(voters, EVIDENCE), if they are known.
        """
        if found is None:
            found = self.comparison.nearest(index, code, embedding, max(self.voters, EVIDENCE))
        nearest = found.distances[0].item()
        reason = self.why_nobody()
        if not reason and nearest > self.threshold:
            reason = "the nearest face is farther than the threshold" + (
                f" for {percent(self.rate)} of strangers" if self.calibrated else "")
        if reason:
            return Verdict(None, 0.0, [], nearest, self.threshold, reason, self._probable(found))
        rows, distances, weights = self.comparison.voters(index, code, embedding, self.voters,
                                                       self.threshold)
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
        support = named[0][1] / min(self.voters, len(self.gallery))
        return Verdict(named[0][0], support, named, nearest, self.threshold, "")

    def _probable(self, found):
        """The Probable that the nearest faces speak for, or None.

        Nearly all of the nearest are one person's who has less than half of the gallery's faces:
        else a stranger's nearest faces would be that person's, too. And few strangers have a face
        as near as the nearest.
        """
        found = found.first(EVIDENCE)
        people = self.gallery.people
        person = int(people[found.rows[0]])
        total = np.count_nonzero(people == person)
        limit = min(len(found.rows), total)
        own = found.distances[people[found.rows] == person]
        rate = self.comparison.strangers(found.distances[0].item())
        if (person not in self.gallery.names or len(own) < max(2, MOST_OF_THEM * limit)
                or 2 * total > len(people) or rate is None or rate.rate > MOST_STRANGERS
                or found.distances[0] > self.comparison.farthest):
            return None
        return Probable(self.gallery.names[person], len(own), limit, own[0].item(), own[-1].item())

    def answer(self, index, code, top, radius=None, embedding=None, least=0):
        """The Answer for one face.

        Args:
            index, code, embedding: see verdict.
            top: how many of the nearest faces.
            radius: only those within this distance; None for any.
            least: so many of the nearest also beyond the radius.
        """
        found = self.comparison.nearest(index, code, embedding, max(top, self.voters, EVIDENCE))
        verdict = self.verdict(index, code, embedding, found)
        if top < len(found.rows):
            found = found.first(top) if found.cosines is not None else self.comparison.nearest(
                index, code, embedding, top)  # with its own ties
        if radius is not None:
            kept = max(least, int(np.count_nonzero(found.distances <= radius)))
            found = found.first(kept)
        return Answer(found, verdict)


# Text


def number_text(distance):
    """A distance as text: whole, or with three decimals."""
    return f"{distance:.3f}" if isinstance(distance, (float, np.floating)) else str(distance)


def verdict_line(verdict):
    """A Verdict in one line."""
    nearest, threshold = number_text(verdict.nearest), verdict.threshold
    threshold = "" if threshold is None else f", threshold {number_text(threshold)}"
    if verdict.probable:
        name, count, of, first, last = verdict.probable
        return (f"probably {one_line(name, 60)}: {count} of the {of} nearest faces, distances "
                f"{number_text(first)} to {number_text(last)}; not named, since {verdict.reason}"
                f"{threshold}")
    if verdict.name is None:
        return f"unknown ({verdict.reason}; nearest distance {nearest}{threshold})"
    others = ", ".join(f"{one_line(name, 60)} {votes:g}" for name, votes in verdict.votes[1:4])
    return (f"{one_line(verdict.name, 60)} ({100 * verdict.support:.0f} % of the nearest faces' "
            f"votes{'; also ' + others if others else ''}; nearest distance {nearest}{threshold})")


def rate_line(judge):
    """How many strangers the threshold names, in one line; empty where that is not known."""
    found = judge.strangers()
    if found is None:
        return ""
    interval = f"at most {percent(found.high)}" if found.low is None else (
        f"{percent(found.low)} to {percent(found.high)}")
    return (f"threshold {number_text(judge.threshold)} names {percent(found.rate)} of strangers "
            f"({interval}, with 95 % confidence); {judge.comparison.source()}")


def percent(share):
    """A share as text, with two digits that count."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def same_line(result):
    """That a query is a photograph of the gallery, in one line; empty where it is none."""
    if not result.same:
        return ""
    return "this very photograph is in the gallery: " + ", ".join(
        one_line(path, 200) for path in result.same[:3])


def title(result):
    """What a result is about, for people."""
    several = f", face {result.number} of {result.count}" if result.count > 1 else ""
    return one_line(result.photograph) + several


def table(gallery, judge, result):  # noqa: ARG001  as found_text
    """One result as text for people."""
    answer = result.answer
    cosines = answer.nearest.cosines
    rows = [("rank", "identity", "cosine", "distance", "id", "file")]
    for rank, (face, bits) in enumerate(
            zip(found_faces(gallery, answer), answer.nearest.bits), 1):
        cosine = "" if cosines is None else number_text(cosines[rank - 1])
        rows.append((str(rank), one_line(face.name or "-", 40), cosine, str(bits), str(face.id),
                     one_line(face.place, 200)))
    if cosines is None:
        rows = [row[:2] + row[3:] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [title(result), "  " + verdict_line(answer.verdict)]
    if result.same:
        lines.append("  " + same_line(result))
    if len(rows) == 1:
        return "\n".join(lines + ["  no face within the radius"])
    for rank, name, *numbers, place in rows:
        cells = [rank.rjust(widths[0]), name.ljust(widths[1])] + [
            text.rjust(width) for text, width in zip(numbers, widths[2:])]
        lines.append(f"  {'  '.join(cells)}  {place}")
    if answer.more_ties:
        lines.append(f"  {answer.more_ties} more at distance {answer.distances[-1]}")
    return "\n".join(lines)


def found_text(gallery, judge, result):
    """On which photographs of the gallery a face was found, as text for people."""
    answer, shown = result.answer, {}
    for face, distance in zip(found_faces(gallery, answer), answer.distances):
        shown.setdefault(face.photograph, (distance, face))
    perhaps = judge.comparison.perhaps()
    tiers = [[item for item in shown.values() if low < item[0] <= high] for low, high in (
        (-1, judge.threshold), (judge.threshold, perhaps), (max(judge.threshold, perhaps), 2))]
    lines = [f"{title(result)}: in {len(tiers[0]) or 'no'} photograph{'s' * (len(tiers[0]) > 1)}"]
    if result.same:
        lines.append("  " + same_line(result))
    for heading, items in zip((
            None, "  perhaps in these (one face of somebody else is expected within "
            f"{number_text(perhaps)}):", "  the nearest others, most likely of other people:"),
            tiers):
        lines += [heading] if items and heading else []
        lines += [f"  {number_text(distance)}  {one_line(face.place, 200)}"
                  for distance, face in items]
    return "\n".join(lines)


def found_faces(gallery, answer):
    """The store.Faces of an Answer. Raises KeyError if one was removed since."""
    return gallery.faces(gallery.ids[answer.rows])


def engine_line(gallery, index):
    """Which engine compares codes, and how well it finds what an exact search finds."""
    recall = "exact" if index.exact else f"recall {index.recall:.4f} on a sample of {SAMPLE}"
    return (f"{len(gallery)} faces, codes of {gallery.num_bits} bits; engine {index.name}, "
            f"{recall}")


def decision_line(gallery, judge, index):
    """What compares faces, and what decides."""
    if judge.comparison.name == "codes":
        return engine_line(gallery, index)
    if gallery.embeddings is not None:
        return f"{len(gallery)} faces; the embeddings of all of them are compared"
    return f"{engine_line(gallery, index)}; then the embeddings of the nearest {CANDIDATES}"


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
    run = f" of run {one_line(info['run'])}" if info["run"] else ", without a run"
    lines.append(f"made by {one_line(info['method'], 40)}{run}: {info['num_bits']} bits, crop "
                 f"{one_line(crop, 40)}")
    if index is not None:
        lines.append(f"{decision_line(gallery, judge, index)}; {len(np.unique(gallery.codes))} "
                     "distinct codes")
    return "\n".join(lines + [threshold_text(gallery, judge)])


def threshold_text(gallery, judge):
    """The curve behind a gallery's threshold as a table, and the threshold taken from it."""
    if judge.comparison.name == "embeddings":
        return _public_threshold_text(gallery, judge)
    calibration = gallery.calibration
    if calibration is None:
        return "nobody is named: " + Judge(gallery, codes_alone=True).why_nobody()
    lines = [judge.comparison.source(),
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


def _public_threshold_text(gallery, judge):
    """threshold_text of a gallery with embeddings: also for ten times as many faces."""
    comparison, count = judge.comparison, len(gallery)
    head = ("distance", f"strangers named by {count} faces", "95 % interval",
            f"by {10 * count} faces", "people found by 1 face", "by 9 faces")
    rows = [head]
    steps = np.arange(int(comparison.farthest / 0.005) + 1) * 0.005
    for distance in sorted({*steps[steps >= 0.03].tolist(), judge.threshold}):
        named, more = comparison.strangers(distance), comparison.of_size(distance, 10 * count)
        found = comparison.found(distance)
        rows.append((number_text(distance), percent(named.rate),
                     f"{percent(named.low)} to {percent(named.high)}", percent(more.rate),
                     percent(found[0]), percent(found[-1])
                     + "  <- threshold" * (distance == judge.threshold)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    return "\n".join([f"strangers: {comparison.source()}"] + ["  ".join(
        [text.rjust(width) for text, width in zip(row, widths)] + [row[-1]]) for row in rows])


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
        caution=judge.caution(), decided_by=judge.comparison.name,
        strangers_named=judge.strangers() and judge.strangers()._asdict(), queries=[dict(
            photograph=result.photograph, face=result.number, faces=result.count,
            box=list(result.face.box), same=list(result.same),
            **answer_dict(gallery, result.answer)) for result in results],
        without_face=[dict(photograph=path, reason=reason) for path, reason in unread])
    return json.dumps(value, indent=1) + "\n"


def answer_dict(gallery, answer):
    """An Answer as plain values. Raises KeyError if one of its faces was removed since."""
    cosines = answer.nearest.cosines
    return dict(
        verdict=answer.verdict.to_dict(), more_ties=answer.more_ties,
        neighbours=[dict(rank=rank, id=face.id, identity=face.name, file=face.photograph,
                         place=face.place, box=list(face.box), distance=int(bits),
                         cosine=None if cosines is None else round(float(cosines[rank - 1]), 4))
                    for rank, (face, bits) in enumerate(
                        zip(found_faces(gallery, answer), answer.nearest.bits), 1)])


def to_csv(gallery, results):
    """All results as a CSV text, a row a neighbour."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        verdict = result.answer.verdict
        for item in answer_dict(gallery, result.answer)["neighbours"]:
            writer.writerow([
                result.photograph, result.number, verdict.name or "unknown", item["rank"],
                item["id"], item["identity"] or "", item["place"], item["distance"],
                "" if item["cosine"] is None else item["cosine"],
                verdict.probable.name if verdict.probable else ""])
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
        raise UserError(f"{path} exists, and this program did not write it; name another file, or "
                        "add --overwrite")


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
                zip(found_faces(gallery, result.answer), result.answer.nearest.bits), 1):
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
