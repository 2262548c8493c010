"""Boxes that people drew on photos, as masks in the frame in which a network sees the photos."""

from pathlib import Path
from typing import TYPE_CHECKING

from naspix.cli.inputs import Photo
from naspix.cli.options import InputOptions
from naspix.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from naspix.models import Classifier


class BoxMasks:
    """The boxes of a folder of Pascal VOC's XML files, found by the photos' names."""

    def __init__(self, folder: Path, model: "Classifier", inputs: InputOptions) -> None:
        self._files = {file.stem: file for file in sorted(folder.rglob("*.xml"))}
        if not self._files:
            raise InputError(
                f"there is no XML file in {str(folder)!r}; --boxes is a folder of them"
            )
        self._model = model
        self._resize = None if inputs.resize == "none" else inputs.resize

    def mask(self, photo: Photo) -> "Tensor":
        """True inside the boxes; false everywhere where the photo has none, or none that is right.

        The boxes are drawn as a picture and resized and cropped as the photo was.
        """
        import numpy as np
        from PIL import Image

        from naspix.datasets.boxes import fitted_boxes
        from naspix.datasets.voc import read_annotation

        with Image.open(photo.source) as picture:
            width, height = picture.size
        drawn = np.zeros((height, width, 3), np.uint8)
        file = self._files.get(Path(photo.source).stem)
        if file is not None:
            found = read_annotation(file)
            fitted = fitted_boxes(found.boxes, [0] * len(found.boxes), (height, width), found.size)
            for left, top, right, bottom in fitted.boxes.round().long().tolist():
                drawn[top:bottom, left:right] = 255
        image = self._model.load_images([Image.fromarray(drawn)], resize=self._resize)
        return image[0].mean(0).cpu() > 0.5
