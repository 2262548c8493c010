"""What is asked about: a class, why one and not another, several at once, or any number.

A target is plain: a number, a name, a list with an entry for each image, a tensor, None for the
predicted classes, one of the classes here, or any callable that makes one number an image of what
the network returns.
"""

from naspix.targets.classes import (
    Contrast,
    Each,
    OneTarget,
    Target,
    as_given,
    asks_predicted,
    check_length,
    find_class,
    part_of,
    pick_scores,
    resolve,
)
from naspix.targets.numbers import (
    ClassScore,
    Detection,
    Number,
    Region,
    Regression,
    Similarity,
    asks_number,
    name_of,
    one_each,
    with_class_numbers,
)

__all__ = [
    "ClassScore",
    "Contrast",
    "Detection",
    "Each",
    "Number",
    "OneTarget",
    "Region",
    "Regression",
    "Similarity",
    "Target",
    "as_given",
    "asks_number",
    "asks_predicted",
    "check_length",
    "find_class",
    "name_of",
    "one_each",
    "part_of",
    "pick_scores",
    "resolve",
    "with_class_numbers",
]
