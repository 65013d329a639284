"""Stands for main.py in tests of the grid: makes a run's files with a made-up mAP, in no time.

It imports nothing of ours, so that it starts fast. Files fail/METHOD and hang/METHOD in the current
folder make it fail or wait. calls.jsonl and ends.jsonl list its calls and their ends.
"""

import ast
import json
import os
import sys
import time
from pathlib import Path


def value(text):
    """A setting as the type that it is written as."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def note(name, *entry):
    with open(name, "a") as stream:
        stream.write(json.dumps(entry) + "\n")


_, run_dir, *words = sys.argv[1:]
resume = words[-1:] == ["--resume"]
folder = Path(run_dir)
method = folder.parent.name
folder.mkdir(parents=True, exist_ok=True)
config = folder / "config.json"
settings = json.loads(config.read_text()) if resume else {}
settings.update((name[2:], value(text)) for name, _, text in (
    word.partition("=") for word in words if word != "--resume"))
for name, content in ((".dcbh.json", dict(kind="run", version=1)), ("config.json", settings)):
    (folder / name).write_text(json.dumps(content))
note("calls.jsonl", run_dir, resume, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid(),
     time.monotonic())
if Path("hang", method).exists():
    time.sleep(60)
if Path("fail", method).exists():
    print("error: no luck with", method)
    sys.exit(2)
results = dict(mAP=settings["num_bits"] / 100 + settings["seed"] / 1000, training_seconds=1.5)
if settings.get("unseen_split") is not None:
    results.update(unseen_mAP=settings["unseen_split"] / 10, unseen_top_1_accuracy=0.5)
(folder / "results.json").write_text(json.dumps(results))
(folder / "curves_at_n.csv").write_text("n,precision,recall\n1,0.5,0.25\n2,0.25,1\n")
(folder / "provenance.json").write_text(json.dumps([dict(
    tensorflow=None, device="stub", python="3", numpy="1", machine="m", git_revision="r",
    git_dirty=False, data="d", command_line=["stub"], start="2026-01-01", end="2026-01-02",
    ended_by="finished")]))
(folder / "report.html").write_text("report")
note("ends.jsonl", run_dir, time.monotonic())
