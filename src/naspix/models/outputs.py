"""The tensor in whatever a module puts out."""

from collections.abc import Mapping

from torch import Tensor


def first_tensor(output: object) -> Tensor | None:
    """The tensor that an output is, holds first, or calls its last hidden state."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        values = [output.get("last_hidden_state"), *output.values()]
    elif isinstance(output, tuple | list):
        values = list(output)
    else:
        return None
    return next((value for value in values if isinstance(value, Tensor)), None)
