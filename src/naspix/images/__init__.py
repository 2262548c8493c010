"""Pictures as tensors in [0, 1]: read from anywhere, and checked. No network is known here."""

from naspix.images.decoding import ORIENTATION, Source, orientation
from naspix.images.files import SUFFIXES, expand_paths, shown, visible_files
from naspix.images.fitting import Fit, Resize, fit
from naspix.images.photos import (
    Photo,
    ReadingAhead,
    answers_of,
    find_photos,
    of_one_size,
    unique_names,
)
from naspix.images.reading import (
    MAX_PIXELS,
    as_batch,
    check_images,
    check_shape,
    read_eight_bit,
    read_image,
    read_images,
)

__all__ = [
    "MAX_PIXELS",
    "ORIENTATION",
    "SUFFIXES",
    "Fit",
    "Photo",
    "ReadingAhead",
    "Resize",
    "Source",
    "answers_of",
    "as_batch",
    "check_images",
    "check_shape",
    "expand_paths",
    "find_photos",
    "fit",
    "of_one_size",
    "orientation",
    "read_eight_bit",
    "read_image",
    "read_images",
    "shown",
    "unique_names",
    "visible_files",
]
