"""What is known of a photo from before: maps, segmentations, greedy orders, and deciding sets.

Each goes by the repr of the method or segmenter that made it, which says exactly what that was, so
that a run takes other methods, segmenters and parameters, and asks only for what it lacks.
"""

import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from naspix.explanation import Explanation
from naspix.metrics import DecidingSets
from naspix.segmentation import Segmentation
from naspix.superpixelify import superpixelify


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one photo, or of one class that it was asked about.

    Attributes:
        maps: Repr of a method -> its map ``(H, W)``.
        segmentations: Repr of a segmenter -> its segmentation, a batch of one.
        orders: Repr of a segmenter -> its superpixels in the order in which they are hidden.
        sets: Words of a method and a segmenter -> what suffices and what is needed by them.
    """

    maps: Mapping[str, Tensor] = field(default_factory=dict)
    segmentations: Mapping[str, Segmentation] = field(default_factory=dict)
    orders: Mapping[str, Tensor] = field(default_factory=dict)
    sets: Mapping[str, DecidingSets] = field(default_factory=dict)

    def packed(self) -> bytes:
        """All of it as bytes, for the store."""
        names = {name: list(getattr(self, name)) for name in ("maps", "segmentations", "orders")}
        sets = {name: one.to_plain() for name, one in self.sets.items()}
        arrays: dict[str, np.ndarray] = {
            "names": np.array(json.dumps(names)),
            "sets": np.array(json.dumps(sets)),
        }
        for place, one in enumerate(self.maps.values()):
            arrays[f"maps-{place}"] = one.cpu().numpy()
        for place, order in enumerate(self.orders.values()):
            arrays[f"orders-{place}"] = order.cpu().numpy()
        for place, segmentation in enumerate(self.segmentations.values()):
            arrays[f"segmentations-{place}"] = np.frombuffer(
                content_of(segmentation.save), np.uint8
            )
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> "Known":
        """What `packed` made bytes of."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            names, sets = json.loads(str(file["names"])), json.loads(str(file["sets"]))
            arrays = {
                kind: {name: file[f"{kind}-{place}"] for place, name in enumerate(several)}
                for kind, several in names.items()
            }
        return cls(
            {name: torch.from_numpy(one) for name, one in arrays["maps"].items()},
            {
                name: _segmentation_of(one.tobytes())
                for name, one in arrays["segmentations"].items()
            },
            {name: torch.from_numpy(one) for name, one in arrays["orders"].items()},
            {name: DecidingSets.from_plain(one) for name, one in sets.items()},
        )


def with_known(
    explanation: Explanation,
    methods: Mapping[str, str],
    segmenters: Mapping[str, str],
    known: Sequence[Known],
) -> tuple[Explanation, list[Known]]:
    """An explanation of all that is asked, and what is known now.

    Args:
        explanation: Of what was not known.
        methods: Name -> repr of those that are asked for, in their order.
        segmenters: The same.
        known: Of each image, from before.
    """
    device = explanation.images.device
    raw = {
        name: explanation.raw[name]
        if name in explanation.raw
        else torch.stack([one.maps[made_by] for one in known]).to(device)
        for name, made_by in methods.items()
    }
    segmentations = {
        name: explanation.segmentations[name]
        if name in explanation.segmentations
        else Segmentation.joined([one.segmentations[made_by] for one in known]).to(device)
        for name, made_by in segmenters.items()
    }
    orders = {
        name: explanation.hidden_first[name]
        if name in explanation.hidden_first
        else tuple(one.orders[made_by] for one in known)
        for name, made_by in segmenters.items()
        if name in explanation.hidden_first or all(made_by in one.orders for one in known)
    }
    pooled = {
        (method, segmenter): superpixelify(heat, segmentation.superpixels)
        for method, heat in raw.items()
        for segmenter, segmentation in segmentations.items()
    }
    now = [
        replace(
            one,
            maps={**one.maps, **{made_by: raw[name][at] for name, made_by in methods.items()}},
            segmentations={
                **one.segmentations,
                **{made_by: segmentations[name][at] for name, made_by in segmenters.items()},
            },
            orders={
                **one.orders,
                **{segmenters[name]: order[at] for name, order in orders.items()},
            },
        )
        for at, one in enumerate(known)
    ]
    whole = replace(
        explanation, raw=raw, segmentations=segmentations, pooled=pooled, hidden_first=orders
    )
    return whole, now


def content_of(save: Callable[[Path], None]) -> bytes:
    """What a function writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        save(path)
        return path.read_bytes()


def _segmentation_of(content: bytes) -> Segmentation:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        return Segmentation.load(path)
