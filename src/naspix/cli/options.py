"""Options that several commands share, and how their words become naspix's values.

The names of segmenters, methods and data sets are written out here, as ``Literal`` types, so that
help and completion know them without importing a network; a test holds them to ``naspix.registry``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from naspix.errors import InputError

if TYPE_CHECKING:
    from naspix.runs import Engine

SegmenterName = Literal[
    "nas", "slic", "felzenszwalb", "quickshift", "watershed", "normalized_cut", "grid"
]
MethodName = Literal[
    "grad_cam_plus_plus",
    "grad_cam",
    "integrated_gradients",
    "vanilla_gradient",
    "input_x_gradient",
    "smoothgrad",
    "guided_backprop",
    "lrp",
    "rise",
    "xrai",
    "swag",
    "occlusion",
    "lime",
    "kernel_shap",
    "shapley",
    "attention_rollout",
    "relax",
]
DatasetName = Literal["stl10", "cub", "voc", "folder", "coco", "photos"]
Resize = Literal["model", "crop", "squash", "pad", "none"]
ScoresName = Literal["softmax", "sigmoid", "none"]


def assignments(of: str) -> Parameter:
    """``--set``: parameters of things by name."""
    return Parameter(
        name="--set",
        help=f"NAME.PARAMETER=VALUE of {of}, such as rise.n_masks=500; may be given several times.",
        negative=(),
        show_default=False,
    )


def several(meaning: str) -> Parameter:
    """An option that may be given several times; help shows its default without Python's marks."""
    return Parameter(
        help=f"{meaning}; may be given several times.", negative=(), show_default=", ".join
    )


def read_levels(words: str) -> tuple[int | str, ...]:
    """Levels by number or module name, separated by commas."""
    names = [name.strip() for name in words.split(",") if name.strip()]
    return tuple(int(name) if name.isdecimal() else name for name in names)


OTHER_CLASS = Parameter(
    name="--class",
    help="NAME=CLASS: what the network calls a class of the data set, or its nearest, such as "
    "kangaroo=wallaby; may be given several times.",
    negative=(),
    show_default=False,
)


def read_classes(given: tuple[str, ...]) -> dict[str, str]:
    """Classes as ``OTHER_CLASS`` has them.

    Raises:
        InputError: One is no NAME=CLASS.
    """
    pairs = [each.partition("=") for each in given]
    for word, (name, _, other) in zip(given, pairs, strict=True):
        if not (name and other):
            raise InputError(f"--class is {word!r}; give NAME=CLASS, such as kangaroo=wallaby")
    return {name: other for name, _, other in pairs}


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions:
    """Which network.

    Attributes:
        model: efficientnet_lite0 needs no download; or a torchvision name, or timm/NAME.
            `naspix models` lists them. Or a function of yours that returns a network:
            FILE.py:FUNCTION, or package.module:FUNCTION.
        weights: "default", "none" for random ones, or a .pth, .pt or .safetensors file.
        device: "auto" is a GPU where there is one; or cpu, cuda, cuda:1.
        scores: What the network's scores are: "softmax" of one class of many, "sigmoid" of each
            class on its own, "none" for numbers that are no classes'. Found out if absent.
        categories: File with the classes' names: JSON, or a name a line.
    """

    model: Annotated[str, Parameter(alias="-m")] = "efficientnet_lite0"
    weights: str = "default"
    device: str = "auto"
    scores: ScoresName | None = None
    categories: Path | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """As ``ModelSettings`` keeps them: names and files mean the same in any folder."""
        from naspix.models.devices import resolve_device
        from naspix.models.own_network import absolute_name

        return {
            "model": absolute_name(self.model)
            if isinstance(self.model, str)
            else [absolute_name(name) for name in self.model],
            "weights": self.weights,
            "device": str(resolve_device(self.device)),
            "scores": self.scores,
            "categories": None if self.categories is None else str(self.categories.absolute()),
        }


@Parameter(name="*")
@dataclass(frozen=True)
class ModelsOptions(ModelOptions):
    """Which networks.

    Attributes:
        model: efficientnet_lite0 needs no download; or a torchvision name, or timm/NAME.
            `naspix models` lists them. Or a function of yours that returns a network:
            FILE.py:FUNCTION, or package.module:FUNCTION. Given several times, all of them are in
            one table.
        weights: "default", "none" for random ones, or a .pth, .pt or .safetensors file.
        device: "auto" is a GPU where there is one; or cpu, cuda, cuda:1.
        scores: What the network's scores are: "softmax" of one class of many, "sigmoid" of each
            class on its own, "none" for numbers that are no classes'. Found out if absent.
        categories: File with the classes' names: JSON, or a name a line.
    """

    model: Annotated[
        tuple[str, ...], Parameter(alias="-m", negative=(), show_default=", ".join)
    ] = (  # type: ignore[assignment]
        "efficientnet_lite0",
    )


@Parameter(name="*")
@dataclass(frozen=True)
class NasOptions:
    """How NAS cuts.

    Attributes:
        levels: NAS: depths of the network to take activations from, separated by commas: 0 is
            shallow, 4 is deep; or module names. `naspix levels MODEL` lists them. Without it the
            network's own: 2,3,4, and 3,4 for the default network.
        n_clusters: NAS: number of clusters; one cluster may fall into several superpixels.
        algorithm: NAS: how to cluster.
        seed: Of everything random.
    """

    levels: Annotated[str, Parameter(show_default=False)] = ""
    n_clusters: Annotated[int, Parameter(alias="-k")] = 5
    algorithm: Literal["kmeans", "ward"] = "kmeans"
    seed: int = 0

    @property
    def parameters(self) -> dict[str, object]:
        """As the segmenter takes them."""
        return {
            "levels": read_levels(self.levels),
            "n_clusters": self.n_clusters,
            "algorithm": self.algorithm,
            "seed": self.seed,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class InputOptions:
    """How photos are read.

    Attributes:
        resize: "model" as the network wants it; "crop" takes the middle at the network's size,
            "squash" the whole photo out of shape, "pad" with its mean colour around it, "none" the
            photo as it is.
        max_pixels: Larger photos are refused.
        exif: Turn photos upright as their EXIF says.
        batch_size: Photos that pass the network together; bounds the memory.
    """

    resize: Resize = "model"
    max_pixels: int = 100_000_000
    exif: bool = True
    batch_size: int = 8


@Parameter(name="*")
@dataclass(frozen=True)
class EngineOptions:
    """Who computes.

    Attributes:
        engine: Who computes.
        workers: Processes, or Ray's actors.
        threads: Threads of each worker; 0 shares the cores among them.
        gpus: GPUs of each of Ray's actors; may be a share of one, such as 0.25.
        ray_address: A Ray cluster to join, such as auto or ray://host:10001.
    """

    engine: Literal["local", "ray"] = "local"
    workers: int = 1
    threads: int = 0
    gpus: float = 0
    ray_address: str | None = None

    def make(self) -> "Engine":
        """The engine."""
        from naspix.models import keep_freed_memory
        from naspix.runs import make_engine

        keep_freed_memory()
        return make_engine(
            self.engine,
            workers=self.workers,
            threads=self.threads,
            gpus=self.gpus,
            address=self.ray_address,
        )


ModelName = Annotated[
    str,
    Parameter(
        name="MODEL",
        help="As `naspix models` lists them; or a function of yours, FILE.py:FUNCTION or "
        "package.module:FUNCTION.",
    ),
]
Photos = Annotated[
    list[Path] | None,
    Parameter(
        name="PATHS", help="Photos and folders of photos; without any, two of scikit-image's."
    ),
]
Output = Annotated[Path, Parameter(alias="-o", help="Folder for the results.")]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="Print results as JSON.")
]
