"""``naspix data``: what a folder holds and what of it is broken; example files; published data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from naspix import progress
from naspix.cli import talk
from naspix.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naspix.datasets.checking import Findings, Part, Remark

data = App(
    name="data",
    help="Check folders of pictures, classes and boxes; write examples; fetch published ones.",
)

_MOST = 10  # sentences shown of a kind


@data.command
def check(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Of a data set in any known format.")],
    /,
    *,
    every: Annotated[
        bool, Parameter(name="--all", negative=(), help="Show every problem, not the first ten.")
    ] = False,
    json: Json = False,
) -> int:
    """Find out what a folder holds, how much, and what of it is broken.

    Knows STL-10's binary files, CUB-200-2011 with CUBv2's lists, COCO's JSON, Pascal VOC's XML,
    folders of classes and plain pictures. Reads every picture. The exit status is 1 if something
    is broken.
    """
    import json as encoder
    from dataclasses import asdict

    from naspix.datasets import check as examine

    with progress.progress_of_items() as step:
        findings = examine(folder, lambda done, total: step("reading", done, total))
    if json:
        print(encoder.dumps(asdict(findings), ensure_ascii=False))  # noqa: T201 - a result
    else:
        print("\n".join(_lines(findings, None if every else _MOST)))  # noqa: T201 - a result
    return 1 if findings.broken else 0


@data.command
def sample(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where to; made if need be.")] = Path(),
    /,
) -> int:
    """Write a few photos, boxes and folders of classes to try things on.

    cat.jpg, cup.jpg and rocket.jpg; boxes with the same and Pascal VOC's XML; classes with folders
    of three pictures each. The photos are scikit-image's.
    """
    from naspix.datasets import write_example

    for file in write_example(folder):
        print(file)  # noqa: T201 - a result
    return 0


@data.command
def fetch(
    name: Annotated[Literal["stl10", "cub"], Parameter(name="NAME", help="What to download.")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="Folder to unpack in.")],
    keep_archive: Annotated[
        bool, Parameter(negative=(), help="Leave the downloaded archive there as well.")
    ] = False,
) -> int:
    """Download a published data set, check it and unpack it.

    stl10 is STL-10's binary files (2.5 GB), cub is CUB-200-2011 (1.1 GB), without CUBv2. After an
    interruption the same command goes on where it broke off.
    """
    from naspix.datasets import ARCHIVES
    from naspix.datasets import fetch as fetch_archive

    archive = ARCHIVES[name]
    if (output / archive.folder).exists():
        talk.say(f"{output / archive.folder} is there already; `naspix data check` looks into it")
    else:
        talk.say(f"{archive.title}, {archive.size}, from {archive.url} ({archive.terms})")
    with progress.progress_of_bytes() as step:
        folder = fetch_archive(archive, output, step=step, keep_archive=keep_archive)
    print(folder)  # noqa: T201 - a result
    return 0


def _lines(findings: "Findings", most: int | None) -> list[str]:
    from naspix.datasets.checking import TITLES

    lines = [f"{findings.root}: {TITLES[findings.kind]} (--dataset {findings.kind})"]
    width = max((len(part.name) for part in findings.parts), default=0)
    lines += [_part(part, width) for part in findings.parts]
    lines += _remarks("broken", findings.broken, most)
    lines += _remarks("to note", findings.remarks, most)
    if not findings.broken:
        lines.append("  nothing is broken")
    return lines


def _part(part: "Part", width: int) -> str:
    said = [f"{part.n_items} pictures"]
    if part.n_broken:
        said.append(f"{part.n_items - part.n_broken} of them readable")
    if part.n_classes:
        classes = "1 class" if part.n_classes == 1 else f"{part.n_classes} classes"
        said.append(f"{classes} of {part.smallest_class} or more")
    if part.n_boxes:
        said.append(f"{part.n_boxes} boxes")
    if part.n_masks:
        said.append(f"{part.n_masks} masks")
    name = f"{part.name:<{width}}  " if width else ""
    return f"  {name}" + ", ".join(said)


def _remarks(title: str, remarks: "Sequence[Remark]", most: int | None) -> list[str]:
    if not remarks:
        return []
    lines = [f"  {len(remarks)} {title}:"]
    for remark in remarks[:most]:
        about = " ".join(filter(None, (remark.part, remark.id)))
        lines.append(f"    {about}: {remark.sentence}" if about else f"    {remark.sentence}")
    left = len(remarks) - len(lines) + 1
    return [*lines, f"    and {left} more; --all shows them"] if left else lines
