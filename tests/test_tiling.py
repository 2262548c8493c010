"""Large photos by tiles: what is blended is what the whole photo gives, where that can be known."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import naspix
from naspix import targets
from naspix.errors import InputError
from naspix.tiling import blend, corners_of, covering

SIDE = 32


def _network() -> nn.Sequential:
    """No padding and no overlap, so that a tile knows as much of a pixel as the whole photo."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(), nn.AvgPool2d(4), nn.Conv2d(16, 24, 1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Conv2d(24, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    return naspix.wrap_model(
        _network(), mean=0.5, std=0.3, input_size=SIDE, levels=["2", "5"],
        categories=["cat", "dog", "tree", "ball"],
    )  # fmt: skip


def _photo(height: int, width: int, seed: int = 0) -> torch.Tensor:
    rough = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 200), st.integers(0, 200))
def test_tiles_cover_the_photo_and_overlap_by_a_quarter(height, width, below, beside):
    photo, tile = (height + below, width + beside), (height, width)
    seen = torch.zeros(photo, dtype=torch.int64)
    corners = corners_of(photo, tile)
    for top, left in corners:
        assert 0 <= top <= photo[0] - height
        assert 0 <= left <= photo[1] - width
        seen[top : top + height, left : left + width] += 1
    assert int(seen.min()) >= 1
    for axis, side in enumerate(tile):
        starts = sorted({corner[axis] for corner in corners})
        for one, other in itertools.pairwise(starts):
            assert other - one <= math.ceil(0.75 * side) + 1  # rounded to whole pixels


@given(st.integers(4, 30), st.integers(4, 30), st.integers(0, 60), st.integers(0, 60))
def test_crops_of_a_map_are_blended_back_into_it(height, width, below, beside):
    photo, tile = (height + below, width + beside), (height, width)
    whole = torch.rand(2, *photo, dtype=torch.float64)
    corners = corners_of(photo, tile)
    parts = torch.stack([whole[:, t : t + height, left : left + width] for t, left in corners])
    torch.testing.assert_close(blend(parts, corners, tile, photo)[0], whole)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 100), st.integers(0, 100))
def test_what_is_the_same_everywhere_stays_so(rows, columns, below, beside):
    photo = (SIDE + below, SIDE + beside)
    corners = corners_of(photo, (SIDE, SIDE))
    parts = torch.full((len(corners), 3, rows, columns), 0.7, dtype=torch.float64)
    blended = blend(parts, corners, (SIDE, SIDE), photo)
    torch.testing.assert_close(blended, torch.full_like(blended, 0.7))
    for n, whole, cells in zip(blended.shape[2:], photo, (rows, columns), strict=True):
        assert abs(n - cells * whole / SIDE) <= 0.5


def test_one_tile_is_the_photo(model):
    photo = _photo(SIDE, SIDE)
    tiled, plain = (
        naspix.explain(model, photo, method=["grad_cam", "vanilla_gradient"], tiles=tiles)
        for tiles in (True, False)
    )
    for name in plain.raw:
        torch.testing.assert_close(tiled.raw[name], plain.raw[name])
    assert tiled.segmentations["nas"] == plain.segmentations["nas"]
    assert torch.equal(tiled.target, plain.target)
    assert len(tiled.tiles[0]) == 1
    assert plain.tiles == ()


def test_regions_are_those_of_the_whole_photo(model):
    """Tiles of this network fall on its cells: 104 = 32 + 3 * 24, and 24 is three cells of 8."""
    photo = _photo(104, 80)
    tiled = naspix.explain(model, photo, tiles=True)
    assert len(tiled.tiles[0]) == 4 * 3
    whole = naspix.NAS(model)(photo)
    assert (tiled.segmentations["nas"].clusters == whole.clusters).float().mean() > 0.999
    slic = naspix.SLIC(n_segments=12)
    cut = naspix.explain(model, photo, tiles=True, segmenter=slic).segmentations["slic"]
    assert cut == slic(photo)


def test_one_class_is_asked_of_all_tiles(model):
    photo = _photo(104, 80)
    found = naspix.explain(model, photo, tiles=True, method="vanilla_gradient")
    tiles = found.tiles[0]
    cuts = torch.cat([photo[..., t.top : t.top + SIDE, t.left : t.left + SIDE] for t in tiles])
    scores = model(cuts).detach()
    target = int(scores.mean(0).argmax())
    assert found.target.tolist() == [target]
    assert [tile.predicted for tile in tiles] == scores.argmax(1).tolist()
    torch.testing.assert_close(torch.tensor([tile.score for tile in tiles]), scores[:, target])
    maps = naspix.saliency.VanillaGradient(model)(cuts, target)
    corners = [(tile.top, tile.left) for tile in tiles]
    expected = blend(maps[:, None], corners, (SIDE, SIDE), (104, 80))[:, 0]
    torch.testing.assert_close(found.raw["vanilla_gradient"], expected)
    probability = model.scores.probabilities(scores.mean(0, keepdim=True).double())[0, target]
    assert found.target_predictions[0].probability == pytest.approx(float(probability))


@pytest.mark.parametrize(
    "target", ["dog", [3, None], naspix.Contrast("dog", "cat"), targets.ClassScore("tree")]
)
def test_any_target_and_several_photos(model, target):
    photos = torch.cat([_photo(70, 40, seed) for seed in (0, 1)])
    found = naspix.explain(model, photos, target, tiles=True, method="grad_cam")
    for index in range(2):
        asked = target[index] if isinstance(target, list) else target
        alone = naspix.explain(
            model, photos[index : index + 1], asked, tiles=True, method="grad_cam"
        )
        torch.testing.assert_close(found.raw["grad_cam"][index], alone.raw["grad_cam"][0])
        assert [tile.name for tile in found.tiles[index]] == [t.name for t in alone.tiles[0]]


def test_the_greedy_order_goes_by_the_mean_score(model):
    photo = _photo(56, 32)
    grid = naspix.Grid(n_segments=6)
    found = naspix.explain(model, photo, "dog", tiles=True, segmenter=grid, greedy=True)

    def mean(images):
        parts = [model(images[:, :, top : top + SIDE]) for top in (0, 24)]
        return torch.stack(parts).mean(0).detach()

    best = naspix.metrics.greedy_lerf(mean, photo, grid(photo).superpixels, 1, baseline="mean")
    assert sorted(found.hidden_first["grid"][0].tolist()) == list(range(6))
    assert len(best.order[0]) == 6


def test_small_photos_are_enlarged_until_a_tile_fits(model):
    assert covering(_photo(16, 40), (SIDE, SIDE)).shape == (1, 3, 32, 80)
    assert covering(_photo(40, 40), (SIDE, SIDE)).shape == (1, 3, 40, 40)
    found = naspix.explain(model, _photo(16, 40), tiles=True)
    assert found.images.shape == (1, 3, 32, 80)


def test_too_many_tiles_are_asked_about(model):
    photo = _photo(400, 400)
    n_tiles = len(corners_of((400, 400), (SIDE, SIDE)))
    with pytest.raises(InputError, match=rf"covered by {n_tiles} tiles .* say tiles={n_tiles}"):
        naspix.explain(model, photo, tiles=True)
    found = naspix.explain(model, photo, tiles=n_tiles)
    assert len(found.tiles[0]) == n_tiles


def test_what_crops_its_images_has_no_tiles():
    class Crops(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = _network()

        def forward(self, images):
            return self.body(images[..., 8:24, 8:24])

    model = naspix.wrap_model(Crops(), input_size=SIDE, levels=["body.2", "body.5"])
    with (
        pytest.warns(naspix.NaspixWarning, match="crops its images"),
        pytest.raises(InputError, match="crops its images itself"),
    ):
        naspix.explain(model, _photo(50, 50), tiles=True)


def test_files_and_pages(model, tmp_path):
    import json

    found = naspix.explain(model, _photo(70, 40), tiles=True)
    found.plot()
    found.save(tmp_path)
    (entry,) = json.loads((tmp_path / "results.json").read_text())["photos"]
    assert [tile["top"] for tile in entry["tiles"]] == [tile.top for tile in found.tiles[0]]
    assert entry["tiles"][0]["name"] in model.categories
