"""The flow field: for each pixel the direction along the edges, from the smoothed structure tensor."""

from dataclasses import dataclass

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, blurred, grid, sampled


@dataclass(frozen=True, slots=True)
class Flow:
    """`tangent`: (H, W, 2) unit vectors (x, y) along the edge; their sign means nothing. `anisotropy`: (H, W), 0 where no
    direction prevails .. 1 on a straight edge."""

    tangent: Field
    anisotropy: Field


def flow_of(picture: Field, sigma: float) -> Flow:
    """The flow of a picture, (H, W) or (H, W, 3); `sigma`: how far directions are averaged, pixels.

    Source: Kyprianidis and Döllner, "Image abstraction by structure adaptive filtering", 2008: eigenvectors of the
    structure tensor, summed over the channels.
    """
    smooth = blurred(picture, 1.0)
    dx = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3), np.float32)
    dy = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    products = [dx * dx, dx * dy, dy * dy]
    if picture.ndim == 3:
        products = [product.sum(axis=2) for product in products]
    xx, xy, yy = (blurred(product, sigma) for product in products)
    half = (xx - yy) / 2
    root = np.sqrt(half * half + xy * xy)
    angle = 0.5 * np.arctan2(xy, half) + np.float32(np.pi / 2)  # the gradient's direction, turned by a right angle
    tangent = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    anisotropy = 2 * root / (xx + yy + 1e-6)
    return Flow(np.asarray(tangent, np.float32), np.asarray(anisotropy, np.float32))


def straight_flow(height: int, width: int, angle: float) -> Flow:
    """The same direction everywhere; `angle` in radians, 0 = along x, clockwise as seen."""
    tangent = np.empty((height, width, 2), np.float32)
    tangent[:] = (np.cos(angle), np.sin(angle))
    return Flow(tangent, np.ones((height, width), np.float32))


def smoothed_along(field: Field, flow: Flow, sigma: float) -> Field:
    """Gaussian smoothing along the flow, `sigma` pixels: a line integral convolution (Cabral and Leedom, 1993).

    The step grows with sigma, so that the work does not: at most seven steps to either side.
    """
    reach = 2.0 * sigma
    steps = int(np.clip(np.ceil(reach), 1, 7))
    step = reach / steps
    start_x, start_y = grid(*field.shape[:2])
    total = field.copy()
    weights = 1.0
    for sign in (1.0, -1.0):
        x, y, direction = start_x, start_y, flow.tangent * np.float32(sign * step)
        for index in range(1, steps + 1):
            x, y = x + direction[..., 0], y + direction[..., 1]
            weight = float(np.exp(-0.5 * (index * step / max(sigma, 1e-3)) ** 2))
            total += weight * sampled(field, x, y)
            weights += weight
            if index == steps:
                break
            there = sampled(flow.tangent, x, y, nearest=True)
            # A tangent has no sign: take the one that goes on.
            onward = (there * direction).sum(axis=2)
            direction = there * np.where(onward < 0, np.float32(-step), np.float32(step))[..., None]
    total /= np.float32(weights)
    return total
