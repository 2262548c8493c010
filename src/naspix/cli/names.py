"""Names that a person writes beside an atlas, and what its clusters were fitted to."""

import json
from pathlib import Path
from typing import Any

from naspix.cli.inputs import Photo
from naspix.errors import InputError

_SAMPLE = '{"0": "grass", "1": "head"}'


def read_names(path: Path) -> dict[int, str]:
    """Names by cluster, from a JSON object or list."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); it should be like {_SAMPLE}") from error
    if isinstance(content, list):
        content = {str(k): name for k, name in enumerate(content)}
    if not isinstance(content, dict) or not all(
        k.isdecimal() and isinstance(name, str) for k, name in content.items()
    ):
        raise InputError(f"{path} does not name clusters; it should be like {_SAMPLE}")
    return {int(k): name for k, name in content.items()}


def stamp(photo: Photo) -> list[object]:
    """What tells whether a photo is still the same."""
    if not isinstance(photo.content, Path) or not photo.content.is_file():
        return [photo.source]
    status = photo.content.stat()
    return [photo.source, status.st_size, status.st_mtime_ns]


def read_json(path: Path) -> Any:
    """What a JSON file holds; None if it cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def write_json(value: object, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    from naspix.files import write_whole, written

    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    with written(path), write_whole(path) as file:
        file.write(f"{text}\n".encode())
