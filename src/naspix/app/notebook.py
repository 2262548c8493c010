"""``naspix.explore``: the explorer on one photo, inside a notebook or beside a script."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from naspix.app.desk import Desk
from naspix.app.networks import Shelf
from naspix.app.study import Study
from naspix.errors import InputError, MissingExtraError, NaspixWarning
from naspix.explain import explain
from naspix.models import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Explorer:
    """A running explorer; in a notebook it shows itself.

    Attributes:
        url: Where it is.
    """

    def __init__(self, desk: Desk, blocks: Any) -> None:
        self.desk, self._blocks = desk, blocks
        self.url: str = blocks.local_url

    def close(self) -> None:
        """End the server, and leave the classifier as it came."""
        self._blocks.close(verbose=False)
        self.desk.close()

    def __enter__(self) -> "Explorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Explorer({self.url})"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.url}" title="naspix explorer" width="100%" height="900" '
            'style="border:0" allow="clipboard-read"></iframe>'
        )


def explore(model: Classifier, image: object = None, *, port: int = 0) -> "Explorer | Figure":
    """Touch the regions that a network sees: the explorer's page, on this machine only.

    Args:
        model: From ``load_model`` or ``wrap_model``.
        image: What ``model.load_images`` takes, or a tensor ``(1, C, H, W)`` in [0, 1]; without
            one, the page asks for a photo.
        port: Where it is served; 0 takes any that is free.

    Returns:
        The running explorer, which a notebook shows as the page; ``close()`` ends it. Without
        gradio (the extra ``app``) a figure of the same photo, and a warning that says how to get
        the page.

    Raises:
        InputError: not exactly one image.
        MissingExtraError: gradio is not installed, and there is no image for a figure either.

    Example:
        >>> import naspix, skimage.data
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> explorer = naspix.explore(model, skimage.data.chelsea())  # doctest: +SKIP
        >>> explorer.close()  # doctest: +SKIP
    """
    from naspix.app.page import Address, serve

    images = None if image is None else _one_image(model, image)
    name = Path(image).name if isinstance(image, str | Path) else "photo"
    desk = Desk(Shelf({model.name: lambda: model}))
    try:
        if images is not None:
            desk.house.given = Study(desk.house.shelf.load(), model.name, images, name)
        return Explorer(desk, serve(desk, Address(port=port)))
    except MissingExtraError as missing:
        desk.close()
        if images is None:
            raise
        warnings.warn(f"{missing}; this is a picture of what it would show", NaspixWarning, 2)
        return explain(model, images).plot()
    except BaseException:
        desk.close()
        raise


def _one_image(model: Classifier, image: object) -> Tensor:
    images = image if isinstance(image, Tensor) and image.ndim == 4 else model.load_images(image)  # type: ignore[arg-type]
    if len(images) != 1:
        raise InputError(f"explore shows one image, not {len(images)}; give it one")
    return images.to(model.device)
