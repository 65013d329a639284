"""The finished run of a network whose features another run takes: found and checked."""

from typing import NamedTuple

from config import METHODS, Config, find_dataset
from runtime.errors import UserError
from runtime.run_folder import RunFolder


class TrainedRun(NamedTuple):
    """A finished run of a network: its RunFolder and its Config."""

    folder: RunFolder
    config: Config

    @property
    def first_start(self):
        """When the run was first started: what tells its network from others, wherever it lies."""
        return self.folder.provenance()[0]["start"]


def open_trained_run(config, dataset, digest=None, taken_by=None):
    """The run that the setting features_of names, if it fits the run that takes its features.

    Args:
        config: the Config of the run that takes them.
        dataset: the config.Dataset of that run.
        digest: data_loader.data_digest of that run's images; None to leave it unchecked.
        taken_by: RunFolder of the run that takes them, if it may have taken a network's before.

    Returns:
        A TrainedRun.

    Raises:
        UserError: no run is named, or none is there, or it is not finished, or it is one of another
            data set, code length or fold of people, or one that trains no network on images, or
            another network than `taken_by` had.
    """
    if config.features_of is None:
        raise UserError("method %s takes the features of a finished run; name its folder with "
                        "--features_of" % config.method)

    def refuse(reason):
        raise UserError("features_of %s: %s" % (config.features_of, reason))

    try:
        folder = RunFolder.open(config.features_of)
    except UserError as error:
        raise UserError("%s; name the run whose features method %s takes with --features_of"
                        % (error, config.method))
    trained = Config.recorded(folder.read_settings())
    method = METHODS[trained.method]
    if not method.features or method.inputs != "images":
        refuse("method %s trains no network on images; name a run that does" % trained.method)
    if not _is_of_dataset(trained, config, dataset):
        refuse("it was trained on data set %s, not on %s" % (trained.dataset_flag, dataset.name))
    for name in ("num_bits", "unseen_split"):
        if getattr(trained, name) != getattr(config, name):
            refuse("it has %s %s, not %s; name another run, or give that value" % (
                name, getattr(trained, name), getattr(config, name)))
    starts = folder.provenance()
    if not starts or starts[-1].get("ended_by") != "finished":
        refuse("this run is not finished; go on with python main.py --resume --run_dir %s"
               % config.features_of)
    if digest is not None and starts[0].get("data") not in (None, digest):
        refuse("it was trained on other data than there is now under its name; train it again")
    run = TrainedRun(folder, trained)
    before = taken_by.provenance()[:1] if taken_by is not None else []
    if before and before[0].get("network_start") not in (None, run.first_start):
        refuse("this is another network than the one whose features %s took, which was first "
               "started at %s; name that one, or start a new run" % (
                   taken_by, before[0]["network_start"]))
    return run


def _is_of_dataset(trained, config, dataset):
    """Whether a run's settings name a Dataset, in the data folder of another run's Config."""
    try:
        return find_dataset(trained.dataset_flag, config.data_dir).name == dataset.name
    except UserError:  # it is not there
        return False
