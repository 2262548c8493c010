"""Whether a page says of every claim of the paper's if it holds there."""

import re
from html import escape
from pathlib import Path

from naspix.paper.published import published

# which experiments are computed where; `test_reproduce.py` sees that none is missing
CUT_OR_TIMED = ("figure1", "figure3", "table5", "figure7", "figure8", "figure9")
JUDGED = ("table3", "table4", "table2", "figure6", "figure5", "table1", "figure4")

_VERDICT = '<b class="(yes|no|open)">(holds|does not hold|cannot be told) here</b>'


def assert_verdicts(folder: Path) -> None:
    """The page in an experiment's folder has a verdict with a reason for each claim at hand."""
    page = (folder / "page.html").read_text("utf-8")
    claims = published(folder.name).claims.values()
    for claim in claims:
        said = f"{escape(claim.sentence)} {escape(f'({claim.source})')}"
        assert re.search(f"{_VERDICT}{re.escape(said)}<p>[^<]*\\d[^<]*</p>", page), claim.id
    assert len(re.findall(_VERDICT, page)) == len(claims)
    assert bool(claims) != ("What the paper claims about it is not at hand" in page)
