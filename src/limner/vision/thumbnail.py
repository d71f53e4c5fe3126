"""The small picture that stands for a job. It is made of pixels that the operation has decoded or made anyway."""

from dataclasses import dataclass

import cv2
import numpy as np

from limner.vision.image import Pixels, encode, on_white, within

SIDE = 480
"""Of the longer side, at most, pixels."""
QUALITY = 75


def _small(pixels: Pixels) -> Pixels:
    """At most `SIDE` pixels. Halving first takes less than half the time, and differs by less than one grey level."""
    while max(pixels.shape[:2]) >= 2 * SIDE and min(pixels.shape[:2]) > 1:
        size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return within(pixels, SIDE)


@dataclass(frozen=True, slots=True)
class Small:
    """A thumbnail as a WebP file, and its size in pixels."""

    data: bytes
    width: int
    height: int


class Thumbnail:
    """Keeps a small copy of what it is shown, and chooses among these at the end.

    A picture with covered faces comes first, then the first one that was made, then the photo. A job that failed shows
    nothing that it made, and if faces were to be covered, not the photo either.
    """

    def __init__(self, photo_sha256: str | None, *, covers: bool) -> None:
        """`covers`: whether the job is to cover faces."""
        self.photo_sha256 = photo_sha256
        self._covers = covers
        self._seen: dict[str, tuple[Pixels, bytes | None]] = {}

    def see_photo(self, pixels: Pixels, alpha: Pixels | None = None, profile: bytes | None = None) -> None:
        """The photo, upright, as (H, W, 3) RGB, with alpha (H, W) and ICC profile; only the first time counts."""
        self._see("photo", pixels, alpha, profile)

    def see_made(self, pixels: Pixels, alpha: Pixels | None, profile: bytes | None, *, covered: bool) -> None:
        """A picture that the job has made; only the first one counts, and the first one with covered faces."""
        self._see("covered" if covered else "made", pixels, alpha, profile)

    def _see(self, kind: str, pixels: Pixels, alpha: Pixels | None, profile: bytes | None) -> None:
        if kind in self._seen:
            return
        small = _small(pixels)
        if alpha is not None:
            small = on_white(small, _small(alpha))
        # A copy: the operation may draw on the picture.
        self._seen[kind] = (small.copy() if np.shares_memory(small, pixels) else small), profile

    def made(self, *, failed: bool) -> Small | None:
        """The thumbnail of the job, which has `failed` or not; None if there is nothing that may be shown."""
        kinds = ["covered", "made", "photo"]
        if failed:
            kinds = [] if self._covers else ["photo"]
        chosen = next((self._seen[kind] for kind in kinds if kind in self._seen), None)
        if chosen is None:
            return None
        pixels, profile = chosen
        data = encode(pixels, "webp", quality=QUALITY, profile=profile)
        return Small(data, width=pixels.shape[1], height=pixels.shape[0])
