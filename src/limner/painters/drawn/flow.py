"""The flow field: for each pixel the direction along the edges, from the smoothed structure tensor."""

from dataclasses import dataclass

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, blurred, grid, sampled


@dataclass(frozen=True, slots=True)
class Flow:
    """`x`, `y`: (H, W), unit vectors along the edge; their sign means nothing. `anisotropy`: (H, W), 0 where no
    direction prevails .. 1 on a straight edge."""

    x: Field
    y: Field
    anisotropy: Field

    def part(self, rows: slice, columns: slice) -> "Flow":
        """The flow in some rows and columns."""
        return Flow(self.x[rows, columns], self.y[rows, columns], self.anisotropy[rows, columns])


def flow_of(picture: Field, sigma: float) -> Flow:
    """The flow of a picture, (H, W) or (H, W, 3); `sigma`: how far directions are averaged, pixels.

    Source: Kyprianidis and Döllner, "Image abstraction by structure adaptive filtering", 2008: eigenvectors of the
    structure tensor, summed over the channels.
    """
    smooth = blurred(picture, 1.0)
    dx = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3), np.float32)
    dy = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    if picture.ndim == 3:
        products = [np.einsum("hwc,hwc->hw", one, other) for one, other in ((dx, dx), (dx, dy), (dy, dy))]
    else:
        products = [dx * dx, dx * dy, dy * dy]
    xx, xy, yy = (blurred(np.asarray(product, np.float32), sigma) for product in products)
    half = (xx - yy) / 2
    root = np.sqrt(half * half + xy * xy)
    # The eigenvector across the edge, (half + root, xy) or (xy, root - half): the one without cancellation.
    far = np.abs(half) + root + np.float32(1e-12)
    across_x, across_y = np.where(half >= 0, far, xy), np.where(half >= 0, xy, far)
    length = np.sqrt(across_x * across_x + across_y * across_y)
    anisotropy = 2 * root / (xx + yy + np.float32(1e-6))
    return Flow(-across_y / length, across_x / length, np.clip(anisotropy, 0.0, 1.0))


def smoothed_along(field: Field, flow: Flow, sigma: float) -> Field:
    """Gaussian smoothing along the flow, `sigma` pixels: a line integral convolution (Cabral and Leedom, 1993).

    The step grows with sigma, so that the work does not: at most seven steps to either side.
    """
    reach = 2.0 * sigma
    steps = int(np.clip(np.ceil(reach), 1, 7))
    step = np.float32(reach / steps)
    start_x, start_y = grid(*field.shape[:2])
    total = field.copy()
    weights = 1.0
    for sign in (1.0, -1.0):
        x, y = start_x, start_y
        dx, dy = flow.x * (np.float32(sign) * step), flow.y * (np.float32(sign) * step)
        for index in range(1, steps + 1):
            x, y = x + dx, y + dy
            weight = float(np.exp(-0.5 * (index * reach / steps / max(sigma, 1e-3)) ** 2))
            there = sampled(field, x, y)
            there *= np.float32(weight)
            total += there
            weights += weight
            if index == steps:
                break
            # A tangent has no sign: take the one that goes on.
            to_x, to_y = sampled(flow.x, x, y, nearest=True), sampled(flow.y, x, y, nearest=True)
            onward = np.copysign(step, to_x * dx + to_y * dy)
            dx, dy = to_x * onward, to_y * onward
    total /= np.float32(weights)
    return total
