"""How many images pass a network at once."""

import pytest
import torch

from naspix.models.batches import batch_size_on


@pytest.mark.parametrize(
    ("device", "backwards", "expected"),
    [("cpu", False, 8), ("cpu", True, 4), ("cuda", False, 32), ("cuda", True, 32)],
)
def test_a_batch_suits_the_device_and_a_wanted_one_is_kept(device, backwards, expected):
    device = torch.device(device)
    assert batch_size_on(device, None, backwards=backwards) == expected
    assert batch_size_on(device, 5, backwards=backwards) == 5
