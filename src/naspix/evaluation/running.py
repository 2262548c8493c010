"""An evaluation from settings to a finished run's folder, gone on with after a stop."""

import os
from collections.abc import Callable

from naspix.evaluation.evaluator import Evaluation
from naspix.evaluation.page import write_results
from naspix.evaluation.settings import EvaluationSettings, fingerprint
from naspix.runs import Engine, Run, carry_out, open_run

_FREE = ("batch_size",)  # no record depends on it


def evaluate(
    settings: EvaluationSettings,
    output: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] = lambda n_done, n_all: None,
    render: bool = True,
) -> Run:
    """Evaluate explanations on a data set, or go on where it was interrupted.

    Writes the run's records as it goes; at the end ``scores.csv``, ``table.csv``,
    ``records.parquet``, and ``report.html`` with pictures of a few examples.

    Args:
        settings: What is asked.
        output: The run's folder, new or begun with the same settings.
        engine: Who computes; this process by default.
        progress: Told how many pictures are done more, and how many there are.
        render: Whether tables, page and pictures are written at the end.

    Returns:
        The finished run.

    Raises:
        InputError: Settings that cannot be, or others than the folder's.
        OutputError: The folder cannot be written, or another process writes to it.
    """
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
