"""The networks that a visitor may choose: those the person who started the server allowed.

Names from the command line, and the ``.safetensors`` files of one folder, listed once at the start;
what a visitor sends is looked up among these, so no path comes from outside. Each is loaded when it
is first asked for.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from naspix.errors import InputError, NaspixError, UnknownNameError
from naspix.models import (
    DEFAULT_MODEL,
    Classifier,
    Output,
    list_models,
    load_model,
    read_categories,
)
from naspix.models.own_network import names_own_code, short_name
from naspix.models.saved import is_saved

CHECKPOINT = ".safetensors"


class Networks:
    """Networks by name, each loaded once.

    Args:
        makers: Name -> what loads it.
        lines: Name -> the Python line that loads it; the name alone by default.

    Attributes:
        watch: Opened around each network that is loaded, until ``close``.
    """

    def __init__(
        self,
        makers: Mapping[str, Callable[[], Classifier]],
        lines: Mapping[str, str] | None = None,
    ) -> None:
        if not makers:
            raise InputError("the explorer needs at least one network")
        self._makers = dict(makers)
        self._lines = dict(lines or {})
        self._loaded: dict[str, Classifier] = {}
        self.watch: Callable[[Classifier], AbstractContextManager[None]] = lambda _: nullcontext()
        self._watched = ExitStack()
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The networks there are; the first is shown at once."""
        return tuple(self._makers)

    def load(self, name: str | None = None) -> Classifier:
        """The network of that name, or the first.

        Raises:
            UnknownNameError: there is none.
            InputError: it cannot be loaded; why, without the folder that it lies in.
        """
        name = self.names[0] if name is None else name
        if name not in self._makers:
            raise UnknownNameError.among("network here", name, self._makers)
        with self._lock:
            if name not in self._loaded:
                try:
                    model = self._makers[name]()
                except Exception as error:
                    reason = str(error) if isinstance(error, NaspixError) else type(error).__name__
                    told = re.sub(r"[^\s'\"]*[/\\]", "", reason)
                    raise InputError(f"the network {name} cannot be loaded: {told}") from error
                self._watched.enter_context(self.watch(model))
                self._loaded[name] = model
            return self._loaded[name]

    def loaded(self, name: str | None = None) -> Classifier | None:
        """The network of that name, or the first, if it has been loaded."""
        return self._loaded.get(self.names[0] if name is None else name)

    def line(self, name: str) -> str:
        """The Python line that loads it."""
        return self._lines.get(name, f"model = naspix.load_model({name!r})")

    def close(self) -> None:
        """Leave the networks as they came."""
        self._watched.close()


def networks_of(
    names: Sequence[str] = (DEFAULT_MODEL,),
    *,
    folder: Path | None = None,
    device: str = "auto",
    output: Output | None = None,
    categories: Path | None = None,
    own_code: bool = False,
) -> Networks:
    """The networks of the command line's options.

    Args:
        names: As ``load_model`` knows them.
        folder: Checkpoints in it are offered too: ``resnet18.safetensors``, or
            ``resnet18-anything.safetensors``, whose name begins with the network's.
        device: Where they run.
        output: What their scores are, as for ``load_model``.
        categories: File with the names of their classes.
        own_code: Whether names may be functions of the user's, which are run.

    Raises:
        InputError: the folder is none, a file's name names no network, or a name would run code
            that was not allowed.
    """
    options: dict[str, Any] = {"device": device, "output": output}
    if categories is not None:
        options["categories"] = read_categories(categories)
    makers: dict[str, Callable[[], Classifier]] = {}
    lines: dict[str, str] = {}
    for name in names:
        is_code = not is_saved(name) and names_own_code(name)
        if is_code and not own_code:
            raise InputError(
                f"--model {name} would run the code there; add --own-code if that is meant"
            )
        title = short_name(name) if is_code else name  # visitors need not know the folder
        makers[title] = partial(load_model, name, **options)
        lines[title] = f"model = naspix.load_model({title!r})"
    for file in _checkpoints(folder) if folder else ():
        network = _network_of(file)
        makers[file.stem] = partial(load_model, network, weights=file, **options)
        lines[file.stem] = f"model = naspix.load_model({network!r}, weights={file.name!r})"
    return Networks(makers, lines)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"--models {str(folder)!r} is not a folder")
    files = sorted(file for file in folder.iterdir() if file.suffix == CHECKPOINT)
    if not files:
        raise InputError(
            f"there is no {CHECKPOINT} file in --models {str(folder)!r}; save one by "
            "safetensors.torch.save_file(model.state_dict(), 'resnet18.safetensors')"
        )
    return files


def _network_of(file: Path) -> str:
    """The longest known name that the file's name begins with; ``timm-`` asks for timm's."""
    names = list_models("timm/*" if file.stem.startswith("timm-") else "")
    stem = file.stem.removeprefix("timm-")
    known = [name for name in names if stem.startswith(name.removeprefix("timm/"))]
    if not known:
        raise InputError(
            f"the name of {file.name!r} does not begin with that of a network; call it such as "
            "'resnet18-mine.safetensors'"
        )
    return max(known, key=lambda name: (len(name.removeprefix("timm/")), "/" not in name))
