"""Batches: the same pictures for the same seed, whoever reads them."""

from dataclasses import replace

import pytest
import torch

import naspix
from naspix.models.recipes import recipe_of
from naspix.training import open_splits
from naspix.training.pictures import Pictures, epoch_batches, seed_of

DESCRIPTION = replace(recipe_of("resnet18").description, categories=("a", "b", "c"))


def test_validation_sees_what_load_images_makes(colours):
    view = open_splits("folder", colours).val
    model = naspix.load_model("resnet18", weights=None)
    image, label = Pictures(view, DESCRIPTION)[4]
    expected = model.load_images(colours / view.ids[4])[0]
    torch.testing.assert_close(image, expected, rtol=0, atol=0)
    assert label == view.labels[4]


def test_crops_depend_on_seed_epoch_and_picture_alone(colours):
    view = open_splits("folder", colours).train
    pictures = Pictures(view, DESCRIPTION, drawn=(3, 0))
    first = pictures[5][0]
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(pictures[5][0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (3, 224, 224)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert not torch.equal(pictures[6][0], first)
    assert not torch.equal(Pictures(view, DESCRIPTION, drawn=(3, 1))[5][0], first)
    assert not torch.equal(Pictures(view, DESCRIPTION, drawn=(4, 0))[5][0], first)
    assert not torch.equal(Pictures(view, DESCRIPTION)[5][0], first)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("n", "batch_size"), [(50, 8), (50, 64), (7, 7), (7, 3)])
def test_processes_share_each_batch(n, batch_size, world):
    alone = epoch_batches(n, batch_size, seed=1, epoch=0)
    shares = [
        epoch_batches(n, batch_size, seed=1, epoch=0, rank=rank, world=world)
        for rank in range(world)
    ]
    lengths = {len(share) for share in shares}
    assert len(lengths) == 1
    together = []
    for parts in zip(*shares, strict=True):
        assert len({len(part) for part in parts}) == 1  # all take equally many steps and pictures
        together.append([place for part in parts for place in part])
    seen = [place for batch in together for place in batch]
    assert len(set(seen)) == len(seen) <= n
    if batch_size % world == 0 and n >= batch_size:
        assert [sorted(batch) for batch in together] == [sorted(batch) for batch in alone]


def test_each_epoch_has_an_order_of_its_own():
    (first,) = epoch_batches(20, 20, seed=0, epoch=0)
    (second,) = epoch_batches(20, 20, seed=0, epoch=1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_seeds_are_far_apart():
    seeds = {seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert min(seeds) > 2**30
