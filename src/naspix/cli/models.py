"""``naspix models`` and ``naspix levels``: which networks there are, and where one can be asked."""

from typing import Annotated

from cyclopts import Parameter

from naspix.cli.options import Json, ModelName
from naspix.errors import InputError


def models(
    pattern: Annotated[
        str, Parameter(name="FILTER", help="Part of a name, or a pattern with * and ?.")
    ] = "",
    /,
    *,
    json: Json = False,
) -> int:
    """List the names of all networks that can be asked for.

    Only efficientnet_lite0 comes with its weights; others are downloaded, or given by --weights.
    """
    import json as encoder

    from naspix.models import list_models

    names = list_models(pattern)
    if not names:
        raise InputError(f"no model's name holds {pattern!r}; naspix models lists them all")
    print(encoder.dumps(names) if json else "\n".join(names))  # noqa: T201 - a result
    return 0


def levels(
    model: ModelName,
    /,
    *,
    json: Json = False,
) -> int:
    """List the levels of a network: number, module, and shape of the activation.

    Shapes are (channels, height, width) at the network's input size. Random weights are used, so
    nothing is downloaded.
    """
    import json as encoder

    import torch

    from naspix.models import load_model

    network = load_model(model, weights=None)
    blank = torch.full((1, network.in_channels, *network.input_size), 0.5)
    activations = network.activations(blank, range(len(network.levels)))
    rows = [
        (index, name, tuple(maps.shape[1:]))
        for index, (name, maps) in enumerate(zip(network.levels, activations, strict=True))
    ]
    if json:
        entries = [{"level": i, "module": name, "shape": list(shape)} for i, name, shape in rows]
        print(encoder.dumps(entries))  # noqa: T201 - a result
        return 0
    width = max(len("module"), *(len(name) for _, name, _ in rows))
    print(f"level  {'module':<{width}}  shape at {network.input_size}")  # noqa: T201 - a result
    for index, name, (c, h, w) in rows:
        print(f"{index:>5}  {name:<{width}}  {c} x {h} x {w}")  # noqa: T201 - a result
    return 0
