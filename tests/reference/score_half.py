"""One of two processes that score the halves of a data set: ``score_half.py RANK FOLDER``.

Reads FOLDER/maps.npz, meets the other process over a file, leaves the scores in FOLDER/RANK.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from naspix.metrics import MaxBoxAccV2, PxAP


def score_half(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2
    )
    arrays = np.load(folder / "maps.npz")
    maps, boxes = (torch.from_numpy(arrays[name])[rank::2] for name in ("maps", "boxes"))
    boxes_found, pixels_found = MaxBoxAccV2(), PxAP()
    boxes_found.update(maps, boxes)
    pixels_found.update(maps, (maps > 0.7).long())
    scores = {name: float(value) for name, value in boxes_found.compute().items()}
    scores["pxap"] = float(pixels_found.compute())
    (folder / f"{rank}.json").write_text(json.dumps(scores))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    score_half(int(sys.argv[1]), Path(sys.argv[2]))
