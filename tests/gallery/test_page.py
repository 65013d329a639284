"""The page as people use it: a headless Chromium, by mouse, by keyboard, on a phone, behind TLS."""

import json

import headless_chromium
import numpy as np
import pytest
from PIL import Image
from served_gallery import (
    PUBLIC_NAME,
    Client,
    free_port,
    have_tls_proxy,
    photographed_gallery,
    tls_proxy,
)
from tiny_gallery import TinyEncoder, codes_of_people

from evaluation import packing
from gallery import contact_sheet
from gallery.answers import Judge, Result
from gallery.engines import open_index
from gallery.questions import QueryFace

NAMES = ["<img src=x onerror=alert(1)>", "Ann \u738b", None, "x" * 70, "Bartholomew Xerxes"]
PEOPLE = [number % 5 for number in range(60)]
CODES = codes_of_people(PEOPLE, 48)

pytestmark = pytest.mark.skipif(headless_chromium.find() is None,
                                reason="Chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with photographed_gallery(tmp_path_factory.mktemp("page"), PEOPLE,
                              NAMES.__getitem__) as gallery:
        yield gallery


@pytest.fixture(scope="module")
def address(gallery):
    with Client(gallery) as client:
        yield f"http://127.0.0.1:{client.port}/"


@pytest.fixture(scope="module")
def browser():
    # What a name server and an authority do for a real proxy.
    with headless_chromium.Browser(f"--host-resolver-rules=MAP {PUBLIC_NAME} 127.0.0.1",
                                   "--ignore-certificate-errors") as found:
        yield found


@pytest.fixture
def page(address, browser):
    open_page(browser, address)
    yield browser
    assert browser.problems == []


def open_page(browser, address, **options):
    browser.open("about:blank")
    browser.open(address, **options)
    browser.wait_for("document.querySelectorAll('#gallery .face').length")


def texts(browser, selector):
    return json.loads(browser.run(
        f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})]"
        ".map((found) => found.textContent))"))


def focused(browser):
    return browser.run("(document.activeElement.id || document.activeElement.className)")


def photograph(path, seed=3):
    pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((90, 120)).save(path)
    with Image.open(path) as image:
        small = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
    return packing.pack(TinyEncoder().encode(small[None]))[0]


DISTANCES = ".result .face b + span"


def test_a_photograph_is_chosen(page, tmp_path):
    code = photograph(tmp_path / "who.png")
    page.choose_file("#photograph", tmp_path / "who.png")
    page.wait_for("document.querySelector('.result')")
    assert texts(page, ".answer h2") == ["who.png"]
    distances = np.sort(packing.distances(code, CODES))
    expected = [f"distance {distance}" for distance in distances]
    assert texts(page, DISTANCES) == expected[:24]
    page.run("document.querySelector('.result .more').click()")
    page.wait_for("document.querySelectorAll('.result .face').length === 48")
    assert texts(page, DISTANCES) == expected[:48]
    # The answer comes first, then how it is found, then the faces; none of them is greyed.
    tops = json.loads(page.run("""JSON.stringify([".verdict", "#naming", ".result"].map(
        (found) => document.querySelector(found).getBoundingClientRect().top))"""))
    assert tops == sorted(tops)
    assert page.run("[...document.querySelectorAll('.face img')].every("
                    "(found) => getComputedStyle(found).opacity === '1')")
    # The slider at its end names the face; the names are text, whatever they hold.
    page.run("document.getElementById('naming').open = true")
    page.run("document.getElementById('threshold').focus()")
    for _ in range(48):
        page.press("ArrowRight")
    page.wait_for("document.getElementById('distance').textContent === '48'")
    page.wait_for("document.querySelectorAll('.result .face.within').length === 48")
    assert texts(page, ".verdict")[0] in NAMES
    assert set(texts(page, "#gallery .face b")) == {name or "\u2013" for name in NAMES}
    assert page.run("document.querySelectorAll('.face img[onerror]').length") == 0
    page.run("document.getElementById('calibrated').click()")
    page.wait_for("document.getElementById('distance').textContent !== '48'")


def test_a_photograph_is_dropped(page):
    page.run("""(async () => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(3, 3, 50, 50);
        const blob = await new Promise((done) => canvas.toBlob(done));
        const carried = new DataTransfer();
        carried.items.add(new File([blob], "dropped.png"));
        document.body.dispatchEvent(new DragEvent("drop", {
            bubbles: true, cancelable: true, dataTransfer: carried}));
    })()""")
    page.wait_for("document.querySelector('.result')")
    assert texts(page, ".answer h2") == ["dropped.png"]


def test_by_keyboard_alone(page):
    page.wait_for("document.querySelector('#groups button')")
    page.press("Tab")
    assert focused(page) == "photograph"
    page.press("Tab")
    assert focused(page).startswith("face")  # the naming is not shown before there is a result
    page.press("Enter")
    page.wait_for("document.getElementById('group').open")
    page.run("document.getElementById('group').close()")
    page.run("document.querySelector('#gallery .face').focus()")
    page.press("Tab")
    page.press("Enter")
    page.wait_for("document.getElementById('face').open")
    assert focused(page) == "face-close"
    page.press("Tab")
    assert focused(page) == "face-similar"
    page.press("Enter")
    page.wait_for("document.querySelector('.result')")
    page.wait_for("!document.getElementById('face').open")
    assert texts(page, ".answer h2")[0].startswith(NAMES[1])
    # The gallery's pages: to the next, and back.
    page.run("document.getElementById('next').focus()")
    page.press(" ", "Space")
    page.wait_for("document.getElementById('pages').textContent.startsWith('25 ')")
    page.run("document.getElementById('previous').focus()")
    page.press("Enter")
    page.wait_for("document.getElementById('pages').textContent.startsWith('1 ')")
    # Another face, and back in the browser's history.
    before = json.dumps(texts(page, ".answer h2")[0])
    page.run("document.querySelectorAll('.result .face')[3].focus()")
    page.press("Enter")
    page.press("Tab")
    page.press("Enter")
    page.wait_for(f"document.querySelector('.answer h2').textContent !== {before}")
    page.run("history.back()")
    page.wait_for(f"document.querySelector('.answer h2').textContent === {before}")
    page.run("document.querySelector('.result .more').focus()")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('.result .face').length === 48")
    assert page.run("[...document.querySelectorAll('.result .face')].indexOf("
                    "document.activeElement)") == 24


def test_a_click_shows_the_photograph(page):
    assert texts(page, "#gallery .face .file")[:2] == ["IMG_0000.jpg", "IMG_0001.jpg"]
    page.run("document.querySelectorAll('#gallery .face')[7].click()")
    page.wait_for("document.getElementById('face-image').naturalWidth === 160")
    assert texts(page, "#face-place")[0].endswith("IMG_0007.jpg")
    assert texts(page, "#face-name") == ["A face without a name"]


def test_a_face_is_named(browser, tmp_path):
    with photographed_gallery(tmp_path, PEOPLE[:10], NAMES.__getitem__) as gallery, Client(
            gallery) as client:
        open_page(browser, f"http://127.0.0.1:{client.port}/#face=3")
        browser.wait_for("document.querySelector('.result')")
        browser.run("document.querySelectorAll('#gallery .face')[2].click()")
        browser.run("document.getElementById('face-person').focus()")
        browser.call("Input.insertText", text="Zo\u00eb")
        browser.press("Enter")
        browser.wait_for("!document.getElementById('face').open")
        browser.wait_for("document.querySelectorAll('#gallery .face b')[2].textContent === "
                         "'Zo\u00eb'")
        assert "5 people" in texts(browser, "#about")[0]
        assert client.ask("/api/people")[2]["names"] == sorted(
            [name for name in NAMES if name] + ["Zo\u00eb"])
        assert browser.problems == []


@pytest.mark.parametrize("width, dark", [(360, False), (360, True), (390, False), (1280, False)])
def test_it_fits(browser, address, width, dark):
    open_page(browser, f"{address}#face=3", width=width, dark=dark)
    browser.wait_for("document.querySelector('.answer img') "
                     "&& document.querySelector('.answer img').complete")
    browser.run("document.getElementById('naming').open = true")
    assert browser.run("document.documentElement.scrollWidth") <= width
    # Nothing is wider than what it lies in; a word of a name is on one line.
    assert browser.run("""[...document.querySelectorAll(".face, .answer, #naming, nav")].every(
        (found) => found.getBoundingClientRect().right <= innerWidth)""")
    assert browser.run("""[...document.querySelectorAll(".face b")].filter(
        (found) => found.textContent === "Bartholomew Xerxes").every(
        (found) => found.scrollWidth <= found.clientWidth && found.clientHeight < 60)""")
    # What is touched is large enough for a finger.
    sizes = json.loads(browser.run("""JSON.stringify([...document.querySelectorAll(
        "button, #photograph, #threshold, summary")].map((found) => found.getBoundingClientRect())
        .filter((box) => box.width).map((box) => [box.width, box.height]))"""))
    assert len(sizes) > 40 and all(width >= 44 and height >= 44 for width, height in sizes)
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(255, 255, 255)") != dark
    # A face's own window, too.
    browser.run("document.querySelectorAll('#gallery .face')[3].click()")
    browser.wait_for("document.getElementById('face-image').naturalWidth === 160")
    assert browser.run("document.getElementById('face').scrollWidth "
                       "<= document.getElementById('face').clientWidth")
    assert browser.problems == []


@pytest.mark.parametrize("width", (390, 1280))
def test_the_sheet_of_a_query_fits(browser, gallery, tmp_path, width):
    judge, index = Judge(gallery), open_index(gallery)
    face = QueryFace(None, (0, 0, 9, 9), gallery.thumbnail(5))
    results = [Result("/a/folder/with/a/long/name/IMG_" + "2" * 60 + ".jpg", 1, 2, face,
                      judge.answer(index, CODES[number], 20)) for number in range(5)]
    (tmp_path / "sheet.html").write_text(contact_sheet.html(gallery, judge, results),
                                         encoding="utf-8")
    browser.open(tmp_path / "sheet.html", width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert texts(browser, "h2")[0].startswith("IMG_222")
    shown = json.loads(browser.run("""JSON.stringify([...document.querySelectorAll("li")].map(
        (found) => [found.querySelector("small").textContent, found.title,
                    found.querySelector("b").textContent]))"""))
    assert len(shown) == 100
    for name, place, person in shown:
        assert place.endswith(f"/{name}") and name.startswith("IMG_00")
        assert person == (NAMES[PEOPLE[int(name[4:8])]] or "\u2013")
    assert browser.run("""[...document.querySelectorAll("li b")].filter(
        (found) => found.textContent === "Bartholomew Xerxes").every(
        (found) => found.scrollWidth <= found.clientWidth)""")
    assert browser.problems == []


def test_what_goes_wrong_is_said(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    page.choose_file("#photograph", tmp_path / "text.png")
    page.wait_for("document.querySelector('#status.error')")
    assert "photograph" in texts(page, "#status")[0]
    with open(tmp_path / "large.png", "wb") as stream:
        stream.truncate(21 * 1000 * 1000)
    page.choose_file("#photograph", tmp_path / "large.png")
    page.wait_for("document.getElementById('status').textContent.includes('20 MB')")
    assert texts(page, ".result") == []
    # The browser notes a refused upload by itself.
    page.problems = [problem for problem in page.problems if "status of 415" not in problem]


def test_the_link_opens_from_another_site(browser, gallery, tmp_path):
    """As from a chat or a mail that is read in the browser: a page of another origin."""
    with Client(gallery, "secret") as client:
        (tmp_path / "mail.html").write_text(
            f'<a href="http://127.0.0.1:{client.port}/?token=secret">faces</a>')
        browser.open(tmp_path / "mail.html")
        browser.run("document.querySelector('a').click()")
        browser.wait_for("document.querySelectorAll('#gallery .face').length")
        assert browser.run("location.href") == f"http://127.0.0.1:{client.port}/"


@pytest.mark.skipif(not have_tls_proxy(), reason="nginx is not installed (apt-get install nginx)")
def test_behind_a_tls_proxy(browser, gallery, tmp_path):
    public_port = free_port()
    public_url = f"https://{PUBLIC_NAME}:{public_port}"
    with Client(gallery, "secret", public_url) as client, tls_proxy(tmp_path, public_port,
                                                                    client.port):
        open_page(browser, f"{public_url}/?token=secret")
        assert browser.run("location.href") == f"{public_url}/"
        photograph(tmp_path / "who.png")
        browser.choose_file("#photograph", tmp_path / "who.png")
        browser.wait_for("document.querySelectorAll('.result .face').length === 24")
        assert browser.problems == []
