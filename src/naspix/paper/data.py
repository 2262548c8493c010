"""On what the paper is reproduced: what is asked, what data and networks there are, in sentences.

The paper's own data are STL-10 and CUB (``--data``, as published). A folder of pictures
(``--images``) or of Pascal VOC boxes (``--boxes``) stands in for them; without any, four photos in
scikit-image's wheel do, with boxes drawn around their object for naspix, and, where pictures with
classes are needed, views of three of them. What is found on these shows how a figure reads, no
more.

Weights are given (`--model-weights resnet18=PATH`, a file or what `naspix finetune` left; of
several those that know the pictures' classes), or the usual ones are fetched. Where neither is
possible the default network, whose weights come with the installation, stands in, and the page says
so. Random weights are never presented as a result.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from naspix import registry
from naspix.datasets import Dataset
from naspix.datasets.cub import find_cub
from naspix.datasets.stl10 import find_stl10
from naspix.errors import DatasetError, InputError, NaspixWarning, UnknownNameError, WeightsError
from naspix.evaluation.settings import Shuffled
from naspix.files import write_png, write_whole, written
from naspix.models import DEFAULT_MODEL, Classifier, load_model
from naspix.models.recipes import recipe_of
from naspix.models.saved import is_saved, read_model

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
# photo of skimage.data -> what it shows, and a box around it: left, top, right, bottom edge
_BOXED: Mapping[str, tuple[str, tuple[int, int, int, int]]] = {
    "chelsea": ("cat", (0, 0, 395, 300)),
    "coffee": ("cup", (172, 18, 402, 316)),
    "rocket": ("rocket", (307, 126, 338, 410)),
    "astronaut": ("astronaut", (18, 14, 362, 512)),
}
_ANNOTATION = (
    "<annotation><filename>{name}.png</filename><object><name>{what}</name><bndbox><xmin>{x0}"
    "</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object></annotation>\n"
)
# photo of skimage.data -> its class in ImageNet, and the middle of its object: x, y
_LABELLED: Mapping[str, tuple[str, tuple[int, int]]] = {
    "chelsea": ("tiger cat", (200, 150)),
    "coffee": ("espresso", (290, 180)),
    "rocket": ("missile", (320, 260)),
}
_PUBLISHED = {"stl10": "STL-10", "cub": "CUB"}
_VIEWS = 8
_PHOTOS, _CLASSES = "photos", "classes"  # scikit-image's, as folders beside the experiments'


@dataclass(frozen=True)
class Source:
    """Pictures that were found.

    Attributes:
        dataset: A name in ``naspix.registry.DATASETS``.
        root: Its folder.
        sentence: What they are, to follow "12 pictures:".
        parameters: Of the data set.
        is_papers: Whether the paper used them.
    """

    dataset: str
    root: str
    sentence: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_papers: bool = False

    def open(self) -> Dataset:
        """The data set, in a shuffled order that is always the same, so that a part is a sample.

        Raises:
            DatasetError: It is not there, or damaged.
        """
        dataset: Dataset = registry.find_dataset(self.dataset)(self.root, **self.parameters)
        return Shuffled(dataset)

    def counted(self, n: int) -> str:
        """A sentence about so many of them.

        Example:
            >>> Source("stl10", "data", "STL-10's test split").counted(12)
            "On 12 pictures: STL-10's test split."
        """
        return f"On {n} {'picture' if n == 1 else 'pictures'}: {self.sentence}."


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """Folders that were given.

    Each method has the folder below which scikit-image's photos are written where they are needed,
    and opens what it finds, so that what is wrong is said before anything is computed.

    Attributes:
        data: STL-10, CUB, or both, as published.
        images: Pictures, or folders of them named for their classes.
        boxes: Pictures with boxes in Pascal VOC's XML.
    """

    data: Path | None = None
    images: Path | None = None
    boxes: Path | None = None

    def photos(self, spare: Path) -> Source:
        """Pictures to look at.

        Raises:
            DatasetError: A folder that was given holds none.
        """
        if self.images is not None:
            found: Source | None = self._images("photos")
        else:
            found = self._published("stl10") or self._published("cub") or self._boxes()
        return _checked(found or sample_photos(spare / _PHOTOS))

    def labelled(self, spare: Path) -> Source:
        """Pictures with classes: STL-10's test split, the folders of ``images``, or the views.

        Raises:
            DatasetError: ``data`` holds neither STL-10 nor CUB.
        """
        found = self._published("stl10")
        if found is None and self.images is not None and self.images.is_dir():
            folders = [child for child in self.images.iterdir() if child.is_dir()]
            found = self._images("folder") if len(folders) > 1 else None
        return _checked(found or views(spare / _CLASSES))

    def training(self) -> Source | None:
        """STL-10's training split, if its files are there."""
        found = self._published("stl10")
        if found is None:
            return None
        parameters, sentence = {"split": "train"}, "STL-10's training split"
        training = replace(found, parameters=parameters, sentence=sentence)
        try:
            return _checked(training)
        except DatasetError:
            return None

    def boxed(self, spare: Path) -> Source:
        """Pictures with boxes: CUB's test split, VOC boxes, or those around scikit-image's photos.

        Raises:
            DatasetError: A folder that was given holds none.
        """
        found = self._published("cub") or self._boxes()
        return _checked(found or sample_photos(spare / _PHOTOS, boxed=True))

    def _images(self, kind: str) -> Source:
        assert self.images is not None
        return Source(kind, str(self.images.absolute()), f"the folder {self.images.name}")

    def _boxes(self) -> Source | None:
        if self.boxes is None:
            return None
        sentence = f"the folder {self.boxes.name} with its boxes"
        return Source("voc", str(self.boxes.absolute()), sentence)

    def _published(self, name: str) -> Source | None:
        """The data set if it lies in ``data``, damaged or not; that neither does is an error."""
        if self.data is None:
            return None
        if not self.data.is_dir():
            raise DatasetError(f"the folder {str(self.data)!r}, given by --data, does not exist")
        there = {"stl10": find_stl10(self.data) is not None, "cub": find_cub(self.data)}
        if not any(there.values()):
            raise DatasetError(
                f"--data holds neither data set of the paper: STL-10 has test_X.bin in "
                f"{str(self.data)!r} or in stl10_binary, CUB-200-2011 has images.txt there or in "
                "CUB_200_2011; `naspix data fetch` downloads them, and other pictures are given by "
                "--images or --boxes"
            )
        if not there[name]:
            return None
        sentence = f"{_PUBLISHED[name]}'s test split"
        return Source(name, str(self.data.absolute()), sentence, is_papers=True)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """On what, with which weights, how much of it.

    Attributes:
        at_hand: Where data lies.
        weights: Network of the paper -> its weights: a file, or the folder of `naspix finetune`;
            ``"skip"`` leaves the network out. Of several, such as one learnt on STL-10 and one on
            CUB, each experiment takes the one that knows its pictures' classes. Without an entry,
            its usual ones if they can be had.
        classes: Class of the pictures -> what networks call it, where they do not know it.
        cluster: Of a class, that figure 4 uncovers and table 1 follows, from 1; None leaves it to
            the audit.
        limit: How many pictures; None leaves it to the experiment.
        quick: Little of everything, for minutes on two cores: an impression.
        device: Where networks run.
        seed: Of everything random.
    """

    at_hand: AtHand = field(default_factory=AtHand)
    weights: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    cluster: int | None = None
    limit: int | None = None
    quick: bool = False
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is at least 1, not {self.limit}")

    def to_plain(self) -> dict[str, Any]:
        """All of it as JSON knows it."""
        folders = vars(self.at_hand).items()
        at_hand = {name: folder and str(folder.absolute()) for name, folder in folders}
        return {**asdict(self), "at_hand": at_hand}


def sample_photos(folder: Path, *, boxed: bool = False) -> Source:
    """Scikit-image's photos as files, with a box around the object of each.

    Args:
        folder: Made if it is not there.
        boxed: Whether it is the boxes that are wanted.

    Raises:
        OutputError: They cannot be written.
    """
    import skimage.data

    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, (what, (x0, y0, x1, y1)) in _BOXED.items():
            if not (folder / f"{name}.png").exists():
                write_png(folder / f"{name}.png", getattr(skimage.data, name)())
            with write_whole(folder / f"{name}.xml") as file:
                text = _ANNOTATION.format(name=name, what=what, x0=x0 + 1, y0=y0 + 1, x1=x1, y1=y1)
                file.write(text.encode())
    instead = ", since none were given by --images or --data"
    if boxed:
        instead = " with boxes drawn for naspix, since none were given by --boxes or --data"
    sentence = f"scikit-image's photos ({', '.join(_BOXED)}){instead}"
    return Source("voc", str(folder.absolute()), sentence)


def views(folder: Path) -> Source:
    """Pictures with classes: eight overlapping squares of each of three photos, a folder a class.

    Raises:
        OutputError: They cannot be written.
    """
    import skimage.data

    with written(folder):
        for name, (category, middle) in _LABELLED.items():
            (folder / category).mkdir(parents=True, exist_ok=True)
            for place, view in enumerate(_squares(getattr(skimage.data, name)(), middle)):
                write_png(folder / category / f"{name}-{place}.png", view)
    sentence = (
        "eight squares each of scikit-image's photos of a cat, a cup and a rocket, since no "
        "pictures with classes were given by --images (a folder a class) or --data (STL-10)"
    )
    return Source("folder", str(folder.absolute()), sentence)


def _squares(
    photo: UInt8[np.ndarray, "H W 3"], middle: tuple[int, int]
) -> list[UInt8[np.ndarray, "s s 3"]]:
    """Squares of eight sizes around the object, shifted to all sides."""
    height, width = photo.shape[:2]
    found = []
    for place in range(_VIEWS):
        side = min(height, width) * (0.68 + 0.035 * place)
        turn = 2 * np.pi * place / _VIEWS
        x = middle[0] + 0.12 * side * np.cos(turn) - side / 2
        y = middle[1] + 0.12 * side * np.sin(turn) - side / 2
        left = round(min(max(x, 0), width - side))
        top = round(min(max(y, 0), height - side))
        found.append(photo[top : top + round(side), left : left + round(side)])
    return found


def _checked(source: Source) -> Source:
    source.open()
    return source


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
