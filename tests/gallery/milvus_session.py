"""A session with a real Milvus server. Run in a network of its own, where only loopback is.

    python milvus_session.py FOLDER      exits with 0 if all is as it should be

The server listens on all interfaces without a password; here there is one interface, and none of
this machine's leads to it.
"""

import fcntl
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path[:0] = [str(parent) for parent in list(Path(__file__).resolve().parents)[1:3]]

import numpy as np  # noqa: E402
from tiny_gallery import add_to_gallery, codes_of_people, write_gallery  # noqa: E402

import search  # noqa: E402
from evaluation import packing  # noqa: E402
from gallery import milvus  # noqa: E402
from gallery.engines import (  # noqa: E402
    GOOD_RECALL,
    IVF_ITEMS,
    measured_recall,  # noqa: E402
)
from gallery.store import Gallery  # noqa: E402
from runtime.errors import UserError  # noqa: E402

PEOPLE = [number % 20 for number in range(600)]


def raise_loopback():
    """Brings the network's loopback interface up; refuses to work in a network with others."""
    names = [name for _, name in socket.if_nameindex()]
    assert names == ["lo"], "this network has other interfaces: %s" % names
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS


def start_server(folder):
    """A running server with its data in a folder.

    Started soon after another one has ended, a server may find that one's traces and give up: then
    it is started again.
    """
    from milvus import MilvusServer, MilvusServerConfig

    end = time.time() + 240
    while time.time() < end:
        server = MilvusServer(MilvusServerConfig(data_dir=str(folder)), wait_for_started=False)
        server.start()
        while server.server_proc.poll() is None and time.time() < end:
            if is_healthy(server):
                return server
            time.sleep(0.2)
        server.server_proc.kill()
        server.stop()
    raise AssertionError("the server does not start")


def is_healthy(server):
    """Whether a server says that it is."""
    address = "http://127.0.0.1:%d/healthz" % server.webservice_port
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return b"OK" in answer.read()
    except OSError:
        return False


def stop_server(server):
    """Stops a server. With collections loaded it goes on for minutes, unless it is killed."""
    process = server.server_proc
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    server.stop()


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


def main(folder):
    """The session."""
    raise_loopback()
    folder = Path(folder)
    # A server that is not there: one line, before anything starts.
    started = time.time()
    message = refused(lambda: milvus.Server("127.0.0.1:19999", token="secret-token"))
    assert "127.0.0.1:19999" in message and "secret-token" not in message, message
    print("unreachable after %.1f s: %s" % (time.time() - started, message))

    galleries = {bits: write_gallery(folder / ("gallery%d" % bits), PEOPLE, bits)
                 for bits in (12, 16, 24, 36, 48, 64)}
    started = time.time()
    server = start_server(folder / "server")
    print("server started in %.1f s" % (time.time() - started))
    try:
        address = "127.0.0.1:%d" % server.listen_port
        client = milvus.Server(address)
        assert str(galleries[48].path) in refused(lambda: client.open_index(galleries[48]))
        for gallery in galleries.values():
            check_search(gallery, client.upload(gallery))
        print("searched at 12, 16, 24, 36, 48 and 64 bits")

        # A change: the old copy does not pass for the new one, and goes once that is complete.
        changed = add_to_gallery(folder / "gallery48", [3] * 10)
        refused(lambda: client.open_index(changed))
        check_search(changed, client.upload(changed))
        refused(lambda: client.open_index(galleries[48]))

        # The command line, which uploads what it has changed; the token is not shown.
        search.main(["remove", str(galleries[64].path), "--id", "3", "--engine", "milvus", "--uri",
                     address])
        with Gallery.open(galleries[64].path) as smaller:
            assert len(smaller) == len(PEOPLE) - 1
            check_search(smaller, client.open_index(smaller))

        # Many codes are grouped into lists, of which a part is searched.
        milvus.IVF_ITEMS = len(PEOPLE)
        many = write_gallery(folder / "many", PEOPLE)
        index = client.upload(many)
        assert not index.exact and index.recall() >= GOOD_RECALL
        milvus.IVF_ITEMS = IVF_ITEMS

        # A collection of our name, but of other vectors, is no copy of a gallery.
        import pymilvus
        other = add_to_gallery(folder / "gallery36", [1])
        schema = pymilvus.CollectionSchema([
            pymilvus.FieldSchema("row", pymilvus.DataType.INT64, is_primary=True),
            pymilvus.FieldSchema("code", pymilvus.DataType.BINARY_VECTOR, dim=128)])
        pymilvus.Collection(milvus.collection_name(other), schema, using="dcbh")
        refused(lambda: client.open_index(other))
        check_search(other, client.upload(other))

        # Nothing is loaded when the server is stopped: the next start does not wait for this one.
        for gallery in [other, many] + [galleries[bits] for bits in (12, 16, 24, 64)]:
            client.drop(gallery)
        client._collection(milvus.collection_name(changed)).release()
        client.close()
        stop_server(server)
        message = refused(lambda: milvus.Server(address))
        started = time.time()
        server = start_server(folder / "server")
        print("started again in %.1f s" % (time.time() - started))
        client = milvus.Server("http://127.0.0.1:%d" % server.listen_port)
        check_search(changed, client.open_index(changed))
        print("the same after a restart of the server")
        client.drop(changed)
        refused(lambda: client.open_index(changed))
        client.close()
    finally:
        if server.server_proc:
            stop_server(server)


if __name__ == "__main__":
    main(sys.argv[1])
