"""What a page can ask for: each action is a typed request that answers itself.

A request is a pydantic model: its fields are what is sent, its name and docstring stand on the
OpenAPI page. ``answer`` runs in the queue, changes the session's study, and returns what the page
is told, in plain values. Needs the extra ``app``.
"""

import base64
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from naspix import registry
from naspix.app import comparison, saving
from naspix.app.group import MOST_PHOTOS, Group, described, thumbnail
from naspix.app.photos import (
    SAMPLES,
    Fitting,
    Picture,
    picture_of,
    read_upload,
    sample_image,
    sample_thumbnails,
    shown_name,
)
from naspix.app.queue import Answer, Job
from naspix.app.regions import MOST_CLUSTERS, Algorithm, Cut
from naspix.app.session import Backend, Pace, Session
from naspix.app.study import DEFAULT_METHOD, Study
from naspix.errors import InputError, UnknownNameError
from naspix.models import Classifier

_MOST_FOUND = 30  # classes in a search


class Action(BaseModel):
    """One request.

    Attributes:
        doing: What it is called while it runs.
        pace: How long it takes; a page has one request at a time that is not quick.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    doing: ClassVar[str] = "asking the network"
    pace: ClassVar[Pace] = "quick"

    def answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        """Do what is asked, in the queue, and say what came of it.

        Raises:
            NaspixError: why it cannot be done.
        """
        return self._answer(backend, session, job)

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        raise NotImplementedError


class OnPhoto(Action):
    """A request about the photo that the page shows; about another one it is refused.

    Attributes:
        about_cut: Whether it is about the superpixels that are shown, and refused about others.
    """

    about_cut: ClassVar[bool] = True
    photo: str | None = Field(None, max_length=64, description="token of the photo that is shown")
    cut: int | None = Field(None, description="number of the cut that is shown")

    def study(self, session: Session) -> Study:
        """The session's photo.

        Raises:
            InputError: there is none, or the page shows another, or another cut of it.
        """
        study = session.study
        if study is None:
            raise InputError("the photo is not here any more; choose it again")
        if self.photo not in (None, study.token):
            raise InputError("another photo was chosen meanwhile")
        if self.about_cut and self.cut not in (None, study.n_cuts):
            raise InputError("the photo was cut anew meanwhile; ask again")
        return study

    def answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        """Do what is asked; refuse it after all where photo or cut were changed amid the work."""
        study = self.study(session)
        self.photo, self.cut = study.token, study.n_cuts
        answer = self._answer(backend, session, job)
        self.study(session)
        return answer

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        self._change(study, job)
        return {"scores": study.scores_state()}

    def _change(self, study: Study, job: Job) -> None:
        """What is changed, where the scores are all that is told afterwards."""
        raise NotImplementedError


# --------------------------------------------------------------------- photos


class Hello(Action):
    """What there is to choose from, and the photo that this page had before it was loaded again."""

    doing: ClassVar[str] = "opening"

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        if session.study is None and (given := backend.given) is not None:
            copy = Study(given.model, given.network, given.picture, given.cut)
            _begin(backend, session, copy)
        return {
            "networks": list(backend.networks.names),
            "samples": sample_thumbnails(),
            "methods": _titled(registry.SALIENCY),
            "segmenters": _titled(comparison.MATCHED),
            "limits": {"bytes": backend.limits.n_bytes, "pixels": backend.limits.n_pixels},
            "most_clusters": MOST_CLUSTERS,
            "most_photos": MOST_PHOTOS,
            "default_method": DEFAULT_METHOD,
            **(session.study.state() if session.study else {}),
        }


class Choice(Action):
    """A photo for one of the networks. It is read and fitted while others are served."""

    doing: ClassVar[str] = "reading the photo"
    network: str | None = None
    fitting: Fitting = Field("model", description="how it is fitted into the network's size")

    def read(self, backend: Backend, job: Job) -> tuple[Classifier, str, Picture]:
        """The network, its name and the photo."""
        network = self.network or backend.networks.names[0]
        with backend.queue.aside(job):
            model = backend.networks.load(network)
            with backend.reading.take(Job(job.lane)):
                picture = self._read(backend, model)
        return model, network, picture

    def _read(self, backend: Backend, model: Classifier) -> Picture:
        raise NotImplementedError


class Sample(Choice):
    """Begin with one of the samples."""

    name: str = Field(max_length=80)

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        if self.name not in SAMPLES:
            raise UnknownNameError.among("sample", self.name, SAMPLES)
        return _begin(backend, session, Study(*self.read(backend, job)))

    def _read(self, backend: Backend, model: Classifier) -> Picture:
        return picture_of(
            sample_image(self.name),
            model,
            name=f"{self.name}.png",
            code=f"skimage.data.{self.name}()",
            fitting=self.fitting,
        )


class Upload(Choice):
    """A photo that is sent as the request's body; the fields come in the query."""

    name: str = Field("photo", max_length=1000, description="what it is called, for people")
    _content: bytes = PrivateAttr(b"")

    def attach(self, content: bytes) -> None:
        """Add the body."""
        self._content = content

    def _read(self, backend: Backend, model: Classifier) -> Picture:
        content, self._content = self._content, b""
        name = shown_name(self.name)
        return read_upload(content, model, backend.limits, name=name, fitting=self.fitting)


class Photo(Upload):
    """Begin with a photo."""

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        return _begin(backend, session, Study(*self.read(backend, job)))


# --------------------------------------------------------------------- regions and scores


class Segment(OnPhoto):
    """Cut the photo anew; nothing is hidden then."""

    about_cut: ClassVar[bool] = False
    doing: ClassVar[str] = "cutting"
    algorithm: Algorithm = "kmeans"
    n_clusters: int = Field(5, ge=2, le=MOST_CLUSTERS)
    levels: list[int] | None = Field(
        None, min_length=1, max_length=64, description="the network's, by number"
    )

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        levels = tuple(sorted(set(self.levels or study.model.default_levels)))
        study.model.level_names(levels)
        cut, cutter = Cut(self.algorithm, self.n_clusters, levels), study.cutter
        if cut.algorithm == "ward" and not cutter.has_tree(levels):
            job.doing = "building Ward's tree, once for these levels"
            cutter.prepare(levels)
            backend.queue.wait_for(backend.trees.plan(cutter, levels, wanted=True), job)
            self.study(session)
        study.segment(cut)
        if cut.algorithm != "ward":
            backend.trees.plan(cutter, levels)
        return {"regions": study.regions_state(), "scores": study.scores_state()}


class Target(OnPhoto):
    """Explain another class; what is hidden stays so."""

    about_cut: ClassVar[bool] = False
    doing: ClassVar[str] = "asking about another class"
    index: int

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        study.explain_class(self.index, job.expect)
        return {"regions": study.regions_state(), "scores": study.scores_state()}


class Rank(OnPhoto):
    """Rank superpixels by another saliency method."""

    about_cut: ClassVar[bool] = False
    doing: ClassVar[str] = "ranking superpixels"
    pace: ClassVar[Pace] = "long"
    method: str

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        study.rank_by(self.method, job.expect)
        return {"regions": study.regions_state(), "scores": study.scores_state()}


class Toggle(OnPhoto):
    """Hide a superpixel, or show it again."""

    number: int

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.toggle(self.number)


class HideAll(OnPhoto):
    """Hide every superpixel."""

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.hide_all()


class ShowAll(OnPhoto):
    """Hide none."""

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.show_all()


class Invert(OnPhoto):
    """Hide what is shown, and show what is hidden."""

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.invert()


class Undo(OnPhoto):
    """Take the last change back."""

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.undo()


class StartCurve(OnPhoto):
    """Show everything, and get ready to hide superpixels in the order of their saliency."""

    order: Literal["lerf", "morf"] = "lerf"

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.start_curve(study.saliency(), self.order)


class Step(OnPhoto):
    """Hide the next superpixels of the curve."""

    doing: ClassVar[str] = "hiding superpixels"
    n_steps: int

    def _change(self, study: Study, job: Job) -> None:
        study.hiding.step(self.n_steps, job.expect)


# --------------------------------------------------------------------- comparisons and files


class Compare(OnPhoto):
    """Saliency methods and segmenters side by side."""

    doing: ClassVar[str] = "comparing"
    pace: ClassVar[Pace] = "long"
    methods: list[str] = Field(max_length=100)
    segmenters: list[str] = Field([], max_length=100)

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        found = comparison.compare(study, self.methods, self.segmenters, job.expect)
        return {"comparison": found}


class Contrast(OnPhoto):
    """Which superpixels speak for one class rather than for another."""

    doing: ClassVar[str] = "comparing two classes"
    pace: ClassVar[Pace] = "long"
    positive: int
    negative: int
    method: str = DEFAULT_METHOD

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        return {
            "contrast": comparison.contrast(
                study, self.positive, self.negative, self.method, job.expect
            )
        }


class Alone(OnPhoto):
    """What hiding each of the larger superpixels alone does to the class that is explained."""

    doing: ClassVar[str] = "looking ahead"
    pace: ClassVar[Pace] = "ahead"

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        return {"alone": self.study(session).alone_state()}


class FindClass(OnPhoto):
    """The network's classes whose names hold a text, or whose number it is."""

    about_cut: ClassVar[bool] = False
    doing: ClassVar[str] = "looking for classes"
    text: str = Field("", max_length=80)

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study, wanted = self.study(session), self.text.casefold().strip()
        names = [study.model.category(index).casefold() for index in range(len(study.logits))]
        found = [i for i, name in enumerate(names) if wanted in name or wanted == str(i)]
        found.sort(key=lambda i: (not names[i].startswith(wanted), names[i]))
        classes = [{"index": i, "name": study.model.category(i)} for i in found[:_MOST_FOUND]]
        return {"classes": classes}


class Python(OnPhoto):
    """The Python lines that give what is shown."""

    doing: ClassVar[str] = "writing the lines"

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        return {"code": saving.python_lines(study, backend.networks.line(study.network))}


class Save(OnPhoto):
    """A file to keep, as base64: report, pictures, segmentation, coco or python."""

    doing: ClassVar[str] = "making the file"
    pace: ClassVar[Pace] = "long"
    what: str

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        study = self.study(session)
        file = saving.download(study, self.what, backend.networks.line(study.network))
        data = base64.b64encode(file.content).decode()
        return {"file": {"name": file.name, "kind": file.kind, "data": data}}


# --------------------------------------------------------------------- several photos


class GroupAdd(Upload):
    """Put a photo to the others of its class; those of another network go."""

    doing: ClassVar[str] = "reading a photo"

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        _, network, picture = self.read(backend, job)
        if session.group is None or session.group.network != network:
            session.group = Group(network)
        session.group.add(picture.name, picture.images)
        return {
            "n_photos": len(session.group),
            "added": {"name": picture.name, "picture": thumbnail(picture.images)},
        }


class GroupClear(Action):
    """Take the photos of a class away again."""

    doing: ClassVar[str] = "clearing"

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        session.group = None
        return {"n_photos": 0}


class GroupStudy(Action):
    """The clusters that the photos of a class share, and which of them are suspect."""

    doing: ClassVar[str] = "finding what they share"
    pace: ClassVar[Pace] = "long"
    n_clusters: int = 6
    method: str = DEFAULT_METHOD

    def _answer(self, backend: Backend, session: Session, job: Job) -> Answer:
        photos = session.group or Group(backend.networks.names[0])
        model = backend.networks.load(photos.network)
        found = described(
            photos, model, n_clusters=self.n_clusters, method=self.method, told=job.expect
        )
        return {"group": found}


def _begin(backend: Backend, session: Session, study: Study) -> Answer:
    session.study = study
    backend.trees.plan(study.cutter, study.cut.levels)
    return study.state()


def _titled(names: Mapping[str, object] | tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": name, "title": registry.title_of(name)} for name in names]


# name in the address -> request
ACTIONS: Mapping[str, type[Action]] = {
    "hello": Hello,
    "sample": Sample,
    "photo": Photo,
    "segment": Segment,
    "target": Target,
    "rank": Rank,
    "toggle": Toggle,
    "hide_all": HideAll,
    "show_all": ShowAll,
    "invert": Invert,
    "undo": Undo,
    "start_curve": StartCurve,
    "step": Step,
    "compare": Compare,
    "contrast": Contrast,
    "alone": Alone,
    "find_class": FindClass,
    "python": Python,
    "save": Save,
    "group_add": GroupAdd,
    "group_clear": GroupClear,
    "group_study": GroupStudy,
}
