"""The run over many photos: begun or gone on with, on any engine, and written as results."""

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from naspix.errors import InputError, NaspixWarning
from naspix.files import written
from naspix.folders.cutting import COCO, Segment, write_coco
from naspix.folders.settings import PhotoSettings
from naspix.folders.workers import Ask, Explain, MakeWorker, Worker, agreement_of
from naspix.images import find_photos
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
    Part,
    Row,
    Run,
    carry_out,
    is_run,
    locked,
    open_run,
    read_run,
)

_FREE = ("batch_size", "device")  # no result depends on them
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

    Args:
        settings: What is asked.
        output: The folder of results. A finished run of other settings there is set aside.
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
    plain = {
        **asdict(settings),
        "photos": {"n": len(photos), "stamps_sha256": digest.hexdigest()[:16]},
    }
    if all(isinstance(one.content, Path) and not one.content.exists() for one in photos):
        # said before a network is loaded
        raise InputError(f"there is no image file {photos[0].source!r}")
    make_worker = MakeWorker(work, settings, photos)
    worker = make_worker.begun()  # what is wrong with the settings is said before anything is lost
    _make_room(output, kind, json.loads(json.dumps(plain)), worker)
    with open_run(output, kind=kind, settings=plain, free=_FREE) as run:
        if run.run.n_items:
            for row in run.run.rows(["told"]):
                told(json.loads(row["told"]))
        run.find("record", lambda: worker.ask.record)
        n_done = 0

        def keep(part: Part) -> Part:
            for row in part.rows:
                write_pictures(output, row["files"])
                told(json.loads(row["told"]))
            for failure in part.failed:
                told({"source": failure.item, "error": failure.reason})
            return part

        def progress(n_more: int) -> None:
            nonlocal n_done
            n_done += n_more
            doing(n_done, len(photos), "")

        worker.doing = lambda share, step: doing(n_done + share, len(photos), step)
        with written(output):
            output.mkdir(parents=True, exist_ok=True)
        finished = False
        try:
            carry_out(
                run,
                make_worker,
                n_items=len(photos),
                batch_size=settings.batch_size,
                engine=engine,
                progress=progress,
                keep=keep,
            )
            finished = True
        finally:
            if kind == "explain":
                _write_results(run.run, finished)
            elif settings.file_format == "coco" and run.run.n_items > len(run.run.failures):
                write_coco(run.run)
        run.find("finished", lambda: True)
        return run.run


def _make_room(output: Path, kind: str, plain: dict[str, Any], worker: "Worker") -> None:
    """Set a finished run of other settings aside, with its files, into a folder below.

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
        former, now = dict(before.settings), dict(plain)
        for name in _FREE:
            former.pop(name, None)
            now.pop(name, None)
        same = (before.kind, former) == (kind, now)
        if same or not before.header["found"].get("finished"):
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
        for row in before.rows(["name", "told"]) if before.kind in ("explain", "segment") else ():
            files.add(json.loads(row["told"]).get("file", row["name"]))
        with written(output):
            place.mkdir()
            for name in sorted(files, key=lambda name: name == STORE):  # the store last
                if (output / name).exists():
                    (output / name).rename(place / name)
    warnings.warn(
        f"the results of another run in {output} are in {place} now", NaspixWarning, stacklevel=4
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
        _write_results(run, bool(run.header["found"].get("finished")))
        return run.folder / PAGE
    if run.kind != "segment" or run.settings["file_format"] != "coco":
        raise InputError(f"{run.folder} holds a run of {run.kind}, which has no page")
    write_coco(run)
    return run.folder / COCO


def _write_results(run: Run, finished: bool) -> None:
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
        results.stopped = not finished
