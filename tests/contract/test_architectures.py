"""NAS on the architectures people bring, with random weights: one contract for all of them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import naspix

# name -> side of the picture; what cannot take a small one gets its own size
ARCHITECTURES = {
    "vgg11_bn": 96,
    "vgg16": 96,
    "resnet18": 96,
    "resnet50": 96,
    "densenet121": 96,
    "mobilenet_v3_small": 96,
    "efficientnet_b0": 96,
    "regnet_y_400mf": 96,
    "convnext_tiny": 96,
    "swin_t": 96,
    "timm/resnet18": 96,
    "timm/convnext_atto": 96,
    "timm/mobilenetv3_small_050": 96,
    "timm/vit_tiny_patch16_224": 224,
    "timm/swin_tiny_patch4_window7_224": 224,
    "efficientnet_lite0": 96,
}


def photos(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 7, 7, generator=generator)
    return functional.interpolate(coarse, size=(side, side), mode="bilinear")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nas_segments_with_every_architecture(name):
    torch.manual_seed(0)
    model = naspix.load_model(name, weights=None)
    side = ARCHITECTURES[name]
    images = photos(side)
    nas = naspix.NAS(model, n_clusters=4)
    seg = nas(images)

    assert seg.clusters.shape == seg.superpixels.shape == (2, side, side)
    assert seg.clusters.dtype == seg.superpixels.dtype == torch.int64
    for clusters, superpixels in zip(seg.clusters, seg.superpixels, strict=True):
        assert clusters.unique().tolist() == list(range(4))
        sizes = clusters.flatten().bincount().tolist()
        assert sizes == sorted(sizes, reverse=True)
        assert superpixels.unique().tolist() == list(range(int(superpixels.max()) + 1))
    assert nas(images) == seg  # the same again

    # one by one: convolutions of one photo and of two round differently, so a few pixels on
    # boundaries may change sides
    alone = torch.cat([nas(images[index : index + 1]).clusters for index in range(2)])
    assert float((alone == seg.clusters).float().mean()) > 0.98
