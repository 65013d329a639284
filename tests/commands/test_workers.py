"""Several workers: TF_CONFIG, addresses, processes that live and end together, whole runs."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_refused, clean_environment, command, run_script

from config import Config
from runtime.errors import UserError
from training.distributed import workers
from training.distributed.cluster import Cluster, WorkerSettings, free_addresses, read_cluster

# A small network, some steps an epoch: 30 images in 5 batches.
TINY = ["--dataset_flag", "1", "--data_dir", "data", "--method", "ddh", "--num_bits", "4",
        "--batch_size", "7", "--evaluate_every", "2", "--sync_batch_norm", "true"]
TWO = {"cluster": {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]},
       "task": {"type": "worker", "index": 1}}


# TF_CONFIG


def changed(**changes):
    return json.dumps(dict(TWO, **changes))


def addresses(*values):
    return changed(cluster={"worker": list(values)})


@pytest.mark.parametrize("text, word", [
    ("{cluster", "JSON"),
    ("[1, 2]", "cluster"),
    (changed(cluster=None), "cluster"),
    (changed(cluster={}), "cluster.worker"),
    (addresses(), "cluster.worker"),
    (changed(cluster={"worker": TWO["cluster"]["worker"], "ps": ["a:1"]}), "ps"),
    (addresses("10.0.0.1", "10.0.0.2:2222"), "10.0.0.1"),
    (addresses("10.0.0.1:70000", "10.0.0.2:2222"), "70000"),
    (addresses("grpc://10.0.0.1:2222", "10.0.0.2:2222"), "grpc"),
    (addresses("[::1]:2222", "10.0.0.2:2222"), "::1"),
    (addresses(7, "10.0.0.2:2222"), "7"),
    (addresses("10.0.0.1:2222", "10.0.0.1:2222"), "twice"),
    (changed(task=None), "task"),
    (changed(task={"type": "worker"}), "task"),
    (changed(task={"type": "chief", "index": 0}), "chief"),
    (changed(task={"type": "worker", "index": 2}), "index"),
    (changed(task={"type": "worker", "index": -1}), "index"),
    (changed(task={"type": "worker", "index": "0"}), "index"),
    (changed(task={"type": "worker", "index": True}), "index"),
])
def test_mistakes_in_tf_config_are_one_clear_line(monkeypatch, text, word):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError) as refused:
        read_cluster(WorkerSettings())
    assert "TF_CONFIG" in str(refused.value) and word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tf_config_is_read(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(TWO))
    cluster = read_cluster(WorkerSettings(worker_timeout=7))
    assert (cluster.addresses, cluster.index, cluster.count, cluster.timeout) == (
        TWO["cluster"]["worker"], 1, 2, 7)
    with pytest.raises(UserError, match="--num_workers"):
        read_cluster(WorkerSettings(num_workers=3))
    for alone in ("", "{}", changed(cluster={"worker": ["10.0.0.1:22"]},
                                    task={"type": "worker", "index": 0})):
        monkeypatch.setenv("TF_CONFIG", alone)
        assert read_cluster(WorkerSettings()) is None


@pytest.mark.parametrize("values", [dict(num_workers=0), dict(num_workers=2.5),
                                    dict(worker_timeout=0), dict(worker_timeout="long")])
def test_worker_settings_are_checked(values):
    with pytest.raises(UserError, match=next(iter(values))):
        WorkerSettings(**values)


# Addresses


@pytest.mark.parametrize("names, word", [
    (["192.0.2.77:3333", "192.0.2.78:3333"], "address of this machine"),  # of documentation
    (["no-such-host.invalid:3333", "192.0.2.78:3333"], "found"),
    (["127.0.0.1:3333", "192.0.2.78:3333"], "reach")])
def test_an_address_that_cannot_be_ours_is_refused(names, word):
    with pytest.raises(UserError, match=word) as refused:
        Cluster(names, 0, 1).check_own_address()
    assert names[0] in str(refused.value)


def test_a_port_in_use_is_one_line(tmp_path):
    names = free_addresses(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(names[0].split(":")[1])))
        taken.listen(1)
        process = run_script("main.py", cwd=tmp_path, env=clean_environment(TF_CONFIG=json.dumps(
            {"cluster": {"worker": names}, "task": {"type": "worker", "index": 0}})))
    assert_refused(process, names[0], "in use")
    assert not list(tmp_path.iterdir())
    Cluster(names, 0, 1).check_own_address()  # free again, and at once


def test_states_of_a_worker(monkeypatch):
    monkeypatch.setattr("training.distributed.cluster.ANSWER_SECONDS", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4)
        cluster = Cluster(["127.0.0.1:1", f"127.0.0.1:{server.getsockname()[1]}"], 0, 0.1)
        assert cluster.state(1) == "silent"  # a stopped process: the system alone answers
        assert cluster.wait_for_all() == [1]
    assert cluster.state(1) == "gone"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a filter of Linux")
def test_the_shield_hears_its_own_address_alone():
    with socket.socket() as server:
        server.bind(("", 0))  # as TensorFlow does
        server.listen(4)
        port = server.getsockname()[1]
        Cluster([f"127.0.0.1:{port}"], 0, 1).shield()
        with pytest.raises(socket.timeout):
            socket.create_connection(("127.0.0.2", port), 0.3)
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"heard")
                assert accepted.recv(5) == b"heard"


# Processes


# A worker of a few milliseconds: does what its index says.
STAND_IN = """
import json, os, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
action = sys.argv[1 + index]
if action in ("fail", "lose"):
    print("error: no disk" if action == "fail" else "error: worker 0 is silent", file=sys.stderr)
    print("TensorFlow's noise", file=sys.stderr)
    sys.exit(2 if action == "fail" else 3)
if action == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if action == "stuck":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
if action == "wait":
    time.sleep(60)
if action.startswith("exit"):
    sys.exit(int(action[4:]))
"""


@pytest.mark.parametrize("actions, code, words", [
    (["exit0", "exit0"], 0, []),
    (["exit2", "exit3"], 2, []),  # worker 0 has printed why
    (["exit3", "die"], 1, []),  # worker 0 has printed which one it lost
    (["exit3", "fail"], 1, ["worker 1", "no disk"]),
    (["die", "exit3"], 1, ["worker 0", "SIGKILL", "--resume"]),
    (["wait", "die"], 1, ["worker 1", "SIGKILL"]),  # before worker 0 can have noticed
    (["exit0", "stuck"], 0, []),
    (["stuck", "lose"], 1, ["error: worker 0 is silent"]),
    (["exit143", "exit143"], 143, [])])
def test_workers_end_together(monkeypatch, tmp_path, capfd, actions, code, words):
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 1.0)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "stand_in.py")] + actions)
    supervisor = workers.Supervisor(2)
    assert supervisor.run() == code
    assert [process.poll() is not None for process in supervisor._processes] == [True, True]
    lines = capfd.readouterr().err.splitlines()
    lines = [line for line in lines if line.startswith("error: ")]
    assert len(lines) == (1 if words else 0)
    assert all(word in lines[0] for word in words)


def processes_in(folder):
    """Processes that run and whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            running = path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if running and str(folder).encode() in path.joinpath("cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            pass
    return found


def assert_none_left(folder):
    deadline = time.time() + 10
    while processes_in(folder) and time.time() < deadline:
        time.sleep(0.1)
    assert not processes_in(folder)


def killed_run(folder, moment, *settings):
    """A run of two workers of which one kills itself; the finished process."""
    process = run_script("tests/commands/killed_workers.py", *TINY, "--epochs", 6, *settings,
                         "--num_workers", 2, "--run_dir", folder / "run", cwd=folder,
                         env=clean_environment(KILL=moment))
    assert_none_left(folder)
    return process


def history(run_dir):
    with open(run_dir / "history.csv") as stream:
        return list(csv.DictReader(stream))


def assert_resumes_alone(folder, starts):
    """One process takes the run to its end."""
    run_dir = folder / "run"
    process = run_script("main.py", "--epochs", 6, "--resume", "--run_dir", run_dir, cwd=folder)
    assert process.returncode == 0, process.stderr
    rows = history(run_dir)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(np.isfinite(float(row["total"])) for row in rows)
    assert [bool(row["mAP"]) for row in rows] == [False, True] * 3
    entries = json.loads((run_dir / "provenance.json").read_text())
    assert [entry["workers"] for entry in entries] == starts + [1]
    assert entries[-1]["ended_by"] == "finished"
    assert json.loads((run_dir / "results.json").read_text())["trained_epochs"] == 6


def test_two_workers_train_and_evaluate_as_one_process_does(faces_dir):
    """Small steps keep rounding noise from growing; the hash classifier restarts in epoch 3 of 4.

    Worker 0 evaluates alone: after the last step the other one is gone, and is not missed.
    """
    settings = ["--epochs", 4, "--codeword_share", 0.5, "--learning_rate", 1e-5]
    for process in (killed_run(faces_dir, "nobody:0", *settings),
                    run_script("main.py", *TINY, *settings, "--run_dir", "alone", cwd=faces_dir)):
        assert process.returncode == 0 and process.stderr == "", process.stderr
    losses = []
    for name, count in (("run", 2), ("alone", 1)):
        rows = history(faces_dir / name)
        assert [bool(row["mAP"]) for row in rows] == [False, True] * 2
        losses.append([float(row["hash_classification"]) for row in rows])
        state = json.loads((faces_dir / name / "checkpoints/index.json").read_text())["last"]
        assert state["state"]["restart_epoch"] == 3
        entry, = json.loads((faces_dir / name / "provenance.json").read_text())
        assert entry["workers"] == count and entry["ended_by"] == "finished"
        results = json.loads((faces_dir / name / "results.json").read_text())
        assert results["trained_epochs"] == 4 and results["mAP"] == pytest.approx(
            float(rows[-1]["mAP"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert abs(losses[0][2] - losses[0][1]) > 0.1


def test_a_killed_worker_ends_the_run_which_one_process_resumes(faces_dir):
    process = killed_run(faces_dir, "step:1")
    assert_refused(process, "worker 1 (127.0.0.1:", "epoch 3, step 2", "--num_workers 2", code=1)
    state = json.loads((faces_dir / "run/checkpoints/index.json").read_text())["last"]["state"]
    assert (state["epoch"], state["step"]) == (3, 2)
    config = json.loads((faces_dir / "run/config.json").read_text())
    assert set(config) == set(Config().to_dict()) and config["sync_batch_norm"] is True
    assert_resumes_alone(faces_dir, [2])


@pytest.mark.slow
@pytest.mark.parametrize("moment, epoch", [
    ("step:0", 3), ("checkpoint:0", 1), ("checkpoint:1", 2), ("evaluation:0", 2),
    ("evaluation:1", 2)])
def test_a_worker_killed_at_any_moment(faces_dir, moment, epoch):
    process = killed_run(faces_dir, moment)
    assert_refused(process, "worker " + moment[-1], "--resume", code=1)
    state = json.loads((faces_dir / "run/checkpoints/index.json").read_text())["last"]["state"]
    assert (state["epoch"], state["step"]) == (epoch, 0)
    assert_resumes_alone(faces_dir, [2])


@pytest.mark.slow
@pytest.mark.parametrize("count, number, whom", [
    (3, signal.SIGINT, "parent"), (2, signal.SIGTERM, "parent"), (2, signal.SIGTERM, "worker 1"),
    (2, signal.SIGKILL, "parent")])
def test_signals_stop_all_workers_after_the_step(faces_dir, count, number, whom):
    run_dir = faces_dir / "run"
    process = subprocess.Popen(
        command("main.py", *TINY, "--epochs", 500, "--num_workers", count, "--run_dir", run_dir),
        cwd=faces_dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True)
    for line in process.stdout:
        if "epoch 3/500" in line:
            break
    if whom == "parent":
        process.send_signal(number)
    else:
        os.kill(next(pid for pid in processes_in(run_dir) if b'"index": 1' in Path(
            f"/proc/{pid}/environ").read_bytes()), number)
    _, err = process.communicate(timeout=120)
    assert_none_left(faces_dir)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    assert "Traceback" not in err
    state = json.loads((run_dir / "checkpoints/index.json").read_text())["last"]["state"]
    assert state["epoch"] == len(history(run_dir)) >= 3
    entry = json.loads((run_dir / "provenance.json").read_text())[-1]
    assert entry["ended_by"].startswith("stopped by SIG") and entry["workers"] == count


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_worker_that_hangs_counts_as_lost(faces_dir, stopped):
    run_dir = faces_dir / "run"
    process = subprocess.Popen(
        command("main.py", *TINY, "--epochs", 500, "--num_workers", 2, "--worker_timeout", 5,
                "--run_dir", run_dir), cwd=faces_dir, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    for line in process.stdout:
        if "epoch 3/500" in line:
            break
    os.kill(next(pid for pid in processes_in(run_dir) if b'"index": %d' % stopped in Path(
        f"/proc/{pid}/environ").read_bytes()), signal.SIGSTOP)
    _, err = process.communicate(timeout=120)
    assert_none_left(faces_dir)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and f"worker {stopped} (" in lines[0] and "--resume" in lines[0]


@pytest.mark.slow
def test_two_machines_by_tf_config(faces_dir, tmp_path_factory):
    """Two commands, no shared folder: the second one writes nothing; data that differ are refused.
    """
    other = tmp_path_factory.mktemp("other")
    names = free_addresses(2)

    def start(index, cwd, *arguments):
        return subprocess.Popen(
            command("main.py", *TINY, "--epochs", 3, *arguments), cwd=cwd,
            env=clean_environment(TF_CONFIG=json.dumps(
                {"cluster": {"worker": names}, "task": {"type": "worker", "index": index}})),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True)
    arguments = ["--data_dir", faces_dir / "data", "--run_dir", "run"]
    processes = [start(1, other, *arguments), start(0, faces_dir, *arguments)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert not list(other.iterdir())
    assert len(history(faces_dir / "run")) == 3 and (faces_dir / "run/results.json").exists()

    test = next((faces_dir / "data/test_folder_facescrub").iterdir())
    (other / "data/train_folder_facescrub").mkdir(parents=True)
    (other / "data/test_folder_facescrub").mkdir()
    for folder in ("train", "test"):  # the queries stand in for the training images
        (other / "data" / (folder + "_folder_facescrub") / "part1").write_bytes(test.read_bytes())
    processes = [start(1, other, "--data_dir", other / "data"),
                 start(0, faces_dir, *(arguments[:2] + ["--run_dir", "another"]))]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert all(f"worker 1 ({names[1]}) has other data" in error for error in errors)
    assert not (faces_dir / "another").exists()
