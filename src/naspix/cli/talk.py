"""What the command says on standard error: sentences, warnings, progress."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from naspix.errors import NaspixWarning


def say(sentence: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"naspix: {sentence}\n")
    sys.stderr.flush()


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show naspix's own warnings as sentences, once each, and nobody else's."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"note: {message}")

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", NaspixWarning)
        warnings.showwarning = show
        yield


@contextmanager
def progress(total: int, doing: str) -> Iterator[Callable[[], None]]:
    """A bar on standard error, where that is a terminal; gives what moves it on by one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or total < 2,
    ) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda: bar.advance(task)
