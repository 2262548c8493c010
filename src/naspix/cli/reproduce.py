"""``naspix reproduce``: the paper's tables and figures."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from naspix.cli import talk
from naspix.cli.evaluate import progress_of_run, say_failures
from naspix.cli.options import OTHER_CLASS, EngineOptions, read_classes
from naspix.errors import InputError

if TYPE_CHECKING:
    from naspix.paper.experiment import Progress


_ENGINE = EngineOptions()


def reproduce(
    name: Annotated[
        str,
        Parameter(help="Such as figure1 or table5, or all for the whole paper."),
    ],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(alias="-o", help="Folder; each has its own below. Given again, it goes on."),
    ] = Path("reproduced"),
    data: Annotated[
        Path | None,
        Parameter(help="Folder with STL-10, CUB or both, as published.", show_default=False),
    ] = None,
    images: Annotated[
        Path | None,
        Parameter(
            help="Folder of pictures, or of a folder a class, to take instead.", show_default=False
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        Parameter(
            help="Folder of pictures with boxes in Pascal VOC's XML, to take instead of CUB.",
            show_default=False,
        ),
    ] = None,
    model_weights: Annotated[
        tuple[str, ...],
        Parameter(
            help="NAME=PATH: weights of vgg16, resnet18, resnet50 or vit_b_16, a file or a folder "
            "of naspix finetune; NAME=skip leaves it out. May be given several times, for one "
            "network too: those count that know the pictures' classes.",
            negative=(),
            show_default=False,
        ),
    ] = (),
    class_: Annotated[tuple[str, ...], OTHER_CLASS] = (),
    cluster: Annotated[
        int | None,
        Parameter(
            help="Of a class, from 1: the one that figure 4 uncovers and table 1 follows. By "
            "default the first by the audit.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, Parameter(help="Only so many pictures; may grow.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, Parameter(help="Little of everything: an impression in minutes.", negative=())
    ] = False,
    device: Annotated[str, Parameter(help='"auto" is a GPU where there is one; or cpu, cuda.')] = (
        "auto"
    ),
    seed: Annotated[int, Parameter(help="Of everything random.")] = 0,
    engine: EngineOptions = _ENGINE,
) -> int:
    """Compute a table or figure of the paper, beside the paper's, or all of them.

    Writes a page, pictures (png, pdf), tables (csv) and records into the output folder. Runs on
    the paper's data if it is given, else on what is at hand, and the page says on what. The same
    command goes on where it was stopped.
    """
    from naspix.models.devices import resolve_device
    from naspix.paper import running
    from naspix.paper.data import AtHand, Conditions
    from naspix.paper.running import ALL, find_experiment

    if name != ALL:
        items = find_experiment(name).items  # a wrong name is said before anything is loaded
    conditions = Conditions(
        at_hand=AtHand(data=data, images=images, boxes=boxes),
        weights=_weights(model_weights),
        classes=read_classes(class_),
        cluster=cluster,
        limit=limit,
        quick=quick,
        device=str(resolve_device(device)),
        seed=seed,
    )
    who = engine.make()
    if name != ALL:
        with progress_of_run(name, items) as step:
            shown = running.reproduce(name, conditions, output, engine=who, progress=step)
        say_failures(shown.run.failures)
        talk.say(f"see {output / name / running.PAGE}")
        return 0
    with ExitStack() as bars:

        def began(part: str) -> "Progress":
            bars.close()
            talk.say(part)
            return bars.enter_context(progress_of_run(part, find_experiment(part).items))

        failed = running.reproduce_all(conditions, output, engine=who, began=began)
    for part, why in failed:
        talk.say(f"left out {part}: {why}")
    talk.say(f"see {output / running.WHOLE}, which can be printed")
    return 1 if failed else 0


def _weights(given: tuple[str, ...]) -> dict[str, str | tuple[str, ...]]:
    weights: dict[str, tuple[str, ...]] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not (equals and name and path):
            raise InputError(f"--model-weights is {each!r}; give NAME=PATH, such as resnet18=birds")
        weights[name] = tuple(dict.fromkeys((*weights.get(name, ()), path)))
    return {name: paths if len(paths) > 1 else paths[0] for name, paths in weights.items()}
