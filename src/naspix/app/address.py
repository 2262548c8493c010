"""Where the explorer is served, and for whom; nothing heavy is imported to say that it is taken."""

import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass

from naspix.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True)
class Address:
    """Where the explorer is served, and for whom.

    Attributes:
        host: Interface to listen on.
        port: 0 takes any that is free.
        auth: User and password, or None for everybody who reaches the port.
        root_path: Under which a reverse proxy shows it, such as ``"/explorer"``.
        framed: Whether pages of this machine, such as a notebook's, may show it in a frame.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    root_path: str = ""
    framed: bool = False

    def is_name(self, host: str, port: int) -> bool:
        """Whether this is how the server is called: no foreign page's name leads here.

        A browser sends a password to no other name, so where one is asked any name will do.
        """
        name, _, its_port = host.rpartition(":") if re.search(r":\d+$", host) else (host, "", "80")
        if self.host in LOOPBACK:
            return name in LOOPBACK and its_port == str(port)
        with suppress(ValueError):
            ipaddress.ip_address(name.strip("[]"))
            return True
        own = {*LOOPBACK, self.host, socket.gethostname(), socket.getfqdn()}
        return self.auth is not None or name in {one.lower() for one in own}

    def url(self, listening: socket.socket) -> str:
        """Where what listens is reached."""
        host, port = self.host.strip("[]"), listening.getsockname()[1]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def listen(self) -> socket.socket:
        """Take the port.

        Raises:
            InputError: it cannot be had.
        """
        host = self.host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, self.port), family=family)
            # what is accepted inherits it; else an answer's body waits 40 ms for its head's receipt
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except OSError as error:
            raise InputError(
                f"port {self.port} of {self.host} cannot be used ({error}); choose another "
                "with --port"
            ) from None
