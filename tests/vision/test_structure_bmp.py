"""BMP: only plain pixels, all of them in the file."""

import struct

import pytest

from limner.domain.errors import BadImageError, TooLargeError, UnsupportedMediaError
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import look
from tests.hostile.pictures import bmp_of_runs, noise, saved

LIMITS = Limits()
BMP = saved(noise(41, 24), "BMP")


def changed(at: int, form: str, value: int) -> bytes:
    return BMP[:at] + struct.pack(form, value) + BMP[at + struct.calcsize(form) :]


def test_golden() -> None:
    assert look(BMP, LIMITS) == ImageInfo("image/bmp", 41, 24)
    assert look(changed(22, "<i", -24), LIMITS) == ImageInfo("image/bmp", 41, 24)  # from the top down


def test_run_lengths_are_refused() -> None:
    with pytest.raises(UnsupportedMediaError, match="run-length"):
        look(bmp_of_runs(), LIMITS)


@pytest.mark.parametrize("data", [BMP[:-130], changed(18, "<i", 60), changed(14, "<I", 39), changed(10, "<I", 20)])
def test_pixels_or_header_are_missing(data: bytes) -> None:
    with pytest.raises(BadImageError):
        look(data, LIMITS)


def test_limits_and_kinds() -> None:
    with pytest.raises(TooLargeError):
        look(changed(18, "<i", 20_000), LIMITS)
    with pytest.raises(UnsupportedMediaError):
        look(changed(30, "<I", 5), LIMITS)  # a PNG inside
