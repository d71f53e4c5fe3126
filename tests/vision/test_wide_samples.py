"""Grey of more than eight bits and floats: what is black, white and transparent, and what is said of it."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.vision import image
from limner.vision.header import Limits
from tests.hostile.pictures import png
from tests.vision.tiffs import FLOAT, SIGNED, Kind, tiff

RAMP = np.linspace(0, 1, 320).reshape(8, 40)


def decoded(values: npt.NDArray[np.generic]) -> image.Picture:
    """Of a TIFF of one grey channel."""
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF")
    return image.decode_picture(out.getvalue(), Limits())


def grey(picture: image.Picture) -> npt.NDArray[np.int64]:
    assert picture.alpha is None
    assert np.ptp(picture.pixels.astype(int), axis=2).max() == 0
    return picture.pixels[..., 0].astype(int)


def assert_like(picture: image.Picture, wanted: npt.NDArray[np.float64]) -> None:
    assert np.abs(grey(picture) - wanted.clip(0, 1) * 255).max() <= 0.51


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1.02), (-0.05, 1.3), (0, 2), (0, 0.1)])
def test_floats_are_from_0_to_1_and_what_goes_beyond_is_clipped(low: float, high: float) -> None:
    values = low + (high - low) * RAMP
    found = decoded(values.astype(np.float32))
    assert_like(found, values)
    assert any("were clipped" in note for note in found.notes) == (low < 0 or high > 1)


def test_a_few_highlights_do_not_darken_the_picture() -> None:
    values = RAMP.copy()
    values[:2, :8] = (50, np.inf, 3e38, -1e30, 60, 70, -np.inf, np.nan)
    values[0, 7] = 0
    found = decoded(values.astype(np.float32))
    values[1, 7] = 0
    assert_like(found, values)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-3.0, 258.5), (0, 100)])
def test_floats_of_eight_bits(low: float, high: float) -> None:
    values = low + (high - low) * RAMP
    found = decoded(values.astype(np.float32))
    assert_like(found, values / 255)
    assert "0 (black) to 255 (white)" in found.notes[-1]


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (-1, 1), (0, 5), (-40, 30), (1000, 1001), (-3e38, 3e38)])
def test_other_floats_are_stretched_and_that_is_told(low: float, high: float) -> None:
    found = decoded((low + (high - low) * RAMP).astype(np.float32))
    assert np.abs(grey(found) - RAMP * 255).max() <= 0.7
    assert "stretched" in found.notes[-1]
    assert f"{low:g} to {high:g}" in found.notes[-1]


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_numbers_are_stretched_and_that_is_told(bits: int, order: str) -> None:
    kind = Kind(bits, SIGNED, order)
    found = image.decode_picture(tiff(kind, RAMP[..., None]), Limits())
    assert_like(found, RAMP)
    assert "stretched" in found.notes[-1]
    few = decoded((np.arange(320).reshape(8, 40) % 256).astype(np.int32))
    assert np.array_equal(grey(few).ravel(), np.arange(320) % 256)
    assert "0 (black) to 255 (white)" in few.notes[-1]
    fine = decoded((2_000_000_000 + np.arange(320).reshape(8, 40)).astype(np.int32))
    assert_like(fine, RAMP)


def test_nothing_is_told_where_nothing_was_done() -> None:
    for values in (RAMP.astype(np.float32), np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), np.float32)):
        assert len(decoded(values).notes) == 1  # 32 bits became 8
    assert len(decoded((RAMP * 65535).astype(np.uint16)).notes) == 1
    kind = Kind(32, FLOAT, ">")
    assert len(image.decode_picture(tiff(kind, RAMP[..., None]), Limits()).notes) == 1


def keyed(samples: npt.NDArray[np.uint16], key: tuple[int, ...]) -> bytes:
    """A PNG of 16 bits per channel with one transparent colour."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(
        [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)),
            (b"tRNS", struct.pack(f">{len(key)}H", *key)),
            (b"IDAT", zlib.compress(rows)),
        ]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("key", [(12345, 12345, 12345), (0x3039, 0x3038, 0x3139), (0, 0, 0), (65535, 65535, 65535)])
def test_the_transparent_colour_of_a_png_of_16_bits_is_compared_in_16_bits(channels: int, key: tuple[int, ...]) -> None:
    key = key[:channels]
    samples = np.full((6, 40, channels), 40_000, np.uint16)
    samples[:, :16] = key
    for number, near in enumerate((1, 256, -1, -256, 257)):  # like the key in its upper or in its lower bits
        samples[:, 20 + number] = np.array(key, np.uint16) ^ np.array(abs(near), np.uint16)
    samples[:, 30:] = 130
    found = image.decode_picture(keyed(samples, key), Limits())
    assert found.alpha is not None
    assert np.array_equal(found.alpha == 0, (samples == key).all(axis=2))
    assert np.isin(found.alpha, (0, 255)).all()
    assert np.abs(found.pixels.astype(int) - samples / 257).max() <= 1
    assert (found.on_white()[:, :16] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_that_does_not_occur(channels: int) -> None:
    samples = np.full((6, 40, channels), 130, np.uint16)
    found = image.decode_picture(keyed(samples, (0,) * channels), Limits())
    assert found.alpha is None
    assert (found.pixels <= 1).all()
