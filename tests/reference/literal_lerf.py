"""LeRF and its greedy maximum literally: one image, one pixel set, one forward at a time."""

import itertools

import numpy as np
import torch


def curve(model, image, masks, target, colour):
    """Scores of one image under each mask, scaled from 1 to 0, over the hidden share."""
    scores, shares = [], []
    for mask in masks:
        changed = image.clone()
        for y, x in np.argwhere(mask):
            changed[:, y, x] = colour
        with torch.no_grad():
            scores.append(model(changed[None])[0, target].item())
        shares.append(mask.mean())
    scores = np.array(scores)
    return np.array(shares), (scores - scores[-1]) / (scores[0] - scores[-1])


def pixel_masks(heat, steps):
    """After step s the lowest ``round(s * pixels / steps)`` pixels; for maps without ties."""
    order = sorted(range(heat.size), key=lambda pixel: heat.flat[pixel])
    masks = []
    for step in range(steps + 1):
        mask = np.zeros(heat.size, bool)
        mask[order[: round(step * heat.size / steps)]] = True
        masks.append(mask.reshape(heat.shape))
    return masks


def superpixel_masks(labels, order):
    """After step s the first s superpixels of the order."""
    return [np.isin(labels, order[:step]) for step in range(len(order) + 1)]


def order_by_mean(heat, labels):
    return sorted(np.unique(labels).tolist(), key=lambda label: heat[labels == label].mean())


def area(shares, scores):
    return sum(
        (shares[i + 1] - shares[i]) * (scores[i] + scores[i + 1]) / 2
        for i in range(len(shares) - 1)
    )


def greedy_order(model, image, labels, target, colour):
    """At each step the superpixel that leaves the highest score."""
    hidden: list[int] = []
    names = np.unique(labels).tolist()
    while len(hidden) < len(names):
        scores = {}
        for name in names:
            if name not in hidden:
                changed = image.clone()
                changed[:, torch.from_numpy(np.isin(labels, [*hidden, name]))] = colour[:, None].to(
                    image
                )
                with torch.no_grad():
                    scores[name] = model(changed[None])[0, target].item()
        hidden.append(max(scores, key=scores.__getitem__))
    return hidden


def best_area(model, image, labels, target, colour):
    """The largest area of all orders, each tried."""
    return max(
        area(*curve(model, image, superpixel_masks(labels, order), target, colour))
        for order in itertools.permutations(np.unique(labels).tolist())
    )
