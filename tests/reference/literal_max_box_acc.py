"""MaxBoxAccV2 literally: a thousand thresholds, OpenCV's contours at each, every box's IoU.

Written from the definition (Choe et al., "Evaluating Weakly Supervised Object Localization Methods
Right", 2020, and its authors' description of version 2): what the fast metric is held to.
"""

import cv2
import numpy as np

THRESHOLDS = np.arange(0, 1, 0.001)


def normalized(saliency: np.ndarray) -> np.ndarray:
    if np.isnan(saliency).any() or saliency.min() == saliency.max():
        return np.zeros_like(saliency)
    saliency = saliency - saliency.min()
    return saliency / saliency.max()


def boxes_at(image: np.ndarray, threshold: float, largest_only: bool) -> np.ndarray:
    height, width = image.shape
    _, mask = cv2.threshold(image, int(threshold * np.max(image)), 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.array([[0, 0, 0, 0]])
    if largest_only:
        contours = [max(contours, key=cv2.contourArea)]
    boxes = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        boxes.append([x, y, min(x + w, width - 1), min(y + h, height - 1)])
    return np.array(boxes)


def ious(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    a, b = boxes[:, None], truths[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + 1
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + 1
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(c[..., 2] - c[..., 0] + 1) * (c[..., 3] - c[..., 1] + 1) for c in (a, b)]
    return overlap / (areas[0] + areas[1] - overlap)


def best_ious(
    saliency: np.ndarray, truths: np.ndarray, *, largest_only: bool = False
) -> np.ndarray:
    """The best IoU of any predicted box with any true one, at every threshold."""
    image = (normalized(saliency.astype(np.float64)) * 255).astype(np.uint8)
    return np.array(
        [ious(boxes_at(image, threshold, largest_only), truths).max() for threshold in THRESHOLDS]
    )
