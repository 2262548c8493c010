"""Whether a page says of every claim of the paper's if it holds there."""

import re
from html import unescape
from pathlib import Path

from naspix.paper import published as file
from naspix.paper.published import published

# which experiments are computed where; `test_reproduce.py` sees that none is missing
CUT_OR_TIMED = ("figure1", "figure2", "figure3", "table5", "figure7", "figure8", "figure9")
JUDGED = ("table3", "table4", "table2", "figure6", "figure5", "table1", "figure4")

_VERDICT = '<b class="(yes|no|open)">(holds|does not hold|cannot be told) here</b>'


def text_of(page: Path) -> str:
    """A page with its letters as they are read."""
    return unescape(page.read_text("utf-8"))


def all_entries() -> tuple[str, ...]:
    """Names of all tables and figures in the file of the paper's numbers."""
    return tuple(file._content()["entries"])


def assert_verdicts(folder: Path) -> None:
    """The page in an experiment's folder has a verdict with a reason for each claim at hand."""
    page = text_of(folder / "page.html")
    claims = published(folder.name).claims.values()
    for claim in claims:
        said = f"{claim.sentence} ({claim.source})"
        assert re.search(f"{_VERDICT}{re.escape(said)}<p>[^<]*\\d[^<]*</p>", page), claim.id
    assert len(re.findall(_VERDICT, page)) == len(claims)
    assert bool(claims) != ("No claim of the paper about it is tested here" in page)
