"""Photos cut into files: label maps, masks, figures, and one file of COCO's for all photos.

A segmenter cuts the image that the network sees. Masks and COCO's annotations are brought into the
photo's own frame, as other tools want them; what the network does not see of it is in none.
"""

import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from naspix import plots
from naspix.errors import InputError
from naspix.files import write_whole, written
from naspix.folders.known import Known, content_of
from naspix.folders.settings import PhotoSettings
from naspix.folders.workers import digest_of, made_by
from naspix.images import Photo
from naspix.runs import Kind, Row, Run
from naspix.segmentation import NAS, Segmentation
from naspix.segmentation.files import annotations_of

COCO = "annotations.json"


class Segment:
    """Cuts photos, and makes a file of each, or what a file of all has of it."""

    def __init__(self, settings: PhotoSettings) -> None:
        self._settings = settings
        self.model = settings.load()
        self._segmenter = next(iter(settings.make_segmenters(self.model).values()))
        self._clustered = isinstance(self._segmenter, NAS)
        self.columns: Mapping[str, Kind] = {
            "index": "int",
            "name": "text",
            "told": "text",
            "files": "text",
            "coco": "bytes",
            "known": "bytes",
        }

    @property
    def n_steps(self) -> int:
        """How many things are asked of a photo."""
        return 1

    @property
    def record(self) -> dict[str, Any]:
        """What cut them, and whether it knows clusters."""
        return {"segmenter": repr(self._segmenter), "clustered": self._clustered}

    @property
    def asked(self) -> str:
        """A digest of the segmenter and the format."""
        return digest_of(made_by(self.model, self._segmenter), self._settings.file_format)

    def __call__(
        self,
        photos: Sequence[Photo],
        images: Tensor,
        known: Sequence[Sequence[Known]],
        told: Callable[[str], None],
    ) -> list[Row]:
        """Rows of a batch; photos whose segmentation is not known of all are cut."""
        maker = made_by(self.model, self._segmenter)
        entries = [of_photo[0] if of_photo else Known() for of_photo in known]
        if all(maker in one.segmentations for one in entries):
            several = [one.segmentations[maker] for one in entries]
        else:
            found: Segmentation = self._segmenter(images)
            several = [found[place] for place in range(len(photos))]
        rows: list[Row] = []
        for place, photo in enumerate(photos):
            one = several[place]
            files = self._files_of(one, photo, images[place : place + 1])
            place_of = {"coco": COCO, "masks": photo.name}
            line = {
                "source": photo.source,
                "file": place_of.get(self._settings.file_format) or next(iter(files)),
                "n_clusters": int(one.n_clusters),
                "n_superpixels": int(one.n_superpixels),
            }
            kept = Known(segmentations={**entries[place].segmentations, maker: one})
            row: dict[str, Any] = {
                "name": photo.name,
                "told": json.dumps(line),
                "pictures": files,
                "known": kept.packed(),
            }
            if self._settings.file_format == "coco":
                content = json.dumps(self._coco_of(one, photo), ensure_ascii=False)
                row["coco"] = zlib.compress(content.encode(), 1)
            rows.append(row)
        return rows

    def _files_of(self, one: Segmentation, photo: Photo, image: Tensor) -> dict[str, bytes]:
        """Path -> content of the files of one photo."""
        kind = self._settings.file_format
        if kind == "coco":
            return {}
        if kind == "masks":
            labels = self._in_photo(one.superpixels[0].cpu().numpy(), photo)
            return {
                f"{photo.name}/superpixel-{label:03d}.png": _png(labels == label)
                for label in range(int(one.n_superpixels))
            }
        if kind in ("svg", "pdf"):
            return {f"{photo.name}.{kind}": plots.figure_bytes(one.plot(image), kind)}
        return {f"{photo.name}.{kind}": content_of(one.save_png if kind == "png" else one.save)}

    def _coco_of(self, one: Segmentation, photo: Photo) -> dict[str, Any]:
        """One photo's entry among the images, and its annotations, without ids."""
        height, width = photo.size(exif=self._settings.exif)
        superpixels = self._in_photo(one.superpixels[0].cpu().numpy(), photo)
        clusters = self._in_photo(one.clusters[0].cpu().numpy(), photo)
        clusters = clusters if self._clustered else np.minimum(clusters, 0)
        return {
            "image": {"file_name": photo.source, "height": height, "width": width},
            "annotations": annotations_of(clusters, superpixels),
        }

    def _in_photo(self, labels: Int64[np.ndarray, "h w"], photo: Photo) -> np.ndarray:
        """Labels in the photo's frame, -1 where the network does not look."""
        size = photo.size(exif=self._settings.exif)
        resize = self._settings.resize
        fitted = self.model.fitting(size, None if resize == "none" else resize)
        if fitted is None:
            raise InputError(
                f"{self.model.name} prepares photos itself and does not say where their pixels go; "
                "give --resize squash, crop or pad"
            )
        return fitted.in_photo(labels, size)


def write_coco(run: Run) -> None:
    """Write one file of COCO's for all photos of a run, from its records.

    Images are numbered from 1 in the order of the photos and called as these were named,
    annotations from 1 through all of them. An annotation's category is its cluster, counted from 1;
    of a segmenter that knows none there is one category.

    Raises:
        OutputError: It cannot be written.
    """
    path = run.folder / COCO
    n_clusters, n_annotations, record = 0, 0, run.header["found"]["record"]
    with written(run.folder), write_whole(path) as file:
        info = {"description": "superpixels", "contributor": f"naspix: {record['segmenter']}"}
        file.write(f'{{"info": {json.dumps(info, ensure_ascii=False)},\n"images": ['.encode())
        for number, row in enumerate(run.rows(["coco"])):
            image = {"id": number + 1, **json.loads(zlib.decompress(row["coco"]))["image"]}
            file.write(f"{',' * (number > 0)}\n{json.dumps(image, ensure_ascii=False)}".encode())
        file.write(b'],\n"annotations": [')
        for number, row in enumerate(run.rows(["coco"])):
            for one in json.loads(zlib.decompress(row["coco"]))["annotations"]:
                n_annotations += 1
                n_clusters = max(n_clusters, one["category_id"])
                entry = json.dumps({"id": n_annotations, "image_id": number + 1, **one})
                file.write(f"{',' * (n_annotations > 1)}\n{entry}".encode())
        names = (
            [f"cluster {k}" for k in range(n_clusters)] if record["clustered"] else ["superpixel"]
        )
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
        file.write(f'],\n"categories": {json.dumps(categories)}}}\n'.encode())


def _png(mask: Bool[np.ndarray, "H W"]) -> bytes:
    """A mask as PNG: 255 inside, 0 outside."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(content, "png")
    return content.getvalue()
