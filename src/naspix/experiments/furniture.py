"""What every page of an experiment has: its head, what was left out, and how it was made."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from naspix.experiments.store import Run


def document(title: str, style: str, header: str, main: str, footer: str) -> str:
    """A whole page, self-contained, in the style of all of naspix's pages.

    Args:
        title: Of the window.
        style: What goes beyond the common style.
        header: Of the page.
        main: Its content.
        footer: How it was made.
    """
    common = files("naspix.report").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>naspix: {escape(title)}</title>\n<style>\n{common}{style}</style>\n</head>\n"
        f"<body>\n<header>{header}</header>\n<main>\n{main}</main>\n<footer>{footer}</footer>\n"
        "</body>\n</html>\n"
    )


def failures_note(run: Run) -> str:
    """Which pictures were left out, and why; nothing if none were."""
    failures = run.failures
    if not failures:
        return ""
    items = "".join(f"<li><b>{escape(f.item)}</b>: {escape(f.reason)}</li>" for f in failures)
    n = len(failures)
    return (
        f'<div class="note"><p>{n} {"picture was" if n == 1 else "pictures were"} left out:</p>'
        f"<ul>{items}</ul></div>\n"
    )


def settings_list(run: Run) -> str:
    """Settings, what was found, times and machines, as a list of definitions."""
    entries = [*_flat(run.settings), *_flat(run.header["found"])]
    entries += [(f"seconds of {name}", f"{value:.1f}") for name, value in run.seconds.items()]
    for machine in run.machines:
        entries += [(name, str(value)) for name, value in machine.items() if value]
    entries.append(("begun", str(run.header["created"])))
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    return f"<dl>\n{rows}\n</dl>\n"


def _flat(settings: object, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from _flat(value, f"{name} {key}".strip())
    else:
        yield name, str(settings)
