"""Photos one batch after the other: read by a thread while the network works on the last ones.

Memory holds two batches whatever the number of files. A photo that cannot be read is told apart,
and the others go on.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from naspix.cli.options import InputOptions
from naspix.errors import DeviceError, InputError, NaspixError, OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from naspix.models import Classifier

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Photo:
    """A photo to be read.

    Attributes:
        name: Unique among the photos of a run.
        source: Where it comes from.
        content: What ``Classifier.load_images`` reads.
    """

    name: str
    source: str
    content: "Path | NDArray[Any]"


@dataclass(frozen=True)
class Batch:
    """Photos of one size.

    Attributes:
        photos: What they are.
        images: ``(B, C, H, W)``.
    """

    photos: Sequence[Photo]
    images: "Tensor"


def find_photos(paths: Sequence[Path] | None) -> list[Photo]:
    """The photos that paths and folders name; without any, two from scikit-image's wheel."""
    from naspix.report.folder import unique_names

    if not paths:
        import skimage.data

        return [
            Photo(name, f"skimage.data.{name}", getattr(skimage.data, name)())
            for name in ("chelsea", "coffee")
        ]
    from naspix.models import expand_paths

    files = expand_paths(paths)
    names = unique_names([str(file) for file in files])
    return [Photo(name, str(file), file) for name, file in zip(names, files, strict=True)]


def read_batches(
    photos: Sequence[Photo],
    model: "Classifier",
    options: InputOptions,
    fail: Callable[[Photo, str], None],
) -> Iterator[Batch]:
    """Read photos ahead and yield them in batches, in order.

    Args:
        photos: What to read.
        model: Says how.
        options: Batch size, resizing, limit.
        fail: Told of each photo that cannot be read, and why.
    """
    if options.batch_size < 1:
        raise InputError(f"--batch-size is at least 1, not {options.batch_size}")

    def read(photo: Photo) -> "Tensor | InputError":
        resize = None if options.resize == "none" else options.resize
        try:
            return model.load_images(
                [photo.content],
                resize=resize,
                max_pixels=options.max_pixels,
            )
        except InputError as error:
            return error

    waiting: list[tuple[Photo, Tensor]] = []
    for photo, image in _ahead(photos, read, depth=options.batch_size):
        if isinstance(image, InputError):
            fail(photo, str(image))
            continue
        if waiting and (len(waiting) == options.batch_size or image.shape != waiting[0][1].shape):
            yield _stacked(waiting)
            waiting = []
        waiting.append((photo, image))
    if waiting:
        yield _stacked(waiting)


def answers(
    batch: Batch, ask: Callable[[Batch], _Answer], fail: Callable[[Photo, str], None]
) -> Iterator[tuple[Batch, _Answer]]:
    """Ask about a batch; if one photo spoils it, about each alone.

    Args:
        batch: Photos of one size.
        ask: Answers for all of a batch, or raises.
        fail: Told of each photo that cannot be answered for, and why.
    """
    try:
        answer = ask(batch)
    except (DeviceError, OutputError):  # not the photo's fault
        raise
    except NaspixError as error:
        if len(batch.photos) == 1:
            fail(batch.photos[0], str(error))
            return
        for index, photo in enumerate(batch.photos):
            yield from answers(Batch([photo], batch.images[index : index + 1]), ask, fail)
        return
    yield batch, answer


def _ahead(
    photos: Sequence[Photo], read: "Callable[[Photo], Tensor | InputError]", depth: int
) -> "Iterator[tuple[Photo, Tensor | InputError]]":
    """Read in a thread, at most ``depth`` photos ahead."""
    reader = ThreadPoolExecutor(1, thread_name_prefix="naspix-reader")
    under_way: deque[tuple[Photo, Future[Tensor | InputError]]] = deque()
    try:
        for photo in photos:
            under_way.append((photo, reader.submit(read, photo)))
            if len(under_way) > depth:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _stacked(waiting: "list[tuple[Photo, Tensor]]") -> Batch:
    import torch

    return Batch([photo for photo, _ in waiting], torch.cat([image for _, image in waiting]))
