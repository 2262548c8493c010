"""Table 5: images a second, NAS by networks, levels, K and by Ward, SLIC and Felzenszwalb.

From the image on: forward pass, clustering and superpixels. Each row is timed beside SLIC on the
same photos by turns, so that a slow minute slows both. What NAS costs *given* the activations, and
beside Algorithm 1 as it is written, the sections of `naspix bench` measure, and are here as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from naspix.experiments import table5 as benchmark
from naspix.experiments.continuing import OpenRun
from naspix.experiments.engine import Engine, InProcess, carry_out
from naspix.experiments.paper.at_hand import Source
from naspix.experiments.paper.experiment import (
    Conditions,
    Drawing,
    Progress,
    Table,
    Value,
    Verdict,
)
from naspix.experiments.paper.networks import PAPERS, TITLES, find_networks, load_networks
from naspix.experiments.paper.published import beside_the_papers, published
from naspix.experiments.parts import Part, Span, this_machine
from naspix.experiments.photos import Photo, photos_at, stacked, usual_photos
from naspix.experiments.plan import Plan
from naspix.experiments.rivals import felzenszwalb, slic
from naspix.experiments.store import Run
from naspix.experiments.timing import interleaved, limited_threads
from naspix.models import DEFAULT_MODEL, Classifier, load_model
from naspix.plots import rate_figure
from naspix.segmentation import NAS, Felzenszwalb

if TYPE_CHECKING:
    import pyarrow as pa
