"""Folders of pictures that a tiny network learns in seconds: the class is a colour."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def paint(folder: Path, n: int, seed: int = 0) -> None:
    """``n`` noisy pictures of each colour, in folders of that name."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            noise = random.normal(colour, 60, (36, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / name / f"{i:02d}.png")
