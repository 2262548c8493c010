"""The doctor's door, and what is found: a record, as a table for a terminal, a notebook or JSON.

One forward and one backward of the network are watched (``network.py``), then one of each kind that
methods need is tried (``methods.py``).
"""

import html
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.doctor.methods import MethodDiagnosis, try_methods
from naspix.doctor.network import LevelDiagnosis, NetworkDiagnosis, diagnose_network
from naspix.errors import ModelError, UnknownNameError
from naspix.models import Model, as_classifier, check_images
from naspix.models.randomness import own_random_numbers
from naspix.native import describe_route
from naspix.saliency import LRP

_N_IMAGES = 2  # of a batch that is enough to see what mixes images
_WIDTH = 88
_N_SHOWN = 3
_MEMORY_NOTE = (
    "Memory is that of tensors for one photo at the method's own batch_size, estimated from one "
    "pass; a smaller batch_size needs less. Passes are those of the default settings."
)


@dataclass(frozen=True)
class Finding:
    """One thing that saliency tools stumble over.

    Attributes:
        what: What was looked for.
        where: Where it was found; empty if nowhere.
        so: What it means, for naspix and for other libraries.
        harmful: Whether maps by naspix suffer too, or methods are lost.
    """

    what: str
    where: tuple[str, ...]
    so: str
    harmful: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What a network is made of, and which methods serve it.

    Its ``repr`` is a table, in a notebook too.

    Attributes:
        network: What one forward and one backward told.
        methods: Every saliency method of the registry, tried.
        unruled: Layers with an operation for which LRP has no rule.
    """

    network: NetworkDiagnosis
    methods: tuple[MethodDiagnosis, ...]
    unruled: tuple[str, ...] = ()

    def serves(self, method: str) -> bool:
        """Whether a saliency method serves the network.

        Args:
            method: Its name in the registry.

        Raises:
            UnknownNameError: There is no such method.
        """
        for one in self.methods:
            if one.method == method:
                return one.serves
        raise UnknownNameError.among("saliency method", method, [m.method for m in self.methods])

    def findings(self) -> tuple[Finding, ...]:
        """Return all that was looked for, found or not."""
        network = self.network
        frozen = (f"{network.n_frozen:,} parameters",) if network.n_frozen else ()
        half = (network.dtype,) if network.dtype in ("float16", "bfloat16") else ()
        twice = tuple(f"{name} ({count} times)" for name, count in network.reused.items())
        return (
            Finding(
                "gradients missing",
                (network.gradients,) if network.gradients else (),
                "use a method that needs scores only",
                harmful=True,
            ),
            Finding(
                "in-place operations",
                tuple(map(str, network.in_place)),
                "hooks of other libraries fail on them or read overwritten values; naspix reads "
                "before they write",
            ),
            Finding(
                "modules used twice",
                twice,
                "hooks fire each time and confuse the calls; naspix follows operations, and reads "
                "a level at its last call",
            ),
            Finding(
                "activations no hook sees",
                tuple(map(str, network.functional)),
                "libraries that hook modules leave them out, silently; naspix follows operations",
            ),
            Finding(
                "modules not called",
                network.idle,
                "hooks on them hear nothing, and none can be a level; the module that holds them "
                "may use their weights all the same",
            ),
            Finding(
                "scripted, quantised or a function",
                network.opaque,
                "nothing in it can be followed: give the Python form, in floating point",
                harmful=True,
            ),
            Finding(
                "DataParallel, compiled",
                network.wrappers,
                "hooks hear one replica, or nothing; naspix asks the module inside",
            ),
            Finding(
                "frozen parameters",
                frozen,
                "where all are frozen, others find no gradient; naspix asks for that of the pixels",
            ),
            Finding(
                "crops its images",
                (network.seen,) if network.seen else (),
                "the rest has no say in the scores: saliency is zero there, and it is one cluster; "
                "other libraries stretch the maps over all of the image",
            ),
            Finding(
                "statistics of the batch",
                network.batch_statistics,
                "answers depend on the other images of a batch: explain one image at a time",
                harmful=True,
            ),
            Finding(
                "random in eval mode",
                tuple(map(str, network.random)),
                "answers differ from call to call, and so do maps: pass training=self.training to "
                "functional dropout",
                harmful=True,
            ),
            Finding(
                "half precision",
                half,
                "gradients carry 8 bits or 11: maps are coarse, and may overflow",
                harmful=True,
            ),
            Finding(
                "no LRP rule",
                self.unruled,
                "LRP refuses; IntegratedGradients has the same reading",
                harmful=True,
            ),
        )

    def to_dict(self) -> dict[str, object]:
        """Return everything as what JSON knows."""
        return {
            "network": asdict(self.network),
            "findings": [asdict(finding) for finding in self.findings()],
            "methods": [asdict(method) for method in self.methods],
            "clustering": describe_route(),
        }

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        levels = [(str(one.level), one.module, _shape(one)) for one in self.network.levels]
        findings = [
            (finding.what, _where(finding), finding.so if finding.where else "")
            for finding in self.findings()
        ]
        methods = [
            (one.title, "yes" if one.serves else f"no: {one.why}", one.needs, *_cost(one))
            for one in self.methods
        ]
        costs = ("forwards", "backwards", "memory a photo")
        return (
            f"<p>{html.escape(self._title())}</p><p>{html.escape(self._levels_title())}</p>"
            + _table(("level", "module", "shape"), levels)
            + _table(("what tools stumble over", "where", "so"), findings)
            + _table(("method", "serves", "needs", *costs), methods)
            + f"<p>{html.escape(_MEMORY_NOTE)} {html.escape(_clustering())}</p>"
        )

    def _title(self) -> str:
        network = self.network
        size = " x ".join(map(str, network.input_size))
        return (
            f"{network.name}: scores: {network.scores}; images {size}, {network.n_classes} "
            f"classes, {network.n_parameters / 1e6:.1f} M parameters, {network.dtype} on "
            f"{network.device}"
        )

    def _levels_title(self) -> str:
        member = self.network.member
        return f"Levels of {member}; levels= names others" if member else "Levels"

    def _lines(self) -> Iterator[str]:
        yield from _wrapped("", self._title())
        yield ""
        yield from _wrapped("", self._levels_title())
        names = max((len(one.module) for one in self.network.levels), default=0)
        for level in self.network.levels:
            yield from _wrapped(f"  {level.level}  {level.module:<{names}}  ", _shape(level))
        yield ""
        yield "What tools stumble over (! marks what maps by naspix suffer from too)"
        for finding in self.findings():
            mark = "!" if finding.where and finding.harmful else " "
            yield from _wrapped(f"{mark} {finding.what:<25} ", _where(finding))
            if finding.where:
                yield from _wrapped(" " * 28, finding.so)
        yield ""
        yield f"{'Methods':<24}{'serves':>6}{'forwards':>11}{'backwards':>12}{'memory a photo':>17}"
        for one in self.methods:
            forwards, backwards, memory = _cost(one)
            serves = "yes" if one.serves else "no"
            yield f"  {one.title:<22}{serves:>6}{forwards:>11}{backwards:>12}{memory:>17}"
        for why in dict.fromkeys(one.why for one in self.methods if one.why):
            who = ", ".join(one.title for one in self.methods if one.why == why)
            yield from _wrapped("  ", f"{who}: {why}")
        yield ""
        yield from _wrapped("", _MEMORY_NOTE)
        yield from _wrapped("", _clustering())


def check(
    model: Model,
    images: Float[Tensor, "B C H W"] | None = None,
) -> Diagnosis:
    """Examine a classifier on a tiny batch.

    The network is asked a handful of times: one forward and one backward that are watched module
    by module and operation by operation, then one of each kind that saliency methods need
    (scores, gradients, guided gradients, relevance, a layer's maps), with memory measured. It is
    left as it came.

    Args:
        model: From ``load_model`` or ``wrap_model``; or a name, which ``load_model`` is asked for;
            a network of timm's or a pipeline of transformers, which say how they want their images;
            or a function from images to scores.
        images: Values in [0, 1], of which the first two are used; random ones of the network's
            input size by default.

    Raises:
        InputError: Images that are none.
        ModelError: The network fails on them.

    Example:
        >>> import naspix, torch
        >>> model = naspix.load_model("efficientnet_lite0")
        >>> diagnosis = naspix.check(model, torch.rand(1, 3, 64, 64))
        >>> diagnosis.serves("lrp"), diagnosis.network.levels[4].shape
        (True, (320, 2, 2))
    """
    model = as_classifier(model, "check")
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(_N_IMAGES, model.in_channels, *model.input_size, generator=generator)
    check_images(images, model.in_channels)
    images = images[:_N_IMAGES].detach().to(model.device)
    with own_random_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = diagnose_network(model, images)
        with suppress(ModelError):  # found now, so that no method is measured with it
            _ = model.deepest_level
        methods = try_methods(model, images[:1])
        try:
            unruled = LRP(model).unruled(images[:1])
        except ModelError:  # said where the methods are listed
            unruled = ()
    return Diagnosis(network, methods, unruled)


def _clustering() -> str:
    return f"NAS clusters on a CPU by this code: {describe_route()}."


def _shape(level: LevelDiagnosis) -> str:
    if level.shape is None:
        return f"no map: {level.problem}"
    size = " x ".join(map(str, level.shape))
    if level.layout == "tokens":
        tokens = "token" if level.prefix_tokens == 1 else "tokens"
        return f"{size}, tokens after {level.prefix_tokens} class {tokens}"
    return size if level.layout == "map" else f"{size}, {level.layout}"


def _where(finding: Finding) -> str:
    if not finding.where:
        return "none"
    if len(finding.where) == 1:
        return finding.where[0]
    more = len(finding.where) - _N_SHOWN
    shown = ", ".join(finding.where[:_N_SHOWN])
    return f"{len(finding.where)}: {shown}" + (f" and {more} more" if more > 0 else "")


def _cost(method: MethodDiagnosis) -> tuple[str, str, str]:
    if not method.serves:
        return "-", "-", "-"
    return f"{method.forwards:,}", f"{method.backwards:,}", f"{method.memory / 1e6:,.0f} MB"


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
    ) or [start.rstrip()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(head, 'th')}</thead><tbody>{body}</tbody></table>"
