"""A classifier as a folder: ``model.safetensors`` with the weights, ``model.json`` with all else.

What `naspix finetune` leaves behind and `load_model` takes by the folder's path. No code is in it,
and none is run when it is read.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from naspix.errors import UnknownNameError, WeightsError
from naspix.models.recipes import Recipe, recipe_of
from naspix.models.weights import fitted, read_state

SCHEMA = "naspix-model/1"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Description:
    """What has to be known of a network besides its weights.

    Attributes:
        network: The name that `load_model` builds it by.
        categories: The classes' names in the order of the logits.
        input_size: Height and width.
        mean: Of each channel, on the scale of [0, 1].
        std: The same for the divisor.
        crop_pct: Share of the scaled picture that the middle takes.
        interpolation: How pictures are resized.
    """

    network: str
    categories: tuple[str, ...]
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str

    @classmethod
    def of(cls, network: str, recipe: Recipe, categories: tuple[str, ...]) -> "Description":
        """Describe a named network with classes of its own."""
        return cls(
            network=network,
            categories=categories,
            input_size=recipe.input_size,
            mean=recipe.mean,
            std=recipe.std,
            crop_pct=recipe.crop_pct,
            interpolation=recipe.interpolation,
        )


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a classifier, or was meant to."""
    return Path(folder, DESCRIPTION).is_file() or Path(folder, WEIGHTS).is_file()


def save_model(
    folder: str | os.PathLike[str], description: Description, state: Mapping[str, Tensor]
) -> None:
    """Write a classifier into a folder that exists; each file appears whole or not at all.

    Args:
        folder: Where to.
        description: What it is.
        state: Its weights by name, as ``network.state_dict()`` gives them.
    """
    from safetensors.torch import save

    content = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    described = json.dumps({"schema": SCHEMA, **asdict(description)}, indent=1, ensure_ascii=False)
    replace_whole(Path(folder, WEIGHTS), save(_apart(content)))
    replace_whole(Path(folder, DESCRIPTION), f"{described}\n".encode())


def read_model(folder: str | os.PathLike[str]) -> tuple[Description, nn.Module]:
    """Read a classifier from its folder.

    Raises:
        WeightsError: If the folder holds none, or it is damaged or contradicts itself.
    """
    path = Path(folder, DESCRIPTION)
    description = _read_description(path)
    try:
        recipe = recipe_of(description.network)
    except UnknownNameError as error:
        raise WeightsError(f"{str(path)!r} is of an unknown network: {error}") from None
    state = read_state(Path(folder, WEIGHTS))
    what = (
        f"the weights in {str(folder)!r} for {description.network} and its "
        f"{len(description.categories)} classes"
    )
    n_classes = len(description.categories)
    network, _ = fitted(lambda _: recipe.restore(n_classes), state, what)
    return description, network


def replace_whole(path: Path, content: bytes) -> None:
    """Write a file that is there with all of its content, or as it was before."""
    hidden = path.with_name(f".{path.name}.part")
    with hidden.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(path)


def _read_description(path: Path) -> Description:
    try:
        content: Any = json.loads(path.read_bytes())
    except OSError:
        raise WeightsError(
            f"there is no file {str(path)!r}; a folder with a model has one beside its weights"
        ) from None
    except ValueError as error:
        raise WeightsError(f"{str(path)!r} is damaged: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise WeightsError(f"{str(path)!r} is not of the form {SCHEMA} that is known here")
    try:
        values = {one.name: content[one.name] for one in fields(Description)}
        described = Description(
            network=str(values["network"]),
            categories=tuple(map(str, values["categories"])),
            input_size=(int(values["input_size"][0]), int(values["input_size"][1])),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            crop_pct=float(values["crop_pct"]),
            interpolation=str(values["interpolation"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(f"{str(path)!r} lacks something, or holds nonsense: {error}") from None
    return described


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, which safetensors asks for."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        shared = tensor.data_ptr() in seen and tensor.numel() > 0
        apart[name] = tensor.clone() if shared else tensor
        seen.add(tensor.data_ptr())
    return apart
