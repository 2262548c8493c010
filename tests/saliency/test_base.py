"""What the methods share: contrasts, and batches that shrink where memory ends."""

import pytest
import torch
from torch import nn

import naspix
from naspix.errors import DeviceError, InputError
from naspix.models.batches import in_batches
from naspix.saliency import GradCAM, IntegratedGradients


@pytest.fixture
def model() -> naspix.Classifier:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 30, 5))
    return naspix.wrap_model(
        network, mean=[0.5] * 3, std=[0.3] * 3, input_size=(6, 5), levels=["0"]
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 6, 5)


def test_a_contrast_is_the_difference_of_two_maps_where_the_method_is_linear(model, images):
    method = IntegratedGradients(model, n_steps=3)
    negative = torch.tensor([0, 4])
    torch.testing.assert_close(
        method(images, naspix.Contrast(2, negative)), method(images, 2) - method(images, negative)
    )


def test_a_contrast_may_name_the_predicted_class(model, images):
    predicted = model(images).argmax(1)
    classes = GradCAM(model)._resolve(images, naspix.Contrast(None, 1))
    assert classes.tolist() == [[int(p), 1] for p in predicted]


def test_a_contrast_of_a_class_with_itself_says_nothing(model, images):
    assert not GradCAM(model)(images, naspix.Contrast(3, 3)).any()


@pytest.mark.parametrize("target", [(0, 5), (-1, 2), (0, torch.tensor([1]))])
def test_a_wrong_contrast_is_refused(model, images, target):
    with pytest.raises(InputError, match=r"^GradCAM: "):
        GradCAM(model)(images, naspix.Contrast(*target))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), DeviceError("memory ran out")])
def test_batches_halve_until_they_fit(error):
    asked = []

    def compute(part: slice) -> list[int]:
        asked.append(part.stop - part.start)
        if part.stop - part.start > 3:
            raise error
        return list(range(10))[part]

    assert [i for part in in_batches(compute, 10, 8) for i in part] == list(range(10))
    assert asked == [8, 4, 2, 2, 2, 2, 2]


def test_other_errors_pass_and_no_memory_at_all_is_said():
    def fail(error: Exception):
        def compute(part: slice) -> None:
            raise error

        return compute

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_batches(fail(RuntimeError("shapes differ")), 4, 4))
    with pytest.raises(DeviceError, match="single image"):
        list(in_batches(fail(torch.OutOfMemoryError("CUDA")), 4, 4))
