"""A web page that searches a gallery: Tornado, on this machine alone by default.

Who may ask: our own page, in a browser that came to us by a name we know (no other site's page, no
foreign name that points here), and, where other machines can reach us, whoever has the token.
All of that is checked before the body of a request is read. Photographs that are sent stay in
memory; nothing of them is written.

One thread reads and writes; others search and encode. Every wait for a client has an end, and
memory and connections have limits.
"""

import asyncio
import concurrent.futures
import contextlib
import hmac
import ipaddress
import json
import logging
import os
import re
import resource
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web

from evaluation.packing import MAX_BITS
from faces.photographs import PhotographError
from gallery.searcher import MOST_PAGE, PAGE, NotThere, Searcher
from reports.html import media_type
from runtime.errors import UserError

MOST_BYTES = 20 * 1000 * 1000  # of an uploaded photograph
MOST_UPLOADED = 200 * 1000 * 1000  # bytes of all photographs that are being sent or wait
MOST_CONNECTIONS = 500
HEADER_SECONDS = 20  # until a request's header is there; an idle connection ends after them, too
BODY_SECONDS = 60  # until the body is there
ANSWER_SECONDS = 120  # until the client has taken the answer
# What a refused client still sends is read and dropped for so long, so that it sees the answer.
REFUSED_SECONDS, REFUSED_BYTES = 5, 2 * MOST_BYTES
SEARCHES = 4  # at once
COOKIE = "gallery_token"
UPLOAD_TYPE = "application/octet-stream"  # which another site's page may not send without asking
JSON_TYPE = "application/json"  # nor this one
HOST = re.compile(r"[a-z0-9._:-]+\Z")  # a name, or an address of version 4 or 6
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
STATIC = Path(__file__).resolve().parent / "static"
PAGES = {  # address -> type and file
    "/": ("text/html; charset=utf-8", STATIC / "search.html"),
    "/static/search.css": ("text/css; charset=utf-8", STATIC / "search.css"),
    "/static/search.js": ("text/javascript; charset=utf-8", STATIC / "search.js"),
}


def serve(gallery, host, port, public_url, open_index, make_judge):
    """Serves until it is interrupted.

    Args:
        host: address to listen on; other than this machine's own it takes a token.
        port: 0 for any that is free.
        public_url: address under which a proxy shows us to others, which takes a token; or None.
        open_index, make_judge: see gallery.searcher.Searcher.

    Raises:
        UserError: the address cannot be listened on.
    """
    public_url = public_url and check_public_url(public_url)
    sockets = listen(host, port)  # before the encoder is opened, which takes seconds
    port = sockets[0].getsockname()[1]
    token = None if is_loopback(host) and not public_url else secrets.token_urlsafe(24)
    searcher = Searcher(gallery, open_index, make_judge)
    ending = f"?token={token}" if token else ""
    print(f"{gallery.path}: {len(gallery)} faces")
    for address in addresses(host, port, public_url):
        print(f"{address}/{ending}")
    print("stop with Ctrl-C", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_forever(searcher, Access(host, port, public_url, token), sockets))


async def serve_forever(searcher, access, sockets):
    """Answers requests that come in by some sockets, until it is cancelled."""
    logging.getLogger("tornado.general").setLevel(logging.ERROR)  # a line a malformed request
    connections = _Connections()
    server = _Server(_application(searcher, access, connections),
                     idle_connection_timeout=HEADER_SECONDS, body_timeout=BODY_SECONDS,
                     max_body_size=1 << 62)  # ours differ by address
    server.connections = connections
    server.add_sockets(sockets)
    try:
        await asyncio.Event().wait()
    finally:
        server.stop()
        await server.close_all_connections()


def listen(host, port):
    """Sockets that listen on an address. Raises UserError where that cannot be."""
    try:
        return tornado.netutil.bind_sockets(port, host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}, port {port} ({reason}); name another --port or "
                        "--host")


def is_loopback(host):
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_public_url(url):
    """A --public_url as browsers name an origin. Raises UserError for what is none."""
    problem = UserError(f"--public_url is {url:.100}; it must be the address of the page, without "
                        "anything after the name and port: https://faces.example.org")
    try:
        parts = urlsplit(url)
        name, port = parts.hostname.encode("idna").decode(), parts.port
    except (ValueError, AttributeError):  # no port; no name at all
        raise problem
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not HOST.match(name) or (
            parts.path not in ("", "/") or parts.query or parts.fragment):
        raise problem
    usual = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{_bracketed(name)}" + ("" if usual else f":{port}")


def addresses(host, port, public_url=None):
    """The addresses that open the page, for people; the public one first."""
    hosts = [host]
    if host in ("", "0.0.0.0", "::"):
        hosts = own_addresses(6 if host == "::" else 4) or [socket.gethostname()]
    return [public_url] * bool(public_url) + [f"http://{_bracketed(name)}:{port}"
                                              for name in hosts]


def own_addresses(version):
    """This machine's addresses in the networks that it reaches, which a phone there can open.

    Args:
        version: 4, or 6 for addresses of both kinds.
    """
    # The system chooses the address to send from; connecting a datagram socket sends nothing.
    targets = ["192.168.0.1", "10.0.0.1", "172.16.0.1", "192.0.2.1"]
    targets += ["fd00::1", "2001:db8::1"] if version == 6 else []
    found = []
    for target in targets:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as tried:
                tried.connect((target, 9))
                name = tried.getsockname()[0]
        except OSError:  # no way there
            continue
        if name not in found and not ipaddress.ip_address(name).is_loopback:
            found.append(name)
    return found


def _bracketed(host):
    return f"[{host}]" if ":" in host else host


class Access:
    """Who may ask.

    Args:
        host, port: what is listened on.
        public_url: origin under which a proxy shows us, of check_public_url; or None.
        token: text that a browser must have, or None.
    """

    def __init__(self, host, port, public_url=None, token=None):
        self.token = token
        names = {_bracketed(name) for name in (host, "127.0.0.1", "localhost", "::1")}
        self._hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
        self._public_url = public_url

    def refusal(self, request):
        """Why a request is refused, or None.

        Args:
            request: tornado.httputil.HTTPServerRequest, of which the header is there.
        """
        headers = request.headers
        host = headers.get("Host", "").lower()
        # Whoever has the token may come by any name: it is in a cookie of that name alone.
        if self.token is None and host not in self._hosts:
            return "this name of the server is not known to it"
        origin = headers.get("Origin")
        own = {self._public_url} if self._is_public(host) else {self._public_url, "http://" + host}
        if origin is not None and origin not in own:
            return "requests of other sites are refused"
        if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none") and (
                request.path != "/" or headers.get("Sec-Fetch-Mode") != "navigate"):
            return "requests of other sites are refused"
        cookie = request.cookies.get(COOKIE)
        if self.token is not None and not self.is_token(cookie.value if cookie else ""):
            return "the address with the token opens the page"
        return None

    def is_token(self, given):
        """Whether a text is the token."""
        return self.token is not None and hmac.compare_digest(
            given.encode("utf-8", "replace"), self.token.encode())

    def is_secure(self, request):
        """Whether a browser came by the proxy's TLS, so that its cookie need not go without."""
        return self._is_public(request.headers.get("Host", "").lower()) and (
            self._public_url.startswith("https:"))

    def _is_public(self, host):
        return self._public_url is not None and host == urlsplit(self._public_url).netloc


class _Connections:
    """The open connections: when there are too many, the one that has waited longest is closed.

    So nobody shuts the page for others with connections that ask for nothing, or half of it.
    """

    def __init__(self):
        self._waiting = {}  # streams on whose clients we wait, longest first -> None
        self._asking = set()  # streams whose requests we have whole

    def opened(self, stream):
        """Counts a new connection."""
        self._waiting = {known: None for known in self._waiting if not known.closed()}
        self._asking = {known for known in self._asking if not known.closed()}
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS,
                                                                            files // 2)
        while self._waiting and len(self._waiting) + len(self._asking) >= most:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            longest.close()
        self._waiting[stream] = None

    def asks(self, stream):
        """A connection's request is whole."""
        self._waiting.pop(stream, None)
        self._asking.add(stream)

    def answered(self, stream):
        """A connection's request is answered: we wait for its next one."""
        self._asking.discard(stream)
        self._waiting[stream] = None


class _Uploads:
    """The memory that photographs take which are being sent, or wait until they are searched.

    Beyond MOST_UPLOADED bytes the upload that has been silent longest is ended.
    """

    def __init__(self):
        self._sizes = {}  # handler -> bytes; who sent last comes last

    def received(self, handler, count):
        """Counts bytes of a handler's."""
        self._sizes[handler] = self._sizes.pop(handler, 0) + count
        while sum(self._sizes.values()) > MOST_UPLOADED:
            # At worst that is this handler: the others wait for us, not for their clients.
            silent = next((other for other in self._sizes if not other.is_whole), handler)
            self.done(silent)
            silent.request.connection.stream.close()

    def done(self, handler):
        """Forgets a handler: its photograph was searched, or its connection has ended."""
        self._sizes.pop(handler, None)


class _Server(tornado.httpserver.HTTPServer):
    """Counts its connections."""

    def handle_stream(self, stream, address):
        self.connections.opened(stream)
        super().handle_stream(stream, address)


def _application(searcher, access, connections):
    """What answers requests, by address."""
    part, nearest = _Handler.part, _Handler.part_of_nearest

    def question(address, ask, given=None, pool="searches"):
        return address, _Question, dict(ask=ask, given=given, pool=pool)

    number = r"([0-9]{1,18})"
    face = f"/api/faces/{number}/"
    routes = [
        *((address, _Page) for address in PAGES),
        question("/api/gallery", lambda: dict(searcher.describe(), most_bytes=MOST_BYTES)),
        question("/api/people", searcher.people),
        question("/api/faces", searcher.browse, part),
        question("/api/groups", searcher.groups, part),
        question("/api/group", searcher.group, lambda page: (
            page.get_query_argument("who", ""), *part(page))),
        question("/api/photographs", searcher.without_face, part),
        question(f"/api/photographs/{number}", searcher.whole_photograph, pool="readings"),
        question(face + "neighbours", searcher.neighbours_of, nearest),
        question(face + "thumbnail", searcher.thumbnail),
        question(face + "photograph", searcher.photograph, pool="readings"),
        question("/api/neighbours", searcher.neighbours, lambda page: (
            page.get_query_argument("code", ""), *nearest(page))),
        ("/api/change", _Change), ("/api/query", _Query)]
    return tornado.web.Application(
        routes, default_handler_class=_Nothing, log_function=lambda _: None, searcher=searcher,
        access=access, connections=connections, uploads=_Uploads(),
        searches=concurrent.futures.ThreadPoolExecutor(SEARCHES),
        # An image takes up to some hundred MB while it is unpacked and searched for faces.
        readings=concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1),
        changes=concurrent.futures.ThreadPoolExecutor(1))  # which may wait for another process


@tornado.web.stream_request_body
class _Handler(tornado.web.RequestHandler):
    """What all requests share: refusals before the body is read, errors as JSON."""

    methods = ("GET",)
    body_type = None  # of a POST
    most_body = 0  # bytes

    def initialize(self):
        self._body, self._received = [], 0
        self._is_refused = self.is_whole = False
        self._running = None
        # A stream that is closed is taken away from the connection; so keep it.
        self._stream = self.request.connection.stream

    async def prepare(self):
        """Refuses what the header shows to be wrong, before the body is read."""
        access, length = self.settings["access"], self.request.headers.get("Content-Length", "0")
        if self.request.path == "/" and access.is_token(self.get_query_argument("token", "")):
            # By hand: Python 3.7 knows no SameSite.
            self.set_header("Set-Cookie", f"{COOKIE}={access.token}; Path=/; HttpOnly; "
                            f"SameSite=Strict{'; Secure' * access.is_secure(self.request)}")
            if self.request.headers.get("Sec-Fetch-Site") in (None, "none", "same-origin"):
                self.redirect("/")
            else:  # after another site's link, a browser sends the cookie from our own page alone
                self.finish('<!doctype html><meta http-equiv="refresh" content="0; url=/">')
            return
        reason = access.refusal(self.request)
        if reason:
            await self._refuse(403, reason)
        elif isinstance(self, _Nothing):
            await self._refuse(404, "there is nothing at this address")
        elif self.request.method not in self.methods:
            self.set_header("Allow", ", ".join(self.methods))
            await self._refuse(405, f"this address takes {' and '.join(self.methods)}")
        elif self.request.method == "POST" and self.request.headers.get(
                "Content-Type", "").split(";")[0].strip().lower() != self.body_type:
            await self._refuse(403, f"this address takes {self.body_type}")
        elif length.isascii() and length.isdigit() and (
                len(length) > 18 or int(length) > self.most_body):
            await self._refuse(413, self._too_large())

    def _too_large(self):
        return f"a request to this address has at most {self.most_body:,} bytes"

    async def data_received(self, chunk):
        """Keeps a part of the body; of one that is refused, or too large, nothing."""
        self._received += len(chunk)
        if self._is_refused:
            if self._received > REFUSED_BYTES:
                self._stream.close()
        elif self._received > self.most_body:  # it was sent in parts, without a length
            await self._refuse(413, self._too_large())
        else:
            self._body.append(chunk)
            self.settings["uploads"].received(self, len(chunk))

    async def _refuse(self, status, reason):
        """Answers with an error now, and lets what is still sent run out."""
        self._body = []
        self.settings["uploads"].done(self)
        self._is_refused = True
        headers = self.request.headers
        sends = "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"
        if not sends or "Expect" in headers:  # who expects leave to send has sent nothing
            self._finish_error(status, reason)
            return
        # Whoever closes a connection with bytes unread makes the client lose the answer.
        self.request.connection.set_body_timeout(REFUSED_SECONDS)
        text = json.dumps({"error": reason})
        self.set_status(status)
        self.set_header("Content-Type", JSON_TYPE)
        self.set_header("Content-Length", str(len(text)))
        self.write(text)
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            await self.flush()

    async def get(self, *arguments):
        """Answers, or ends the answer that was begun by _refuse."""
        if self._is_refused:
            self.finish()
            return
        self.is_whole = True
        self.settings["connections"].asks(self._stream)
        try:
            await self.answer(*arguments)
        except PhotographError as error:
            is_large = error.code == "too_large"
            self._finish_error(413 if is_large else 415, error.detail if is_large else
                               "this is not a readable photograph")
        except UserError as error:
            self._finish_error(503, str(error))
        except NotThere as error:
            self._finish_error(404, str(error))
        except ValueError as error:
            self._finish_error(400, str(error))
        except asyncio.CancelledError:  # the client has gone
            pass

    head = post = delete = put = patch = options = get

    async def answer(self, *arguments):
        """Answers a request that nothing is wrong with; of an error the kind gives the status."""
        raise NotImplementedError

    async def run(self, function, *arguments, pool="searches"):
        """The result of a function that takes its time, in another thread."""
        self._running = asyncio.get_running_loop().run_in_executor(
            self.settings[pool], function, *arguments)
        return await self._running

    def finish(self, chunk=None):
        """Ends the answer, and the connection if the client does not take it."""
        future = super().finish(chunk)
        end = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._stream.close)
        future.add_done_callback(lambda _: end.cancel())
        return future

    def on_finish(self):
        self._body = []
        self.settings["uploads"].done(self)
        self.settings["connections"].answered(self._stream)

    def on_connection_close(self):
        super().on_connection_close()
        if self._running is not None:
            self._running.cancel()  # what has not begun will not
        if not self.is_whole:
            self._body = []
            self.settings["uploads"].done(self)

    def whole_number(self, name, otherwise, most, least=0):
        """A whole number of the request's address. Raises ValueError for anything else."""
        text = self.get_query_argument(name, None)
        if text is None:
            return otherwise
        if not text.isascii() or not text.isdigit() or len(text) > 12 or not (
                least <= int(text) <= most):
            raise ValueError(f"{name} must be a whole number from {least} to {most}")
        return int(text)

    def distance(self, name):
        """A distance of the request's address, or None. Raises ValueError for anything else."""
        text = self.get_query_argument(name, None)
        if text is None:
            return None
        if not re.match(r"[0-9]{1,2}(\.[0-9]{1,6})?\Z", text) or float(text) > MAX_BITS:
            raise ValueError(f"{name} must be a number from 0 to {MAX_BITS}")
        return float(text)

    def part(self):
        """Which part of a list is asked for: (offset, count)."""
        return (self.whole_number("offset", 0, 10 ** 9),
                self.whole_number("count", PAGE, MOST_PAGE, least=1))

    def part_of_nearest(self):
        """Which part of the nearest faces is asked for: (offset, count, threshold or None)."""
        return (*self.part(), self.distance("threshold"))

    def set_default_headers(self):
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def compute_etag(self):
        """None: nothing is to be kept."""

    def write_error(self, status_code, **_):
        """Errors that Tornado finds, and those of our own code (500)."""
        self._finish_error(status_code, self._reason)

    def _finish_error(self, status, reason):
        self.set_status(status)
        self.finish({"error": reason})


class _Nothing(_Handler):
    """Every address that there is not."""


class _Page(_Handler):
    """The page, and what belongs to it."""

    async def answer(self):
        kind, path = PAGES[self.request.path]
        self.set_header("Content-Type", kind)
        self.finish(path.read_bytes())


class _Question(_Handler):
    """What the Searcher is asked: the answer is JSON, or the bytes of a picture."""

    def initialize(self, ask, given, pool):
        super().initialize()
        self.ask, self.given, self.pool = ask, given, pool

    async def answer(self, *numbers):
        more = self.given(self) if self.given else ()
        found = await self.run(self.ask, *map(int, numbers), *more, pool=self.pool)
        if isinstance(found, bytes):
            self.set_header("Content-Type", media_type(found))
        self.finish(found)


class _Change(_Handler):
    """Changes people and groups."""

    methods = ("POST",)
    body_type = JSON_TYPE
    most_body = 10 ** 6

    async def answer(self):
        try:
            values = json.loads(b"".join(self._body).decode())
        except (ValueError, RecursionError):
            values = None
        self.finish(await self.run(self.settings["searcher"].change, values, pool="changes"))


class _Query(_Handler):
    """The faces of a photograph that is sent."""

    methods = ("POST",)
    body_type = UPLOAD_TYPE
    most_body = MOST_BYTES

    async def answer(self):
        data, self._body = b"".join(self._body), []
        self.finish(await self.run(self.settings["searcher"].query, data, pool="readings"))
