"""A gallery served by a thread of the tests' process, and an encoder that needs no weights."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

from PIL import Image
from tiny_gallery import TinyEncoder, write_gallery

from gallery import server as web_server
from gallery.answers import Judge
from gallery.engines import open_index
from gallery.searcher import Searcher
from gallery.store import Gallery, Writer

PHOTOGRAPH = (160, 120)  # pixels
PUBLIC_NAME = "faces.example.org"
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr; worker_rlimit_nofile 1024;
events {{}}
http {{
  access_log off; client_max_body_size 20m; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{public_port} ssl; server_name {name};
    ssl_certificate certificate.pem; ssl_certificate_key key.pem;
    location / {{ proxy_pass http://127.0.0.1:{port}; {header} }}
  }}
}}
"""


def have_tls_proxy():
    """Whether nginx, and openssl to make a certificate, are installed."""
    return bool(shutil.which("nginx") and shutil.which("openssl"))


def make_certificate(folder, name):
    """Writes certificate.pem, which is its own authority's, and key.pem."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout",
                    "key.pem", "-out", "certificate.pem"], cwd=str(folder), check=True,
                   stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def tls_proxy(folder, public_port, port, header=""):
    """An nginx that takes TLS on a port of loopback and asks a server on another port.

    Gives an SSL context that trusts its certificate, which is of PUBLIC_NAME.
    """
    make_certificate(folder, PUBLIC_NAME)
    (folder / "nginx.conf").write_text(NGINX.format(
        name=PUBLIC_NAME, public_port=public_port, port=port, header=header))
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf"])
    try:
        end = time.time() + 20
        while time.time() < end and process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", public_port), 1).close()
                break
            time.sleep(0.05)
        yield ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    """A port of loopback that nobody listens on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def photographed_gallery(folder, people, names):
    """A gallery of photographs that are there, each with one face."""
    paths = [folder / f"IMG_{number:04d}.jpg" for number, _ in enumerate(people)]
    write_gallery(folder / "g", people, names=names, paths=list(map(str, paths))).close()
    with Writer(folder / "g") as writer:
        for number, path in enumerate(paths):
            Image.new("RGB", PHOTOGRAPH, (number * 4 % 256, 90, 120)).save(path)
            writer.run("UPDATE photographs SET sha256 = ? WHERE path = ?",
                       hashlib.sha256(path.read_bytes()).digest(), os.fsencode(path))
        writer.commit()
    return Gallery.open(folder / "g")


class TlsConnection(http.client.HTTPSConnection):
    """A connection to PUBLIC_NAME, which is this machine."""

    def __init__(self, port, context):
        super().__init__(PUBLIC_NAME, port, timeout=60, context=context)
        self._create_connection = lambda address, *_: socket.create_connection(
            ("127.0.0.1", address[1]), 60)


def ask(connection, path, method="GET", body=None, **headers):
    """(status, headers, value) of a request by a connection, which is closed then."""
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.getheader("Content-Type", "").startswith("application/json"):
        data = json.loads(data.decode())
    return answer.status, answer.headers, data


class Client:
    """Asks a server that runs in a thread of this process; a context manager.

    Args:
        gallery: gallery.store.Gallery.
        token, public_url: see gallery.server.Access.
        open_encoder: function that gives the gallery's encoder.
    """

    def __init__(self, gallery, token=None, public_url=None, open_encoder=TinyEncoder):
        gallery.open_encoder = open_encoder
        self.searcher = Searcher(gallery, open_index, Judge)
        sockets = web_server.listen("127.0.0.1", 0)
        self.port = sockets[0].getsockname()[1]
        access = web_server.Access("127.0.0.1", self.port, public_url, token)
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(
            self._serve(access, sockets, started)))
        self._thread.start()
        assert started.wait(20)

    async def _serve(self, access, sockets, started):
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.ensure_future(web_server.serve_forever(self.searcher, access, sockets))
        started.set()
        await self._ended.wait()
        task.cancel()
        await asyncio.wait([task])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def ask(self, path, method="GET", body=None, **headers):
        """(status, headers, value): the value is read as JSON where it is."""
        return ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), path, method,
                   body, **headers)

    def upload(self, data):
        return self.ask("/api/query", "POST", data, **{"Content-Type": web_server.UPLOAD_TYPE})
