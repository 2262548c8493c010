"""An evaluation from what is asked to finished folders, gone on with after a stop.

`evaluate` is the door: names and objects in, `Results` out. Each network has a run of its own,
which `evaluate_run` begins or goes on with; of several networks each lies in a folder below.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from naspix.datasets import Dataset
from naspix.errors import InputError, UnknownNameError
from naspix.evaluation.evaluator import Evaluation
from naspix.evaluation.examples import FOLDER as PICTURES
from naspix.evaluation.examples import LIST as PICTURE_LIST
from naspix.evaluation.measures import CLASSES
from naspix.evaluation.page import PAGE, write_comparison, write_results
from naspix.evaluation.results import Results
from naspix.evaluation.settings import EvaluationSettings, Objects, Task, fingerprint
from naspix.explain import Method, Segmenter, named_apart
from naspix.files import written
from naspix.models import Classifier, Model, as_classifier
from naspix.models.own_network import absolute_name, short_name
from naspix.runs import STORE, Engine, Run, carry_out, is_run, locked, open_run, read_run
from naspix.settings import settable
from naspix.targets import Contrast, Number, asks_number, name_of

# no number depends on these, or they only say which of the numbers are asked for
_FREE = (
    *("batch_size", "device", "limit", "methods", "segmenters", "match"),
    *("parameters.lerf.greedy", "parameters.lerf.both", "parameters.lerf.batch_size"),
)


def evaluate(
    task: Task | EvaluationSettings,
    output: str | os.PathLike[str] | None = None,
    *,
    dataset: str | Dataset | None = None,
    root: str | os.PathLike[str] | None = None,
    model: Model | Sequence[Model] | Mapping[str, Model] | None = None,
    methods: Method | Sequence[Method] | Mapping[str, Method] | None = None,
    segmenters: Segmenter | Sequence[Segmenter] | Mapping[str, Segmenter] | None = None,
    target: str | int | Contrast | Number | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | Sequence[str] = (),
    levels: Sequence[int | str] = (),
    n_clusters: int | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] = lambda n_done, n_all: None,
    render: bool = True,
    **more: Any,
) -> Results:
    """Evaluate explanations on a data set, or go on where it was interrupted.

    Writes the run's records as it goes; at the end ``scores.csv``, ``table.csv``, ``pictures.csv``
    (each picture's own scores), ``tables.md``, ``tables.tex``, ``records.parquet``, and
    ``report.html`` with pictures of a few examples. What ``naspix evaluate`` writes for the same
    question is the same.

    A folder that holds a run of the same question goes on: with other methods, segmenters or
    networks, more or fewer pictures, another batch size or device, what is there is used, and what
    lacks is computed. What would change a number is refused, and the difference told.

    Args:
        task: What is measured: ``"lerf"``, ``"wsol"`` or ``"semantics"``; or all settings.
        output: The folder, new or begun before.
        dataset: A name in ``naspix.registry.DATASETS``, or a data set of your own, as
            ``naspix.datasets.Dataset`` describes.
        root: The folder of a data set that is given by name.
        model: As for `explain`: a name, a ``Classifier``, a network of timm's, a function from
            images to scores; several of these, or names of your own for them, for one table of all
            of them. The default network if absent.
        methods: Names of saliency methods, callables ``(images, target) -> (B, H, W)``, or names
            of your own for these; Grad-CAM++ if absent. With several networks, naspix's own
            methods are asked about each of them.
        segmenters: Names, callables ``images -> Segmentation`` or labels ``(B, H, W)``, or names of
            your own for these; the raw map, SLIC and NAS if absent.
        target: ``"predicted"``, ``"label"``, ``"true"`` (the label where the network knows it, else
            the predicted class), a class, a ``Contrast``, or any callable from the network's output
            to one number an image, such as those of ``naspix.targets``, which the record knows by
            its name; if absent, ``"true"`` for ``"wsol"``, else ``"predicted"``.
        parameters: Name of a method, segmenter, data set or of the task -> parameter -> value; or
            the words of ``--set``, such as ``["rise.n_masks=500", "lerf.greedy=true"]``.
        levels: Of every NAS.
        n_clusters: Of every NAS; 5, and 10 for ``"wsol"``, as in the paper, if absent.
        seed: Of everything random.
        engine: Who computes; this process by default. Other processes want objects that can be
            pickled: functions of a file, not of a notebook.
        progress: Told how many pictures are done more, and how many there are.
        render: Whether tables, page and pictures are written at the end.
        more: ``weights``, ``device``, ``scores``, ``categories``, ``classes``, ``limit``,
            ``batch_size`` and ``match``, as ``EvaluationSettings`` has them.

    Returns:
        The finished runs: tables, scores, curves.

    Raises:
        InputError: Settings that cannot be, or others than the folder's.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    given: dict[str, Any] = {
        "dataset": dataset,
        "root": root,
        "model": model,
        "methods": methods,
        "segmenters": segmenters,
        "target": target,
    }
    given = {name: value for name, value in given.items() if value is not None} | more
    shared: dict[str, Any] = {"levels": levels, "n_clusters": n_clusters, "seed": seed}
    if isinstance(parameters, Mapping):
        given["parameters"] = parameters
    else:
        shared["assignments"] = tuple(parameters)
    if isinstance(task, EvaluationSettings):
        wrong = [*given, *(name for name, value in shared.items() if value)]
        if wrong:
            raise InputError(f"{', '.join(wrong)} belong into the settings that are given")
        asked = {task.model: task}
    elif isinstance(task, str):
        asked = _settings(task, given, shared)
    else:
        raise InputError(
            f"evaluate takes EvaluationSettings, or a task's name, not {type(task).__name__}"
        )
    if output is None:
        raise InputError("evaluate needs the run's folder as well, output=")
    folders = _folders(Path(output), asked)
    runs: dict[str, Run] = {}
    for name, settings in asked.items():
        runs[name] = evaluate_run(
            settings,
            folders[name],
            engine=engine,
            progress=lambda n_more, n_items: progress(n_more, len(asked) * n_items),
            render=render,
        )
    results = Results(Path(output), runs)
    if render and any(folder != Path(output) for folder in folders.values()):
        write_comparison(Path(output), runs)
    return results


def evaluate_run(
    settings: EvaluationSettings,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] = lambda n_done, n_all: None,
    render: bool = True,
) -> Run:
    """One network's evaluation in a folder; arguments and errors are those of `evaluate`."""
    evaluation = Evaluation(settings)
    n_items = len(evaluation.dataset)
    n_items = n_items if settings.limit is None else min(settings.limit, n_items)
    plain = {**settings.to_plain(), "data": fingerprint(evaluation.dataset)}
    former = list(settings.parts)  # or those of a run that does not name them itself

    def joined(before: Run, now: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
        if before.n_items and "parts" not in before.header["found"]:
            former[:] = _parts_of(before, settings)
        return _joined(before, now, settings)

    with open_run(output, kind=settings.task, settings=plain, free=_FREE, joined=joined) as run:
        digest = run.find("weights", lambda: evaluation.digest)
        if digest != evaluation.digest:
            raise InputError(
                f"{os.fspath(output)} was made with other weights of {evaluation.model.name} "
                f"(digest {digest}, now {evaluation.digest}); give the former weights to continue "
                "it, or another --output"
            )
        run.find("parts", lambda: former)
        make_worker = evaluation.begin(run, n_items)
        run.show(range(n_items), settings.parts, by=("method", "segmenter"))
        carry_out(
            run,
            make_worker,
            n_items=n_items,
            batch_size=settings.batch_size,
            engine=engine,
            parts=list(settings.parts),
            progress=lambda n_more: progress(n_more, n_items),
        )
        failures = run.run.failures
        if failures and len(failures) == run.run.n_items:
            raise InputError(
                f"none of the {len(failures)} pictures could be explained; {failures[0].item}: "
                f"{failures[0].reason}"
            )
        if render:
            write_results(run.run, make_worker)
    return run.run


def render_evaluation(folder: str | os.PathLike[str]) -> Path:
    """Draw tables and page of an evaluation again, finished or not, without computing.

    Args:
        folder: One network's, or that of several.

    Returns:
        The page.

    Raises:
        InputError: There is no evaluation, or it has no records yet.
    """
    folder = Path(folder)
    places = [folder] if is_run(folder) else sorted(path.parent for path in _runs_below(folder))
    runs = {place.name: read_run(place) for place in places}
    if not runs:
        raise InputError(f"{folder} is no run: it has no {STORE}")
    for run in runs.values():
        write_results(run)
    if places != [folder]:
        write_comparison(folder, runs)
    return folder / PAGE


def _runs_below(folder: Path) -> list[Path]:
    return list(folder.glob(f"*/{STORE}"))


# ------------------------------------------------------------------- what is asked, as settings


def _settings(
    task: str, given: dict[str, Any], shared: dict[str, Any]
) -> dict[str, EvaluationSettings]:
    """Network's name -> settings of a task's name and others by name."""
    known = {one.name: one for one in fields(EvaluationSettings) if one.name != "objects"}
    for name in given:
        if name not in known:
            raise UnknownNameError.among("setting of evaluate", name, known)
    own: dict[str, Any] = {}
    if not isinstance(given.get("dataset", ""), str):
        own["dataset"] = given["dataset"]
        given = {"root": "", **given, "dataset": type(given["dataset"]).__name__}
    missing = [
        name
        for name, one in known.items()
        if name not in ("task", *given) and _default(one) is MISSING
    ]
    if missing:
        raise InputError(f"evaluate({task!r}, ...) needs {' and '.join(missing)} as well")
    given["root"] = os.path.abspath(given["root"]) if given["root"] else ""
    target = given.get("target")
    if asks_number(target) or isinstance(target, Contrast):
        own["target"] = target
        given["target"] = name_of(target) if asks_number(target) else str(target)
    for kind in ("methods", "segmenters"):
        if kind in given:
            names = _named(kind, given[kind])
            given[kind] = tuple(names)
            own[kind] = {name: one for name, one in names.items() if not isinstance(one, str)}
    networks = _networks(given.pop("model", None))
    found = {}
    for name, network in networks.items():
        its = dict(own)
        if isinstance(network, Classifier):
            its["model"] = network
            if len(networks) > 1:
                its |= {kind: _bound(own.get(kind, {}), network) for kind in own if kind in given}
            given |= {"model": network.name, "device": str(network.device)}
        else:
            given["model"] = absolute_name(network)
        settings = EvaluationSettings(task=task, objects=Objects(**its), **given)  # type: ignore[arg-type]
        found[name] = settings.with_parameters(**shared)
    return found


def _default(one: "Field[Any]") -> object:
    """What a field is by default; MISSING where it has to be given."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def _named(kind: str, given: Any) -> dict[str, Any]:
    """Names of methods or segmenters -> themselves, and of objects -> the objects."""
    asked: Any = "method" if kind == "methods" else "segmenter"
    if not isinstance(given, Mapping):
        return named_apart(asked, given)
    for name, one in given.items():
        if isinstance(one, str) or not callable(one):
            raise InputError(f"{kind}[{name!r}] is a {type(one).__name__}; give a function")
    return {str(name): one for name, one in given.items()}


def _networks(given: Any) -> dict[str, str | Classifier]:
    """Names of networks -> what they are loaded by, or the networks."""
    if given is None:
        given = EvaluationSettings.model
    if not isinstance(given, Mapping):
        several = list(given) if isinstance(given, list | tuple) else [given]
        given = {getattr(one, "name", None) or short_name(str(one)): one for one in several}
        if len(given) < max(1, len(several)):
            raise InputError(
                "several models have the same name, or there are none; give each a name of yours, "
                "model={'a': ..., 'b': ...}"
            )
    return {
        str(name): os.fspath(one)
        if isinstance(one, str | os.PathLike)
        else as_classifier(one, "evaluate")
        for name, one in given.items()
    }


def _bound(asked: Mapping[str, Any], network: Classifier) -> dict[str, Any]:
    """Methods or segmenters that ask this network, where they ask one at all."""
    bound = dict(asked)
    for name, one in asked.items():
        asks_one = isinstance(getattr(one, "model", None), Classifier)
        if asks_one and is_dataclass(one) and not isinstance(one, type):
            bound[name] = replace(one, model=network)
    return bound


def _folders(output: Path, asked: Mapping[str, EvaluationSettings]) -> dict[str, Path]:
    """Where each network's run lies: the folder itself, or one below where there are several.

    A run in the folder itself goes into the one below, once another network is asked for.
    """
    if len(asked) == 1 and not _runs_below(output):
        return dict.fromkeys(asked, output)
    folders = {name: output / re.sub(r"[^\w.+-]+", "-", name).strip("-.") for name in asked}
    if is_run(output):
        with locked(output):
            model = read_run(output).settings["model"]
            place = next((folders[name] for name in asked if asked[name].model == model), None)
            if place is None:
                raise InputError(
                    f"{output} holds a run of {model}; name that model too, or another --output"
                )
            with written(place):
                place.mkdir()
                for name in (CLASSES, PICTURES, PICTURE_LIST, STORE):
                    if (output / name).exists():
                        (output / name).rename(place / name)
    return folders


# --------------------------------------------------------------------- what is there already


def _parts_of(before: Run, settings: EvaluationSettings) -> list[str]:
    """The parts of a former run, by its settings."""
    former = before.settings
    return [
        *replace(
            settings,
            methods=tuple(former["methods"]),
            segmenters=tuple(former["segmenters"]),
            parameters={settings.task: former["parameters"].get(settings.task, {})},
            objects=Objects(),
        ).parts
    ]


def _joined(
    before: Run, now: Mapping[str, Any], settings: EvaluationSettings
) -> tuple[Mapping[str, Any], list[str]]:
    """Settings with those of all that is there already; and which may differ, since they are new.

    Raises:
        InputError: A segmenter would have another number of superpixels than before.
    """
    former = before.settings
    parameters, objects = dict(former.get("parameters", {})), dict(former.get("objects", {}))
    then = {*parameters, *former["methods"], *former["segmenters"]}
    then |= {name for kind in ("methods", "segmenters") for name in objects.get(kind, ())}
    free = ["weights"] if "weights" in before.header["found"] else []
    for name, owner in settings.owners().items():
        if name not in then:
            free.append(f"parameters.{name}")
            continue
        for one in fields(owner):  # what the record of a former version leaves out by default
            value = now["parameters"].get(name, {}).get(one.name, MISSING)
            default = _default(one)
            default = list(default) if isinstance(default, tuple) else default
            told = one.name in parameters.get(name, {})
            if one.name in settable(owner) and value == default and not told:
                free.append(f"parameters.{name}.{one.name}")
    its = now.get("objects", {})
    for kind in ("methods", "segmenters"):
        free += [f"objects.{kind}.{name}" for name in its.get(kind, ()) if name not in then]
        if kind in objects or kind in its:
            objects[kind] = {**objects.get(kind, {}), **its.get(kind, {})}
    objects |= {kind: its[kind] for kind in its if kind not in objects}
    _check_matched(before, settings, then)
    kept = {**now, "parameters": {**parameters, **now["parameters"]}}
    return {**kept, "objects": objects} if objects else kept, free


def _check_matched(before: Run, settings: EvaluationSettings, then: Iterable[str]) -> None:
    """Refuse to mix superpixels of one segmenter that are as many as NAS's with others.

    Raises:
        InputError: Naming it.
    """
    found = before.header["found"]
    to_match, matched = settings.to_match(), found.get("matched", {})
    for name in settings.owners():
        if not before.n_items or name not in then or name not in settings.segmenters:
            continue
        first = found.get("matched_to", settings.first_nas)
        was, now = (first if name in matched else None), settings.first_nas
        now = now if name in to_match else None
        if was != now:
            then_and_now = [
                "its own number of superpixels" if one is None else f"as many superpixels as {one}"
                for one in (was, now)
            ]
            raise InputError(
                f"{before.folder} holds a run with other settings: {name} had {then_and_now[0]} "
                f"and would have {then_and_now[1]} now; give the former segmenters to continue it, "
                "or another --output"
            )
