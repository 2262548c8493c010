"""``naspix app``: the explorer, served from this machine."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.options import ScoresName
from naspix.errors import InputError

_DEFAULT = ("efficientnet_lite0",)


def explorer(
    *,
    port: int = 7860,
    host: str = "127.0.0.1",
    auth: Annotated[str | None, Parameter(env_var="NASPIX_AUTH")] = None,
    no_auth: Annotated[bool, Parameter(negative=())] = False,
    model: Annotated[tuple[str, ...], Parameter(alias="-m", negative=())] = _DEFAULT,
    models: Path | None = None,
    device: str = "auto",
    scores: ScoresName | None = None,
    categories: Path | None = None,
    own_code: Annotated[bool, Parameter(negative=())] = False,
    root_path: str = "",
) -> int:
    """Open a page on which people touch the regions that a network sees.

    Needs the extra app: pip install '.[app]' in the folder of naspix. Ctrl-C ends it.

    Args:
        port: Where it listens; 0 takes any free port.
        host: Interface it listens on; by default only this machine reaches it.
        auth: user:password, asked of everybody; needed with --host, unless --no-auth says so.
        no_auth: Let in everybody who reaches the port.
        model: Network on offer; may be given several times. The first is shown at once.
        models: Folder of .safetensors checkpoints on offer; a name begins with the network's, as
            in resnet18-mine.safetensors.
        device: "auto" is a GPU where there is one; or cpu, cuda, cuda:1.
        scores: What the networks' scores are: "softmax", "sigmoid" or "none"; found out if absent.
        categories: File with the classes' names: JSON, or a name a line.
        own_code: Let --model be a function of yours, FILE.py:FUNCTION or package.module:FUNCTION.
            Visitors only choose among the networks on offer.
        root_path: Path under which a reverse proxy shows it, such as /explorer.
    """
    import threading

    from naspix.app.address import Address

    address = Address(host, port, _credentials(host, auth, no_auth), root_path)
    with address.listen() as listening:  # first of all: what follows takes seconds
        talk.say(f"loading {model[0]}")
        from naspix.app import Backend, networks_of
        from naspix.app.server import Server

        networks = networks_of(
            model,
            folder=models,
            device=device,
            output=scores,
            categories=categories,
            own_code=own_code,
        )
        backend = Backend(networks)
        try:
            networks.load()
            server = Server(backend, address, listening)
            talk.say(f"the explorer is at {server.url} (Ctrl-C ends it)")
            try:
                threading.Event().wait()
            finally:
                server.close()
        finally:
            backend.close()
            if backend.trees.is_building:
                _end_at_once()
    return 0


def _end_at_once() -> None:
    """End as Ctrl-C does, but without waiting for a tree that nobody will see."""
    talk.say("stopped")
    sys.stdout.flush()
    os._exit(130)


def _credentials(host: str, auth: str | None, no_auth: bool) -> tuple[str, str] | None:
    """User and password, where they are needed or given."""
    from naspix.app.address import LOOPBACK

    if auth is not None and no_auth:
        raise InputError("--auth and --no-auth exclude each other; give one")
    if auth is None:
        if host not in LOOPBACK and not no_auth:
            raise InputError(
                f"--host {host} lets others in; give --auth user:password, or --no-auth if "
                "everybody who reaches the port may use it"
            )
        return None
    user, _, password = auth.partition(":")
    if not user or not password:
        raise InputError("--auth is user:password, neither of them empty")
    return user, password
