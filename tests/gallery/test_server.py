"""The page's server, by HTTP on loopback: what it answers, what it refuses, many at once."""

import http.client
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from served_gallery import Client, PixelEncoder
from tiny_gallery import add_to_gallery, colour, write_gallery

from evaluation import packing
from gallery import server as web_server
from gallery.changes import remove
from gallery.gallery import Gallery

PEOPLE = [number % 12 for number in range(60)]
UPLOAD = {"Content-Type": web_server.UPLOAD_TYPE}


@pytest.fixture(scope="module", autouse=True)
def patched(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(Gallery, "open_encoder", lambda _: PixelEncoder())
    # A temporary file for a request's body would fail.
    patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("none") / "missing"))
    yield
    patch.undo()


@pytest.fixture
def client(tmp_path):
    with write_gallery(tmp_path / "g", PEOPLE) as gallery:
        found = Client(gallery)
        yield found
        found.close()


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
    gallery = client.searcher.state.gallery
    first = client.ask("/api/faces/7/neighbours?count=10")[2]
    more = client.ask("/api/neighbours?count=5&offset=10&code=" + first["code"])[2]
    distances = packing.distances(gallery.contents.items.codes[7], gallery.contents.items.codes)
    expected = np.argsort(distances, kind="mergesort")[:15]
    found = first["neighbours"] + more["neighbours"]
    assert [item["id"] for item in found] == expected.tolist()
    assert [item["distance"] for item in found] == distances[expected].tolist()
    assert [item["rank"] for item in found] == list(range(1, 16))
    assert first["verdict"]["name"] == "person 7" and first["verdict"]["nearest"] == 0
    code = packing.to_text(~gallery.contents.items.codes[7])
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
        assert face["code"] == packing.to_text(packing.pack(PixelEncoder().encode(
            pixels[None]))[0])


def test_large_photographs_stay_in_memory(client):
    noise = np.random.RandomState(0).randint(0, 256, (2300, 2300, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "BMP")  # 16 MB
    assert 15e6 < len(stream.getvalue()) < web_server.MOST_BYTES
    assert client.upload(stream.getvalue())[0] == 200


def test_what_is_no_photograph_is_refused(client):
    whole = picture(kind="JPEG")
    for data, status in ((b"", 415), (b"<svg onload=alert(1)>", 415), (b"\0" * 1000, 415),
                         (whole[:len(whole) // 2], 415), (picture()[:200], 415),
                         (bomb(60000, 60000), 413), (bomb(20000, 20000), 413)):
        found, _, value = client.upload(data)
        assert found == status and value["error"] and "\n" not in value["error"], value
        assert "object at" not in value["error"]
    assert client.upload(whole)[0] == 200


def test_too_many_bytes_are_refused(client):
    # The server answers before it has read them all.
    headers = {"Content-Length": str(web_server.MOST_BYTES + 1), **UPLOAD}
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.request("POST", "/api/query", headers=headers)
    assert connection.getresponse().status == 413
    connection.close()
    assert client.ask("/api/gallery")[0] == 200


@pytest.mark.parametrize("path, status", [
    ("/api/faces/60/thumbnail", 404), ("/api/faces/-1/thumbnail", 404), ("/nothing", 404),
    ("/static/../server.py", 404), ("/static/%2e%2e/server.py", 404),
    ("/static/..%2f..%2fconfig.py", 404), ("/static//etc/passwd", 308), ("/api/query", 405),
    ("/api/faces/%2e%2e/thumbnail", 404), ("/api/neighbours?code=xyz", 400),
    ("/api/neighbours?code=" + "z" * 16, 400), ("/api/faces?count=201", 400),
    ("/api/faces?offset=-1", 400), ("/api/faces?offset=1e3", 400), ("/api/faces?count=%00", 400),
    ("/api/faces/7/neighbours?threshold=65", 400), ("/api/faces/99999999999999999999/x", 404)])
def test_addresses_that_are_none(client, path, status):
    found, _, value = client.ask(path)
    assert found == status and b"Traceback" not in str(value).encode()


def test_other_sites_are_refused(client):
    own = "127.0.0.1:%d" % client.port
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
    for headers in (dict(Origin="http://" + own), dict(Host="localhost:%d" % client.port),
                    dict(Sec_Fetch_Site="same-origin")):
        assert client.ask("/api/gallery", **headers)[0] == 200, headers
    # A link from elsewhere opens the page, and nothing else.
    link = dict(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert client.ask("/", **link)[0] == 200 and client.ask("/api/faces", **link)[0] == 403


def test_another_address_takes_a_token(tmp_path):
    with write_gallery(tmp_path / "g", PEOPLE) as gallery:
        client = Client(gallery, token="secret")
        try:
            for path in ("/", "/api/gallery", "/static/search.js", "/?token=wrong",
                         "/api/gallery?token=secret"):
                assert client.ask(path)[0] == 403, path
            status, headers, _ = client.ask("/?token=secret", Host="photographs.example")
            assert status == 302 and headers["Location"].endswith("/")
            cookie = headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            with_cookie = dict(Cookie=cookie.split(";")[0], Host="photographs.example")
            assert client.ask("/", **with_cookie)[0] == 200
            assert client.ask("/api/gallery", **with_cookie)[2]["faces"] == 60
            assert client.ask("/api/gallery", Origin="http://evil.example",
                              **with_cookie)[0] == 403
        finally:
            client.close()
    assert web_server.is_loopback("127.0.0.1") and web_server.is_loopback("::1")
    for host in ("0.0.0.0", "::", "192.168.1.5", "photographs.example", ""):
        assert not web_server.is_loopback(host)


def test_a_change_of_the_gallery_is_taken_up(client):
    path = client.searcher.state.gallery.path
    add_to_gallery(path, [50]).close()
    assert client.ask("/api/gallery")[2]["faces"] == 61
    assert client.ask("/api/faces/60/thumbnail")[2] == colour(1000)
    remove(path, ids=[60, 7])[0].close()
    assert client.ask("/api/gallery")[2]["faces"] == 59
    assert client.ask("/api/faces/60/thumbnail")[0] == 404
    (path / "gallery.json").write_text("damaged")
    assert client.ask("/api/gallery")[2]["faces"] == 59  # goes on with what it has


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
            assert client.ask("/api/faces/%d/thumbnail" % face)[2] == colour(face)
            nearest = client.ask("/api/faces/%d/neighbours" % face)[2]["neighbours"][0]
            assert nearest["distance"] == 0
        return True

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(browser, range(50)))
