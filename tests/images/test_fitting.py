"""What of a photo an image shows, in words; the arithmetic is tested where pixels are read."""

import numpy as np
import pytest
import torch

import naspix
from naspix.images.fitting import fit


@pytest.mark.parametrize(
    ("photo", "size", "resize", "crop_pct", "words"),
    [
        ((300, 451), (224, 224), "crop", 1.0,
         "the middle 301 x 300 of 451 x 300 pixels, at 224 x 224"),
        ((300, 451), (224, 224), "crop", 0.5,
         "the middle 150 x 150 of 451 x 300 pixels, at 224 x 224"),
        ((224, 224), (224, 224), "crop", 1.0, "all of its 224 x 224 pixels, as they are"),
        ((448, 448), (224, 224), "crop", 1.0, "all of its 448 x 448 pixels, at 224 x 224"),
        ((300, 451), (224, 224), "squash", 1.0,
         "all of its 451 x 300 pixels, squashed into 224 x 224"),
        ((200, 400), (100, 200), "squash", 1.0, "all of its 400 x 200 pixels, at 200 x 100"),
        ((100, 200), (224, 224), "pad", 1.0,
         "all of its 200 x 100 pixels, as 224 x 112 in the middle of 224 x 224"),
        ((300, 451), (224, 224), None, 1.0, "all of its 451 x 300 pixels, as they are"),
    ],
)  # fmt: skip
def test_words(photo, size, resize, crop_pct, words):
    assert fit(photo, size, resize, crop_pct).told(photo) == words


def test_explanations_say_it_of_every_kind_of_source(tmp_path):
    from PIL import Image

    model = naspix.wrap_model(
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        ),
        input_size=20,
    )
    array = np.zeros((40, 20, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png")
    ways = {"method": "vanilla_gradient", "segmenter": "grid"}
    for source in (array, tmp_path / "photo.png", [array, array]):
        found = naspix.explain(model, source, **ways)
        assert set(found.fittings) == {"the middle 20 x 20 of 20 x 40 pixels, at 20 x 20"}
    assert naspix.explain(model, torch.rand(1, 3, 20, 20), **ways).fittings == ()
