"""The table of losses from other publications. A new loss is a class and one line here."""

import dataclasses

from losses import DCBH
from published_losses.pairwise import DPSH, DSH, DTSH, HashNet
from published_losses.pointwise import CSQ, DCDH, DPN, SSDH, GreedyHash, OrthoHash
from runtime.settings import setting_names

# By the method that trains DCBH's network with it. Its settings are called NAME_SETTING.
LOSSES = {
    "dsh": DSH,
    "dpsh": DPSH,
    "hashnet": HashNet,
    "dtsh": DTSH,
    "ssdh": SSDH,
    "greedyhash": GreedyHash,
    "csq": CSQ,
    "dpn": DPN,
    "orthohash": OrthoHash,
    "dcdh": DCDH,
}


def loss_of(config):
    """The Loss of a Config; that of a method without a line in LOSSES is DCBH's."""
    if config.method not in LOSSES:
        return DCBH(config)
    kind = LOSSES[config.method]
    return kind(**{name: getattr(config, f"{config.method}_{name}")
                   for name in setting_names(kind)})


def settings_of(method):
    """Names of the settings that belong to the loss of a method alone."""
    if method not in LOSSES:
        return list(DCBH.settings)
    return [f"{method}_{name}" for name in setting_names(LOSSES[method])]


def with_loss_settings(config_class):
    """Class decorator: gives a class of settings those of all LOSSES, at its end."""
    for method, kind in LOSSES.items():
        for field in dataclasses.fields(kind):
            name = f"{method}_{field.name}"
            config_class.__annotations__[name] = field.type
            setattr(config_class, name, dataclasses.field(
                default=field.default, metadata=field.metadata))
    return config_class
