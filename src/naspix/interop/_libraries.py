"""Importing what may not be installed: the module, or one sentence that says how to get it."""

import warnings
from importlib import import_module
from typing import Any

from naspix.errors import MissingExtraError


def library(module: str, package: str, purpose: str) -> Any:
    """Import a module of another library.

    Args:
        module: What to import, such as ``"lime.lime_image"``.
        package: What to install, such as ``"lime"``.
        purpose: What it is needed for.

    Raises:
        MissingExtraError: If it is not installed.

    Example:
        >>> library("nowhere", "nowhere-explainer", "AnExample")
        Traceback (most recent call last):
        naspix.errors.MissingExtraError: AnExample needs the package nowhere-explainer; install it
        with: pip install nowhere-explainer
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of when it is imported is its business
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # it is there, and misses something itself
        raise MissingExtraError(
            f"{purpose} needs the package {package}; install it with: pip install {package}"
        ) from None
