"""What is known of a picture before it is decoded, and the limits that it is held to. `structure/` finds it out."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["jpeg", "png", "webp"]

_OUTPUT: dict[str, Format] = {
    "image/jpeg": "jpeg",
    "image/heic": "jpeg",
    "image/avif": "jpeg",
    "image/webp": "webp",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file and picture that are accepted; each limit is inclusive."""

    max_bytes: int = 40_000_000
    max_pixels: int = 64_000_000
    max_side: int = 16_384


LIVE_LIMITS = Limits(max_bytes=1_000_000, max_pixels=2_100_000, max_side=4096)
"""Those of a camera's frame that is looked at live: Full HD."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Type, size and number of frames. Width and height are those of the upright picture, which is the first frame."""

    media_type: str
    width: int
    height: int
    frames: int = 1

    @property
    def output_format(self) -> Format:
        """The default format for a picture made from this one: the same if it can be written."""
        return _OUTPUT.get(self.media_type, "png")
