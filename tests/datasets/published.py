"""Small data sets in the published formats, written with other code than they are read by."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, *, size: tuple[int, int] = (20, 30), seed: int = 0) -> np.ndarray:
    """Write a picture of a size (H, W); PNG, so that it is read as it was written."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def stl10(root: Path, n: int = 12) -> dict[str, np.ndarray]:
    """All files of STL-10, with ``n`` pictures a split; gives (n, 96, 96, 3) for each."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    written = {}
    for split in ("train", "test", "unlabeled"):
        pixels = random.integers(0, 256, (n, 96, 96, 3), np.uint8)
        with (folder / f"{split}_X.bin").open("wb") as file:
            for one in pixels:
                for channel in range(3):
                    file.write(one[:, :, channel].tobytes(order="F"))
        if split != "unlabeled":
            (folder / f"{split}_y.bin").write_bytes(bytes(i % 10 + 1 for i in range(n)))
        written[split] = pixels
    names = "airplane bird car cat deer dog horse monkey ship truck"
    (folder / "class_names.txt").write_text(names.replace(" ", "\n") + "\n")
    folds = [f"{i} {(i + 3) % n} {(i + 5) % n} " for i in range(10)]
    (folder / "fold_indices.txt").write_text("\n".join(folds) + "\n")
    return written


BIRDS = ("001.Black_footed_Albatross/a.png", "001.Black_footed_Albatross/b.png", "002.Wren/c.png")


def cub(root: Path) -> Path:
    """CUB-200-2011 with three pictures, of which the second is for training."""
    folder = root / "CUB_200_2011"
    for i, bird in enumerate(BIRDS):
        picture(folder / "images" / bird, seed=i)
    (folder / "images.txt").write_text("".join(f"{i} {b}\n" for i, b in enumerate(BIRDS, 1)))
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n")
    (folder / "train_test_split.txt").write_text("1 0\n2 1\n3 0\n")
    (folder / "bounding_boxes.txt").write_text(
        "1 2.0 3.0 10.0 5.0\n2 0.0 0.0 30.0 20.0\n3 5.0 6.0 7.0 8.0\n"
    )
    return folder


def cub_lists(root: Path) -> Path:
    """CUBv2's lists for the same pictures, and one more that is only in the split val."""
    lists = root / "metadata"
    splits = {"train": [BIRDS[1]], "test": [BIRDS[0], BIRDS[2]], "val": ["002.Wren/99,1.png"]}
    for split, birds in splits.items():
        folder = lists / split
        folder.mkdir(parents=True)
        (folder / "image_ids.txt").write_text("".join(f"{b}\n" for b in birds))
        (folder / "class_labels.txt").write_text("".join(f"{b},{int(b[:3]) - 1}\n" for b in birds))
        (folder / "image_sizes.txt").write_text("".join(f"{b},30,20\n" for b in birds))
        (folder / "localization.txt").write_text("".join(f"{b},2,3,12,8\n" for b in birds))
    picture(root / "CUBV2" / "002.Wren" / "99,1.png", seed=9)
    return lists


def voc_xml(
    path: Path,
    boxes: list[tuple[str, int, int, int, int]],
    *,
    file_name: str = "",
    size: tuple[int, int] = (20, 30),
    difficult: int = 0,
) -> None:
    """An annotation in Pascal VOC's XML; the size is (H, W)."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{file_name or path.stem + '.png'}</filename><size><width>{size[1]}"
        f"</width><height>{size[0]}</height><depth>3</depth></size>{objects}</annotation>"
    )


def voc(root: Path, n: int = 3) -> None:
    """VOC's two folders, every picture with a cat, the second with a dog as well."""
    for i in range(n):
        picture(root / "JPEGImages" / f"{i:03d}.png", seed=i)
        boxes = [("cat", 1, 2, 10, 20)] + [("dog", 5, 5, 30, 6)] * (i == 1)
        voc_xml(root / "Annotations" / f"{i:03d}.xml", boxes)


def coco(root: Path, annotations: list[dict], *, name: str = "annotations/instances.json") -> Path:
    """COCO's JSON about two pictures, whose categories have the numbers 3 and 17."""
    for i in (1, 2):
        picture(root / "photos" / f"{i}.png", seed=i)
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i * 10, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)]
    categories = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}]
    numbered = [{"id": i, "iscrowd": 0, **one} for i, one in enumerate(annotations)]
    content = {"images": images, "annotations": numbered, "categories": categories}
    file.write_text(json.dumps(content))
    return file
