"""Networks that crop their images: maps lie where they look."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2

import naspix
from naspix.errors import NaspixWarning
from naspix.models.seen import SeenPart

CROP = v2.Resize(128), v2.CenterCrop(64)  # of 224 x 224 the middle 112 x 112
INSIDE = slice(56, 168)


def _body(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "resnet":
        return torchvision.models.resnet18(num_classes=5)
    network = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4, num_classes=5)
    nn.init.normal_(network.head.weight)
    return network


def _wrap(network: nn.Module, size: int) -> naspix.Classifier:
    return naspix.wrap_model(network, input_size=size, mean=[0.5] * 3, std=[0.25] * 3)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_maps_lie_in_the_part_that_is_seen(kind: str) -> None:
    body = _body(kind)
    model = _wrap(nn.Sequential(*CROP, body), 224)
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with pytest.warns(NaspixWarning, match="crops its images, and sees only rows 55 to 169"):
        heat = naspix.saliency.GradCAMPlusPlus(model)(images, target=1)
    outside = heat.clone()
    outside[:, 55:169, 55:169] = 0
    assert not outside.any()

    # as if the images had been cropped before
    layer = model.levels[model.deepest_level].removeprefix("2.")
    cropped = nn.Sequential(*CROP)(images)
    inner = naspix.saliency.GradCAMPlusPlus(_wrap(body, 64), layer=layer)(cropped, target=1)
    expected = nn.functional.interpolate(inner[None], (112, 112), mode="bilinear")[0]
    pair = torch.stack([expected.flatten(), heat[:, INSIDE, INSIDE].flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.99

    level = model.activations(images, model.deepest_level)[0]
    h = level.shape[2] // 4
    assert level[:, :, h:-h, h:-h].any()
    level[:, :, h:-h, h:-h] = 0
    assert not level.any()


@pytest.mark.filterwarnings("ignore:Sequential crops its images")
@pytest.mark.parametrize("algorithm", ["kmeans", "ward"])
def test_what_is_not_seen_is_one_cluster(algorithm: str) -> None:
    model = _wrap(nn.Sequential(*CROP, _body("resnet")), 224)
    images = torch.rand(1, 3, 224, 224)
    clusters = naspix.NAS(model, algorithm=algorithm)(images).clusters[0]
    around = clusters.clone()
    around[55:169, 55:169] = clusters[0, 0]
    assert (around == clusters[0, 0]).all()
    assert len(clusters[INSIDE, INSIDE].unique()) >= 4
    explanation = naspix.explain(model, images, segmenter=naspix.NAS(model, algorithm=algorithm))
    (found,) = explanation.segmentations.values()
    assert torch.equal(found.clusters[0], clusters)


def test_the_doctor_says_what_is_seen() -> None:
    diagnosis = naspix.check(_wrap(nn.Sequential(*CROP, _body("resnet")), 224))
    assert diagnosis.network.seen.startswith("rows 55 to 169 and columns 55 to 169 of 224 x 224")
    assert "crops its images" in repr(diagnosis)


def test_of_oblong_images_the_part_is_another() -> None:
    model = _wrap(nn.Sequential(*CROP, _body("resnet")), 224)
    with pytest.warns(NaspixWarning, match="columns 94 to 208 of 224 x 300"):
        part = model.seen_part((224, 300))
    assert part is not None
    assert part.size == (114, 114)


def test_rectifiers_that_are_zero_hide_nothing() -> None:
    """The gradient is zero on three quarters of some images, not of all."""

    class Brightest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).amax((2, 3)))

    torch.manual_seed(0)
    assert _wrap(Brightest(), 32).seen_part() is None


def test_parts_of_cells_are_placed_too() -> None:
    part = SeenPart((256, 256), (16, 240), (0, 256))  # half a cell of 7 on each side
    placed = part.place(torch.ones(1, 1, 7, 8))
    assert placed.shape == (1, 1, 16, 8)
    assert placed[0, 0, :, 0].tolist() == [0.0] + [1.0] * 14 + [0.0]


def test_cutting_activations_at_hand_does_not_run_the_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    runs: list[object] = []
    network.register_forward_hook(lambda *_: runs.append(1))
    model = naspix.wrap_model(network, input_size=16, levels=["0"])
    nas = naspix.NAS(model, levels=["0"], n_clusters=2)
    nas.segment([torch.rand(1, 4, 8, 8)], (32, 32))
    assert runs == []
