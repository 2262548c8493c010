import pytest

from naspix.datasets import CUB200, VOCBoxes
from naspix.errors import InputError, UnknownNameError
from naspix.saliency import LIME, RISE, XRAI, GradCAM, IntegratedGradients
from naspix.segmentation import NAS, SLIC
from naspix.settings import read_assignments, settable

OWNERS = {
    "rise": RISE,
    "ig": IntegratedGradients,
    "cam": GradCAM,
    "nas": NAS,
    "slic": SLIC,
    "voc": VOCBoxes,
    "cub": CUB200,
    "xrai": XRAI,
}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("rise.n_masks=500", 500),
        ("rise.p = 0.25", 0.25),
        ("rise.until=none", None),
        ("rise.until=0.1", 0.1),
        ("ig.baseline=black", "black"),
        ("cam.layer=4", 4),
        ("cam.layer=blocks.3", "blocks.3"),
        ("cam.layer=none", None),
        ("nas.levels=2,3,blocks.4", (2, 3, "blocks.4")),
        ("nas.levels=", ()),
        ("nas.normalize=false", False),
        ("nas.connectivity=8", 8),
        ("nas.size=32,48", (32, 48)),
        ("slic.compactness=20", 20),
        ("slic.compactness=0.5", 0.5),
        ("voc.first_pixel=0", 0),
        ("voc.categories=cat,dog", ("cat", "dog")),
        ("cub.split=val", "val"),
    ],
)
def test_words_become_values_of_the_fields_type(words: str, value: object) -> None:
    ((fields),) = read_assignments([words], OWNERS).values()
    ((found),) = fields.values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rise.n_masks=many", "rise.n_masks is a whole number, not 'many'"),
        ("rise.until=soon", "rise.until is none or a number, not 'soon'"),
        ("rise.p=", "rise.p is a number, not ''"),
        ("nas.algorithm=kmean", "nas.algorithm is one of kmeans, ward, not 'kmean'"),
        ("nas.normalize=maybe", "nas.normalize is true or false, not 'maybe'"),
        ("nas.size=3", "nas.size is 2 values with commas between them or none, not '3'"),
        ("rise.n_masks", "--set takes NAME.PARAMETER=VALUE, not 'rise.n_masks'"),
        ("n_masks=3", "--set takes NAME.PARAMETER=VALUE, not 'n_masks=3'"),
    ],
)
def test_words_that_are_no_value_are_refused(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_assignments([words], OWNERS)
    assert str(error.value) == message


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="parameter of rise 'n_mask'; did you mean 'n_masks"):
        read_assignments(["rise.n_mask=3"], OWNERS)
    with pytest.raises(UnknownNameError, match="'raise'; did you mean 'rise'"):
        read_assignments(["raise.n_masks=3"], OWNERS)


def test_what_words_cannot_give_is_not_offered() -> None:
    assert set(settable(XRAI)) == {
        "variant", "area_threshold", "min_pixels", "n_steps", "batch_size",
    }  # fmt: skip
    assert "model" not in settable(LIME)


def test_the_later_of_two_counts() -> None:
    found = read_assignments(["rise.cells=3", "rise.p=0.1", "rise.cells=4"], OWNERS)
    assert found == {"rise": {"cells": 4, "p": 0.1}}
