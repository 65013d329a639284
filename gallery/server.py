"""A web page that searches a gallery: Flask behind waitress, on this machine alone by default.

Who may ask: a page of ours, in a browser that came to us by a name we know (no other site's page,
no name that points here by a trick), and, where other machines can reach us, who has the token.
Photographs are sent as the body of a request and stay in memory; nothing is written.
"""

import hmac
import ipaddress
import logging
import secrets
import socket

import flask
import waitress

from faces.photographs import PhotographError
from gallery.searcher import MOST_PAGE, PAGE, Searcher
from gallery.thumbnails import media_type
from runtime.errors import UserError

MOST_BYTES = 20 * 1000 * 1000  # of an uploaded photograph
THREADS = 8
COOKIE = "gallery_token"
UPLOAD_TYPE = "application/octet-stream"  # which another site's page may not send without asking
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def serve(gallery, host, port, open_index, make_judge):
    """Serves until it is interrupted.

    Args:
        gallery: gallery.gallery.Gallery.
        host: address to listen on; other than this machine's own it takes a token.
        port: 0 for any that is free.
        open_index, make_judge: see gallery.searcher.Searcher.

    Raises:
        UserError: the address cannot be listened on.
    """
    check_free(host, port)  # before the encoder is opened, which takes seconds
    searcher = Searcher(gallery, open_index, make_judge)
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    access = Access(token)
    server = make_server(create_app(searcher, access), host, port)
    port = port_of(server)
    access.allow(host, port)
    shown = "[%s]" % host if ":" in host else host
    print("%s: %d faces\nhttp://%s:%d/%s\nstop with Ctrl-C" % (
        gallery.path, len(gallery), shown, port, "?token=" + token if token else ""), flush=True)
    try:
        server.run()
    finally:
        server.close()


def check_free(host, port):
    """Raises UserError for an address that cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise UserError("cannot listen on %s, port %d (%s); name another --port or --host"
                        % (host, port, error.strerror or error))


def make_server(app, host, port):
    """A waitress server that keeps requests in memory. It does not run yet."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line a request that waits
    return waitress.create_server(
        app, host=host, port=port, threads=THREADS, ident=None, connection_limit=200,
        channel_timeout=60, max_request_body_size=MOST_BYTES,
        # Beyond these sizes waitress would put bodies into files.
        inbuf_overflow=4 * MOST_BYTES, outbuf_overflow=4 * MOST_BYTES)


def port_of(server):
    """The port that a waitress server listens on."""
    # A name can stand for several addresses: then there is a socket for each.
    several = getattr(server, "effective_listen", None)
    return int(several[0][1] if several else server.effective_port)


def is_loopback(host):
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Who may ask.

    Args:
        token: text that a browser must have, or None.
    """

    def __init__(self, token=None):
        self.token = token
        self._hosts = set()

    def allow(self, host, port):
        """Sets the names under which we are reached; with a token any name will do."""
        names = [host, "127.0.0.1", "localhost", "[::1]"]
        self._hosts = {"%s:%d" % (name, port) for name in names}
        if port == 80:
            self._hosts |= set(names)

    def refusal(self, request):
        """Why a request is refused, or None.

        Args:
            request: a flask.Request.
        """
        if self.token is None and request.headers.get("Host", "").lower() not in self._hosts:
            return "this name of the server is not known to it"
        origin = request.headers.get("Origin")
        if origin is not None and origin != "http://" + request.headers.get("Host", ""):
            return "requests of other sites are refused"
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none") and (
                request.path != "/" or request.headers.get("Sec-Fetch-Mode") != "navigate"):
            return "requests of other sites are refused"
        if request.method == "POST" and request.mimetype != UPLOAD_TYPE:
            return "a photograph is sent as %s" % UPLOAD_TYPE
        if self.token is not None and not self._has_token(request.cookies.get(COOKIE, "")):
            return "the address with the token opens the page"
        return None

    def brings_token(self, request):
        """Whether the address itself has the token."""
        return self.token is not None and self._has_token(request.args.get("token", ""))

    def _has_token(self, given):
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def create_app(searcher, access):
    """The Flask application.

    Args:
        searcher: gallery.searcher.Searcher.
        access: Access.
    """
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    @app.before_request
    def check_access():
        if flask.request.path == "/" and access.brings_token(flask.request):
            answer = flask.redirect("/")
            answer.set_cookie(COOKIE, access.token, httponly=True, samesite="Strict")
            return answer
        reason = access.refusal(flask.request)
        return _error(403, reason) if reason else None

    @app.after_request
    def add_headers(answer):
        answer.headers.update(HEADERS)
        return answer

    @app.errorhandler(PhotographError)
    def refuse_photograph(error):
        if error.code == "too_large":
            return _error(413, error.detail)
        return _error(415, "this is no photograph that can be read, or a damaged one")

    @app.errorhandler(UserError)
    def report_failure(error):
        return _error(503, str(error))

    @app.errorhandler(KeyError)
    def refuse_id(_):
        return _error(404, "the gallery holds no such face")

    @app.errorhandler(ValueError)
    def refuse_value(error):
        return _error(400, str(error))

    _add_pages(app, searcher)
    return app


def _add_pages(app, searcher):
    """Adds what can be asked for."""

    @app.route("/")
    def page():
        return flask.render_template("search.html")

    @app.route("/api/gallery")
    def gallery():
        return flask.jsonify(dict(searcher.describe(), most_bytes=MOST_BYTES))

    @app.route("/api/faces")
    def faces():
        return flask.jsonify(searcher.browse(_number("offset", 0, 10 ** 9),
                                             _number("count", PAGE, MOST_PAGE)))

    @app.route("/api/faces/<int:face_id>/neighbours")
    def neighbours_of(face_id):
        return flask.jsonify(searcher.neighbours_of(face_id, **_paging()))

    @app.route("/api/faces/<int:face_id>/thumbnail")
    def thumbnail(face_id):
        data = searcher.thumbnail(face_id)
        return flask.Response(data, mimetype=media_type(data))

    @app.route("/api/neighbours")
    def neighbours():
        return flask.jsonify(searcher.neighbours(flask.request.args.get("code", ""), **_paging()))

    @app.route("/api/query", methods=["POST"])
    def query():
        return flask.jsonify(searcher.query(flask.request.get_data(cache=False)))


def _paging():
    return {"offset": _number("offset", 0, 10 ** 6), "count": _number("count", PAGE, MOST_PAGE),
            "threshold": _number("threshold", None, 64)}


def _number(name, otherwise, most):
    """A whole number of the request's address. Raises ValueError for anything else."""
    text = flask.request.args.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > most:
        raise ValueError("%s must be a whole number from 0 to %d" % (name, most))
    return int(text)


def _error(status, reason):
    return flask.make_response(flask.jsonify(error=reason), status)
