"""A session with a real Milvus server. Run in a network of its own, where only loopback is.

    python milvus_session.py PYTHON FOLDER      exits with 0 if all is as it should be

PYTHON is that of an environment with the package milvus, a whole server.

The server listens on all interfaces without a password; here there is one interface, and none of
this machine's leads to it.
"""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path[:0] = [str(parent) for parent in list(Path(__file__).resolve().parents)[1:3]]

import numpy as np  # noqa: E402
from served_gallery import make_certificate  # noqa: E402
from tiny_gallery import add_to_gallery, codes_of_people, write_gallery  # noqa: E402

import search  # noqa: E402
from evaluation import packing  # noqa: E402
from gallery import milvus  # noqa: E402
from gallery.engines import GOOD_RECALL, IVF_ITEMS, measured_recall  # noqa: E402
from gallery.store import Gallery  # noqa: E402
from runtime.errors import UserError  # noqa: E402

PEOPLE = [number % 20 for number in range(600)]


def raise_loopback():
    """Brings the network's loopback interface up; refuses to work in a network with others."""
    names = [name for _, name in socket.if_nameindex()]
    assert names == ["lo"], f"this network has other interfaces: {names}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS


LAUNCHER = """
import sys
from milvus import MilvusServer, MilvusServerConfig
server = MilvusServer(MilvusServerConfig(data_dir=sys.argv[1]), wait_for_started=False)
server.start()
print(server.listen_port, server.webservice_port, flush=True)
server.server_proc.wait()
"""


class MilvusServer:
    """A running server with its data in a folder.

    Args:
        python: of the environment that has the server's package.
        folder: Path.
        certificate: whether it takes TLS alone, with certificate.pem and key.pem of this folder
            (a Path); None for no TLS.

    Attributes:
        address: "127.0.0.1:PORT".
    """

    def __init__(self, python, folder, certificate=None):
        # After a crash the next start waits so long for the one before, not a minute.
        environment = dict(os.environ, COMMON_SESSION_TTL="5")
        if certificate:
            environment.update(
                COMMON_SECURITY_TLSMODE="1", TLS_SERVERKEYPATH=str(certificate / "key.pem"),
                TLS_SERVERPEMPATH=str(certificate / "certificate.pem"))
        # Started soon after another one has ended, a server may find that one's traces and give
        # up: then it is started again.
        end = time.time() + 240
        while time.time() < end:
            self._process = subprocess.Popen(
                [python, "-c", LAUNCHER, str(folder)], stdout=subprocess.PIPE,
                universal_newlines=True, start_new_session=True, env=environment)
            ports = self._process.stdout.readline().split()
            while len(ports) == 2 and self._process.poll() is None and time.time() < end:
                if is_healthy(ports[1]):
                    self.address = "127.0.0.1:" + ports[0]
                    return
                time.sleep(0.2)
            self.kill()
        raise AssertionError("the server does not start")

    def kill(self):
        """Kills the server, which takes minutes to end by itself with collections loaded."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


def is_healthy(port):
    """Whether a server says that it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return b"OK" in answer.read()
    except OSError:
        return False


def check_search(gallery, index):
    """The server's answers are those of a naive search, ties by row."""
    codes = gallery.codes
    queries = codes_of_people(PEOPLE[:25], gallery.num_bits, seed=5)
    distances = packing.distances(queries[:, None], codes[None])
    rows = np.argsort(distances, axis=1, kind="mergesort")
    for top in (1, 30):
        found = index.search(queries, top)
        np.testing.assert_array_equal(
            found.distances, np.take_along_axis(distances, rows, axis=1)[:, :top])
    for query in range(5):
        _, chosen, more = index.nearest(queries[query], 30)
        np.testing.assert_array_equal(chosen, rows[query, :30])
        last = distances[query, rows[query, 29]]
        assert more == (np.count_nonzero(distances[query] == last)
                        - np.count_nonzero(distances[query, rows[query, :30]] == last))
    assert measured_recall(index) == 1.0


def refused(action):
    """The message that an action is refused with."""
    try:
        action()
    except UserError as error:
        return str(error)
    raise AssertionError("it was not refused")


def main(python, folder):
    """The session."""
    raise_loopback()
    folder = Path(folder)
    # A server that is not there: one line, before anything starts.
    started = time.time()
    message = refused(lambda: milvus.Server("127.0.0.1:19999", token="secret-token"))
    assert "127.0.0.1:19999" in message and "secret-token" not in message, message
    print(f"unreachable after {time.time() - started:.1f} s: {message}")

    galleries = {bits: write_gallery(folder / f"gallery{bits}", PEOPLE, bits)
                 for bits in (12, 24, 48, 64)}
    started = time.time()
    server = MilvusServer(python, folder / "server")
    print(f"server started in {time.time() - started:.1f} s")
    try:
        client = milvus.Server(server.address)
        assert str(galleries[48].path) in refused(lambda: client.open_index(galleries[48]))
        for gallery in galleries.values():
            check_search(gallery, client.upload(gallery))
        print(f"searched at {', '.join(map(str, galleries))} bits")

        # A change: the old copy does not pass for the new one, and goes once that is complete.
        changed = add_to_gallery(folder / "gallery48", [3] * 10)
        refused(lambda: client.open_index(changed))
        check_search(changed, client.upload(changed))
        refused(lambda: client.open_index(galleries[48]))

        # The command line, which uploads what it has changed; the token is not shown.
        search.main(["remove", str(galleries[64].path), "--id", "3", "--engine", "milvus", "--uri",
                     server.address])
        with Gallery.open(galleries[64].path) as smaller:
            assert len(smaller) == len(PEOPLE) - 1
            check_search(smaller, client.open_index(smaller))

        # Many codes are grouped into lists, of which a part is searched.
        milvus.IVF_ITEMS = len(PEOPLE)
        index = client.upload(write_gallery(folder / "many", PEOPLE))
        assert not index.exact and measured_recall(index) >= GOOD_RECALL
        milvus.IVF_ITEMS = IVF_ITEMS

        # A collection of our name whose codes are others, or not all there, is no copy.
        other = add_to_gallery(folder / "gallery24", [1])
        name = milvus.collection_name(other)
        client._build(name, codes_of_people(PEOPLE, 24, seed=9))
        refused(lambda: client.open_index(other))
        whole = milvus._digest(other.codes)
        digest, milvus._digest = milvus._digest, lambda _: whole
        client._build(name, other.codes[:99])
        milvus._digest = digest
        refused(lambda: client.open_index(other))
        check_search(other, client.upload(other))
        client.close()

        server.kill()
        refused(lambda: milvus.Server(server.address))
        started = time.time()
        make_certificate(folder, "localhost")
        server = MilvusServer(python, folder / "server", certificate=folder)
        print(f"started again in {time.time() - started:.1f} s")
        address = "https://localhost:" + server.address.split(":")[1]
        refused(lambda: milvus.Server(address))  # its authority is nobody's
        client = milvus.Server(address, ca=str(folder / "certificate.pem"))
        check_search(changed, client.open_index(changed))
        print("the same after a restart of the server, with TLS")
        client.close()
    finally:
        server.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
