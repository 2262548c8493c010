"""Large photos in tiles of the network's size, at the photo's own scale.

Tiles overlap; the network is asked about each, one class is asked of all, and what it gives is
blended: each level's activations into one map of the whole photo, which is clustered once, so that
regions cross tiles, and each method's maps into one map on one scale.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from naspix.errors import InputError
from naspix.metrics import greedy_lerf
from naspix.models import Classifier
from naspix.models.batches import batch_size_on
from naspix.models.scores import ScoreMeaning
from naspix.pipeline import Answers, Method, Pipeline, Segmenter, segment_by
from naspix.segmentation import NAS, Segmentation
from naspix.targets import Target, as_given, part_of, pick_scores

MOST_TILES = 64  # of one photo, unless more are asked for
_OVERLAP = 0.25  # of a tile's side, at least


@dataclass(frozen=True)
class Tile:
    """A square of a photo, and what the network says of it alone.

    Attributes:
        top: First row in the photo.
        left: First column.
        height: In pixels.
        width: In pixels.
        predicted: Number of the likeliest class.
        name: Its name.
        score: Of the class that is explained; for a contrast the difference.
    """

    top: int
    left: int
    height: int
    width: int
    predicted: int
    name: str
    score: float


def corners_of(photo: tuple[int, int], tile: tuple[int, int]) -> list[tuple[int, int]]:
    """Top and left of the tiles that cover a photo, evenly spread and overlapping by a quarter.

    Example:
        >>> corners_of((224, 400), (224, 224))
        [(0, 0), (0, 88), (0, 176)]
    """
    starts = []
    for length, side in zip(photo, tile, strict=True):
        n_tiles = 1 + math.ceil((length - side) / ((1 - _OVERLAP) * side))
        last = length - side
        starts.append([round(i * last / max(1, n_tiles - 1)) for i in range(n_tiles)])
    return [(top, left) for top in starts[0] for left in starts[1]]


def covering(images: Float[Tensor, "B C H W"], tile: tuple[int, int]) -> Tensor:
    """The same images, enlarged where they are smaller than a tile."""
    height, width = images.shape[2:]
    scale = max(tile[0] / height, tile[1] / width)
    if scale <= 1:
        return images
    size = max(tile[0], round(scale * height)), max(tile[1], round(scale * width))
    larger = functional.interpolate(images, size, mode="bicubic", antialias=True)
    return larger.clamp(0, 1)


def blend(
    parts: Float[Tensor, "T C h w"],
    corners: Sequence[tuple[int, int]],
    tile: tuple[int, int],
    photo: tuple[int, int],
) -> Float[Tensor, "1 C y x"]:
    """Maps of tiles as one map of the photo, with cells as large as theirs.

    A cell is the mean over the tiles that see it, which count the more the farther it lies from
    their borders; where the cells of the two do not fall together, it is interpolated (bilinear).

    Args:
        parts: A map for each tile; pixels, or cells of any size.
        corners: Top and left of each tile, in pixels.
        tile: Height and width of a tile, in pixels.
        photo: Those of the photo.

    Example:
        >>> halves = torch.tensor([[[[1.0, 1.0]]], [[[1.0, 3.0]]]])
        >>> blend(halves, [(0, 0), (0, 1)], tile=(1, 2), photo=(1, 3)).flatten().tolist()
        [1.0, 1.0, 3.0]
    """
    size = [
        max(1, round(n * whole / side))
        for n, whole, side in zip(parts.shape[2:], photo, tile, strict=True)
    ]
    total = parts.new_zeros(parts.shape[1], *size)
    weights = parts.new_zeros(size)
    for part, corner in zip(parts, corners, strict=True):
        axes = [
            _axis(*of_axis, parts)
            for of_axis in zip(corner, tile, parts.shape[2:], photo, size, strict=True)
        ]
        (rows, down, row_weights), (columns, across, column_weights) = axes
        weight = row_weights[:, None] * column_weights
        total[:, rows, columns] += weight * (down @ part @ across.T)
        weights[rows, columns] += weight
    return (total / weights)[None]


def _axis(
    start: int, side: int, n_cells: int, length: int, n_all: int, like: Tensor
) -> tuple[slice, Tensor, Tensor]:
    """Which cells of the photo a tile sees along one axis, how they are interpolated, and weigh."""
    centers = (
        torch.arange(n_all, dtype=torch.float64, device="cpu") + 0.5
    ) * length / n_all - start
    inside = ((centers > 0) & (centers < side)).nonzero()[:, 0].tolist() or [-1]
    seen = slice(max(0, inside[0]), inside[-1] + 1)  # none of large cells, maybe
    centers = centers[seen]
    place = (centers * n_cells / side - 0.5).clamp(0, n_cells - 1)
    lower = place.floor().long()
    upper = (lower + 1).clamp(max=n_cells - 1)
    share = place - lower
    matrix = torch.zeros(len(place), n_cells, dtype=torch.float64, device="cpu")
    matrix.scatter_add_(1, lower[:, None], (1 - share)[:, None])
    matrix.scatter_add_(1, upper[:, None], share[:, None])
    return seen, matrix.to(like), torch.minimum(centers, side - centers).to(like)


@dataclass(frozen=True)
class OverTiles:
    """A classifier asked by tiles: the mean score over an image's tiles is the image's.

    Attributes:
        model: Asked of each tile; tiles have its size.
    """

    model: Classifier

    @property
    def mean(self) -> Tensor:
        """The mean colour of the model's standardisation, which hidden pixels show."""
        return self.model.mean

    @property
    def scores(self) -> ScoreMeaning:
        """What scores mean."""
        return self.model.scores

    def category(self, index: int) -> str:
        """A class's name."""
        return self.model.category(index)

    def cut(self, image: Float[Tensor, "C H W"]) -> Float[Tensor, "n C h w"]:
        """The tiles of one image."""
        height, width = self.model.input_size
        corners = corners_of((int(image.shape[1]), int(image.shape[2])), (height, width))
        return torch.stack([image[:, t : t + height, left : left + width] for t, left in corners])

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B n_classes"]:
        """Mean scores."""
        at_once = batch_size_on(self.model.device, None)
        return torch.stack(
            [
                torch.cat([self.model(part) for part in self.cut(image).split(at_once)]).mean(0)
                for image in images
            ]
        )


def ask_tiles(
    model: Classifier,
    methods: Mapping[str, Method],
    segmenters: Mapping[str, Segmenter],
    images: Float[Tensor, "B C H W"],
    target: Target,
    *,
    most: int = MOST_TILES,
    greedy: bool = False,
    watch: Callable[[str], AbstractContextManager[None]],
) -> tuple[Answers, tuple[tuple[Tile, ...], ...]]:
    """Ask everything about large images, tile by tile.

    Args:
        model: The classifier; tiles have its size.
        methods: Asked of tiles.
        segmenters: NAS over the model's blended activations; others cut the whole images.
        images: At least as large as a tile.
        target: As for `Pipeline`; None is the class of the highest mean score over tiles.
        most: How many tiles an image may have.
        greedy: Whether the greedy order is searched, by the mean score over tiles.
        watch: Told each step.

    Returns:
        Answers whose logits are means over tiles, and each image's tiles.

    Raises:
        InputError: There are too many tiles, or the network crops its images itself.
    """
    tile, photo = model.input_size, (int(images.shape[2]), int(images.shape[3]))
    corners = corners_of(photo, tile)
    if len(corners) > most:
        raise InputError(
            f"a photo of {photo[0]} x {photo[1]} is covered by {len(corners)} tiles of {tile[0]} x "
            f"{tile[1]}; at most {most} are taken unless you say tiles={len(corners)}, or scale "
            "the photo down"
        )
    if model.seen_part() is not None:
        raise InputError(f"{model.name} crops its images itself, so that tiles would leave gaps")
    at_once = batch_size_on(model.device, None, backwards=True)

    over_tiles = OverTiles(model)
    with watch("forward"):
        means = over_tiles(images)
        classes = model.resolve_target(images, target, means)
    own = [each for each in segmenters.values() if isinstance(each, NAS) and each.model is model]
    levels = tuple(dict.fromkeys(name for nas in own for name in model.level_names(nas.levels)))
    ask = Pipeline(model, methods, {}, levels=levels, watch=watch)
    answers, all_tiles = [], []
    for index, image in enumerate(images):
        tiles, of_image = over_tiles.cut(image), classes[index : index + 1]
        asked = as_given(of_image.expand(len(corners), *classes.shape[1:]))
        found = Answers.joined(
            [
                ask(tiles[start : start + at_once], part_of(asked, slice(start, start + at_once)))
                for start in range(0, len(tiles), at_once)
            ]
        )
        whole, segmentations = image[None], {}
        for name, segmenter in segmenters.items():
            with watch(f"segmenter {name}"):
                if isinstance(segmenter, NAS) and segmenter.model is model:
                    maps = [
                        blend(found.activations[level], corners, tile, photo)
                        for level in model.level_names(segmenter.levels)
                    ]
                    segmentations[name] = segmenter.segment(maps, segmenter.size or photo)
                else:
                    segmentations[name] = segment_by(name, segmenter, whole)
        answers.append(
            Answers(
                whole,
                means[index : index + 1],
                of_image,
                segmentations,
                {
                    name: blend(heat[:, None], corners, tile, photo)[:, 0]
                    for name, heat in found.raw.items()
                },
                _hidden_first(over_tiles, whole, of_image, segmentations) if greedy else {},
                {},
            )
        )
        scores = pick_scores(found.logits, found.target).tolist()
        predicted = found.logits.argmax(1).tolist()
        all_tiles.append(
            tuple(
                Tile(top, left, *tile, number, model.category(number), score)
                for (top, left), number, score in zip(corners, predicted, scores, strict=True)
            )
        )
    return Answers.joined(answers), tuple(all_tiles)


def _hidden_first(
    model: OverTiles,
    image: Tensor,
    target: Tensor,
    segmentations: Mapping[str, Segmentation],
) -> dict[str, tuple[Tensor, ...]]:
    """The greedy order by the mean score over tiles."""
    return {
        name: greedy_lerf(model, image, found.superpixels, as_given(target)).order
        for name, found in segmentations.items()
    }
