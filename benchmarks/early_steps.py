"""What holds block hashing back in the first steps: gradients and bits, step by step.

    python -m benchmarks.early_steps --dataset_flag NAME --out DIR [--data_dir DIR] [--steps 200]

Trains the released recipe and the tuned one from the same first weights. OUT/early_steps.csv and
OUT/early_steps.png have, for each step: the norm of the gradient that either classifier's loss
sends back to the multi-scale feature, the share of bits that are on, the spread of the hash
activations over the batch, and the share of the batch that either classifier gets right. A recipe
whose hash classifier starts again from codewords ends there.
"""

import csv
from pathlib import Path

import data_loader
from config import RECIPES
from methods.table import resolve
from reports.style import BLUE, VERMILLION, make_figure
from runtime.command_line import ArgumentParser, run_command
from runtime.tensorflow import make_session, tf
from training import recipe as recipes
from training.graph import build_step_graph

PANELS = (
    ("gradient of the hash classification loss", "hash_gradient"),
    ("gradient of the descriptor classification loss", "descriptor_gradient"),
    ("bits that are on", "bits_on"),
    ("spread of hash activations", "activation_spread"),
    ("hash classifier right", "hash_accuracy"),
    ("descriptor classifier right", "descriptor_accuracy"),
)


def measured(graph):
    """The tensors of PANELS, by name."""
    network = graph.network
    with graph.graph.as_default():
        found = {}
        for name, logits in (("hash", network.hash_logits),
                             ("descriptor", network.descriptor_logits)):
            gradient = tf.gradients(graph.losses[name + "_classification"],
                                    network.multi_scale_feature)[0]
            right = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), graph.labels)
            found[name + "_gradient"] = tf.norm(gradient)
            found[name + "_accuracy"] = tf.reduce_mean(tf.cast(right, tf.float32))
        _, variance = tf.nn.moments(network.hash_activations, [0])
        found["activation_spread"] = tf.reduce_mean(tf.sqrt(variance))
        found["bits_on"] = tf.reduce_mean(tf.cast(network.hash_activations >= 0, tf.float32))
        return found


def first_steps(config, dataset, train, steps):
    """Yields a dict of PANELS' names for each of the first steps."""
    graph = build_step_graph(config, dataset.num_identities)
    tensors = measured(graph)
    total = config.epochs * data_loader.steps_per_epoch(len(train.labels), config.batch_size)
    restart = recipes.restart_step(config, total)
    steps = steps if restart is None else min(steps, restart)
    with make_session(graph.graph) as session:
        session.run(graph.initialize)
        done = 0
        for epoch in range(config.epochs):
            order = data_loader.image_order(
                len(train.labels), config.shuffle, config.seed, epoch + 1)
            for index, (images, labels) in enumerate(
                    data_loader.batches(train, config.batch_size, order, config.even_batches)):
                if done == steps:
                    return
                values = session.run((tensors, graph.step), {
                    graph.images: recipes.mirrored(images, config, epoch, index),
                    graph.labels: labels,
                    graph.learning_rate: recipes.learning_rate(config, done, total),
                    graph.progress: done / total})[0]
                done += 1
                yield values


def draw(rows, path):
    """One panel a quantity, one line a recipe."""
    figure = make_figure((9.6, 9.0))
    for number, (title, name) in enumerate(PANELS, 1):
        axes = figure.add_subplot(3, 2, number)
        for recipe, colour, dashes in zip(RECIPES, (BLUE, VERMILLION), ("-", "--")):
            shown = [(row["step"], row[name]) for row in rows if row["recipe"] == recipe]
            axes.plot(*zip(*shown), color=colour, linestyle=dashes, label=recipe, linewidth=1.2)
        axes.set_title(title, loc="left", fontsize=10)
        if name.endswith("gradient"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if number > 4:
            axes.set_xlabel("step")
    figure.axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main(arguments):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_flag", required=True)
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--num_bits", type=int, default=48)
    options = parser.parse_args(arguments)
    rows = []
    for recipe in RECIPES:
        values = dict(dataset_flag=options.dataset_flag, num_bits=options.num_bits, recipe=recipe)
        if options.data_dir:
            values["data_dir"] = str(options.data_dir)
        config, dataset = resolve(values)
        train, _ = data_loader.load_dataset(dataset)
        for step, found in enumerate(first_steps(config, dataset, train, options.steps), 1):
            rows.append(dict({name: f"{value:.5g}" for name, value in found.items()},
                             recipe=recipe, step=step))
            if step % 20 == 0:
                print(recipe, step, ", ".join(
                    f"{name} {rows[-1][name]}" for _, name in PANELS), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    names = ["recipe", "step"] + [name for _, name in PANELS]
    with open(options.out / "early_steps.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw([{name: value if name == "recipe" else float(value) for name, value in row.items()}
          for row in rows], options.out / "early_steps.png")


if __name__ == "__main__":
    run_command(main)
