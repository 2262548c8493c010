"""Boxes in the picture's frame: laws over any numbers, and each kind of bad box."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from naspix.datasets.boxes import fitted_boxes

side = st.floats(-1000, 1000)
boxes = st.lists(st.tuples(side, side, side, side), max_size=6)


@given(boxes, st.integers(1, 600), st.integers(1, 600))
def test_whatever_comes_out_lies_inside(drawn, height, width):
    found = fitted_boxes(drawn, list(range(len(drawn))), (height, width))
    x0, y0, x1, y1 = found.boxes.unbind(1)
    assert bool(
        (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= width).all() and (y1 <= height).all()
    )
    assert bool((x1 >= x0).all() and (y1 >= y0).all())
    left_out = sum("left out" in problem for problem in found.problems)
    assert len(found.boxes) == len(found.labels) == len(drawn) - left_out


@given(st.integers(1, 8), st.integers(20, 200), st.integers(20, 200))
def test_a_copy_at_another_scale_has_its_boxes_scaled(scale, height, width):
    box = (1.0, 2.0, 15.0, 19.0)
    found = fitted_boxes([box], [0], (height * scale, width * scale), (height, width))
    torch.testing.assert_close(found.boxes, torch.tensor([box]) * scale)
    assert not found.problems


@pytest.mark.parametrize(
    ("box", "kept", "says"),
    [
        ((2, 3, 10, 12), [2, 3, 10, 12], ""),
        ((-1, 0, 31, 20), [0, 0, 30, 20], ""),  # a pixel too many is how people count
        ((-5, 3, 10, 12), [0, 3, 10, 12], "reaches outside"),
        ((2, 3, 10, 33), [2, 3, 10, 20], "reaches outside"),
        ((40, 3, 50, 12), None, "lies outside"),
        ((10, 3, 2, 12), None, "no area"),
        ((10, 3, 10, 12), None, "no area"),
        ((float("nan"), 3, 10, 12), None, "not made of numbers"),
        ((2, 3, float("inf"), 12), None, "not made of numbers"),
    ],
)
def test_bad_boxes(box, kept, says):
    found = fitted_boxes([box], [7], (20, 30))
    assert found.boxes.tolist() == ([] if kept is None else [kept])
    assert found.labels.tolist() == ([] if kept is None else [7])
    assert len(found.problems) == bool(says)
    assert all(says in problem for problem in found.problems)
