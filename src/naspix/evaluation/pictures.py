"""A data set's pictures as images of one size, with their labels and boxes in that frame."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from naspix.datasets import Sample
from naspix.errors import InputError
from naspix.images import read_images
from naspix.metrics import scale_boxes
from naspix.models import Classifier


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the network sees it, with what is known about it.

    Attributes:
        index: Its place in the data set.
        id: Its name there.
        image: ``(C, H, W)`` in [0, 1].
        label: Its class in the model's numbers, None if not known.
        boxes: ``(n, 4)`` whole pixels of the image, as ``naspix.metrics.scale_boxes`` makes them.
    """

    index: int
    id: str
    image: Float[Tensor, "C H W"]
    label: int | None
    boxes: Int64[Tensor, "n 4"]


@dataclass(frozen=True)
class Framing:
    """How a data set's pictures become images of one size.

    Attributes:
        model: Says the size.
        squash: Scale height and width apart, bilinear, so that all of the picture is seen, as
            wsolevaluation does; otherwise the middle, as the model was tested.
        label_of: The model's class for each of the data set's, by number.
    """

    model: Classifier
    squash: bool
    label_of: Mapping[int, int]

    def __call__(self, index: int, sample: Sample, needs_boxes: bool) -> Picture:
        """Make a picture of a sample.

        Raises:
            InputError: A box is wanted and there is none.
        """
        self.model.require_size()  # pictures are read one by one
        # eight bits, as the picture was on disk, which are resized as PIL does
        pixels = (sample.image * 255).round().clamp(0, 255).to(torch.uint8)
        picture: np.ndarray = pixels.permute(1, 2, 0).numpy()
        label = None if sample.label is None else self.label_of.get(sample.label)
        boxes = torch.zeros(0, 4, dtype=torch.int64)
        if not self.squash:
            if needs_boxes:
                raise InputError("boxes need the whole picture; squash it")
            image = self.model.load_images(picture)[0].cpu()
            return Picture(index, sample.id, image, label, boxes)
        frame = self.model.input_size
        image = read_images(picture, frame, resize="squash")[0]
        if len(sample.boxes):
            boxes = scale_boxes(sample.boxes, (picture.shape[0], picture.shape[1]), frame)
        elif needs_boxes:
            raise InputError(": ".join([f"{sample.id} has no box", *sample.problems]))
        return Picture(index, sample.id, image, label, boxes)
