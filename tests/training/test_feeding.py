"""Batches: the same pictures for the same seed, whoever reads them."""

from dataclasses import replace

import pytest
import torch

import naspix
from naspix.models.recipes import recipe_of
from naspix.training import open_splits
from naspix.training.feeding import Augmented, EpochBatches, Fitted, seed_of

DESCRIPTION = replace(recipe_of("resnet18").description, categories=("a", "b", "c"))


def test_validation_sees_what_load_images_makes(colours):
    view = open_splits("folder", colours).val
    model = naspix.load_model("resnet18", weights=None)
    image, label = Fitted(view, DESCRIPTION)[4]
    expected = model.load_images(colours / view.ids[4])[0]
    torch.testing.assert_close(image, expected, rtol=0, atol=0)
    assert label == view.labels[4]


def test_crops_depend_on_seed_epoch_and_picture_alone(colours):
    view = open_splits("folder", colours).train
    pictures = Augmented(view, DESCRIPTION, seed=3)
    first = pictures[0, 5][0]
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(pictures[0, 5][0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (3, 224, 224)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert not torch.equal(pictures[1, 5][0], first)
    assert not torch.equal(Augmented(view, DESCRIPTION, seed=4)[0, 5][0], first)
    plain = Augmented(view, DESCRIPTION, seed=3, augment=False)
    assert torch.equal(plain[0, 5][0], Fitted(view, DESCRIPTION)[5][0])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("n", "batch_size"), [(50, 8), (50, 64), (7, 7), (7, 3)])
def test_processes_share_each_batch(n, batch_size, world):
    alone = EpochBatches(n, batch_size, seed=1)
    shares = [EpochBatches(n, batch_size, seed=1, rank=r, world=world) for r in range(world)]
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
    batches = EpochBatches(20, 20, seed=0)
    (first,) = batches
    assert sorted(index for _, index in first) == list(range(20))
    batches.epoch = 1
    (second,) = batches
    assert [index for _, index in second] != [index for _, index in first]
    assert {epoch for epoch, _ in second} == {1}


def test_seeds_are_far_apart():
    seeds = {seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert min(seeds) > 2**30
