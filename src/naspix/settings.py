"""Settings in words: ``rise.n_masks=500`` as ``{"rise": {"n_masks": 500}}``, checked.

Methods, segmenters, data sets and measures are frozen dataclasses; what may be set, and of what
type it is, their fields say. Fields that words cannot give (a model, a function) cannot be set.
"""

import ast
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from naspix.errors import InputError, UnknownNameError

_WORDS: Mapping[str, Any] = {
    "none": None, "true": True, "yes": True, "on": True, "false": False, "no": False, "off": False,
}  # fmt: skip


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
        found.setdefault(name, {})[field] = read_value(text, types_of[field], path.strip())
    return found


def settable(owner: type) -> dict[str, Any]:
    """The fields of a dataclass that words can give, with their types."""
    hints = typing.get_type_hints(owner)
    names = [field.name for field in dataclasses.fields(owner) if field.init and field.name != "_"]
    return {name: hints[name] for name in names if _wanted(hints[name])}


def read_value(text: str, kind: Any, name: str) -> Any:
    """A value of a type, from words.

    Raises:
        InputError: If the words are no such value.

    Example:
        >>> read_value("2,3,4", Sequence[int | str], "nas.levels")
        (2, 3, 4)
    """
    text = text.strip()
    several = tuple(_literal(word.strip()) for word in text.split(",") if word.strip())
    for value in (_literal(text), several, text):
        if _fits(value, kind):
            return value
    wanted = " or ".join(dict.fromkeys(_wanted(kind)))
    raise InputError(f"{name} is {wanted}, not {text!r}")


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (tuple, Sequence):
        if not isinstance(value, tuple):
            return False
        if len(inner) > 1 and inner[1] is not Ellipsis:
            return len(value) == len(inner) and all(map(_fits, value, inner))
        return all(_fits(each, inner[0]) for each in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if origin is PathLike else kind) if _wanted(kind) else False


def _wanted(kind: Any) -> list[str]:
    """What words must be for a type; nothing for a type that words cannot give."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ["one of " + ", ".join(map(str, inner))]
    if origin in (typing.Union, types.UnionType):
        said = [word for each in inner for word in _wanted(each)]
        order = sorted(said, key=lambda word: (word == "a number") + 2 * (word == "text"))
        return order if any(_wanted(each) for each in inner if each is not type(None)) else []
    if origin in (tuple, Sequence):
        if not all(_wanted(each) for each in inner if each is not Ellipsis):
            return []
        fixed = len(inner) > 1 and inner[1] is not Ellipsis
        return [f"{len(inner)} values with commas between them" if fixed else "values with commas"]
    if origin is PathLike:
        return ["text"]
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return ["none"] if kind is type(None) else [names[kind]] if kind in names else []
