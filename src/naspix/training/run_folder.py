"""The files of a run's folder beside its weights: settings, and the result once there is one.

Written whole or not at all; read back, and compared with what is asked for, by whoever goes on.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from naspix.errors import InputError, OutputError
from naspix.files import write_whole, written
from naspix.training.checkpoint import Epoch

SCHEMA = "naspix-finetuning/1"
SETTINGS, RESULT = "settings.json", "result.json"


@dataclass(frozen=True)
class Result:
    """What a run has come to.

    Attributes:
        folder: `naspix.load_model` takes it.
        best: The epoch whose weights are kept.
        history: All epochs.
        test_loss: Of the kept weights on the test split; None without one.
        test_accuracy: Likewise, the share that is right.
        left_out: Pictures that could not be read, with the reason.
    """

    folder: str
    best: Epoch
    history: tuple[Epoch, ...]
    test_loss: float | None
    test_accuracy: float | None
    left_out: dict[str, str]


def best_epoch(history: tuple[Epoch, ...]) -> Epoch:
    """The first of the best."""
    return max(history, key=lambda epoch: epoch.rank)


def is_begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether this very run is in a folder already.

    Raises:
        InputError: If it is another, with what differs.
    """
    if not (folder / SETTINGS).is_file():
        return False
    found = read_json(folder / SETTINGS)
    if found.get("schema") != SCHEMA:
        raise InputError(
            f"the run in {str(folder)!r} is of the form {found.get('schema')!r}, not {SCHEMA}; "
            "give another --output"
        )
    differing = [key for key in settings if found.get(key) != settings[key]]
    if differing:
        raise InputError(
            f"the run in {str(folder)!r} was begun with {_difference(found, settings, differing)}; "
            "give another --output, or the same settings to go on with it"
        )
    return True


def _difference(found: dict[str, Any], wanted: dict[str, Any], keys: list[str]) -> str:
    """The settings that differ, in words."""
    said = []
    for key in keys:
        before, now = found.get(key), wanted[key]
        if key == "classes":
            before = before if isinstance(before, list) else []
            said.append(f"other classes ({len(before)}, not {len(now)})")
        elif key == "fingerprint":
            said += [] if {"classes", "pictures"} & set(keys) else ["other pictures"]
        elif key == "pictures":
            said.append(f"other numbers of pictures ({before}, not {now})")
        else:
            said.append(f"{key} {before!r}, not {now!r}")
    return ", ".join(said)


def outcome(history: tuple[Epoch, ...], test: tuple[float, float] | None) -> dict[str, Any]:
    """What a finished run leaves, given loss and accuracy on its test split."""
    return {
        "schema": SCHEMA,
        "best": asdict(best_epoch(history)),
        "history": [asdict(epoch) for epoch in history],
        "test_loss": test and test[0],
        "test_accuracy": test and test[1],
    }


def read_result(folder: Path, left_out: dict[str, str]) -> Result:
    """What `outcome` made, as a run hands it back."""
    found = read_json(folder / RESULT)
    return Result(
        folder=str(folder),
        best=Epoch(**found["best"]),
        history=tuple(Epoch(**epoch) for epoch in found["history"]),
        test_loss=found["test_loss"],
        test_accuracy=found["test_accuracy"],
        left_out=left_out,
    )


def read_json(path: Path) -> dict[str, Any]:
    """What a file of the run holds.

    Raises:
        OutputError: If it cannot be read.
    """
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{str(path)!r} of the run cannot be read ({error}); give another --output"
        ) from None
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file of the run, whole or not at all."""
    with written(path.parent), write_whole(path, durable=True) as file:
        file.write(f"{json.dumps(content, indent=1, ensure_ascii=False)}\n".encode())
