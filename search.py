"""Finds faces in your photographs, and says whose they are.

    python search.py find PHOTO DIR                         photographs in DIR with PHOTO's faces
    python search.py index --images DIR --out GALLERY       makes a gallery of photographs
    python search.py index RUN --images DIR --out GALLERY   the same, with the codes of a run
    python search.py index RUN --gallery --out GALLERY      the run's own training images
    python search.py add GALLERY [--images DIR]             updates it from its folders
    python search.py groups GALLERY                         people, and groups of like faces
    python search.py name GALLERY --group 7 NAME            says who all faces of a group are
    python search.py name GALLERY --id 7 8 NAME             says who some faces are
    python search.py rename GALLERY OLD NEW                 renames a person, or merges two
    python search.py merge GALLERY WHO INTO [--never]       two are one person, or are not
    python search.py split GALLERY --id 7 8                 these are another person than the rest
    python search.py reject GALLERY --id 7 8 [NAME]         says that faces are not this person
    python search.py mark GALLERY PHOTO LEFT TOP RIGHT BOTTOM [--name NAME]   a face not found
    python search.py undo GALLERY                           takes the last of these steps back
    python search.py remove GALLERY --id 7 --name NAME --file PATH
    python search.py export GALLERY --xmp                   names, to sidecars (photographs stay)
    python search.py info GALLERY [--left-out] [--check]    its contents, and its threshold
    python search.py query GALLERY PHOTO [more | folder]    who is in these photographs
    python search.py serve [GALLERY | RUN]                  a page for your browser

Your own photographs need no run: faces are compared by a network that others trained
(faces/embedding.py). RUN is a run's folder. query, info and serve also take a RUN, and make a
gallery of its own images if there is none. Each command has its own --help. More: docs/search.md.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import hashlib
import math
import os
import sys
import textwrap
from pathlib import Path

from gallery import (
    answers,
    contact_sheet,
    following,
    indexing,
    marking,
    output_files,
    people,
    questions,
    sidecars,
    texts,
)
from gallery import groups as grouping
from gallery.engines import ENGINES, IvfIndex, choose_engine, open_index
from gallery.store import NO_GROUP, NOBODY, Gallery
from runtime import files
from runtime.command_line import ArgumentParser, check_output, counted, run_command
from runtime.errors import Failed, UserError, one_line
from runtime.settings import WHOLE_NUMBER

RUNS_DIR = "runs"
MILVUS = "milvus"
LEAST_FOUND = 3  # photographs that find shows also where none is near enough


def find(arguments):
    """Finds the photographs of a folder that show a face, by a gallery in a cache folder."""
    parser = _parser(find)
    parser.add_argument("photographs", metavar="PHOTO", nargs="+",
                        help="photographs, or folders of them")
    parser.add_argument("folder", metavar="DIR", help="folder of photographs to search, with all "
                                                      "folders below it")
    _add_threshold_arguments(parser)
    _add_output_arguments(parser)
    _add_cache_argument(parser)
    options = parser.parse_args(arguments)
    options.top, options.vote, options.radius = answers.MOST_TOP, answers.VOTERS, None
    options.codes_alone = False
    _check_query(options)
    for photograph in options.photographs:  # before the work on DIR
        if not os.path.exists(photograph):
            raise UserError(f"{one_line(photograph)} is not there")
    path = _cached_gallery(options.folder)
    quiet = "-" in (options.json, options.csv)
    report = indexing.index_photographs(path, [options.folder], "all", people=following.NO_PEOPLE,
                                        data_dir=options.data_dir)
    with Gallery.open(path) as gallery:
        if not quiet:
            for note in report.notes:
                print(note)
            print(", ".join(f"{what}: {count}" for what, count in report.counts.items() if count))
            print(f"gallery of {one_line(options.folder)}: {path}")
        _check_distances(gallery, options)
        judge = answers.Judge(gallery, options.far, options.threshold)
        options.radius = max(judge.threshold, judge.comparison.perhaps())
        _answer(gallery, judge, open_index(gallery), options, texts.found_text, LEAST_FOUND)


def _cached_gallery(folder):
    """Path of the gallery that find keeps of a folder."""
    real = following.real_folder(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:8]
    path = Path(cache, "dcbh", f"{os.path.basename(real)[:100]}-{digest}")
    with files.writing(path):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)  # private
    return path


def index(arguments):
    """Makes a gallery of photographs, or of a run's own images, or makes one again."""
    parser = _parser(index)
    parser.add_argument("run", metavar="RUN", nargs="?", help="folder of a run with trained "
                        "weights (default: none, which is best for your own photographs)")
    parser.add_argument("--images", metavar="DIR", action="append", default=[],
                        help="folder of photographs, or of a folder for each person; repeatable")
    parser.add_argument("--gallery", action="store_true", help="index the run's training images")
    parser.add_argument("--out", metavar="GALLERY", help="folder of the gallery (default for "
                        f"--gallery alone: RUN{indexing.SUFFIX})")
    _add_cache_argument(parser, "; name it if it has moved since the run was trained")
    parser.add_argument("--compute_dtype", choices=("float32", "bfloat16"),
                        help="type to encode in (default: the run's own)")
    _add_faces_arguments(parser, "folders", "auto")
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if not options.images and not options.gallery:
        raise UserError("name what to index: --images DIR, or --gallery for the run's own images")
    if options.images and not options.out:
        raise UserError("name the folder of the gallery: --out GALLERY")
    if options.gallery and not options.run:
        raise UserError("--gallery takes the images of a run: name the RUN")
    server = _server(options)
    out = options.out or indexing.own_gallery(options.run)
    if options.run:
        report = indexing.index(
            options.run, out, options.images, options.gallery, options.data_dir, options.faces,
            _own_engine(options), options.people, replace=not options.out,
            compute_dtype=options.compute_dtype, read_xmp=options.read_xmp)
    else:
        report = indexing.index_photographs(
            out, options.images, options.faces, _own_engine(options), options.people,
            options.data_dir, options.read_xmp)
    _report_change(out, report, server)


def add(arguments):
    """Updates a gallery from its folders: what is new, changed, moved, renamed or gone."""
    parser = _parser(add, "folder of the gallery")
    parser.add_argument("--images", metavar="DIR", action="append", default=[],
                        help="folder of photographs (default: those it was made of)")
    parser.add_argument("--keep-missing", action="store_true",
                        help="keep the faces of photographs that are gone")
    parser.add_argument("--rehash", action="store_true", help="compare contents even if "
                        "size and time of a file are the same")
    parser.add_argument("--restore", action="store_true",
                        help="add photographs again that were removed")
    _add_cache_argument(parser)
    _add_faces_arguments(parser)
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    server = _server(options)
    report = following.Report()
    if not server or options.images or _has_sources(options.gallery):  # else uploading is enough
        report = indexing.add(options.gallery, options.images, options.faces,
                              _own_engine(options), options.people, options.keep_missing,
                              options.rehash, options.restore, options.data_dir,
                              options.read_xmp)
    _report_change(options.gallery, report, server)


def rename(arguments):
    """Gives a person another name; if that is another person's, the two become one."""
    parser = _parser(rename, "folder of the gallery")
    parser.add_argument("old", metavar="OLD", help="name of the person")
    parser.add_argument("new", metavar="NEW", help="new name; folders of the old one still "
                                                  "mean the same person")
    options = parser.parse_args(arguments)
    done = people.rename(options.gallery, options.old, options.new)
    print(f"{one_line(options.old)} {'and' if done.merged else 'is now'} {one_line(done.name)}"
          f"{' are now one person' * done.merged}; {counted(done.faces, 'face', 'faces')} renamed")


def name(arguments):
    """Says who some faces are. `add` leaves such names alone."""
    parser = _parser(name, "folder of the gallery")
    parser.add_argument("--group", metavar="N", help="number of a group, of which all faces get "
                                                     "the name")
    _add_ids_argument(parser, "NAME", "the name of a new or known person")
    options, ids, names = _parse_ids(parser, arguments, is_named=True)
    if len(names) != 1 or (options.group is None) == (not ids):
        raise UserError("name faces as in: python search.py name GALLERY --id 7 8 NAME, or a group "
                        "as in: python search.py name GALLERY --group 7 NAME; put a name of "
                        "several words in quotation marks")
    given, = names
    if ids:
        done = people.name_faces(options.gallery, ids, given)
    else:
        done = people.name_group(options.gallery, options.group, given)
    print(f"{counted(done.faces, 'face is', 'faces are')} now {one_line(done.name)}")


def groups(arguments):
    """Lists people, and groups of like faces without a name; says which may be one person."""
    parser = _parser(groups, "folder of a gallery or a run")
    parser.add_argument("--least", type=int, default=2, metavar="N", help="list groups "
                        "without a name from this size on (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE.json", help="all groups with their faces, and "
                        "suggestions, as JSON; - prints this alone")
    parser.add_argument("--overwrite", action="store_true",
                        help="also replace a file that this program did not write")
    options = parser.parse_args(arguments)
    if options.least < 1:
        raise UserError(f"--least is {options.least}; it must be at least 1")
    _check_output_files(options, "json")
    with _gallery(options.gallery) as gallery:
        waiting = len(gallery) > grouping.EXACT_FACES and (
            (gallery.people == NOBODY) & (gallery.groups == NO_GROUP)).any()
    if waiting:
        try:
            grouping.group_new(gallery.path)
        except UserError as error:  # read-only, or somebody else writes: what there is, is shown
            print(f"note: new faces have no group yet: {error}", file=sys.stderr)
    with _gallery(options.gallery) as gallery:
        found = grouping.groups_of(gallery)
        suggested = grouping.suggestions(gallery, found)
        shown = [group for group in found
                 if group.name is not None or len(group.rows) >= options.least]
        if options.json != "-":
            print(texts.groups_text(gallery, shown, suggested))
        if options.json:
            output_files.write(options.json, texts.groups_json(gallery, shown, suggested))


def merge(arguments):
    """Makes two people, or groups of faces without a name, one person."""
    parser = _parser(merge, "folder of the gallery")
    parser.add_argument("who", metavar="WHO", help="name of a person, or number of a group")
    parser.add_argument("into", metavar="INTO", help="the same; if both have names, "
                        "this one is kept")
    parser.add_argument("--never", action="store_true", help="they are two people instead: they "
                        "are neither grouped nor suggested any more")
    options = parser.parse_args(arguments)
    if options.never:
        people.keep_apart(options.gallery, options.who, options.into)
        print(f"{one_line(options.who)} and {one_line(options.into)} are two people")
        return
    done = people.merge(options.gallery, options.who, options.into)
    name = f", {one_line(done.name)}" * (done.name is not None)
    print(f"{one_line(options.who)} and {one_line(options.into)} are now one person{name}")


def split(arguments):
    """Makes some faces another person than the rest of their group. They stay apart."""
    parser = _parser(split, "folder of the gallery")
    parser.add_argument("--id", type=int, nargs="+", required=True, help="ids of the faces")
    options = parser.parse_args(arguments)
    number = people.split(options.gallery, options.id)
    print(f"{counted(len(set(options.id)), 'face is', 'faces are')} now group {number}")


def reject(arguments):
    """Says that some faces are not the person or group they are in. They stay rejected."""
    parser = _parser(reject, "folder of the gallery")
    _add_ids_argument(parser, "[NAME]", "the person that they are not (default: who, or in which "
                                        "group, each of them is now)")
    options, ids, names = _parse_ids(parser, arguments)
    if not ids or len(names) > 1:
        raise UserError("reject faces as in: python search.py reject GALLERY --id 7 8, or: python "
                        "search.py reject GALLERY --id 7 8 NAME")
    left = people.reject(options.gallery, ids, names[0] if names else None)
    print(f"rejected {counted(len(set(ids)), 'face', 'faces')}; {left} left the person or group")


def mark(arguments):
    """Adds a face that the detector missed, by a box around it."""
    parser = _parser(mark, "folder of the gallery")
    parser.add_argument("photograph", metavar="PHOTO", help="photograph of the gallery")
    parser.add_argument("box", metavar="EDGE", nargs=4, type=float, help="left, top, right and "
                        "bottom edge of the box, in pixels of the upright photograph")
    parser.add_argument("--name", help="of the person (default: whom the face resembles)")
    options = parser.parse_args(arguments)
    face = marking.mark(options.gallery, options.photograph, options.box, options.name)
    print(f"face {face} was added to {one_line(options.photograph)}")


def export(arguments):
    """Writes names of faces to XMP sidecars beside the photographs, which stay as they are."""
    parser = _parser(export, "folder of the gallery")
    parser.add_argument("--xmp", action="store_true", help="write PHOTO.jpg.xmp, which "
                        "digiKam, immich, darktable and others read; theirs stay as they are")
    options = parser.parse_args(arguments)
    if not options.xmp:
        raise UserError("say that sidecars are to be written beside the photographs: --xmp")
    with Gallery.open(options.gallery) as gallery:
        counts, failed = sidecars.export(gallery)
    print("sidecars: " + ", ".join(f"{what}: {count}" for what, count in counts.items()))
    check_output()
    for line in failed:
        print(f"not written: {line}", file=sys.stderr)
    if failed:
        raise Failed(f"sidecars not written: {len(failed)}")


def undo(arguments):
    """Undoes the last rename, name, merge, split, reject or mark since the last `add`."""
    parser = _parser(undo, "folder of the gallery")
    options = parser.parse_args(arguments)
    print(f"undone: {people.undo(options.gallery)}")


def _add_ids_argument(parser, name, text):
    # Not nargs="+" of --id: it would take the name, too.
    parser.add_argument("rest", metavar=f"--id ID [ID ...] {name}", nargs="*",
                        help=f"ids of faces, and {text}")


def _parse_ids(parser, arguments, is_named=False):
    """(options, ids, names) of arguments with --id ID [ID ...] [NAME].

    Args:
        is_named: whether the last one is a name in any case, also if it is a number.
    """
    arguments = [part for text in arguments  # --id=7 is --id 7
                 for part in (text.split("=", 1) if text.startswith("--id=") else [text])]
    options = parser.parse_intermixed_args([text for text in arguments if text != "--id"])
    rest, ids = options.rest, []
    while "--id" in arguments and len(rest) > is_named and WHOLE_NUMBER.match(rest[0]):
        ids.append(int(rest[0]))
        rest = rest[1:]
    return options, ids, rest


def remove(arguments):
    """Removes faces, with their thumbnails and names."""
    parser = _parser(remove, "folder of the gallery")
    parser.add_argument("--id", type=int, nargs="+", default=[], help="ids of faces")
    parser.add_argument("--name", nargs="+", default=[], help="names of people")
    parser.add_argument("--file", nargs="+", default=[], help="photographs, or folders of them")
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if not options.id and not options.name and not options.file:
        raise UserError("name what to remove: --id, --name or --file")
    server = _server(options)
    report = following.Report()
    report.counts["faces removed"] = people.remove(options.gallery, options.id, options.name,
                                                   options.file)
    _report_change(options.gallery, report, server)


def info(arguments):
    """Says what a gallery holds, and shows the curve behind its threshold."""
    parser = _parser(info, "folder of a gallery or a run")
    parser.add_argument("--far", type=float, default=answers.DEFAULT_RATE, metavar="RATE",
                        help="share of strangers that may be named (default: %(default)s)")
    parser.add_argument("--left-out", action="store_true",
                        help="list the files of its folders that gave no face, and why")
    parser.add_argument("--check", action="store_true", help="read everything, and check that "
                                                             "nothing is damaged")
    _add_codes_argument(parser)
    options = parser.parse_args(arguments)
    _check_far(options.far)
    with _gallery(options.gallery) as gallery:
        if options.check:
            gallery.check()
        index = open_index(gallery) if len(gallery) else None
        judge = answers.Judge(gallery, options.far, codes_alone=options.codes_alone)
        print(texts.gallery_text(gallery, judge, index))
        if options.left_out:
            for path, reason, count in gallery.left_out():
                files = f" ({count} files)" if count != 1 else ""
                print(f"{one_line(path)}{files}: {one_line(reason)}")
        if options.check:
            print("nothing is damaged")
    check_output()


def query(arguments):
    """Says who is in photographs, and shows the nearest faces. Each face is a query."""
    parser = _parser(query, "folder of a gallery or a run")
    parser.add_argument("photographs", metavar="PHOTO", nargs="+",
                        help="photographs, or folders of them")
    parser.add_argument("--top", type=int, metavar="N",
                        help="nearest faces to show (default: 10; with --radius all within it)")
    parser.add_argument("--radius", type=float, metavar="R", help="only faces within this distance "
                        "(from 0 to 2; in bits with --codes_alone, or of a gallery "
                        "that has only codes)")
    parser.add_argument("--vote", type=int, default=answers.VOTERS, metavar="N",
                        help="nearest faces that vote for the name (default: %(default)s)")
    _add_threshold_arguments(parser)
    _add_codes_argument(parser)
    _add_output_arguments(parser)
    _add_engine_arguments(parser, "where the codes are compared (default: the gallery's own)")
    options = parser.parse_args(arguments)
    _check_query(options)
    server = _server(options)
    with _gallery(options.gallery) as gallery:
        _check_distances(gallery, options)
        judge = answers.Judge(gallery, options.far, options.threshold, options.vote,
                              options.codes_alone)
        index = server.open_index(gallery) if server else open_index(gallery,
                                                                     _own_engine(options))
        _answer(gallery, judge, index, options, texts.table)


def _answer(gallery, judge, index, options, text, least=0):
    """Answers for the photographs that options name; `text` makes one Result a text."""
    try:
        found, unread = questions.query_photographs(
            gallery, index, judge, options.photographs, options.top, options.radius, least)
        _write_results(gallery, judge, found, unread, index, options, text)
    except KeyError:
        raise Failed(f"{gallery.path} has changed in the meantime; ask again")


def serve(arguments):
    """Serves a page that searches a gallery."""
    parser = _parser(serve)
    parser.add_argument("gallery", metavar="GALLERY", nargs="?",
                        help="folder of a gallery or a run (default: the newest run in runs/)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: "
                        "%(default)s, this machine alone); with another one a token is needed")
    parser.add_argument("--port", type=int, default=8000,
                        help="port to listen on (default: %(default)s; 0: any free port)")
    parser.add_argument("--public_url", metavar="https://NAME", help="address under which a proxy "
                        "shows the page to others; a token is needed then")
    _add_threshold_arguments(parser)
    _add_codes_argument(parser)
    _add_engine_arguments(parser, "where the codes are compared (default: the gallery's own)")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        raise UserError(f"--port is {options.port}; it must be from 0 to 65535")
    _check_threshold(options)
    from gallery import server as web_server  # here: the other commands need no Tornado

    server = _server(options)
    path = options.gallery or indexing.newest_run(RUNS_DIR)
    gallery = _gallery(path)
    _check_distances(gallery, options)
    web_server.serve(
        gallery, options.host, options.port, options.public_url,
        open_index=server.open_index if server else
        lambda gallery: open_index(gallery, _own_engine(options)),
        make_judge=lambda gallery: answers.Judge(gallery, options.far, options.threshold,
                                                 codes_alone=options.codes_alone))


def _check_query(options):
    _check_threshold(options)
    if options.top is None:
        options.top = 10 if options.radius is None else answers.MOST_TOP
    if not 1 <= options.top <= answers.MOST_TOP:
        raise UserError(f"--top is {options.top}; it must be from 1 to {answers.MOST_TOP}")
    if options.radius is not None and not 0 <= options.radius < math.inf:
        raise UserError(f"--radius is {options.radius:g}; it must not be negative")
    if not 1 <= options.vote <= 1000:
        raise UserError(f"--vote is {options.vote}; it must be from 1 to 1000")
    _check_output_files(options, "sheet", "json", "csv")
    if options.sheet and not options.overwrite:
        output_files.check_replaceable(_picture(options))
    if options.json == "-" and options.csv == "-":
        raise UserError("--json - and --csv - would both be printed; name a file for one of them")
    if options.copy is not None:
        output_files.check_copy_folder(options.copy)


def _check_output_files(options, *names):
    """Raises UserError unless the files that options of these names name can be written."""
    for name in names:
        path, ending = getattr(options, name), ".html" if name == "sheet" else f".{name}"
        if not path or (path == "-" and name != "sheet"):
            continue
        if not path.endswith(ending):
            raise UserError(f"--{name} is {path}; its name must end in {ending}")
        if not options.overwrite:
            output_files.check_replaceable(path)


def _check_threshold(options):
    _check_far(options.far)
    if options.threshold is not None and not 0 <= options.threshold < math.inf:
        raise UserError(f"--threshold is {options.threshold:g}; it must not be negative")


def _check_distances(gallery, options):
    """Raises UserError where a distance in bits is given, and vectors are compared."""
    for name in ("threshold", "radius"):
        value = getattr(options, name, None)  # serve has no radius
        if (value is not None and value > 2 and gallery.has_vectors
                and not options.codes_alone):
            raise UserError(f"--{name} is {value:g}; vectors are compared here, and their "
                            "distances are from 0 to 2 (--codes_alone compares codes)")


def _check_far(rate):
    if not 0 < rate < 1:
        raise UserError(f"--far is {rate:g}; it must lie between 0 and 1")


def _picture(options):
    return os.path.splitext(options.sheet)[0] + ".png"


def _write_results(gallery, judge, found, unread, index, options, text):
    """Prints and writes the results of a query; copies come last."""
    for path, reason in unread:
        print(f"{one_line(path)}: {reason}", file=sys.stderr)
    is_alone = "-" in (options.json, options.csv)
    if not is_alone:
        print(texts.decision_line(gallery, judge, index))
        if texts.rate_line(judge):  # empty without a threshold
            print(texts.rate_line(judge))
        if judge.caution():
            print(f"caution: {judge.caution()}")
        for result in found:
            print("\n" + text(gallery, judge, result))
    if options.json:
        output_files.write(options.json, texts.to_json(gallery, judge, found, unread))
    if options.csv:
        output_files.write(options.csv, texts.to_csv(gallery, found))
    if options.sheet:
        output_files.write(options.sheet, contact_sheet.html(gallery, judge, found))
        output_files.write(_picture(options), contact_sheet.png(gallery, found))
        if not is_alone:
            print(f"\ncontact sheet: {options.sheet}, {_picture(options)}")
    failed = []
    if options.copy is not None:
        copied, failed = output_files.copy_matches(gallery, found, options.copy)
        if not is_alone:
            print(f"\ncopied {copied} files to {options.copy}")
    check_output()
    for line in failed:
        print(f"not copied: {line}", file=sys.stderr)
    if failed and not copied:
        raise Failed(f"nothing was copied to {options.copy}")


COMMANDS = {function.__name__: function
            for function in (find, index, add, groups, rename, name, merge, split, reject, mark,
                             undo, remove, export, info, query, serve)}


def main(arguments):
    """Runs the command that the first argument names."""
    if arguments and arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:])
        return
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=list(COMMANDS))
    parser.parse_args(arguments[:1])


def _parser(command, gallery=None):
    """The parser of a command, whose docstring is its help; `gallery`: help of GALLERY, if any."""
    description = textwrap.fill(" ".join(command.__doc__.split()), 80)
    parser = ArgumentParser(prog=f"search.py {command.__name__}", description=description)
    if gallery:
        parser.add_argument("gallery", metavar="GALLERY", help=gallery)
    return parser


def _add_faces_arguments(parser, people=None, faces=None):
    """Adds what says who is in photographs; None: the default is what the gallery was made with."""
    parser.add_argument("--people", metavar="SOURCE", default=people,
                        help="where names come from: folders (below DIR, a folder for each "
                             "person), none, or a list, FILE.csv (file, identity) (default: "
                             f"{people or 'as before'})")
    parser.add_argument("--faces", choices=indexing.FACES, default=faces,
                        help="which of several faces to take: auto takes the largest if the "
                             "photograph's person is known, else all (default: "
                             f"{faces or 'as before'})")
    parser.add_argument("--read_xmp", action="store_true", help="also take names from XMP sidecars "
                        "beside the photographs, as digiKam, Lightroom and immich write them")


def _add_output_arguments(parser):
    parser.add_argument("--sheet", metavar="FILE.html", help="contact sheet, one file; a PNG of "
                                                             "the same name goes beside it")
    parser.add_argument("--json", metavar="FILE.json", help="answers as JSON; - prints this alone")
    parser.add_argument("--csv", metavar="FILE.csv", help="answers as CSV; - prints this alone")
    parser.add_argument("--copy", metavar="DIR", help="new folder to copy the photographs found to")
    parser.add_argument("--overwrite", action="store_true",
                        help="also replace files that this program did not write")


def _add_cache_argument(parser, more=""):
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the data sets, where "
                        f"prepare.py keeps what it found, so that nothing is found twice{more}")


def _add_threshold_arguments(parser):
    parser.add_argument("--far", type=float, default=answers.DEFAULT_RATE, metavar="RATE",
                        help="share of strangers that may be named (default: %(default)s)")
    parser.add_argument("--threshold", type=float, metavar="D",
                        help="distance up to which a face is named, instead of --far (for "
                             "embeddings about 0.06)")


def _add_codes_argument(parser):
    parser.add_argument("--codes_alone", action="store_true", help="compare codes alone, even "
                        "if the gallery also has vectors of its faces")


def _add_engine_arguments(parser, use="how codes will be compared (default: auto, by size)"):
    parser.add_argument("--engine", choices=["auto"] + list(ENGINES) + [MILVUS], default="auto",
                        help=use)
    parser.add_argument("--uri", metavar="HOST:PORT", help="address of the Milvus server; "
                        "https:// before it for TLS. The variable MILVUS_TOKEN holds its token")
    parser.add_argument("--ca", metavar="FILE.pem", help="certificate of the server's authority")


def _server(options):
    """The Milvus server that options name, or None."""
    if options.engine != MILVUS:
        if options.uri or options.ca:
            raise UserError("--uri and --ca go with --engine milvus")
        return None
    from gallery import milvus  # here: pymilvus is not installed everywhere

    return milvus.Server(options.uri, os.environ.get("MILVUS_TOKEN"), options.ca)


def _own_engine(options):
    """The engine to use in this process; None for the one that suits."""
    return options.engine if options.engine in ENGINES else None


def _gallery(path):
    """The gallery at a path, or that of the run there."""
    path, report = indexing.gallery_of(path)
    if report is not None:
        print(f"indexed the run's own {report.counts['faces']} images: {path}", flush=True)
    return Gallery.open(path)


def _has_sources(path):
    with Gallery.open(path) as gallery:
        return bool(gallery.sources())


def _report_change(path, report, server):
    """Says what a change did; uploads the gallery where a server was named."""
    for note in report.notes:
        print(note)
    print(", ".join(f"{what}: {count}" for what, count in report.counts.items()))
    with Gallery.open(path) as gallery:
        nameless = sum(group.name is None for group in grouping.groups_of(gallery, least=2))
        print(f"{path}: {counted(len(gallery), 'face', 'faces')}, "
              + counted(len(gallery.names), "person", "people")
              + f", {counted(nameless, 'group', 'groups')} without a name" * bool(nameless))
        if server:
            print(texts.engine_line(gallery, server.upload(gallery)))
        elif (gallery.info["engine"] or choose_engine(
                len(gallery), gallery.has_vectors)) == IvfIndex.name:
            print(texts.engine_line(gallery, open_index(gallery)))


if __name__ == "__main__":
    run_command(main)
