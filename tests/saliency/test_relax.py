"""RELAX against the paper's formulas taken literally, and which embedding it explains."""

import pytest
import timm
import torch
from torch import Tensor, nn

import naspix
from naspix.errors import InputError
from naspix.saliency import RELAX
from naspix.saliency.rise import draw_masks, make_masks

MEAN, STD, SIZE = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25], (24, 20)


class _Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return (4 * self.convolution(x)).tanh().mean((2, 3))


class _Headed(nn.Module):
    def __init__(self, head: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head = _Body(), head
        self.after = after if after is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.body(x)))


class _Convolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = _Body(), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[:, :, None, None]).flatten(1)


class _Texts(nn.Module):
    """As CLIP: the embedding is multiplied with those of texts, and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.texts = _Body(), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        return 30 * (self.body(x) @ self.texts.T)


def _wrapped(network: nn.Module) -> naspix.Classifier:
    return naspix.wrap_model(network, mean=MEAN, std=STD, input_size=SIZE)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE)


def _literal(encoder: nn.Module, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's R and U, a pixel and a mask at a time as it writes them."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    standard = (image - mean) / std
    with torch.no_grad():
        h = encoder(standard[None])[0].double()
        alike = []
        for mask in masks:
            h_n = encoder((mask * standard)[None])[0].double()
            alike.append(h @ h_n / (h.norm() * h_n.norm()))
    n = len(masks)
    importance = sum(s * mask for s, mask in zip(alike, masks.double(), strict=True)) / n
    uncertainty = sum(
        (s - importance) ** 2 * mask for s, mask in zip(alike, masks.double(), strict=True)
    )
    return importance.float(), (uncertainty / n).float()


@pytest.mark.parametrize(
    "make",
    [
        lambda: _Headed(nn.Linear(6, 5)),
        lambda: _Headed(nn.Linear(6, 5), nn.Softmax(1)),
        lambda: _Headed(nn.Linear(6, 5), nn.LogSoftmax(1)),
        lambda: _Headed(nn.Linear(6, 5), nn.Sigmoid()),
        lambda: _Headed(nn.Linear(6, 1)),
        lambda: _Headed(nn.Linear(6, 1), nn.Sigmoid()),
        _Convolved,
        _Texts,
        lambda: _Headed(nn.Identity()),
        _Body,
    ],
)
def test_map_and_uncertainty_are_the_papers(images, make):
    network = make().eval()
    n_masks = 150  # more than a round
    method = RELAX(_wrapped(network), n_masks=n_masks, cells=4, p=0.4, seed=9, batch_size=7)
    masks = make_masks(*draw_masks(n_masks, 4, 0.4, SIZE, seed=9), SIZE)
    estimate = method.estimate(images)
    torch.testing.assert_close(method(images), estimate.map)
    for index, image in enumerate(images):
        importance, uncertainty = _literal(getattr(network, "body", network), image, masks)
        torch.testing.assert_close(estimate.map[index], importance, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(estimate.uncertainty[index], uncertainty, rtol=1e-4, atol=1e-5)


def test_the_embedding_is_what_enters_the_head(images):
    """Of one network with and without its head the map is the same."""
    whole = timm.create_model("resnet10t", num_classes=7).eval()
    with_head = RELAX(_wrapped(whole), n_masks=12)(images)
    without = timm.create_model("resnet10t", num_classes=0)
    without.load_state_dict(whole.state_dict(), strict=False)
    torch.testing.assert_close(RELAX(_wrapped(without), n_masks=12)(images), with_head)
    with torch.no_grad():
        whole.fc.weight.normal_()
    torch.testing.assert_close(RELAX(_wrapped(whole), n_masks=12)(images), with_head)


def test_a_transformer_without_a_head():
    encoder = timm.create_model(
        "vit_base_patch16_224", num_classes=0, img_size=32, embed_dim=24, depth=2, num_heads=2
    )
    images = torch.rand(1, 3, 32, 32)
    estimate = RELAX(naspix.wrap_model(encoder, input_size=32), n_masks=20).estimate(images)
    assert estimate.map.shape == estimate.uncertainty.shape == (1, 32, 32)
    assert (estimate.uncertainty >= 0).all()


@pytest.mark.parametrize(
    "target", [0, "class 0", naspix.Contrast(0, 1), lambda output: output[:, 0]]
)
def test_it_takes_no_target(images, target):
    method = RELAX(_wrapped(_Headed(nn.Linear(6, 5))), n_masks=4)
    with pytest.raises(InputError, match=r"^RELAX: .* so target is None$"):
        method(images, target)


def test_explain_asks_it_for_no_class(images):
    model = _wrapped(_Headed(nn.Linear(6, 5)))
    method = RELAX(model, n_masks=8)
    expected = method(images)
    for target in (None, 2, lambda output: output[:, 0]):
        explanation = naspix.explain(model, images, target, method=method, segmenter="grid")
        torch.testing.assert_close(explanation.raw["relax"], expected)


def test_settings_are_checked():
    model = _wrapped(_Body())
    with pytest.raises(InputError, match=r"^RELAX: n_masks"):
        RELAX(model, n_masks=0)
    with pytest.raises(InputError, match=r"^RELAX: p is a probability"):
        RELAX(model, p=0)
