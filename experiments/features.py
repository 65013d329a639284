"""One run that takes the features of another run's network: evaluated and reported."""

from experiments.run import finish_run
from methods.features import TrainedNetwork, encode_features
from runtime.tensorflow import tf


def take_features(run, trained):
    """Makes codes or floats of the features, evaluates them and writes the run's report.

    Args:
        run: an experiments.run.Run.
        trained: the methods.trained_run.TrainedRun whose features they are.
    """
    with TrainedNetwork(trained, run.dataset.num_identities) as network:
        print(network.device, flush=True)
        finish_run(run, lambda *images: encode_features(network, *images), tf.VERSION,
                   network.device, trained.first_start)
