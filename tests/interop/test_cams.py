"""The other libraries' class activation maps, pooled."""

import warnings

import numpy as np
import pytest
import torch

import naspix
from naspix.errors import InputError
from naspix.interop.cams import pool_cam


def test_pytorch_grad_cam(network, images):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    seg = naspix.NAS(network, levels=(0, 1), n_clusters=3)(images)
    targets = [ClassifierOutputTarget(1), ClassifierOutputTarget(2)]
    with GradCAM(network, [network.network[2]]) as cam:
        maps = cam(images, targets)
    pooled = pool_cam(maps, seg)
    expected = naspix.superpixelify(torch.from_numpy(maps), seg.superpixels)
    torch.testing.assert_close(pooled, expected)
    assert pooled.shape == (2, 24, 24)


def test_torchcam_layers_are_scaled_and_averaged(network, images):
    from torchcam.methods import GradCAM

    seg = naspix.SLIC(n_segments=6)(images)
    layers = [network.network[0], network.network[2]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with GradCAM(network, target_layer=layers) as cam:
            scores = network(images.clone().requires_grad_())
            maps = cam([1, 2], scores, normalized=False)
    assert [tuple(one.shape) for one in maps] == [(2, 24, 24), (2, 12, 12)]
    scaled = torch.nn.functional.interpolate(maps[1][:, None], (24, 24), mode="bilinear")[:, 0]
    expected = naspix.superpixelify((maps[0] + scaled).detach() / 2, seg.superpixels)
    torch.testing.assert_close(pool_cam(maps, seg), expected)


def test_what_does_not_belong_together_is_refused(images):
    seg = naspix.Grid(n_segments=4)(images)
    with pytest.raises(InputError, match=r"are \(B, h, w\) for 2 images, not \(1, 3, 3\)"):
        pool_cam(np.zeros((1, 3, 3), np.float32), seg)
    with pytest.raises(InputError, match="no class activation maps"):
        pool_cam([], seg)
