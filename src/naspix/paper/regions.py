"""Figures 1, 2 and 3: what networks tell apart, the steps of the method, levels and K.

With the claims of sections 4.2.1 and 4.2.2. *Edges followed* is boundary recall: the share of a
photo's edges (Canny's) that lie within two pixels of a superpixel's boundary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from naspix import plots
from naspix.paper.data import PAPERS, TITLES, Conditions
from naspix.paper.experiment import Drawing
from naspix.paper.published import Gains, Table, Told, Value, told
from naspix.paper.segmentations import (
    ALL_LEVELS,
    LAST_THREE,
    Cut,
    Image,
    KeptPhoto,
    Networks,
    Overlays,
    Panel,
    Step,
    by_area,
    drawing,
    grids,
    levels_of,
    mean,
    named_as,
)
from naspix.plots.colours import saliency_scale
from naspix.saliency import GradCAMPlusPlus
from naspix.segmentation import NAS, SLIC, Felzenszwalb
from naspix.segmentation.matching import Match
from naspix.superpixelify import superpixelify

# of the mean superpixel's area: smaller specks are merged by Felzenszwalb; the first that will do
_LEAST_SHARES = (1 / 4, 1 / 16, 1 / 64)
_CLOSE = 0.15  # of the number wanted
OTHERS = ("SLIC", "Felzenszwalb")
_VIT = TITLES["vit_b_16"]
_REACH = 2  # pixels from an edge that a boundary may lie

Photos = Sequence[KeptPhoto]
# of photos, a row and a column: one a photo; the unit in which it is told, and how many make one
_Measure = tuple[Callable[[Photos, str, str], np.ndarray], str, float]


def others_follow_edges(photos: Photos) -> Told:
    """Whether SLIC and Felzenszwalb follow edges more than the networks do in the mean."""
    names = [name for name in photos[0].columns if name not in OTHERS]
    own = np.mean([edges_followed(photos, "", name) for name in names], axis=0)
    parts = {name: Gains(edges_followed(photos, "", name) - own) for name in OTHERS}
    return told(parts, "Edges followed, less the mean over NAS by the networks.")


def most_outside(photos: Photos) -> Told:
    """Whether Felzenszwalb has more superpixels outside the object's box than all others."""
    own = _outside(photos, "Felzenszwalb")
    parts = {
        name: Gains(own - _outside(photos, name))
        for name in photos[0].columns
        if name != "Felzenszwalb"
    }
    words = "Felzenszwalb's superpixels that lie outside the boxes for the most part, less others'."
    return told(parts, words, unit="superpixels", scale=1)


def vit_is_first(photos: Photos, measure: _Measure) -> Told:
    """Whether ViT16 has more of what is measured than each other network.

    Args:
        photos: Cut by networks.
        measure: Of a photo's cut.
    """
    if _VIT not in photos[0].columns:
        return None, f"{_VIT}'s weights were not at hand: 0 photos."
    of, unit, scale = measure
    own = of(photos, "", _VIT)
    parts = {
        name: Gains(own - of(photos, "", name))
        for name in photos[0].columns
        if name not in (_VIT, *OTHERS)
    }
    return told(parts, f"By {_VIT} less by the others.", unit=unit, scale=scale)


def shallow_have_more(photos: Photos, measure: _Measure) -> Told:
    """Whether of single levels each shallower one has more of what is measured than the next.

    Args:
        photos: Cut by single levels.
        measure: Of a photo's cut.
    """
    of, unit, scale = measure
    parts = {}
    for shallow, deep in pairwise(_single_levels(photos)):
        apart = [of(photos, k, shallow) - of(photos, k, deep) for k in photos[0].rows]
        parts[f"{shallow} and {deep}"] = Gains(np.mean(apart, axis=0))
    words = "The shallower level less the deeper one, mean over K."
    return told(parts, words, unit=unit, scale=scale)


def first_level_sees_colour(photos: Photos) -> Told:
    """Whether level 0's clusters explain more of a photo's colours than the deepest level's."""
    first, *_, last = _single_levels(photos)
    parts = {
        k: Gains(_colour_explained(photos, k, first) - _colour_explained(photos, k, last))
        for k in photos[0].rows
    }
    return told(parts, f"Share of the colours' variance between clusters, {first} less {last}.")


def _single_levels(photos: Photos) -> list[str]:
    return [name for name in photos[0].columns if name.startswith("level ")]


def _counts(photos: Photos, row: str, column: str) -> np.ndarray:
    return np.array([photo.cuts[row, column].n_superpixels for photo in photos], float)


def _outside(photos: Photos, column: str) -> np.ndarray:
    """Superpixels that lie outside the boxes for the most part; NaN where there are no boxes."""
    found = []
    for photo in photos:
        labels = photo.cuts["", column].superpixels.ravel()
        if photo.inside is None:
            found.append(np.nan)
            continue
        inside = np.bincount(labels, photo.inside.ravel()) / np.bincount(labels)
        found.append(float((inside < 0.5).sum()))
    return np.array(found)


def _colour_explained(photos: Photos, row: str, column: str) -> np.ndarray:
    found = []
    for photo in photos:
        clusters = photo.cuts[row, column].clusters.ravel()
        colours = photo.image.reshape(-1, 3).astype(float)
        counts = np.bincount(clusters)[:, None]
        sums = np.stack([np.bincount(clusters, channel) for channel in colours.T], axis=1)
        middle = colours.mean(0)
        between = (counts * (sums / np.maximum(counts, 1) - middle) ** 2).sum()
        total = ((colours - middle) ** 2).sum()
        found.append(between / total if total else np.nan)
    return np.array(found)


def edges_followed(photos: Photos, row: str, column: str) -> np.ndarray:
    """Boundary recall of a cut of each photo."""
    return np.array([boundary_recall(p.edges, p.cuts[row, column].superpixels) for p in photos])


def boundary_recall(edges: Bool[np.ndarray, "H W"], superpixels: Int64[np.ndarray, "H W"]) -> float:
    """Share of edges within two pixels of a superpixel's boundary; NaN where there are none.

    Example:
        >>> halves = np.array([[0] * 5 + [1] * 5] * 3)
        >>> edges = np.zeros((3, 10), bool)
        >>> edges[:, [4, 9]] = True
        >>> boundary_recall(edges, halves)
        0.5
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import find_boundaries

    if not edges.any():
        return float("nan")
    boundaries = find_boundaries(superpixels, mode="thick")
    if not boundaries.any():
        return 0.0
    return float((distance_transform_edt(~boundaries)[edges] <= _REACH).mean())


_EDGES: _Measure = (edges_followed, "points of edges followed", 100)
_NUMBERS: _Measure = (_counts, "superpixels", 1)


@final
@dataclass(frozen=True)
class Figure1(Overlays):
    """Seven columns: the photo, NAS in the paper's networks, SLIC and Felzenszwalb.

    Attributes:
        levels: Of NAS in the paper's networks; the default network has its own.
        n_clusters: K.
    """

    levels: tuple[int, ...] = LAST_THREE
    n_clusters: int = 5

    title = "Figure 1: what each network tells apart"
    words = (
        "Superpixels of NAS follow what a network has learnt to tell apart; those of SLIC and "
        "Felzenszwalb, matched to them in number, follow the photo's colours."
    )
    networks = PAPERS
    claims: ClassVar = {
        "others_follow_edges": others_follow_edges,
        "felzenszwalb_outside": most_outside,
        "vit_edges": partial(vit_is_first, measure=_EDGES),
        "vit_fragments": partial(vit_is_first, measure=_NUMBERS),
    }

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo by each network, then by the others into as many superpixels on average."""
        numbers = []
        for name, model in networks.items():
            levels = levels_of(name, model, self.levels)
            nas = NAS(model, levels=levels, n_clusters=self.n_clusters, seed=conditions.seed)
            cut = nas(image.to(model.device))
            numbers.append(int(cut.n_superpixels[0]))
            yield Cut("", TITLES[name], cut)
        wanted = mean(numbers)
        yield Cut("", "SLIC", SLIC().match(image, wanted)(image))
        yield Cut("", "Felzenszwalb", _match_felzenszwalb(image, wanted)(image))

    def draw(self, photos: Sequence[KeptPhoto]) -> tuple[list[Table], list[Drawing]]:
        """Number of superpixels by photo and column; the photos in rows."""
        columns = photos[0].columns
        rows: list[list[Value]] = []
        panels: list[list[Panel]] = []
        for photo in photos:
            cuts = {column: cut for (_, column), cut in photo.cuts.items()}
            wanted = mean(cut.n_superpixels for name, cut in cuts.items() if name not in OTHERS)
            off = (100 * (cuts[name].n_superpixels / wanted - 1) for name in OTHERS)
            rows.append([photo.id, *(cut.n_superpixels for cut in cuts.values()), wanted, *off])
            first = next(iter(cuts.values()))
            panels.append([(photo.picture(), "")])
            for column, cut in cuts.items():
                if column in OTHERS:
                    colours = by_area(cut.superpixels)
                    note = f"{cut.n_superpixels} (wanted {wanted:.0f})"
                else:
                    colours = named_as(cut.clusters, first.clusters)
                    note = str(cut.n_superpixels)
                panels[-1].append((photo.coloured(cut, colours), note))
        table = Table(
            "superpixels",
            "Number of superpixels",
            ("photo", *columns, "wanted", *(f"{name}, % off" for name in OTHERS)),
            rows,
            "SLIC and Felzenszwalb are matched, photo by photo, to the mean over the networks: "
            "wanted, and how far from it they are.",
        )
        words = (
            "Below each picture its number of superpixels. Colours are clusters, the same where "
            "they lie in the same place of a photo; SLIC and Felzenszwalb have superpixels only, "
            "a colour each."
        )
        names = ["photo", *columns]
        figure = drawing("figure1", self.title, names, panels[: self.n_drawn], words)
        return [table, _edge_table(photos, "", columns)], [figure]


def _match_felzenszwalb(image: Float[Tensor, "1 3 H W"], wanted: float) -> Match:
    """The setting with large regions, unless only smaller ones come near the number."""
    area = image.shape[2] * image.shape[3] / wanted
    matches: list[Match] = []
    for share in _LEAST_SHARES:
        matches.append(Felzenszwalb(min_size=round(share * area)).match(image, wanted))
        if abs(matches[-1].n_superpixels - wanted) <= _CLOSE * wanted:
            break
    return min(matches, key=lambda match: abs(match.n_superpixels - wanted))


@final
@dataclass(frozen=True)
class Figure2(Overlays):
    """The steps of the method on one photo.

    Attributes:
        levels: Of NAS in the paper's network; the default network has its own.
        n_clusters: K.
    """

    levels: tuple[int, ...] = LAST_THREE
    n_clusters: int = 5
    n_photos: int = 1
    n_drawn: int = 1

    title = "Figure 2: the steps of the method"
    words = (
        "A network's activations at several levels are enlarged to the photo, normalised and "
        "weighted, and the pixels' vectors clustered; the clusters' connected parts are the "
        "superpixels, over which any saliency map can be averaged."
    )

    def cuts(
        self, image: Image, networks: Networks, conditions: Conditions
    ) -> Iterator[Cut | Step]:
        """Each step as a picture, and the segmentation."""
        name, model = next(iter(networks.items()))
        image = image.to(model.device)
        levels = levels_of(name, model, self.levels)
        activations = model.activations(image, levels)
        frame = (image.shape[2], image.shape[3])
        for level, maps in zip(levels, activations, strict=True):
            small, large = _in_colours(maps, frame)
            size = f"{maps.shape[1]} channels, {maps.shape[2]} x {maps.shape[3]}"
            yield Step(f"level {level}", "activations", small, size)
            yield Step(f"level {level}", "upsampled", large, f"{frame[0]} x {frame[1]}")
        nas = NAS(model, levels=levels, n_clusters=self.n_clusters, seed=conditions.seed)
        cut = nas.segment(activations, frame)
        yield Cut("regions", "clusters", cut)
        heat = GradCAMPlusPlus(model)(image)
        pooled = superpixelify(heat, cut.superpixels)
        for column, each in (("map", heat), ("pooled map", pooled)):
            values = each[0].cpu().numpy()
            picture = plots.saliency_picture(values, saliency_scale(values, outliers=0.0))
            yield Step("saliency", column, picture, "Grad-CAM++")

    def draw(self, photos: Sequence[KeptPhoto]) -> tuple[list[Table], list[Drawing]]:
        """A row a step, as the method goes."""
        photo = photos[0]
        steps = photo.steps
        levels = [row for row, column in steps if column == "activations"]
        (cut,) = photo.cuts.values()
        panels: list[list[Panel]] = [
            [(photo.picture(), "the photo"), *(steps[row, "activations"] for row in levels)],
            [(None, ""), *(steps[row, "upsampled"] for row in levels)],
            [
                (photo.coloured(cut, lined=False), f"{int(cut.clusters.max()) + 1} clusters"),
                (photo.coloured(cut), f"{cut.n_superpixels} superpixels"),
                *(steps["saliency", column] for column in ("map", "pooled map")),
            ],
        ]
        width = max(map(len, panels))
        panels = [[*row, *[(None, "")] * (width - len(row))] for row in panels]
        names = ["", *levels, *[""] * (width - 1 - len(levels))]
        rows = ["activations", "upsampled", "regions, pooled"]
        words = (
            "Colours of activations are their three main directions. Last row: the clusters of all "
            "pixels' vectors, their connected parts, a saliency map, and its mean over each part."
        )
        panels = [[(_of_one_size(p, photo), note) for p, note in row] for row in panels]
        counts: list[list[Value]] = [[row, steps[row, "activations"][1]] for row in levels]
        n_clusters = int(cut.clusters.max()) + 1
        counts.append(["superpixels", f"{cut.n_superpixels} of {n_clusters} clusters"])
        table = Table("steps", "The steps in numbers", ("step", "size"), counts)
        figure = drawing("figure2", self.title, names, panels, words, rows)
        return [table], [figure]


def _in_colours(
    maps: Float[Tensor, "1 C h w"], frame: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "y x 3"]]:
    """Activations by their three main directions as red, green and blue; and the same enlarged."""
    large = functional.interpolate(maps, frame, mode="bicubic")
    large = large / large.norm(dim=1, keepdim=True).clamp_min(1e-12)  # line 10
    vectors = maps[0].flatten(1).T
    vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
    middle = vectors.mean(0)
    _, _, directions = torch.linalg.svd(vectors - middle, full_matrices=False)
    pictures = []
    for rows, size in ((vectors, maps.shape[2:]), (large[0].flatten(1).T, frame)):
        places = (rows - middle) @ directions[:3].T
        low, high = places.quantile(0.01, dim=0), places.quantile(0.99, dim=0)
        shown = ((places - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        pictures.append((255 * shown).byte().reshape(*size, 3).cpu().numpy())
    return pictures[0], pictures[1]


def _of_one_size(
    picture: UInt8[np.ndarray, "h w 3"] | None, photo: KeptPhoto
) -> UInt8[np.ndarray, "y x 3"] | None:
    """A picture as large as the photo's, its pixels as squares."""
    from PIL import Image as Pillow

    if picture is None:
        return None
    height, width = photo.picture().shape[:2]
    resized = Pillow.fromarray(picture).resize((width, height), Pillow.Resampling.NEAREST)
    return np.asarray(resized)


@final
@dataclass(frozen=True)
class Figure3(Overlays):
    """Sets of levels by numbers of clusters.

    Attributes:
        level_sets: A column each.
        numbers: Of clusters, a row each.
    """

    level_sets: tuple[tuple[int, ...], ...] = ((0,), (2,), (4,), (0, 2, 4), LAST_THREE, ALL_LEVELS)
    numbers: tuple[int, ...] = (2, 5, 10, 20)
    n_drawn: int = 2

    title = "Figure 3: levels and numbers of clusters"
    words = (
        "Shallow levels cut along edges and colours, deep ones along objects and their parts; "
        "together they do both. More clusters cut finer."
    )
    claims: ClassVar = {
        "shallow_edges": partial(shallow_have_more, measure=_EDGES),
        "deep_fewer": partial(shallow_have_more, measure=_NUMBERS),
        "level_0_colour": first_level_sees_colour,
    }

    def cuts(self, image: Image, networks: Networks, conditions: Conditions) -> Iterator[Cut]:
        """Cut one photo in every way, with one forward pass."""
        model = next(iter(networks.values()))
        activations = model.activations(image.to(model.device), ALL_LEVELS)
        frame = (image.shape[2], image.shape[3])
        for n_clusters in self.numbers:
            for levels in self.level_sets:
                nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=conditions.seed)
                chosen = [activations[level] for level in levels]
                yield Cut(f"K = {n_clusters}", _named(levels), nas.segment(chosen, frame))

    def draw(self, photos: Sequence[KeptPhoto]) -> tuple[list[Table], list[Drawing]]:
        """Mean number of superpixels and edges followed for levels and K; a grid a photo."""
        rows, columns = photos[0].rows, photos[0].columns
        means: list[list[Value]] = [
            [row, *(mean(p.cuts[row, each].n_superpixels for p in photos) for each in columns)]
            for row in rows
        ]
        words = (
            "Below each picture its number of superpixels; boundaries are drawn where there are "
            "not too many. A colour goes from row to row to the cluster that shares most pixels "
            "with it."
        )
        name = "Mean number of superpixels"
        table = Table("superpixels", name, ("levels", *columns), means)
        edges = _edge_table(photos, rows[min(1, len(rows) - 1)], columns)
        shown = photos[: self.n_drawn]
        return [table, edges], grids("figure3", self.title, shown, columns, words)


def _named(levels: tuple[int, ...]) -> str:
    if len(levels) == len(ALL_LEVELS):
        return "levels 0 to 4"
    return f"level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))}"


def _edge_table(photos: Sequence[KeptPhoto], row: str, columns: Sequence[str]) -> Table:
    found = [edges_followed(photos, row, column) for column in columns]
    values = [None if not np.isfinite(each).any() else float(np.nanmean(each)) for each in found]
    words = (
        "Share of a photo's edges (Canny's, of a blur of 2 pixels) that lie within 2 pixels of a "
        f"superpixel's boundary, mean over photos{f', {row}' if row else ''}."
    )
    return Table("edges", "Edges followed", ("", *columns), [["edges", *values]], words)
