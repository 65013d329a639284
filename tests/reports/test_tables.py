"""Tables of a grid: means, the best of a column, published figures, the page."""

import json

import pytest

from reports import tables
from runtime.errors import UserError
from runtime.output_folder import OutputFolder
from runtime.run_folder import RunFolder

TITLES = {"dcbh": "DCBH, as released", "ddh": "DDH", "itq": "ITQ on pixels"}
MAPS = {("dcbh", 12): (0.5, 0.7), ("ddh", 12): (0.6,), ("itq", 12): (0.4, 0.2),
        ("dcbh", 48): (0.9, 0.9), ("ddh", 48): (0.9,)}


@pytest.fixture(autouse=True)
def published_file(tmp_path, monkeypatch):
    path = tmp_path / "published_map.csv"
    monkeypatch.setattr(tables, "PUBLISHED", path)
    return path


@pytest.fixture
def table(tmp_path):
    runs = []
    for (method, bits), values in MAPS.items():
        for seed, value in enumerate(values):
            path = tmp_path / "grid/orl" / method / f"{bits}bits_seed{seed}"
            path.mkdir(parents=True)
            (path / "curves_at_n.csv").write_text(
                f"n,precision,recall\n1,{value},0.25\n2,0.25,1\n")
            (path / "provenance.json").write_text(json.dumps([dict(
                git_revision="abc", git_dirty=False, machine="m", device="d", python="3.7",
                data="1", command_line=["x"], ended_by=None,
                tensorflow=None, numpy="1", start=f"2026-01-0{seed + 1}", end=None)]
                + [dict(git_revision="abc", git_dirty=True, machine="m", device="d", python="3.7",
                        tensorflow="2", numpy="1", start="2026-02-01", end="2026-02-02",
                        data="1", command_line=["x"], ended_by="finished")]))
            runs.append(tables.GridRun("orl", method, bits, seed, dict(
                mAP=value, training_seconds=60.0 + seed, parameters=1500), RunFolder(path)))
    return tables.Table(["orl", "youtube_faces"], TITLES, [12, 24, 48], runs)


def entries(shown):
    return {title: [(entry.text, entry.best) for entry in row] for title, row, _ in shown.rows}


def test_means_deviations_and_the_best(table):
    assert entries(tables.grid_table(table, "orl", tables.MAP)) == {
        # sample standard deviation of 0.5 and 0.7: 0.1 * sqrt(2)
        "DCBH, as released": [("0.6000 \u00b1 0.1414", True), ("", False), ("0.9000", False)],
        "DDH": [("0.6000", True), ("", False), ("0.9000", False)],  # equally good are all the best
        "ITQ on pixels": [("0.3000 \u00b1 0.1414", False), ("", False), ("", False)]}
    training = entries(tables.grid_table(table, "orl", next(
        metric for metric in tables.METRICS if metric.keys == ("training_seconds",))))
    assert training["DDH"] == [("1 min 00 s", True), ("", False), ("1 min 00 s", True)]
    parameters = entries(tables.grid_table(table, "orl", tables.METRICS[-1]))
    assert parameters["DDH"][0] == ("1.5 k", False)  # all alike: none is the best


def test_published_rows_appear_when_the_file_is_filled_in(table, published_file):
    assert tables.published("youtube_faces") == []
    published_file.write_text(
        "dataset,method,title,bits_12,bits_24,bits_36,bits_48,source\n"
        "youtube_faces,ddh,\"DDH, as published\",0.25,,,0.5,\"IJCAI 2017, page 2266, table 1\"\n")
    assert tables.published("orl") == []
    (method, title, source, values), = tables.published("youtube_faces")
    assert (method, title, dict(values)) == ("ddh", "DDH, as published", {12: 0.25, 48: 0.5})
    text = tables.markdown(table, [])
    assert f"| DDH, as published ({source}) | 0.2500 |  | 0.5000 |" in text


@pytest.mark.parametrize("row", [
    "orl,ddh,DDH,0.25,", "orl,ddh,DDH,25.0,page 1", "orl,ddh,DDH,abc,page 1"])
def test_published_rows_need_source_and_values(published_file, row):
    published_file.write_text(f"dataset,method,title,bits_12,source\n{row}\n")
    with pytest.raises(UserError, match="published_map.csv"):
        tables.published("orl")
    published_file.write_text("dataset,method\norl,ddh\n")
    with pytest.raises(UserError, match="published_map.csv"):
        tables.published("orl")


def test_a_row_a_run(table):
    rows = [dict(zip(tables.run_columns(table), values))
            for values in zip(*tables.run_columns(table).values())]
    assert [(row["method"], row["num_bits"], row["seed"]) for row in rows] == [
        (run.method, run.num_bits, run.seed) for run in table.runs]
    assert [row["mAP"] for row in rows] == [run.results["mAP"] for run in table.runs]
    assert {row["revision"] for row in rows} == {"abc, abc, with uncommitted changes"}


def test_how_made(table):
    lines = tables.how_made(table, ["reproduce.py", "--x"], 30)
    assert lines[0] == "`python reproduce.py --x`"
    assert any("8 of 30" in line for line in lines)
    assert any("2026-01-01" in line and "2026-02-02" in line and "8 min 03 s" in line
               for line in lines)
    assert sum(line.startswith("git revision") for line in lines) == 2


def test_files_and_page(table, tmp_path):
    folder = OutputFolder(tmp_path / "grid")
    path = tables.write_tables(folder, table, ["made by `x`"])
    page = path.read_text(encoding="utf-8")
    assert page.index("0.6000") < page.index("made by x")  # results before how they came about
    assert 'href="orl/dcbh/12bits_seed1/report.html"' in page
    assert {file.name for file in (tmp_path / "grid/figures").iterdir()} == {
        "map_orl_12bits.png", "map_orl_48bits.png", "precision_recall_orl_48bits.png"}
    text = (tmp_path / "grid/tables.md").read_text(encoding="utf-8")
    assert "| DDH | **0.6000** |  | 0.9000 |" in text
    (tmp_path / "grid/orl/dcbh/48bits_seed0/curves_at_n.csv").write_text("n,precision\n1,x\n")
    with pytest.raises(UserError, match="48bits_seed0.*curves_at_n.csv"):
        tables.write_tables(folder, table, [])
