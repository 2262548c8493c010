"""What every page of an experiment has: its head, what was left out, and how it was made."""

from naspix.report.document import CLOSING, definitions, flattened, left_out, opening
from naspix.runs.store import Run


def document(title: str, style: str, header: str, main: str, footer: str) -> str:
    """A whole page, self-contained, in the style of all of naspix's pages.

    Args:
        title: Of the window.
        style: What goes beyond the common style.
        header: Of the page.
        main: Its content.
        footer: How it was made.
    """
    return (
        f"{opening(f'naspix: {title}', style)}<header>{header}</header>\n<main>\n{main}</main>\n"
        f"<footer>{footer}</footer>\n{CLOSING}"
    )


def failures_note(run: Run) -> str:
    """Which pictures were left out, and why; nothing if none were."""
    failures = run.failures
    if not failures:
        return ""
    n = len(failures)
    words = f"{n} {'picture was' if n == 1 else 'pictures were'} left out:"
    return left_out(words, [(failure.item, failure.reason) for failure in failures])


def settings_list(run: Run) -> str:
    """Settings, what was found, times and machines, as a list of definitions."""
    entries = [*flattened(run.settings), *flattened(run.header["found"])]
    entries += [(f"seconds of {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    for machine in run.machines:
        entries += [(name, str(value)) for name, value in machine.items() if value]
    entries.append(("begun", str(run.header["created"])))
    return definitions(entries)
