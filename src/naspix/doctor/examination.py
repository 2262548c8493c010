"""One forward and one backward of the network, then one of each kind that methods need."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from naspix.doctor.diagnosis import Diagnosis
from naspix.doctor.methods import try_methods
from naspix.doctor.network import diagnose_network
from naspix.errors import ModelError
from naspix.models import Classifier, check_images
from naspix.saliency import LRP

_N_IMAGES = 2


def check(model: Classifier, images: Float[Tensor, "B C H W"] | None = None) -> Diagnosis:
    """Examine a classifier on a tiny batch.

    The network is asked a handful of times: one forward and one backward that are watched module
    by module and operation by operation, then one of each kind that saliency methods need
    (scores, gradients, guided gradients, relevance, a layer's maps), with memory measured. It is
    left as it came.

    Args:
        model: From ``load_model`` or ``wrap_model``.
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
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(_N_IMAGES, model.in_channels, *model.input_size, generator=generator)
    check_images(images, model.in_channels)
    images = images[:_N_IMAGES].detach().to(model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = diagnose_network(model, images)
        methods = try_methods(model, images[:1])
        try:
            unruled = LRP(model).unruled(images[:1])
        except ModelError:  # said where the methods are listed
            unruled = ()
    return Diagnosis(network, methods, unruled)
