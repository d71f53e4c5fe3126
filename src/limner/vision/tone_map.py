"""Pictures brighter than a screen's white (PQ and HLG, ITU-R BT.2100) as sRGB, as Chromium shows them on such a screen.

The curve is the reference-white operator of SMPTE ST 2094-50, annex C, on the brightest channel in BT.2020.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from limner.vision import icc
from limner.vision.code_points import BT709, BT2020, HLG, PRIMARIES
from limner.vision.structure.reading import CodePoints

Floats = NDArray[np.float64]

WHITE_NITS = 203.0
_PEAK_NITS = 1000.0  # where a picture does not tell its brightest
_HIGHEST_NITS = 10_000.0
_STEPS = 49  # of each channel in the table: an interpolation is then wrong by less than one level in the mean
_ROWS = 512
_KAPPA = 0.65


def to_srgb(pixels: NDArray[np.uint8], points: CodePoints) -> None:
    """Change (H, W, 3) uint8 with the code points of PQ or HLG to sRGB in place."""
    table = _table(points)
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS]
        rows[:] = np.asarray(Image.fromarray(rows).filter(table))


@lru_cache(maxsize=4)
def _table(points: CodePoints) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0, 1, _STEPS)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red changes fastest
    signal = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    return ImageFilter.Color3DLUT(_STEPS, shown(signal, points).ravel().astype(np.float32))


def shown(signal: Floats, points: CodePoints) -> Floats:
    """Values (N, 3), 0..1, of such a picture as sRGB, 0..1."""
    to_2020 = np.linalg.inv(_xyz(BT2020)) @ _xyz(points.primaries)
    if points.transfer == HLG:
        light = _from_hlg(signal) @ to_2020.T
        luminance = light @ np.array([0.2627, 0.678, 0.0593])
        light = light * np.maximum(luminance, 1e-9)[:, None] ** 0.2 * (_PEAK_NITS / WHITE_NITS)  # BT.2100, table 5
        peak = _PEAK_NITS
    else:
        light = _from_pq(signal) / WHITE_NITS @ to_2020.T
        peak = min(points.peak_nits or _PEAK_NITS, _HIGHEST_NITS)
    light = light * _gain(light.max(axis=1), peak / WHITE_NITS)[:, None]
    linear = np.clip(light @ (np.linalg.inv(_xyz(BT709)) @ _xyz(BT2020)).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _xyz(primaries: int) -> icc.Matrix:
    found = icc.to_xyz(PRIMARIES[primaries])
    assert found is not None  # of a table
    return found


def _gain(light: Floats, brightest: float) -> Floats:
    """What the channels are multiplied by, from the largest of them; 1 is the screen's white."""
    share = min(np.log2(max(brightest, 1.0)) / np.log2(_PEAK_NITS / WHITE_NITS), 1.0)
    knee = 1 - 0.5 * share  # of white itself
    if share == 0:
        return 1 / np.maximum(light, 1.0)
    middle = (1 - _KAPPA + _KAPPA / knee, (1 - _KAPPA) * knee + _KAPPA)
    # A quadratic Bézier curve from (1, knee) to (brightest, 1): solved for its parameter.
    curve_x, slope_x = 1 - 2 * middle[0] + brightest, 2 * middle[0] - 2
    curve_y, slope_y = knee - 2 * middle[1] + 1, 2 * middle[1] - 2 * knee
    beyond = np.clip(light, 1, brightest) - 1
    parameter = 2 * beyond / (slope_x + np.sqrt(slope_x**2 + 4 * curve_x * beyond))
    above = knee + parameter * (slope_y + parameter * curve_y)
    return np.asarray(np.where(light <= 1, knee, above / np.maximum(light, 1.0)), np.float64)


def _from_pq(signal: Floats) -> Floats:
    """Nits (BT.2100, table 4)."""
    power = signal ** (32 / 2523)
    linear = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return np.asarray(10_000 * linear ** (16384 / 2610), np.float64)


def _from_hlg(signal: Floats) -> Floats:
    """Light of the scene, 0..1 (BT.2100, table 5)."""
    bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, signal**2 / 3, bright)
