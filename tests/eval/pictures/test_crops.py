"""Crops as a file: the same box of every panel comes back, and nothing but pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from eval.pictures.crops import read_crops, write_crops
from sr_models.errors import InputError


def test_the_box_of_every_panel_comes_back(tmp_path):
    images = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8) for i in range(2)]
    panels = [("edsr × l1", images[0], "30.00 dB"), ("HR", images[1], "")]
    write_crops(tmp_path / "c.json", benchmark="Set5", scale=2, panels=panels, box=(3, 5, 24, 20))
    found = read_crops(tmp_path / "c.json")
    assert (found["set"], found["scale"]) == ("Set5", 2)
    assert [(p["label"], p["scores"]) for p in found["panels"]] == [("edsr × l1", "30.00 dB"), ("HR", "")]
    for panel, image in zip(found["panels"], images, strict=True):
        read = np.array(Image.open(io.BytesIO(base64.b64decode(panel["png"]))))
        assert np.array_equal(read, image[3:27, 5:25])


@pytest.mark.parametrize(
    "content",
    ["{", "{}", '{"set": "a", "scale": 2, "panels": [{"label": "a", "scores": "", "png": "PHN2Zz4="}]}', "[]"],
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(InputError, match="holds no crops"):
        read_crops(tmp_path / "c.json")
