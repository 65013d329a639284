"""What a page says about runs beside their numbers: title, status, settings, what differs."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from config import DATASETS, METHODS
from evaluation import vectors
from evaluation.metrics import Evaluation
from evaluation.saving import unseen_results
from reports.columns import COST, column
from runtime.run_folder import RunFolder

# Settings that bear on a projection (a method that trains no network).
PROJECTION_SETTINGS = ("dataset_flag", "data_dir", "method", "features_of", "num_bits", "seed",
                       "unseen_split", "authors_evaluation")
# Settings that say where and how fast, not what.
IMMATERIAL = ("data_dir", "encode_batch_size", "authors_evaluation")
PROVENANCE = OrderedDict([
    ("tensorflow", "TensorFlow"), ("device", "device"), ("python", "Python"), ("numpy", "numpy"),
    ("machine", "machine"), ("git_revision", "git revision"),
    ("git_dirty", "uncommitted changes"), ("data", "data (digest)"),
    ("command_line", "command line"), ("start", "start"), ("end", "end"), ("ended_by", "status")])
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
    """What a folder says of the run in it; all are empty where it holds none.

    Attributes:
        settings: dict.
        entries: list of provenance entries, one a start.
        history: list of dicts, one an epoch.
    """

    settings: dict
    entries: list
    history: list


def compared_run(name, evaluation, codes):
    """The ComparedRun of a run's folder `name`, with what its results.json says of its cost.

    Codes of people never seen, where it has any, are evaluated here, too.

    Raises:
        UserError: its settings or provenance cannot be read.
    """
    record = read_record(name)
    results = OrderedDict(evaluation.results)
    if (RunFolder(name).path / "results.json").is_file():
        saved = RunFolder(name).read_results()
        results.update((key, value) for key, value in saved.items()
                       if column(key).group == COST and isinstance(value, (int, float)))
    unseen = vectors.load_unseen(RunFolder(name))
    if unseen is not None:
        results.update(unseen_results(codes, unseen))
    return ComparedRun(str(name), evaluation._replace(results=results), codes, record.settings,
                       record.entries[-1] if record.entries else {})


def read_record(path):
    """The RunRecord of a folder. Raises UserError where a file of it is damaged."""
    folder = RunFolder(path)
    if not (folder.path / "config.json").is_file():
        return RunRecord({}, [], [])
    return RunRecord(folder.read_settings(), folder.provenance(), folder.read_history())


def applicable_settings(settings):
    """The settings that bear on a run: of a projection few, and none that another turns off.

    Args:
        settings: dict of all settings.

    Returns:
        OrderedDict, in the same order.
    """
    method = METHODS.get(settings.get("method"))
    if method and method.features is None:
        return OrderedDict((name, value) for name, value in settings.items()
                           if name in PROJECTION_SETTINGS
                           and (name != "features_of" or value is not None))
    left_out = {"features_of"}
    if settings.get("center_weight") == 0:
        left_out.add("center_alpha")
    if settings.get("quantization_weight") == 0:
        left_out.add("quantization_target")
    if settings.get("method", "dcbh") != "dcbh":
        left_out.add("multi_scale")
    return OrderedDict((name, value) for name, value in settings.items() if name not in left_out)


def dataset_title(settings):
    """The data set's name for people; "" where the settings name none."""
    flag = settings.get("dataset_flag", "")
    for number, dataset in DATASETS.items():
        if flag in (number, str(number), dataset.name) and not isinstance(flag, bool):
            return dataset.title.split(" (")[0]
    return str(flag)


def method_title(settings):
    """The method's name for people, with another recipe than the released one; "" of no method."""
    name, recipe = settings.get("method", ""), settings.get("recipe", "released")
    title = METHODS[name].title if name in METHODS else str(name)
    trained = name in METHODS and METHODS[name].features
    return "%s, %s" % (title, recipe) if trained and recipe != "released" else title


def run_title(settings, size):
    """Method, data set, size of codes (such as "48 bits") and seed, and which people were left out.
    """
    parts = [method_title(settings), dataset_title(settings), size]
    if "seed" in settings:
        parts.append("seed %s" % settings["seed"])
    if settings.get("unseen_split") is not None:
        parts.append("fold %s never seen" % settings["unseen_split"])
    return " \u00b7 ".join(filter(None, parts))


def status(record, reason=None):
    """A sentence on a run that has not finished; "" of one that has, or of no run.

    The page of a run is written just before its provenance says how it ended, so that all epochs
    done count as finished; and a projection has no epochs.

    Args:
        record: a RunRecord.
        reason: why the run ended; by default what its provenance says.
    """
    reason = reason or (record.entries[-1].get("ended_by") if record.entries else None)
    if not record.entries or reason == "finished":
        return ""
    done = int(record.history[-1]["epoch"]) if record.history else 0
    progress = "after epoch %d of %s" % (done, record.settings.get("epochs", "?"))
    if reason is None:
        method = METHODS.get(record.settings.get("method"))
        if done == record.settings.get("epochs") or (method and method.features is None):
            return ""
        return "Not finished: still training or killed, %s." % progress
    if reason.startswith("stopped"):
        return "%s, %s." % (reason[0].upper() + reason[1:], progress)
    return "Failed %s. %s" % (progress, reason[0].upper() + reason[1:])


def provenance_rows(entry):
    """A provenance entry as a list of (title, text); what is not known is left out."""
    return [(PROVENANCE.get(name, name.replace("_", " ")),
             " ".join(map(str, value)) if isinstance(value, list) else value)
            for name, value in entry.items() if value is not None]


# Several runs


def differences(runs):
    """What differs between runs: settings that apply to all of them, then provenance.

    Args:
        runs: list of ComparedRuns.

    Returns:
        List of (title, values): a text for each run, in their order.
    """
    rows = []
    settings = [applicable_settings(run.settings) for run in runs]
    for name in OrderedDict.fromkeys(name for values in settings for name in values):
        # Where a setting has no bearing on one of them, another that says so differs.
        applies = all(name in values or name not in run.settings
                      for values, run in zip(settings, runs))
        # A run of an older version lacks settings that others leave open.
        texts = ["-" if values.get(name) is None else str(values[name]) for values in settings]
        if applies and len(set(texts)) > 1 and name not in IMMATERIAL:
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
    """Sentences that say where runs were not evaluated on the same images (often none)."""
    warnings = []
    names = [dataset_title(run.settings) for run in runs]
    if len(set(names)) > 1:
        warnings.append("These runs are of different data sets (%s): their numbers do not compare."
                        % ", ".join(sorted(set(filter(None, names)))))
        return warnings
    for split in ("gallery", "query"):
        if not _all_alike([_images(run.codes, split) for run in runs]):
            warnings.append("These runs have different %s: their numbers do not compare." % (
                "galleries" if split == "gallery" else "queries"))
    digests = {run.provenance["data"] for run in runs if run.provenance.get("data")}
    if len(digests) > 1 and not warnings:
        warnings.append("These runs were trained on different data, though under one name.")
    return warnings


def _images(codes, split):
    """What says of which images one split's codes are: labels, and fingerprints where known."""
    return (getattr(codes, {"gallery": "gallery_labels", "query": "query_labels"}[split]),
            getattr(codes, split + "_fingerprints"))


def _all_alike(splits):
    first_labels, first_prints = splits[0]
    for labels, prints in splits[1:]:
        if not np.array_equal(labels, first_labels):
            return False
        if prints is not None and first_prints is not None and not np.array_equal(
                prints, first_prints):
            return False
    return True
