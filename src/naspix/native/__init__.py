"""Compiled loops over pixels: what loads them, checks what they are given, and says what is there.

The C++ sources beside this file do the mathematics of ``docs/explanation/algorithm.md`` on one
image and one thread each. They are optional: where they were not compiled, or the environment
variable ``NASPIX_KERNEL`` is ``off``, or a tensor is not of float32 on a CPU, the torch code does
the same. `route` alone decides.
"""

import ctypes
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_INTERFACE = 2  # of the compiled part; another one is not loaded
_LIBRARIES = ("libnaspix_native.so", "libnaspix_native.dylib", "naspix_native.dll")
_MOST_CELLS = 1 << 28  # of an array: indices are of 32 bits
_ADDRESS = ctypes.c_void_p


class _Level(ctypes.Structure):
    _fields_ = (
        ("n_channels", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("activations", _ADDRESS),
        ("scales", _ADDRESS),
        ("axes", _ADDRESS * 6),
    )


class _Clustering(ctypes.Structure):
    _fields_ = (
        ("n_images", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("n_levels", ctypes.c_int64),
        ("n_clusters", ctypes.c_int64),
        ("levels", _ADDRESS),
        ("large", ctypes.c_int64),
        ("small", ctypes.c_int64),
        ("n_init", ctypes.c_int64),
        ("n_trials", ctypes.c_int64),
        ("draws", _ADDRESS),
        ("init", _ADDRESS),
        ("tol", ctypes.c_double),
        ("tile_tol", ctypes.c_double),
        ("max_iter", ctypes.c_int64),
        ("tile_max_iter", ctypes.c_int64),
        ("long_stride", ctypes.c_double),
        ("n_threads", ctypes.c_int64),
    )


@lru_cache(maxsize=1)
def _load() -> ctypes.CDLL | str:
    """The compiled part, or a sentence that says why there is none."""
    from importlib.resources import as_file, files

    for name in _LIBRARIES:
        found = files(__name__).joinpath(name)
        if not found.is_file():
            continue
        try:
            with as_file(found) as path:
                library = ctypes.CDLL(str(Path(path)))
            interface = int(library.naspix_interface())
        except (OSError, AttributeError) as error:
            return f"{name} cannot be loaded ({error})"
        if interface != _INTERFACE:
            return f"{name} is of another version of naspix; install naspix again"
        library.naspix_axis_new.restype = _ADDRESS
        library.naspix_axis_new.argtypes = (_ADDRESS, ctypes.c_int64, ctypes.c_int64)
        library.naspix_axis_free.restype = None
        library.naspix_axis_free.argtypes = (_ADDRESS,)
        library.naspix_scales.restype = None
        library.naspix_scales.argtypes = (
            _ADDRESS, ctypes.c_int64, ctypes.c_int64, _ADDRESS, _ADDRESS,
            ctypes.c_float, ctypes.c_int32, ctypes.c_int64, _ADDRESS, _ADDRESS,
        )  # fmt: skip
        library.naspix_cluster.restype = None
        library.naspix_cluster.argtypes = (_ADDRESS, _ADDRESS, _ADDRESS)
        library.naspix_components.restype = None
        library.naspix_components.argtypes = (
            _ADDRESS, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
            ctypes.c_int32, ctypes.c_int64, _ADDRESS, _ADDRESS,
        )  # fmt: skip
        library.naspix_pool.restype = None
        library.naspix_pool.argtypes = (
            _ADDRESS, _ADDRESS, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
            ctypes.c_int32, ctypes.c_int64, _ADDRESS, _ADDRESS,
        )  # fmt: skip
        return library
    return "naspix was installed without its compiled part, as where no C++ compiler is found"


def why_not() -> str | None:
    """Why nothing goes to the compiled part, or None where it is in use.

    Example:
        >>> why_not() is None or isinstance(why_not(), str)
        True
    """
    if os.environ.get("NASPIX_KERNEL", "on").lower() in ("off", "0", "false"):
        return "the environment variable NASPIX_KERNEL is off"
    library = _load()
    return library if isinstance(library, str) else None


def describe_route() -> str:
    """What clusters on a CPU, in words.

    Example:
        >>> describe_route().startswith(("compiled", "torch"))
        True
    """
    reason = why_not()
    if reason is not None:
        return f"torch ({reason})"
    return f"compiled ({'AVX2 and FMA' if _library().naspix_has_avx2() else 'baseline'})"


def route(*tensors: Tensor) -> bool:
    """Whether these tensors go to the compiled part: of float32, contiguous, on a CPU.

    Args:
        tensors: All that a computation reads.

    Example:
        >>> route(torch.zeros(2, dtype=torch.float64))
        False
    """
    return why_not() is None and all(
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and 0 < tensor.numel() < _MOST_CELLS
        and not tensor.requires_grad
        for tensor in tensors
    )


@dataclass(frozen=True, eq=False)
class Axis:
    """Upsampling along one axis, prepared for the compiled part; it may be shared by threads.

    Attributes:
        n_pixels: Of the frame, or tiles of pixels.
        n_cells: Of the activation.
        handle: Where it lies.
    """

    n_pixels: int
    n_cells: int
    handle: int

    @classmethod
    def of(cls, matrix: Float[Tensor, "n_pixels n_cells"]) -> "Axis":
        """Prepare a matrix, each row of which has few neighbouring non-zeros."""
        matrix = matrix.to("cpu", torch.float32).contiguous()
        library = _library()
        handle = library.naspix_axis_new(matrix.data_ptr(), *matrix.shape)
        if not handle:
            raise MemoryError
        axis = cls(matrix.shape[0], matrix.shape[1], handle)
        weakref.finalize(axis, library.naspix_axis_free, handle)
        return axis


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a batch for `cluster_images`.

    Attributes:
        activations: As the network gave them.
        scales: What each upsampled vector is multiplied by.
        axes: Vertical and horizontal, to the frame, and to large and small tiles where these are.
    """

    activations: Float[Tensor, "B C h w"]
    scales: Float[Tensor, "B H W"]
    axes: Sequence[tuple[Axis, Axis]]


def compute_scales(
    activations: Float[Tensor, "B C h w"],
    axes: tuple[Axis, Axis],
    *,
    line_11: float,
    normalize: bool,
) -> tuple[Float[Tensor, "B H W"], bool]:
    """Lines 10 and 11 of Algorithm 1: what each upsampled vector is multiplied by.

    Args:
        activations: Float32, contiguous, on a CPU.
        axes: Vertical and horizontal, to the frame.
        line_11: The level's weight.
        normalize: Whether line 10 is done.

    Returns:
        The scales, and whether all norms are finite.
    """
    y, x = axes
    n_images, n_channels, *cells = activations.shape
    if tuple(cells) != (y.n_cells, x.n_cells) or y.n_pixels * x.n_pixels >= _MOST_CELLS:
        raise ValueError(f"activations of {cells} cells, axes of {y.n_cells} and {x.n_cells}")
    out = torch.empty(n_images, y.n_pixels, x.n_pixels, dtype=torch.float32, device="cpu")
    outcomes = (ctypes.c_int32 * n_images)()
    _library().naspix_scales(
        activations.data_ptr(), n_images, n_channels, y.handle, x.handle, line_11, normalize,
        torch.get_num_threads(), out.data_ptr(), outcomes,
    )  # fmt: skip
    return out, not any(_checked(outcomes))


def cluster_images(
    levels: Sequence[Level],
    n_clusters: int,
    *,
    tiles: tuple[int, int],
    draws: Float[Tensor, "K S trials"] | None,
    init: Float[Tensor, "B K D"] | None,
    tol: float,
    tile_tol: float,
    max_iter: int,
    tile_max_iter: int,
    long_stride: float,
) -> tuple[Int64[Tensor, "B H W"], list[int]]:
    """k-means of each image, as ``naspix.clustering.kmeans`` does it.

    Args:
        levels: Of one batch; every tensor float32, contiguous, on a CPU.
        n_clusters: K.
        tiles: Sides of large and small tiles in pixels; 0 where there are no small ones.
        draws: Random numbers of the starts; None where centres are given.
        init: Centres to begin with.
        tol: Share of the pixels that may change in the last step.
        tile_tol: The same on small tiles.
        max_iter: Most steps on the frame.
        tile_max_iter: Most steps on small tiles.
        long_stride: Of over-relaxed steps; 1 where there are none.

    Returns:
        Labels in canonical order, and the images that have none, for a cluster was left empty.
    """
    (n_images, height, width), n_levels = levels[0].scales.shape, len(levels)
    given = (_Level * n_levels)()
    for each, level in zip(given, levels, strict=True):
        activations, frame = level.activations, (height, width)
        _check_axes(activations, level.axes, frame, tiles)
        if level.scales.shape != (n_images, *frame) or len(activations) != n_images:
            raise ValueError(f"scales of shape {tuple(level.scales.shape)}")
        each.n_channels, each.height, each.width = activations.shape[1:]
        each.activations, each.scales = activations.data_ptr(), level.scales.data_ptr()
        handles = [axis.handle for axes in level.axes for axis in axes]
        each.axes = (_ADDRESS * 6)(*handles)
    if not 0 < n_clusters <= height * width:
        raise ValueError(f"{n_clusters} clusters of {height} x {width} pixels")
    n_dims = sum(level.activations.shape[1] for level in levels)
    if (draws is None) == (init is None) or (
        init is not None and init.shape != (n_images, n_clusters, n_dims)
    ):
        raise ValueError("give random numbers, or centres (B, K, D)")
    n_init, n_trials = (0, 0) if draws is None else draws.shape[1:]
    arguments = _Clustering(
        n_images, height, width, n_levels, n_clusters, ctypes.addressof(given), *tiles,
        n_init, n_trials, None if draws is None else draws.data_ptr(),
        None if init is None else init.data_ptr(), tol, tile_tol, max_iter, tile_max_iter,
        long_stride, torch.get_num_threads(),
    )  # fmt: skip
    labels = torch.empty(n_images, height, width, dtype=torch.int64, device="cpu")
    outcomes = (ctypes.c_int32 * n_images)()
    _library().naspix_cluster(ctypes.byref(arguments), labels.data_ptr(), outcomes)
    return labels, [image for image, outcome in enumerate(_checked(outcomes)) if outcome]


def label_components(labels: Int64[Tensor, "B H W"], *, corners: bool) -> Int64[Tensor, "B H W"]:
    """Connected components of equal labels, numbered from 0 in raster order of the first pixels.

    Args:
        labels: Contiguous, on a CPU.
        corners: Whether pixels that share a corner only are connected too.
    """
    if labels.dtype != torch.int64 or labels.device.type != "cpu" or not labels.is_contiguous():
        raise ValueError(f"labels of {labels.dtype} on {labels.device}")
    out = torch.empty_like(labels)
    outcomes = (ctypes.c_int32 * len(labels))()
    _library().naspix_components(
        labels.data_ptr(), *labels.shape, corners, torch.get_num_threads(), out.data_ptr(), outcomes
    )
    _checked(outcomes)
    return out


def pool_regions(
    maps: Float[Tensor, "B M P"], labels: Int64[Tensor, "B P"], *, mean: bool
) -> Float[Tensor, "B M P"] | None:
    """Each pixel's region's mean, or sum, of each map; sums are in double precision.

    Args:
        maps: Float32, contiguous, on a CPU.
        labels: The same place; in each image less than P apart.
        mean: Else the sum.

    Returns:
        None where labels lie farther apart.

    Raises:
        FloatingPointError: A sum is not finite.
    """
    if labels.dtype != torch.int64 or labels.device.type != "cpu" or not labels.is_contiguous():
        raise ValueError(f"labels of {labels.dtype} on {labels.device}")
    if labels.shape != (maps.shape[0], maps.shape[2]):
        raise ValueError(f"labels of {tuple(labels.shape)} for maps of {tuple(maps.shape)}")
    out = torch.empty_like(maps)
    outcomes = (ctypes.c_int32 * len(maps))()
    _library().naspix_pool(
        maps.data_ptr(), labels.data_ptr(), *maps.shape, mean, torch.get_num_threads(),
        out.data_ptr(), outcomes,
    )  # fmt: skip
    found = _checked(outcomes)
    if 3 in found:  # FAR_APART
        return None
    if any(found):
        raise FloatingPointError
    return out


def _library() -> ctypes.CDLL:
    library = _load()
    if isinstance(library, str):
        raise RuntimeError(library)
    return library


def _checked(outcomes: "ctypes.Array[ctypes.c_int32]") -> list[int]:
    found = list(outcomes)
    if 2 in found:  # NO_MEMORY
        raise MemoryError
    return found


def _check_axes(
    activations: Tensor,
    axes: Sequence[tuple[Axis, Axis]],
    frame: tuple[int, int],
    tiles: tuple[int, int],
) -> None:
    """Raise unless every axis leads from the cells to the frame or its tiles."""
    cells = tuple(activations.shape[2:])
    sides = [side for side in (1, *tiles) if side]
    wanted = [tuple(-(-n // side) for n in frame) for side in sides]
    found = [(y.n_pixels, x.n_pixels) for y, x in axes]
    if found != wanted or any((y.n_cells, x.n_cells) != cells for y, x in axes):
        raise ValueError(f"axes lead from {cells} cells to {found}, not to {wanted}")
