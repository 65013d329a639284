"""The page as people use it: a headless Chromium, by mouse, by keyboard and on a phone."""

import json

import headless_chromium
import numpy as np
import pytest
from PIL import Image
from served_gallery import Client, PixelEncoder
from tiny_gallery import write_gallery

from evaluation import packing
from gallery.store import Gallery

NAMES = ["<img src=x onerror=alert(1)>", "Ann \u738b", None, "x" * 70]
PEOPLE = [number % 4 for number in range(60)]

pytestmark = pytest.mark.skipif(headless_chromium.find() is None,
                                reason="Chromium is not installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def gallery_path(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "g"


@pytest.fixture(scope="module")
def address(gallery_path):
    patch = pytest.MonkeyPatch()
    patch.setattr(Gallery, "open_encoder", lambda _: PixelEncoder())
    with write_gallery(gallery_path, PEOPLE, names=NAMES.__getitem__) as gallery:
        client = Client(gallery)
        yield "http://127.0.0.1:%d/" % client.port
        client.close()
    patch.undo()


@pytest.fixture(scope="module")
def browser():
    with headless_chromium.Browser() as found:
        yield found


@pytest.fixture
def page(address, browser):
    browser.open("about:blank")
    browser.open(address)
    browser.wait_for("document.querySelectorAll('#gallery .face').length")
    yield browser
    assert browser.problems == []


def texts(browser, selector):
    return json.loads(browser.run(
        "JSON.stringify([...document.querySelectorAll(%s)].map((found) => found.textContent))"
        % json.dumps(selector)))


def focused(browser):
    return browser.run("(document.activeElement.id || document.activeElement.className)")


def photograph(path, seed=3):
    pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((90, 120)).save(str(path))
    with Image.open(str(path)) as image:
        small = np.asarray(image.convert("RGB").resize((32, 32), Image.BILINEAR))
    return packing.pack(PixelEncoder().encode(small[None]))[0]


def test_a_photograph_is_chosen(page, tmp_path, gallery_path):
    code = photograph(tmp_path / "who.png")
    page.choose_file("#photograph", tmp_path / "who.png")
    page.wait_for("document.querySelector('.result')")
    assert texts(page, ".result h2") == ["who.png"]
    with Gallery.open(gallery_path) as gallery:
        distances = np.sort(packing.distances(code, gallery.codes))
    shown = texts(page, ".result .face span")
    assert shown == ["distance %d" % distance for distance in distances[:24]]
    page.run("document.querySelector('.result .more').click()")
    page.wait_for("document.querySelectorAll('.result .face').length === 48")
    shown = texts(page, ".result .face span")
    assert shown == ["distance %d" % distance for distance in distances[:48]]
    # The slider at its end names the face; the names are text, whatever they hold.
    page.run("document.getElementById('threshold').focus()")
    for _ in range(48):
        page.press("ArrowRight")
    page.wait_for("document.getElementById('distance').textContent === '48'")
    page.wait_for("document.querySelectorAll('.result .face.within').length === 48")
    named = texts(page, ".verdict")[0]
    assert named in NAMES
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
    assert texts(page, ".result h2") == ["dropped.png"]


def test_by_keyboard_alone(page):
    page.press("Tab")
    assert focused(page) == "photograph"
    page.press("Tab")
    assert focused(page).startswith("face")  # the naming is not shown before there is a result
    page.press("Tab")
    page.press("Enter")
    page.wait_for("document.querySelector('.result')")
    assert texts(page, ".result h2")[0].startswith(NAMES[1])
    # The gallery's pages: to the next, and back.
    page.run("document.getElementById('next').focus()")
    page.press(" ", "Space")
    page.wait_for("document.getElementById('pages').textContent.startsWith('25 ')")
    page.run("document.getElementById('previous').focus()")
    page.press("Enter")
    page.wait_for("document.getElementById('pages').textContent.startsWith('1 ')")
    # A neighbour's neighbours, and back in the browser's history.
    page.run("document.querySelectorAll('.result .face')[3].focus()")
    before = json.dumps(texts(page, ".result h2")[0])
    page.press("Enter")
    page.wait_for("document.querySelector('.result h2').textContent !== " + before)
    page.run("history.back()")
    page.wait_for("document.querySelector('.result h2').textContent === " + before)
    page.run("document.querySelector('.result .more').focus()")
    page.press("Enter")
    page.wait_for("document.querySelectorAll('.result .face').length === 48")
    assert page.run("[...document.querySelectorAll('.result .face')].indexOf("
                    "document.activeElement)") == 24


@pytest.mark.parametrize("dark", (False, True))
def test_on_a_phone(browser, address, dark):
    browser.open("about:blank")
    browser.open(address + "#face=3", width=360, dark=dark)
    browser.wait_for("document.querySelector('.result img') "
                     "&& document.querySelector('.result img').complete")
    assert browser.run("document.documentElement.scrollWidth") <= 360
    # What is touched is large enough for a finger.
    sizes = json.loads(browser.run("""JSON.stringify([...document.querySelectorAll(
        "button, #photograph, #threshold")].map((found) => found.getBoundingClientRect())
        .filter((box) => box.width).map((box) => [box.width, box.height]))"""))
    assert len(sizes) > 40 and all(width >= 44 and height >= 44 for width, height in sizes)
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(255, 255, 255)") != dark
    assert browser.problems == []


def test_what_goes_wrong_is_said(page, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    page.choose_file("#photograph", tmp_path / "text.png")
    page.wait_for("document.querySelector('#status.error')")
    assert "photograph" in texts(page, "#status")[0]
    with open(str(tmp_path / "large.png"), "wb") as stream:
        stream.truncate(21 * 1000 * 1000)
    page.choose_file("#photograph", tmp_path / "large.png")
    page.wait_for("document.getElementById('status').textContent.includes('20 MB')")
    assert texts(page, ".result") == []
    # The browser notes a refused upload by itself.
    page.problems = [problem for problem in page.problems if "status of 415" not in problem]
