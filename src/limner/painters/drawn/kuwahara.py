"""The generalised anisotropic Kuwahara filter: flat areas with sharp borders that follow the forms, as painted."""

import math

import numpy as np

from limner.painters.drawn.fields import Field, blurred, grid, sampled
from limner.painters.drawn.flow import Flow

_WINDOWS = 8
_OFFSET = 0.62  # of the radius: how far each window's middle lies from the pixel
_SIGMA = 0.40  # of the radius: each window's Gaussian
_MAX_STRETCH = 1.6


def painted(colour: Field, radius: float, flow: Flow, *, sharpness: int = 3) -> Field:
    """(H, W, 1 to 3) 0..1, filtered; `radius` of the neighbourhood in pixels; `sharpness` 1 (soft) .. 4.

    Eight windows round each pixel, calm ones weigh most: weight 1 / (1 + deviation)^(2^sharpness).
    Sources: Papari, Petkov and Campisi, "Artistic edge and corner enhancing smoothing", 2007 (weights); Kyprianidis,
    Kang and Döllner, "Image and video abstraction by anisotropic Kuwahara filtering", 2009 (windows in an ellipse along
    the flow). Their windows are sectors, which need eight large convolutions. Here they are equal discs round eight
    points of the ellipse: one separable convolution, sampled at eight places.
    """
    height, width, channels = colour.shape
    local = np.empty((height, width, channels + 1), np.float32)
    local[..., :channels] = blurred(colour, _SIGMA * radius).reshape(colour.shape)
    squares = blurred(np.asarray(np.einsum("hwc,hwc->hw", colour, colour), np.float32), _SIGMA * radius)
    squares -= np.einsum("hwc,hwc->hw", local[..., :channels], local[..., :channels])
    local[..., channels] = np.sqrt(np.maximum(squares, 0.0))
    x, y = grid(height, width)
    stretch = np.float32(1.0) + np.float32(_MAX_STRETCH - 1.0) * flow.anisotropy
    longer, shorter = np.float32(_OFFSET * radius) * stretch, np.float32(_OFFSET * radius) / stretch
    along_x, along_y = flow.x * longer, flow.y * longer
    across_x, across_y = -flow.y * shorter, flow.x * shorter
    total = np.zeros((height, width, channels), np.float32)
    weights = np.zeros((height, width), np.float32)
    for window in range(_WINDOWS):
        angle = 2 * math.pi * (window + 0.5) / _WINDOWS
        cos, sin = math.cos(angle), math.sin(angle)
        at_x, at_y = x + cos * along_x + sin * across_x, y + cos * along_y + sin * across_y
        there = sampled(local, np.asarray(at_x, np.float32), np.asarray(at_y, np.float32))
        weight = 1.0 + 200.0 * there[..., channels]
        for _ in range(sharpness):
            weight *= weight
        weight = 1.0 / weight
        total += there[..., :channels] * weight[..., None]
        weights += weight
    total /= weights[..., None]
    return total
