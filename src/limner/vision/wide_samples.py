"""Samples that Pillow does not turn into eight bits rightly: 16 and 32 bits of grey, floats, transparent colours.

Read `eight_bit`. Which values are black and white is told in docs/parameters.md, "What a picture keeps".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

Pixels = npt.NDArray[np.uint8]

_STRIP = 1 << 20  # pixels converted at a time
_FEW = 1 / 20  # of the values may lie outside of what a picture of floats from 0 to 1 has
_NEAR_1 = (-0.1, 2.0)  # sharpening and resampling go a little beyond 0 and 1, highlights farther
_NEAR_255 = (-5.0, 260.0)
_DARK = 32  # a picture of 0 to 255 without a greater value would be almost black
_FEW_BITS = {"L;2": (3, 85), "L;4": (15, 17), "L": (255, 1), "RGB": (255, 1)}
"""The greatest sample of a PNG's pixels of 2 to 8 bits, and how many times larger Pillow makes each."""
_NATIVE = {f"{name}{order}{form}": f"{name}N{form}" for name in ("I;16", "I;32", "F;32") for order in ("", "B")
           for form in ("S", "F")}  # fmt: skip


def is_wide(image: Image.Image) -> bool:
    """Whether `eight_bit` is for this image."""
    return image.mode == "F" or image.mode.startswith("I")


def set_byte_order(image: ImageFile.ImageFile) -> None:
    """Let Pillow read what libtiff decoded in this machine's byte order; it takes some for that of the file."""
    for number, tile in enumerate(image.tile):
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple):
            image.tile[number] = tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))


def eight_bit(image: Image.Image) -> tuple[Pixels, str | None]:
    """Grey of 16 or 32 bits or floats as RGB (H, W, 3), and how the values were read, if the file does not say it."""
    unsigned = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    low, high, note = (0.0, 65535.0, None) if unsigned else _range(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, rows in _strips(image):
        if unsigned:
            grey = ((rows.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        else:
            scaled = (rows.astype(np.float64) - low) * (255 / max(high - low, 1e-9)) + 0.5
            grey = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)
        cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB, dst=pixels[top : top + len(rows)])
    return pixels, note


@dataclass(slots=True)
class _Spread:
    """Of the finite values of an image."""

    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    far_from_1: int = 0

    def add(self, values: npt.NDArray[np.generic]) -> None:
        finite = values[np.isfinite(values)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
            self.count += finite.size
            self.far_from_1 += int(((finite < _NEAR_1[0]) | (finite > _NEAR_1[1])).sum())


def _range(image: Image.Image) -> tuple[float, float, str | None]:
    """The values that become black and white, and what to say of it."""
    spread = _Spread()
    for _, rows in _strips(image):
        spread.add(rows)
    if image.mode == "F" and spread.far_from_1 <= _FEW * spread.count:
        clipped = spread.low < 0 or spread.high > 1
        return 0.0, 1.0, "The photo's values below 0 (black) and above 1 (white) were clipped." if clipped else None
    found = f"The photo's values, {spread.low:g} to {spread.high:g},"
    least, most = _NEAR_255 if image.mode == "F" else (0.0, 255.0)
    if least <= spread.low and _DARK < spread.high <= most:
        return 0.0, 255.0, f"{found} were read as 0 (black) to 255 (white)."
    return spread.low, spread.high, f"{found} were stretched: the least is black, the greatest is white."


def png_alpha(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> Pixels | None:
    """Alpha (H, W) of a PNG, not loaded yet, with 16 bits per channel and one transparent colour; None for others.

    Pillow would compare the colour with eight bits. That of fewer bits is corrected in `image`: only the lower bits
    count (11.3.1.1), and they are scaled as the pixels. `again` opens the file once more.
    """
    key, kind = image.info.get("transparency"), image.tile[0].args
    if kind in _FEW_BITS and key is not None:
        most, scale = _FEW_BITS[kind]
        values = [(each & most) * scale for each in (key if kind == "RGB" else [key])]
        image.info["transparency"] = tuple(values) if kind == "RGB" else values[0]
        return None
    if key is None or not (is_wide(image) or kind == "RGB;16B"):
        return None
    del image.info["transparency"]
    clear = np.ones((image.height, image.width), bool)
    # Read as RGB;16L, in the wrong byte order, the upper eight bits that Pillow keeps are the lower ones.
    parts = (
        [(kind, key)]
        if is_wide(image)
        else [(kind, [each >> 8 for each in key]), ("RGB;16L", [each & 255 for each in key])]
    )
    for raw, wanted in parts:
        part = again()
        part.tile = [tile._replace(args=raw) for tile in part.tile]
        part.load()
        for top, rows in _strips(part):
            same = rows == np.array(wanted, rows.dtype)
            clear[top : top + len(rows)] &= same if same.ndim == 2 else same.all(axis=2)
    return np.where(clear, np.uint8(0), np.uint8(255)) if clear.any() else None


def _strips(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """The first row of each strip, and its pixels."""
    step = max(1, _STRIP // image.width)
    for top in range(0, image.height, step):
        yield top, np.asarray(image.crop((0, top, image.width, min(top + step, image.height))))
