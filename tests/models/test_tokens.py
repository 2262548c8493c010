"""Where tokens lie: shown by changing the image, in whatever order a network keeps them."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from networks import HubLikeViT
from torch import Tensor, nn

import naspix
from naspix.errors import ActivationError
from naspix.models.codes import Codes, find_order, mixtures, stripes
from naspix.models.grids import Layout
from naspix.models.outputs import first_tensor
from naspix.models.tokens import Layouts, show_layouts

GRID, WIDTH = (6, 5), 12  # of patches of 8 pixels, and a token's width
FRAME = (48, 40)


class Sequence(nn.Module):
    """Patches put into some order, with tokens that are no patch among them; then a block."""

    def __init__(self, place: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.place = place
        self.tokens, self.block = (
            nn.Identity(),
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)),
        )
        self.sum, self.head = nn.Identity(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(self.place(self.patches(x).flatten(2).mT))
        x = self.sum(x + self.block(x) + x.mean(1, keepdim=True))
        return self.head(x.mean(1))


def _blank(tokens: Tensor, n: int = 1) -> Tensor:
    return torch.ones(len(tokens), n, WIDTH)


def _serpentine(tokens: Tensor) -> Tensor:
    rows = tokens.unflatten(1, GRID).clone()
    rows[:, 1::2] = rows[:, 1::2].flip(2)
    return rows.flatten(1, 2)


PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "row by row": lambda x: x,
    "class token first": lambda x: torch.cat([_blank(x), x], 1),
    "registers last": lambda x: torch.cat([x, _blank(x, 4)], 1),
    "class token in the middle": lambda x: torch.cat([x[:, :14], _blank(x), x[:, 14:]], 1),
    "column by column": lambda x: x.unflatten(1, GRID).transpose(1, 2).flatten(1, 2),
    "from the bottom": lambda x: x.flip(1),
    "serpentine": _serpentine,
    "window by window": lambda x: x.unflatten(1, (3, 2, 5)).permute(0, 1, 3, 2, 4).flatten(1, 3),
    "at random": lambda x: x[:, torch.randperm(30, generator=torch.Generator().manual_seed(3))],
}


@pytest.mark.parametrize("place", PLACES)
def test_every_order_is_found(place: str) -> None:
    torch.manual_seed(0)
    network = Sequence(PLACES[place]).eval()
    images = torch.randn(2, 3, *FRAME)
    seen: dict[str, Tensor] = {}
    network.tokens.register_forward_hook(lambda m, i, o: seen.update(tokens=o))
    expected = network.patches(images)
    shown = show_layouts(network, network, images)
    network(images)
    found = {output.module: layout for output, layout in shown.items()}
    assert isinstance(found["tokens"], Layout), found
    assert torch.equal(found["tokens"].read(seen["tokens"]), expected)
    assert found["sum"] == found["block.0"] == found["tokens"]
    back = found["tokens"].write(found["tokens"].read(seen["tokens"]), seen["tokens"])
    assert torch.equal(back, seen["tokens"])


def test_an_order_of_their_own_is_what_a_user_gets() -> None:
    torch.manual_seed(0)
    network = Sequence(PLACES["class token in the middle"])
    model = naspix.wrap_model(network, input_size=FRAME, levels=["tokens", "sum"])
    images = torch.rand(2, 3, *FRAME)
    with torch.no_grad():
        expected = network.patches(model.standardize(images))
    assert torch.equal(model.activations(images, "tokens")[0], expected)
    maps = naspix.saliency.GradCAM(model, layer="sum")(images, 1)
    assert maps.shape == (2, *FRAME)


def test_what_cannot_be_told_is_refused() -> None:
    """Tokens that all see the whole image alike lie nowhere."""

    class Mixed(Sequence):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).mT
            return self.head(self.sum(self.tokens(x.mean(1, keepdim=True).expand_as(x))).mean(1))

    model = naspix.wrap_model(Mixed(lambda x: x), input_size=FRAME)
    with pytest.raises(ActivationError, match=r"level 'tokens' cannot be laid over the images"):
        model.activations(torch.rand(1, 3, *FRAME), "tokens")


def test_a_shuffled_order_is_not_borne_out_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = [stripes(side, 8) for side in FRAME]
    codes = Codes.of(GRID, (8, 8), patterns)
    for _ in range(200):
        noise = torch.randn(30, codes.of_cells().shape[1], generator=generator)
        assert find_order(noise, codes) is None


def test_mixtures_are_made_of_two_images() -> None:
    pair = torch.stack([torch.zeros(3, *FRAME), torch.ones(3, *FRAME)])
    images = mixtures(pair, [stripes(side, 8) for side in FRAME])
    assert images.shape == (2 + 3 + 3, 3, *FRAME)
    codes = Codes.of(GRID, (8, 8), [stripes(side, 8) for side in FRAME]).of_cells()
    assert len({tuple(code.tolist()) for code in codes}) == 30


@pytest.mark.parametrize("last", [False, True])
def test_channels_as_many_as_rows_and_columns(last: bool) -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.norm = nn.Conv2d(3, 6, 8, 8), nn.LayerNorm(6)
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x)
            x = self.norm(x.permute(0, 2, 3, 1))
            return self.same(x if last else x.permute(0, 3, 1, 2)).flatten(2).mean(2)

    torch.manual_seed(0)
    network = Square()
    model = naspix.wrap_model(network, input_size=48, levels=["norm", "same"])
    images = torch.rand(2, 3, 48, 48)
    norm, same = model.activations(images, ["norm", "same"])
    with torch.no_grad():
        expected = network.norm(network.patches(model.standardize(images)).permute(0, 2, 3, 1))
    assert torch.equal(norm, expected.permute(0, 3, 1, 2))
    assert torch.equal(same, norm)


def test_one_look_a_network_whatever_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def counting(*args: Any) -> Any:
        looks.append(args)
        return show_layouts(*args)

    monkeypatch.setattr("naspix.models.tokens.show_layouts", counting)
    model = naspix.wrap_model(HubLikeViT(n_prefix=1))
    for frame in ((64, 64), (64, 40), (24, 72), (64, 64)):
        (found,) = model.activations(torch.rand(2, 3, *frame), [4])
        assert found.shape[2:] == (frame[0] // 8, frame[1] // 8)
    assert len(looks) == 1
    assert Layouts.of(model.network) is Layouts.of(model.network)


# the smallest members of families that timm can ask for intermediate maps
TIMM = (
    "cait_xxs24_224",
    "convit_tiny",
    "crossvit_tiny_240",
    "davit_tiny",
    "deit_tiny_distilled_patch16_224",
    "efficientvit_m0",
    "eva02_tiny_patch14_224",
    "hiera_tiny_224",
    "levit_128s",
    "mixer_s32_224",
    "mvitv2_tiny",
    "pit_ti_224",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "tiny_vit_5m_224",
    "twins_svt_small",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)
REFUSED = {"levit_128s": 1}  # untrained, its last stage is the same for all images


@pytest.mark.parametrize("name", TIMM)
def test_maps_are_those_that_timm_makes_itself(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=3).eval()
    size = network.pretrained_cfg["input_size"][1]
    images = torch.randn(2, 3, size, size)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: object, output: object) -> None:
            tensor = first_tensor(output)
            if tensor is not None and tensor.ndim in (3, 4) and len(tensor) == 2:
                seen[name] = tensor

        return hook

    handles = [each.register_forward_hook(keep(key)) for key, each in network.named_modules()]
    with torch.no_grad():
        theirs = network.forward_intermediates(images, intermediates_only=True)
    for handle in handles:
        handle.remove()
    ours = {}
    for key, tensor in seen.items():
        try:
            layout = Layouts.of(network).find(network, key, tensor, images, network)
        except ActivationError:
            continue
        ours[key] = layout.read(tensor)
    found = 0
    for expected in theirs:
        alike = [one for one in ours.values() if one.shape == expected.shape]
        found += any(torch.allclose(one, expected, atol=1e-5) for one in alike)
        values = expected.abs().sum(1).flatten(1).sort().values
        for one in alike:  # the same values are never elsewhere
            if torch.allclose(one.abs().sum(1).flatten(1).sort().values, values, atol=1e-4):
                assert torch.allclose(one, expected, atol=1e-4)
    assert found == len(theirs) - REFUSED.get(name, 0)
