"""How much of an edge runs through each pixel: where detail is worth small strokes."""

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, blurred, to_lab


def edge_share(colour: Field, unit: float) -> Field:
    """(H, W), 0 in flat areas .. 1 on the strongest tenth of the edges; noise does not count as one."""
    lab = to_lab(blurred(colour, unit))
    dx = np.asarray(cv2.Sobel(lab, cv2.CV_32F, 1, 0, ksize=3), np.float32)
    dy = np.asarray(cv2.Sobel(lab, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    strength = blurred(np.asarray(np.sqrt((dx * dx + dy * dy).sum(axis=2)), np.float32), 1.5 * unit)
    return np.asarray(np.clip(strength / max(float(np.percentile(strength, 92)), 4.0), 0.0, 1.0), np.float32)
