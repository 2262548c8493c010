"""What the C library does with memory that is freed: hands it back to the system, or keeps it.

A network's activations are large and live for a moment. By default glibc asks the system for each
of them and gives it back, and the system fills every page with zeros anew: up to half of a
network's time on a CPU.
"""

import ctypes
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30  # blocks and free ends of the heap, in bytes, up to which memory is kept


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next tensors: networks run faster on a CPU.

    Measured with the default network on two cores: 1.5 times as fast forwards of 32 photos, 1.7
    times as fast with the backward. The process stays as large as it ever was until it ends, so
    this is for programs of their own, such as the ``naspix`` command, which calls it; a library
    does not decide this for the program it is part of.

    Returns:
        Whether it has an effect: with glibc, so on most Linux systems, and not elsewhere.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library
        return False
    return bool(set_option(_MMAP_THRESHOLD, _KEPT)) and bool(set_option(_TRIM_THRESHOLD, _KEPT))
