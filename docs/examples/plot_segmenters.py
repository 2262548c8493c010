"""
NAS beside other superpixels
============================

SLIC and Felzenszwalb cut a photo by its colours. NAS cuts it by what a network computed from it.
To be fair, the others are tuned until each has about as many superpixels as NAS found.
"""

from matplotlib import pyplot as plt
from skimage import data
from skimage.segmentation import mark_boundaries

import naspix

model = naspix.load_model("efficientnet_lite0")
photos = [data.chelsea(), data.coffee(), data.rocket()]
images = model.load_images(photos)
nas = naspix.NAS(model, n_clusters=5)
ours = nas(images)

fig, axes = plt.subplots(len(photos), 3, figsize=(9, 3 * len(photos)), layout="constrained")
for index, row in enumerate(axes):
    image = images[index : index + 1]
    n_superpixels = int(ours.n_superpixels[index])
    segmentations = {
        "NAS": ours[index],
        "SLIC": naspix.SLIC().match(image, n_superpixels)(image),
        "Felzenszwalb": naspix.Felzenszwalb().match(image, n_superpixels)(image),
    }
    for axis, (name, seg) in zip(row, segmentations.items(), strict=True):
        picture = image[0].permute(1, 2, 0).cpu().numpy()
        axis.imshow(mark_boundaries(picture, seg.superpixels[0].cpu().numpy(), color=(1, 1, 0)))
        axis.set_title(f"{name}, {int(seg.n_superpixels[0])} superpixels")
        axis.axis("off")
plt.show()
