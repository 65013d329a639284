"""Settings: defaults are the release's, and what is wrong is refused with a way out."""

import dataclasses
import json
import os

import pytest

import main
from config import DATASETS, Config, find_dataset
from methods.table import resolve
from runtime.errors import UserError
from runtime.settings import parse_value, value_types


def test_defaults_are_the_release():
    config, _ = resolve(dict(dataset_flag=1))
    assert (config.num_bits, config.block_length, config.descriptor_size) == (48, 6, 288)
    assert (config.batch_size, config.epochs, config.evaluate_every) == (256, 2000, 100)
    assert config.learning_rate == 0.001
    assert (config.quantization_weight, config.center_weight, config.weight_decay) == (
        0.1, 0.0001, 0.0)
    assert config.continue_from_best and not config.shuffle


def test_protocol_counts():
    youtube, facescrub, orl = (DATASETS[flag] for flag in (0, 1, 2))
    assert (youtube.num_identities, youtube.num_train, youtube.num_test) == (1595, 63800, 7975)
    assert (facescrub.num_identities, facescrub.num_train, facescrub.num_test) == (530, 67177, 2650)
    assert (orl.num_identities, orl.num_train, orl.num_test) == (40, 280, 120)


def test_dataset_defaults_give_way_to_what_is_set():
    assert resolve(dict(dataset_flag=2))[0].epochs == DATASETS[2].epochs
    assert resolve(dict(dataset_flag=2, epochs=3))[0].epochs == 3


@pytest.mark.parametrize("values, words", [
    (dict(num_bits=0), ["num_bits", "from 1 to 64"]),
    (dict(num_bits=65), ["num_bits", "from 1 to 64"]),
    (dict(num_bits="48"), ["num_bits", "int"]),
    (dict(num_bits=True), ["num_bits", "int"]),
    (dict(learning_rate=float("nan")), ["learning_rate", "finite"]),
    (dict(learning_rate="fast"), ["learning_rate", "float"]),
    (dict(shuffle=1), ["shuffle", "bool"]),
    (dict(seed=None), ["seed"]),
    (dict(dataset_flag=3), ["dataset_flag", "0 (YouTube Faces)", "1 (FaceScrub)", "2 (ORL"]),
    (dict(method="no_such_method"), ["method", "dcbh, ddh, dsh"]),
    (dict(hash_layer="blocks"), ["hash_layer", "divide_and_encode"]),
    (dict(codelength=6), ["codelength", "block_length"]),
])
def test_refused(values, words):
    with pytest.raises(UserError) as error:
        resolve(values)
    for word in words:
        assert word in str(error.value)


def test_a_method_changes_defaults_that_are_not_set():
    ddh, _ = resolve(dict(method="ddh", dataset_flag=0))
    assert (ddh.block_length, ddh.hash_layer, ddh.quantization_weight, ddh.quantization_target) == (
        4, "divide_and_encode", 0.01, 1.0)
    assert (ddh.center_weight, ddh.descriptor_classification_weight, ddh.weight_decay) == (
        0.0, 0.0, 0.0001)
    assert (ddh.epochs, ddh.batch_size) == (200, 256)
    assert resolve(dict(method="ddh"))[0].epochs == DATASETS[2].epochs
    changed, _ = resolve(dict(method="ddh", block_length=3, epochs=300))
    assert (changed.block_length, changed.epochs) == (3, 300)
    assert Config.from_dict(ddh.to_dict()) == ddh


def test_what_a_record_does_not_name_is_as_in_the_release():
    """A recipe's later change is none of a run that was made before the setting was there."""
    tuned = resolve(dict(recipe="tuned", method="ddh"))[0]
    record = tuned.to_dict()
    assert Config.recorded(record) == tuned and record["codeword_share"] > 0
    for name in ("codeword_share", "even_batches", "flip_averaging"):
        del record[name]
    assert Config.recorded(record) == dataclasses.replace(
        tuned, codeword_share=0.0, even_batches=False, flip_averaging=False)
    with pytest.raises(UserError, match="epoch_count"):
        Config.recorded(dict(record, epoch_count=3))


def test_settings_that_are_constants_today():
    """A run from before opens where they had the value of today, and else says what they had."""
    record = dict(Config().to_dict(), adam_epsilon=1e-8, shift=0, center_alpha=1.0)
    assert Config.recorded(record) == Config()
    with pytest.raises(UserError, match="shift.*2"):
        Config.recorded(dict(record, shift=2))


def test_a_whole_number_may_stand_for_a_float():
    assert isinstance(Config(learning_rate=1).learning_rate, float)


def test_settings_survive_json():
    config = Config(dataset_flag=2, num_bits=12, shuffle=True)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("flag", [1, "1", "facescrub"])
def test_a_data_set_by_number_text_or_name(flag, tmp_path):
    dataset = find_dataset(flag, tmp_path)
    assert dataset.train_folder == tmp_path / "train_folder_facescrub"
    assert dataset.num_identities == 530


@pytest.mark.parametrize("flag", [
    True, 1.0, -1, "", "\u00b2", "../orl", "a" * 300, "nul\0l", "x\n", "9" * 5000],
                         ids=range(10))
def test_what_names_no_data_set(flag, tmp_path):
    with pytest.raises(UserError):
        resolve(dict(dataset_flag=flag, data_dir=str(tmp_path)))


@pytest.mark.parametrize("manifest", [
    "", "5", "[]", "{}", "[" * 100000, '{"num_identities": 0, "num_train": 1, "num_test": 1}',
    '{"num_identities": 1e9, "num_train": 1, "num_test": 1}',
    '{"num_identities": 2, "num_train": 1, "num_test": 1, "crop": 3}',
    '{"num_identities": 2, "num_train": 1, "num_test": 1, "protocol": ["orl"]}',
    '{"num_identities": 2, "num_train": 1, "num_test": 1, "num_unseen_gallery": 1}',
    '{"num_identities": 2, "num_train": 1, "num_test": 1, "num_unseen_identities": 1, '
    '"num_unseen_gallery": 0, "num_unseen_queries": 1}'], ids=range(11))
def test_damaged_manifest(manifest, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="manifest.json.*prepare the data again") as refusal:
        find_dataset("mine", tmp_path)
    assert len(str(refusal.value)) < 200 + len(str(tmp_path))


def test_command_line_takes_every_setting():
    for field in dataclasses.fields(Config):
        if field.name in ("data_dir", "features_of"):  # paths, which become absolute
            continue
        sample = {bool: "true", int: "2", float: "0.5", str: "x"}
        value = getattr(resolve({})[0], field.name)
        kind = value_types(field)[0] if value is None else type(value)
        _, given, _ = main.parse_command_line(["--" + field.name, sample[kind]])
        assert given == {field.name: {bool: True, int: 2, float: 0.5, str: "x"}[kind]}
    _, given, _ = main.parse_command_line(["--data_dir", "x", "--learning_rate", "-1e-3"])
    assert given == {"data_dir": os.path.abspath("x"), "learning_rate": -1e-3}


@pytest.mark.parametrize("name, text", [
    ("shuffle", "maybe"), ("epochs", "1.5"), ("epochs", ""), ("learning_rate", "1e"),
    ("seed", "9" * 5000),
], ids=range(5))
def test_ill_typed_words(name, text):
    field = {field.name: field for field in dataclasses.fields(Config)}[name]
    with pytest.raises(UserError, match=name):
        parse_value(field, text)
