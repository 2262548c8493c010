"""The run over many photos: begun or gone on with, on any engine, and written as results."""

import contextlib
import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

from naspix.errors import InputError, NaspixWarning
from naspix.files import written
from naspix.folders.cutting import COCO, Segment, write_coco
from naspix.folders.settings import PhotoSettings
from naspix.folders.workers import Ask, Explain, MakeWorker, Worker, agreement_of
from naspix.images import Photo, find_photos
from naspix.models.weights import weights_digest
from naspix.report import (
    PAGE,
    RANKING,
    PhotoResult,
    ResultsFolder,
    RunRecord,
    write_pictures,
)
from naspix.runs import (
    STORE,
    Engine,
    OpenRun,
    Part,
    Row,
    Run,
    carry_out,
    differences,
    is_run,
    locked,
    open_run,
    read_run,
)

# no number depends on these, or they only say which of the numbers are asked for
_FREE = (
    *("batch_size", "device", "methods", "segmenters", "parameters", "quick", "greedy"),
    *("sets", "threshold", "file_format"),
)
Told = Callable[[Row], None]


def explain_photos(
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    *,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    engine: Engine | None = None,
    told: Told = lambda row: None,
    doing: Callable[[float, int, str], None] = lambda done, total, step: None,
) -> Run:
    """Explain photos and write pictures, a report and a record, or go on where that was stopped.

    A folder that holds a run goes on: with other methods, segmenters or parameters, more or fewer
    photos, another batch size or device, what is there is used, what lacks is computed, and what
    is asked last is shown. Only what would change a number of what is there, as another network or
    class does, or other photos, makes another run of it.

    Args:
        settings: What is asked.
        output: The folder of results. A finished run of another network, class or photos there is
            set aside.
        paths: Photos and folders of photos; without any, two of scikit-image's.
        engine: Who computes; this process by default.
        told: Told of each photo as it is done, first those of former runs: ``name``, ``class``,
            ``probability``, ``counts``.
        doing: Told how many photos are done, how many there are, and what is under way.

    Raises:
        InputError: Settings that cannot be; an unfinished run of others in the folder.
        OutputError: The folder cannot be written, or another process writes to it.
    """
    return _run("explain", Explain, settings, output, paths, engine, told, doing)


def segment_photos(
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    *,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    engine: Engine | None = None,
    told: Told = lambda row: None,
    doing: Callable[[float, int, str], None] = lambda done, total, step: None,
) -> Run:
    """Cut photos and write a file for each, or go on where that was stopped.

    Arguments and errors are those of `explain_photos`; of several segmenters the first cuts, and
    of each photo ``told`` is told ``source``, ``file``, ``n_clusters`` and ``n_superpixels``.
    """
    return _run("segment", Segment, settings, output, paths, engine, told, doing)


def _run(
    kind: str,
    work: "Callable[[PhotoSettings], Ask]",
    settings: PhotoSettings,
    output: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]] | None,
    engine: Engine | None,
    told: Told,
    doing: Callable[[float, int, str], None],
) -> Run:
    photos, output = find_photos(paths), Path(output)
    digest = hashlib.sha256(json.dumps([photo.stamp for photo in photos]).encode())
    plain: dict[str, Any] = {
        **asdict(settings),
        "photos": {"stamps_sha256": digest.hexdigest()[:16]},
    }
    if all(isinstance(one.content, Path) and not one.content.exists() for one in photos):
        # said before a network is loaded
        raise InputError(f"there is no image file {photos[0].source!r}")
    ask = work(settings)  # what is wrong with the settings is said before anything is lost
    plain["network"] = {"weights_sha256": weights_digest(ask.model.network)}

    def joined(before: Run, now: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
        return now, ["photos"] if _continues(before, photos) else []

    _make_room(output, kind, plain, photos, Worker(ask, settings, dict(enumerate(photos)), output))
    with open_run(output, kind=kind, settings=plain, free=_FREE, joined=joined) as run:
        numbered = _numbered(run, photos)
        part = _part(run, ask.asked)
        run.find_more("record", ask.record)
        run.show(list(numbered), {part: []})
        for row in run.run.rows(["told"]):
            told(json.loads(row["told"]))
        make_worker = MakeWorker(work, settings, numbered, output.absolute(), ask)
        n_done = 0

        def keep(found: Part) -> Part:
            for row in found.rows:
                _remove(output, row["gone"])
                write_pictures(output, row["pictures"])
                told(json.loads(row["told"]))
            for failure in found.failed:
                told({"source": failure.item, "error": failure.reason})
            return found

        def progress(n_more: int) -> None:
            nonlocal n_done
            n_done += n_more
            doing(n_done, len(photos), "")

        make_worker().doing = lambda share, step: doing(n_done + share, len(photos), step)
        try:
            carry_out(
                run,
                make_worker,
                n_items=1 + max(numbered),
                items=list(numbered),
                batch_size=settings.batch_size,
                engine=engine,
                parts=[part],
                progress=progress,
                keep=keep,
            )
        finally:
            if kind == "explain":
                _write_results(run.run)
            elif settings.file_format == "coco" and run.run.n_items > len(run.run.failures):
                write_coco(run.run)
        return run.run


def _continues(before: Run, photos: Sequence[Photo]) -> bool:
    """Whether a run is of some of these photos, and none of them has changed since."""
    known = before.header["found"].get("photos", {})
    stamps = [(known[one.source]["stamp"], one.stamp) for one in photos if one.source in known]
    return bool(stamps) and all(then == now for then, now in stamps)


def _numbered(run: OpenRun, photos: Sequence[Photo]) -> dict[int, Photo]:
    """The photos in their order, each by its number and under its name in this run.

    A number and a name once given stay: those of a new photo are new.
    """
    known = run.find("photos", dict)
    taken = {one["name"].casefold() for one in known.values()}
    new: dict[str, dict[str, Any]] = {}
    for photo in photos:
        if photo.source in known:
            continue
        name, n = photo.name, 1
        while name.casefold() in taken:
            n += 1
            name = f"{photo.name}-{n}"
        taken.add(name.casefold())
        number = len(known) + len(new)
        new[photo.source] = {"number": number, "name": name, "stamp": photo.stamp}
    known = run.find_more("photos", new)
    found = [(known[photo.source], photo) for photo in photos]
    return {one["number"]: replace(photo, name=one["name"]) for one, photo in found}


def _part(run: OpenRun, asked: str) -> str:
    """What a photo's records are called that show what is asked now.

    Another one each time that something else is asked than before: files of the same names are
    written anew then, also of what was asked once.
    """
    before = run.find("asked", lambda: {"digest": "", "number": 0})
    number = before["number"] + (before["digest"] != asked)
    run.find_more("asked", {"digest": asked, "number": number})
    run.find("parts", lambda: [f"{number}-{asked}"])
    return f"{number}-{asked}"


def _remove(output: Path, paths: Sequence[str]) -> None:
    """Remove files of what was asked before, and the folder that they leave empty."""
    with written(output):
        for path in map(PurePosixPath, paths):
            if path.is_absolute() or ".." in path.parts:
                continue
            (output / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if len(path.parts) > 1:
                    (output / path.parent).rmdir()


def _make_room(
    output: Path, kind: str, plain: dict[str, Any], photos: Sequence[Photo], worker: Worker
) -> None:
    """Set a finished run that does not go on aside, with its files, into a folder below.

    Raises:
        InputError: No photo can be read, for which nothing is moved.

    Warns:
        NaspixWarning: There was one.
    """
    if not is_run(output):
        return
    with locked(output):
        try:
            before = read_run(output)
        except InputError:  # damaged, or of another schema: said when it is opened
            return
        if before.kind == kind:
            free = [*_FREE, *(["photos"] if _continues(before, photos) else [])]
            different = differences(before, json.loads(json.dumps(plain)), free=free)
        else:
            different = [f"a run of {before.kind}"]
        if not different or not before.is_finished:
            return
        worker.check_readable()
        number = 1 + len(list(output.glob("former-*")))
        place = output / f"former-{number}"
        files = {
            STORE,
            "results.json",
            RANKING,
            COCO,
            *(path.name for path in output.glob("report*.html")),
        }
        for one in before.header["found"].get("photos", {}).values():
            for row in before.rows_of(one["number"], ["files"]):
                files |= {PurePosixPath(path).parts[0] for path in json.loads(row["files"])}
        with written(output):
            place.mkdir()
            for name in sorted(files, key=lambda name: name == STORE):  # the store last
                if (output / name).exists():
                    (output / name).rename(place / name)
    warnings.warn(
        f"the results of another run in {output} ({'; '.join(different)}) are in {place} now",
        NaspixWarning,
        stacklevel=4,
    )


def render_photos(folder: str | os.PathLike[str]) -> Path:
    """Write what is for all photos again, of all that is there, finished or not.

    Page, ``results.json`` and ``ranking.csv`` of explained photos, COCO's file of those that were
    cut for it.

    Returns:
        The page, or COCO's file.

    Raises:
        InputError: The folder holds no run of photos, or one that has a file for each photo alone.
    """
    run = read_run(folder)
    if run.kind == "explain":
        _write_results(run)
        return run.folder / PAGE
    if run.kind != "segment" or run.settings["file_format"] != "coco":
        raise InputError(f"{run.folder} holds a run of {run.kind}, which has no page")
    write_coco(run)
    return run.folder / COCO


def _write_results(run: Run) -> None:
    """The pages and ``results.json`` of what is there."""
    header = run.header
    record = RunRecord(
        settings=header["found"]["record"]["settings"],
        seed=header["found"]["record"]["seed"],
        versions=header["versions"],
        created=header["created"],
    )
    with ResultsFolder(run.folder, record) as results:
        for row in run.rows(["name", "entry", "section", "words", "agreement"]):
            results.append(
                PhotoResult(
                    row["name"],
                    json.loads(row["entry"]),
                    zlib.decompress(row["section"]).decode(),
                    (row["name"], row["words"]),
                    agreement_of(json.loads(row["agreement"])),
                    {},
                )
            )
        for failure in run.failures:
            results.fail(failure.item, failure.reason)
        results.stopped = not run.is_finished
