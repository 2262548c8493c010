"""``naspix segment``: photos in, label maps out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

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
    engine: EngineOptions = _ENGINE,
    output: Output = Path("naspix-segments"),
    json: Json = False,
) -> int:
    """Cut photos into superpixels and write label maps, one file a photo.

    The same command goes on where it was stopped.
    """
    import json as plain

    from naspix.folders import PhotoSettings, segment_photos

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
        line = plain.dumps(entry, ensure_ascii=False) if json else f"{entry['file']}  {words}"
        print(line)  # noqa: T201 - a result

    with talk.progress_of_photos("cutting") as doing:
        run = segment_photos(
            settings, output, paths=paths, engine=engine.make(), told=told, doing=doing
        )
    failed = len(run.failures)
    if failed:
        talk.say(f"{failed} of {run.n_items} photos were left out")
    return 1 if failed else 0
