"""Ward's trees, grown beside the line: before anybody asks for them, and in nobody's turn.

A tree takes a second or two of one core and no network. One thread grows one at a time (340 MB
while it grows): those that somebody waits for first, the others only while the device is free. A
photo that nobody looks at any more is let go, and the tree that it might have had with it.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from naspix.app.regions import Cutter

_QUIET_FOR = 0.4  # seconds in which the device is free, before a tree grows unasked
_GLANCE = 0.05  # seconds between two looks


@dataclass(eq=False)
class _Seed:
    """A tree to come.

    Attributes:
        cutter: Of a photo, as long as somebody looks at it.
        levels: Of the network.
        wanted: Somebody waits for it.
        done: There is a tree, or none could be grown.
    """

    cutter: "weakref.ref[Cutter]"
    levels: tuple[int, ...]
    wanted: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class Nursery:
    """Grows Ward's trees, one at a time, in a thread that is there while trees are to come.

    A program that ends waits for the tree that is growing (``naspix app`` does not), and for no
    other.

    Args:
        idle_for: For how many seconds nobody has used the device or waited for it.
    """

    def __init__(self, idle_for: Callable[[], float]) -> None:
        self._idle_for = idle_for
        self._seeds: list[_Seed] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = self._growing = False

    def plan(self, cutter: Cutter, levels: tuple[int, ...]) -> None:
        """Grow this tree when there is time, if the photo is still looked at then."""
        self._sow(cutter, levels, wanted=False)

    def want(self, cutter: Cutter, levels: tuple[int, ...]) -> threading.Event:
        """Grow this tree next; the event is set when there is one, or none could be grown."""
        return self._sow(cutter, levels, wanted=True).done

    @property
    def n_planned(self) -> int:
        """How many trees are to come."""
        with self._changed:
            self._drop_abandoned()
            return len(self._seeds)

    @property
    def is_growing(self) -> bool:
        """Whether a tree is growing, which nothing can interrupt."""
        with self._changed:
            return self._growing

    def close(self) -> None:
        """Grow no more."""
        with self._changed:
            self._closed = True
            for seed in self._seeds:
                seed.done.set()
            self._seeds.clear()
            self._changed.notify_all()

    def _sow(self, cutter: Cutter, levels: tuple[int, ...], *, wanted: bool) -> _Seed:
        with self._changed:
            self._drop_abandoned()
            own = [seed for seed in self._seeds if seed.cutter() is cutter]
            same = [seed for seed in own if seed.levels == levels]
            seed = same[0] if same else _Seed(weakref.ref(cutter), levels)
            seed.wanted |= wanted
            for other in own:  # a photo keeps one tree: that of its last levels
                if other is not seed and not other.wanted:
                    self._seeds.remove(other)
            if self._closed:
                seed.done.set()
            elif not same:
                self._seeds.append(seed)
            if self._thread is None and not self._closed:
                # no daemon, whatever the thread that asks is: one that ends amid C++ code aborts
                self._thread = threading.Thread(
                    target=self._work, name="naspix-trees", daemon=False
                )
                self._thread.start()
            self._changed.notify_all()
        return seed

    def _work(self) -> None:
        while (seed := self._next()) is not None:
            cutter = seed.cutter()
            if cutter is not None:
                with contextlib.suppress(Exception):  # told to whoever asks for the tree itself
                    cutter.grow(seed.levels)
            del cutter  # no photo is kept while this waits
            with self._changed:
                self._growing = False
                if seed in self._seeds:
                    self._seeds.remove(seed)
            seed.done.set()

    def _next(self) -> _Seed | None:
        """The tree to grow: a wanted one at once, the newest in a quiet moment, None at the end."""
        with self._changed:
            self._drop_abandoned()
            while self._seeds and threading.main_thread().is_alive():
                wanted = [seed for seed in self._seeds if seed.wanted]
                if wanted or self._idle_for() >= _QUIET_FOR:
                    self._growing = True
                    return wanted[0] if wanted else self._seeds[-1]
                self._changed.wait(_GLANCE)
                self._drop_abandoned()
            self._thread = None
        return None

    def _drop_abandoned(self) -> None:
        self._seeds = [seed for seed in self._seeds if seed.cutter() is not None]
