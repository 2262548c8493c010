"""Image classifiers of transformers, tiny and random: their logits, their pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
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
    images = model.load_images([picture])
    ours = model.standardize(images)
    if kind == "bgr":
        ours = ours.flip(1)
    torch.testing.assert_close(ours, pixels, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        expected = network(pixel_values=pixels).logits
        got = model(images)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def _image_processors() -> list[type]:
    """Those of all architectures that classify images, in the release that is installed."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS,
    )

    found = {
        name
        for architecture in CLASSIFIERS
        for name in dict(IMAGE_PROCESSOR_MAPPING_NAMES.get(architecture) or {}).values()
    }
    return [
        getattr(transformers, name) for name in sorted(found) if name != "TimmWrapperImageProcessor"
    ]


NO_PICTURES = ("ImageGPT", "Siglip2")  # colours' numbers and patches
SIZES = [(451, 300), (300, 451), (224, 224), (97, 64), (640, 333)]


def _photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return [small.resize(size, Image.Resampling.BICUBIC) for size in SIZES]


def _assert_alike(processor, photos: list[Image.Image]) -> None:
    model = naspix.wrap_huggingface(_resnet(), processor)
    images = getattr(processor, "image_processor", processor)
    for photo in photos:
        expected = images(images=photo, return_tensors="pt")["pixel_values"].float()
        got = model.standardize(model.load_images(photo))
        got = got.flip(1) if isinstance(model.network, naspix.models.huggingface._Flipped) else got
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", _image_processors(), ids=lambda kind: kind.__name__)
def test_every_image_processor_is_met(kind):
    if kind.__name__.startswith(NO_PICTURES):
        with pytest.raises(InputError, match=r"not a picture \(1, 3, H, W\)|Clusters must be"):
            naspix.wrap_huggingface(_resnet(), kind())
        return
    _assert_alike(kind(), _photos())


@pytest.mark.parametrize("margin", [1, 3, 5, 7])
def test_crops_with_odd_margins(margin):
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE + margin}, crop_size={"height": SIDE, "width": SIDE}
    )
    _assert_alike(processor, _photos())


def test_a_processor_of_timm():
    network = timm.create_model("test_resnet")
    _assert_alike(transformers.TimmWrapperImageProcessor(network.pretrained_cfg), _photos())


def test_a_processor_of_texts_and_images():
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}
    )
    _assert_alike(SimpleNamespace(image_processor=images, tokenizer=None), _photos())


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
    with pytest.raises(InputError, match=r"the processor fails on a photo: Size must"):
        naspix.wrap_huggingface(_vit(), processor)
    with pytest.raises(InputError, match="more to colours than to scale and shift"):
        naspix.wrap_huggingface(_vit(), _Solarising())


class _Solarising:
    def __call__(self, images: Image.Image, return_tensors: str) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None] / 255
        return {"pixel_values": pixels**2}
