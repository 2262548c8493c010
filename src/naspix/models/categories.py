"""Names of classes, as people have them: lists, dictionaries of numbers, files."""

import json
import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from naspix.errors import InputError

Categories = Iterable[str] | Mapping[Any, Any]


def ordered_categories(categories: object) -> tuple[str, ...]:
    """Names of classes in the order of their numbers.

    Args:
        categories: Names in order; or a dictionary of numbers (as words too) and names, either way
            round, such as ``config.id2label`` and ``ImageFolder.class_to_idx``.

    Raises:
        InputError: It is no such thing, or numbers are missing, so that names would go wrong.

    Example:
        >>> ordered_categories({"dog": 1, "cat": 0}), ordered_categories({"1": "dog", "0": "cat"})
        (('cat', 'dog'), ('cat', 'dog'))
    """
    if isinstance(categories, Mapping):
        keys, values = list(categories), list(categories.values())
        if all(map(_is_number, keys)) and not all(map(_is_number, values)):
            by_number = {int(key): str(name) for key, name in zip(keys, values, strict=True)}
        elif all(map(_is_number, values)) and not all(map(_is_number, keys)):
            by_number = {int(value): str(key) for key, value in zip(keys, values, strict=True)}
        else:
            raise InputError(
                "categories as a dictionary must have numbers on one side and names on the other"
            )
        if sorted(by_number) != list(range(len(keys))) or not keys:
            raise InputError(
                f"categories as a dictionary must name every class from 0 to {len(keys) - 1} once, "
                f"but number {', '.join(map(str, sorted(by_number))) or 'none'}"
            )
        return tuple(by_number[index] for index in range(len(keys)))
    if isinstance(categories, str | bytes | set | frozenset) or not isinstance(
        categories, Iterable
    ):
        raise InputError(
            "categories must be a list of names in order, or a dictionary of numbers and names, "
            f"not {type(categories).__name__}"
        )
    names = tuple(categories)
    if not all(isinstance(name, str) for name in names):
        wrong = next(name for name in names if not isinstance(name, str))
        raise InputError(f"categories must be names, and {wrong!r} is none")
    return names


def read_categories(file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names of classes from a file: JSON, a list or a dictionary of numbers; or a name a line.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    path = Path(file)
    try:
        words = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the categories in {str(path)!r} cannot be read: {error}") from None
    if path.suffix.lower() == ".json" or words.lstrip()[:1] in ("{", "["):
        try:
            return ordered_categories(json.loads(words))
        except ValueError as error:
            raise InputError(f"the categories in {str(path)!r}: {error}") from None
    names = [line.strip() for line in words.rstrip().splitlines()]
    if not names or not all(names):
        raise InputError(f"{str(path)!r} must hold one class's name in each line")
    return tuple(names)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, Integral) and not isinstance(value, bool)
