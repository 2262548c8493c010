"""What a network's scores mean, from what it does: the one place that decides.

Three things are found the first time that a network is asked. Where its scores lie in what it
returns (`answers.py` looks); whether a softmax or sigmoid is applied to them already, which is then
taken off (the input of the last such layer is read on the way, else the logarithm is taken: never
twice a softmax); and how probabilities are made of them. Where nothing tells, that is *assumed*,
and said so.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from naspix.errors import InputError, ModelError
from naspix.models.answers import (
    FREE_STEPS,
    Logits,
    Path,
    as_rows,
    find_path,
    is_made_by,
    rows_of,
)
from naspix.models.devices import in_float64
from naspix.models.randomness import own_random_numbers
from naspix.targets import Number, one_each

Output = Literal["softmax", "sigmoid", "none"]

_HEADS = ("fc", "head", "heads", "classifier")  # what the last part of a classifier is called
N_INPUTS = 8  # on which it is decided
_Applied = Literal["", "softmax", "log_softmax", "sigmoid", "log_sigmoid"]
_LAST_LAYERS = nn.Softmax | nn.LogSoftmax | nn.Sigmoid | nn.LogSigmoid | nn.Softmax2d
_PROBLEMS: dict[str, Output] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}


@dataclass(frozen=True)
class ScoreMeaning:
    """What scores mean, and how that was found out.

    Attributes:
        output: What makes probabilities of scores: ``"softmax"``, one of many classes;
            ``"sigmoid"``, each class on its own; ``"none"``, they are numbers, not of classes.
        how: How that was found out.
        assumed: Whether nothing told, so that it may be wrong.
        one_score: Whether the network returns a single number of two directions: class 1 has it as
            its score, class 0 its negative.
    """

    output: Output
    how: str
    assumed: bool = False
    one_score: bool = False

    def __str__(self) -> str:
        return f"{self.output}, {'assumed: ' if self.assumed else ''}{self.how}"

    @property
    def are_probabilities(self) -> bool:
        """Whether `probabilities` are such, rather than numbers as they are."""
        return self.output != "none"

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes at once."""
        return self.output == "sigmoid" and not self.one_score

    def probabilities(
        self, scores: Float[Tensor, "*batch n_classes"]
    ) -> Float[Tensor, "*batch n_classes"]:
        """The classes' probabilities; the scores themselves where they are no classes'."""
        if self.output == "softmax":
            return scores.softmax(-1)
        return scores.sigmoid() if self.output == "sigmoid" else scores


@dataclass(frozen=True)
class ScoreReader:
    """Reads scores out of what a network returns.

    Attributes:
        meaning: What they mean.
        path: Where they lie in the answer; empty for a tensor.
        logits: The user's own way to pick them instead.
        applied: What has been applied to them already.
        module: The module whose input is read for them; empty for none.
        number: What is made of the answer instead, one number an image.
    """

    meaning: ScoreMeaning
    path: Path = ()
    logits: Logits | None = None
    applied: _Applied = ""
    module: str = ""
    number: Number | None = None

    def __call__(
        self, network: nn.Module, ask: Callable[[], object], *, batch: int, name: str
    ) -> Float[Tensor, "B n_classes"]:
        """Ask, and read the scores, float32 unless they are float64.

        Raises:
            ModelError: There are none, or they contradict what was found out about them.
        """
        if not self.module:
            return self.read(ask(), batch=batch, name=name)
        with _hearing(network, [self.module]) as heard:
            answer = ask()
        if not heard:
            return self.read(answer, batch=batch, name=name)
        return self._directions(as_rows(heard[-1][1], batch, name))

    def read(self, answer: object, *, batch: int, name: str) -> Float[Tensor, "B n_classes"]:
        """The scores in an answer."""
        if self.number is not None:
            return rows_of(one_each(self.number, answer, batch), None, batch=batch, name=name)
        rows = rows_of(answer, self.logits, self.path, batch=batch, name=name)
        if self.applied in ("softmax", "sigmoid"):
            if bool(((rows < -1e-3) | (rows > 1 + 1e-3)).any()):
                raise ModelError(
                    f"what {name} returns was taken for probabilities and is not within 0 and 1 "
                    "now; say what it is by output= (--scores)"
                )
            info = torch.finfo(rows.dtype)
            rows = (
                rows.clamp_min(info.tiny).log()
                if self.applied == "softmax"
                else (rows.logit(info.eps))
            )
        elif self.applied == "log_sigmoid":
            rows = rows.clamp_max(-torch.finfo(rows.dtype).eps)
            rows = rows - torch.log(-torch.expm1(rows))
        return self._directions(rows)

    def _directions(self, rows: Tensor) -> Tensor:
        return torch.cat([-rows, rows], 1) if self.meaning.one_score else rows


def check_output(output: object) -> None:
    """Refuse what is no ``Output``, and not None."""
    if output is not None and output not in get_args(Output):
        raise InputError(f"output is one of {', '.join(get_args(Output))}, not {output!r}")


def without_head(network: nn.Module) -> str:
    """Why what a network returns are features and no scores of classes; empty where it is not so.

    The networks of timm say that they have no classes; of others the head was taken away.
    """
    if getattr(network, "num_classes", None) == 0:
        return "it was built without classes (num_classes=0)"
    children = list(network.named_children())
    if children and children[-1][0] in _HEADS and isinstance(children[-1][1], nn.Identity):
        return f"its head {children[-1][0]!r} was taken away"
    return ""


def declared_output(network: nn.Module) -> Output | None:
    """What the configuration of a network of transformers says its scores are."""
    problem = getattr(getattr(network, "config", None), "problem_type", None)
    return _PROBLEMS.get(problem) if isinstance(problem, str) else None


def plain_reader(
    network: nn.Module,
    answer: object,
    *,
    output: Output | None,
    logits: Logits | None,
    batch: int,
    name: str,
) -> ScoreReader | None:
    """The reader where one answer is enough: a tensor of numbers that are no probabilities."""
    if logits is None and not isinstance(answer, Tensor):
        return None
    rows = rows_of(answer, logits, batch=batch, name=name)
    if output != "none" and _looks_applied(rows):
        return None
    declared = declared_output(network)
    meaning = _meaning(output, declared, rows.shape[1], "", name)
    headless = without_head(network) if meaning.assumed else ""
    if headless:
        meaning = ScoreMeaning("none", f"it returns features, since {headless}")
    return ScoreReader(meaning, logits=logits)


def find_reader(
    network: nn.Module,
    ask: Callable[[Tensor], object],
    inputs: Float[Tensor, "B C H W"],
    *,
    output: Output | None,
    logits: Logits | None,
    n_names: int | None,
    name: str,
) -> ScoreReader:
    """Find where a network's scores lie and what they mean, from its answers to eight inputs.

    Args:
        network: The user's module, which is not changed.
        ask: Asks it.
        inputs: Standardised photos; where there are fewer than eight, others are made up.
        output: What the user says that the scores are, if anything.
        logits: The user's own way to pick them.
        n_names: How many classes have names.
        name: The network's name in an error.

    Raises:
        ModelError: If there are no scores, several may be them, or they contradict the user.
    """
    last = [key for key, each in network.named_modules() if isinstance(each, _LAST_LAYERS)]
    with torch.inference_mode(False), torch.enable_grad(), own_random_numbers():
        several = _eight(inputs).requires_grad_()
        with _hearing(network, last) as heard:
            answer = ask(several)
        batch = len(several)
        path = () if logits is not None else find_path(answer, batch, n_names, name)
        rows = rows_of(answer, logits, path, batch=batch, name=name)
    applied = _applied(rows)
    declared = declared_output(network)
    wanted = output or declared
    if wanted == "none":
        applied = ""
    elif applied in ("softmax", "log_softmax") and wanted == "sigmoid":
        raise ModelError(
            f"{name} returns rows that sum to 1, as a softmax does, so its scores are not of a "
            "sigmoid as output= (--scores) or its configuration says"
        )
    elif applied in ("sigmoid", "log_sigmoid") and wanted == "softmax":
        applied = ""
    if applied == "sigmoid" and rows.shape[1] == 1 and bool((rows == 1).all()):
        raise ModelError(
            f"{name} returns 1 for every image, as a softmax over one number does; return the "
            "number itself"
        )
    module = ""
    if applied and heard:
        module, _, leaving = heard[-1]
        fits = leaving.shape[:1] == rows.shape[:1] and leaving[0].numel() == rows.shape[1]
        if not fits or not torch.allclose(leaving.detach().flatten(1).to(rows), rows.detach()):
            module = ""
    meaning = _meaning(output, declared, rows.shape[1], applied, name, module)
    headless = without_head(network) if meaning.assumed else ""
    if headless:
        meaning = ScoreMeaning("none", f"it returns features, since {headless}")
    return ScoreReader(meaning, path, logits, applied, module)


def probabilities_of(
    model: object, scores: Float[Tensor, "B n_classes"]
) -> Float[Tensor, "B n_classes"]:
    """Probabilities of any model's scores: a Classifier knows; of a function's, each row tells.

    One score is never softmax, and rows in [0, 1] that sum to 1 are probabilities already.
    """
    meaning = getattr(model, "scores", None)
    if isinstance(meaning, ScoreMeaning):
        return meaning.probabilities(scores)
    if scores.shape[1] == 1:
        return scores.sigmoid()
    return scores if _applied(scores, traced=False) == "softmax" else scores.softmax(1)


def _meaning(
    output: Output | None,
    declared: Output | None,
    width: int,
    applied: _Applied,
    name: str,
    module: str = "",
) -> ScoreMeaning:
    off = ""
    if applied:
        off = (
            f"; the scores are what enters {module!r}"
            if module
            else (
                "; the scores are their logarithm"
                if applied == "softmax"
                else "; the scores are the log odds"
                if applied in ("sigmoid", "log_sigmoid")
                else ""
            )
        )
    wanted = output or declared
    if wanted == "softmax" and width == 1:
        if output is not None:
            raise ModelError(
                f"{name} returns one number an image, and a softmax over one number is always 1; "
                "say output='sigmoid' or 'none' (--scores)"
            )
        wanted = None
    one_score = width == 1 and wanted != "none"
    if output is not None:
        return ScoreMeaning(output, f"as given{off}", one_score=one_score)
    if wanted is not None:
        return ScoreMeaning(wanted, f"config.problem_type says so{off}", one_score=one_score)
    if applied == "sigmoid":
        how = f"it returns numbers within 0 and 1 that do not sum to 1{off}"
        return ScoreMeaning("sigmoid", how, one_score=one_score)
    if applied == "log_sigmoid":
        how = f"it returns a sigmoid's logarithm{off}"
        return ScoreMeaning("sigmoid", how, one_score=one_score)
    if applied == "softmax":
        return ScoreMeaning("softmax", f"it returns numbers within 0 and 1 that sum to 1{off}")
    if applied == "log_softmax":
        return ScoreMeaning("softmax", f"it returns a softmax's logarithm{off}")
    if one_score:
        how = "it returns one number an image, of which class 0 has the negative"
        return ScoreMeaning("sigmoid", how, assumed=True, one_score=True)
    return ScoreMeaning("softmax", f"it returns {width} numbers an image", assumed=True)


def _eight(inputs: Tensor) -> Tensor:
    """Up to eight of the inputs, and made up ones to make them eight: flat, grainy, and between."""
    some = inputs[:N_INPUTS].detach().clone()
    n = N_INPUTS - len(some)
    if n == 0:
        return some
    generator = torch.Generator().manual_seed(0)
    shape = (n, *some.shape[1:])
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    flat = torch.randn((*shape[:2], 1, 1), generator=generator, dtype=torch.float32)
    share = torch.linspace(0, 1, n, dtype=torch.float32).view(-1, 1, 1, 1)
    return torch.cat([some, (share * noise + (1 - share) * flat).to(some)])


def _looks_applied(rows: Tensor) -> bool:
    """Whether rows may be probabilities or their logarithms, for which it takes more to tell."""
    rows = rows.detach()
    within = bool(((rows > -1e-3) & (rows < 1 + 1e-3)).all())
    return within or bool((rows < 1e-6).all())


def _applied(rows: Float[Tensor, "B n"], *, traced: bool = True) -> _Applied:
    """What has been applied to scores to make these rows."""
    values = in_float64(rows.detach())
    tolerance = _tolerance(values)
    within = bool(((values >= -1e-6) & (values <= 1 + 1e-6)).all())
    if within and values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < tolerance).all()):
        return "softmax"
    if _is_log_softmax(values):
        return "log_softmax"
    if traced and bool((values < 1e-6).all()) and is_made_by(("LogSigmoid",), rows.grad_fn):
        return "log_sigmoid"
    free = traced and is_made_by(FREE_STEPS, rows.grad_fn)
    return "sigmoid" if within and bool(values.any()) and not free else ""


def _is_log_softmax(rows: Tensor) -> bool:
    if rows.shape[1] < 2 or bool((rows > 1e-6).any()):
        return False
    return bool((in_float64(rows).logsumexp(1).abs() < _tolerance(rows)).all())


def _tolerance(rows: Tensor) -> float:
    """How far sums may be off: further where every number fits half precision."""
    values = rows.detach().float()
    halves = (values.to(dtype).float() for dtype in (torch.bfloat16, torch.float16))
    return 3e-2 if any(torch.equal(values, half) for half in halves) else 1e-3


@contextmanager
def _hearing(network: nn.Module, names: list[str]) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """What enters and leaves modules in this thread while the network runs, in order of calls."""
    heard: list[tuple[str, Tensor, Tensor]] = []
    thread = threading.get_ident()

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hear(module: nn.Module, given: tuple[Any, ...], leaving: Any) -> None:
            if threading.get_ident() == thread and given and isinstance(leaving, Tensor):
                heard.append((name, given[0], leaving))

        return hear

    handles = []
    try:
        for name in names:
            module = network.get_submodule(name)
            if not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_hook(hook(name)))
        yield heard
    finally:
        for handle in handles:
            handle.remove()
