"""Lets the tests of this folder import `painted` beside them, and `published` of the data sets."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "datasets")]

from painted import paint  # noqa: E402  (found by the line above)


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """Ten pictures of each colour, without splits."""
    folder = tmp_path_factory.mktemp("colours")
    paint(folder / "all", 10)
    return folder / "all"
