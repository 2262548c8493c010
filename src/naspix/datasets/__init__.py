"""Pictures with classes, boxes and masks, from files as they are published. Raw: RGB in [0, 1]."""

from naspix.datasets.checking import Findings, check
from naspix.datasets.coco import COCOBoxes
from naspix.datasets.cub import CUB200
from naspix.datasets.downloading import ARCHIVES, Archive, fetch
from naspix.datasets.example import write_example
from naspix.datasets.folder import ImageFolder
from naspix.datasets.photos import Photos
from naspix.datasets.sample import Dataset, Sample
from naspix.datasets.stl10 import STL10
from naspix.datasets.voc import VOCBoxes

__all__ = [
    "ARCHIVES",
    "CUB200",
    "STL10",
    "Archive",
    "COCOBoxes",
    "Dataset",
    "Findings",
    "ImageFolder",
    "Photos",
    "Sample",
    "VOCBoxes",
    "check",
    "fetch",
    "write_example",
]
