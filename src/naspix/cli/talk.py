"""What the command says on standard error: sentences and warnings."""

import sys
import warnings
from collections.abc import Iterator
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
