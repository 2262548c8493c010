"""Make the README's pictures with the product itself: ``python docs/make_readme_pictures.py``.

The network and the photos are those that come with the installation.
"""

from pathlib import Path

import torch
from matplotlib import pyplot as plt
from skimage import data
from skimage.segmentation import mark_boundaries

import naspix
from naspix import plots

IMAGES = Path(__file__).parent / "images"


def draw_hero(model: naspix.Classifier, images: torch.Tensor, path: Path) -> None:
    """What the network sees, and what its decision rests on: one row a photo."""
    explanation = naspix.explain(model, images)
    seg = explanation.segmentations["nas"]
    raw = explanation.raw["grad_cam_plus_plus"]
    pooled = explanation.pooled["grad_cam_plus_plus", "nas"]
    fig, axes = plt.subplots(len(images), 5, figsize=(12, 2.6 * len(images)), layout="constrained")
    for index, row in enumerate(axes):
        photo = images[index].permute(1, 2, 0).numpy()
        labels = seg.clusters[index].numpy(), seg.superpixels[index].numpy()
        plots.draw_photo(photo, row[0])
        plots.draw_segmentation(photo, *labels, row[1])
        plots.draw_saliency(raw[index].numpy(), row[2], bar=False)
        plots.draw_saliency(pooled[index].numpy(), row[3], bar=False)
        plots.draw_overlay(photo, pooled[index].numpy(), row[4])
        prediction = explanation.target_predictions[index]
        row[0].set_title(f"“{prediction.name}”, {prediction.probability:.0%}")
    titles = ("what the network sees", "Grad-CAM++", "Grad-CAM++ over that", "over the photo")
    for axis, title in zip(axes[0, 1:], titles, strict=True):
        axis.set_title(title)
    fig.savefig(path, dpi=100, pil_kwargs={"quality": 88})


def draw_segmenters(model: naspix.Classifier, images: torch.Tensor, path: Path) -> None:
    """NAS beside SLIC and Felzenszwalb with about as many superpixels: one row a photo."""
    ours = naspix.NAS(model)(images)
    fig, axes = plt.subplots(len(images), 4, figsize=(12, 3.1 * len(images)), layout="constrained")
    for index, row in enumerate(axes):
        image = images[index : index + 1]
        photo = image[0].permute(1, 2, 0).numpy()
        n_superpixels = int(ours.n_superpixels[index])
        segmentations = {
            "NAS": ours[index],
            "SLIC": naspix.SLIC().match(image, n_superpixels)(image),
            "Felzenszwalb": naspix.Felzenszwalb().match(image, n_superpixels)(image),
        }
        row[0].imshow(photo)
        for axis, (name, seg) in zip(row[1:], segmentations.items(), strict=True):
            axis.imshow(mark_boundaries(photo, seg.superpixels[0].numpy(), color=(1, 1, 0)))
            axis.set_title(f"{name}: {int(seg.n_superpixels[0])} superpixels")
        for axis in row:
            axis.axis("off")
    fig.savefig(path, dpi=100, pil_kwargs={"quality": 88})


def main() -> None:
    """Draw both."""
    IMAGES.mkdir(exist_ok=True)
    model = naspix.load_model("efficientnet_lite0")
    images = model.load_images([data.coffee(), data.chelsea(), data.rocket()])
    draw_hero(model, images[:2], IMAGES / "hero.jpg")
    draw_segmenters(model, images, IMAGES / "segmenters.jpg")


if __name__ == "__main__":
    main()
