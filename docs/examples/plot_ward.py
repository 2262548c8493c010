"""
One tree, every number of clusters
==================================

With ``algorithm="ward"`` a segmentation carries a tree. Cutting it at another number of clusters
computes nothing again, and each cut splits clusters of the cut before.
"""

from matplotlib import pyplot as plt
from skimage import data

import naspix

model = naspix.load_model("efficientnet_lite0")
images = model.load_images([data.chelsea()])
seg = naspix.NAS(model, algorithm="ward", size=(96, 96))(images)

fig, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
axes = axes.flatten()
axes[0].imshow(images[0].permute(1, 2, 0).cpu().numpy())
axes[0].set_title("photo")
for axis, n_clusters in zip(axes[1:], (2, 3, 4, 5, 6, 8, 12), strict=True):
    cut = seg.cut(n_clusters)
    axis.imshow(cut.clusters[0].cpu().numpy(), cmap="viridis", interpolation="nearest")
    axis.set_title(f"{n_clusters} clusters, {int(cut.n_superpixels[0])} superpixels")
for axis in axes:
    axis.axis("off")
plt.show()
