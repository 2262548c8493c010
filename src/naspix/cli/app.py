"""The commands in one place, and what becomes of their errors."""

import _thread
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cyclopts import App, CycloptsError

import naspix
from naspix.cli import talk
from naspix.cli.app_command import explorer
from naspix.cli.bench import bench
from naspix.cli.check import check
from naspix.cli.concepts import concepts
from naspix.cli.data import data
from naspix.cli.evaluate import evaluate
from naspix.cli.explain import explain
from naspix.cli.finetune import finetune
from naspix.cli.models import levels, models
from naspix.cli.render import render
from naspix.cli.reproduce import reproduce
from naspix.cli.segment import segment
from naspix.cli.serve import serve
from naspix.errors import InputError, NaspixError

app = App(
    name="naspix",
    version=f"naspix {naspix.__version__}",
    help="Which parts of a picture an image classifier's decision rests on.",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # it ends here, in a sentence
)
app.command(explain)
app.command(segment)
app.command(concepts)
app.command(models)
app.command(levels)
app.command(check)
app.command(bench)
app.command(evaluate)
app.command(reproduce)
app.command(render)
app.command(data)
app.command(explorer, name="app")
app.command(serve)
app.command(finetune)
app.register_install_completion_command(help="Let the shell complete commands and choices.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: What stands after ``naspix``; the process's own by default.
    """
    debug = os.environ.get("NASPIX_DEBUG", "") not in ("", "0")
    try:
        with talk.warnings_in_one_line(), no_interrupt_lost():
            status = app(
                sys.argv[1:] if arguments is None else arguments,
                exit_on_error=False,
                print_error=False,
            )
        sys.stdout.flush()
    except KeyboardInterrupt:
        talk.say("stopped; what was finished is kept")
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        talk.say(_sentence(error))
        return 2 if isinstance(error, CycloptsError | InputError) else 1
    return status if isinstance(status, int) else 0


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Let Ctrl-C stop what is under way also where Python would print it and go on.

    That is where it arrives inside a destructor, or a callback of the garbage collector's.
    """
    before = sys.unraisablehook

    def send_again(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # a moment later: what is raised in this hook would be lost, too
            timer = threading.Timer(0.01, _thread.interrupt_main)
            timer.daemon = True
            timer.start()
        else:
            before(lost)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _sentence(error: Exception) -> str:
    """What went wrong, in words for the user."""
    if isinstance(error, CycloptsError):
        return " ".join(str(error).split()) + " See naspix --help."
    if isinstance(error, NaspixError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "memory ran out; give a smaller --batch-size"
    first_line = (str(error) or "no reason given").splitlines()[0]
    return (
        f"this should not have happened ({type(error).__name__}: {first_line}); "
        "NASPIX_DEBUG=1 shows where"
    )
