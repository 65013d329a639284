"""Templates and pictures of pages."""

import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from reports.html import data_url, render


def decoded(address, kind):
    head, _, text = address.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_text_is_escaped_and_a_missing_value_is_an_error(tmp_path):
    (tmp_path / "page.html").write_text("{% include 'part.html' %}{{ name }}")
    (tmp_path / "part.html").write_text("<p>")
    assert render(tmp_path / "page.html", name="<b>&") == "<p>&lt;b&gt;&amp;\n"
    with pytest.raises(jinja2.UndefinedError):
        render(tmp_path / "page.html")


def test_arrays_become_lossless_pictures():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)
    grey = np.repeat(image[..., :1], 3, axis=2)
    for array in (image, grey):
        np.testing.assert_array_equal(decoded(data_url(array), "png").convert("RGB"), array)
    assert len(data_url(grey)) < len(data_url(image))


def test_jpeg_and_bytes_of_a_file():
    address = data_url(np.full((8, 8, 3), 200, np.uint8), jpeg_quality=85)
    picture = decoded(address, "jpeg")
    assert abs(np.asarray(picture).astype(int) - 200).max() <= 3
    assert data_url(base64.b64decode(address.partition(",")[2])) == address
