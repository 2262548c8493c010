"""``naspix.explore``: the explorer on one photo, inside a notebook or beside a script."""

import secrets
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from naspix.app.address import Address
from naspix.app.networks import Networks
from naspix.app.photos import picture_of
from naspix.app.session import Backend
from naspix.app.study import Study
from naspix.errors import InputError, MissingExtraError, NaspixWarning
from naspix.explain import explain
from naspix.models import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from naspix.app.server import Server


class Explorer:
    """A running explorer; in a notebook it shows itself.

    A notebook and the page in its frame are different sites to a browser, which sends the page's
    cookie to neither; so the address names the visitor.

    Attributes:
        url: Where it is, and for whom.
        backend: What answers the page.
    """

    def __init__(self, backend: Backend, server: "Server") -> None:
        self.backend, self._server = backend, server
        self.url = f"{server.url}?visitor={secrets.token_urlsafe(16)}"

    def close(self) -> None:
        """End the server, and leave the classifier as it came."""
        self._server.close()
        self.backend.close()

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
        the extra ``app`` a figure of the same photo, and a warning that says how to get the page.

    Raises:
        InputError: not exactly one image.
        MissingExtraError: the extra is not installed, and there is no image for a figure either.

    Example:
        >>> import naspix, skimage.data
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> explorer = naspix.explore(model, skimage.data.chelsea())  # doctest: +SKIP
        >>> explorer.close()  # doctest: +SKIP
    """
    images = None if image is None else _one_image(model, image)
    is_file = isinstance(image, str | Path)
    name, code = (Path(str(image)).name, repr(str(image))) if is_file else ("photo", "image")
    try:
        from naspix.app.server import Server
    except MissingExtraError as missing:
        if images is None:
            raise
        warnings.warn(f"{missing}; this is a picture of what it would show", NaspixWarning, 2)
        return explain(model, images).plot()
    address = Address(port=port, framed=True)
    listening = address.listen()
    backend = Backend(Networks({model.name: lambda: model}))
    try:
        if images is not None:
            note = "" if is_file else "image is what naspix.explore was given"
            one = image[0] if isinstance(image, list | tuple) else image
            picture = picture_of(one, model, name=name, code=code, note=note)
            backend.given = Study(backend.networks.load(), model.name, picture)
        return Explorer(backend, Server(backend, address, listening))
    except BaseException:
        listening.close()
        backend.close()
        raise


def _one_image(model: Classifier, image: object) -> Tensor:
    images = image if isinstance(image, Tensor) and image.ndim == 4 else model.load_images(image)  # type: ignore[arg-type]
    if len(images) != 1:
        raise InputError(f"explore shows one image, not {len(images)}; give it one")
    return images.to(model.device)
