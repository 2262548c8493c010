"""What is asked of an evaluation, as plain values, and the objects that they stand for.

One frozen dataclass from the command line to the record. A method or segmenter may be asked for
several times with other parameters: ``nas@coarse`` is another NAS, whose parameters are set by that
name. What is given as an object is held beside the names, and described in the record.
"""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from naspix import registry
from naspix.datasets import Dataset
from naspix.errors import InputError, UnknownNameError
from naspix.evaluation.measures import GREEDY, MEASURES, Measure
from naspix.explain import described
from naspix.models import Classifier, ModelSettings
from naspix.pipeline import RAW, Method, RandomRegions, Segmenter
from naspix.segmentation import NAS
from naspix.settings import read_assignments, settable

Task = Literal["lerf", "wsol", "semantics"]
N_CLUSTERS: Mapping[str, int] = {"lerf": 5, "wsol": 10, "semantics": 5}  # the paper's K
RANDOM = "random"
_ORDER_SEED = 0  # of the order in which pictures are taken
_BOTH = " both ways"  # ends the name of a part that both orders of LeRF are asked of


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What is given as an object of the user's rather than by name.

    Attributes:
        model: The network.
        dataset: The pictures.
        target: What is asked about: any callable, or a ``Contrast``.
        methods: Saliency methods by the names in ``EvaluationSettings.methods``.
        segmenters: Segmenters, in the same way.
    """

    model: Classifier | None = None
    dataset: Dataset | None = None
    target: object = None
    methods: Mapping[str, Method] = field(default_factory=dict)
    segmenters: Mapping[str, Segmenter] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """What is told of them in a record, by kind; nothing of those that are not given."""
        plain: dict[str, Any] = {
            "model": self.model and _described(self.model),
            "dataset": self.dataset and _described(self.dataset),
            "methods": {name: _described(each) for name, each in self.methods.items()},
            "segmenters": {name: _described(each) for name, each in self.segmenters.items()},
        }
        return {name: value for name, value in plain.items() if value}


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
        parameters: Name -> parameter -> value, for methods, segmenters, the data set, the task. NAS
            has the paper's number of clusters for the task, where none is given.
        target: ``"predicted"``, ``"label"``, a class, or ``"true"``: a picture's own class where
            the network knows it, else the predicted one. None is ``"true"`` for ``"wsol"``, whose
            protocol explains the true class, and ``"predicted"`` for other tasks.
        classes: Class of the data set -> what the network calls it, or its nearest, where the
            names differ.
        only: The class of the data set whose pictures alone are taken; None for all.
        skip: How many of them, the first, are left out.
        limit: How many pictures; None for all. They are taken in a shuffled order, the same always.
        batch_size: Pictures that are explained, written, and at worst lost, at once.
        match: Give other segmenters, where they are not set, about as many superpixels as the
            first NAS.
        objects: What is an object rather than what its name stands for.
    """

    task: Task
    dataset: str
    root: str
    methods: tuple[str, ...] = ("grad_cam_plus_plus",)
    segmenters: tuple[str, ...] = (RAW, "slic", "nas")
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target: str | int | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None
    skip: int = 0
    limit: int | None = None
    batch_size: int = 8
    match: bool = True
    objects: Objects = field(default_factory=Objects)

    def __post_init__(self) -> None:
        if self.task not in MEASURES:
            raise UnknownNameError.among("task", self.task, MEASURES)
        if self.target is None:
            target = "true" if self.task == "wsol" else "predicted"
            object.__setattr__(self, "target", target)
        if not self.methods:
            raise InputError("at least one --method is needed")
        segmenters = dict.fromkeys((RAW, *self.segmenters))
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        object.__setattr__(self, "segmenters", tuple(segmenters))
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
        of_nas: dict[str, Any] = {"levels": tuple(levels)} if levels else {}
        of_nas |= {} if n_clusters is None else {"n_clusters": n_clusters}
        parameters: dict[str, dict[str, Any]] = {}
        for name, owner in owners.items():
            values = dict(of_nas) if owner is NAS else {}
            if seed and "seed" in settable(owner):
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

    @property
    def parts(self) -> dict[str, tuple[str, str]]:
        """What is asked of each picture: a name for each method with each segmenter."""
        of_task = self._of(self.task)
        segmenters = sorted(self.segmenters, key=lambda name: _base(name) == RANDOM)
        asked = [(method, segmenter) for method in self.methods for segmenter in segmenters]
        if of_task.get("greedy"):
            asked += [(GREEDY, segmenter) for segmenter in segmenters if segmenter != RAW]
        plain = {f"{method} + {segmenter}": (method, segmenter) for method, segmenter in asked}
        if not of_task.get("both"):
            return plain
        return {f"{name}{_BOTH * (pair[0] != GREEDY)}": pair for name, pair in plain.items()}

    def owners(self) -> dict[str, type]:
        """Name -> the class whose parameters are set by it; objects have theirs already.

        Raises:
            UnknownNameError: A name is not known.
        """
        owners: dict[str, type] = {}
        for name in self.methods:
            if name not in self.objects.methods:
                owners[name] = registry.find_method(_base(name))
        for name in self.segmenters:
            if name != RAW and name not in self.objects.segmenters:
                random = _base(name) == RANDOM
                owners[name] = RandomRegions if random else registry.find_segmenter(_base(name))
        if self.objects.dataset is None:
            owners[self.dataset] = registry.find_dataset(self.dataset)
        return owners | {self.task: MEASURES[self.task]}

    def to_plain(self) -> dict[str, Any]:
        """All settings as JSON knows them, what is measured and on which data first."""
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        plain["parameters"] = {name: self._of(name) for name in (*self.owners(), *self.parameters)}
        objects = plain.pop("objects").to_plain()
        return {
            **{name: plain.pop(name) for name in ("task", "dataset", "root")},
            **plain,
            **({"objects": objects} if objects else {}),
        }

    def load(self) -> Classifier:
        """The network: the one that is given, or that of a name, on its device."""
        return super().load() if self.objects.model is None else self.objects.model

    def make_dataset(self) -> Dataset:
        """The data set.

        Raises:
            DatasetError: It is not there, or damaged.
        """
        dataset = self.objects.dataset
        if dataset is None:
            dataset = registry.find_dataset(self.dataset)(self.root, **self._of(self.dataset))
        return Shuffled(dataset, only=self.only, skip=self.skip)

    def make_methods(self, model: Classifier) -> dict[str, Method]:
        """Name -> saliency method."""
        own = self.objects.methods
        return {
            name: own[name]
            if name in own
            else registry.find_method(_base(name))(model, **self._of(name))
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
            if name in self.objects.segmenters:
                made[name] = self.objects.segmenters[name]
            elif _base(name) == RANDOM:
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
        first = self.objects.segmenters.get(self.first_nas or "")
        if not (self.match and self.first_nas and isinstance(first, NAS | None)):
            return []
        return [
            name
            for name, owner in self.owners().items()
            if name in self.segmenters
            and owner not in (NAS, RandomRegions)
            and hasattr(owner, "match")
            and not set(self.parameters.get(name, ())) - {"seed"}
        ]

    def _of(self, name: str) -> dict[str, Any]:
        """A thing's parameters: those that are given, and defaults that a record tells."""
        owner, found = self.owners().get(name), {}
        if owner is NAS:
            found = {"levels": (), "n_clusters": N_CLUSTERS[self.task]}
        if owner is not None and "seed" in settable(owner):
            found["seed"] = 0
        return {**found, **self.parameters.get(name, {})}


class Shuffled:
    """A data set in another order, so that any first part of it is a fair sample.

    Classes take turns: the first thousand pictures of ten classes are a hundred of each.

    Args:
        dataset: In its own order.
        only: The class whose pictures alone are taken.
        skip: How many of them, the first, are left out.

    Raises:
        UnknownNameError: The data set has no such class.
    """

    def __init__(self, dataset: Dataset, *, only: str | None = None, skip: int = 0) -> None:
        if only is not None and only not in dataset.categories:
            raise UnknownNameError.among("class of the data set", only, dataset.categories)
        label = None if only is None else dataset.categories.index(only)
        self.dataset = dataset
        shuffled = np.random.default_rng(_ORDER_SEED).permutation(len(dataset)).tolist()
        seen: Counter[int | None] = Counter()
        turns = []
        for place in shuffled:
            turns.append((seen[dataset.labels[place]], place))
            seen[dataset.labels[place]] += 1
        places = [place for _, place in sorted(turns, key=lambda turn: turn[0])]
        kept = [place for place in places if only is None or dataset.labels[place] == label]
        self.order = kept[skip:]
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


def _described(one: object) -> str:
    """The repr of an object, in which a network is its name and no address of memory stands."""
    text = described(one) if callable(one) else repr(one)
    model = getattr(one, "model", None)
    if isinstance(one, Classifier):
        return f"{one.name}, {one.in_channels} x {one.input_size[0]} x {one.input_size[1]}"
    if isinstance(model, Classifier):
        text = text.replace(repr(model), model.name)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _base(name: str) -> str:
    """The registered name of what ``nas@coarse`` is."""
    return name.partition("@")[0]
