"""What a page says of runs beside their results: title, status, settings, what differs."""

from typing import NamedTuple

import numpy as np

from config import Config, published_dataset
from evaluation import vectors
from evaluation.metrics import Evaluation
from evaluation.vectors import unseen_results
from methods.table import METHODS
from reports.columns import COST, column
from runtime.run_folder import RunFolder
from runtime.settings import setting_names

PROVENANCE = {
    "tensorflow": "TensorFlow", "device": "device", "python": "Python", "numpy": "numpy",
    "machine": "machine", "git_revision": "git revision", "git_dirty": "uncommitted changes",
    "data": "data (digest)", "command_line": "command line", "start": "start", "end": "end",
    "ended_by": "status"}
COMPARED_PROVENANCE = ("tensorflow", "device", "python", "numpy", "machine", "git_revision",
                       "git_dirty", "data")


class ComparedRun(NamedTuple):
    """One run of a comparison.

    Attributes:
        name: its folder, as the command line names it.
        evaluation: metrics.Evaluation of its codes.
        codes: Codes, or Floats.
        settings: dict, its config.json; empty where unknown.
        provenance: dict, the last entry of its provenance.json; empty where unknown.
    """

    name: str
    evaluation: Evaluation
    codes: object
    settings: dict
    provenance: dict


class RunRecord(NamedTuple):
    """What a folder says of the run in it; all of it is empty if it holds none.

    Attributes:
        settings: dict.
        entries: list of provenance entries, one a start.
        history: list of dicts, one an epoch.
    """

    settings: dict
    entries: list
    history: list


def compared_run(name, evaluation, codes):
    """The ComparedRun of the run in folder `name`, with the cost that its results.json states.

    Its codes of people never seen, if any, are evaluated here, too.

    Raises:
        UserError: its settings or provenance cannot be read.
    """
    record, folder = read_record(name), RunFolder(name)
    results = dict(evaluation.results)
    if (folder.path / "results.json").is_file():
        results.update((key, value) for key, value in folder.read_results().items()
                       if column(key).group == COST and isinstance(value, (int, float)))
    unseen = vectors.load_unseen(folder)
    if unseen is not None:
        results.update(unseen_results(codes, unseen))
    return ComparedRun(str(name), evaluation._replace(results=results), codes, record.settings,
                       record.entries[-1] if record.entries else {})


def read_record(path):
    """The RunRecord of a folder. Raises UserError if a file of it is damaged."""
    folder = RunFolder(path)
    if not (folder.path / "config.json").is_file():
        return RunRecord({}, [], [])
    return RunRecord(folder.read_settings(), folder.provenance(), folder.history.read())


def applicable_settings(settings):
    """The settings that affect a run: a dict, in the same order.

    Few affect a method without training; none counts that another setting turns off.

    Args:
        settings: dict of all settings.
    """
    method = METHODS.get(settings.get("method"))
    names = method.applicable_settings(settings) if method else settings
    return {name: value for name, value in settings.items() if name in names}


def dataset_title(settings):
    """The data set's name for people; "" if the settings name none."""
    flag = settings.get("dataset_flag", "")
    dataset = published_dataset(flag)
    return dataset.title.split(" (")[0] if dataset else str(flag)


def method_title(settings):
    """The method's name for people, and its recipe if that is not the released one."""
    name, recipe = settings.get("method", ""), settings.get("recipe", "released")
    if name not in METHODS:
        return str(name)
    recipe = METHODS[name].recipe_name(recipe)
    return f"{METHODS[name].title}, {recipe}" if recipe else METHODS[name].title


def run_title(settings, size):
    """Method, data set, size of codes ("48 bits"), seed, and the fold of people left out."""
    parts = [method_title(settings), dataset_title(settings), size]
    if "seed" in settings:
        parts.append(f"seed {settings['seed']}")
    if settings.get("unseen_split") is not None:
        parts.append(f"fold {settings['unseen_split']} never seen")
    return " \u00b7 ".join(filter(None, parts))


def status(record, reason=None):
    """A sentence on a run that has not finished; "" for one that has, or if there is no run.

    The page is written just before the provenance says how the run ended. So a run that has done
    all its epochs counts as finished, and so does a method that has none.

    Args:
        record: a RunRecord.
        reason: why the run ended; by default what its provenance says.
    """
    reason = reason or (record.entries[-1].get("ended_by") if record.entries else None)
    if not record.entries or reason == "finished":
        return ""
    done = int(record.history[-1]["epoch"]) if record.history else 0
    progress = f"after epoch {done} of {record.settings.get('epochs', '?')}"
    if reason is None:
        if done == record.settings.get("epochs") or (
                "epochs" not in applicable_settings(record.settings)):
            return ""
        return f"Not finished: still training or killed, {progress}."
    reason = reason[0].upper() + reason[1:]
    return f"{reason}, {progress}." if reason.startswith("Stopped") else (
        f"Failed {progress}. {reason}")


def provenance_rows(entry):
    """A provenance entry as a list of (title, text), without what is unknown."""
    return [(PROVENANCE.get(name, name.replace("_", " ")),
             " ".join(map(str, value)) if isinstance(value, list) else value)
            for name, value in entry.items() if value is not None]


# Several runs


def differences(runs):
    """What differs between runs: settings that affect all of them, then provenance.

    Args:
        runs: list of ComparedRuns.

    Returns:
        List of (title, values): a text for each run, in their order.
    """
    rows = []
    settings = [applicable_settings(run.settings) for run in runs]
    place = setting_names(Config, "place")
    for name in dict.fromkeys(name for values in settings for name in values):
        # A setting that does not affect one of them is left out: the one that says why differs.
        applies = all(name in values or name not in run.settings
                      for values, run in zip(settings, runs))
        # A run of an older version lacks newer settings.
        texts = ["-" if values.get(name) is None else str(values[name]) for values in settings]
        if applies and len(set(texts)) > 1 and name not in place:
            rows.append((name, texts))
    for name in COMPARED_PROVENANCE:
        texts = [_provenance_text(name, run.provenance) for run in runs]
        if len(set(texts)) > 1:
            rows.append((PROVENANCE[name], texts))
    return rows


def _provenance_text(name, entry):
    if name not in entry:
        return "unknown"
    if name == "tensorflow" and entry[name] is None:
        return "not used"
    if name == "git_revision" and entry[name]:
        return entry[name][:10]
    return {None: "unknown", True: "yes", False: "no"}.get(entry[name], str(entry[name]))


def data_warnings(runs):
    """Sentences on runs that were not evaluated on the same images (often none)."""
    warnings = []
    names = [dataset_title(run.settings) for run in runs]
    if len(set(names)) > 1:
        listed = ", ".join(sorted(set(filter(None, names))))
        return [f"These runs are of different data sets ({listed}): their numbers do not compare."]
    for split, images in (("gallery", "galleries"), ("query", "queries")):
        if not _all_alike([_images(run.codes, split) for run in runs]):
            warnings.append(f"These runs have different {images}: their numbers do not compare.")
    digests = {run.provenance["data"] for run in runs if run.provenance.get("data")}
    if len(digests) > 1 and not warnings:
        warnings.append("These runs were trained on different data of the same name.")
    return warnings


def _images(codes, split):
    """What identifies the images of one split: labels, and fingerprints where known."""
    return getattr(codes, split + "_labels"), getattr(codes, split + "_fingerprints")


def _all_alike(splits):
    first_labels, first_prints = splits[0]
    for labels, prints in splits[1:]:
        if not np.array_equal(labels, first_labels):
            return False
        if prints is not None and first_prints is not None and not np.array_equal(
                prints, first_prints):
            return False
    return True
