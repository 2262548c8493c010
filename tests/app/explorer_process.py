"""The explorer as people start it, in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_START = "import sys; from naspix.cli import main; sys.exit(main(sys.argv[1:]))"


@contextmanager
def explorer(*options: str, first: str = "") -> Iterator[str]:
    """Start ``naspix app`` on a free port, give its address, and end it by Ctrl-C.

    Args:
        options: Of the command.
        first: Python lines that its process runs before.
    """
    command = [sys.executable, "-c", f"{first}\n{_START}", "app", "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "the explorer is at " in line:
                break
        else:
            raise AssertionError(f"the explorer did not start: {said}")
        assert "naspix: loading efficientnet_lite0" in said  # before it is ready
        yield line.split("the explorer is at ")[1].split()[0].rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stderr.close()
    assert status == 130, f"ended with {status}"
