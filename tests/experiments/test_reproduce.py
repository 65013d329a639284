"""The grid: its bookkeeping with a stub for main.py, tables of fixed results, and a real one."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, assert_refused, clean_environment, run_script

import reproduce
from config import Config
from experiments import estimate, grid, runner
from methods.table import resolve
from runtime.errors import Failed, UserError
from runtime.output_folder import OutputFolder
from runtime.run_folder import RunFolder
from training.graph import build_step_graph

# Stands for main.py: makes a run folder with a made-up mAP, unless a file fail/METHOD or
# hang/METHOD says otherwise, and notes its calls in calls.jsonl.
STUB = """
import argparse, json, os, sys, time
from pathlib import Path
sys.path.insert(0, %r)
from config import Config
from runtime.command_line import ArgumentParser, add_setting_arguments, setting_values
from runtime.run_folder import RunFolder

parser = ArgumentParser()
parser.add_argument("--run_dir")
parser.add_argument("--resume", action="store_true")
add_setting_arguments(parser, Config)
options = parser.parse_args()
if options.resume:
    folder = RunFolder.open(options.run_dir)
    folder.lock()
    settings = Config.from_dict(folder.read_settings())
else:
    settings = Config.from_dict(setting_values(options, Config))
    folder = RunFolder.create(options.run_dir, settings.to_dict())
method = Path(options.run_dir).parent.name
with open("calls.jsonl", "a") as stream:
    stream.write(json.dumps([options.run_dir, options.resume, os.environ.get(
        "CUDA_VISIBLE_DEVICES"), os.getpid(), time.monotonic()]) + "\\n")
folder.begin(None, "stub", "data")
if Path("hang", method).exists():
    time.sleep(60)
if Path("fail", method).exists():
    print("error: no luck with", method)
    sys.exit(2)
results = {"mAP": settings.num_bits / 100 + settings.seed / 1000, "training_seconds": 1.5}
if settings.unseen_split is not None:
    results.update(unseen_mAP=settings.unseen_split / 10, unseen_top_1_accuracy=0.5)
folder.write_json("results.json", results)
folder.write_text("curves_within_radius.csv", "radius,precision,recall\\n0,0.5,0.25\\n1,0.25,1\\n")
folder.write_text("curves_at_n.csv", "n,precision,recall\\n1,0.5,0.25\\n2,0.25,1\\n")
folder.finish("finished")
folder.write_text("report.html", "report")
if Path("slow", method).exists():
    time.sleep(0.5)
with open("ends.jsonl", "a") as stream:
    stream.write(json.dumps([options.run_dir, time.monotonic()]) + "\\n")
""" % str(ROOT)
GRID = ["--datasets", "orl", "--methods", "dcbh", "itq", "--bits", "12", "48", "--seeds", "0", "3",
        "--out", "grid"]
ORDER = ["orl/%s/%dbits_seed%d" % (method, bits, seed)
         for seed in (0, 3) for method in ("dcbh", "itq") for bits in (12, 48)]


@pytest.fixture
def stubbed(tmp_path, monkeypatch):
    """A folder to work in, where the stub stands for main.py."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "TRAINER", [sys.executable, str(tmp_path / "stub.py")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def calls(folder):
    """[run folder below grid/, resumed, CUDA_VISIBLE_DEVICES] of each call of the stub."""
    path = folder / "calls.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [[os.path.relpath(row[0], "grid")] + row[1:3] for row in rows]


def mark(folder, what, method):
    (folder / what).mkdir(exist_ok=True)
    (folder / what / method).touch()


def test_order_and_skipping(stubbed, capsys):
    reproduce.main(GRID)
    assert calls(stubbed) == [[name, False, None] for name in ORDER]
    out = capsys.readouterr().out
    assert "8 cells, 0 of them finished before" in out
    assert "8/8  orl itq 48 bits seed 3: mAP 0.4830" in out
    reproduce.main(GRID)
    assert len(calls(stubbed)) == 8
    assert "8 cells, 8 of them finished before" in capsys.readouterr().out


@pytest.mark.usefixtures("stubbed")
def test_a_cell_gets_all_its_settings():
    reproduce.main(["--datasets", "orl", "--methods", "ddh", "block_length_2", "--bits", "24",
                    "--seeds", "5", "--epochs", "7", "--out", "grid"])
    ddh = Config.from_dict(RunFolder("grid/orl/ddh/24bits_seed5").read_settings())
    assert ddh == resolve(dict(
        dataset_flag="orl", method="ddh", num_bits=24, seed=5, epochs=7,
        authors_evaluation=True))[0]
    assert (ddh.hash_layer, ddh.block_length, ddh.center_weight) == ("divide_and_encode", 4, 0)
    assert RunFolder("grid/orl/block_length_2/24bits_seed5").read_settings()["block_length"] == 2


@pytest.mark.usefixtures("stubbed")
def test_cells_of_an_older_recipe_are_not_those_of_todays():
    words = ["--datasets", "orl", "--methods", "tuned", "--bits", "12", "--seeds", "0", "--out",
             "grid"]
    reproduce.main(words)
    folder = RunFolder("grid/orl/tuned/12bits_seed0")
    settings = folder.read_settings()
    del settings["codeword_share"]  # as a run has it that was made before the setting was there
    folder.write_settings(settings)
    with pytest.raises(UserError, match="codeword_share.*--out"):
        reproduce.main(words)


@pytest.mark.usefixtures("stubbed")
def test_cells_of_one_mean_have_one_recipe():
    """Seed 1 would be averaged with seed 0; seed 1 with other people never seen, or alone, not."""
    def run(*words):
        reproduce.main(["--datasets", "orl", "--methods", "tuned", "--bits", "12", *words])

    run("--seeds", "0", "--epochs", "7", "--out", "grid")
    with pytest.raises(UserError, match="seed0 .*epochs.*--out"):
        run("--seeds", "1", "--epochs", "8", "--out", "grid")
    assert not RunFolder("grid/orl/tuned/12bits_seed1").holds_run()
    run("--seeds", "1", "--epochs", "7", "--out", "grid")
    run("--seeds", "1", "--epochs", "8", "--unseen_splits", "2", "--out", "grid")
    with pytest.raises(UserError, match="seed1_unseen2 .*epochs.*--out"):
        run("--seeds", "0", "--epochs", "7", "--unseen_splits", "1", "--out", "grid")
    run("--seeds", "1", "--epochs", "8", "--out", "other")


def test_failed_cells_do_not_stop_the_rest(stubbed, capsys):
    mark(stubbed, "fail", "dcbh")
    with pytest.raises(Failed, match="4 of 8 cells failed"):
        reproduce.main(GRID)
    assert [call[0] for call in calls(stubbed)] == ORDER
    err = capsys.readouterr().err
    assert err.count("failed: orl dcbh") == 4 and "error: no luck with dcbh (grid/logs/" in err
    text = (stubbed / "grid/tables.md").read_text(encoding="utf-8")
    assert "4 of 8 runs are finished" in text and "ITQ" in text and "| DCBH" not in text
    (stubbed / "fail/dcbh").unlink()
    reproduce.main(GRID)  # takes up the failed ones alone
    assert calls(stubbed)[8:] == [[name, True, None] for name in ORDER if "dcbh" in name]


def test_cells_that_take_features_come_after_their_network(stubbed, capsys):
    words = ["--datasets", "orl", "--methods", "float", "dcbh", "feature_itq", "--bits", "12", "48",
             "--seeds", "0", "3", "--out", "grid", "--jobs", "2"]
    mark(stubbed, "slow", "dcbh")
    reproduce.main(words)
    started, ended = [{
        os.path.relpath(row[0], "grid"): row[-1]
        for row in map(json.loads, (stubbed / name).read_text().splitlines())}
        for name in ("calls.jsonl", "ends.jsonl")]
    assert len(started) == len(ended) == 12
    for name, time_started in started.items():
        dataset, method, place = name.split("/")
        settings = RunFolder(stubbed / "grid" / name).read_settings()
        if method == "dcbh":
            assert settings["features_of"] is None
        else:
            network = "%s/dcbh/%s" % (dataset, place)
            assert settings["features_of"] == str(stubbed / "grid" / network)
            assert time_started > ended[network]
    capsys.readouterr()
    reproduce.main(words)
    assert "12 cells, 12 of them finished before" in capsys.readouterr().out


@pytest.mark.usefixtures("stubbed")
def test_features_of_a_network_that_is_not_in_the_grid():
    words = ["--datasets", "orl", "--bits", "12", "--seeds", "0", "--out", "grid", "--methods"]
    with pytest.raises(UserError, match="class_number.*orl/dcbh/12bits_seed0.*--methods"):
        reproduce.main(words + ["class_number"])
    reproduce.main(words + ["dcbh"])
    reproduce.main(words + ["class_number"])
    assert RunFolder("grid/orl/class_number/12bits_seed0").holds_run()
    with pytest.raises(UserError, match="--features_of"):  # the grid fills it in
        reproduce.main(words + ["class_number", "--features_of", "grid/orl/dcbh/12bits_seed0"])


def test_jobs_have_a_device_each(stubbed, monkeypatch):
    monkeypatch.setattr(runner, "count_gpus", lambda: 3)
    reproduce.main(GRID + ["--jobs", "2"])
    assert sorted(call[0] for call in calls(stubbed)) == sorted(ORDER)
    assert {call[2] for call in calls(stubbed)} == {"0", "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    assert list(runner.visible_devices(2)) == ["5", "7"]
    assert list(runner.visible_devices(1)) == [None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # no GPU: any number of jobs
    assert list(runner.visible_devices(3)) == [None] * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    with pytest.raises(UserError, match="--jobs is 4"):
        runner.visible_devices(4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(runner, "count_gpus", lambda: 1)
    with pytest.raises(UserError, match="--jobs is 2"):  # the second would train on the CPU
        runner.visible_devices(2)
    monkeypatch.setattr(runner, "count_gpus", lambda: 0)
    assert list(runner.visible_devices(2)) == [None] * 2


def test_interrupted_and_killed_cells_are_taken_up_again(stubbed):
    mark(stubbed, "hang", "itq")
    code = ("import sys, reproduce; from experiments import grid; from runtime.command_line import "
            "run_command; grid.TRAINER = [sys.executable, 'stub.py']; run_command(reproduce.main)")
    process = subprocess.Popen([sys.executable, "-c", code] + GRID, cwd=str(stubbed),
                               env=clean_environment(PYTHONPATH=str(ROOT)),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(calls(stubbed)) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.decode().strip() == "stopped; the same command goes on"
    assert b"orl itq 12 bits seed 0: stopped" in out
    child = json.loads((stubbed / "calls.jsonl").read_text().splitlines()[2])[3]
    with pytest.raises(ProcessLookupError):  # no process is left behind
        os.kill(child, 0)
    assert (stubbed / "grid/tables.md").exists()
    (stubbed / "hang/itq").unlink()
    reproduce.main(GRID)
    assert calls(stubbed)[3:] == [[ORDER[2], True, None]] + [
        [name, False, None] for name in ORDER[3:]]


def test_a_log_that_cannot_be_written_ends_the_grid(stubbed, monkeypatch):
    mark(stubbed, "hang", "dcbh")
    OutputFolder.create("grid", "grid").unlock()
    OutputFolder.create("grid/logs", "logs").unlock()
    (stubbed / "grid/logs/orl_itq_12_bits_seed_0.log").mkdir()
    started = []

    def start(*arguments, popen=subprocess.Popen, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(UserError, match="orl_itq_12_bits_seed_0.log cannot be written"):
        reproduce.main(["--datasets", "orl", "--methods", "dcbh", "itq", "--bits", "12",
                        "--seeds", "0", "--out", "grid", "--jobs", "2"])
    assert [process.returncode for process in started] == [-signal.SIGTERM]  # not left behind


def test_a_finished_cell_of_other_settings_is_refused(stubbed):
    reproduce.main(GRID)
    with pytest.raises(UserError, match="made with epochs 20, not 4"):
        reproduce.main(GRID + ["--epochs", "4"])
    reproduce.main(["--datasets", "2"] + GRID[2:])  # the same data set by its number
    reproduce.main(GRID + ["--encode_batch_size", "9"])  # changes no result
    assert len(calls(stubbed)) == 8


@pytest.mark.usefixtures("stubbed")
def test_a_part_of_the_grid_adds_to_its_tables():
    reproduce.main(GRID)
    reproduce.main(["--datasets", "orl", "--methods", "lsh", "--bits", "24", "--seeds", "0",
                    "--out", "grid"])
    with open("grid/tables.csv", newline="") as stream:
        rows = {(row["result"], row["method"]): row for row in csv.DictReader(stream)}
    assert {method for _, method in rows} == {"dcbh", "itq", "lsh"}
    assert rows["mAP", "dcbh"]["12_bits_seeds"] == "2"
    assert rows["mAP", "lsh"]["24_bits_seeds"] == "1"


def test_folds_are_an_axis_and_do_not_mix_with_whole_sets(stubbed, capsys):
    reproduce.main(GRID)
    words = GRID[:4] + ["--bits", "12", "--seeds", "0", "3", "--out", "grid", "--unseen_splits"]
    reproduce.main(words + ["1", "3"])
    names = ["orl/dcbh/12bits_seed%d_unseen%d" % (seed, fold) for seed in (0, 3) for fold in (1, 3)]
    assert calls(stubbed)[8:] == [[name, False, None] for name in names]
    assert RunFolder("grid/" + names[1]).read_settings()["unseen_split"] == 3
    assert RunFolder("grid/orl/dcbh/12bits_seed0").read_settings()["unseen_split"] is None
    with open("grid/tables.csv", newline="") as stream:
        rows = {(row["dataset"], row["result"], row["method"]): row
                for row in csv.DictReader(stream)}
    assert rows["orl", "mAP", "dcbh"]["12_bits_seeds"] == "2"
    of_folds = rows["orl+unseen", "mAP", "dcbh"]
    assert of_folds["12_bits_seeds"] == "4" and of_folds["48_bits_seeds"] == "0"
    unseen = rows["orl+unseen", "unseen_mAP", "dcbh"]
    assert float(unseen["12_bits_mean"]) == pytest.approx(0.2)
    assert float(unseen["12_bits_sd"]) == pytest.approx(0.2 / 3 ** 0.5)  # 0.1, 0.3 twice
    assert ("orl", "unseen_mAP", "dcbh") not in rows
    page = (stubbed / "grid/report.html").read_text(encoding="utf-8")
    assert 'href="orl/dcbh/12bits_seed3_unseen1/report.html">3/1<' in page
    reproduce.main(words + ["1", "3"])
    assert len(calls(stubbed)) == 12
    assert "12 of 12 runs" in (stubbed / "grid/tables.md").read_text(encoding="utf-8")
    assert "orl dcbh 12 bits seed 0 unseen 1: mAP 0.1200" in capsys.readouterr().out


def test_damaged_results_spare_the_others(stubbed, capsys):
    reproduce.main(GRID)
    damages = ["", "{", "[]", '{"mAP": "high"}']  # of the cells of seed 0
    for name, damage in zip(ORDER, damages):
        (stubbed / "grid" / name / "results.json").write_text(damage)
    for method in ("dcbh", "itq"):
        mark(stubbed, "fail", method)
    with pytest.raises(Failed, match="4 of 8 cells failed"):
        reproduce.main(GRID)  # which tries to mend those alone
    assert calls(stubbed)[8:] == [[name, True, None] for name in ORDER[:4]]
    out = capsys.readouterr().out
    with open("grid/tables.csv", newline="") as stream:
        rows = {(row["result"], row["method"]): row for row in csv.DictReader(stream)}
    for method in ("dcbh", "itq"):
        assert rows["mAP", method]["12_bits_seeds"] == rows["mAP", method]["48_bits_seeds"] == "1"
    assert all(name in out for name in ORDER[:4])


def test_a_signal_while_a_cell_is_being_started(stubbed, monkeypatch):
    mark(stubbed, "hang", "dcbh")

    def start(*arguments, popen=subprocess.Popen, **options):
        process = popen(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)  # before the grid has noted the process
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(SystemExit) as stop:
        reproduce.main(GRID)
    assert stop.value.code == 128 + signal.SIGTERM
    assert not (stubbed / "grid" / ORDER[0] / "results.json").exists()  # it was not waited for


def test_data_sets_that_are_not_here(stubbed, capsys):
    reproduce.main(["--methods", "lsh", "--bits", "12", "--seeds", "0", "--out", "grid",
                    "--data_dir", "nowhere"])
    assert [call[0] for call in calls(stubbed)] == ["orl/lsh/12bits_seed0"]
    out = capsys.readouterr().out
    assert "FaceScrub is not in nowhere" in out
    assert "3 cells, 0 of them finished before" in out
    text = (stubbed / "grid/tables.md").read_text(encoding="utf-8")
    section = text[text.index("## facescrub"):text.index("## orl")]
    assert "| LSH on pixels |  |" in section  # an empty cell
    with pytest.raises(UserError, match="FaceScrub is not in nowhere"):
        reproduce.main(["--datasets", "1", "--out", "grid", "--data_dir", "nowhere"])


def test_data_sets_without_embeddings_are_spared_their_methods(stubbed, capsys):
    words = ["--datasets", "orl", "--bits", "12", "--seeds", "0", "--out", "grid", "--methods"]
    reproduce.main(words + ["embedding_itq", "lsh", "embedding"])
    assert [call[0] for call in calls(stubbed)] == ["orl/lsh/12bits_seed0"]
    assert "without embedding_itq, embedding" in capsys.readouterr().out
    with pytest.raises(UserError, match="prepare.py --embedding"):
        reproduce.main(words + ["embedding_itq"])


def test_dry_run_trains_nothing(stubbed, capsys, monkeypatch):
    measured = []

    def measure_cost(config, _dataset):
        measured.append(config.method)
        return estimate.Cost(start=10.0, image=0.05, operations=1e9)

    monkeypatch.setattr(estimate, "measure_cost", measure_cost)
    reproduce.main(GRID[:4] + ["ddh", "lsh", "--bits", "12", "48", "--seeds", "0", "--epochs", "4",
                               "--out", "grid", "--dry_run"])
    lines = capsys.readouterr().out.splitlines()
    # 10 s + 4 epochs * 280 images * 0.05 s
    assert lines[0] == "orl dcbh 12 bits seed 0: about 1 min 06 s"
    assert lines[4] == "orl lsh 12 bits seed 0: not trained"
    assert "6 cells to run, about 4 min 24 s" in lines[6]
    assert "4.5e+12 floating-point operations" in lines[6]
    assert measured == ["dcbh", "ddh"]  # each network once
    assert not (stubbed / "grid").exists() and not (stubbed / "calls.jsonl").exists()


@pytest.mark.parametrize("arguments, words", [
    (["--methods", "dcbh", "dhn"], ["'dhn' is none of dcbh"]),
    (["--seeds", "1", "1"], ["--seeds names a value twice"]),
    (["--unseen_splits", "2", "2"], ["--unseen_splits names a value twice"]),
    (["--unseen_splits", "4"], ["--unseen_splits"]),
    (["--unseen_split", "1"], ["unseen_split"]),  # an axis
    (["--jobs", "0"], ["--jobs is 0"]),
    (["--bits", "12", "65"], ["num_bits is 65"]),
    (["--datasets", "7"], ["dataset_flag is '7'"]),
    (["--datasets", "\u00b2"], ["dataset_flag is '\u00b2'"]),
    (["--datasets", "2", "orl"], ["--datasets names a data set twice"]),
    (["--weight_decay", "0.001"], ["--weight_decay"]),  # the methods vary it
    (["--num_bits", "12"], ["--num_bits"]),
    (["--out", "stub.py", "--datasets", "orl"], ["stub.py"]),
])
def test_mistakes(stubbed, arguments, words):
    with pytest.raises(UserError) as error:
        reproduce.main(arguments)
    for word in words:
        assert word in str(error.value)
    assert calls(stubbed) == []


# What a network costs


def test_forward_operations_by_hand():
    graph = build_step_graph(Config(num_bits=12), 40)
    convolutions = [(32, 3, 64), (32, 64, 64), (16, 64, 128), (16, 128, 128), (8, 128, 256),
                    (8, 256, 256), (8, 256, 256), (4, 256, 512), (4, 512, 512), (4, 512, 512)]
    products = sum(size * size * 9 * before * after for size, before, after in convolutions)
    products += 768 * 72 + 12 * 40  # the descriptor, the hash classifier
    assert estimate.forward_operations(graph) == 2 * products


def test_a_measured_cost_is_positive():
    cost = estimate.measure_cost(*resolve(dict(method="ddh", num_bits=4, batch_size=8)))
    assert cost.start > 0 and cost.image > 0 and cost.operations > 1e6


def test_a_real_grid(faces_dir):
    words = ("--datasets", 1, "--methods", "dcbh", "lsh", "--bits", 8, "--seeds", 0,
             "--epochs", 1, "--batch_size", 7, "--out", "grid", "--data_dir", "data")
    process = run_script("reproduce.py", *words, cwd=faces_dir)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    with open(str(faces_dir / "grid/tables.csv"), newline="") as stream:
        rows = {(row["result"], row["method"]): row["8_bits_mean"]
                for row in csv.DictReader(stream)}
    text = (faces_dir / "grid/tables.md").read_text(encoding="utf-8")
    for method, title in (("dcbh", "DCBH, as released"), ("lsh", "LSH on pixels")):
        run_dir = faces_dir / "grid/facescrub" / method / "8bits_seed0"
        results = json.loads((run_dir / "results.json").read_text())
        assert title in text and "%.4f" % results["mAP"] in text
        for key in ("mAP", "mAP_authors_evaluation", "parameters"):
            assert float(rows[key, method]) == pytest.approx(results[key], rel=1e-4)
        assert (run_dir / "report.html").exists()
    process = run_script("reproduce.py", *words, cwd=faces_dir)
    assert "2 cells, 2 of them finished before" in process.stdout
    refused = run_script("reproduce.py", "--jobs", 0, cwd=faces_dir)
    assert_refused(refused, "--jobs is 0")
