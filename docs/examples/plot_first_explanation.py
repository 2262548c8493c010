"""
A first explanation
===================

One photo, one network, one call: what the network sees, and which of it the decision rests on.
"""

from skimage import data

import naspix

model = naspix.load_model("efficientnet_lite0")
images = model.load_images([data.chelsea()])
explanation = naspix.explain(model, images)
explanation.plot()

# %%
# The regions are the connected pieces of clusters of the network's own activations. The raw map is
# Integrated Gradients, one value a pixel; the pooled one is its mean over each region.
explanation
