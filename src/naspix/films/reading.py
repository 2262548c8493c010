"""Films from files: the frames of a video, of an animated GIF, or of a folder of pictures.

Each is opened anew for every pass over it, so that no film is held in memory. Videos need PyAV (the
extra ``video``), whose wheel brings FFmpeg under the GPL.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naspix.errors import ImageError, InputError, MissingExtraError
from naspix.images import MAX_PIXELS, expand_paths

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv")
_GIF_RATE, _FOLDER_RATE = 10.0, 12.0  # frames a second where a file says none
_SLOWEST, _FASTEST = 1.0, 60.0


def is_film(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a film by its ending: a video, or a GIF of several frames."""
    suffix = Path(path).suffix.lower()
    if suffix != ".gif" or not os.path.isfile(path):
        return suffix in VIDEOS
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1) > 1
    except (OSError, UnidentifiedImageError):
        return False  # reading it as a photo says what is wrong


@dataclass(frozen=True)
class Film:
    """A film on disk.

    Attributes:
        path: A video, a GIF, or a folder of pictures, which are taken in the order of their names.
        every: Only each so manieth frame is taken.
        most: No more frames than that are taken.
    """

    path: Path
    every: int = 1
    most: int = 600

    def __post_init__(self) -> None:
        if self.every < 1 or self.most < 1:
            raise InputError("--every and --most-frames are whole numbers from 1 up")
        if not self.path.exists():
            raise ImageError(f"there is no film {os.fspath(self.path)!r}")

    @property
    def rate(self) -> float:
        """Frames a second of what is taken."""
        if self.path.is_dir():
            rate = _FOLDER_RATE
        elif self.path.suffix.lower() == ".gif":
            from PIL import Image

            with Image.open(self.path) as picture:
                milliseconds = picture.info.get("duration", 0)
            rate = 1000 / milliseconds if milliseconds else _GIF_RATE
        else:
            with _opened(self.path) as container:
                rate = float(container.streams.video[0].average_rate or _FOLDER_RATE)
        return min(_FASTEST, max(_SLOWEST, rate)) / self.every

    def __iter__(self) -> "Iterator[Image]":
        """The frames that are taken, one after the other.

        Raises:
            ImageError: The film cannot be read.
        """
        n_taken = 0
        for number, frame in enumerate(self._all()):
            if number % self.every:
                continue
            if n_taken == self.most:
                return
            n_taken += 1
            yield frame

    def _all(self) -> "Iterator[Image]":
        from PIL import Image, ImageSequence

        if self.path.is_dir():
            for file in _pictures(self.path):
                with Image.open(file) as picture:
                    yield picture.convert("RGB")
        elif self.path.suffix.lower() == ".gif":
            with Image.open(self.path) as picture:
                for frame in ImageSequence.Iterator(picture):
                    yield frame.convert("RGB")
        else:
            with _opened(self.path) as container:
                for frame in container.decode(video=0):
                    if frame.width * frame.height > MAX_PIXELS:
                        raise ImageError(
                            f"{os.fspath(self.path)!r} is too large, with {frame.width} x "
                            f"{frame.height} pixels; scale it down"
                        )
                    yield frame.to_image()


def _pictures(folder: Path) -> Sequence[Path]:
    return sorted(expand_paths([folder]), key=lambda file: file.name)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A video's container; what is wrong with it as a sentence."""
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            f"{os.fspath(path)!r} is a video, which needs PyAV; install it with "
            "pip install '.[video]' in the folder of naspix"
        ) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{os.fspath(path)!r} holds no moving pictures")
            yield container
    except av.FFmpegError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(
            f"{os.fspath(path)!r} cannot be read as a film ({reason}); it may be damaged or cut "
            "short"
        ) from None
