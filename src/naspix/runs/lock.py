"""One process at a time in a run's folder; the lock of a process that has died is nobody's.

The operating system holds the lock and lets it go with the process, so there is nothing to clean up
after a kill. What is written in the file only says who is meant.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from naspix.errors import NaspixWarning, OutputError
from naspix.files import written


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, made if it is not there, inside the ``with`` block.

    Raises:
        OutputError: If another process holds it, or nothing can be written there.

    Warns:
        NaspixWarning: The file system knows no locks.
    """
    with written(path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError):
            holder = file.read().strip() or "another process"
            raise OutputError(
                f"{path.parent} is in use by {holder}; wait for it, or give another --output"
            ) from None
        except OSError as error:
            warnings.warn(
                f"{path.parent} cannot be locked ({error.strerror}); see to it that no second run "
                "writes there",
                NaspixWarning,
                stacklevel=4,
            )
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}, since {datetime.now(UTC).isoformat(' ', 'seconds')}")
        file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # beyond the words, so that others can read them

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
