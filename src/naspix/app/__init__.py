"""The explorer: a page on which people touch the regions that a network sees.

``server.py`` serves the page and its routes, by FastAPI (the extra ``app``); ``actions.py`` are
their typed requests. Everything behind them is plain Python: who visits (``session.py``), whose
turn it is (``queue.py``), a photo and its regions, scores, comparisons and files. Everything is
imported on first use, so that the command can say at once that its port is taken.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naspix.app.networks import Networks, networks_of
    from naspix.app.notebook import Explorer, explore
    from naspix.app.photos import Limits
    from naspix.app.session import Backend
    from naspix.app.study import Study

__all__ = ["Backend", "Explorer", "Limits", "Networks", "Study", "explore", "networks_of"]

_HOMES = {
    "Backend": "session",
    "Explorer": "notebook",
    "Limits": "photos",
    "Networks": "networks",
    "Study": "study",
    "explore": "notebook",
    "networks_of": "networks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
