"""The same number of random pixels from every image of a stream, without knowing how many come.

In: ``UpsampledFeatures``, batch after batch. Out: points ``(n, D)``. Which pixels are drawn depends
on the seed and the order of the images, not on how they are batched, and memory does not grow with
the number of images.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.clustering.features import UpsampledFeatures


class StratifiedSample:
    """A random sample of pixels' features, stratified by image.

    Of ``m`` images each gives ``n / m`` pixels, rounded up or down at random so that they sum to
    ``n``; where there are more images than points, ``n`` random images give one each. An image with
    fewer pixels than its share gives what it has.

    Args:
        n_points: n.
        seed: The same images in the same order give the same sample.

    Example:
        >>> sample = StratifiedSample(5, seed=0)
        >>> for _ in range(3):
        ...     sample.add(UpsampledFeatures([torch.rand(2, 4, 3, 3)], size=(6, 6)))
        >>> sample.n_images, sample.points().shape
        (6, torch.Size([5, 4]))
    """

    def __init__(self, n_points: int, *, seed: int) -> None:
        self.n_points = n_points
        self.n_images = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn: list[tuple[float, Tensor]] = []  # of each image: a random key, its points

    def add(self, features: UpsampledFeatures) -> None:
        """Draw from the images of a batch."""
        draws = [self._draw(features.n_pixels) for _ in range(features.batch_size)]
        longest = max(len(pixels) for _, pixels in draws)
        padded = torch.zeros(len(draws), longest, dtype=torch.int64)
        for row, (_, pixels) in zip(padded, draws, strict=True):
            row[: len(pixels)] = pixels
        points = features.at(padded.to(features.levels[0].device)).cpu()
        for (key, pixels), own in zip(draws, points, strict=True):
            self._drawn.append((key, own[: len(pixels)].clone()))
        if sum(len(points) for _, points in self._drawn) > 3 * self.n_points:
            self._thin()

    def points(self) -> Float[Tensor, "n D"]:
        """Return the sample of all images so far."""
        self._thin()
        return torch.cat([points for _, points in self._drawn])

    def _draw(self, n_pixels: int) -> tuple[float, Tensor]:
        """Return a random key and random pixels of the next image: no fewer than it will give."""
        self.n_images += 1
        key = float(torch.rand((), generator=self._generator, dtype=torch.float64))
        share = -(-self.n_points // self.n_images)
        pixels = torch.randperm(n_pixels, generator=self._generator)[:share]
        return key, pixels

    def _thin(self) -> None:
        """Cut every image's points to its share; where they are too many, by the keys.

        Images with high keys lose a point. More images only make this set of losers larger, so
        thinning early never drops what would be kept in the end.
        """
        share = -(-self.n_points // self.n_images)
        excess = share * self.n_images - self.n_points
        keys = sorted((key for key, _ in self._drawn), reverse=True)
        gone = self.n_images - len(self._drawn)  # lost their only point before
        threshold = keys[excess - gone - 1] if excess > gone else float("inf")
        kept = [
            (key, points[: share - 1] if key >= threshold else points[:share])
            for key, points in self._drawn
        ]
        self._drawn = [(key, points) for key, points in kept if len(points)]
