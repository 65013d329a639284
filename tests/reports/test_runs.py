"""What pages say of runs: title, status, settings that apply, differences, warnings."""

import numpy as np
import pytest

from evaluation import metrics
from evaluation.codes import checked_codes
from methods.table import resolve
from reports import runs

CODES = checked_codes(
    np.array([[1, 1, 1], [1, 1, -1], [1, -1, -1], [1, -1, 1]]), np.array([0, 0, 1, 1]),
    np.array([[1, 1, 1], [1, -1, -1], [1, 1, 1]]), np.array([0, 1, 1]))


def settings(**values):
    return resolve(values)[0].to_dict()


def compared(name, codes=CODES, values=None, **provenance):
    return runs.ComparedRun(name, metrics.evaluate_codes(codes), codes,
                            settings(**(values or {})), provenance)


def test_only_settings_that_apply():
    network = runs.applicable_settings(settings())
    assert "learning_rate" in network and "multi_scale" in network
    assert list(network) == [name for name in settings() if name in network]
    assert "quantization_target" not in runs.applicable_settings(
        settings(quantization_weight=0.0))
    assert "multi_scale" not in runs.applicable_settings(settings(method="ddh"))
    projection = runs.applicable_settings(settings(method="itq"))
    assert set(projection) == {"dataset_flag", "data_dir", "method", "num_bits", "seed",
                               "unseen_split"}
    on_features = runs.applicable_settings(settings(method="feature_itq", features_of="run"))
    assert set(on_features) == {*projection, "features_of", "encode_batch_size"}
    assert runs.applicable_settings({}) == {}


@pytest.mark.parametrize("flag, title", [
    (2, "ORL faces"), ("2", "ORL faces"), ("orl", "ORL faces"), (1, "FaceScrub"),
    ("myfaces", "myfaces")])
def test_title(flag, title):
    settings = dict(dataset_flag=flag, method="itq", seed=3)
    assert runs.run_title(settings, "12 bits").split(" \u00b7 ") == [
        "ITQ on pixels", title, "12 bits", "seed 3"]
    assert runs.run_title({}, "12 bits") == "12 bits"
    for method, expected in (("dcbh", "DCBH, tuned"), ("itq", "ITQ on pixels")):
        assert runs.method_title(dict(method=method, recipe="tuned")) == expected


@pytest.mark.parametrize("ended_by, epochs_done, method, parts", [
    ("finished", 4, "dcbh", None),
    (None, 20, "dcbh", None),  # the page is written before the end is noted
    (None, 0, "itq", None),  # a projection has no epochs
    (None, 4, "dcbh", ["4 of 20"]),
    ("stopped by SIGTERM", 4, "dcbh", ["SIGTERM", "4 of 20"]),
    ("error: epoch 5, step 2: nan", 4, "dcbh", ["4 of 20", "epoch 5, step 2: nan"])])
def test_status(ended_by, epochs_done, method, parts):
    history = [dict(epoch=float(epoch)) for epoch in range(1, epochs_done + 1)]
    status = runs.status(runs.RunRecord(settings(method=method), [dict(ended_by=ended_by)],
                                        history))
    assert bool(status) == bool(parts)
    for part in parts or ():
        assert part in status
    assert runs.status(runs.RunRecord({}, [], [])) == ""


def test_differences_name_settings_and_versions_alone():
    rows = dict(runs.differences([
        compared("a", values=dict(seed=1, encode_batch_size=2, learning_rate=0.1),
                 tensorflow="1.14.0", python="3.7"),
        compared("b", values=dict(seed=2), tensorflow="2.21.0", python="3.7"),
        compared("c", values=dict(seed=2, method="itq"), tensorflow=None)]))
    assert rows["seed"] == ["1", "2", "2"]
    assert rows["TensorFlow"] == ["1.14.0", "2.21.0", "not used"]
    assert rows["Python"] == ["3.7", "3.7", "unknown"]
    assert rows["method"] == ["dcbh", "dcbh", "itq"]
    assert "learning_rate" not in rows  # does not affect ITQ, whose method differs
    assert "num_bits" not in rows and "encode_batch_size" not in rows and "numpy" not in rows
    assert runs.differences([compared("a"), compared("b")]) == []


def test_warnings_where_galleries_or_data_differ():
    other = CODES._replace(gallery_labels=np.array([0, 1, 1, 1]))
    prints = CODES._replace(gallery_fingerprints=np.arange(4), query_fingerprints=np.arange(3))
    moved = prints._replace(query_fingerprints=np.arange(3) + 9)
    assert runs.data_warnings([compared("a"), compared("b"), compared("c", prints)]) == []
    assert len(runs.data_warnings([compared("a"), compared("b", other)])) == 1
    assert len(runs.data_warnings([compared("a", prints), compared("b", moved)])) == 1
    assert len(runs.data_warnings([compared("a", data="12"), compared("b", data="34")])) == 1
    warning, = runs.data_warnings([compared("a"), compared("b", values=dict(dataset_flag=1))])
    assert "FaceScrub" in warning and "ORL faces" in warning


def test_compared_run_takes_cost_from_the_run(tmp_path):
    (tmp_path / "results.json").write_text('{"mAP": 0.1, "training_seconds": 12.5}')
    run = runs.compared_run(tmp_path, metrics.evaluate_codes(CODES), CODES)
    assert run.evaluation.results["training_seconds"] == 12.5
    assert run.evaluation.results["mAP"] == metrics.evaluate_codes(CODES).results["mAP"]
    assert run.settings == {} and run.provenance == {}
