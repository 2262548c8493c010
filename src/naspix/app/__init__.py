"""The explorer: a page on which people touch the regions that a network sees.

``server.py`` serves the page and its routes, by FastAPI (the extra ``app``); ``actions.py`` are
their typed requests. Everything behind them is plain Python: who visits (``session.py``), whose
turn it is (``queue.py``), a photo and its regions, scores, comparisons and files.
"""

from naspix.app.networks import Networks, networks_of
from naspix.app.notebook import Explorer, explore
from naspix.app.photos import Limits
from naspix.app.session import Backend
from naspix.app.study import Study

__all__ = ["Backend", "Explorer", "Limits", "Networks", "Study", "explore", "networks_of"]
