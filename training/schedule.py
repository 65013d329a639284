"""What changes in the course of training: functions of the steps that are done and of all."""


def learning_rate(config, done, total):
    """Adam's step size: it rises over warmup_steps, and falls to 0 over the last decay_share.

    With decay_after, it begins to fall after so many steps if that is sooner. As gradients shrink,
    Adam divides by ever less, until a step size that was safe no longer is: between 1,800 and 3,400
    steps at full size, trainings forgot most of what they knew (docs/recipe.md).

    Args:
        config: anything with learning_rate, warmup_steps, decay_share and decay_after of
            config.Config.
        done: steps before this one, from 0.
        total: steps of the whole training.

    Returns:
        A float; above 0 at every step.
    """
    rate = config.learning_rate
    if config.warmup_steps:
        rate *= min(1.0, (done + 1) / config.warmup_steps)
    share = config.decay_share
    if config.decay_after:
        share = max(share, 1 - config.decay_after / total)
    if share:
        rate *= min(1.0, max(1 - done / total, 0.0) / share)
    return rate


def hash_temperature(config, done, total):
    """The hash classifier's temperature: from its first value to 1, by equal factors a step.

    Args:
        config: anything with hash_temperature and temperature_share of config.Config.
        done, total: see learning_rate.

    Returns:
        A float; 1 once temperature_share of the steps are done.
    """
    if not config.temperature_share:
        return 1.0
    return config.hash_temperature ** max(0.0, 1 - done / (config.temperature_share * total))


def restart_step(config, total):
    """The step before which the hash classifier starts again from codewords; None if it never does.

    Args:
        config: anything with codeword_share of config.Config.
        total: see learning_rate.

    Returns:
        An int from 0 to total - 1, or None.
    """
    if not config.codeword_share:
        return None
    return min(total - 1, total - round(total * config.codeword_share))
