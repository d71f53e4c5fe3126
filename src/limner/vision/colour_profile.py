"""What a picture's ICC profile does to its colours, by littleCMS (through Pillow). Read `usable` and `Kind`.

A broken profile counts as none, as in browsers. What a profile can cost is bounded by `icc.cleaned`.
"""

import io
from enum import Enum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from limner.vision import icc

Pixels = NDArray[np.uint8]

_ROWS = 512
_SAME = 1  # levels; what rounding makes
_NEAR_GREY, _NEAR_COLOUR = 14, 14  # levels, at most of greys, in the mean of colours like skin; Adobe RGB: 9 and 6


class Kind(Enum):
    """How far a profile of RGB is from sRGB."""

    SAME = "same"
    NEAR = "near"
    """Greys look alike and colours similar, as with Display P3 and Adobe RGB: detectors need no conversion."""
    FAR = "far"


def usable(profile: object) -> bytes | None:
    """The profile without what is not known of it; None if it is none, or too large, or littleCMS refuses it."""
    if not isinstance(profile, bytes):
        return None
    clean = icc.cleaned(profile)
    mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(icc.space_of(profile))
    return None if clean is None or mode is None or _transform(clean, mode) is None else clean


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a Pillow mode to sRGB; None if littleCMS refuses the profile."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc.for_reading(profile)))
        return ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
    except (ImageCms.PyCMSError, OSError):  # the second, where it cannot even be opened
        return None


def strip_to_srgb(strip: Image.Image, profile: bytes) -> Image.Image:
    """A picture of the mode that the usable profile is for, as sRGB."""
    transform = _transform(profile, strip.mode)
    assert transform is not None  # `usable` has tried it
    converted = ImageCms.applyTransform(strip, transform)
    assert converted is not None  # it is not done in place
    return converted


def to_srgb(pixels: Pixels, profile: bytes) -> None:
    """Change RGB, (H, W, 3), of a usable profile to sRGB in place."""
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS]
        rows[:] = np.asarray(strip_to_srgb(Image.fromarray(rows), profile))


def grey_to_srgb(pixels: Pixels, profile: bytes) -> None:
    """The same for grey in three equal channels, and a profile of grey."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table = np.asarray(strip_to_srgb(ramp, profile))
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS]
        cv2.LUT(rows, table, dst=rows)


@lru_cache(maxsize=8)
def kind_of(profile: bytes) -> Kind:
    """Of a usable profile of RGB."""
    greys = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None], 3, axis=1)
    steps = np.array([112, 144, 176], np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    grey, colour = _shift(greys, profile), _shift(colours, profile)
    if max(grey.max(), colour.max()) <= _SAME:
        return Kind.SAME
    return Kind.NEAR if grey.max() <= _NEAR_GREY and colour.mean() <= _NEAR_COLOUR else Kind.FAR


def _shift(samples: Pixels, profile: bytes) -> NDArray[np.int64]:
    """By how many levels the profile moves colours, (N, 3)."""
    moved = samples[None].copy()
    to_srgb(moved, profile)
    return np.asarray(np.abs(moved[0].astype(np.int64) - samples), np.int64)
