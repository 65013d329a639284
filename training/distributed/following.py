"""How worker 0 of several and the others begin, and what the others do."""

import sys

from config import METHODS, Config, resolve
from data_loader import given_to
from methods.run_data import load_run_data
from runtime.errors import UserError
from runtime.tensorflow import device_line
from training.distributed.distribution import Workers
from training.distributed.worker_session import LostWorker
from training.graph import build_step_graph
from training.loop import Interrupted

# Below so many images, a share's mean and variance are poor estimates.
FEW_IMAGES = 16


def lead(cluster, config):
    """Connects worker 0 with the others, which take its settings: a Workers.

    Args:
        cluster: an training.distributed.cluster.Cluster.
        config: the run's Config.

    Raises:
        UserError: the method has no steps to share; see also Workers.
    """
    if not METHODS[config.method].features:
        raise UserError("method %s trains no network that workers could share; leave --num_workers "
                        "and TF_CONFIG out" % config.method)
    print("waiting for %d workers" % cluster.count, flush=True)
    workers = Workers(cluster)
    settings = config.to_dict()
    if settings["data_dir"] == Config().data_dir:
        del settings["data_dir"]  # each worker has its own
    workers.exchange(settings)
    images = config.batch_size // cluster.count
    if images < FEW_IMAGES and not config.sync_batch_norm:
        print("note: batch norm sees about %d images of each batch in each worker, which are few; "
              "--sync_batch_norm true lets it see all %d" % (images, config.batch_size))
    return workers


def follow(cluster, data_dir):
    """What a worker other than 0 does: its part of worker 0's run.

    Args:
        cluster: an training.distributed.cluster.Cluster.
        data_dir: folder of the data sets on this machine; None for worker 0's or the default.
    """
    print("worker %d of %d; worker 0 (%s) reports" % (
        cluster.index, cluster.count, cluster.addresses[0]), flush=True)
    try:
        take_part(cluster, data_dir)
    except LostWorker as error:
        raise LostWorker("%s; worker 0 keeps what is saved; to go on: the same command with "
                         "--resume" % error)


def take_part(cluster, data_dir):
    """See `follow`."""
    workers = Workers(cluster)
    settings = workers.exchange(None)[0]
    if data_dir is not None:
        settings["data_dir"] = data_dir
    try:
        data = load_run_data(*resolve(settings))
    except UserError as error:
        workers.check_data(None, str(error))
        raise
    workers.check_data(data.digest)
    config, train = data.config, given_to(METHODS[data.config.method], data.train)
    graph = build_step_graph(config, data.dataset.num_identities, workers)
    del data
    with workers.session(graph.graph) as session:
        print(device_line(session), flush=True)
        trainer = workers.trainer(
            config, train, graph, session, workers.recorder(None, graph, session, None))
        trainer.follow()
        try:
            for progress in trainer.train():
                if progress.epoch < config.epochs:
                    workers.wait()  # for the evaluation
        except Interrupted as stop:
            sys.exit(128 + stop.signal_number)
