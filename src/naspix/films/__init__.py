"""Films explained: moving pictures in, an explained film, a table of its frames and a page out.

Frames come from a video, an animated GIF or a folder of pictures (`reading.py`); regions keep their
numbers through the film, and one class is explained in all of it.
"""

from naspix.films.explaining import ExplainedFilm, explain_film
from naspix.films.reading import is_film

__all__ = ["ExplainedFilm", "explain_film", "is_film"]
