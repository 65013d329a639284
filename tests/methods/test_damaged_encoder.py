"""An encoder.json that export_encoder did not write is refused before anything is built of it."""

import json

import numpy as np
import pytest

from config import Config
from methods.export import Encoder
from runtime.errors import UserError
from runtime.output_folder import OutputFolder


def write_encoder(path, settings=None, **changes):
    """An exported encoder of ITQ at 8 bits; None removes a field."""
    settings = dict(Config.recorded(dict(method="itq", num_bits=8)).to_dict(), **(settings or {}))
    values = dict(dict(format=1, method="itq", num_bits=8, dataset="orl", identities=None,
                       crop=None, embedding=None, inputs="images", mean=100.0, std=50.0,
                       pixel_range=[0.0, 255.0], settings=settings), **changes)
    folder = OutputFolder.create(path, "encoder")
    folder.write_arrays("projection.npz", mean=np.zeros(3072), columns=np.ones((3072, 8)))
    folder.write_text("encoder.json", json.dumps(
        {name: value for name, value in values.items() if value != "missing"}))
    folder.unlock()


def test_a_whole_one_encodes(tmp_path):
    write_encoder(tmp_path / "encoder")
    with Encoder.open(tmp_path / "encoder") as encoder:
        assert encoder.encode(np.zeros((2, 32, 32, 3), np.uint8)).tolist() == [[-1] * 8] * 2


@pytest.mark.parametrize("changes, field", [
    (dict(settings=dict(method="feature_itq")), "network_settings"),
    (dict(settings=dict(method="nonesuch")), "nonesuch"),
    (dict(settings=dict(num_bits=0)), "num_bits"), (dict(num_bits=0), "num_bits"),
    (dict(num_bits=16), "num_bits"), (dict(num_bits=True), "num_bits"),
    (dict(pixel_range=[]), "pixel_range"), (dict(pixel_range=[255.0, 0.0]), "pixel_range"),
    (dict(pixel_range=[0.0, "white"]), "pixel_range"), (dict(pixel_range="missing"), "pixel_range"),
    (dict(std=-1.0), "std"), (dict(mean="100"), "mean"), (dict(inputs="embeddings"), "inputs"),
    (dict(format=2), "version"), (dict(crop=[]), "crop"),
], ids=str)
def test_a_damaged_one_is_refused(tmp_path, changes, field):
    write_encoder(tmp_path / "encoder", **changes)
    with pytest.raises(UserError, match=field) as refusal:
        Encoder.open(tmp_path / "encoder")
    assert "--export" in str(refusal.value)


def test_numbers_that_no_float_holds(tmp_path):
    write_encoder(tmp_path / "encoder")
    path = tmp_path / "encoder/encoder.json"
    path.write_text(path.read_text().replace("100.0", "1e999"))
    with pytest.raises(UserError, match="1e999"):
        Encoder.open(tmp_path / "encoder")
