"""Pictures with classes, boxes and masks, from files as they are published. Raw: RGB in [0, 1]."""

from naspix.datasets.coco import COCOBoxes
from naspix.datasets.cub import CUB200
from naspix.datasets.folder import ImageFolder
from naspix.datasets.sample import Dataset, Sample
from naspix.datasets.stl10 import STL10
from naspix.datasets.voc import VOCBoxes

__all__ = ["CUB200", "STL10", "COCOBoxes", "Dataset", "ImageFolder", "Sample", "VOCBoxes"]
