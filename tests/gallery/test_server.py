"""The page's server, by HTTP on loopback: what it answers, what it refuses, many at once."""

import contextlib
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served_gallery import (
    PHOTOGRAPH,
    PUBLIC_NAME,
    Client,
    TlsConnection,
    ask,
    free_port,
    have_tls_proxy,
    photographed_gallery,
    tls_proxy,
)
from tiny_gallery import (
    TinyEncoder,
    add_to_gallery,
    codes_of_people,
    colour,
    index_folders,
    save_photograph,
    write_gallery,
)

from evaluation import packing
from gallery import server as web_server
from gallery.people import remove
from gallery.store import Gallery
from runtime.errors import UserError

PEOPLE = [number % 12 for number in range(60)]
CODES = codes_of_people(PEOPLE, 48)
UPLOAD = {"Content-Type": web_server.UPLOAD_TYPE}


@pytest.fixture(scope="module", autouse=True)
def patched(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    # A temporary file for a request's body would fail.
    patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("none") / "missing"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A server for all tests that do not change its gallery."""
    with write_gallery(tmp_path_factory.mktemp("server") / "g", PEOPLE) as gallery:
        with Client(gallery) as found:
            yield found


@pytest.fixture
def own_client(tmp_path):
    """A server of a test's own."""
    with write_gallery(tmp_path / "g", PEOPLE) as gallery, Client(gallery) as found:
        yield found


def picture(seed=0, size=(200, 150), kind="PNG"):
    """A photograph's bytes."""
    pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.BICUBIC).save(stream, kind)
    return stream.getvalue()


def bomb(width, height):
    """A PNG that claims so many pixels, in few bytes."""
    def chunk(kind, data):
        return (struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0,
                                                              0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def test_what_the_page_asks(client):
    status, headers, page = client.ask("/")
    assert status == 200 and b"Who is this?" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for name in ("search.js", "search.css"):
        assert client.ask("/static/" + name)[0] == 200
    about = client.ask("/api/gallery")[2]
    assert about["faces"] == 60 and about["people"] == 12 and len(about["curve"]["points"]) == 49
    faces = client.ask("/api/faces?offset=50&count=20")[2]
    assert [face["id"] for face in faces["faces"]] == list(range(50, 60)) and faces["total"] == 60
    assert client.ask("/api/faces/7/thumbnail")[2] == colour(7)
    first = client.ask("/api/faces/7/neighbours?count=10")[2]
    more = client.ask("/api/neighbours?count=5&offset=10&code=" + first["code"])[2]
    distances = packing.distances(CODES[7], CODES)
    expected = np.argsort(distances, kind="mergesort")[:15]
    found = first["neighbours"] + more["neighbours"]
    assert [item["id"] for item in found] == expected.tolist()
    assert [item["distance"] for item in found] == distances[expected].tolist()
    assert [item["rank"] for item in found] == list(range(1, 16))
    assert first["verdict"]["name"] == "person 7" and first["verdict"]["nearest"] == 0
    code = packing.to_text(~CODES[7])
    strict = client.ask("/api/neighbours?threshold=0&code=" + code)[2]["verdict"]
    assert strict["name"] is None and strict["threshold"] == 0


def test_a_photograph_is_searched(client):
    for kind in ("PNG", "JPEG"):
        status, _, value = client.upload(picture(kind=kind))
        assert status == 200 and len(value["faces"]) == 1
        face = value["faces"][0]
        assert face["image"].startswith("data:image/jpeg;base64,")
        assert len(face["neighbours"]) == 24 and face["box"] == [0, 0, 200, 150]
        with Image.open(io.BytesIO(picture(kind=kind))) as image:
            pixels = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
        assert face["code"] == packing.to_text(packing.pack(TinyEncoder().encode(
            pixels[None]))[0])


def test_a_phone_s_photograph_is_searched(client):
    heic = Path(__file__).resolve().parents[1] / "faces" / "heic" / "orientation_6.heic"
    status, _, value = client.upload(heic.read_bytes())
    assert status == 200 and len(value["faces"]) == 1


def test_large_photographs_stay_in_memory(client):
    noise = np.random.RandomState(0).randint(0, 256, (2300, 2300, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "BMP")  # 16 MB
    assert 15e6 < len(stream.getvalue()) < web_server.MOST_BYTES
    assert client.upload(stream.getvalue())[0] == 200


def test_what_is_no_photograph_is_refused(client):
    whole = picture(kind="JPEG")
    for data, status in ((b"", 415), (b"<svg onload=alert(1)>", 415), (b"\0" * 1000, 415),
                         (whole[:20], 415), (picture()[:200], 415),
                         (bomb(60000, 60000), 413), (bomb(20000, 20000), 413)):
        found, _, value = client.upload(data)
        assert found == status and value["error"] and "\n" not in value["error"], value
        assert "object at" not in value["error"]
    assert client.upload(whole)[0] == 200


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/api/faces/60/thumbnail", 404), ("GET", "/api/faces/-1/thumbnail", 404),
    ("GET", "/nothing", 404), ("GET", "/api/nothing", 404), ("GET", "/static/../server.py", 404),
    ("GET", "/static/%2e%2e/server.py", 404), ("GET", "/static/..%2f..%2fconfig.py", 404),
    ("GET", "/static//etc/passwd", 404), ("GET", "/api/faces/%2e%2e/thumbnail", 404),
    ("GET", "/api/faces/7/photograph", 404), ("GET", "/api/faces/60/neighbours", 404),
    ("GET", "/api/faces/99999999999999999999/neighbours", 404),
    ("GET", "/api/query", 405), ("PUT", "/api/faces", 405), ("DELETE", "/", 405),
    ("POST", "/api/gallery", 405), ("STRANGE", "/api/gallery", 405),
    ("GET", "/api/neighbours?code=xyz", 400), ("GET", "/api/neighbours?code=" + "z" * 16, 400),
    ("GET", "/api/neighbours?code=%ff%fe", 400),
    ("GET", "/api/faces?count=201", 400), ("GET", "/api/faces?count=0", 400),
    ("GET", "/api/faces/7/neighbours?count=0", 400), ("GET", "/api/faces?offset=-1", 400),
    ("GET", "/api/neighbours?count=0&code=0000000000000000", 400),
    ("GET", "/api/faces?offset=1e3", 400), ("GET", "/api/faces?count=%00", 400),
    ("GET", "/api/faces?count=%C2%B2", 400), ("GET", "/api/faces/7/neighbours?threshold=65", 400)])
def test_what_is_not_there(client, method, path, status):
    found, headers, value = client.ask(path, method)
    assert found == status and list(value) == ["error"] and headers["Content-Security-Policy"]


def test_pages_end(client):
    assert client.ask("/api/faces?offset=60")[2] == {"total": 60, "faces": []}
    answer = client.ask("/api/faces/7/neighbours?offset=1000")[2]
    assert answer["neighbours"] == [] and answer["total"] == 60


@pytest.mark.parametrize("method, path, length, status", [
    ("POST", "/api/query", web_server.MOST_BYTES + 1, 413), ("POST", "/api/query", 10 ** 15, 413),
    ("GET", "/api/gallery", 1000, 413), ("POST", "/api/nothing", 10 ** 6, 404),
    ("POST", "/api/gallery", 10 ** 6, 405)])
def test_the_answer_comes_before_the_body(client, method, path, length, status):
    for sent in (0, min(length, 3 * 10 ** 6)):
        with socket.create_connection(("127.0.0.1", client.port), 20) as connection:
            head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
                    f"Content-Length: {length}\r\nContent-Type: application/octet-stream\r\n\r\n")
            connection.sendall(head.encode() + b"x" * sent)
            answer = connection.recv(1 << 16).decode()
            assert answer.startswith(f"HTTP/1.1 {status} "), answer
            assert "application/json" in answer and answer.endswith("}")
    assert client.ask("/api/gallery")[0] == 200


def test_a_length_that_is_no_int_of_python(client):
    with socket.create_connection(("127.0.0.1", client.port), 20) as connection:
        connection.sendall((f"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
                            f"Content-Length: {'9' * 5000}\r\n"
                            "Content-Type: application/octet-stream\r\n\r\n").encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_length(client):
    head = (f"POST /api/query HTTP/1.1\r\nHost: localhost:{client.port}\r\n"
            "Transfer-Encoding: chunked\r\nContent-Type: application/octet-stream\r\n\r\n").encode()
    data = picture()
    for chunks, status in (([data[:99], data[99:]], 200), ([b"x" * 10 ** 6] * 21, 413)):
        with socket.create_connection(("127.0.0.1", client.port), 20) as connection:
            connection.sendall(head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk)
                                               for chunk in chunks) + b"0\r\n\r\n")
            assert connection.recv(1 << 16).decode().startswith(f"HTTP/1.1 {status} ")


def unfinished(client, sent, host=None, length=15 * 10 ** 6):
    """A connection with an upload of which a part is sent."""
    connection = socket.create_connection(("127.0.0.1", client.port), 20)
    connection.sendall(
        (f"POST /api/query HTTP/1.1\r\nHost: {host or f'127.0.0.1:{client.port}'}\r\n"
         f"Content-Length: {length}\r\nContent-Type: application/octet-stream\r\n\r\n").encode())
    try:
        connection.sendall(b"x" * sent)
    except OSError:
        pass  # it was ended
    return connection


def resident():
    """Bytes of memory that this process takes."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_unfinished_uploads_take_no_memory(client, monkeypatch):
    before = resident()
    held = [unfinished(client, 14 * 10 ** 6, "evil.example") for _ in range(40)]
    assert [connection.recv(99)[:12] for connection in held] == [b"HTTP/1.1 403"] * 40
    assert resident() - before < 60e6
    for connection in held:
        connection.close()
    # With a name we know they are kept, up to a limit: then those end that send nothing more.
    monkeypatch.setattr(web_server, "MOST_UPLOADED", 60 * 10 ** 6)
    before = resident()
    held = [unfinished(client, 14 * 10 ** 6) for _ in range(12)]
    assert client.upload(picture())[0] == 200
    assert resident() - before < 140e6
    for connection in held[:8]:
        connection.settimeout(10)
        with pytest.raises(OSError):  # reset, or ended by us
            if not connection.recv(99):
                raise OSError("ended")
    for connection in held:
        connection.close()


def test_half_requests_shut_nobody_out(client, monkeypatch):
    monkeypatch.setattr(web_server, "MOST_CONNECTIONS", 100)
    held = []
    for _ in range(205):
        held.append(socket.create_connection(("127.0.0.1", client.port), 20))
        held[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127")
    for _ in range(3):
        started = time.time()
        assert client.ask("/api/faces")[0] == 200
        assert time.time() - started < 5
    ended = 0
    for connection in held:
        connection.settimeout(0.01)
        try:
            ended += connection.recv(99) == b""
        except OSError as error:
            ended += "timed out" not in str(error)
        connection.close()
    assert ended >= 100


def test_slow_and_idle_connections_end(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server, "HEADER_SECONDS", 1)
    monkeypatch.setattr(web_server, "BODY_SECONDS", 1)
    with write_gallery(tmp_path / "g", PEOPLE) as gallery, Client(gallery) as client:
        drips = [socket.create_connection(("127.0.0.1", client.port), 20) for _ in range(2)]
        drips.append(unfinished(client, 10))
        drips[0].sendall(
            f"GET /api/gallery HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n\r\n".encode())
        assert drips[0].recv(99)  # then it is idle
        started = time.time()
        ended = set()
        while len(ended) < 3 and time.time() - started < 15:
            for connection in drips[1:]:  # a byte now and then does not help
                try:
                    connection.sendall(b"X")
                except OSError:
                    ended.add(connection)
            drips[0].settimeout(0.2)
            try:
                if not drips[0].recv(1 << 16):
                    ended.add(drips[0])
            except OSError:
                pass
            time.sleep(0.1)
        for connection in drips:
            connection.close()
    assert len(ended) == 3


def test_other_sites_are_refused(client):
    own = f"127.0.0.1:{client.port}"
    photograph = picture()
    for headers in (
            dict(Host="evil.example"), dict(Host="127.0.0.1:1"), dict(Host=""),
            dict(Origin="http://evil.example"), dict(Origin="null"),
            dict(Origin="https://" + own), dict(Sec_Fetch_Site="cross-site"),
            dict(Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors")):
        assert client.ask("/api/gallery", **headers)[0] == 403, headers
        assert client.ask("/api/query", "POST", photograph, **dict(
            {"Content-Type": web_server.UPLOAD_TYPE}, **headers))[0] == 403, headers
    # What a form of another site can send, in a browser that says nothing of where it comes from.
    for kind in ("text/plain", "multipart/form-data; boundary=x",
                 "application/x-www-form-urlencoded"):
        assert client.ask("/api/query", "POST", photograph, **{"Content-Type": kind})[0] == 403
    for headers in (dict(Origin="http://" + own), dict(Host=f"localhost:{client.port}"),
                    dict(Sec_Fetch_Site="same-origin")):
        assert client.ask("/api/gallery", **headers)[0] == 200, headers
    # A link from elsewhere opens the page, and nothing else.
    link = dict(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert client.ask("/", **link)[0] == 200 and client.ask("/api/faces", **link)[0] == 403


def test_another_address_takes_a_token(tmp_path):
    with write_gallery(tmp_path / "g", PEOPLE) as gallery, Client(gallery, "secret") as client:
        for path in ("/", "/api/gallery", "/static/search.js", "/?token=wrong",
                     "/?token=%ff", "/api/gallery?token=secret"):
            assert client.ask(path)[0] in (400, 403), path
        status, headers, _ = client.ask("/?token=secret", Host="photographs.example")
        assert status == 302 and headers["Location"].endswith("/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        with_cookie = dict(Cookie=cookie.split(";")[0], Host="photographs.example")
        assert client.ask("/", **with_cookie)[0] == 200
        assert client.ask("/api/gallery", **with_cookie)[2]["faces"] == 60
        assert client.ask("/api/gallery", Origin="http://evil.example",
                          **with_cookie)[0] == 403
        with unfinished(client, 0) as connection:  # before the body
            assert connection.recv(99).startswith(b"HTTP/1.1 403")
    assert web_server.is_loopback("127.0.0.1") and web_server.is_loopback("::1")
    for host in ("0.0.0.0", "::", "192.168.1.5", "photographs.example", ""):
        assert not web_server.is_loopback(host)


@pytest.mark.skipif(not have_tls_proxy(), reason="nginx is not installed (apt-get install nginx)")
@pytest.mark.parametrize("header", ("", "proxy_set_header Host $http_host;"))
def test_behind_a_tls_proxy(tmp_path, header):
    """What test_page.py's Chromium sends, and what others could; the proxy passes the Host or not.
    """
    public_port = free_port()
    origin = f"https://{PUBLIC_NAME}:{public_port}"
    with write_gallery(tmp_path / "g", PEOPLE) as gallery, Client(
            gallery, "secret", web_server.check_public_url(origin)) as client, tls_proxy(
                tmp_path, public_port, client.port, header) as context:
        def through(path, method="GET", body=None, **headers):
            return ask(TlsConnection(public_port, context), path, method, body, **headers)

        assert through("/")[0] == 403
        status, headers, _ = through("/?token=secret")
        assert status == 302 and headers["Location"] == "/"
        assert ("Secure" in headers["Set-Cookie"]) == bool(header)
        asked = dict(Cookie=headers["Set-Cookie"].split(";")[0], Origin=origin,
                     Sec_Fetch_Site="same-origin", **UPLOAD)
        big = picture(size=(2400, 1800), kind="BMP")  # 13 MB: nginx keeps it in a file
        for data in (picture(), big):
            status, _, value = through("/api/query", "POST", data, **asked)
            assert status == 200 and len(value["faces"]) == 1
        for other in ("https://evil.example", f"http://{origin[8:]}", "null"):
            assert through("/api/query", "POST", picture(), **dict(asked, Origin=other))[0] == 403
        assert through("/api/query", "POST", picture(),
                       **dict(asked, Cookie="gallery_token=wrong"))[0] == 403


def test_addresses():
    assert web_server.check_public_url("https://Faces.example.org/") == "https://faces.example.org"
    assert web_server.check_public_url("https://f.example:443") == "https://f.example"
    assert web_server.check_public_url("http://f.example:8443") == "http://f.example:8443"
    assert web_server.check_public_url("https://b\u00fccher.example") == \
        "https://xn--bcher-kva.example"
    for wrong in ("faces.example.org", "ftp://f.example", "https://", "https://f.example/page",
                  "https://f.example/?a", "https://u:secret@f.example", "https://f.example:99999",
                  "https://f example", "https://<b>"):
        with pytest.raises(UserError) as refusal:
            web_server.check_public_url(wrong)
        assert "--public_url" in str(refusal.value)
    assert web_server.addresses("127.0.0.1", 80) == ["http://127.0.0.1:80"]
    assert web_server.addresses("::1", 8000, "https://f.example") == [
        "https://f.example", "http://[::1]:8000"]
    for address in web_server.addresses("0.0.0.0", 8000):
        assert not address.startswith(("http://0.", "http://127."))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(UserError):
            web_server.listen("127.0.0.1", taken.getsockname()[1])


def test_each_answer_is_of_the_gallery_as_it_is(own_client):
    client = own_client
    path = client.searcher.now().gallery.path
    assert client.ask("/api/faces/7/neighbours")[2]["verdict"]["name"] == "person 7"
    code = packing.to_text(CODES[7])
    add_to_gallery(path, [50]).close()
    assert client.ask("/api/faces/60/thumbnail")[2] == colour(1000)
    # One is removed: the very next answers know nothing of it, whatever is asked first.
    remove(path, names=["person 7"])
    assert "person 7" not in str(client.ask("/api/neighbours?code=" + code)[2])
    assert client.ask("/api/faces/7/thumbnail")[0] == 404
    assert client.ask("/api/gallery")[2]["faces"] == 56
    remove(path, ids=[60])
    assert client.ask("/api/faces/60/thumbnail")[0] == 404
    # All are removed, and one comes back.
    remove(path, names=[f"person {number}" for number in range(12) if number != 7])
    answer = client.ask("/api/neighbours?code=" + code)[2]
    assert answer["neighbours"] == [] and answer["verdict"] is None
    assert client.ask("/api/gallery")[2]["faces"] == 0
    assert client.upload(picture())[2]["faces"][0]["neighbours"] == []
    add_to_gallery(path, [3]).close()
    assert client.ask("/api/gallery")[2]["faces"] == 1
    # The gallery is gone: nothing of it is shown.
    shutil.rmtree(path)
    for address in ("/api/gallery", "/api/faces", "/api/faces/61/thumbnail",
                    "/api/neighbours?code=" + code):
        status, _, value = client.ask(address)
        assert status == 503 and list(value) == ["error"], address
    assert client.upload(picture())[0] == 503


def test_answers_while_the_gallery_changes(own_client):
    """Removals one after another: no answer names or shows whoever was gone before it was asked."""
    path = own_client.searcher.now().gallery.path
    gone = []

    def ask_on():
        while len(gone) < 12:
            before = list(gone)
            status, _, value = own_client.ask("/api/faces/59/neighbours?count=60")
            assert status in (200, 404)
            for name in before:
                assert f"'{name}'" not in str(value)
        return True

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask_on) for _ in range(3)]
        for number in range(12):
            remove(path, names=[f"person {number}"])
            gone.append(f"person {number}")
        assert all(future.result(60) for future in asking)


def test_a_face_is_named(own_client):
    def change(body, kind=web_server.JSON_TYPE):
        return own_client.ask("/api/change", "POST", body, **{"Content-Type": kind})

    status, _, _ = change('{"do": "name", "ids": [7], "name": " Zo\u00eb "}'.encode())
    assert status == 200
    assert own_client.ask("/api/faces?offset=7&count=1")[2]["faces"][0]["person"] == "Zo\u00eb"
    assert "Zo\u00eb" in own_client.ask("/api/people")[2]["names"]
    assert change(b'{"do": "name", "ids": [99], "name": "Ann"}')[0] == 400
    assert change(b'{"do": "undo"}', "text/plain")[0] == 403
    assert change(b" " * (10 ** 6 + 1))[0] == 413


def test_the_photograph_of_a_face(tmp_path):
    with photographed_gallery(tmp_path, [0, 1, 2], lambda number: f"person {number}") as gallery, \
            Client(gallery) as client:
        status, headers, data = client.ask("/api/faces/1/photograph")
        assert status == 200 and headers["Content-Type"] == "image/jpeg"
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == PHOTOGRAPH
            assert image.getpixel((100, 100))[0] < 20  # as in the file, beside the frame
        # A file that was not indexed is not shown: the gallery could name any.
        (tmp_path / "IMG_0001.jpg").write_bytes((tmp_path / "IMG_0002.jpg").read_bytes())
        (tmp_path / "IMG_0002.jpg").unlink()
        for face in (1, 2):
            status, _, value = client.ask(f"/api/faces/{face}/photograph")
            assert status == 404 and f"IMG_000{face}.jpg" in value["error"]


def test_fifty_at_once(client):
    """Fifty browsers, each with several questions; benchmarks/search.py does so for a minute."""
    photographs = [picture(seed) for seed in range(4)]
    expected = [client.upload(photograph)[2] for photograph in photographs]

    def browser(number):
        for turn in range(3):
            which = (number + turn) % 4
            status, _, value = client.upload(photographs[which])
            assert status == 200 and value == expected[which]
            face = (7 * number + turn) % 60
            assert client.ask(f"/api/faces/{face}/thumbnail")[2] == colour(face)
            nearest = client.ask(f"/api/faces/{face}/neighbours")[2]["neighbours"][0]
            assert nearest["distance"] == 0
        return True

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(browser, range(50)))


ADDING = """
class Waiting(TinyEncoder):
    def describe(self, images):
        print("reads", flush=True)
        sys.stdin.readline()
        return super().describe(images)


indexing.open_encoder = lambda *_: Waiting()
indexing.add(sys.argv[1])
"""
WRITING = """
with Writer(sys.argv[1]) as writer:
    writer.run("DELETE FROM left_out")
    print("writes", flush=True)
    sys.stdin.readline()
    writer.commit()
"""


@contextlib.contextmanager
def other_process(script, path):
    """Another process that changes a gallery, stopped half-way until `release` is called."""
    lines = ["import sys", f"sys.path[:0] = {sys.path!r}", "from tiny_gallery import TinyEncoder",
             "from gallery import indexing", "from gallery.store import Writer", script]
    with subprocess.Popen([sys.executable, "-c", "\n".join(lines), str(path)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()

        def release():
            process.stdin.write(b"\n" * 100)
            process.stdin.close()
            assert process.wait(60) == 0

        yield release


def test_a_face_is_named_while_another_process_adds_photographs(tmp_path):
    for number in range(3):
        save_photograph(tmp_path / "lib" / "Ann" / f"{number}.png", number)
    index_folders(tmp_path / "g", tmp_path / "lib")
    (tmp_path / "lib" / "Ann" / "0.png").rename(tmp_path / "lib" / "moved.png")
    for number in range(3, 6):
        save_photograph(tmp_path / "lib" / "Bob" / f"{number}.png", number)
    naming = json.dumps({"do": "name", "ids": [1], "name": "Zoe"}).encode()
    with Gallery.open(tmp_path / "g") as gallery, Client(gallery) as client:
        def name():
            return client.ask("/api/change", "POST", naming, Content_Type=web_server.JSON_TYPE)

        with other_process(ADDING, tmp_path / "g") as release:
            assert name()[0] == 200
            with pytest.raises(UserError):  # another `add`, or what else follows the folders
                remove(tmp_path / "g", ids=[0])
            assert client.ask("/api/faces")[2]["total"] == 3
            release()
        faces = {os.path.basename(face["file"]): face["person"]
                 for face in client.ask("/api/faces")[2]["faces"]}
        assert faces == {"moved.png": None, "1.png": "Zoe", "2.png": "Ann", "3.png": "Bob",
                         "4.png": "Bob", "5.png": "Bob"}
        # While it writes, the page waits.
        naming = naming.replace(b"Zoe", b"Eve")
        with other_process(WRITING, tmp_path / "g") as release, ThreadPoolExecutor(1) as pool:
            named = pool.submit(name)
            time.sleep(0.5)
            assert not named.done(), named.result()
            release()
            assert named.result(60)[0] == 200
        assert "Eve" in client.ask("/api/people")[2]["names"]
