"""Files of weights as people save them: the tensors in them by name, and no code run.

``.safetensors``, and what ``torch.save`` writes, read with ``weights_only``. Beside their tensors
training scripts save settings, scores and dates; types that can do nothing are let through, and
anything else is named in the error. Fitting tensors to a network is `weights.py`'s business.
"""

import argparse
import datetime
import os
import pathlib
import pickle
import re
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from naspix.errors import NaspixWarning, WeightsError

# The first that is there is taken; averaged ones go first, as in timm.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
_NO_WEIGHTS = (
    "optimizer",
    "optimizers",
    "optimizer_state_dict",
    "scheduler",
    "scaler",
    "criterion",
)

_one_at_a_time = threading.Lock()  # torch keeps the list of what is let through for all threads


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, on the CPU.

    Raises:
        WeightsError: If there is no such file, or it holds no state dictionary, or more than
            tensors and values that can do nothing.

    Warns:
        NaspixWarning: The file holds weights and their average, which is taken.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"there is no weights file {str(file)!r}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(file)
        else:
            with _one_at_a_time, torch.serialization.safe_globals(list(_inert())):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        what = f" ({refused[1]})" if refused else ""
        raise WeightsError(
            f"the weights file {str(file)!r} is damaged or holds more than tensors{what}, and code "
            "in it is not run; save model.state_dict() and give that"
        ) from None
    except Exception as error:  # torch, zip and safetensors each raise their own
        # a KeyError of torch's says nothing to anyone
        reason = "" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise WeightsError(
            f"the weights file {str(file)!r} cannot be read: "
            f"{reason or 'it is not in a format that PyTorch or safetensors write'}"
        ) from None
    state = _unwrapped(content, str(file))
    if not state:
        raise WeightsError(
            f"the weights file {str(file)!r} holds no tensors by name; save model.state_dict()"
        )
    return state


def _inert() -> list[Any]:
    """Types beside tensors that are only values, each under all names that files know it by."""
    named: list[tuple[Callable[..., Any], str]] = [
        (_made_dtype, "numpy.dtype"),
        (_made_dictionary, "collections.defaultdict"),
        *(
            (made, f"numpy.{core}.multiarray.{name}")
            for core in ("core", "_core")
            for made, name in ((_made_scalar, "scalar"), (_made_array, "_reconstruct"))
        ),
        *(
            (getattr(pathlib, f"Pure{kind}"), f"{module}.{kind}")  # a path of another system, too
            for module in ("pathlib", "pathlib._local")
            for kind in ("PosixPath", "WindowsPath")
        ),
        *(
            (OrderedDict, f"{module}.AttributeDict")  # Lightning's hyperparameters
            for module in (
                "lightning.fabric.utilities.data",
                "lightning_fabric.utilities.data",
                "pytorch_lightning.utilities.parsing",
            )
        ),
    ]
    own = [
        *(argparse.Namespace, types.SimpleNamespace, np.ndarray),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(list, dict, tuple, frozenset, slice, range),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath),
    ]
    # `builtins` is spelt in two ways by the protocols, and Python 3.13 moved pathlib's classes
    dtypes = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type)]
    return [*named, *own, (range, "builtins.xrange"), *dtypes]


def _made_dtype(kind: str, *_: object) -> "np.dtype[Any]":
    """A type of plain values: a copy, since what is stored sets its byte order."""
    made = np.dtype(str(kind), copy=True)
    if made.kind not in "biufcSUMmO":
        raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({kind!r}) was not an allowed type")
    return made


def _made_scalar(dtype: "np.dtype[Any]", content: bytes = b"") -> Any:
    if dtype.hasobject or not isinstance(content, bytes):
        raise pickle.UnpicklingError("GLOBAL numpy.object was not an allowed type")
    return np.frombuffer(content, dtype, 1)[0]


def _made_dictionary(*_: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _made_array(*_: object) -> NDArray[Any]:
    """An empty array, which what is stored fills."""
    return np.ndarray((0,), "b")


def _unwrapped(content: object, file: str) -> dict[str, Tensor]:
    """The innermost dictionary of tensors."""
    while isinstance(content, Mapping):
        inner = [key for key in (*_AVERAGES, *_WRAPPERS) if isinstance(content.get(key), Mapping)]
        if len(inner) > 1 and inner[0] in _AVERAGES:
            warnings.warn(
                f"the weights file {file!r} holds weights in {inner[1]!r} and their average in "
                f"{inner[0]!r}, which is taken; save the others alone if they are meant",
                NaspixWarning,
                stacklevel=3,
            )
        if not inner:
            tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
            others = [
                key
                for key, value in content.items()
                if key not in _NO_WEIGHTS and _holds_tensors(value)
            ]
            if len(tensors) > 1 or len(others) != 1:
                return tensors
            inner = others
        content = content[inner[0]]
    return {}


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, Tensor) for one in value.values())
