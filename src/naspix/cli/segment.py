"""``naspix segment``: photos in, label maps out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from naspix import progress
from naspix.cli import talk
from naspix.cli.options import (
    EngineOptions,
    InputOptions,
    Json,
    ModelOptions,
    NasOptions,
    Output,
    Photos,
    SegmenterName,
)

_MODEL, _NAS, _INPUT, _ENGINE = ModelOptions(), NasOptions(), InputOptions(), EngineOptions()


def segment(
    paths: Photos = None,
    /,
    *,
    segmenter: Annotated[SegmenterName, Parameter(help="What cuts.")] = "nas",
    kind: Annotated[
        Literal["png", "npz", "coco", "masks", "svg", "pdf"],
        Parameter(
            name="--format",
            help="png: a label map whose values are the superpixels' numbers; npz: clusters and "
            "superpixels, read by naspix.Segmentation.load; coco: annotations.json for all photos, "
            "a mask for each superpixel in the photo's own frame; masks: a PNG for each superpixel "
            "in that frame; svg, pdf: a figure.",
        ),
    ] = "png",
    model: ModelOptions = _MODEL,
    nas: NasOptions = _NAS,
    inputs: InputOptions = _INPUT,
    engine: EngineOptions = _ENGINE,
    output: Output = Path("naspix-segments"),
    json: Json = False,
) -> int:
    """Cut photos into superpixels and write label maps, one file a photo, or one for all.

    The same command goes on where it was stopped, and the folder takes other segmenters, formats
    and photos: what is there is used, what lacks is computed.
    """
    import json as plain

    from naspix.folders import PhotoSettings, segment_photos
    from naspix.folders.cutting import COCO

    settings = PhotoSettings(
        **model.plain,
        methods=(),
        segmenters=(segmenter,),
        parameters={"nas": nas.parameters},
        **vars(inputs),
        file_format=kind,
    )

    def told(photo: Mapping[str, Any]) -> None:
        if "error" in photo:
            talk.say(f"left out {photo['source']}: {photo['error']}")
            return
        entry = {**photo, "file": str(output / photo["file"])}
        counts = ((photo["n_clusters"], "cluster"), (photo["n_superpixels"], "superpixel"))
        words = ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)
        name = photo["source"] if kind == "coco" else entry["file"]
        line = plain.dumps(entry, ensure_ascii=False) if json else f"{name}  {words}"
        print(line)  # noqa: T201 - a result

    with progress.progress_of_photos("cutting") as doing:
        run = segment_photos(
            settings, output, paths=paths, engine=engine.make(), told=told, doing=doing
        )
    failed = len(run.failures)
    if failed:
        talk.say(f"{failed} of {run.n_items} photos were left out")
    if kind == "coco" and failed < run.n_items and not json:
        talk.say(f"see {output / COCO}")
    return 1 if failed else 0
