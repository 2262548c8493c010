"""Regions of a film keep their numbers: where it stands still, moves, is cut, or changes size."""

from itertools import pairwise

import pytest
import skimage.data
import torch
from torch import Tensor

import naspix
from naspix.clustering.features import UpsampledFeatures
from naspix.errors import InputError
from naspix.segmentation.tracking import Tracker


@pytest.fixture(scope="module")
def nas() -> naspix.NAS:
    return naspix.NAS(naspix.load_model("efficientnet_lite0"), n_clusters=4)


def window(left: int, photo: Tensor) -> Tensor:
    return photo[:, :, 40:200, left : left + 160]


@pytest.fixture(scope="module")
def cat() -> Tensor:
    return torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def cup() -> Tensor:
    return torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1)[None] / 255


def numbers(segmentation: naspix.Segmentation) -> Tensor:
    assert segmentation.tracks is not None
    return segmentation.tracks[segmentation.superpixels[0]]


def test_the_first_frame_is_the_plain_segmentation(nas: naspix.NAS, cat: Tensor) -> None:
    (first,) = nas.track([window(60, cat)])
    assert first == nas(window(60, cat))
    assert torch.equal(first.tracks, torch.arange(len(first.tracks)))  # type: ignore[arg-type]


def test_a_film_that_stands_still_keeps_everything(nas: naspix.NAS, cat: Tensor) -> None:
    exact = naspix.NAS(nas.model, n_clusters=4, tol=0)
    frames = list(exact.track([window(60, cat)] * 3))
    assert torch.equal(frames[0].clusters, frames[2].clusters)
    assert torch.equal(numbers(frames[0]), numbers(frames[2]))


def test_regions_move_with_the_picture(nas: naspix.NAS, cat: Tensor) -> None:
    """More pixels keep their cluster than frame by frame, and most their superpixel."""
    lefts = range(30, 90, 3)
    films = [window(left, cat) for left in lefts]
    tracked = list(nas.track(films))
    alone = [nas(frame) for frame in films]

    def kept(maps: list[Tensor]) -> float:
        shares = [(a[:, 3:] == b[:, :-3]).double().mean() for a, b in pairwise(maps)]
        return float(torch.stack(shares).mean())

    clusters = kept([one.clusters[0] for one in tracked])
    assert clusters > 0.9
    assert clusters > kept([one.clusters[0] for one in alone])
    assert kept([numbers(one) for one in tracked]) > 0.85


def test_after_a_cut_numbers_are_new_and_regions_those_of_a_fresh_start(
    nas: naspix.NAS, cat: Tensor, cup: Tensor
) -> None:
    film = [window(60, cat), window(62, cat), window(100, cup), window(102, cup)]
    before, last, after, following = nas.track(film)
    assert after == nas(window(100, cup))
    assert not set(numbers(after).unique().tolist()) & set(
        numbers(before).unique().tolist() + numbers(last).unique().tolist()
    )
    assert set(numbers(after).unique().tolist()) & set(numbers(following).unique().tolist())


def test_a_frame_of_another_size_begins_anew(nas: naspix.NAS, cat: Tensor) -> None:
    small = cat[:, :, :128, :128]
    _, other = nas.track([window(60, cat), small])
    assert other == nas(small)


@pytest.mark.filterwarnings("ignore:.*fewer distinct:naspix.NaspixWarning")
def test_a_cluster_that_a_frame_lacks_keeps_its_number() -> None:
    """Three colours; then one of them is gone; then it is back under its number."""
    colours = torch.eye(3)[:, :, None, None]  # features of unit norm, as line 10 has them
    three = torch.cat([colours[i : i + 1].expand(1, 3, 6, 2) for i in range(3)], 3)
    two = torch.cat([colours[i : i + 1].expand(1, 3, 6, 3) for i in (0, 1)], 3)
    tracker = Tracker(3, n_init=4, max_iter=50, tol=0, seed=0, connectivity=4, min_size=0)
    maps = [tracker(UpsampledFeatures([one], (6, 6)))[0][0] for one in (three, two, three)]
    assert len(maps[0].unique()) == 3
    assert len(maps[1].unique()) == 2
    assert torch.equal(maps[1][:, :2], maps[0][:, :2])
    assert torch.equal(maps[2], maps[0])


def test_frames_come_one_after_the_other(nas: naspix.NAS, cat: Tensor) -> None:
    asked = []

    def film():  # type: ignore[no-untyped-def]
        for left in range(60, 70, 2):
            asked.append(left)
            yield window(left, cat)

    tracked = nas.track(film())
    next(tracked)
    assert asked == [60]


def test_what_cannot_be_tracked_is_refused(nas: naspix.NAS, cat: Tensor) -> None:
    with pytest.raises(InputError, match="one at a time"):
        list(nas.track([torch.cat([window(60, cat)] * 2)]))
    with pytest.raises(InputError, match="by k-means"):
        naspix.NAS(nas.model, algorithm="ward").track([])


def test_other_segmentations_have_no_tracks(nas: naspix.NAS, cat: Tensor) -> None:
    assert nas(window(60, cat)).tracks is None
