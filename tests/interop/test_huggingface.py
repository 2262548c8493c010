"""Image classifiers of transformers, tiny and random: their logits, their pictures."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

import naspix
from naspix.errors import InputError

SIDE = 32


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32,
        image_size=SIDE, patch_size=8, id2label={0: "cat", 1: "dog", 2: "tree"},
        label2id={"cat": 0, "dog": 1, "tree": 2},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def _resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        num_labels=5,
    )  # fmt: skip
    return transformers.ResNetForImageClassification(config)


@pytest.fixture(params=[_vit, _resnet], ids=["vit", "resnet"])
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return request.param().eval()


@pytest.fixture
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return small.resize((66, 66), Image.Resampling.BICUBIC)


PROCESSORS = {
    "squash": lambda: transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}),
    "crop": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}
    ),
    "levit": lambda: transformers.LevitImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ),
    "deit": lambda: transformers.DeiTImageProcessor(
        size={"height": 40, "width": 40}, crop_size={"height": SIDE, "width": SIDE}
    ),
    "share": lambda: transformers.ConvNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_pct=0.8
    ),
    "offset": lambda: transformers.EfficientNetImageProcessor(
        size={"height": SIDE, "width": SIDE}, rescale_factor=1 / 127.5, rescale_offset=True,
        do_normalize=False, include_top=False,
    ),
    "twice": lambda: transformers.EfficientNetImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_std=[0.5, 0.4, 0.3]
    ),
    "bgr": lambda: transformers.MobileViTImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pictures_and_logits_are_those_of_the_processor(network, picture, kind):
    processor = PROCESSORS[kind]()
    model = naspix.wrap_huggingface(network, processor)
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].float()
    assert model.input_size == tuple(pixels.shape[-2:])
    resize = "squash" if kind in ("squash", "offset", "twice") else "crop"
    images = model.load_images([picture], resize=resize)
    ours = model.standardize(images)
    if kind == "bgr":
        ours = ours.flip(1)
    # resized by PIL here and by torchvision there: a level of 255 or two
    spread = float(model.std.reciprocal().max())
    assert (ours - pixels).abs().mean() < 0.012 * spread
    with torch.no_grad():
        expected = network(pixel_values=pixels).logits
        exact = network(pixel_values=ours).logits
        got = model(images)
    torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-5)
    assert (got - expected).abs().max() < 0.1 * expected.abs().max() + 0.02


def test_names_come_from_the_configuration():
    model = naspix.wrap_huggingface(_vit(), PROCESSORS["squash"]())
    assert model.categories == ("cat", "dog", "tree")
    assert model.name == "ViTForImageClassification"
    assert naspix.wrap_huggingface(_vit(), PROCESSORS["squash"](), name="mine").name == "mine"


def test_it_can_be_explained(network):
    model = naspix.wrap_huggingface(network, PROCESSORS["squash"]())
    images = torch.rand(2, 3, SIDE, SIDE)
    explanation = naspix.explain(model, images, method=["smoothgrad", "vanilla_gradient"])
    assert explanation.pooled["smoothgrad", "nas"].shape == (2, SIDE, SIDE)
    assert explanation.predictions[0][0].name in model.categories
    assert len(model.levels) >= 3


def test_what_cannot_be_wrapped_is_said():
    with pytest.raises(InputError, match="not Linear; wrap_model takes any module"):
        naspix.wrap_huggingface(nn.Linear(2, 2), PROCESSORS["squash"]())
    processor = PROCESSORS["squash"]()
    processor.size = {"longest_edge": 5}
    with pytest.raises(InputError, match="the processor's size is"):
        naspix.wrap_huggingface(_vit(), processor)
    processor = PROCESSORS["squash"]()
    processor.image_mean = None
    with pytest.raises(InputError, match="image_mean is None; three numbers"):
        naspix.wrap_huggingface(_vit(), processor)
