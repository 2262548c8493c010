"""The sets that suffice and those that are needed, held against a search written anew."""

import pytest
import torch
from torch import Tensor, nn

import naspix
from naspix.errors import InputError
from naspix.metrics import DecidingSets, deciding_sets
from naspix.targets import Contrast, Regression


class Wise(nn.Module):
    """A small network of four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.Conv2d(12, 24, 5, 2, 2), nn.ReLU()
        )
        self.head = nn.Linear(24, 4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = 30 * self.head(self.body(images).mean((2, 3)))
        return found


def wise(seed: int, output: str = "softmax") -> naspix.Classifier:
    torch.manual_seed(seed)
    return naspix.wrap_model(
        Wise(), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), input_size=24, output=output
    )


def blocks(n: int = 9) -> Tensor:
    """Labels of a grid of three by three, not in raster order."""
    names = torch.tensor([7, 3, 12, 5, 0, 9, 4, 1, 8])[:n]
    return names.view(3, 3).repeat_interleave(8, 0).repeat_interleave(8, 1)[None]


def by_hand(model: naspix.Classifier, image: Tensor, heat: Tensor, labels: Tensor) -> list[object]:
    """The same search, an image at a time, in sets of labels."""
    grey = model.mean.view(-1, 1, 1)
    n_asked = 0

    def says(shown: set[int]) -> int:
        nonlocal n_asked
        n_asked += 1
        mask = torch.tensor([[int(label) in shown for label in row] for row in labels])
        return int(model(torch.where(mask, image, grey)[None]).argmax())

    every = sorted({int(label) for label in labels.unique()})
    ranked = sorted(every, key=lambda label: -float(heat[labels == label].mean()))
    asked = says(set(every))
    found: list[object] = []
    for alone in (True, False):
        chosen: list[int] | None = None
        for size in range(len(ranked) + 1):
            some = set(ranked[:size])
            if (says(some if alone else set(every) - some) == asked) is alone:
                chosen = ranked[:size]
                break
        if chosen is None:
            found.append(None)
            continue
        for label in reversed(chosen[:-1]):
            fewer = set(chosen) - {label}
            if (says(fewer if alone else set(every) - fewer) == asked) is alone:
                chosen.remove(label)
        found.append(tuple(chosen))
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_sets_are_those_of_a_search_by_hand(seed: int, batch_size: int) -> None:
    model = wise(seed)
    images, labels = torch.rand(2, 3, 24, 24), blocks().expand(2, -1, -1)
    heat = torch.rand(2, 24, 24)
    heat = naspix.superpixelify(heat, labels)
    sets = deciding_sets(model, images, heat, labels, batch_size=batch_size)
    for image, one_heat, found in zip(images, heat, sets, strict=True):
        assert found.n_forwards <= 3 * 9
        if found.n_forwards == 3 * 9:  # where the search may have been cut short
            assert seed in (1, 4)
            continue
        sufficient, necessary = by_hand(model, image, one_heat, labels[0])
        assert found.sufficient is not None
        assert found.sufficient.superpixels == sufficient
        assert (found.necessary and found.necessary.superpixels) == necessary


def test_the_sets_do_what_they_say() -> None:
    """Most of a hundred pictures have small sets, and each is checked by asking the network."""
    model, labels = wise(3), blocks()[0]
    n_small = 0
    for image in torch.rand(20, 3, 24, 24) * torch.linspace(0.2, 1, 20)[:, None, None, None]:
        heat = naspix.saliency.GradCAM(model)(image[None])
        (found,) = deciding_sets(model, image[None], heat, labels[None])
        asked = int(model(image[None]).argmax())
        for one, keeps in ((found.sufficient, True), (found.necessary, False)):
            if one is None:
                continue
            inside = torch.isin(labels, torch.tensor(one.superpixels))
            shown = inside if keeps else ~inside
            scores = (
                model(torch.where(shown, image, model.mean.view(-1, 1, 1))[None])[0]
                .detach()
                .double()
            )
            assert int(scores.argmax()) == one.predicted
            assert (one.predicted == asked) is keeps
            assert one.probability == pytest.approx(float(scores.softmax(0)[asked]), abs=1e-5)
            assert one.share == pytest.approx(float(inside.double().mean()))
            n_small += len(one.superpixels) < 9
    assert n_small > 5


def test_a_class_that_the_image_does_not_have_has_no_sets() -> None:
    model, images = wise(0), torch.rand(1, 3, 24, 24)
    other = int(model(images)[0].argmin())
    found = deciding_sets(model, images, torch.rand(1, 24, 24), blocks(), other)
    assert found == (DecidingSets(None, None, 1),)


def test_an_image_that_is_hidden_whole_may_keep_its_class() -> None:
    model = wise(1)
    grey = model.mean.view(1, -1, 1, 1).expand(1, 3, 24, 24)
    ((sufficient, necessary),) = [
        (found.sufficient, found.necessary)
        for found in deciding_sets(model, grey, torch.rand(1, 24, 24), blocks())
    ]
    assert sufficient is not None
    assert sufficient.superpixels == ()
    assert sufficient.share == 0
    assert necessary is None


def test_contrasts_and_classes_on_their_own() -> None:
    model, images = wise(5), torch.rand(1, 3, 24, 24)
    first, second, *_ = model(images)[0].argsort(descending=True).tolist()
    heat = naspix.saliency.GradCAM(model)(images)
    (held,) = deciding_sets(model, images, heat, blocks(), Contrast(first, second))
    assert held.sufficient is not None  # kept as long as the first is above the second
    (turned,) = deciding_sets(model, images, heat, blocks(), Contrast(second, first))
    assert turned.sufficient is None
    alone = wise(5, "sigmoid")
    probability = float(alone.scores.probabilities(alone(images).detach())[0, second])
    for threshold, has in ((probability - 0.01, True), (probability + 0.01, False)):
        (found,) = deciding_sets(alone, images, heat, blocks(), second, threshold=threshold)
        assert (found.sufficient is not None) is has


def test_numbers_that_are_no_classes_are_refused() -> None:
    images, heat = torch.rand(1, 3, 24, 24), torch.rand(1, 24, 24)
    for model, target in ((wise(0, "none"), 0), (wise(0), Regression(0))):
        with pytest.raises(InputError, match="for classes only"):
            deciding_sets(model, images, heat, blocks(), target)
