"""Typed OpenCV calls on float32 pictures, (H, W) or (H, W, 3): blur, sample, resize, colour spaces."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float32]  # (H, W), (H, W, 2) or (H, W, 3)
Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB


def blurred(field: Field, sigma: float) -> Field:
    """Gaussian blur; the picture is mirrored at its borders."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REFLECT), np.float32)


def sampled(field: Field, x: Field, y: Field, *, nearest: bool = False) -> Field:
    """The field at the positions (x, y), pixels; mirrored outside."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.asarray(cv2.remap(field, x, y, how, borderMode=cv2.BORDER_REFLECT), np.float32)


def grid(height: int, width: int) -> tuple[Field, Field]:
    """The x and the y of every pixel, each (height, width)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def resized(field: Field, width: int, height: int) -> Field:
    """The field at another size: averaged where it becomes smaller, bicubic where it becomes larger."""
    smaller = width * height < field.shape[0] * field.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(field, (width, height), interpolation=how), np.float32)


def to_lab(colour: Field) -> Field:
    """RGB 0..1 → CIE Lab: lightness 0..100, a and b about -100..100."""
    return np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2LAB), np.float32)


def to_rgb(lab: Field) -> Field:
    """CIE Lab → RGB, clipped to 0..1."""
    return np.clip(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.float32), 0.0, 1.0)


def to_pixels(colour: Field) -> Pixels:
    """RGB 0..1 → uint8, rounded and clipped."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(colour, 0.0), alpha=255.0), np.uint8)


def smoothstep(field: Field, low: float, high: float) -> Field:
    """0 up to `low`, 1 from `high` on, smooth between them."""
    share = np.clip((field - low) / (high - low), 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share), np.float32)


def sharpened(colour: Field, sigma: float, amount: float) -> Field:
    """Unsharp mask."""
    return np.clip(colour + amount * (colour - blurred(colour, sigma)), 0.0, 1.0)


def stepped(lightness: Field, levels: float, sharpness: float) -> Field:
    """Lightness 0..100 in `levels` steps with soft borders (Winnemöller, Olsen and Gooch, "Real-time video
    abstraction", 2006)."""
    step = 100.0 / levels
    near = np.round(lightness / step) * step
    return np.asarray(near + step / 2 * np.tanh(sharpness * (lightness - near) / step), np.float32)
