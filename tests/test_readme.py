"""The code in the README and in the documentation's pages runs, page by page, top to bottom.

A page's Python is one program, its commands are given one after the other, both in a folder that
holds what ``naspix data sample`` writes. Commands that cannot run here are parsed.
"""

import contextlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cyclopts import MissingArgumentError

from naspix.cli.app import app, main
from naspix.datasets import write_example

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
]
ALL_PAGES = [
    *PAGES,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "explanation").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
]
NOT_RUN = {  # how a command begins -> why it is parsed alone
    "naspix app": "serves until it is stopped",
    "naspix bench": "takes minutes",
    "naspix check resnet50 --weights default": "downloads weights",
    "naspix concepts --images kangaroos/": "wants photos that do not come with naspix",
    "naspix data check kangaroo": "wants photos that do not come with naspix",
    "naspix data fetch": "downloads a data set",
    "naspix evaluate lerf": "takes minutes",
    "naspix evaluate wsol --dataset cub": "wants a cluster and a published data set",
    "naspix evaluate wsol --dataset voc --root boxes --output run --model": "downloads weights",
    "naspix evaluate wsol --dataset voc --root kangaroo": "wants photos of its own",
    "naspix explain cat.jpg --method lrp --method rise": "takes minutes",
    "naspix explain cat.jpg --model resnet18": "wants a file of weights",
    "naspix explain clip.mp4": "wants a film that does not come with naspix",
    "naspix finetune --dataset": "wants a published data set, and takes minutes",
    "naspix reproduce": "takes minutes",
    "naspix serve": "serves until it is stopped",
    "curl": "asks a server, as tests/serving does",
    "docker": "is not at hand",
    "naspix segment cat.jpg --model timm/vit_small_patch14_dinov2": "downloads weights",
    "pip install": "installs",
    "pytest": "is what runs this",
    "python benchmarks/": "takes minutes",
    "sphinx-build": "builds the documentation, which the checks do",
    "export": "sets a variable of the shell",
}
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _program(page: Path) -> str:
    """The page's code at its own line numbers, so that a traceback points into the page."""
    text = page.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        return ""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        code = block.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


@pytest.mark.parametrize("page", list(filter(_program, PAGES)), ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    write_example(tmp_path)
    if page.stem == "finetune":
        pytest.importorskip("lightning", reason="needs the extra train")
    monkeypatch.chdir(tmp_path)
    exec(compile(_program(page), str(page), "exec"), {"__name__": "__main__"})
    pyplot.close("all")


def _commands(page: Path) -> list[str]:
    """The commands of a page's shell blocks, in their order, as they would be typed."""
    found = []
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```(?:console|shell|sh|bash)\n(.*?)^```$", text, re.DOTALL | re.M):
        lines = block.splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        typed = [one.removeprefix("$ ") for one in lines if not prompted or one.startswith("$ ")]
        for line in typed:
            found += [" ".join(one.split()) for one in line.partition("  #")[0].split("&&")]
    return found


def _parse(command: str) -> None:
    """Let the command's own parser read it: every option has to exist."""
    program, *words = shlex.split(command)
    if program == "naspix":
        app.parse_args(words, exit_on_error=False, print_error=False)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        known = extras["optional-dependencies"]
        for extra in re.findall(r"\.\[(\w+)]", command):
            assert extra in known, f"{command}: there is no extra {extra}"
    elif program == "python":
        asked = [sys.executable, str(ROOT / words[0]), "--help"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        for option in re.findall(r"--[a-z-]+", command):
            assert option in told, f"{command}: there is no option {option}"


def _why_not(command: str) -> str:
    return next((why for begin, why in NOT_RUN.items() if command.startswith(begin)), "")


@pytest.mark.parametrize("page", list(filter(_commands, ALL_PAGES)), ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_example(tmp_path)
    if page.stem == "finetune":
        pytest.importorskip("lightning", reason="needs the extra train")
    text = page.read_text(encoding="utf-8")
    for name, code in re.findall(r"^```text\n# (\w+\.py)\n(.*?)^```$", text, re.DOTALL | re.M):
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    for command in _commands(page):
        _parse(command)
        if not _why_not(command):
            assert command.startswith("naspix "), f"say why this is not run: {command}"
            status = main(shlex.split(command)[1:])
            assert status == 0, f"{command}: {capfd.readouterr().err}"


def test_commands_within_sentences_are_parsed() -> None:
    for page in ALL_PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for command in re.findall(r"`(naspix [a-z]+ [^`>]*)", text):
            with contextlib.suppress(MissingArgumentError):  # the rest is said around it
                _parse(" ".join(command.split()))


def test_every_reason_not_to_run_a_command_holds_for_one() -> None:
    commands = [command for page in ALL_PAGES for command in _commands(page)]
    for begin in NOT_RUN:
        assert any(command.startswith(begin) for command in commands), f"no command is {begin}"


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . && naspix explain\n" in text
    assert "pip install '.[test]' && pytest\n" in text


def test_pictures_that_pages_show_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"!\[[^]]*]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "gallery/" in target:  # made when the documentation is built
                continue
            assert (page.parent / target).is_file(), f"{page.name} shows {target}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in ALL_PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+\.(?:md|py|jpg|png|html|cff)[^)\s]*)\)", text):
            path = target.partition("#")[0]
            if path and "://" not in path and "gallery/" not in path:
                assert (page.parent / path).exists(), f"{page.name} links to {target}"
