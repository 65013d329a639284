"""Pages as a browser shows them: Chromium, headless, at three widths, on dark, and printed."""

import json
from collections import Counter

import headless_chromium
import numpy as np
import pytest
from conftest import tiny_faces

import data_loader
from evaluation import floats, metrics
from evaluation.codes import checked_codes
from evaluation.vectors import unseen_results
from methods.table import resolve
from reports import runs, tables
from reports.html import data_url
from reports.page import write_comparison, write_report, write_unfinished_report
from runtime.output_folder import OutputFolder
from runtime.run_folder import RunFolder

NAMES = ["<b>Ann</b> & \"Ann\"", r"a$\x$ _under", "\u738b\u5c0f\u660e", "x" * 60]
PAPER = 703  # CSS pixels of A4's width between its margins
PAGES = ("run", "floats", "stopped", "diverged", "comparison", "many", "grid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of one page each, of all kinds, with names that are hard to show."""
    path = tmp_path_factory.mktemp("pages")
    (train, train_labels), (test, test_labels) = tiny_faces(4, train=4, test=2)
    splits = [data_loader.normalise(data_loader.channels_last(rows), labels)
              for rows, labels in ((train, train_labels), (test, test_labels))]
    patterns = np.random.RandomState(0).randn(4, 12)

    def codes(noise, seed=1, constant=()):
        rng = np.random.RandomState(seed)
        found = []
        for labels in (train_labels, test_labels):
            values = np.sign(patterns[labels] + noise * rng.randn(len(labels), 12))
            values[:, list(constant)] = 1
            found += [values, labels]
        return checked_codes(*found)

    def run_folder(name, ended_by, epochs, **values):
        config = resolve(dict(values, dataset_flag=2, num_bits=12, epochs=5))[0]
        made = RunFolder(path / name)
        made.path.mkdir(parents=True)
        made.write_json("config.json", config.to_dict())
        made.write_json("provenance.json", [dict(
            tensorflow="2.21.0", device="CPU", python="3.11", numpy="2.2.6", machine="<m>",
            git_revision="0123456789abcdef", git_dirty=False, data="d", start="2026-01-01",
            command_line=["python", "main.py", "--run_dir", "x" * 200], end=None,
            ended_by=ended_by)])
        for epoch in range(1, epochs + 1):
            made.history.append(dict(
                epoch=epoch, total=3.0 / epoch, quantization=0.1, accuracy=0.1 * epoch, mAP="",
                images_per_second=9.5, seconds=1.5))
        return made

    def write(name, noise, ended_by, epochs, **options):
        found = codes(noise, constant=options.pop("constant", ()))
        evaluation, made = metrics.evaluate_codes(found), run_folder(name, ended_by, epochs)
        if options.pop("unseen", False):
            others = codes(noise, seed=9)
            evaluation.results.update(unseen_results(found, others))
            made.write_arrays("unseen_codes.npz", **{
                key: array for key, array in others._asdict().items() if array is not None})
        write_report(made, evaluation, found, splits, NAMES, **options)

    picture = data_url(np.zeros((32, 32, 3), np.uint8))
    suspects = [dict(photograph=name, named=name, distance=3.5, picture=picture) for name in NAMES]
    write("run", 1.2, "finished", 5, suspects=suspects, unseen=True)
    found = codes(1.2)
    found = floats.Floats(found.gallery_codes.astype(float), found.gallery_labels,
                          found.query_codes.astype(float), found.query_labels)
    write_report(run_folder("floats", "finished", 0, method="float", features_of="x" * 150),
                        floats.evaluate_floats(found), found, splits, NAMES)
    write("stopped", 9.0, "stopped by SIGTERM", 1, suspects=[], constant=range(12))
    write_unfinished_report(
        run_folder("diverged", "error: epoch 3, step 2: the total loss is nan", 2),
        epoch=3, step=2, term="quantization")

    def comparison(name, count):
        compared = []
        for number in range(count):
            found = codes(0.2 * number, seed=number)
            run = run_folder(f"{name}_runs/{number} {NAMES[number % 4].replace('/', '')}",
                             "finished", 1, seed=number)
            compared.append(runs.compared_run(run.path, metrics.evaluate_codes(found), found))
        write_comparison(OutputFolder.create(path / name, "comparison"), compared)

    comparison("comparison", 4)
    comparison("many", 10)
    grid = OutputFolder.create(path / "grid", "grid")
    cells = []
    for number, name in enumerate(NAMES + ["dcbh"]):
        for bits in (12, 48):
            cell = RunFolder(path / "cells" / f"{number}_{bits}")
            cell.path.mkdir(parents=True)
            (cell.path / "curves_at_n.csv").write_text("n,precision,recall\n1,0.5,0.25\n2,0.25,1\n")
            cells.append(tables.GridRun("orl", name, bits, 0, dict(
                mAP=0.1 + 0.1 * number, training_seconds=9.0, parameters=7901234), cell))
    tables.write_tables(grid, tables.Table(
        ["orl", "facescrub"], {name: name for name in NAMES + ["dcbh"]}, [12, 48], cells),
        ["line <b>of</b> metadata"])
    return path


@pytest.fixture(scope="module")
def browser():
    if headless_chromium.find() is None:
        pytest.skip("there is no Chromium here; apt-get install chromium")
    with headless_chromium.Browser() as started:
        yield started


# Elements that stick out of the window; with or without those that lie in something that scrolls.
OUTSIDE = """[...document.body.querySelectorAll("*")].filter(element =>
    !element.closest(".scroll") && !element.closest("svg") &&
    element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML)"""
OUTSIDE_OR_SCROLLED = OUTSIDE.replace('!element.closest(".scroll") && ', "")
ALTERNATIVES = """[...document.querySelectorAll("img")].map(
    image => image.naturalWidth > 0 && image.alt || "missing").concat(
    [...document.querySelectorAll("[role=img]")].map(
        image => image.getAttribute("aria-label") || "missing"))"""
# What is drawn black although the page is dark.
BLACK = """[...document.querySelectorAll("figure > div svg *")].filter(element => {
    const style = getComputedStyle(element);
    const black = colour => ["rgb(0, 0, 0)", "rgb(1, 2, 3)"].includes(colour);
    const box = element.getBoundingClientRect();
    return !element.closest("defs, clipPath") && box.width + box.height > 0 &&
        (black(style.stroke) || (black(style.fill) && !element.closest("[style*='fill: none']") &&
                                 element.tagName === "path"));
}).map(element => element.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("page", PAGES)
def test_page_in_a_browser(folder, browser, page):
    path = folder / page / "report.html"
    for width, dark in ((390, False), (1280, True), (1920, False)):
        browser.open(path, width, dark)
        assert browser.problems == []
        assert browser.run("innerWidth") == width
        assert browser.run("document.documentElement.scrollWidth") == width
        assert browser.run(OUTSIDE_OR_SCROLLED if width == 390 else OUTSIDE) == []
        if dark:
            assert browser.run(BLACK) == []
    alternatives = browser.run(ALTERNATIVES)
    assert "missing" not in alternatives and (alternatives or page == "grid")
    assert browser.run("document.title") == browser.run("document.querySelector('h1').innerText")
    assert browser.run("document.querySelectorAll('td b, th b, li span b').length") == 0
    ids = Counter(browser.run("[...document.querySelectorAll('[id]')].map(element => element.id)"))
    assert ids.most_common(1)[0][1] == 1
    browser.open(path, PAPER, media="print")
    assert browser.run("document.documentElement.scrollWidth") == PAPER
    assert browser.run(OUTSIDE_OR_SCROLLED) == []
    hidden = browser.run("[...document.querySelectorAll('details > *')].filter("
                         "element => !element.checkVisibility()).length")
    assert hidden == 0
    assert browser.print_pdf()[:5] == b"%PDF-"


@pytest.mark.parametrize("page, where", [
    ("run", ".face span, .face img, .retrieval p, td"),
    ("comparison", "tr .first"), ("grid", "tr .first")])
def test_names_are_shown_as_they_are(folder, browser, page, where):
    browser.open(folder / page / "report.html")
    texts = browser.run(f"[...document.querySelectorAll({json.dumps(where)})].map("
                        "element => element.alt || element.innerText)")
    for name in NAMES:
        if page == "comparison":  # a folder's name has no slash
            name = name.replace("/", "")
        assert any(name in text for text in texts), name


def test_warnings_and_the_summary_stand_first(folder, browser):
    def banners(page):
        browser.open(folder / page / "report.html")
        return browser.run("[...document.querySelectorAll('.banner')].map(e => e.innerText)")

    text, = banners("run")
    assert "known people" in text
    stopped, collapsed, _ = banners("stopped")
    assert "1 of 5" in stopped and "collapsed" in collapsed
    text, = banners("diverged")
    assert "2 of 5" in text and "the total loss is nan" in text
    assert browser.run("document.querySelectorAll('figure').length") == 2
    browser.open(folder / "run" / "report.html", 1280)
    summary = browser.run("document.querySelector('.summary').innerText")
    assert "4 people, 16 gallery images, 8 queries" in summary
    assert browser.run("document.querySelector('.summary').getBoundingClientRect().bottom") < 900
    # the bar's length is the number beside it
    share = browser.run("document.querySelector('.fill').offsetWidth / "
                        "document.querySelector('.bar').clientWidth")
    number = float(browser.run("document.querySelector('.number').innerText").split()[-1])
    assert abs(share - number) < 0.01


def test_text_of_the_pages(folder):
    """What can be tested without Chromium."""
    for name in PAGES:
        text = (folder / name / "report.html").read_text(encoding="utf-8")
        assert "<b>Ann</b>" not in text and "<script" not in text and "@import" not in text
        assert "http" not in text.replace("http://www.w3.org/", "")
        assert ("never seen in training" in text) == (name == "run")
        assert ("Bit balance" in text) == (name in ("run", "stopped"))
