"""Words into parameters: ``rise.n_masks=500`` as ``{"rise": {"n_masks": 500}}``, typed and checked.

What may be set, and what type it has, the dataclasses' own fields say. Fields that words cannot
give (a model, a function, a tensor) cannot be set here.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from naspix.errors import InputError, UnknownNameError

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class _NoValueError(Exception):
    """The words are no value of this type."""


def read_assignments(
    assignments: Sequence[str], owners: Mapping[str, type]
) -> dict[str, dict[str, Any]]:
    """Read ``name.field=value`` for dataclasses known by name.

    Args:
        assignments: The words; of two for the same field the later counts.
        owners: Name -> dataclass.

    Raises:
        UnknownNameError: If there is no such name or field, with the names most like it.
        InputError: If the value is not of the field's type.

    Example:
        >>> from naspix.saliency import RISE
        >>> read_assignments(["rise.n_masks=500", "rise.until=none"], {"rise": RISE})
        {'rise': {'n_masks': 500, 'until': None}}
    """
    found: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        name, dot, field = path.strip().partition(".")
        if not (equals and dot):
            raise InputError(f"--set takes NAME.PARAMETER=VALUE, not {assignment!r}")
        if name not in owners:
            raise UnknownNameError.among("name to set a parameter of", name, owners)
        types_of = settable(owners[name])
        if field not in types_of:
            raise UnknownNameError.among(f"parameter of {name}", field, types_of)
        found.setdefault(name, {})[field] = read_value(text.strip(), types_of[field], path)
    return found


def settable(owner: type) -> dict[str, Any]:
    """The fields of a dataclass that words can give, with their types."""
    hints = typing.get_type_hints(owner)
    fields = [field.name for field in dataclasses.fields(owner) if field.init]
    return {name: hints[name] for name in fields if name != "_" and _readable(hints[name])}


def read_value(text: str, kind: Any, name: str) -> Any:
    """A value of a type, from words.

    Raises:
        InputError: If the words are no such value.

    Example:
        >>> read_value("2,3,4", Sequence[int | str], "nas.levels")
        (2, 3, 4)
    """
    try:
        return _read(text, kind)
    except _NoValueError as error:
        raise InputError(f"{name} is {error}, not {text!r}") from None


def _read(text: str, kind: Any) -> Any:
    origin, choices = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _chosen(text, choices)
    if origin in (typing.Union, types.UnionType):
        return _read_any(text, choices)
    if origin in (tuple, Sequence):
        return _several(text, choices)
    if kind is type(None):
        if text.lower() in ("none", ""):
            return None
        raise _NoValueError("none")
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise _NoValueError("true or false")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise _NoValueError("a whole number" if kind is int else "a number") from None
    return text


def _read_any(text: str, kinds: Sequence[Any]) -> Any:
    """The first of several types that the words fit; text last, since everything is text."""
    wanted = []
    for kind in sorted(filter(_readable, kinds), key=lambda kind: kind in (str, float)):
        try:
            return _read(text, kind)
        except _NoValueError as error:
            wanted.append(str(error))
    raise _NoValueError(" or ".join(dict.fromkeys(wanted)))


def _chosen(text: str, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if text == str(choice):
            return choice
    raise _NoValueError("one of " + ", ".join(map(str, choices)))


def _several(text: str, kinds: Sequence[Any]) -> tuple[Any, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(kinds) > 1 and kinds[1] is not Ellipsis:
        if len(words) != len(kinds):
            raise _NoValueError(f"{len(kinds)} values with commas between them")
        return tuple(_read(word, kind) for word, kind in zip(words, kinds, strict=True))
    return tuple(_read(word, kinds[0]) for word in words)


def _readable(kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float, bool, str, type(None)) or origin in (typing.Literal, PathLike):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_readable(each) for each in inner if each is not type(None))
    if origin in (tuple, Sequence):
        return all(_readable(each) for each in inner if each is not Ellipsis)
    return False
