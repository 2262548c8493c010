"""The paper's four networks, with weights that are real, or left out.

Weights are given (`--model-weights resnet18=PATH`, a file or what `naspix finetune` left; of
several those that know the pictures' classes), or the usual ones are fetched. Where neither is
possible the default network, whose weights come with the installation, stands in, and the page says
so. Random weights are never presented as a result.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from naspix.errors import NaspixWarning, UnknownNameError, WeightsError
from naspix.models import DEFAULT_MODEL, Classifier, load_model
from naspix.models.recipes import recipe_of
from naspix.models.saved import is_saved, read_model
from naspix.paper.data import Conditions

TITLES: Mapping[str, str] = {
    "vgg16": "VGG16",
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
    "vit_b_16": "ViT16",
    DEFAULT_MODEL: "EfficientNet-Lite0",
}
PAPERS: tuple[str, ...] = ("vgg16", "resnet18", "resnet50", "vit_b_16")
SKIP = "skip"
_USUAL = "default"
_FOREIGN = ", which has learnt none of the pictures' classes"


def find_networks(
    names: Sequence[str], conditions: Conditions, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Which of the paper's networks have weights here, as plain values.

    Args:
        names: The paper's networks that an experiment wants.
        conditions: Weights that are given. If it is to be quick, nothing is downloaded.
        classes: The pictures' classes, if they have any.

    Returns:
        ``"weights"``: name -> ``"default"``, a file or a folder, the default network's last if one
        is missing; ``"missing"``: name -> why, a few words; ``"foreign"``: names of those that
        have learnt none of the pictures' classes, if there are any.

    Raises:
        UnknownNameError: Weights are given for a network that the paper has not.
        WeightsError: Weights that are given cannot be read, or are another network's.

    Warns:
        NaspixWarning: A network has learnt none of the pictures' classes.
    """
    for name in conditions.weights:
        if name not in PAPERS:
            raise UnknownNameError.among("network of the paper", name, PAPERS)
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    foreign: list[str] = []
    for name in names:
        given = conditions.weights.get(name, _USUAL)
        if given == SKIP:
            missing[name] = "left out as asked"
        elif given != _USUAL:
            chosen, knows = _fitting(name, [given] if isinstance(given, str) else given, classes)
            found[name] = str(Path(chosen).absolute())
            foreign += [] if knows else [name]
        elif conditions.quick and not _is_cached(name):
            missing[name] = "not on this machine, and --quick downloads none"
        else:
            try:
                load_model(name)
                found[name] = _USUAL
            except WeightsError:
                missing[name] = "cannot be downloaded from here"
    if missing:
        found[DEFAULT_MODEL] = _USUAL
    return {"weights": found, "missing": missing, **({"foreign": foreign} if foreign else {})}


def load_networks(found: Mapping[str, Any], device: str) -> dict[str, Classifier]:
    """The networks that `find_networks` found, by name."""
    return {name: load_network(name, weights, device) for name, weights in found["weights"].items()}


def sentence_on(found: Mapping[str, Any]) -> str:
    """Which weights the networks have, and what is missing, for a page.

    Example:
        >>> sentence_on({"weights": {"resnet18": "default"}, "missing": {}})
        'ResNet18 with its usual ImageNet weights.'
        >>> sentence_on({"weights": {"vgg16": "/some/birds"}, "missing": {}})
        'VGG16 with the weights in birds.'
    """
    parts = [
        f"{TITLES[name]} with "
        + (
            "its usual ImageNet weights"
            if given == _USUAL
            else f"the weights in {Path(given).name}"
        )
        + (_FOREIGN if name in found.get("foreign", ()) else "")
        for name, given in found["weights"].items()
        if not (found["missing"] and name == DEFAULT_MODEL)
    ]
    sentence = f"{_listed(parts)}." if parts else ""
    if found["missing"]:
        names = _listed([TITLES[name] for name in found["missing"]])
        reasons = "; ".join(dict.fromkeys(found["missing"].values()))
        first = next(iter(found["missing"]))
        sentence += (
            f" Left out, because real weights are not at hand ({reasons}): {names}; "
            f"{TITLES[DEFAULT_MODEL]}, which naspix brings along, stands in, with its own "
            "levels 3 and 4 where the paper has 2 to 4. Weights are given by "
            f"--model-weights {first}=PATH, a file or a folder of naspix finetune."
        )
    return sentence.strip()


def load_network(name: str, weights: str, device: str) -> Classifier:
    """One network with the weights that were found.

    Args:
        name: The network's.
        weights: ``"default"``, a file or a folder.
        device: Where it runs.

    Raises:
        WeightsError: They cannot be read, or are another network's.
    """
    if weights == _USUAL:
        return load_model(name, device=device)
    if is_saved(weights):
        described, _ = read_model(weights)
        if described.network != name:
            raise WeightsError(
                f"--model-weights {name}={weights} holds a {described.network}; give it as "
                f"{described.network}={weights}, or another folder"
            )
        return load_model(weights, device=device)
    return load_model(name, weights=weights, device=device)


def _fitting(name: str, several: Sequence[str], classes: Sequence[str]) -> tuple[str, bool]:
    """The first weights that know the classes, or else the first; and whether they do."""
    known = [  # what is wrong with any is said at once
        _knows(load_network(name, weights, "cpu"), classes) for weights in several
    ]
    if not classes or any(known):
        return several[known.index(True) if classes else 0], True
    warnings.warn(
        f"--model-weights {name}={several[0]} has learnt none of the pictures' classes "
        f"({', '.join(list(classes)[:3])}, ...)",
        NaspixWarning,
        stacklevel=3,
    )
    return several[0], False


def _knows(model: Classifier, classes: Sequence[str]) -> bool:
    """Whether a network has classes of these names, or as many without names."""
    if model.categories is None:
        return model.n_classes == len(classes)
    return not {each.casefold() for each in classes}.isdisjoint(map(str.casefold, model.categories))


def _is_cached(name: str) -> bool:
    import torch

    file = recipe_of(name).origin.rpartition("/")[2]
    return Path(torch.hub.get_dir(), "checkpoints", file).is_file()


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
