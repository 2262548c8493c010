"""A classifier in a folder, which `naspix finetune` leaves behind.

The folder holds ``model.safetensors`` with the weights and ``model.json`` with all else: no code is
in it, and none is run when it is read.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from naspix.errors import UnknownNameError, WeightsError
from naspix.files import write_whole
from naspix.models.checkpoints import read_state
from naspix.models.own_network import names_own_code
from naspix.models.recipes import Description, recipe_of
from naspix.models.weights import fitted

SCHEMA = "naspix-model/1"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


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
    for name, written in (
        (WEIGHTS, save(_apart(content))),
        (DESCRIPTION, f"{described}\n".encode()),
    ):
        with write_whole(Path(folder, name), durable=True) as file:
            file.write(written)


def read_model(folder: str | os.PathLike[str]) -> tuple[Description, nn.Module]:
    """Read a classifier from its folder.

    Raises:
        WeightsError: If the folder holds none, or it is damaged or contradicts itself.
    """
    description, state = read_saved(folder)
    path = Path(folder, DESCRIPTION)
    if names_own_code(description.network):
        raise WeightsError(
            f"{str(path)!r} is of a network that code of somebody's makes, which is not run by "
            f"reading a folder; name it yourself, with the folder as weights: "
            f"--model {description.network} --weights {os.fspath(folder)} "
            f"(load_model(..., weights=...) in Python)"
        )
    try:
        recipe = recipe_of(description.network)
    except UnknownNameError as error:
        raise WeightsError(f"{str(path)!r} is of an unknown network: {error}") from None
    n_classes = len(description.categories or ())
    what = f"the weights in {str(folder)!r} for {description.network} and its {n_classes} classes"
    network, _ = fitted(lambda _: recipe.restore(n_classes), state, what)
    return description, network


def read_saved(folder: str | os.PathLike[str]) -> tuple[Description, dict[str, Tensor]]:
    """What a folder says of its classifier, and its weights; no network is made.

    Raises:
        WeightsError: If the folder holds none, or it is damaged.
    """
    description = _read_description(Path(folder, DESCRIPTION))
    return description, dict(read_state(Path(folder, WEIGHTS)))


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
        values = {
            one.name: content[one.name] for one in fields(Description) if one.name != "output"
        }
        described = Description(
            network=str(values["network"]),
            categories=tuple(map(str, values["categories"])),
            input_size=(int(values["input_size"][0]), int(values["input_size"][1])),
            mean=tuple(map(float, values["mean"])),
            std=tuple(map(float, values["std"])),
            crop_pct=float(values["crop_pct"]),
            interpolation=str(values["interpolation"]),
            output=content.get("output"),  # of a folder made before it was asked for
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
