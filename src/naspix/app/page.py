"""The page, by gradio: one component whose markup, style and script are the files in ``browser``.

Its script sends JSON to one function, ``ask``, and draws what comes back. gradio serves it, keeps
strangers out where a password is asked for, and shows it in notebooks. Needs the extra ``app``.
"""

import asyncio
import os
import time
import warnings
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from naspix.app.actions import Answer
from naspix.app.desk import Desk, refusal, standing
from naspix.app.door import Door
from naspix.app.jobs import Job
from naspix.errors import InputError, MissingExtraError

_SCRIPTS = ("ask.js", "stage.js", "scores.js", "panels.js", "group.js", "start.js")
_PATIENCE = 0.7  # seconds an answer may take before it is told where it stands
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")

# gradio reads these when it is imported
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
}


@dataclass(frozen=True)
class Address:
    """Where the explorer is served, and for whom.

    Attributes:
        host: Interface to listen on.
        port: 0 takes any that is free.
        auth: User and password, or None for everybody who reaches the port.
        root_path: Under which a reverse proxy shows it, such as ``"/explorer"``.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    root_path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in _LOOPBACK


def serve(desk: Desk, address: Address, *, inline: bool = False) -> Any:
    """Start the web server in a thread of its own.

    Args:
        desk: What answers.
        address: Where.
        inline: Show the page in the notebook it is called from.

    Returns:
        gradio's ``Blocks``, whose ``close()`` ends it.

    Raises:
        MissingExtraError: gradio is not installed.
        InputError: the port is taken.
    """
    gr = _gradio()
    blocks = _blocks(gr, desk)
    most_bytes = desk.house.limits.n_bytes * 4 // 3 + 100_000
    hosts = _LOOPBACK if address.is_local else None
    from starlette.middleware import Middleware

    try:
        blocks.launch(
            server_name=address.host.strip("[]"),
            server_port=address.port or None,
            auth=address.auth,
            auth_message="The explorer asks for a user and a password.",
            root_path=address.root_path or None,
            share=False,
            inline=inline,
            height=900,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            head=f"<style>{_text('page.css')}</style>",
            theme=gr.themes.Base(
                font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            enable_monitoring=False,
            pwa=False,
            ssr_mode=False,
            mcp_server=False,
            allowed_paths=[],
            max_file_size=1,
            app_kwargs={
                "middleware": [Middleware(Door, most_bytes=most_bytes, hosts=hosts)],
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise InputError(
            f"port {address.port} of {address.host} cannot be used ({error}); choose another "
            "with --port"
        ) from None
    return blocks


def _blocks(gr: Any, desk: Desk) -> Any:
    async def ask(request: Any) -> Answer:
        start = time.monotonic()
        outcome = desk.ask(request)
        if not isinstance(outcome, Job):
            return outcome
        waited = asyncio.wrap_future(outcome.result)
        try:
            value = await asyncio.wait_for(
                asyncio.shield(waited), max(0.05, _PATIENCE - (time.monotonic() - start))
            )
        except TimeoutError:
            waited.add_done_callback(_seen)
            return standing(outcome)
        except Exception as error:
            return refusal(error)
        return {"ok": True, **value}

    with gr.Blocks(title="naspix explorer", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            value="",
            html_template=_text("page.html"),
            js_on_load="\n".join(_text(name) for name in _SCRIPTS),
            apply_default_css=False,
            server_functions=[ask],
            elem_id="naspix",
        )
    return blocks


def _seen(future: "asyncio.Future[Any]") -> None:
    """An error that nobody waits for here any more is told when the job is followed."""
    if not future.cancelled():
        future.exception()


def _gradio() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():  # of what gradio imports: nothing to do about it here
            warnings.simplefilter("ignore")
            import gradio
    except ImportError:
        raise MissingExtraError(
            "the explorer needs gradio, which is not installed; pip install 'naspix[app]'"
        ) from None
    return gradio


def _text(name: str) -> str:
    return files("naspix.app").joinpath("browser", name).read_text("utf-8")
