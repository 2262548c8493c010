"""The claims about photos that are cut, each on three made-up records: one for each verdict."""

from collections.abc import Callable

import numpy as np
import pytest

from naspix.paper import maps, semantics
from naspix.paper.evaluations import METHODS
from naspix.paper.published import published
from naspix.paper.running import EXPERIMENTS
from naspix.paper.segmentations import KeptCut, KeptPhoto

_SIDE = 40
Cuts = dict[tuple[str, str], KeptCut]


def stripes(n: int, shift: int = 0) -> np.ndarray:
    """So many upright stripes."""
    across = (np.arange(_SIDE) + shift) % _SIDE * n // _SIDE
    return np.tile(across, (_SIDE, 1))


def cut(labels: np.ndarray, clusters: np.ndarray | None = None, **more: object) -> KeptCut:
    found: dict[str, object] = {
        "clusters": labels if clusters is None else clusters,
        "superpixels": labels,
        "n_superpixels": int(labels.max()) + 1,
        **dict.fromkeys(("frequency", "cluster_ari", "superpixel_ari", "aris", "numbers")),
        **more,
    }
    return KeptCut(**found)  # type: ignore[arg-type]


def photos(cuts: Callable[[int], Cuts], n: int = 24) -> list[KeptPhoto]:
    """Photos of two halves, dark and bright, a box around the left one."""
    image = np.repeat((stripes(2) * 0.8 + 0.1)[..., None], 3, 2).astype(np.float32)
    return [KeptPhoto(f"{i}", image, stripes(2) == 0, {}, cuts(i)) for i in range(n)]


AT_EDGE, AWAY = stripes(2), stripes(2, shift=10)  # a boundary at the photo's edge, or not


def figure1(others: np.ndarray, net: np.ndarray, vit: np.ndarray) -> Cuts:
    names = {"ResNet18": net, "ViT16": vit, "SLIC": others, "Felzenszwalb": others}
    return {("", name): cut(labels) for name, labels in names.items()}


def figure3(*levels: np.ndarray) -> Cuts:
    names = [f"level {number}" for number in (0, 2, 4)]
    return {
        (row, name): cut(labels)
        for row in ("K = 2", "K = 5")
        for name, labels in zip(names, levels, strict=True)
    }


def outside(felzenszwalb: int, others: int) -> Cuts:
    """So many superpixels outside the box, one inside it."""

    def labels(n: int) -> np.ndarray:
        return np.where(stripes(2) == 0, 0, stripes(2 * n) - n + 1)

    names = {"ResNet18": others, "SLIC": others, "Felzenszwalb": felzenszwalb}
    return {("", name): cut(labels(n)) for name, n in names.items()}


def variants(network: str, kept: bool) -> Cuts:
    """All variants as the whole algorithm, or none."""
    other = stripes(2) if kept else stripes(2).T
    return {
        (f"{network}, {which}", name): cut(stripes(2) if name == "Algorithm 1" else other)
        for which in ("all levels", "last three")
        for name in ("Algorithm 1", "without line 10", "without line 11", "without both")
    }


def agreed(of_pairs: float, with_mean: float) -> Cuts:
    aris = np.full(10, with_mean)
    return {("ResNet18", "K = 5"): cut(stripes(2), cluster_ari=of_pairs, aris=aris, numbers=aris)}


def trees(*, refines: bool, same: bool) -> Cuts:
    found = {}
    for place, n in enumerate((2, 4)):
        labels = stripes(n) if refines or not place else stripes(n).T
        found[f"K = {n}", "Ward"] = cut(labels)
        found[f"K = {n}", "k-means"] = cut(stripes(n))
        found[f"K = {n}", "Ward again"] = cut(labels if same else labels[:, ::-1])
    return found


def either(i: int, one: Cuts, other: Cuts) -> Cuts:
    """The one for even photos, the other for odd ones, so that nothing can be told."""
    return other if i % 2 else one


ONE = figure1(AT_EDGE, AWAY, AWAY)
TWO = figure1(AWAY, AT_EDGE, AWAY)
EDGY = figure1(AWAY, AWAY, AT_EDGE)
FEW, MANY = stripes(2), stripes(8)
FALLING, RISING = figure3(stripes(10), stripes(5), FEW), figure3(FEW, stripes(5), stripes(10))
RECORDS: dict[str, tuple[Cuts, Cuts]] = {  # of which it holds, of which it does not
    "others_follow_edges": (ONE, TWO),
    "felzenszwalb_outside": (outside(6, 2), outside(2, 6)),
    "vit_edges": (EDGY, TWO),
    "vit_fragments": (figure1(FEW, FEW, MANY), figure1(FEW, MANY, FEW)),
    "shallow_edges": (
        figure3(AT_EDGE, np.where(np.arange(_SIDE)[:, None] < 20, AT_EDGE, AWAY), AWAY),
        figure3(AWAY, np.where(np.arange(_SIDE)[:, None] < 20, AT_EDGE, AWAY), AT_EDGE),
    ),
    "deep_fewer": (FALLING, RISING),
    "level_0_colour": (figure3(AT_EDGE, AWAY, AWAY), figure3(AWAY, AWAY, AT_EDGE)),
    "vgg_stands": (variants("VGG16", True), variants("VGG16", False)),
    "resnets_fade": (variants("ResNet18", False), variants("ResNet18", True)),
    "vit_unmoved": (variants("ViT16", True), variants("ViT16", False)),
    "mean_exists": (agreed(0.5, 0.7), agreed(0.7, 0.5)),
    "refines": (trees(refines=True, same=True), trees(refines=False, same=True)),
    "deterministic": (trees(refines=True, same=True), trees(refines=True, same=False)),
}
EXACT = ("vit_unmoved", "refines", "deterministic")  # one counterexample refutes them
FIGURES = ("figure1", "figure3", "figure7", "figure8", "figure9")
TESTS = {name: test for figure in FIGURES for name, test in EXPERIMENTS[figure].claims.items()}


def test_every_claim_at_hand_is_tried() -> None:
    assert set(TESTS) == set(RECORDS)
    for figure in FIGURES:
        assert list(EXPERIMENTS[figure].claims) == list(published(figure).claims)


@pytest.mark.parametrize("name", TESTS)
def test_it_holds_fails_or_cannot_be_told(name: str) -> None:
    good, bad = RECORDS[name]
    holds, why = TESTS[name](photos(lambda i: good))
    assert holds is True, why
    holds, why = TESTS[name](photos(lambda i: bad))
    assert holds is False, why
    if name not in EXACT:
        holds, why = TESTS[name](photos(lambda i: either(i, good, bad)))
        assert holds is None, why
        assert "pictures would tell" in why
    holds, why = TESTS[name](photos(lambda i: good, n=19))
    assert holds is None
    assert "19 pictures are too few to tell (20 at least)" in why


def classed(own: np.ndarray, shared: np.ndarray) -> Cuts:
    return {
        ("", "clusters of the image"): cut(own),
        ("", "clusters of the class"): cut(shared),
    }


def test_clusters_of_an_image_and_of_its_class_agree_or_not() -> None:
    one, other = stripes(2), stripes(2).T
    good = photos(lambda i: either(i, classed(one, one), classed(other, other)))
    assert semantics.consistent(good)[0] is True
    bad = photos(lambda i: either(i, classed(one, other), classed(other, one)))
    assert semantics.consistent(bad)[0] is False
    none = photos(lambda i: classed(one, one))
    assert semantics.consistent(none)[0] is None
    assert semantics.has_counterpart(good, 1)[0] is True
    assert semantics.has_counterpart(bad, 1)[0] is False
    some = photos(lambda i: either(min(i % 3, 1), classed(one, one), classed(one, other)))
    assert semantics.has_counterpart(some, 1)[0] is None


def test_photos_without_boxes_or_networks_do_not_tell() -> None:
    without = [
        KeptPhoto(each.id, each.image, None, {}, each.cuts)
        for each in photos(lambda i: outside(6, 2))
    ]
    assert TESTS["felzenszwalb_outside"](without)[0] is None
    for name, network in (("vgg_stands", "ResNet18"), ("resnets_fade", "VGG16")):
        holds, why = TESTS[name](photos(lambda i, network=network: variants(network, True)))
        assert holds is None
        assert "not at hand" in why


def test_levels_are_compared_one_after_the_other() -> None:
    _, why = TESTS["deep_fewer"](photos(lambda i: FALLING))
    assert "level 0 and level 2 +5, level 2 and level 4 +3" in why


def explained(
    inside: float, *, first: bool = False, three: float = 0.0, n: int = 24
) -> list[maps.ExplainedPhoto]:
    """Photos whose maps are higher in the left half, where the box is, or lower."""
    halves, draw = stripes(2), np.random.default_rng(0)
    found = []
    for i in range(n):
        # a third region keeps every map's scale
        superpixels = np.where(np.arange(_SIDE)[:, None] < 8, 2 + 0 * halves, halves)
        raw = {}
        for method in METHODS:
            gain = inside + three * (method in ("grad_cam_plus_plus", "rise", "xrai"))
            values = np.array([0.5 + gain / 2, 0.5 - gain / 2, 0.5]) + 0.05 * draw.standard_normal(
                3
            )
            raw[method] = np.where(np.arange(_SIDE) < 0, 0, values[superpixels]).astype(np.float32)
        order = np.where(superpixels == 0, 0 if first else 2, 1)
        found.append(
            maps.ExplainedPhoto(
                f"{i}", np.zeros((_SIDE, _SIDE, 3)), raw, {"nas": superpixels}, {"nas": order},
                halves == 0,
            )
        )  # fmt: skip
    return found


def test_pooled_maps_set_the_object_off_or_not() -> None:
    assert maps.sets_object_off(explained(0.8))[0] is True
    assert maps.sets_object_off(explained(-0.8))[0] is False
    assert maps.sets_object_off(explained(0.0))[0] is None
    assert maps.sets_object_off(explained(0.8, n=19))[0] is None
    assert maps.most_for_three(explained(-0.4, three=0.8))[0] is True
    assert maps.most_for_three(explained(0.4, three=-0.8))[0] is False
    assert maps.most_for_three(explained(0.0))[0] is None


def test_one_object_that_is_hidden_first_is_enough() -> None:
    assert maps.hides_object_first(explained(0.5, first=True, n=1) + explained(0.5))[0] is True
    assert maps.hides_object_first(explained(0.5, n=60))[0] is False
    assert maps.hides_object_first(explained(0.5))[0] is None
