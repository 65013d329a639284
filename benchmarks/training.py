"""How much main.py's loop costs beyond the bare session runs of the same steps.

    python -m benchmarks.training [rounds]

One epoch of the training loop (with its sums, checks, history, TensorBoard and checkpoint) and one
of bare session runs on the same graph, session and batches are timed in turn. Printed: images/s of
both by round, and the median ratio of loop to bare, once for the steps alone and once with the
epoch's end (weights check and checkpoint); and the time a step that the loop spends outside
TensorFlow, which is all of it but the inside of session.run.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import data_loader
from methods.table import resolve
from runtime.run_folder import RunFolder
from runtime.tensorflow import device_line, make_session
from training.graph import build_step_graph
from training.loop import Trainer
from training.recorder import Recorder


def bare_epoch(graph, session, data, batch_size):
    """Images/s of one epoch of session runs and nothing else."""
    started = time.perf_counter()
    for images, labels in data_loader.batches(data, batch_size):
        session.run((graph.step, graph.losses, graph.accuracy),
                    {graph.images: images, graph.labels: labels})
    return len(data.labels) / (time.perf_counter() - started)


class StepTimer:
    """Stands in for a session's run and adds up the seconds that training steps spend inside."""

    def __init__(self, session, step):
        self.seconds = 0.0
        self._run, self._step = session.run, step
        session.run = self

    def __call__(self, fetches, *arguments, **options):
        started = time.perf_counter()
        try:
            return self._run(fetches, *arguments, **options)
        finally:
            if isinstance(fetches, tuple) and fetches[0] is self._step:
                self.seconds += time.perf_counter() - started


def loop_epoch(trainer):
    """Images/s of one epoch of the training loop, of its steps and with its end; steps' seconds."""
    trainer.config = trainer.config.__class__(**dict(
        trainer.config.to_dict(), epochs=trainer.progress.epoch + 1, evaluate_every=10 ** 6))
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in trainer.train():
            pass
        trainer.recorder.wait()
    whole = len(trainer.data.labels) / (time.perf_counter() - started)
    row = trainer.recorder.folder.read_history()[-1]
    return row["images_per_second"], whole, row["seconds"]


def main(rounds):
    config, dataset = resolve(dict(dataset_flag=2))
    data, _ = data_loader.load_dataset(dataset)
    graph = build_step_graph(config, dataset.num_identities)
    with tempfile.TemporaryDirectory() as folder, make_session(graph.graph) as session:
        print(device_line(session))
        run = RunFolder.create(Path(folder) / "run", config.to_dict())
        trainer = Trainer(config, data, graph, session, Recorder(run, graph, session, {}))
        trainer.start()
        bare_epoch(graph, session, data, config.batch_size)  # warm-up
        timer = StepTimer(session, graph.step)
        steps, wholes, outside = [], [], []
        for number in range(1, rounds + 1):
            bare = bare_epoch(graph, session, data, config.batch_size)
            timer.seconds = 0.0
            loop, whole, seconds = loop_epoch(trainer)
            outside.append((seconds - timer.seconds) / trainer.steps_per_epoch)
            steps.append(loop / bare)
            wholes.append(whole / bare)
            print("round %d: bare %.1f images/s, loop %.1f, with the epoch's end %.1f"
                  % (number, bare, loop, whole), flush=True)
    print("median ratio to bare: steps %.3f, with the epoch's end %.3f; outside TensorFlow: "
          "%.2f ms of a step's %.0f ms" % (
              statistics.median(steps), statistics.median(wholes),
              1000 * statistics.median(outside), 1000 * seconds / trainer.steps_per_epoch))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
