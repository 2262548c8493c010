"""Progress bars on standard error, where that is a terminal or a notebook; gone when they end."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


@contextmanager
def progress_of_items(*, hidden: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """As `progress`, for what learns on the way how much there is to do.

    What it gives takes what is being done, how many are, and how many there are.
    """
    if hidden:
        yield lambda doing, done, total: None
        return
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("", total=None)
        yield lambda doing, done, total: bar.update(
            task, description=doing, completed=done, total=total
        )


@contextmanager
def progress_of_bytes() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on standard error, where that is a terminal; gives what is told of bytes done.

    What it gives takes what is being done, the bytes that are, and how many there are to do.
    """
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        tasks = {}

        def step(doing: str, done: int, total: int | None) -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=total)
            bar.update(tasks[doing], completed=done, total=total)

        yield step


@contextmanager
def progress(total: int, doing: str) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal; gives what moves it on by one."""
    done = itertools.count(1)
    with progress_of_items(hidden=total < 2) as step:
        step(doing, 0, total)
        yield lambda: step(doing, next(done), total)


@contextmanager
def progress_of_photos(doing: str) -> Iterator[Callable[[float | int, int, str], None]]:
    """A bar on standard error, where that is a terminal, for photos that may take long.

    Args:
        doing: Said beside the bar while nothing else is.

    Yields:
        What takes how many photos are done by now, broken numbers too, how many there are, and
        what is under way.
    """
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

    with _bar(MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total, step: bar.update(
            task, completed=done, total=total, description=step or doing
        )


@contextmanager
def _bar(*columns: "ProgressColumn") -> "Iterator[Progress]":
    """A bar with these columns between itself and the time that is left; gone when it ends."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (console.is_terminal or console.is_jupyter),
    ) as bar:
        yield bar
