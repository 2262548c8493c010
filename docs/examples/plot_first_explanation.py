"""
A first explanation
===================

One photo, one network, one call: what the network sees, and which of it the decision rests on.
"""

from matplotlib import pyplot as plt
from skimage import data

import naspix
from naspix import plots

model = naspix.load_model("efficientnet_lite0")
images = model.load_images([data.chelsea()])
explanation = naspix.explain(model, images)
print(explanation.target_predictions[0])

# %%
# The regions are the connected pieces of clusters of the network's own activations. The raw map is
# Grad-CAM++, blurred because it comes from a grid of few cells; the pooled one is its mean over
# each region.

photo = images[0].permute(1, 2, 0).numpy()
seg = explanation.segmentations["nas"]
raw = explanation.raw["grad_cam_plus_plus"]
pooled = explanation.pooled["grad_cam_plus_plus", "nas"]

fig, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
plots.draw_photo(photo, axes[0]).set_title("photo")
plots.draw_segmentation(photo, seg.clusters[0].numpy(), seg.superpixels[0].numpy(), axes[1])
axes[1].set_title(f"what the network sees: {int(seg.n_superpixels[0])} superpixels")
plots.draw_saliency(raw[0].numpy(), axes[2], bar=False).set_title("Grad-CAM++")
plots.draw_saliency(pooled[0].numpy(), axes[3], bar=False).set_title("the same, over superpixels")
plt.show()

# %%
# In a notebook, ``explanation.plot()`` draws all this at once, and ``explanation.save(folder)``
# writes pictures and a page to open in a browser. The most salient superpixels, as numbers:

for superpixel in explanation.ranking()[:3]:
    print(superpixel)
