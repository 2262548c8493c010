"""The canonical order of labels."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from naspix.clustering import canonical_order


@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.permutations(range(6)))
def test_renaming_the_labels_changes_nothing(labels, names):
    clusters = torch.tensor(labels).view(1, 3, 4)
    renamed = torch.tensor(names)[clusters]
    ordered = canonical_order(clusters)
    assert torch.equal(canonical_order(renamed), ordered)
    assert torch.equal(canonical_order(ordered), ordered)
    sizes = ordered.flatten().bincount().tolist()
    assert sizes == sorted(sizes, reverse=True)
    assert 0 not in sizes


def test_ties_go_by_first_pixel():
    assert canonical_order(torch.tensor([[[3, 1, 1, 3], [2, 2, 0, 5]]])).tolist() == [
        [[0, 1, 1, 0], [2, 2, 3, 4]]
    ]
