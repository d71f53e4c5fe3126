"""GIF: the screen and the first frame are held to the limits; only the first frame reaches the codec."""

import struct

import pytest

from limner.domain.errors import BadImageError, TooLargeError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import inspect, look
from tests.hostile.pictures import case, noise, saved

LIMITS = Limits()
GIF = saved(noise(40, 24), "GIF")
FRAME = GIF.index(b",\0\0\0\0")


def with_frame(left: int, top: int, width: int, height: int) -> bytes:
    return GIF[: FRAME + 1] + struct.pack("<HHHH", left, top, width, height) + GIF[FRAME + 9 :]


def test_golden() -> None:
    assert look(GIF, LIMITS) == ImageInfo("image/gif", 40, 24)


def test_a_first_frame_enlarges_the_screen() -> None:
    assert look(with_frame(10, 20, 40, 24), LIMITS) == ImageInfo("image/gif", 50, 44)
    assert image.decode(with_frame(10, 20, 40, 24), LIMITS).shape == (44, 50, 3)


@pytest.mark.parametrize("data", [case("hostile/49bytes.gif"), with_frame(0, 60_000, 9, 9)], ids=["49 bytes", "top"])
def test_a_frame_beyond_the_limits(data: bytes) -> None:
    with pytest.raises(TooLargeError):
        look(data, LIMITS)


@pytest.mark.parametrize("data", [GIF[:FRAME], with_frame(0, 0, 0, 5), GIF[:FRAME] + b"x" + GIF[FRAME:]])
def test_no_first_frame(data: bytes) -> None:
    with pytest.raises(BadImageError):
        look(data, LIMITS)


def test_later_frames_are_kept_from_the_codec() -> None:
    huge = b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\1a\0"
    data = GIF[:-1] + huge * 3 + b";"
    _, found = inspect(data, LIMITS)
    assert found.frames == 4
    assert found.for_codec(data) == GIF
