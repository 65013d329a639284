"""One value that describes a run: its settings, its data, and its folder.

People are never seen in training where prepare.py --unseen has kept them out of a data set, or
where the setting unseen_split keeps out a fold of a data set's people.
"""

from typing import NamedTuple, Optional

import numpy as np

import data_loader
from config import Config, Dataset
from data_loader import ImageSet
from evaluation.open_set import FOLDS, folds_of_people
from faces.embedding import read_embeddings
from methods.table import method_of, resolve
from runtime.errors import UserError
from runtime.run_folder import RunFolder

FEWEST_PEOPLE = 2 * FOLDS  # a fold of one person holds nobody to confuse that person with


class Run(NamedTuple):
    """A run and what it reads.

    Attributes:
        config, dataset: its settings, complete, and its data set, with num_identities as below.
        train, test: ImageSets of the people that are seen, labels 0..num_identities-1.
        names: their names by label, or None.
        digest: data_loader.data_digest of all images, those of `unseen` included.
        unseen: (gallery, queries) of people never seen, two ImageSets with labels of their own from
            0 up, normalised with the statistics of `train`, as a photograph that comes alone is;
            None where there are none.
        unseen_names: their names by label, or None.
        folder: its RunFolder; None before it is created.
    """

    config: Config
    dataset: Dataset
    train: ImageSet
    test: ImageSet
    names: Optional[list]
    digest: str
    unseen: Optional[tuple] = None
    unseen_names: Optional[list] = None
    folder: Optional[RunFolder] = None

    @property
    def method(self):
        """The methods.method.Method that makes its codes."""
        return method_of(self.config)

    @property
    def splits(self):
        """All its ImageSets: gallery and queries, then those of people never seen."""
        return [self.train, self.test] + list(self.unseen or ())


def open_run(folder, data_dir=None, compute_dtype=None):
    """The Run of an existing folder, with its data.

    Args:
        folder: a RunFolder.
        data_dir: folder of the data sets where it has moved since; by default the run's own.
        compute_dtype: to encode in, in place of the run's own.

    Raises:
        UserError: the data is not the run's, or missing, or damaged.
    """
    values = Config.recorded(folder.read_settings()).to_dict()
    if data_dir is not None:
        values["data_dir"] = str(data_dir)
    if compute_dtype is not None:
        values["compute_dtype"] = compute_dtype
    run = load_run(*resolve(values))
    folder.check_data(run.digest)
    return run._replace(folder=folder)


def load_run(config, dataset):
    """Loads the images that a run of these settings reads.

    With unseen_split, the people whom prepare.py --unseen has kept out are not read either, so that
    choices can be made on folds and judged on the rest.

    Args:
        config: a complete Config.
        dataset: its whole config.Dataset.

    Returns:
        A Run without a folder.

    Raises:
        UserError: files missing or malformed, or too few people for a fold.
    """
    names = data_loader.identity_names(dataset)
    if config.unseen_split is not None:
        return _with_fold(config, dataset, names)
    train, test = data_loader.load_dataset(dataset)
    unseen = unseen_names = None
    others = dataset.unseen
    if others:
        unseen_names = data_loader.identity_names(others)
        unseen = tuple(data_loader.normalise(*split, statistics=(train.mean, train.std))
                       for split in data_loader.read_dataset(others))
    if method_of(config).takes_embeddings:
        train, test = _with_embeddings(dataset, [[train], [test]])
        unseen = unseen and _with_embeddings(others, [[split] for split in unseen])
    return _run(config, dataset, train, test, names, unseen, unseen_names)


def _with_fold(config, dataset, names):
    """The Run of settings that keep a fold of the people out."""
    if dataset.num_identities < FEWEST_PEOPLE:
        raise UserError(f"unseen_split needs at least {FEWEST_PEOPLE} people, two for each fold; "
                        f"{dataset.title} has {dataset.num_identities}")
    is_unseen = folds_of_people(dataset.num_identities) == config.unseen_split
    splits = data_loader.read_dataset(dataset)
    seen = [_of_people(*split, people=np.flatnonzero(~is_unseen)) for split in splits]
    unseen = [_of_people(*split, people=np.flatnonzero(is_unseen)) for split in splits]
    if not all(len(labels) for _, labels, _, _ in seen + unseen):
        raise UserError(f"{dataset.title}: fold {config.unseen_split} or the rest has no training "
                        "or no test images; name another unseen_split")
    del splits
    train, test = [_normalised(split) for split in seen]
    unseen = tuple(_normalised(split, (train.mean, train.std)) for split in unseen)
    if method_of(config).takes_embeddings:
        train, unseen_gallery, test, unseen_queries = _with_embeddings(
            dataset, [[train, unseen[0]], [test, unseen[1]]])
        unseen = unseen_gallery, unseen_queries
    # People without names are known by their numbers in the whole data set.
    names = names or [f"{dataset.name} {label}" for label in range(dataset.num_identities)]
    names, unseen_names = [[name for name, chosen in zip(names, people) if chosen]
                           for people in (~is_unseen, is_unseen)]
    return _run(config, dataset._replace(
        num_identities=int(np.count_nonzero(~is_unseen)), num_train=len(train.labels),
        num_test=len(test.labels)), train, test, names, unseen, unseen_names)


def _of_people(images, labels, pixel_range, people):
    """The images of some people, who are numbered from 0: (images, labels, pixel_range, rows)."""
    rows = np.flatnonzero(np.isin(labels, people))
    return images[rows], np.searchsorted(people, labels[rows]), pixel_range, rows


def _normalised(split, statistics=None):
    images, labels, pixel_range, rows = split
    return data_loader.normalise(images, labels, pixel_range, statistics)._replace(rows=rows)


def _with_embeddings(dataset, splits):
    """ImageSets with their embeddings.

    Args:
        dataset: the config.Dataset that they are of.
        splits: two lists, of ImageSets that are all of the training and of the test images.

    Returns:
        A tuple of them all, in order.
    """
    if dataset.embedding is None:
        way_out = ("prepare it again with --embedding" if dataset.source == "prepared" else
                   "only data sets that prepare.py --embedding makes of photographs have them")
        raise UserError(f"{dataset.title} has no face embeddings: {way_out}")
    found = []
    for folder, parts in zip((dataset.train_folder, dataset.test_folder), splits):
        embeddings = read_embeddings(folder, sum(len(part.labels) for part in parts))
        found += [part._replace(embeddings=embeddings if part.rows is None
                                else embeddings[part.rows]) for part in parts]
    return tuple(found)


def _run(config, dataset, train, test, names, unseen, unseen_names):
    return Run(config, dataset, train, test, names,
               data_loader.data_digest(train, test, *unseen or ()), unseen, unseen_names)
