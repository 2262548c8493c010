"""Tokens and channels-last outputs as maps: what fits, what does not, what would be a guess."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import HubLikeViT

import naspix
from naspix.errors import ActivationError
from naspix.models.grids import Layout, TokenHints, readings


@pytest.mark.parametrize(
    ("shape", "frame", "hints", "layout"),
    [
        ((2, 197, 8), (224, 224), TokenHints(prefix=1), Layout(prefix=1, grid=(14, 14))),
        ((2, 201, 8), (224, 224), TokenHints(prefix=5), Layout(prefix=5, grid=(14, 14))),
        ((2, 196, 8), (224, 224), TokenHints(prefix=1), Layout(grid=(14, 14))),  # CaiT's blocks
        ((2, 141, 8), (224, 160), TokenHints(prefix=1), Layout(prefix=1, grid=(14, 10))),
        ((2, 141, 8), (160, 224), TokenHints(prefix=1), Layout(prefix=1, grid=(10, 14))),
        ((2, 49, 8), (224, 224), TokenHints(patch=(4, 4)), Layout(grid=(7, 7))),  # merged thrice
        ((2, 32, 8), (64, 32), TokenHints(patch=(16, 4)), Layout(grid=(4, 8))),  # oblong patches
        ((2, 24, 7, 7), (224, 224), TokenHints(), Layout()),
        ((2, 7, 7, 24), (224, 224), TokenHints(), Layout(channels_last=True)),
        ((2, 7, 10, 24), (224, 320), TokenHints(), Layout(channels_last=True)),
        ((2, 7, 7, 7), (224, 224), TokenHints(), Layout()),
        ((2, 24, 9, 13), (97, 130), TokenHints(), Layout()),  # neither fits well: as torch has it
    ],
)
def test_layouts(
    shape: tuple[int, ...], frame: tuple[int, int], hints: TokenHints, layout: Layout
) -> None:
    assert readings(shape, 2, frame, hints)[0] == layout


@pytest.mark.parametrize(
    ("shape", "frame", "hints", "said"),
    [
        ((2, 187, 8), (224, 224), TokenHints(), "187 tokens, which fit no grid"),
        ((2, 187, 8), (224, 224), TokenHints(prefix=1), "besides 1 class or register"),
        ((2, 1, 8), (224, 224), TokenHints(), "fit no grid"),
        ((2, 8), (224, 224), TokenHints(), "no spatial map: its output is 2 x 8"),
        ((2, 3, 4, 5, 6), (224, 224), TokenHints(), "no spatial map"),
        ((98, 49, 8), (224, 224), TokenHints(), "for a batch of 2"),  # windows of attention
    ],
)
def test_what_fits_no_grid_is_an_error(
    shape: tuple[int, ...], frame: tuple[int, int], hints: TokenHints, said: str
) -> None:
    with pytest.raises(ActivationError, match=said):
        readings(shape, 2, frame, hints)


def test_several_readings_are_listed_the_likeliest_first() -> None:
    frame = (224, 160)  # 9 tokens: 3 x 3 with the last patches cut off, or 1 and 4 x 2
    assert {one.grid for one in readings((1, 9, 8), 1, frame, TokenHints(prefix=1))} == {
        (4, 2),
        (3, 3),
    }
    told = readings((1, 9, 8), 1, frame, TokenHints(prefix=1, patch=(56, 80)))
    assert told[0] == Layout(prefix=1, grid=(4, 2))
    both = readings((1, 7, 7, 7), 1, (224, 224), TokenHints())
    assert [one.channels_last for one in both] == [False, True]


def test_tokens_that_are_not_declared_are_readings_at_last() -> None:
    (found,) = readings((1, 197, 8), 1, (224, 224), TokenHints())
    assert found == Layout(prefix=1, grid=(14, 14))
    assert readings((1, 196, 8), 1, (224, 224), TokenHints())[0] == Layout(grid=(14, 14))


@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    prefix=st.integers(0, 3),
    kind=st.sampled_from(["tokens", "first", "last"]),
)
def test_writing_what_was_read_changes_nothing(
    grid: tuple[int, int], prefix: int, kind: str
) -> None:
    h, w = grid
    if kind == "tokens":
        layout, output = Layout(prefix=prefix, grid=grid), torch.randn(2, prefix + h * w, 3)
        # row by row: the token at row i and column j stands at prefix + i * w + j
        assert torch.equal(layout.read(output)[:, :, h - 1, 0], output[:, prefix + (h - 1) * w])
    else:
        layout, output = Layout(channels_last=kind == "last"), torch.randn(2, h, w, 3)
    assert torch.equal(layout.write(layout.read(output), output), output)


@pytest.mark.parametrize("n_prefix", [1, 5])
@pytest.mark.parametrize("frame", [(64, 64), (64, 40), (24, 72)])
def test_class_and_register_tokens_are_dropped(n_prefix: int, frame: tuple[int, int]) -> None:
    model = naspix.wrap_model(HubLikeViT(n_prefix=n_prefix))
    (found,) = model.activations(torch.rand(2, 3, *frame), [4])
    assert found.shape == (2, 16, frame[0] // 8, frame[1] // 8)


def test_hints_are_read_from_attributes_before_names() -> None:
    network = HubLikeViT(n_prefix=3)
    assert TokenHints.of(network) == TokenHints(prefix=3, patch=(8, 8))  # a convolution's stride
    network.num_prefix_tokens = 2
    network.patch_size = (4, 2)
    assert TokenHints.of(network) == TokenHints(prefix=2, patch=(4, 2))
