"""The Python in the README and in the documentation's pages runs, page by page, top to bottom.

Each page is one program, in a folder that holds what ``naspix data sample`` writes.
"""

import re
from pathlib import Path

import pytest

from naspix.datasets import write_example

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
]
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
    pages = [*PAGES, *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "explanation").glob("*.md")]
    for page in [*pages, ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+\.(?:md|py|jpg|png|html|cff)[^)\s]*)\)", text):
            path = target.partition("#")[0]
            if path and "://" not in path and "gallery/" not in path:
                assert (page.parent / path).exists(), f"{page.name} links to {target}"
