"""Searches a gallery of faces: index my photographs, who is this, show me.

    python search.py index RUN --images DIR --out GALLERY   photographs, or a folder for each person
    python search.py index RUN --gallery --out GALLERY      the run's own images
    python search.py add GALLERY [--images DIR]             new and changed photographs
    python search.py remove GALLERY --id 7 --name NAME --file PATH
    python search.py info GALLERY [--check]                 what it holds, and its threshold
    python search.py query GALLERY PHOTO [more | folder]    who is this
    python search.py serve [GALLERY | RUN]                  a page for your browser

Each has its own --help. RUN is a run's folder; where query, info and serve want a GALLERY, a RUN
stands for a gallery of its own images, which is made if need be. More: docs/search.md.
"""

import runtime.environment  # noqa: F401  first: says in one line what is not installed

# isort: split

import os
import sys
from collections import OrderedDict

from gallery import answers, changes, contact_sheet, indexing, queries, results
from gallery.engines import ENGINES
from gallery.gallery import Gallery
from runtime.command_line import ArgumentParser, check_output, run_command
from runtime.errors import UserError, one_line

RUNS_DIR = "runs"
MILVUS = "milvus"


def index(arguments):
    """Makes a gallery of photographs, or of a run's own images."""
    parser = _parser("index", "Makes a gallery. In a gallery of the same run it replaces all.")
    parser.add_argument("run", metavar="RUN", help="folder of a run with trained weights")
    parser.add_argument("--images", metavar="DIR", action="append", default=[],
                        help="folder of photographs, or of a folder for each person; repeatable")
    parser.add_argument("--gallery", action="store_true", help="the run's own training images")
    parser.add_argument("--out", metavar="GALLERY", help="folder of the gallery (default, of the "
                        "run's own images alone: RUN%s)" % changes.SUFFIX)
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the data sets, if it has "
                                                          "moved since the run was trained")
    _add_faces_argument(parser)
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if not options.images and not options.gallery:
        raise UserError("name what to index: --images DIR, or --gallery for the run's own images")
    if options.images and not options.out:
        raise UserError("name the folder of the gallery: --out GALLERY")
    server = _server(options)
    gallery, counts = changes.index(
        options.run, options.out or changes.own_gallery(options.run), options.images,
        options.gallery, options.data_dir, options.faces, _own_engine(options))
    _report_change(gallery, counts, server)


def add(arguments):
    """Adds new and changed photographs to a gallery."""
    parser = _parser("add", "Adds photographs that are new, or changed since they were read.")
    parser.add_argument("gallery", metavar="GALLERY", help="folder of the gallery")
    parser.add_argument("--images", metavar="DIR", action="append", default=[],
                        help="folder of photographs (default: those it was made of)")
    _add_faces_argument(parser)
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    server = _server(options)
    if server and not options.images and not _opened(options.gallery).state["sources"]:
        gallery, counts = _opened(options.gallery), OrderedDict()  # to upload it is enough
    else:
        gallery, counts = changes.add(options.gallery, options.images, options.faces,
                                      _own_engine(options))
    _report_change(gallery, counts, server)


def remove(arguments):
    """Removes faces from a gallery."""
    parser = _parser("remove", "Removes faces, with their thumbnails and names.")
    parser.add_argument("gallery", metavar="GALLERY", help="folder of the gallery")
    parser.add_argument("--id", type=int, nargs="+", default=[], help="ids of faces")
    parser.add_argument("--name", nargs="+", default=[], help="people")
    parser.add_argument("--file", nargs="+", default=[], help="photographs, or folders of them")
    _add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if not options.id and not options.name and not options.file:
        raise UserError("name what to remove: --id, --name or --file")
    server = _server(options)
    gallery, count = changes.remove(options.gallery, options.id, options.name, options.file)
    _report_change(gallery, OrderedDict([("faces removed", count)]), server)


def info(arguments):
    """Says what a gallery holds, and how well its threshold is known."""
    parser = _parser("info", "What a gallery holds, and the curve behind its threshold.")
    parser.add_argument("gallery", metavar="GALLERY", help="folder of a gallery or a run")
    parser.add_argument("--far", type=float, default=answers.DEFAULT_RATE, metavar="RATE",
                        help="share of strangers that may be named (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="read every file and compare its "
                                                             "checksum")
    options = parser.parse_args(arguments)
    gallery = _gallery(options.gallery)
    if options.check:
        gallery.check()
        for row in range(len(gallery)):
            gallery.thumbnail(row)
    print(results.gallery_text(gallery, _judge(gallery, options.far)))
    if options.check:
        print("every file is as it was written")


def query(arguments):
    """Says who is on photographs, and shows the nearest faces."""
    parser = _parser("query", "Every face of every photograph is a query of its own.")
    parser.add_argument("gallery", metavar="GALLERY", help="folder of a gallery or a run")
    parser.add_argument("photographs", metavar="PHOTO", nargs="+",
                        help="photographs, or folders of them")
    parser.add_argument("--top", type=int, metavar="N",
                        help="nearest faces to show (default: 10; with --radius all within it)")
    parser.add_argument("--radius", type=int, metavar="R", help="only those within this distance")
    parser.add_argument("--vote", type=int, default=answers.VOTERS, metavar="N",
                        help="nearest faces that vote for the name (default: %(default)s)")
    _add_threshold_arguments(parser)
    parser.add_argument("--sheet", metavar="FILE.html", help="contact sheet, one file; a PNG of "
                                                             "the same name goes beside it")
    parser.add_argument("--json", metavar="FILE.json", help="all as JSON; - prints it alone")
    parser.add_argument("--csv", metavar="FILE.csv", help="the rows as CSV; - prints it alone")
    parser.add_argument("--copy", metavar="DIR", help="copies the photographs found; a new folder")
    _add_engine_arguments(parser, "where the codes are compared (default: the gallery's own)")
    options = parser.parse_args(arguments)
    _check_query(options)
    server = _server(options)
    gallery = _gallery(options.gallery)
    judge = _judge(gallery, options.far, options.threshold, options.vote)
    index = server.open_index(gallery) if server else gallery.index(_own_engine(options))
    found, unread = queries.query_photographs(
        gallery, index, judge, options.photographs, options.top, options.radius)
    _write_results(gallery, found, unread, index, options)


def serve(arguments):
    """Serves a page that searches a gallery."""
    parser = _parser("serve", "A page on this machine that searches a gallery.")
    parser.add_argument("gallery", metavar="GALLERY", nargs="?",
                        help="folder of a gallery or a run (default: the newest run in runs/)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: "
                        "%(default)s, this machine alone); with another one a token is needed")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s; 0: any")
    parser.add_argument("--public_url", metavar="https://NAME", help="address under which a proxy "
                        "shows the page to others; a token is needed then")
    _add_threshold_arguments(parser)
    _add_engine_arguments(parser, "where the codes are compared (default: the gallery's own)")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        raise UserError("--port is %d; it must be from 0 to 65535" % options.port)
    _check_threshold(options)
    from gallery import server as web_server  # here: the other commands need no Tornado

    server = _server(options)
    path = options.gallery or changes.newest_run(RUNS_DIR)
    gallery = _gallery(path)
    web_server.serve(
        gallery, options.host, options.port, options.public_url,
        open_index=server.open_index if server else
        lambda gallery: gallery.index(_own_engine(options)),
        make_judge=lambda gallery: _judge(gallery, options.far, options.threshold))


def _check_query(options):
    _check_threshold(options)
    if options.top is None:
        options.top = 10 if options.radius is None else answers.MOST_TOP
    if not 1 <= options.top <= answers.MOST_TOP:
        raise UserError("--top is %d; it must be from 1 to %d" % (options.top, answers.MOST_TOP))
    if options.radius is not None and options.radius < 0:
        raise UserError("--radius is %d; it must not be negative" % options.radius)
    if not 1 <= options.vote <= 1000:
        raise UserError("--vote is %d; it must be from 1 to 1000" % options.vote)
    for name in ("sheet", "json", "csv"):
        path, ending = getattr(options, name), ".html" if name == "sheet" else "." + name
        if path and not (path.endswith(ending) or (path == "-" and name != "sheet")):
            raise UserError("--%s is %s; its name must end in %s" % (name, path, ending))
    if options.json == "-" and options.csv == "-":
        raise UserError("--json - and --csv - would both be printed; name a file for one of them")
    if options.copy:
        results.check_copy_folder(options.copy)


def _check_threshold(options):
    if not 0 < options.far < 1:
        raise UserError("--far is %g; it must lie between 0 and 1" % options.far)
    if options.threshold is not None and options.threshold < 0:
        raise UserError("--threshold is %d; it must not be negative" % options.threshold)


def _write_results(gallery, found, unread, index, options):
    """Writes and prints the results of a query, files first."""
    for path, reason in unread:
        print("%s: %s" % (one_line(path), reason), file=sys.stderr)
    if options.json and options.json != "-":
        results.write_text(options.json, results.to_json(gallery, found, unread))
    if options.csv and options.csv != "-":
        results.write_text(options.csv, results.to_csv(gallery, found))
    if options.sheet:
        results.write_text(options.sheet, contact_sheet.html(gallery, found))
        picture = os.path.splitext(options.sheet)[0] + ".png"
        results.write_bytes(picture, contact_sheet.png(gallery, found))
    copied = results.copy_matches(gallery, found, options.copy) if options.copy else None
    if options.json == "-":
        print(results.to_json(gallery, found, unread), end="")
    elif options.csv == "-":
        print(results.to_csv(gallery, found), end="")
    else:
        print(results.engine_line(gallery, index))
        for result in found:
            print("\n" + results.table(gallery, result))
        if options.sheet:
            print("\ncontact sheet: %s, %s" % (options.sheet, picture))
        if copied:
            print("copied %d files to %s%s" % (copied[0], options.copy, (
                "; %d are no longer where they were, the first %s"
                % (len(copied[1]), one_line(copied[1][0])) if copied[1] else "")))
    check_output()


COMMANDS = OrderedDict((function.__name__, function)
                       for function in (index, add, remove, info, query, serve))


def main(arguments):
    """Runs the command that the first argument names."""
    if arguments and arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:])
        return
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=list(COMMANDS))
    parser.parse_args(arguments[:1])


def _parser(name, description):
    return ArgumentParser(prog="search.py " + name, description=description)


def _add_faces_argument(parser):
    parser.add_argument("--faces", choices=indexing.FACES, default="auto",
                        help="of a photograph with several: auto takes the largest where the "
                             "folder names the person, else all (default: auto)")


def _add_threshold_arguments(parser):
    parser.add_argument("--far", type=float, default=answers.DEFAULT_RATE, metavar="RATE",
                        help="share of strangers that may be named (default: %(default)s)")
    parser.add_argument("--threshold", type=int, metavar="D",
                        help="distance up to which a face is named, instead of --far")


def _add_engine_arguments(parser, use="how codes will be compared (default: auto, by size and "
                                      "bits)"):
    parser.add_argument("--engine", choices=["auto"] + list(ENGINES) + [MILVUS], default="auto",
                        help=use)
    parser.add_argument("--uri", metavar="HOST:PORT", help="of --engine milvus; https:// before "
                        "it for TLS. A token is taken from the variable MILVUS_TOKEN")
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
    return None if options.engine in ("auto", MILVUS) else options.engine


def _opened(path):
    return Gallery.open(path)


def _gallery(path):
    """The gallery at a path, or that of the run there."""
    path, counts = changes.gallery_of(path)
    if counts is not None:
        print("indexed the run's own %d images: %s" % (counts["faces"], path), flush=True)
    return Gallery.open(path)


def _judge(gallery, rate, threshold=None, voters=answers.VOTERS):
    return answers.Judge(gallery, rate, threshold, voters)


def _report_change(gallery, counts, server):
    """Says what a change did; uploads the gallery where a server was named."""
    print(results.change_text(gallery, counts))
    if server:
        index = server.upload(gallery)
        print(results.engine_line(gallery, index))


if __name__ == "__main__":
    run_command(main)
