"""Every error and warning that naspix raises on purpose.

    NaspixError
    ├── InputError(ValueError)             a tensor, an argument or a file's content is wrong
    │   ├── ImageError                     something is not a readable image
    │   ├── DatasetError                   a data set's file is missing, damaged, or of another kind
    │   └── UnknownNameError               no such model, level, method or segmenter
    ├── ModelError(RuntimeError)           the network cannot serve what is asked of it
    │   ├── WeightsError                   weights are missing, unreachable or do not fit
    │   ├── ActivationError                a level has no spatial map, or not a finite one
    │   └── AttentionError                 no attention over an image's tokens is found
    ├── DeviceError(RuntimeError)          a device is absent or its memory is full
    ├── OutputError(OSError)               a result cannot be written
    ├── DownloadError(OSError)             a file cannot be fetched, or is not the published one
    └── MissingExtraError(ImportError)     an optional dependency is not installed
    NaspixWarning(UserWarning)

A message is one sentence for a person: what is wrong with which input, and what to do.
"""

import difflib
from collections.abc import Iterable


class NaspixError(Exception):
    """The root of all errors that naspix raises on purpose."""


class InputError(NaspixError, ValueError):
    """A tensor, an argument or the content of a file is not what was asked for."""


class ImageError(InputError):
    """Something given as an image cannot be read as one."""


class DatasetError(InputError):
    """A file of a data set is missing, damaged, or of another kind than was asked for."""


class UnknownNameError(InputError):
    """A name (of a model, a level, a method, a segmenter) is not known."""

    @classmethod
    def among(cls, kind: str, name: object, known: Iterable[str]) -> "UnknownNameError":
        """Build the error for ``name``, listing the known names most like it.

        Args:
            kind: What the name should have named, such as ``"model"``.
            name: What was given.
            known: All names that would have been right.

        Example:
            >>> str(UnknownNameError.among("segmenter", "slick", ["nas", "slic", "grid"]))
            "there is no segmenter 'slick'; did you mean 'slic'?"
        """
        choices = list(known)
        near = difflib.get_close_matches(str(name), choices, n=3, cutoff=0.5)
        # written otherwise, as a class or on paper: GradCAM, Grad-CAM++
        near = [one for one in choices if _letters(one) == _letters(name)] or near
        if near:
            hint = "did you mean " + " or ".join(repr(match) for match in near) + "?"
        elif len(choices) <= 20:
            hint = "choose one of " + ", ".join(choices)
        else:
            hint = f"{len(choices)} names are known, such as " + ", ".join(choices[:5])
        return cls(f"there is no {kind} {str(name)!r}; {hint}")


def _letters(name: object) -> str:
    """A name without case, hyphens and the like."""
    spelt = str(name).casefold().replace("++", "plusplus")
    return "".join(letter for letter in spelt if letter.isalnum()) or spelt


class ModelError(NaspixError, RuntimeError):
    """The network cannot serve what is asked of it."""


class WeightsError(ModelError):
    """Weights are missing, cannot be fetched, or do not fit the network."""


class ActivationError(ModelError):
    """A level yields no spatial map, or one with values that are not finite."""


class AttentionError(ModelError):
    """A network attends to no tokens of an image, or its attention cannot be read."""


class DeviceError(NaspixError, RuntimeError):
    """A device is absent, or its memory is full."""


class OutputError(NaspixError, OSError):
    """A result cannot be written."""


class DownloadError(NaspixError, OSError):
    """A file cannot be fetched, or what came is not what was published."""


class MissingExtraError(NaspixError, ImportError):
    """An optional dependency is not installed."""


class NaspixWarning(UserWarning):
    """Something was done differently from what was asked, and the result says so."""
