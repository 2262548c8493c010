"""``naspix evaluate``: a data set in, a run's folder with records, tables and a page out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.options import (
    OTHER_CLASS,
    DatasetName,
    EngineOptions,
    Json,
    ModelsOptions,
    assignments,
    read_classes,
    read_levels,
    several,
)

if TYPE_CHECKING:
    from naspix.runs import Failure

TaskName = Literal["lerf", "wsol", "semantics"]
_MODEL, _ENGINE = ModelsOptions(), EngineOptions()
_SECONDS_BETWEEN_LINES = 30.0


def evaluate(
    task: Annotated[TaskName, Parameter(help="What is measured.")],
    /,
    *,
    dataset: Annotated[DatasetName, Parameter(help="What kind of files --root holds.")],
    root: Annotated[Path, Parameter(help="The data set's folder.")],
    output: Annotated[
        Path, Parameter(alias="-o", help="The run's folder; given again, the run goes on.")
    ],
    method: Annotated[tuple[str, ...], several("Saliency method")] = ("grad_cam_plus_plus",),
    segmenter: Annotated[
        tuple[str, ...],
        several("What maps are pooled over: none, random (the control), nas, slic, ..."),
    ] = ("none", "slic", "nas"),
    target: Annotated[
        str | None,
        Parameter(
            help="Class to explain: predicted, label, true (label where the network knows it, else "
            "predicted), or a class's number or name; by default true for wsol, else predicted.",
            show_default=False,
        ),
    ] = None,
    class_: Annotated[tuple[str, ...], OTHER_CLASS] = (),
    set_: Annotated[tuple[str, ...], assignments("a method, segmenter, data set or the task")] = (),
    levels: Annotated[
        str,
        Parameter(help="Of NAS, as in naspix segment.", show_default=False),
    ] = "",
    n_clusters: Annotated[
        int | None,
        Parameter(alias="-k", help="Of NAS; 5, and 10 for wsol, as in the paper."),
    ] = None,
    seed: Annotated[int, Parameter(help="Of everything random.")] = 0,
    match: Annotated[
        bool,
        Parameter(
            help="Give other segmenters, whose parameters are not set, as many superpixels as NAS "
            "has."
        ),
    ] = True,
    limit: Annotated[
        int | None,
        Parameter(help="Only so many pictures, in a shuffled order; may grow when a run goes on."),
    ] = None,
    batch_size: Annotated[int, Parameter(help="Pictures that are explained and kept at once.")] = 8,
    model: ModelsOptions = _MODEL,
    engine: EngineOptions = _ENGINE,
    json: Json = False,
) -> int:
    """Judge explanations on a data set: LeRF, localisation, saliency by meaning.

    Writes records as it goes, then scores.csv, table.csv and report.html, into the output folder.
    The same command goes on where it was stopped.
    """
    import naspix

    chosen = engine.make()
    with progress_of_run(n_runs=len(model.model)) as step:
        results = naspix.evaluate(
            task,
            output,
            dataset=dataset,
            root=root,
            methods=method,
            segmenters=segmenter,
            target=target,
            classes=read_classes(class_),
            levels=read_levels(levels),
            n_clusters=n_clusters,
            seed=seed,
            parameters=set_,
            limit=limit,
            batch_size=batch_size,
            match=match,
            engine=chosen,
            progress=step,
            **model.plain,
        )
    say_failures(results.failures)
    if json:
        import json as encoder

        scores = results.scores().astype(object)
        rows = scores.where(scores.notna(), None).to_dict("records")
    print(encoder.dumps(rows, indent=1) if json else results)  # noqa: T201 - a result
    talk.say(f"see {output / 'report.html'}")
    return 0


@contextmanager
def progress_of_run(
    doing: str = "evaluating", items: str = "pictures", n_runs: int = 1
) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere a line now and then, and one at the end.

    Args:
        doing: Said beside the bar.
        items: What is counted.
        n_runs: Of how many runs, each of which tells what it has already.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    lines = None if console.is_terminal else _Lines(items, n_runs)
    with bar:
        task = bar.add_task(doing, total=None)

        def step(n_more: int, n_all: int) -> None:
            bar.update(task, total=n_all)
            bar.advance(task, n_more)
            if lines is not None:
                lines.step(n_more, n_all)

        yield step
    if lines is not None:
        lines.end()


class _Lines:
    """Says now and then how far it is, and how long it will take; at the end what was done."""

    def __init__(self, items: str, n_runs: int) -> None:
        self._items, self._n_runs = items, n_runs
        self._done = self._all = 0
        self._at_start: int | None = None
        self._begin = self._last = time.monotonic()

    def step(self, n_more: int, n_all: int) -> None:
        """Count more of them."""
        self._done += n_more
        self._all = n_all
        now = time.monotonic()
        if self._at_start is None:  # what former runs have done
            self._at_start, self._begin = self._done, now
            if self._done:
                talk.say(f"{self._done} of {n_all} {self._items} are done already")
            return
        if now - self._last < _SECONDS_BETWEEN_LINES or self._done >= n_all:
            return
        self._last = now
        rate = (self._done - self._at_start) / (now - self._begin)
        left = _duration((n_all - self._done) / rate)
        talk.say(f"{self._done} of {n_all} {self._items}, {left} left")

    def end(self) -> None:
        """Say how many are done, how many of them now, and in what time."""
        now = self._done - (self._at_start or 0)
        if not now:
            return
        took = _duration(time.monotonic() - self._begin)
        some = f" {now} of them now," if self._at_start and self._n_runs == 1 else ""
        talk.say(f"{self._done} of {self._all} {self._items} are done,{some} in {took}")


def _duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds.

    Example:
        >>> _duration(3725), _duration(65)
        ('1 h 02 min', '1 min 05 s')
    """
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def say_failures(failures: "Sequence[Failure]") -> None:
    """Say which pictures were left out, the first ten by name."""
    for failure in failures[:10]:
        talk.say(f"left out {failure.item}: {failure.reason}")
    if len(failures) > 10:
        talk.say(f"and {len(failures) - 10} more")
