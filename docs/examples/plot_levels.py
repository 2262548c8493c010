"""
Shallow and deep levels
=======================

Shallow levels see edges and textures on a fine grid, deep ones objects on a coarse grid. The paper
joins levels 2 to 4.
"""

from matplotlib import pyplot as plt
from skimage import data

import naspix

model = naspix.load_model("efficientnet_lite0")
images = model.load_images([data.coffee()])

choices = [(0,), (1,), (2,), (3,), (4,), (2, 3, 4), (0, 1, 2, 3, 4)]
fig, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
axes = axes.flatten()
axes[0].imshow(images[0].permute(1, 2, 0).cpu().numpy())
axes[0].set_title("photo")
for axis, levels in zip(axes[1:], choices, strict=True):
    seg = naspix.NAS(model, levels=levels, n_clusters=5)(images)
    axis.imshow(seg.clusters[0].cpu().numpy(), cmap="viridis", interpolation="nearest")
    axis.set_title(f"levels {levels}\n{int(seg.n_superpixels[0])} superpixels")
for axis in axes:
    axis.axis("off")
plt.show()
