"""The explorer: a page on which people touch the regions that a network sees.

``Desk`` answers requests in plain values and knows no page; ``page.py`` shows it by gradio (the
extra ``app``), ``door.py`` guards its web server. Everything but ``page.py`` works without the
extra.
"""

from naspix.app.desk import Desk
from naspix.app.networks import Shelf, shelf_of
from naspix.app.notebook import Explorer, explore
from naspix.app.page import Address, serve
from naspix.app.study import Study
from naspix.app.uploads import Limits

__all__ = [
    "Address",
    "Desk",
    "Explorer",
    "Limits",
    "Shelf",
    "Study",
    "explore",
    "serve",
    "shelf_of",
]
