"""An evaluation from settings to a finished run's folder, gone on with after a stop."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from naspix.errors import InputError, UnknownNameError
from naspix.evaluation.evaluator import Evaluation
from naspix.evaluation.page import write_results
from naspix.evaluation.settings import EvaluationSettings, fingerprint
from naspix.runs import Engine, Run, carry_out, open_run

_FREE = ("batch_size",)  # no record depends on it


def evaluate(
    settings: EvaluationSettings | str,
    output: str | os.PathLike[str] | None = None,
    *,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] = lambda n_done, n_all: None,
    render: bool = True,
    **more: Any,
) -> Run:
    """Evaluate explanations on a data set, or go on where it was interrupted.

    Writes the run's records as it goes; at the end ``scores.csv``, ``table.csv``,
    ``records.parquet``, and ``report.html`` with pictures of a few examples.

    Args:
        settings: What is asked; or the task's name, with the other settings by their names.
        output: The run's folder, new or begun with the same settings.
        engine: Who computes; this process by default.
        progress: Told how many pictures are done more, and how many there are.
        render: Whether tables, page and pictures are written at the end.
        more: ``dataset``, ``root``, ``model`` and so on, as `EvaluationSettings` has them, where
            only the task is named.

    Returns:
        The finished run.

    Raises:
        InputError: Settings that cannot be, or others than the folder's.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    settings = _settings(settings, more)
    if output is None:
        raise InputError("evaluate needs the run's folder as well, output=")
    evaluation = Evaluation(settings)
    n_items = len(evaluation.dataset)
    n_items = n_items if settings.limit is None else min(settings.limit, n_items)
    plain = {**settings.to_plain(), "data": fingerprint(evaluation.dataset)}
    with open_run(output, kind=settings.task, settings=plain, growing=["limit"], free=_FREE) as run:
        make_worker = evaluation.begin(run, n_items)
        carry_out(
            run,
            make_worker,
            n_items=n_items,
            batch_size=settings.batch_size,
            engine=engine,
            progress=lambda n_more: progress(n_more, n_items),
        )
        if render:
            write_results(run.run, make_worker)
    return run.run


def _settings(settings: object, more: dict[str, Any]) -> EvaluationSettings:
    """Settings as they are, or of a task's name and others by name, with the paper's defaults."""
    if isinstance(settings, EvaluationSettings):
        if more:
            raise InputError(f"{', '.join(more)} belong into the settings that are given")
        return settings
    if not isinstance(settings, str):
        raise InputError(
            f"evaluate takes EvaluationSettings, or a task's name, not {type(settings).__name__}"
        )
    known = {one.name: one for one in dataclasses.fields(EvaluationSettings)}
    for name in more:
        if name not in known:
            raise UnknownNameError.among("setting of evaluate", name, known)
    missing = [
        name
        for name, one in known.items()
        if name not in ("task", *more)
        and one.default is dataclasses.MISSING
        and one.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"evaluate({settings!r}, ...) needs {' and '.join(missing)} as well")
    more = {**more, "root": os.path.abspath(more["root"])}
    return EvaluationSettings(task=settings, **more).with_parameters()  # type: ignore[arg-type]
