"""reproduce.py: what it runs, skips and resumes, with a stub for main.py; and a real grid."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, run_script

import reproduce
from config import Config
from experiments import estimate, grid, runner
from methods.table import resolve
from runtime import tensorflow
from runtime.errors import Failed, UserError
from runtime.output_folder import OutputFolder
from runtime.run_folder import RunFolder
from runtime.tensorflow import visible_devices
from training.graph import build_step_graph

GRID = ["--datasets", "orl", "--methods", "dcbh", "itq", "--bits", "12", "48", "--seeds", "0", "3",
        "--out", "grid"]
ORDER = [f"orl/{method}/{bits}bits_seed{seed}"
         for seed in (0, 3) for method in ("dcbh", "itq") for bits in (12, 48)]
STUB = Path(__file__).with_name("stub.py")


@pytest.fixture
def stubbed(tmp_path, monkeypatch, without_figures):  # noqa: ARG001
    """A folder to work in, where the stub stands for main.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "TRAINER", [sys.executable, "-S", str(STUB)])
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def calls(folder):
    """[run folder below grid/, resumed, CUDA_VISIBLE_DEVICES] of each call of the stub."""
    path = folder / "calls.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [[os.path.relpath(row[0], "grid")] + row[1:3] for row in rows]


def table_rows(dataset="orl"):
    """{(method, bits): rows of grid/runs.csv} of a data set."""
    rows = {}
    with open("grid/runs.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["dataset"] == dataset:
                rows.setdefault((row["method"], int(row["num_bits"])), []).append(row)
    return rows


def mark(folder, what, method):
    (folder / what).mkdir(exist_ok=True)
    (folder / what / method).touch()


def has_ended(pid):
    """Whether a process is gone; if its parent was killed, perhaps nobody takes its exit code."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_order_and_skipping(stubbed, capsys):
    reproduce.main(GRID)
    assert calls(stubbed) == [[name, False, None] for name in ORDER]
    assert "8/8  orl itq 48 bits seed 3: mAP 0.4830" in capsys.readouterr().out
    reproduce.main(GRID)
    assert len(calls(stubbed)) == 8


def test_a_campaign_runs_each_line(stubbed, capsys):
    """Each line is a grid; the same command again makes only what is missing."""
    (stubbed / "campaign.txt").write_text(
        "# two grids in one folder\n--datasets orl --methods dcbh --out grid\n\n"
        "--datasets orl --methods itq dsh --bits 24 --out grid  # another\n")
    command = ["--campaign", "campaign.txt", "--bits", "12", "--seeds", "0", "--jobs", "2"]
    reproduce.main(command)
    done = ["orl/dcbh/12bits_seed0", "orl/itq/24bits_seed0", "orl/dsh/24bits_seed0"]
    assert sorted(name for name, *_ in calls(stubbed)) == sorted(done)
    assert {method for method, _ in table_rows()} == {"dcbh", "itq", "dsh"}
    shutil.rmtree("grid/orl/itq")
    reproduce.main(command)
    assert [name for name, *_ in calls(stubbed)][3:] == ["orl/itq/24bits_seed0"]
    capsys.readouterr()


@pytest.mark.usefixtures("stubbed")
@pytest.mark.parametrize("line", [
    "--methods nope", "--campaign other.txt", "--bits 'twelve", "--paper", "--datasets nope",
    "--datasets 0 --data_dir empty", "--datasets orl --epochs 0"])
def test_a_bad_line_stops_a_campaign_before_it_starts(line, tmp_path):
    (tmp_path / "campaign.txt").write_text(f"--datasets orl --out grid\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        reproduce.main(["--campaign", "campaign.txt"])
    assert not (tmp_path / "grid").exists()


@pytest.mark.usefixtures("stubbed")
def test_a_campaign_without_a_grid_is_refused(tmp_path):
    (tmp_path / "campaign.txt").write_text("# nothing yet\n")
    with pytest.raises(UserError, match="campaign.txt"):
        reproduce.main(["--campaign", "campaign.txt"])


def test_a_campaigns_line_takes_features_of_a_line_before(stubbed):
    """Where they are not there, the lines after it still have their turn."""
    (stubbed / "campaign.txt").write_text(
        "--methods feature_itq\n--methods dcbh\n--methods feature_itq\n")
    with pytest.raises(Failed):
        reproduce.main(["--campaign", "campaign.txt", "--datasets", "orl", "--bits", "12",
                        "--seeds", "0", "--out", "grid"])
    assert [name for name, *_ in calls(stubbed)] == ["orl/dcbh/12bits_seed0",
                                                     "orl/feature_itq/12bits_seed0"]


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
    assert {method for method, _ in table_rows()} == {"itq"}
    text = (stubbed / "grid/tables.md").read_text(encoding="utf-8")
    assert "4 of 8 runs are finished" in text
    (stubbed / "fail/dcbh").unlink()
    reproduce.main(GRID)  # takes up the failed ones alone
    assert calls(stubbed)[8:] == [[name, True, None] for name in ORDER if "dcbh" in name]


def test_cells_that_take_features_come_after_their_network(stubbed):
    words = ["--datasets", "orl", "--methods", "float", "dcbh", "feature_itq", "--bits", "12", "48",
             "--seeds", "0", "--out", "grid", "--jobs", "2"]
    reproduce.main(words)
    started, ended = [{
        os.path.relpath(row[0], "grid"): row[-1]
        for row in map(json.loads, (stubbed / name).read_text().splitlines())}
        for name in ("calls.jsonl", "ends.jsonl")]
    assert len(started) == len(ended) == 6
    for name, time_started in started.items():
        dataset, method, place = name.split("/")
        settings = RunFolder(stubbed / "grid" / name).read_settings()
        if method == "dcbh":
            assert "features_of" not in settings
        else:
            network = f"{dataset}/dcbh/{place}"
            assert settings["features_of"] == str(stubbed / "grid" / network)
            assert time_started > ended[network]
    reproduce.main(words)
    assert len(calls(stubbed)) == 6


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
    monkeypatch.setattr(tensorflow, "count_gpus", lambda: 3)
    reproduce.main(GRID + ["--jobs", "2"])
    assert sorted(call[0] for call in calls(stubbed)) == sorted(ORDER)
    assert {call[2] for call in calls(stubbed)} == {"0", "1"}


def test_one_gpu_a_job(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # no GPU: any number of jobs
    assert list(visible_devices(3)) == [None] * 3
    monkeypatch.setattr(tensorflow, "count_gpus", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    assert list(visible_devices(2)) == ["5", "7"]
    assert list(visible_devices(1)) == [None]
    with pytest.raises(UserError, match="--jobs is 4"):
        visible_devices(4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(tensorflow, "count_gpus", lambda: 1)
    with pytest.raises(UserError, match="--jobs is 2"):  # the second would train on the CPU
        visible_devices(2)
    monkeypatch.setattr(tensorflow, "count_gpus", lambda: 0)
    assert list(visible_devices(2)) == [None] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_killed_cells_are_taken_up_again(stubbed, number):
    mark(stubbed, "hang", "itq")
    code = ("import sys, reproduce; from experiments import grid; from runtime.command_line import "
            f"run_command; grid.TRAINER = [sys.executable, '-S', {str(STUB)!r}]; "
            "run_command(reproduce.main)")
    process = subprocess.Popen([sys.executable, "-c", code] + GRID, cwd=str(stubbed),
                               env=clean_environment(PYTHONPATH=str(ROOT)),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(calls(stubbed)) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    child = json.loads((stubbed / "calls.jsonl").read_text().splitlines()[2])[3]
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert len(err.decode().strip().splitlines()) == 1
        assert b"orl itq 12 bits seed 0: stopped" in out
        assert (stubbed / "grid/tables.md").exists()
        assert has_ended(child)  # no process is left behind
    deadline = time.monotonic() + 30
    while not has_ended(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert has_ended(child)
    (stubbed / "hang/itq").unlink()
    reproduce.main(GRID)
    assert calls(stubbed)[3:] == [[ORDER[2], True, None]] + [
        [name, False, None] for name in ORDER[3:]]


def test_a_log_that_cannot_be_written_ends_the_grid(stubbed):
    mark(stubbed, "hang", "dcbh")
    OutputFolder.create("grid", "grid").unlock()
    OutputFolder.create("grid/logs", "logs").unlock()
    (stubbed / "grid/logs/orl_itq_12_bits_seed_0.log").mkdir()
    with pytest.raises(UserError, match="orl_itq_12_bits_seed_0.log cannot be written"):
        reproduce.main(["--datasets", "orl", "--methods", "dcbh", "itq", "--bits", "12",
                        "--seeds", "0", "--out", "grid", "--jobs", "2"])
    time.sleep(0.3)  # a process left behind would by now have called
    for line in (stubbed / "calls.jsonl").read_text().splitlines() \
            if (stubbed / "calls.jsonl").exists() else []:
        with pytest.raises(ProcessLookupError):
            os.kill(json.loads(line)[3], 0)


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
    rows = table_rows()
    assert {method for method, _ in rows} == {"dcbh", "itq", "lsh"}
    assert len(rows["dcbh", 12]) == 2 and len(rows["lsh", 24]) == 1


def test_folds_are_an_axis_and_do_not_mix_with_whole_sets(stubbed, capsys):
    reproduce.main(GRID)
    words = GRID[:4] + ["--bits", "12", "--seeds", "0", "3", "--out", "grid", "--unseen_splits"]
    reproduce.main(words + ["1", "3"])
    names = [f"orl/dcbh/12bits_seed{seed}_unseen{fold}" for seed in (0, 3) for fold in (1, 3)]
    assert calls(stubbed)[8:] == [[name, False, None] for name in names]
    assert RunFolder("grid/" + names[1]).read_settings()["unseen_split"] == 3
    assert "unseen_split" not in RunFolder("grid/orl/dcbh/12bits_seed0").read_settings()
    assert len(table_rows()["dcbh", 12]) == 2
    of_folds = table_rows("orl+unseen")
    assert ("dcbh", 48) not in of_folds
    assert [(row["seed"], row["fold"], float(row["unseen_mAP"])) for row in
            of_folds["dcbh", 12]] == [("0", "1", 0.1), ("0", "3", 0.3), ("3", "1", 0.1),
                                      ("3", "3", 0.3)]
    assert {row["unseen_mAP"] for row in table_rows()["dcbh", 12]} == {""}
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
    for method in ("dcbh", "itq"):
        assert len(table_rows()[method, 12]) == len(table_rows()[method, 48]) == 1
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
    assert table_rows("facescrub") == {}
    with pytest.raises(UserError, match="FaceScrub is not in nowhere"):
        reproduce.main(["--datasets", "1", "--out", "grid", "--data_dir", "nowhere"])


def test_data_sets_without_embeddings_are_spared_their_methods(stubbed, capsys):
    words = ["--datasets", "orl", "--bits", "12", "--seeds", "0", "--out", "grid", "--methods"]
    reproduce.main(words + ["embedding_itq", "lsh", "embedding"])
    assert [call[0] for call in calls(stubbed)] == ["orl/lsh/12bits_seed0"]
    assert "embedding_itq, embedding\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="prepare.py --embedding"):
        reproduce.main(words + ["embedding_itq"])


@pytest.fixture
def measured(monkeypatch):
    """Methods whose cost was measured; each network takes 10 s to start and 0.05 s an image."""
    methods = []

    def measure_cost(config, _dataset):
        methods.append(config.method)
        return estimate.Cost(start=10.0, image=0.05, operations=1e9)

    monkeypatch.setattr(grid, "MEASURED", {})
    monkeypatch.setattr(grid, "measure_cost", measure_cost)
    monkeypatch.setattr(grid, "device_kind", lambda: "CPU")
    return methods


def test_dry_run_says_totals_first_and_trains_nothing(stubbed, measured, capsys):
    reproduce.main(GRID[:4] + ["ddh", "lsh", "--bits", "12", "48", "--seeds", "0", "--epochs", "4",
                               "--out", "grid", "--dry_run"])
    lines = capsys.readouterr().out.splitlines()
    # 10 s + 4 epochs * 280 images * 0.05 s
    assert "6 cells" in lines[0] and "4 min 24 s" in lines[0]
    assert "4.5e+12 floating-point operations" in lines[0]
    assert lines[1] == "orl dcbh 12 bits seed 0: about 1 min 06 s"
    assert lines[5] == "orl lsh 12 bits seed 0: no training" and len(lines) == 7
    assert measured == ["dcbh", "ddh"]  # each network once
    assert not (stubbed / "grid").exists() and not (stubbed / "calls.jsonl").exists()


@pytest.mark.usefixtures("measured")
def test_the_papers_tables(stubbed, capsys):
    """Finished runs fill their entries; runs of other lengths or folds do not count."""
    words = ["--methods", "dcbh", "lsh", "--seeds", "0", "3", "--epochs", "4", "--out", "grid"]
    (stubbed / "data/train_folder_facescrub").mkdir(parents=True)
    reproduce.main(["--datasets", "1", "--bits", "12", "16", "--data_dir", "data"] + words)
    capsys.readouterr()
    reproduce.main(["--paper", "--data_dir", "elsewhere"] + words)
    out = capsys.readouterr().out
    youtube, facescrub, rest = out.split("\n\n")
    assert [line.split()[-4:] for line in youtube.splitlines()[2:]] == [["-"] * 4] * 2
    head, *rows = [line.split("  ") for line in facescrub.splitlines()[1:]]
    assert " ".join(head).split() == ["12", "bits", "24", "bits", "36", "bits", "48", "bits"]
    for row in rows:
        assert [text.strip() for text in row if text][1:] == [
            "0.1215 \u00b1 0.0021", "-", "-", "-"]  # means of 0.120 and 0.123
    assert "4 of 32 runs are finished" in rest
    # DCBH: 8 runs on YouTube Faces, 6 on FaceScrub, 4 epochs, 0.05 s an image
    hours = (14 * 10 + 4 * (8 * 63800 + 6 * 67177) * 0.05) / 3600
    assert f"{hours:.0f} CPU hours" in rest
    assert len(calls(stubbed)) == 8


@pytest.mark.parametrize("arguments, words", [
    (["--methods", "dcbh", "no_such_method"], ["'no_such_method' is none of dcbh"]),
    (["--seeds", "1", "1"], ["--seeds names a value twice"]),
    (["--unseen_splits", "2", "2"], ["--unseen_splits names a value twice"]),
    (["--unseen_splits", "4"], ["--unseen_splits"]),
    (["--unseen_split", "1"], ["unseen_split"]),  # an axis
    (["--jobs", "0"], ["--jobs is 0"]),
    (["--bits", "12", "65"], ["num_bits is 65"]),
    (["--datasets", "7"], ["--datasets is '7'"]),
    (["--datasets", "\u00b2"], ["--datasets is '\u00b2'"]),
    (["--datasets", "2", "orl"], ["--datasets names a data set twice"]),
    (["--weight_decay", "0.001"], ["--weight_decay"]),  # the methods vary it
    (["--num_bits", "12"], ["--num_bits"]),
    (["--paper", "--dry_run"], ["--paper", "--dry_run"]),
    (["--out", "a_file", "--datasets", "orl"], ["a_file"]),
])
def test_mistakes(stubbed, arguments, words):
    (stubbed / "a_file").touch()
    with pytest.raises(UserError) as error:
        reproduce.main(arguments)
    for word in words:
        assert word in str(error.value)
    assert calls(stubbed) == []


# What a network costs


@pytest.mark.parametrize("method, classifiers", [
    ("dcbh", 12 * 40 + 72 * 40), ("dpsh", 72 * 12)])  # dpsh: its linear layer alone
def test_forward_operations_by_hand(method, classifiers):
    graph = build_step_graph(resolve(dict(method=method, num_bits=12))[0], 40)
    convolutions = [(32, 3, 64), (32, 64, 64), (16, 64, 128), (16, 128, 128), (8, 128, 256),
                    (8, 256, 256), (8, 256, 256), (4, 256, 512), (4, 512, 512), (4, 512, 512)]
    products = sum(size * size * 9 * before * after for size, before, after in convolutions)
    products += 768 * 72 + classifiers  # the descriptor, and what follows
    assert estimate.forward_operations(graph) == 2 * products
    assert 10 ** 20 * estimate.forward_operations(graph) == 2 * 10 ** 20 * products  # of a grid


def test_a_measured_cost_is_positive():
    cost = estimate.measure_cost(*resolve(dict(method="ddh", num_bits=4, batch_size=8)))
    assert cost.start > 0 and cost.image > 0 and cost.operations > 1e6


def test_a_real_grid(faces_dir, monkeypatch):
    words = ["--datasets", "1", "--methods", "itq", "lsh", "--bits", "8", "--seeds", "0",
             "--out", "grid", "--data_dir", "data"]
    process = run_script("reproduce.py", *words, cwd=faces_dir)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    monkeypatch.chdir(faces_dir)
    for method in ("itq", "lsh"):
        run_dir = faces_dir / "grid/facescrub" / method / "8bits_seed0"
        results = json.loads((run_dir / "results.json").read_text())
        for key in ("mAP", "mAP_authors_evaluation", "parameters"):
            assert float(table_rows("facescrub")[method, 8][0][key]) == results[key]
        assert (run_dir / "report.html").exists()
    monkeypatch.setattr(grid, "TRAINER", ["no such command"])
    reproduce.main(words)  # all is finished
