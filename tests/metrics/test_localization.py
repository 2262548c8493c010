"""MaxBoxAccV2 against the literal thousand thresholds, and what else says where saliency lies."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics import MetricCollection

import naspix
from naspix.errors import InputError
from naspix.metrics import (
    MaxBoxAcc,
    MaxBoxAccV2,
    PxAP,
    energy_inside,
    pointing_game,
    scale_boxes,
)
from naspix.metrics.boxes import all_contour_boxes, contour_boxes, eight_bit
from naspix.metrics.nesting import nested_boxes

sys.path.append(str(Path(__file__).parents[1] / "reference"))
import literal_max_box_acc as literal

IOUS = (0.3, 0.5, 0.7)


def _pooled(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Constant on random regions, some of equal value."""
    centres = generator.random((12, 2)) * size
    grid = np.stack(np.indices(size), -1)[:, :, None]
    regions = np.square(grid - centres).sum(-1).argmin(-1)
    return generator.integers(-3, 9, 12)[regions] / 7


def _rings(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Squares in squares: holes in holes."""
    middle = np.array(size)[:, None, None] // 2
    return np.cos(np.abs(np.indices(size) - middle).max(0) * generator.uniform(0.7, 1.6))


KINDS = {
    "noise": lambda g, size: g.normal(size=size),
    "few values": lambda g, size: g.integers(0, 4, size).astype(float),
    "many values": lambda g, size: g.integers(0, 90, size).astype(float),
    "smooth": lambda g, size: cv2.resize(g.random((4, 5)), size[::-1], interpolation=2),
    "blurred": lambda g, size: cv2.GaussianBlur(g.random(size), (0, 0), 1.5),
    "rectified": lambda g, size: cv2.GaussianBlur(g.normal(size=size), (0, 0), 1).clip(0),
    "pooled": _pooled,
    "rings": _rings,
}


def _cases(n: int, kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps of all sizes with one to three boxes each."""
    generator = np.random.default_rng([n, *kind.encode()])
    cases = []
    for _ in range(n):
        size = tuple(generator.integers(6, 26, 2).tolist())
        n_boxes = int(generator.integers(1, 4))
        corners = np.sort(generator.integers(0, [[size[1], size[0]]], (n_boxes, 2, 2)), axis=1)
        cases.append((KINDS[kind](generator, size), corners.reshape(n_boxes, 4)))
    return cases


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_literal_loop(kind):
    cases = _cases(16, kind)  # benchmarks/metrics.py does the same on 500 maps of 224
    metric = MaxBoxAccV2()
    expected = np.zeros((3, 1000))
    for saliency, boxes in cases:
        metric.update(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)])
        best = literal.best_ious(saliency, boxes)
        expected += [best >= 0.3, best >= 0.5, best >= 0.7]
    assert expected.max() > 0
    np.testing.assert_array_equal(metric.hits.numpy(), expected)
    accuracy = expected / len(cases)
    found = metric.compute()
    assert found["mean"].item() == pytest.approx(accuracy.max(1).mean())
    for i, name in enumerate(["30", "50", "70"]):
        assert found[f"iou_{name}"].item() == pytest.approx(accuracy[i].max())
        best = literal.THRESHOLDS[accuracy[i].argmax()]
        assert found[f"threshold_{name}"].item() == pytest.approx(best)
    np.testing.assert_allclose(metric.curve().accuracy, accuracy)


def test_it_is_the_literal_loop_on_real_maps(shared_data):
    """A real photo's brightness at 224, raw and pooled over SLIC."""
    file = sorted((shared_data / "kangaroo" / "images").glob("*.jpg"))[0]
    image = naspix.load_model("resnet18", weights=None).load_images(file, resize="squash")
    heat = image.mean(1)
    boxes = np.array([[40, 30, 180, 200], [10, 100, 90, 223]])
    for maps in (heat, naspix.superpixelify(heat, naspix.SLIC()(image).superpixels)):
        metric = MaxBoxAccV2()
        metric.update(maps, torch.from_numpy(boxes)[None])
        best = literal.best_ious(maps[0].numpy(), boxes)
        np.testing.assert_array_equal(metric.hits.numpy(), [best >= iou for iou in IOUS])


@pytest.mark.parametrize("kind", ["noise", "pooled", "rectified"])
def test_version_1_is_the_literal_loop(kind):
    metric = MaxBoxAcc()
    expected = np.zeros(1000)
    for saliency, boxes in _cases(6, kind):
        metric.update(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)])
        expected += literal.best_ious(saliency, boxes, largest_only=True) >= 0.5
    np.testing.assert_array_equal(metric.hits[0].numpy(), expected)


@given(seed=st.integers(0, 10**6), n_values=st.integers(66, 256))
def test_boxes_at_once_are_opencvs_at_each_level(seed, n_values):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(9, 24, 2)
    image = generator.integers(0, n_values, (height, width)).astype(np.uint8)
    image.flat[:n_values] = np.arange(n_values)[: image.size]
    if seed % 2:
        image = cv2.GaussianBlur(image, (3, 3), 0)
    levels = np.unique(image).astype(np.int64)
    boxes, cut = all_contour_boxes(image, levels)
    for i, level in enumerate(levels.tolist()):
        assert set(map(tuple, boxes[cut == i].tolist())) == set(
            map(tuple, contour_boxes(image, level).tolist())
        )


def test_nesting_of_one_level():
    found = nested_boxes(np.zeros((3, 4), np.uint8), 1, corners=False)
    assert [side.tolist() for side in found.sides] == [[0], [0], [3], [2]]


def test_large_maps_are_cut_level_by_level():
    saliency = cv2.resize(np.random.default_rng(0).random((3, 3)), (300, 260))
    metric = MaxBoxAccV2()
    metric.update(torch.from_numpy(saliency)[None], torch.tensor([[10, 20, 150, 140]]))
    best = literal.best_ious(saliency, np.array([[10, 20, 150, 140]]))
    np.testing.assert_array_equal(metric.hits.numpy(), [best >= iou for iou in IOUS])


def test_a_box_of_saliency_is_found_at_every_threshold():
    maps = torch.zeros(1, 40, 40)
    maps[0, 10:20, 5:25] = 3
    metric = MaxBoxAccV2()
    metric.update(maps, torch.tensor([[5, 10, 25, 20]]))
    assert (metric.hits == 1).all()
    metric.update(maps, torch.tensor([[30, 30, 38, 38]]))
    assert metric.compute()["mean"] == 0.5


def test_one_threshold_serves_all_images():
    """Each image is found at some threshold, but never both at one."""
    maps = torch.full((2, 40, 40), 0.2)
    maps[:, 0, 0] = 0
    maps[0, 10:20, 10:20] = 0.6
    maps[0, 12:14, 12:14] = 1
    maps[1, 10:20, 10:20] = 0.6
    maps[1, 15, 15] = 1
    boxes = torch.tensor([[10, 10, 20, 20], [15, 15, 16, 16]])
    metric = MaxBoxAccV2((0.7,))
    metric.update(maps, boxes)
    assert metric.compute()["iou_70"] == 0.5


def test_maps_without_values_count_as_zero_and_are_counted():
    maps = torch.rand(4, 20, 20)
    maps[1] = 5
    maps[2, 3, 3] = torch.nan
    maps[3, 3, 3] = torch.inf
    metric = MaxBoxAccV2()
    metric.update(maps, torch.tensor([[0, 0, 1, 1]]).expand(4, -1))
    assert (int(metric.n_images), int(metric.n_constant), int(metric.n_not_finite)) == (4, 1, 2)
    zeros = MaxBoxAccV2()
    zeros.update(torch.zeros(3, 20, 20), torch.tensor([[0, 0, 1, 1]]).expand(3, -1))
    rest = MaxBoxAccV2()
    rest.update(maps[:1], torch.tensor([[0, 0, 1, 1]]))
    assert torch.equal(metric.hits, zeros.hits + rest.hits)


def test_wrong_input_leaves_what_was_scored():
    metric = MaxBoxAccV2()
    maps, box = torch.rand(2, 9, 9), torch.tensor([1, 1, 5, 5])
    metric.update(maps, box.expand(2, -1))
    before = metric.hits.clone()
    for boxes, match in [
        (box.expand(3, -1), "maps of 2 images but boxes of 3"),
        ([box[None], torch.zeros(0, 4).long()], "image 1 of the batch has no box"),
        ([box[None], box[None].float()], "not whole numbers"),
        (torch.tensor([[1, 1, 5, 5], [5, 1, 1, 5]]), "image 1 .* inverted"),
        (torch.tensor([[1, 1, 5, 5], [-1, 1, 1, 5]]), "image 1 .* negative"),
    ]:
        with pytest.raises(InputError, match=match):
            metric.update(maps, boxes)
    with pytest.raises(InputError, match=r"floating \(B, H, W\)"):
        metric.update(maps.long(), box.expand(2, -1))
    assert torch.equal(metric.hits, before)
    assert int(metric.n_images) == 2
    with pytest.raises(InputError, match="above 0"):
        MaxBoxAccV2((0.5, 1.5))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_scored_is_said():
    with pytest.raises(InputError, match="no map was scored"):
        MaxBoxAccV2().compute()
    with pytest.raises(InputError, match="no pixel of an object"):
        PxAP().compute()


def test_boxes_are_scaled_with_truncation():
    boxes = torch.tensor([[59.9, 27, 333, 374]])
    found = scale_boxes(boxes, (375, 500), (224, 224))
    assert found.tolist() == [[int(59.9 * 224 / 500), 16, 149, int(374 * 224 / 375)]]
    assert scale_boxes(boxes[0], (375, 500), (375, 500)).tolist() == [59, 27, 333, 374]
    for box, match in [
        ([5, 5, 5, 9], "no area"),
        ([9, 5, 5, 9], "no area"),
        ([-1, 5, 5, 9], "negative"),
        ([50, 5, 55, 9], "outside the image"),
    ]:
        with pytest.raises(InputError, match=match):
            scale_boxes(torch.tensor([box]), (40, 40), (224, 224))
    unchecked = getattr(scale_boxes, "__wrapped__", scale_boxes)
    with pytest.raises(InputError, match="four numbers"):
        unchecked(torch.zeros(2, 5), (40, 40), (224, 224))


def test_pixel_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    maps = torch.randint(0, 40, (3, 12, 12)).float()
    maps[:, 0, 0], maps[:, 0, 1] = 0, 39
    masks = torch.randint(0, 2, (3, 12, 12))
    masks[:, :2, 5] = 255
    metric = PxAP()
    metric.update(maps[:1], masks[:1])
    metric.update(maps[1:], masks[1:])
    looked_at = masks != 255
    expected = average_precision_score(masks[looked_at], (maps / 39)[looked_at])
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)
    for wrong, match in [(masks[:2], "masks of"), (masks + 1, "other numbers")]:
        with pytest.raises(InputError, match=match):
            metric.update(maps, wrong)


def test_the_pointing_game_is_honest_about_ties():
    maps = torch.zeros(3, 10, 10)
    maps[0, 4, 4] = 1  # one pixel, inside
    maps[1, :, 5:] = 1  # half of the image, of which 10 pixels are inside
    box = torch.tensor([3, 4, 6, 8])
    shares = pointing_game(maps, box.expand(3, -1))
    assert shares.tolist() == [1, pytest.approx(10 / 50), pytest.approx(20 / 100)]
    masks = torch.zeros(3, 10, 10, dtype=torch.bool)
    masks[:, 4:9, 3:7] = True
    assert torch.equal(pointing_game(maps, masks), shares)
    # a pooled map gets what pointing at random within its best superpixel would
    labels = torch.arange(4).repeat_interleave(25).view(1, 10, 10)
    pooled = naspix.superpixelify(torch.rand(1, 10, 10), labels)
    inside = masks[:1] & (pooled == pooled.max())
    assert pointing_game(pooled, masks[:1]).item() == pytest.approx(int(inside.sum()) / 25)


def test_energy_inside():
    maps = torch.tensor([[[4.0, -9.0], [1.0, 3.0]], [[-1.0, -1.0], [0.0, 0.0]]])
    found = energy_inside(maps, torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]]))
    assert found[0] == 5 / 8
    assert found[1].isnan()
    boxes = [torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])] * 2
    assert energy_inside(maps, boxes)[0] == 7 / 8
    for call, match in [
        (lambda: energy_inside(maps[0], boxes), "not torch.float32 of shape"),
        (lambda: energy_inside(maps.log(), boxes), "not finite"),
        (lambda: pointing_game(maps, torch.zeros(2, 3, 3).bool()), "masks of"),
    ]:
        with pytest.raises(InputError, match=match):
            call()


def test_half_precision_and_constant_maps():
    assert not eight_bit(np.full((3, 3), 2.0)).any()
    metric = MaxBoxAccV2()
    metric.update(torch.rand(1, 9, 9).half(), torch.tensor([[1, 1, 5, 5]]))
    assert int(metric.n_images) == 1


def test_two_processes_score_as_one(tmp_path):
    maps = torch.rand(5, 12, 12)
    boxes = torch.tensor([[2, 2, 9, 9]]).expand(5, -1)
    np.savez(tmp_path / "maps.npz", maps=maps.numpy(), boxes=boxes.numpy())
    script = Path(__file__).parents[1] / "reference" / "score_half.py"
    processes = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    whole, pixels = MaxBoxAccV2(), PxAP()
    whole.update(maps, boxes)
    pixels.update(maps, (maps > 0.7).long())
    expected = {name: float(value) for name, value in whole.compute().items()}
    expected["pxap"] = float(pixels.compute())
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected


@pytest.mark.parametrize("turned", [False, True])
def test_metrics_beside_each_other_keep_their_own_state(turned: bool) -> None:
    kinds = [
        lambda: MaxBoxAccV2((0.3,)),
        lambda: MaxBoxAccV2((0.9,)),
        lambda: MaxBoxAccV2((0.3, 0.9)),
        lambda: MaxBoxAcc((0.3,)),
        lambda: MaxBoxAcc((0.9,)),
    ]
    names = [f"metric_{i}" for i in range(len(kinds))]
    if turned:
        names.reverse()
    together = MetricCollection({n: k() for n, k in zip(names, kinds, strict=True)}, prefix="")
    alone = {name: kind() for name, kind in zip(names, kinds, strict=True)}
    heat = torch.zeros(1, 32, 32)
    heat[0, 8:16, 8:16] = 1
    two = heat.clone()
    two[0, 20:22, 20:22] = 1
    nothing = torch.tensor([[28, 28, 31, 31]])  # the first batch hits nothing
    for maps, box in (
        (heat, nothing),
        (heat, torch.tensor([[8, 8, 12, 16]])),
        (two, torch.tensor([[20, 20, 22, 22]])),
    ):
        together.update(maps, box)
        for metric in alone.values():
            metric.update(maps, box)
    for name in names:
        assert dict(together[name].compute()) == dict(alone[name].compute())
