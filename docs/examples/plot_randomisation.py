"""
Does a map depend on what was learnt?
=====================================

The classifier of a trained network is made random, then the stages below it too. A map that speaks
of the decision has to change; guided backpropagation's hardly does: it shows the photo's edges.
"""

import torch
from matplotlib import pyplot as plt
from skimage import data
from torch import nn

import naspix
from naspix.saliency import GradCAM, GuidedBackprop, VanillaGradient


def made_random(stages):
    """The default network with the weights of some stages drawn anew."""
    model = naspix.load_model("efficientnet_lite0")
    torch.manual_seed(0)
    for stage in stages:
        for module in model.network.get_submodule(stage).modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
    return model


networks = {
    "trained": made_random([]),
    "random classifier": made_random(["classifier"]),
    "random from block 4 up": made_random(
        ["classifier", "conv_head", "blocks.6", "blocks.5", "blocks.4"]
    ),
}
images = networks["trained"].load_images([data.chelsea()])
fig, axes = plt.subplots(3, 3, figsize=(9, 9.6), layout="constrained")
for row, method in zip(axes, (VanillaGradient, GuidedBackprop, GradCAM), strict=True):
    for axis, (name, model) in zip(row, networks.items(), strict=True):
        heat = method(model)(images, 282)[0]
        axis.imshow(heat.numpy(), cmap="viridis", vmax=float(heat.quantile(0.99)))
        axis.set_title(f"{method.__name__}\n{name}")
        axis.axis("off")
plt.show()
