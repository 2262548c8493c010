"""What a visitor takes home: the report, pictures, the segmentation, and the Python lines.

Everything is made in memory and handed over as bytes: the server writes no file of a visitor's.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from naspix import registry
from naspix.app.hiding import hide
from naspix.app.photos import png
from naspix.app.study import Study, method_of
from naspix.errors import UnknownNameError
from naspix.explain import likeliest, target_prediction
from naspix.explanation import Explanation
from naspix.plots import photo_picture, with_colour_bar
from naspix.report.gallery import gallery
from naspix.superpixelify import superpixelify


@dataclass(frozen=True)
class Download:
    """A file for the visitor.

    Attributes:
        name: How the browser should call it.
        kind: Its media type.
        content: What is in it.
    """

    name: str
    kind: str
    content: bytes


def download(study: Study, what: str, line: str) -> Download:
    """Make one of the files.

    Args:
        study: The photo.
        what: ``"report"``, ``"pictures"``, ``"segmentation"``, ``"coco"`` or ``"python"``.
        line: The Python line that loads the network.

    Raises:
        UnknownNameError: there is no such file.
    """
    coco = partial(study.segmentation.to_coco, file_names=[study.name])
    makers: Mapping[str, tuple[str, str, Callable[[], bytes | str]]] = {
        "report": ("report.html", "text/html", lambda: explanation(study).to_html()),
        "pictures": ("pictures.zip", "application/zip", lambda: _pictures(study)),
        "segmentation": ("segmentation.npz", "application/octet-stream", lambda: _npz(study)),
        "coco": ("coco.json", "application/json", lambda: json.dumps(coco())),
        "python": ("explain.py", "text/x-python", lambda: python_lines(study, line)),
    }
    if what not in makers:
        raise UnknownNameError.among("file", what, makers)
    ending, kind, make = makers[what]
    made = make()
    content = made.encode() if isinstance(made, str) else made
    return Download(f"{stem(study)}-{ending}", kind, content)


def explanation(study: Study) -> Explanation:
    """The study as what ``naspix.explain`` returns, with every map that was computed."""
    cuts = {"nas": study.segmentation, **study.others}
    raw = {
        str(method): heat
        for (method, target), heat in study.heats.items()
        if target == study.target
    }
    raw = {study.method: study.heat(study.method), **raw}
    probabilities = study.model.scores.probabilities(study.logits.double())
    target = torch.tensor([study.target])
    return Explanation(
        images=study.images,
        names=(stem(study),),
        sources=(study.name,),
        predictions=(likeliest(study.model, probabilities),),
        target=target,
        target_predictions=(target_prediction(study.model, probabilities, target[0]),),
        segmentations=cuts,
        raw=raw,
        pooled={
            (method, name): superpixelify(heat, cut.superpixels)
            for method, heat in raw.items()
            for name, cut in cuts.items()
        },
        settings={
            "model": study.model.name,
            "scores": str(study.model.scores),
            "methods": {name: repr(method_of(name, study.model)) for name in raw},
            "segmenters": {name: cut.source for name, cut in cuts.items()},
            "hidden in the explorer": f"superpixels {', '.join(map(str, hidden))}"
            if (hidden := sorted(study.hiding.hidden))
            else "nothing",
        },
    )


def python_lines(study: Study, line: str) -> str:
    """The lines that give exactly this result: superpixels, hidden ones, scores, ranking.

    Args:
        study: The photo.
        line: The Python line that loads the network.
    """
    cut = study.cut
    segmenter = (
        f"nas = naspix.NAS(model, levels={cut.levels}, n_clusters={cut.n_clusters}, "
        f"algorithm={cut.algorithm!r})"
    )
    segment = "seg = nas(images)"
    if cut.algorithm == "ward":
        segment += "  # seg.cut(7) is at once another number of clusters"
    method = registry.find_method(study.method).__name__
    hidden = sorted(study.hiding.hidden)
    category = " ".join(study.model.category(study.target).split())  # fit for the rest of a line
    imports = ["import torch", "", "import naspix"]
    if "skimage.data" in study.picture.loading:
        imports.insert(0, "import skimage.data")
    return "\n".join(
        [
            *imports,
            "",
            line,
            study.picture.loading,
            segmenter,
            segment,
            "",
            f"target = {study.target}  # {category}",
            f"heat = naspix.saliency.{method}(model)(images, target)",
            "pooled = naspix.superpixelify(heat, seg.superpixels)",
            "",
            f"hidden = torch.tensor({hidden}, dtype=torch.int64)",
            "covered = torch.isin(seg.superpixels, hidden)[:, None]",
            "shown = torch.where(covered, model.mean, images)  # the mean colour hides",
            "with torch.no_grad():",
            "    before, after = model.probabilities(images)[0], model.probabilities(shown)[0]",
            "for index in before.topk(min(5, len(before))).indices.tolist():",
            '    print(f"{model.category(index)}: {before[index]:.1%} -> {after[index]:.1%}")',
            "",
        ]
    )


def stem(study: Study) -> str:
    """The photo's name without its ending, fit for a file name."""
    base = study.name.rsplit(".", 1)[0]
    kept = "".join(c if c.isalnum() or c in " _-+" else "-" for c in base).strip(" -")
    return kept[:60] or "photo"


def _npz(study: Study) -> bytes:
    with tempfile.TemporaryDirectory(prefix="naspix-") as folder:
        path = Path(folder) / "segmentation.npz"  # never a name that a visitor sent
        study.segmentation.save(path)
        return path.read_bytes()


def _pictures(study: Study) -> bytes:
    photo = next(explanation(study).photos())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for picture in gallery(photo):
            pixels = picture.draw()
            if picture.scale is not None:
                pixels = with_colour_bar(pixels, picture.scale)
            archive.writestr(f"{picture.kind}.png", png(pixels))
        hidden = hide(
            study.model, study.images, study.segmentation.superpixels, study.hiding.hidden
        )
        values = hidden[0].permute(1, 2, 0).float().cpu().numpy()
        archive.writestr("hidden.png", png(photo_picture(values)))
    return buffer.getvalue()
