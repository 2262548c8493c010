"""``naspix serve``: the server for programs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.options import ScoresName
from naspix.errors import InputError

_DEFAULT = ("efficientnet_lite0",)


def serve(
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    key: Annotated[str | None, Parameter(env_var="NASPIX_API_KEY")] = None,
    no_key: Annotated[bool, Parameter(negative=())] = False,
    queue: int = 64,
    batch_size: int = 8,
    time_limit: float = 60.0,
    model: Annotated[tuple[str, ...], Parameter(alias="-m", negative=())] = _DEFAULT,
    models: Path | None = None,
    device: str = "auto",
    scores: ScoresName | None = None,
    categories: Path | None = None,
    own_code: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Answer programs: photos in by HTTP, regions and explanations out as JSON.

    Needs the extra app: pip install '.[app]' in the folder of naspix. Ctrl-C ends it; its page
    /docs tells what can be asked.

    Args:
        port: Where it listens; 0 takes any free port.
        host: Interface it listens on; by default only programs of this machine reach it.
        key: Asked of every request; needed with --host, unless --no-key says so.
        no_key: Let in everybody who reaches the port.
        queue: Requests that may wait; further ones are told to come later.
        batch_size: Requests of one kind that pass the network together.
        time_limit: Seconds after which a request is ended.
        model: Network on offer; may be given several times. The first is asked if none is named.
        models: Folder of .safetensors checkpoints on offer; a name begins with the network's, as
            in resnet18-mine.safetensors.
        device: "auto" is a GPU where there is one; or cpu, cuda, cuda:1.
        scores: What the networks' scores are: "softmax", "sigmoid" or "none"; found out if absent.
        categories: File with the classes' names: JSON, or a name a line.
        own_code: Let --model be a function of yours, FILE.py:FUNCTION or package.module:FUNCTION.
    """
    from naspix.app import networks_of
    from naspix.app.address import LOOPBACK, Address
    from naspix.serving.service import ServiceSettings, serve

    if key is not None and (no_key or not key):
        raise InputError("--key is not empty, and --key and --no-key exclude each other")
    if key is None and host not in LOOPBACK and not no_key:
        raise InputError(
            f"--host {host} lets others in; give --key or NASPIX_API_KEY, or --no-key if everybody "
            "who reaches the port may ask"
        )
    settings = ServiceSettings(
        key=key,
        local=host in LOOPBACK,
        most_waiting=queue,
        most_together=batch_size,
        seconds=time_limit,
    )
    networks = networks_of(
        model,
        folder=models,
        device=device,
        output=scores,
        categories=categories,
        own_code=own_code,
    )
    serve(networks, settings, Address(host, port), ready=talk.say)
    return 0
