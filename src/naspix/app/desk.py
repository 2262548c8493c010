"""Who visits, what they ask, what they are answered: the explorer without its page.

A request is a JSON object with a visitor's key, an action and its arguments; so is the answer:
``{"ok": true, ...}``, or ``{"ok": false, "sentence": ...}``. Work that takes longer is answered by
a job to follow. Visitors are bounded in number, each keeps one photo, the silent are forgotten.
"""

import base64
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any

from naspix import registry
from naspix.app import comparison, group, saving
from naspix.app.jobs import Job, LeftError, Workshop
from naspix.app.networks import Shelf
from naspix.app.regions import MOST_CLUSTERS, Cut
from naspix.app.samples import SAMPLES, sample_image, thumbnails
from naspix.app.study import DEFAULT_METHOD, Study, made
from naspix.app.uploads import Limits, decoded_base64, read_upload, shown_name
from naspix.errors import InputError, NaspixError, UnknownNameError

Answer = dict[str, Any]

_KEY = re.compile(r"[A-Za-z0-9-]{16,64}")
_MOST_FOUND = 30  # classes in a search
_LONGEST_SEARCH = 80


class Visitor:
    """One page that is open somewhere.

    Attributes:
        study: Its photo.
        group: Photos of one class that it has put together.
        jobs: Its work under way, by number.
        heard: When it last asked, by ``time.monotonic``.
    """

    def __init__(self) -> None:
        self.study: Study | None = None
        self.group: group.Group | None = None
        self.jobs: dict[str, Job] = {}
        self.heard = time.monotonic()
        self.n_jobs = 0


class Desk:
    """Answers requests.

    Args:
        shelf: The networks.
        limits: Of uploads.
        most_visitors: Beyond this the one that was silent for longest is forgotten.
        forget_after: Seconds of silence after which a visitor is forgotten.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        limits: Limits | None = None,
        most_visitors: int = 64,
        forget_after: float = 3600.0,
    ) -> None:
        self.shelf = shelf
        self.limits = limits or Limits()
        self.workshop = Workshop()
        self._most_visitors, self._forget_after = most_visitors, forget_after
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()
        self.given: Study | None = None  # a photo that is there when a page opens

    def ask(self, request: object) -> "Answer | Job":
        """Answer at once, or line up a job.

        Args:
            request: ``{"key": ..., "action": ..., **arguments}``.
        """
        try:
            if not isinstance(request, dict):
                raise InputError("a request is a JSON object")
            key, action = request.get("key"), str(request.get("action"))
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InputError("a request carries the page's key")
            visitor = self._visitor(key)
            if action in _AT_ONCE:
                return {"ok": True, **_AT_ONCE[action](self, visitor, request)}
            if action == "follow":
                return self._followed(visitor, request)
            return self._lined_up(key, visitor, action, request)
        except Exception as error:
            return refusal(error)

    def wait(self, job: Job, timeout: float | None = None) -> Answer:
        """The job's answer, or where it stands after so many seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            job.heard = time.monotonic()
            try:
                return {"ok": True, **job.result.result(max(0.0, min(1.0, end - job.heard)))}
            except TimeoutError:
                if job.heard >= end:
                    return standing(job)
            except (Exception, CancelledError) as error:
                return refusal(error)

    @property
    def n_visitors(self) -> int:
        """How many are remembered."""
        return len(self._visitors)

    def close(self) -> None:
        """Stop all work and leave the networks as they came."""
        self.workshop.close()
        self.shelf.close()

    # ----------------------------------------------------------------- visitors

    def _visitor(self, key: str) -> Visitor:
        now = time.monotonic()
        with self._lock:
            visitor = self._visitors.setdefault(key, Visitor())
            visitor.heard = now
            self._visitors.move_to_end(key)
            gone = [
                other
                for i, (other, one) in enumerate(self._visitors.items())
                if one.heard < now - self._forget_after
                or i < len(self._visitors) - self._most_visitors
            ]
            forgotten = [self._visitors.pop(other) for other in gone]
        for one in forgotten:
            _drop(one)
        return visitor

    def forget(self, key: str) -> None:
        """Drop what is remembered of a visitor, and end its work."""
        with self._lock:
            visitor = self._visitors.pop(key, None)
        if visitor is not None:
            _drop(visitor)

    # ----------------------------------------------------------------- work

    def _lined_up(self, key: str, visitor: Visitor, action: str, request: Answer) -> Job:
        if action not in _WORK:
            raise UnknownNameError.among("action", action, [*_WORK, *_AT_ONCE, "follow"])
        work, doing, long = _WORK[action]
        if long:
            for job in visitor.jobs.values():
                if job.ticket.lane.endswith("long"):
                    job.cancel()
        visitor.jobs = {n: job for n, job in visitor.jobs.items() if not job.result.done()}
        lane = f"{key} {'long' if long else 'quick'}"
        job = self.workshop.submit(lane, doing, lambda job: work(self, visitor, request, job))
        visitor.n_jobs += 1
        job.number = str(visitor.n_jobs)
        visitor.jobs[job.number] = job
        return job

    def _followed(self, visitor: Visitor, request: Answer) -> "Answer | Job":
        job = visitor.jobs.get(str(request.get("job")))
        if job is None:
            raise InputError("this work is over or was cancelled; ask again")
        job.heard = time.monotonic()
        return job


def standing(job: Job) -> Answer:
    """Where a job stands."""
    return {
        "ok": True,
        "job": job.number,
        "note": job.note,
        "share": job.share,
        "seconds": round(job.seconds, 1),
    }


def refusal(error: BaseException) -> Answer:
    """An error as an answer: naspix's own sentences, and no innards of anything else."""
    if isinstance(error, LeftError | CancelledError):
        return {"ok": False, "cancelled": True, "sentence": "cancelled"}
    if isinstance(error, NaspixError):
        return {"ok": False, "sentence": str(error)}
    return {
        "ok": False,
        "sentence": f"this should not have happened ({type(error).__name__}); try another photo",
    }


# ------------------------------------------------------------------- actions


def _hello(desk: Desk, visitor: Visitor, request: Answer) -> Answer:
    state: Answer = {
        "networks": list(desk.shelf.names),
        "samples": thumbnails(),
        "methods": [{"name": n, "title": registry.TITLES[n]} for n in registry.SALIENCY],
        "segmenters": [{"name": n, "title": registry.TITLES[n]} for n in comparison.MATCHED],
        "limits": {"bytes": desk.limits.n_bytes, "pixels": desk.limits.n_pixels},
        "most_clusters": MOST_CLUSTERS,
        "most_photos": group.MOST_PHOTOS,
        "default_method": DEFAULT_METHOD,
    }
    if visitor.study is None and desk.given is not None:
        given = desk.given
        visitor.study = Study(given.model, given.network, given.images, given.name, given.cut)
    if visitor.study is not None:
        state |= visitor.study.state()
    return state


def _cancel(desk: Desk, visitor: Visitor, request: Answer) -> Answer:
    for number, job in visitor.jobs.items():
        if request.get("job") in (None, number):
            job.cancel()
    return {}


def _leave(desk: Desk, visitor: Visitor, request: Answer) -> Answer:
    desk.forget(str(request["key"]))
    return {}


def _find_class(desk: Desk, visitor: Visitor, request: Answer) -> Answer:
    study = _study(visitor)
    wanted = str(request.get("text", ""))[:_LONGEST_SEARCH].casefold().strip()
    names = [study.model.category(index) for index in range(len(study.logits))]
    found = [i for i, name in enumerate(names) if wanted in name.casefold() or wanted == str(i)]
    found.sort(key=lambda i: (not names[i].casefold().startswith(wanted), names[i].casefold()))
    return {"classes": [{"index": i, "name": names[i]} for i in found[:_MOST_FOUND]]}


def _photo(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or desk.shelf.names[0])
    name = shown_name(request.get("name", "photo"))
    content = decoded_base64(request.get("data"), desk.limits)
    model = desk.shelf.load(network)
    images = read_upload(content, model, desk.limits, name=name)
    return _begun(visitor, Study(model, network, images, name))


def _sample(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or desk.shelf.names[0])
    name = str(request.get("name"))
    if name not in SAMPLES:
        raise UnknownNameError.among("sample", name, SAMPLES)
    model = desk.shelf.load(network)
    images = model.load_images([sample_image(name)])
    return _begun(visitor, Study(model, network, images, f"{name}.png"))


def _begun(visitor: Visitor, study: Study) -> Answer:
    visitor.study = study
    return study.state()


def _segment(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    cut = Cut.parsed(request, study.model)
    if cut.algorithm == "ward" and not study.has_tree(cut):
        job.doing = "building Ward's tree, once for these levels"
    study.segment(cut)
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _toggle(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.hiding.toggle(_whole(request, "number"))
    return {"scores": study.scores_state()}


def _simple(change: Callable[[Study], None]) -> "Work":
    def work(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
        study = _study(visitor, request)
        change(study)
        return {"scores": study.scores_state()}

    return work


def _target(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.explain_class(_whole(request, "index"))
    job.expect(comparison.expected_images(made(study.method, study.model)))
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _rank(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study, method = _study(visitor, request), str(request.get("method"))
    registry.find_method(method)
    if not study.knows_heat(method):
        asked = made(method, study.model)
        job.expect(comparison.expected_images(asked), registry.TITLES[method])
    study.rank_by(method)
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _step(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.hiding.step(_whole(request, "n_steps"), job.expect)
    return {"scores": study.scores_state()}


def _compare(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    found = comparison.compare(
        study, _names(request, "methods"), _names(request, "segmenters"), job.expect
    )
    return {"comparison": found}


def _contrast(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    method = str(request.get("method", DEFAULT_METHOD))
    positive, negative = _whole(request, "positive"), _whole(request, "negative")
    found = comparison.contrast(study, positive, negative, method, job.expect)
    return {"contrast": found}


def _save(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    file = saving.download(study, str(request.get("what")), desk.shelf.line(study.network))
    return {
        "file": {
            "name": file.name,
            "kind": file.kind,
            "data": base64.b64encode(file.content).decode(),
        }
    }


def _group_add(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or desk.shelf.names[0])
    name = shown_name(request.get("name", "photo"))
    model = desk.shelf.load(network)
    images = read_upload(
        decoded_base64(request.get("data"), desk.limits), model, desk.limits, name=name
    )
    if visitor.group is None or visitor.group.network != network:
        visitor.group = group.Group(network)
    visitor.group.add(name, images)
    return {
        "n_photos": len(visitor.group),
        "added": {"name": name, "picture": group.thumbnail(images)},
    }


def _group_clear(desk: Desk, visitor: Visitor, request: Answer) -> Answer:
    visitor.group = None
    return {"n_photos": 0}


def _group_study(desk: Desk, visitor: Visitor, request: Answer, job: Job) -> Answer:
    photos = visitor.group or group.Group(desk.shelf.names[0])
    method = str(request.get("method", DEFAULT_METHOD))
    registry.find_method(method)
    found = group.described(
        photos,
        desk.shelf.load(photos.network),
        n_clusters=_whole(request, "n_clusters"),
        method=method,
        told=job.expect,
    )
    return {"group": found}


def _study(visitor: Visitor, request: Answer | None = None) -> Study:
    study = visitor.study
    if study is None:
        raise InputError("the photo is not here any more; choose it again")
    token = (request or {}).get("token", study.token)
    if token != study.token:
        raise InputError("another photo was chosen meanwhile")
    return study


def _whole(request: Answer, name: str) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} is a whole number")
    return value


def _names(request: Answer, name: str) -> list[str]:
    value = request.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f"{name} is a list of names")
    return value


def _drop(visitor: Visitor) -> None:
    for job in visitor.jobs.values():
        job.cancel()
    visitor.study = visitor.group = None


Work = Callable[[Desk, Visitor, Answer, Job], Answer]

_AT_ONCE: Mapping[str, Callable[[Desk, Visitor, Answer], Answer]] = {
    "cancel": _cancel,
    "leave": _leave,
    "find_class": _find_class,
    "group_clear": _group_clear,
}

# action -> what does it, what it is called while it runs, whether it is long
_WORK: Mapping[str, tuple[Work, str, bool]] = {
    "hello": (lambda d, v, r, job: _hello(d, v, r), "opening", False),
    "photo": (_photo, "reading the photo", False),
    "sample": (_sample, "reading the photo", False),
    "segment": (_segment, "cutting", False),
    "toggle": (_toggle, "asking the network", False),
    "hide_all": (_simple(lambda study: study.hiding.hide_all()), "asking the network", False),
    "show_all": (_simple(lambda study: study.hiding.show_all()), "asking the network", False),
    "invert": (_simple(lambda study: study.hiding.invert()), "asking the network", False),
    "undo": (_simple(lambda study: study.hiding.undo()), "asking the network", False),
    "start_lerf": (_simple(lambda study: study.start_curve("lerf")), "asking the network", False),
    "start_morf": (_simple(lambda study: study.start_curve("morf")), "asking the network", False),
    "step": (_step, "hiding superpixels", False),
    "target": (_target, "asking about another class", False),
    "rank": (_rank, "ranking superpixels", True),
    "compare": (_compare, "comparing", True),
    "contrast": (_contrast, "comparing two classes", True),
    "save": (_save, "making the file", True),
    "group_add": (_group_add, "reading a photo", False),
    "group_study": (_group_study, "finding what they share", True),
}
