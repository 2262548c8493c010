"""A network of the user's own by name: ``FILE.py:FUNCTION`` or ``package.module:function``.

The file or module is code of the user's, which is run; who takes names from strangers must not take
these (`names_own_code` tells them).
"""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from naspix.errors import InputError, ModelError, NaspixError, UnknownNameError

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def names_own_code(name: object) -> bool:
    r"""Whether a name is of the form ``FILE.py:FUNCTION`` or ``package.module:function``.

    Example:
        >>> names_own_code(r"C:\nets\mine.py:make"), names_own_code(r"C:\nets\resnet18.pth")
        (True, False)
    """
    place, colon, function = str(name).rpartition(":")
    is_code = place.endswith(".py") or _MODULE.fullmatch(place) is not None
    return bool(colon) and function.isidentifier() and is_code


def absolute_name(name: str) -> str:
    """The same with the file's whole path, so that it means the same in any folder."""
    if not names_own_code(name):
        return name
    place, _, function = name.rpartition(":")
    return f"{Path(place).absolute()}:{function}" if place.endswith(".py") else name


def short_name(name: str) -> str:
    """What to call the network: the file without its folders, and the function."""
    place, _, function = name.rpartition(":")
    return f"{Path(place).name}:{function}" if place.endswith(".py") else name


def own_network(name: str) -> nn.Module:
    """The network that a function returns, which is called without arguments.

    Folders where Python looks for modules are, meanwhile, also the file's own, or the current one
    for a module.

    Args:
        name: Of the file or module, and of the function behind the last colon. A module or
            `Classifier` of that name is taken as it is.

    Raises:
        InputError: There is no such file, module or function, or it returns no network.
        ModelError: The file, or the function, raises an error.
    """
    place, _, function = name.rpartition(":")
    path = Path(place) if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise InputError(f"there is no file {str(path)!r} with the network {function!r}")
    with _found_first(Path.cwd() if path is None else path.absolute().parent):
        with _told(f"{place!r} cannot be imported"):
            module = _imported(place) if path is None else _run(path)
        make = getattr(module, function, None)
        if make is None:
            known = [one for one, value in vars(module).items() if callable(value)]
            raise UnknownNameError.among(f"function in {place!r}, named", function, known)
        if isinstance(make, nn.Module):
            return make
        if not callable(make):
            raise InputError(f"{function!r} in {place!r} is no function, but {_kind(make)}")
        with _told(f"{function}() in {place!r} makes no network"):
            network = make()
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{function}() in {place!r} returned {_kind(network)}; it must return a "
            "torch.nn.Module, or what naspix.wrap_model makes of one"
        )
    return network


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"there is no module {error.name!r} to take a network from") from None
        raise


def _run(path: Path) -> ModuleType:
    """The file as a module of its own, whatever other modules are called."""
    name = f"naspix_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # of a file that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    spec.loader.exec_module(module)
    return module


@contextmanager
def _found_first(folder: Path) -> Iterator[None]:
    """Python looks for modules in this folder first, as it does for a script's."""
    sys.path.insert(0, os.fspath(folder))
    try:
        yield
    finally:
        sys.path.remove(os.fspath(folder))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of the user's code, and a script's exit, as one sentence."""
    try:
        yield
    except NaspixError:
        raise
    except (Exception, SystemExit) as error:
        reason = (str(error) or "no reason given").splitlines()[0]
        raise ModelError(f"{what}: {type(error).__name__}: {reason}{_line(error)}") from error


def _line(error: BaseException) -> str:
    """Where the error arose, in the innermost file."""
    trace = error.__traceback__
    if trace is None or isinstance(error, SyntaxError):  # whose words name the line
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = Path(trace.tb_frame.f_code.co_filename).name
    return f" (line {trace.tb_lineno} of {file})"


def _kind(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__}"
