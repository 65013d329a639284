"""Answers as text: for people, as JSON, and as CSV."""

import csv
import io
import itertools
import json

import numpy as np

from gallery.answers import percent
from gallery.comparison import PERHAPS
from gallery.engines import SAMPLE
from runtime.command_line import counted
from runtime.errors import one_line

EXAMPLES = 8  # faces of a group that are listed
COLUMNS = ("query", "face", "verdict", "rank", "id", "person", "file", "distance",
           "cosine_distance", "probably")


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
    rows = [("rank", "person", "cosine distance", "Hamming distance", "id", "file")]
    for rank, face, bits in found_faces(gallery, answer):
        cosine = "" if cosines is None else number_text(cosines[rank - 1])
        rows.append((str(rank), one_line(face.name or "-", 40), cosine, str(bits), str(face.id),
                     one_line(face.place, 200)))
    if cosines is None:
        rows = [row[:2] + row[3:] for row in rows]
    lines = [title(result), "  " + verdict_line(answer.verdict)]
    if result.same:
        lines.append("  " + same_line(result))
    if len(rows) == 1:
        return "\n".join(lines + ["  no face within the radius"])
    lines += ["  " + line for line in _aligned(rows, left=1)]
    if answer.nearest.more_ties:
        lines.append(f"  {answer.nearest.more_ties} more at distance {answer.nearest.bits[-1]}")
    return "\n".join(lines)


def found_text(gallery, judge, result):
    """On which photographs of the gallery a face was found, as text for people."""
    answer, shown = result.answer, {}
    for (_, face, _), distance in zip(found_faces(gallery, answer), answer.nearest.distances):
        shown.setdefault(face.photograph, (distance, face))
    perhaps = judge.comparison.perhaps()
    tiers = [[item for item in shown.values() if low < item[0] <= high] for low, high in (
        (-1, judge.threshold), (judge.threshold, perhaps), (max(judge.threshold, perhaps), 2))]
    lines = [f"{title(result)}: in {len(tiers[0]) or 'no'} photograph{'s' * (len(tiers[0]) > 1)}"]
    if result.same:
        lines.append("  " + same_line(result))
    for heading, items in zip((
            None, f"  perhaps in these (within {number_text(perhaps)}, {percent(PERHAPS)} of "
            "queries find somebody else):", "  the nearest others, most likely of other people:"),
            tiers):
        lines += [heading] if items and heading else []
        lines += [f"  {number_text(distance)}  {one_line(face.place, 200)}"
                  for distance, face in items]
    return "\n".join(lines)


def found_faces(gallery, answer):
    """[(rank, store.Face, bits)] of an Answer. Raises KeyError if a face was removed since."""
    return [(rank, face, int(bits)) for rank, (face, bits) in enumerate(
        zip(gallery.faces(gallery.ids[answer.nearest.rows]), answer.nearest.bits), 1)]


def engine_line(gallery, index):
    """Which engine compares codes, and its recall."""
    recall = "exact" if index.exact else f"recall {index.recall:.4f} on a sample of {SAMPLE}"
    return (f"{len(gallery)} faces, codes of {gallery.num_bits} bits; engine {index.name}, "
            f"{recall}")


def decision_line(gallery, judge, index):
    """What compares faces, and what decides."""
    if judge.comparison.name == "codes":
        return engine_line(gallery, index)
    which = "all of them" if gallery.compares_all else (
        f"the {judge.comparison.candidates} nearest by code")
    return f"{len(gallery)} faces; the {judge.comparison.name} of {which} are compared"


def gallery_text(gallery, judge, index):
    """What a gallery is, and the curve behind its threshold; the index of an empty one is None."""
    info = gallery.info
    crop = (info["crop"] or {}).get("method", "none")
    empty = gallery.count("photographs", "reason != ''")
    lines = [f"{gallery.path}: {counted(len(gallery), 'face', 'faces')}, "
             f"{counted(len(gallery.names), 'person', 'people')}, "
             f"{counted(gallery.count('photographs'), 'photograph', 'photographs')} "
             f"({empty} without a face)"]
    lines += [f"  of {one_line(source)}" for source in gallery.sources()]
    left_out = sum(count for _, _, count in gallery.left_out()) - empty
    if left_out:
        lines.append(f"{counted(left_out, 'other file', 'other files')} left out; --left-out lists "
                     "them")
    run = f" of run {one_line(info['run'])}" if info["run"] else ", without a run"
    lines.append(f"made by {one_line(info['method'], 40)}{run}: {info['num_bits']} bits, crop "
                 f"{one_line(crop, 40)}")
    if index is None:
        return "\n".join(lines + ["it has no faces yet"])
    lines.append(f"{decision_line(gallery, judge, index)}; {len(np.unique(gallery.codes))} "
                 "distinct codes")
    return "\n".join(lines + [threshold_text(gallery, judge)])


def threshold_text(gallery, judge):
    """The curve behind a gallery's threshold as a table, and the threshold taken from it."""
    if judge.comparison.name == "embeddings":
        return _public_threshold_text(gallery, judge)
    comparison = judge.comparison
    calibration = comparison.calibration
    if calibration is None:
        return "nobody is named: " + comparison.why_nobody(judge.rate)
    lines = [comparison.source(),
             "distance  strangers named  at most (95 %)  known people missed"]
    for place, (named, at_most, missed) in enumerate(comparison.curve()):
        distance = place * comparison.step
        if place % comparison.shown_steps and distance != judge.threshold:
            continue
        missed = "-" if missed is None else f"{100 * missed:.2f}%"
        lines.append(f"{number_text(distance):>8}  {100 * named:14.2f}%  {100 * at_most:13.2f}%  "
                     f"{missed:>18}" + "  <- threshold" * (distance == judge.threshold))
        if named > 0.5:
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
    return "\n".join([f"strangers: {comparison.source()}"] + _aligned(rows))


def _aligned(rows, left=None):
    """Rows of texts as lines: columns to the right, but the column `left`, and the last."""
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    return ["  ".join([text.ljust(width) if column == left else text.rjust(width)
                       for column, (text, width) in enumerate(zip(row, widths))] + [row[-1]])
            for row in rows]


def groups_text(gallery, groups, suggestions):
    """gallery.groups' Groups and Suggestions, for people."""
    lines = []
    for group in groups:
        examples = " ".join(map(str, gallery.ids[group.rows[:EXAMPLES]]))
        more = " ..." * (len(group.rows) > EXAMPLES)
        lines.append(f"{len(group.rows):6d}  {one_line(group.who, 60)}  (faces {examples}{more})")
    lines = lines or [f"{gallery.path} has neither people nor groups of faces"]
    if len(gallery) and not gallery.has_embeddings:
        lines.append("faces without a name are grouped by their embeddings, and this gallery has "
                     "none")
    if suggestions:
        lines.append("perhaps one person (python search.py merge GALLERY WHO INTO; --never if "
                     "not), with the mean distance of their faces:")
        lines += [f"  {number_text(distance)}  {one_line(first.who, 60)} and "
                  f"{one_line(second.who, 60)}"
                  for first, second, distance in suggestions]
    return "\n".join(lines)


# JSON and CSV


def groups_json(gallery, groups, suggestions):
    """As JSON what groups_text says, with all faces."""
    faces = iter(gallery.faces(gallery.ids[row] for group in groups for row in group.rows))
    return json.dumps(dict(
        gallery=str(gallery.path), faces=len(gallery), groups=[dict(
            name=group.name, group=group.number,
            faces=[dict(id=face.id, file=face.photograph, box=list(face.box), place=face.place)
                   for face in itertools.islice(faces, len(group.rows))]) for group in groups],
        suggestions=[dict(who=first.who, other=second.who, distance=round(distance, 4))
                     for first, second, distance in suggestions]), indent=1) + "\n"


def to_json(gallery, judge, results, unread):
    """All Results of a Judge as a JSON text; `unread` are (photograph, reason) without a face."""
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
        verdict=answer.verdict.to_dict(), more_ties=answer.nearest.more_ties,
        neighbours=[dict(rank=rank, id=face.id, person=face.name, file=face.photograph,
                         place=face.place, box=list(face.box), distance=bits,
                         cosine_distance=None if cosines is None else (
                             round(float(cosines[rank - 1]), 4)))
                    for rank, face, bits in found_faces(gallery, answer)])


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
                item["id"], item["person"] or "", item["place"], item["distance"],
                "" if item["cosine_distance"] is None else item["cosine_distance"],
                verdict.probable.name if verdict.probable else ""])
    return stream.getvalue()
