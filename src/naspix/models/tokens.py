"""Where a network's tokens lie, shown by changing the image: the one place that decides.

Which tokens answer to which part of the image is seen in one batch of made up images (`codes.py`),
for all modules at once, once a network. Deep outputs in which all tokens look alike, as attention's
own, have the order of the sum into which they go. What cannot be told is refused.
"""

import math
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from naspix.errors import ActivationError
from naspix.models.codes import (
    CLEARER,
    Codes,
    agreement_with,
    find_order,
    mixtures,
    signatures_of,
    stripes,
)
from naspix.models.grids import Layout, TokenHints, readings
from naspix.models.outputs import first_tensor
from naspix.models.randomness import own_random_numbers

UNTOLD = (
    "cannot be laid over the images: changing one part of an image after another does not tell "
    "where its tokens lie; choose another level"
)
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)
_WIDTH = 16  # a token's vector is compared by as many random projections
_MOST_PAIRS = 3  # of noise images, until every cell has its token
_MOST_PIXELS = 2**20  # of images that pass the network at once


class Output(NamedTuple):
    """What a module puts out, by its name and the output's shape without the batch."""

    module: str
    shape: tuple[int, ...]


Shown = dict[Output, Layout | str]  # how an output is read as a map, or why it cannot be


class Reading(NamedTuple):
    """One way to read an output: as a map of so many cells."""

    layout: Layout
    size: tuple[int, int]


class Layouts:
    """How a network's outputs are read as maps; what was shown is remembered.

    One look shows all outputs. Where all tokens were found row by row, which other sizes of images
    will not change, no further look is taken at these.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[int, int], Shown] = {}

    @classmethod
    def of(cls, network: nn.Module) -> "Layouts":
        """Those of a network, kept for as long as it lives."""
        return _layouts.setdefault(network, cls())

    def find(
        self,
        network: nn.Module,
        name: str,
        tensor: Tensor,
        images: Float[Tensor, "B C H W"],
        run: Callable[[Tensor], object],
    ) -> Layout:
        """How what a module put out is read as a map.

        Args:
            network: The module's.
            name: The module's.
            tensor: What it put out.
            images: What the network was given.
            run: Lets the network run on other images.

        Raises:
            ActivationError: It is no map, or it cannot be told which; as what is said of a level.
        """
        frame = (images.shape[2], images.shape[3])
        output = Output(name, tuple(tensor.shape[1:]))
        shown = self._shown.get(frame, {})
        if output not in shown:
            hints = TokenHints.of(network) if tensor.ndim == 3 else TokenHints()
            options = readings(tensor.shape, len(images), frame, hints)
            if not _ambiguous(network.get_submodule(name), options):
                return options[0]
            shown = self._shown[frame] = {
                **(self._alike(name, options, output) or show_layouts(network, run, images)),
                **shown,
            }
        found = shown.setdefault(output, UNTOLD)
        if isinstance(found, str):
            raise ActivationError(found)
        return found

    def _alike(self, name: str, options: Sequence[Layout], output: Output) -> Shown:
        """What was shown of a module on images of another size, if that can be carried over."""
        for shown in self._shown.values():
            if all(isinstance(one, str) or one.order is None for one in shown.values()):
                for earlier, found in shown.items():
                    if earlier.module != name:
                        continue
                    if isinstance(found, str):
                        return {output: found}
                    for one in options:
                        same = (one.grid is None) == (found.grid is None)
                        if same and (one.channels_last, one.prefix) == (
                            found.channels_last,
                            found.prefix,
                        ):
                            return {output: one}
        return {}


_layouts: weakref.WeakKeyDictionary[nn.Module, Layouts] = weakref.WeakKeyDictionary()


def _ambiguous(module: nn.Module, options: Sequence[Layout]) -> bool:
    """Whether the shape of a module's output does not tell how it is read as a map."""
    tokens = options[0].grid is not None
    return tokens or (len(options) > 1 and not isinstance(module, _CHANNELS_FIRST))


def show_layouts(
    network: nn.Module, run: Callable[[Tensor], object], like: Float[Tensor, "B C H W"]
) -> Shown:
    """How outputs that can be read in more than one way are read: each module's, looked at once.

    Args:
        network: Whose modules are looked at.
        run: Lets the network run on a batch of images.
        like: Images that it runs on, of which shape, type and device count.
    """
    hints = TokenHints.of(network)
    frame = (like.shape[2], like.shape[3])
    pending: dict[Output, list[Reading]] = {}

    def list_readings(output: Output, module: nn.Module, tensor: Tensor) -> None:
        try:
            options = readings(tensor.shape, len(tensor), frame, hints)
        except ActivationError:
            return
        if _ambiguous(module, options):
            pending.pop(output, None)  # a module's last call counts
            several = [Reading(one, one.size(tensor.shape)) for one in options]
            pending[output] = [one for one in several if math.prod(one.size) > 1]

    generator = torch.Generator().manual_seed(0)
    pair = _noise(like, generator)
    _hear(network, run, pair[:1], list_readings)
    shown: Shown = {}
    signatures: dict[Output, dict[Reading, Tensor]] = {output: {} for output in pending}
    codes: dict[Reading, Codes] = {}
    families = _families({one.layout.step for options in pending.values() for one in options})
    for n_pairs in range(1, _MOST_PAIRS + 1):
        left = {output: options for output, options in pending.items() if output not in shown}
        if not left:
            break
        for steps in families:
            wanted = {
                output: [one for one in options if one.layout.step in steps]
                for output, options in left.items()
            }
            if not any(wanted.values()):
                continue
            patterns = [stripes(side, step) for side, step in zip(frame, min(steps), strict=True)]
            codes |= {
                one: Codes.of(one.size, one.layout.step, patterns)
                for options in wanted.values()
                for one in options
            }
            heard = _sketch_all(network, run, mixtures(pair, patterns), wanted)
            for (output, one), sketches in heard.items():
                mean = signatures[output].get(one)
                new = signatures_of(sketches)
                signatures[output][one] = new if mean is None else mean + (new - mean) / n_pairs
        shown = _settle(signatures, codes)
        pair = _noise(like, generator)
    return {output: shown.get(output, UNTOLD) for output in pending}


def _noise(like: Tensor, generator: torch.Generator) -> Float[Tensor, "2 C H W"]:
    noise = torch.randn(2, *like.shape[1:], generator=generator, dtype=torch.float32)
    return noise.to(like.device, like.dtype)


def _families(steps: set[tuple[float, float]]) -> list[set[tuple[float, float]]]:
    """Sides of cells that one code serves: each twice as large as another, from the finest on."""
    families: list[set[tuple[float, float]]] = []
    for step in sorted(steps):
        for family in families:
            finest = min(family)
            ratio = step[0] / finest[0]
            if ratio == step[1] / finest[1] and math.log2(ratio).is_integer():
                family.add(step)
                break
        else:
            families.append({step})
    return families


def _sketch_all(
    network: nn.Module,
    run: Callable[[Tensor], object],
    images: Float[Tensor, "images C H W"],
    wanted: Mapping[Output, Sequence[Reading]],
) -> dict[tuple[Output, Reading], Float[Tensor, "images N few"]]:
    """What outputs are on each image, every token by a few random projections of its vector."""
    parts: dict[tuple[Output, Reading], list[Tensor]] = {}
    for batch in images.split(max(_MOST_PIXELS // math.prod(images.shape[2:]), 1)):
        last: dict[tuple[Output, Reading], Tensor] = {}

        def keep(
            output: Output,
            _: nn.Module,
            tensor: Tensor,
            last: dict[tuple[Output, Reading], Tensor] = last,
        ) -> None:
            for one in wanted.get(output, ()):
                last[output, one] = _sketch(one.layout.cells(tensor))

        _hear(network, run, batch, keep)
        for key, sketches in last.items():
            parts.setdefault(key, []).append(sketches)
    whole = {key: torch.cat(sketches) for key, sketches in parts.items()}
    return {key: sketches for key, sketches in whole.items() if len(sketches) == len(images)}


def _sketch(tokens: Tensor) -> Float[Tensor, "B N few"]:
    sketches = tokens.detach().float() @ _projection(tokens.shape[-1]).to(tokens.device)
    # what all tokens share tells of none of them where it is, and may be much
    return sketches - sketches.mean(1, keepdim=True)


@lru_cache(maxsize=64)
def _projection(width: int) -> Float[Tensor, "width few"]:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(width, _WIDTH, generator=generator, dtype=torch.float32)


def _hear(
    network: nn.Module,
    run: Callable[[Tensor], object],
    images: Tensor,
    hear: Callable[[Output, nn.Module, Tensor], None],
) -> None:
    """Let the network run, and hear what every module puts out; as far as it comes."""
    thread = threading.get_ident()

    def listen(name: str) -> Callable[[nn.Module, object, object], None]:
        def record(module: nn.Module, args: object, output: object) -> None:
            tensor = first_tensor(output)
            if threading.get_ident() != thread or tensor is None or tensor.is_quantized:
                return
            if tensor.ndim in (3, 4) and len(tensor) == len(images):
                hear(Output(name, tuple(tensor.shape[1:])), module, tensor)

        return record

    handles = [
        module.register_forward_hook(listen(name))
        for name, module in network.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with torch.no_grad(), own_random_numbers():
            run(images)
    except Exception:  # said by the pass that asked for this look
        pass
    finally:
        for handle in handles:
            handle.remove()


def _settle(
    signatures: Mapping[Output, Mapping[Reading, Float[Tensor, "N bits"]]],
    codes: Mapping[Reading, Codes],
) -> Shown:
    """What can be told of outputs that are given in the order in which the network makes them."""
    shown: Shown = {}
    known: dict[tuple[Reading, int], dict[tuple[int, ...], Tensor]] = {}
    for output, options in signatures.items():
        best: tuple[float, Layout] | None = None
        for one, signature in options.items():
            earlier = known.setdefault((one, len(signature)), {})
            signature = signature[:, codes[one].bits]
            straight = one.layout.grid is None
            order = find_order(signature, codes[one], earlier, straight=straight)
            if order is None:
                continue
            earlier.setdefault(order, signature[list(order)])
            agreement = agreement_with(signature[list(order)], codes[one])
            if best is None or agreement > best[0] + CLEARER:
                best = agreement, one.layout if straight else one.layout.ordered(order)
        if best is not None:
            shown[output] = best[1]
    # attention's own output tells little of where a token is: it is added to one that does
    outputs = list(signatures)
    for place, output in enumerate(outputs):
        if output not in shown and len(output.shape) == 2:
            sides = outputs[:place][::-1], outputs[place + 1 :]
            like = [
                [one for one in side if one in shown and one.shape[0] == output.shape[0]]
                for side in sides
            ]
            if like[1] and shown[like[1][0]] in [shown[one] for one in (like[0] or like[1])[:1]]:
                shown[output] = shown[like[1][0]]
    return shown
