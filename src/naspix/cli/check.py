"""``naspix check``: the doctor."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from naspix.cli.options import Json, ModelName, ScoresName


def check(
    model: ModelName,
    /,
    *,
    weights: Annotated[
        str,
        Parameter(
            help='"none" for random ones, so that nothing is downloaded; "default"; or a .pth, .pt '
            "or .safetensors file."
        ),
    ] = "none",
    device: Annotated[
        str, Parameter(help='"auto" is a GPU where there is one; or cpu, cuda, cuda:1.')
    ] = "auto",
    scores: Annotated[
        ScoresName | None,
        Parameter(help="What its scores are, where that is known; found out if absent."),
    ] = None,
    categories: Annotated[
        Path | None, Parameter(help="File with the classes' names: JSON, or a name a line.")
    ] = None,
    json: Json = False,
) -> int:
    """Examine a network: its levels, what tools stumble over, which methods serve it.

    One forward and one backward on random images, then one of each kind that saliency methods
    need. Passes and memory are those of one photo.
    """
    import json as encoder

    import naspix
    from naspix.models import keep_freed_memory, load_model

    keep_freed_memory()
    network = load_model(
        model, weights=weights, device=device, output=scores, categories=categories
    )
    diagnosis = naspix.check(network)
    print(encoder.dumps(diagnosis.to_dict()) if json else diagnosis)  # noqa: T201 - a result
    return 0
