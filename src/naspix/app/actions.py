"""The actions that a page can ask for, by name: each reads its arguments and changes a study.

In: what the house offers, a visitor, the request, the job it runs in. Out: what the page is told.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from naspix import registry
from naspix.app import comparison, group, saving
from naspix.app.jobs import Job
from naspix.app.networks import Shelf
from naspix.app.regions import MOST_CLUSTERS, Cut
from naspix.app.samples import SAMPLES, sample_image, thumbnails
from naspix.app.study import DEFAULT_METHOD, Study, made
from naspix.app.trees import Nursery
from naspix.app.uploads import Limits, decoded_base64, read_upload, shown_name
from naspix.errors import InputError, UnknownNameError

Answer = dict[str, Any]

_MOST_FOUND = 30  # classes in a search
_LONGEST_SEARCH = 80


@dataclass
class House:
    """What there is for every visitor.

    Attributes:
        shelf: The networks.
        limits: Of uploads.
        nursery: Grows Ward's trees.
        given: A photo that is there when a page opens.
    """

    shelf: Shelf
    limits: Limits
    nursery: Nursery
    given: Study | None = None


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

    def drop(self) -> None:
        """End its work and let go of its photos."""
        for job in self.jobs.values():
            job.cancel()
        self.study = self.group = None


def _hello(house: House, visitor: Visitor, request: Answer) -> Answer:
    state: Answer = {
        "networks": list(house.shelf.names),
        "samples": thumbnails(),
        "methods": [{"name": n, "title": registry.title_of(n)} for n in registry.SALIENCY],
        "segmenters": [{"name": n, "title": registry.title_of(n)} for n in comparison.MATCHED],
        "limits": {"bytes": house.limits.n_bytes, "pixels": house.limits.n_pixels},
        "most_clusters": MOST_CLUSTERS,
        "most_photos": group.MOST_PHOTOS,
        "default_method": DEFAULT_METHOD,
    }
    if visitor.study is None and house.given is not None:
        given = house.given
        copy = Study(given.model, given.network, given.images, given.name, given.cut)
        _begun(house, visitor, copy)
    if visitor.study is not None:
        state |= visitor.study.state()
    return state


def _cancel(house: House, visitor: Visitor, request: Answer) -> Answer:
    for number, job in visitor.jobs.items():
        if request.get("job") in (None, number):
            job.cancel()
    return {}


def _find_class(house: House, visitor: Visitor, request: Answer) -> Answer:
    study = _study(visitor)
    wanted = str(request.get("text", ""))[:_LONGEST_SEARCH].casefold().strip()
    names = [study.model.category(index) for index in range(len(study.logits))]
    found = [i for i, name in enumerate(names) if wanted in name.casefold() or wanted == str(i)]
    found.sort(key=lambda i: (not names[i].casefold().startswith(wanted), names[i].casefold()))
    return {"classes": [{"index": i, "name": names[i]} for i in found[:_MOST_FOUND]]}


def _photo(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or house.shelf.names[0])
    name = shown_name(request.get("name", "photo"))
    content = decoded_base64(request.get("data"), house.limits)
    model = house.shelf.load(network)
    images = read_upload(content, model, house.limits, name=name)
    return _begun(house, visitor, Study(model, network, images, name))


def _sample(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or house.shelf.names[0])
    name = str(request.get("name"))
    if name not in SAMPLES:
        raise UnknownNameError.among("sample", name, SAMPLES)
    model = house.shelf.load(network)
    images = model.load_images([sample_image(name)])
    return _begun(house, visitor, Study(model, network, images, f"{name}.png"))


def _begun(house: House, visitor: Visitor, study: Study) -> Answer:
    visitor.study = study
    house.nursery.plan(study.cutter, study.cut.levels)
    return study.state()


def _segment(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    cut = Cut.parsed(request, study.model)
    if cut.algorithm == "ward" and not study.has_tree(cut):
        job.doing = "building Ward's tree, once for these levels"
        study.cutter.prepare(cut.levels)
        job.wait_for(house.nursery.want(study.cutter, cut.levels))
        study = _study(visitor, request)
    study.segment(cut)
    if cut.algorithm != "ward":
        house.nursery.plan(study.cutter, cut.levels)
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _toggle(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.hiding.toggle(_whole(request, "number"))
    return {"scores": study.scores_state()}


def _simple(change: Callable[[Study], None]) -> "Work":
    def work(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
        study = _study(visitor, request)
        change(study)
        return {"scores": study.scores_state()}

    return work


def _target(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.explain_class(_whole(request, "index"))
    job.expect(made(study.method, study.model).passes(study.images.shape[1:])[0])
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _rank(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study, method = _study(visitor, request), str(request.get("method"))
    registry.find_method(method)
    if not study.knows_heat(method):
        passes = made(method, study.model).passes(study.images.shape[1:])
        job.expect(passes[0], registry.title_of(method))
    study.rank_by(method)
    return {"regions": study.regions_state(), "scores": study.scores_state()}


def _step(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    study.hiding.step(_whole(request, "n_steps"), job.expect)
    return {"scores": study.scores_state()}


def _compare(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    found = comparison.compare(
        study, _names(request, "methods"), _names(request, "segmenters"), job.expect
    )
    return {"comparison": found}


def _contrast(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    method = str(request.get("method", DEFAULT_METHOD))
    positive, negative = _whole(request, "positive"), _whole(request, "negative")
    found = comparison.contrast(study, positive, negative, method, job.expect)
    return {"contrast": found}


def _save(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    study = _study(visitor, request)
    file = saving.download(study, str(request.get("what")), house.shelf.line(study.network))
    return {
        "file": {
            "name": file.name,
            "kind": file.kind,
            "data": base64.b64encode(file.content).decode(),
        }
    }


def _group_add(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    network = str(request.get("network") or house.shelf.names[0])
    name = shown_name(request.get("name", "photo"))
    model = house.shelf.load(network)
    images = read_upload(
        decoded_base64(request.get("data"), house.limits), model, house.limits, name=name
    )
    if visitor.group is None or visitor.group.network != network:
        visitor.group = group.Group(network)
    visitor.group.add(name, images)
    return {
        "n_photos": len(visitor.group),
        "added": {"name": name, "picture": group.thumbnail(images)},
    }


def _group_clear(house: House, visitor: Visitor, request: Answer) -> Answer:
    visitor.group = None
    return {"n_photos": 0}


def _group_study(house: House, visitor: Visitor, request: Answer, job: Job) -> Answer:
    photos = visitor.group or group.Group(house.shelf.names[0])
    method = str(request.get("method", DEFAULT_METHOD))
    registry.find_method(method)
    found = group.described(
        photos,
        house.shelf.load(photos.network),
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


Work = Callable[[House, Visitor, Answer, Job], Answer]

AT_ONCE: Mapping[str, Callable[[House, Visitor, Answer], Answer]] = {
    "cancel": _cancel,
    "find_class": _find_class,
    "group_clear": _group_clear,
}

# action -> what does it, what it is called while it runs, whether it is long
WORK: Mapping[str, tuple[Work, str, bool]] = {
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
