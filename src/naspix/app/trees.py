"""Ward's trees, built beside the queue: before anybody asks for them, and in nobody's turn.

A tree takes a second or two of one core and no network. One thread builds one at a time (340 MB
meanwhile): those that somebody waits for first, the others only while the device is free. A
photo that nobody looks at any more is let go, and the tree that it might have had with it.
"""

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from naspix.app.regions import Cutter

_QUIET_FOR = 2.0  # seconds in which the device is free, before a tree is built unasked
_ARENA_MAX = -8  # malloc.h
_MOST_AHEAD = 8  # trees to come that nobody waits for
_GLANCE = 0.05  # seconds between two looks


@dataclass(eq=False)
class _Planned:
    """A tree to come.

    Attributes:
        cutter: Of a photo, as long as somebody looks at it.
        levels: Of the network.
        wanted: Somebody waits for it.
        done: There is a tree, or none could be built.
    """

    cutter: "weakref.ref[Cutter]"
    levels: tuple[int, ...]
    wanted: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class TreeBuilder:
    """Builds Ward's trees, one at a time, in a thread that is there while trees are to come.

    A program that ends waits for the tree that is being built (``naspix app`` does not), and for no
    other.

    Args:
        idle_for: For how many seconds nobody has used the device or waited for it.

    Attributes:
        is_building: Whether a tree is being built, which nothing can interrupt.
    """

    def __init__(self, idle_for: Callable[[], float]) -> None:
        self._idle_for = idle_for
        self._planned: list[_Planned] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = self.is_building = False

    def plan(
        self, cutter: Cutter, levels: tuple[int, ...], *, wanted: bool = False
    ) -> threading.Event:
        """Build this tree when there is time, if the photo is still looked at then.

        Args:
            cutter: Of the photo.
            levels: Of the network.
            wanted: Build it next, since somebody waits for it.

        Returns:
            An event that is set when there is a tree, or none could be built.
        """
        with self._changed:
            self._drop_abandoned()
            own = [tree for tree in self._planned if tree.cutter() is cutter]
            same = [tree for tree in own if tree.levels == levels]
            tree = same[0] if same else _Planned(weakref.ref(cutter), levels)
            tree.wanted |= wanted
            for other in own:  # a photo keeps one tree: that of its last levels
                if other is not tree and not other.wanted:
                    self._planned.remove(other)
            if self._closed:
                tree.done.set()
            elif not same:
                self._planned.append(tree)
                ahead = [tree for tree in self._planned if not tree.wanted]
                for oldest in ahead[:-_MOST_AHEAD]:  # built when somebody asks for it
                    self._planned.remove(oldest)
            if self._thread is None and not self._closed:
                # no daemon, whatever the thread that asks is: one that ends amid C++ code aborts
                self._thread = threading.Thread(
                    target=self._build, name="naspix-trees", daemon=False
                )
                self._thread.start()
            self._changed.notify_all()
        return tree.done

    @property
    def n_planned(self) -> int:
        """How many trees are to come."""
        with self._changed:
            self._drop_abandoned()
            return len(self._planned)

    def close(self) -> None:
        """Build no more."""
        with self._changed:
            self._closed = True
            for tree in self._planned:
                tree.done.set()
            self._planned.clear()
            self._changed.notify_all()

    def _build(self) -> None:
        while (tree := self._next()) is not None:
            cutter = tree.cutter()
            if cutter is not None:
                with contextlib.suppress(Exception):  # told to whoever asks for the tree itself
                    cutter.build_tree(tree.levels)
            del cutter  # no photo is kept while this waits
            give_back()
            with self._changed:
                self.is_building = False
                if tree in self._planned:
                    self._planned.remove(tree)
            tree.done.set()

    def _next(self) -> _Planned | None:
        """A wanted tree at once, the newest in a quiet moment, None at the end."""
        with self._changed:
            self._drop_abandoned()
            while self._planned and threading.main_thread().is_alive():
                wanted = [tree for tree in self._planned if tree.wanted]
                if wanted or self._idle_for() >= _QUIET_FOR:
                    self.is_building = True
                    return wanted[0] if wanted else self._planned[-1]
                self._changed.wait(_GLANCE)
                self._drop_abandoned()
            self._thread = None
        return None

    def _drop_abandoned(self) -> None:
        self._planned = [tree for tree in self._planned if tree.cutter() is not None]


def give_back() -> None:
    """Let the system have the memory that is free again, which glibc would keep."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_little() -> None:
    """Let threads share their free memory: glibc keeps some for each of them otherwise."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)
