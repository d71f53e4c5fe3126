"""What a picture's file says of its colours, and what is done about it when the picture is decoded. Read `told`.

A profile near sRGB is kept, so that a picture made from this one has it too. Everything else becomes sRGB at once.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limner.vision import code_points, colour_profile, icc
from limner.vision.colour_profile import Kind
from limner.vision.structure.reading import CodePoints, Structure

Pixels = NDArray[np.uint8]

_CONVERTED = "The colours of the photo were converted to sRGB."
_IGNORED = "The colour profile of the photo cannot be used, so its colours were taken for sRGB."
_NO_PROFILE = "The photo's colours are CMYK without a profile that can be used. They were converted to sRGB."
_HDR = "The photo is brighter than a screen's white (HDR). It was converted to sRGB as browsers show it."


@dataclass(frozen=True, slots=True)
class Colours:
    """`kept` is the RGB profile of the pixels after `apply`; without it they are sRGB. The others are what is done."""

    kept: bytes | None = None
    converted: bytes | None = None
    hdr: CodePoints | None = None
    note: str | None = None

    @property
    def cmyk(self) -> bytes | None:
        """The profile by which a picture of CMYK is decoded to sRGB."""
        profile = self.converted
        return profile if profile is not None and icc.space_of(profile) == b"CMYK" else None

    def apply(self, pixels: Pixels) -> None:
        """Change the decoded RGB, (H, W, 3), in place, so that it is of the profile that is kept."""
        if self.hdr is not None:
            from limner.vision import tone_map  # few pictures need it

            tone_map.to_srgb(pixels, self.hdr)
        elif self.converted is not None and icc.space_of(self.converted) == b"GRAY":
            colour_profile.grey_to_srgb(pixels, self.converted)
        elif self.converted is not None and self.cmyk is None:
            colour_profile.to_srgb(pixels, self.converted)


def told(structure: Structure, profile: object, mode: str) -> Colours:
    """By the ICC profile of the file (None without one) and what else its structure tells; `mode` is Pillow's."""
    points = structure.points
    if points is not None and not code_points.is_known(points):
        points = None
    if points is not None and structure.deflated:  # a PNG's cICP comes before its profile
        return _of_points(points)
    usable = None if profile is None else colour_profile.usable(profile)
    if usable is not None and icc.space_of(usable) in _spaces(mode):
        return _of_profile(usable)
    if mode == "CMYK":
        return Colours(note=_NO_PROFILE)
    note = None if profile is None else _IGNORED
    if points is not None:
        return _of_points(points)
    described = None if structure.calibration is None else code_points.profile_of(structure.calibration)
    return Colours(note=note) if described is None else _of_profile(described)


def inflated(data: bytes) -> bytes:
    """The profile in a PNG's chunk, cut off where it is too large to be used; empty if it is broken."""
    try:
        return zlib.decompressobj().decompress(data, icc.MAX_BYTES + 1)
    except zlib.error:
        return b""


def _spaces(mode: str) -> set[bytes]:
    """The kinds of profile that pictures of one of Pillow's modes can have."""
    if mode == "CMYK":
        return {b"CMYK"}
    is_grey = mode in {"1", "L", "LA", "La", "I", "F"} or mode.startswith("I;")
    return {b"RGB ", b"GRAY"} if is_grey else {b"RGB "}


def _of_points(points: CodePoints) -> Colours:
    if points.transfer in {code_points.PQ, code_points.HLG}:
        return Colours(hdr=points, note=_HDR)
    described = code_points.profile_of(points)
    return Colours() if described is None else _of_profile(described)


def _of_profile(profile: bytes) -> Colours:
    if icc.space_of(profile) != b"RGB ":
        return Colours(converted=profile, note=_CONVERTED)
    told = icc.code_points_of(profile)
    points = None if told is None else CodePoints(*told)
    if points is not None and points.transfer in {code_points.PQ, code_points.HLG} and code_points.is_known(points):
        return _of_points(points)
    if len(profile) > icc.MAX_KEPT_BYTES or colour_profile.kind_of(profile) is Kind.FAR:
        return Colours(converted=profile, note=_CONVERTED)
    return Colours(kept=profile)
