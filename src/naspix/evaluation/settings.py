"""What is asked of an evaluation, as plain values, and the objects that they stand for.

One frozen dataclass from the command line to the record. A method or segmenter may be asked for
several times with other parameters: ``nas@coarse`` is another NAS, whose parameters are set by that
name.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from naspix import registry
from naspix.datasets import Dataset
from naspix.errors import InputError, UnknownNameError
from naspix.evaluation.measures import MEASURES, Measure
from naspix.models import Classifier, ModelSettings
from naspix.pipeline import RAW, Method, RandomRegions, Segmenter
from naspix.segmentation import NAS
from naspix.settings import read_assignments, settable

Task = Literal["lerf", "wsol", "semantics"]
N_CLUSTERS: Mapping[str, int] = {"lerf": 5, "wsol": 10, "semantics": 5}  # the paper's K
RANDOM = "random"
_ORDER_SEED = 0  # of the order in which pictures are taken


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ModelSettings):
    """What is asked for: of which network, as in `ModelSettings`, and what.

    Attributes:
        task: What is measured.
        dataset: A name in ``naspix.registry.DATASETS``.
        root: Its folder.
        methods: Names of saliency methods, perhaps with ``@`` and a word.
        segmenters: The same for segmenters; ``"none"`` is the raw map, which is always there;
            ``"random"`` is the control with the sizes of the first NAS.
        parameters: Name -> parameter -> value, for methods, segmenters, the data set, the task.
        target: ``"predicted"``, ``"label"``, a class, or ``"true"``: a picture's own class where
            the network knows it, else the predicted one. None is ``"true"`` for ``"wsol"``, whose
            protocol explains the true class, and ``"predicted"`` for other tasks.
        classes: Class of the data set -> what the network calls it, or its nearest, where the
            names differ.
        limit: How many pictures; None for all. They are taken in a shuffled order, the same always.
        batch_size: Pictures that are explained, written, and at worst lost, at once.
        match: Give other segmenters, where they are not set, about as many superpixels as the
            first NAS.
    """

    task: Task
    dataset: str
    root: str
    methods: tuple[str, ...] = ("grad_cam_plus_plus",)
    segmenters: tuple[str, ...] = (RAW, "nas")
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str | int | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    batch_size: int = 8
    match: bool = True

    def __post_init__(self) -> None:
        if self.task not in MEASURES:
            raise UnknownNameError.among("task", self.task, MEASURES)
        if self.target is None:
            target = "true" if self.task == "wsol" else "predicted"
            object.__setattr__(self, "target", target)
        if not self.methods:
            raise InputError("at least one --method is needed")
        for name in ("methods", "segmenters"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        for name in ("batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is at least 1, not {value}")
        if RANDOM in map(_base, self.segmenters) and self.first_nas is None:
            raise InputError(
                "--segmenter random has as many and as large regions as NAS; add --segmenter nas"
            )
        self.owners()

    def with_parameters(
        self,
        assignments: Sequence[str] = (),
        *,
        levels: Sequence[int | str] = (),
        n_clusters: int | None = None,
        seed: int = 0,
    ) -> "EvaluationSettings":
        """The same with parameters in words, and those that many things share.

        Args:
            assignments: ``NAME.PARAMETER=VALUE``, which count more than the others.
            levels: Of every NAS.
            n_clusters: Of every NAS; the paper's for the task by default.
            seed: Of everything random.

        Raises:
            InputError: A value that does not fit.
        """
        owners = self.owners()
        of_nas = {"levels": tuple(levels), "n_clusters": n_clusters or N_CLUSTERS[self.task]}
        parameters: dict[str, dict[str, Any]] = {}
        for name, owner in owners.items():
            values = dict(of_nas) if owner is NAS else {}
            if "seed" in settable(owner):
                values["seed"] = seed
            if values:
                parameters[name] = values
        for source in (self.parameters, read_assignments(assignments, owners)):
            for name, given in source.items():
                parameters.setdefault(name, {}).update(given)
        return replace(self, parameters=parameters)

    @property
    def first_nas(self) -> str | None:
        """The NAS that others are compared with."""
        return next((name for name in self.segmenters if _base(name) == "nas"), None)

    def owners(self) -> dict[str, type]:
        """Name -> the class whose parameters are set by it.

        Raises:
            UnknownNameError: A name is not known.
        """
        owners: dict[str, type] = {name: registry.find_method(_base(name)) for name in self.methods}
        for name in self.segmenters:
            if name != RAW:
                random = _base(name) == RANDOM
                owners[name] = RandomRegions if random else registry.find_segmenter(_base(name))
        return owners | {
            self.dataset: registry.find_dataset(self.dataset),
            self.task: MEASURES[self.task],
        }

    def to_plain(self) -> dict[str, Any]:
        """All settings as JSON knows them, what is measured and on which data first."""
        plain = dataclasses.asdict(self)
        return {**{name: plain.pop(name) for name in ("task", "dataset", "root")}, **plain}

    def make_dataset(self) -> Dataset:
        """The data set.

        Raises:
            DatasetError: It is not there, or damaged.
        """
        dataset: Dataset = registry.find_dataset(self.dataset)(self.root, **self._of(self.dataset))
        return Shuffled(dataset)

    def make_methods(self, model: Classifier) -> dict[str, Method]:
        """Name -> saliency method."""
        return {
            name: registry.find_method(_base(name))(model, **self._of(name))
            for name in self.methods
        }

    def make_segmenters(
        self, model: Classifier, matched: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Segmenter | RandomRegions]:
        """Name -> segmenter, the random ones last.

        Args:
            model: For NAS.
            matched: Parameters found by matching, by name.
        """
        made: dict[str, Segmenter | RandomRegions] = {}
        names = [name for name in self.segmenters if name != RAW]
        for name in sorted(names, key=lambda name: _base(name) == RANDOM):
            values = {**matched.get(name, {}), **self._of(name)}
            if _base(name) == RANDOM:
                assert self.first_nas is not None
                made[name] = RandomRegions(**{"of": self.first_nas, **values})
            else:
                kind = registry.find_segmenter(_base(name))
                made[name] = NAS(model, **values) if kind is NAS else kind(**values)
        return made

    def make_measure(self) -> Measure:
        """What is written down."""
        measure: Measure = MEASURES[self.task](**self._of(self.task))
        return measure

    def to_match(self) -> list[str]:
        """The segmenters whose number of superpixels is to be that of the first NAS."""
        if not (self.match and self.first_nas):
            return []
        return [
            name
            for name in self.segmenters
            if name != RAW
            and _base(name) not in ("nas", RANDOM)
            and hasattr(registry.find_segmenter(_base(name)), "match")
            and not self._of(name)
        ]

    def _of(self, name: str) -> dict[str, Any]:
        return dict(self.parameters.get(name, {}))


class Shuffled:
    """A data set in another order, so that any first part of it is a fair sample.

    Classes take turns: the first thousand pictures of ten classes are a hundred of each.

    Args:
        dataset: In its own order.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        shuffled = np.random.default_rng(_ORDER_SEED).permutation(len(dataset)).tolist()
        seen: Counter[int | None] = Counter()
        turns = []
        for place in shuffled:
            turns.append((seen[dataset.labels[place]], place))
            seen[dataset.labels[place]] += 1
        self.order = [place for _, place in sorted(turns, key=lambda turn: turn[0])]
        self.ids = tuple(dataset.ids[place] for place in self.order)
        self.labels = tuple(dataset.labels[place] for place in self.order)
        self.categories = dataset.categories

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int, /) -> Any:
        """Read one picture."""
        return self.dataset[self.order[index]]


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What tells whether a data set is still the same: its length, and a hash of its names."""
    names = hashlib.sha256("\n".join(dataset.ids).encode())
    return {"n_pictures": len(dataset), "names_sha256": names.hexdigest()[:16]}


def classes_of(
    dataset: Dataset, model: Classifier, named: Mapping[str, str] | None = None
) -> dict[int, int]:
    """The model's class for each class of a data set, by name, or by number if there are as many.

    Classes that the model does not know are left out.

    Args:
        dataset: Says its classes' names.
        model: Says its own.
        named: Class of the data set -> what the model calls it, where the names differ.

    Raises:
        UnknownNameError: The data set, or the model, has no class of a name that is given.
    """
    given = {}
    for theirs, ours in (named or {}).items():
        if theirs not in dataset.categories:
            raise UnknownNameError.among("class of the data set", theirs, dataset.categories)
        given[dataset.categories.index(theirs)] = model.find_class(ours)
    known = {name.casefold(): index for index, name in enumerate(model.categories or ())}
    by_name = {
        number: known[name.casefold()]
        for number, name in enumerate(dataset.categories)
        if name.casefold() in known
    }
    by_name |= given
    if by_name or len(dataset.categories) != model.n_classes:
        return by_name
    return {number: number for number in range(len(dataset.categories))}


def _base(name: str) -> str:
    """The registered name of what ``nas@coarse`` is."""
    return name.partition("@")[0]
