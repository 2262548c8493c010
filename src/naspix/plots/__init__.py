"""Pictures and figures from plain numpy arrays; matplotlib only, and never pyplot's global state.

``pictures`` computes RGB pixels (what files and the report hold), ``figures`` draws on matplotlib
axes (what notebooks show), ``colours`` says which colours both use. Nothing here knows a model.
"""

from naspix.plots.bars import draw_bars, draw_matrix
from naspix.plots.colours import Scale, cluster_colours, saliency_scale, unit_scale
from naspix.plots.curves import draw_accuracy, draw_curves
from naspix.plots.figures import (
    draw_order,
    draw_overlay,
    draw_photo,
    draw_saliency,
    draw_segmentation,
    explanation_figure,
    figure_bytes,
    segmentation_figure,
)
from naspix.plots.grid import grid_figure
from naspix.plots.pictures import (
    boundary_picture,
    cluster_picture,
    frequency_picture,
    highlight_picture,
    order_picture,
    overlay_picture,
    photo_picture,
    saliency_picture,
    with_colour_bar,
)
from naspix.plots.rates import draw_rates

__all__ = [
    "Scale",
    "boundary_picture",
    "cluster_colours",
    "cluster_picture",
    "draw_accuracy",
    "draw_bars",
    "draw_curves",
    "draw_matrix",
    "draw_order",
    "draw_overlay",
    "draw_photo",
    "draw_rates",
    "draw_saliency",
    "draw_segmentation",
    "explanation_figure",
    "figure_bytes",
    "frequency_picture",
    "grid_figure",
    "highlight_picture",
    "order_picture",
    "overlay_picture",
    "photo_picture",
    "saliency_picture",
    "saliency_scale",
    "segmentation_figure",
    "unit_scale",
    "with_colour_bar",
]
