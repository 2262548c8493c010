"""``naspix segment``: photos in, label maps out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.inputs import Photo, answers, find_photos, read_batches
from naspix.cli.options import (
    InputOptions,
    Json,
    ModelOptions,
    NasOptions,
    Output,
    Photos,
    SegmenterName,
)

if TYPE_CHECKING:
    from naspix.segmentation import Segmentation

_MODEL, _NAS, _INPUT = ModelOptions(), NasOptions(), InputOptions()


def segment(
    paths: Photos = None,
    /,
    *,
    segmenter: Annotated[SegmenterName, Parameter(help="What cuts.")] = "nas",
    kind: Annotated[
        Literal["png", "npz", "coco"],
        Parameter(
            name="--format",
            help="png: a label map whose values are the superpixels' numbers; npz: clusters and "
            "superpixels, read by naspix.Segmentation.load; coco: JSON with a mask for each.",
        ),
    ] = "png",
    model: ModelOptions = _MODEL,
    nas: NasOptions = _NAS,
    inputs: InputOptions = _INPUT,
    output: Output = Path("naspix-segments"),
    json: Json = False,
) -> int:
    """Cut photos into superpixels and write label maps, one file a photo."""
    from naspix import registry
    from naspix.files import written

    photos = find_photos(paths)
    network = model.load()
    ask = nas.make(network) if segmenter == "nas" else registry.find_segmenter(segmenter)()
    with written(output):
        output.mkdir(parents=True, exist_ok=True)
    failed = 0

    with talk.progress(len(photos), "cutting") as step:

        def fail(photo: Photo, reason: str) -> None:
            nonlocal failed
            failed += 1
            talk.say(f"left out {photo.source}: {reason}")
            step()

        for batch in read_batches(photos, network, inputs, fail):
            for part, segmentation in answers(batch, lambda batch: ask(batch.images), fail):
                for index, photo in enumerate(part.photos):
                    path = output / f"{photo.name}.{'json' if kind == 'coco' else kind}"
                    _write(segmentation[index], path, kind, photo.name)
                    _print(photo, path, segmentation[index], json)
                    step()
    if failed:
        talk.say(f"{failed} of {len(photos)} photos were left out")
    return 1 if failed else 0


def _write(
    segmentation: "Segmentation", path: Path, kind: Literal["png", "npz", "coco"], name: str
) -> None:
    import json

    from naspix.files import write_whole, written

    if kind == "png":
        segmentation.save_png(path)
    elif kind == "npz":
        segmentation.save(path)
    else:
        with written(path), write_whole(path) as file:
            file.write(json.dumps(segmentation.to_coco(file_names=[name])).encode())


def _print(photo: Photo, path: Path, segmentation: "Segmentation", as_json: bool) -> None:
    import json

    n_clusters, n_superpixels = int(segmentation.n_clusters), int(segmentation.n_superpixels)
    counts = ((n_clusters, "cluster"), (n_superpixels, "superpixel"))
    line = f"{path}  " + ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)
    if as_json:
        entry = {
            "source": photo.source,
            "file": str(path),
            "n_clusters": n_clusters,
            "n_superpixels": n_superpixels,
        }
        line = json.dumps(entry, ensure_ascii=False)
    print(line)  # noqa: T201 - a result
