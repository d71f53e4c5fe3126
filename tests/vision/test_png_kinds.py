"""Each kind of pixels that a PNG can have is read right, with its transparency, interlaced or not."""

import itertools
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest

from limner.vision import image
from limner.vision.header import Limits
from tests.hostile.pictures import png

Samples = npt.NDArray[np.int64]
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
HEIGHT, WIDTH = 11, 37


def rows(samples: Samples, bits: int) -> bytes:
    """Scanlines without a filter."""
    if 0 in samples.shape:
        return b""
    out = b""
    for row in samples:
        places = np.arange(bits - 1, -1, -1)
        out += b"\0" + np.packbits((row.ravel()[:, None] >> places & 1).astype(np.uint8)).tobytes()
    return out


def written(samples: Samples, bits: int, colour: int, interlaced: bool, *before: tuple[bytes, bytes]) -> bytes:
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    pixels = b"".join(rows(samples[y::down, x::across], bits) for x, y, across, down in passes)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, interlaced)
    return png([(b"IHDR", head), *before, (b"IDAT", zlib.compress(pixels))])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("bits", "colour"),
    [
        *((bits, GREY) for bits in (1, 2, 4, 8, 16)),
        *((bits, PALETTE) for bits in (1, 2, 4, 8)),
        *itertools.product((8, 16), (RGB, GREY_ALPHA, RGB_ALPHA)),
    ],
)
def test_every_kind_is_read_right(bits: int, colour: int, interlaced: bool) -> None:
    random, most = np.random.default_rng(bits + colour), 2**bits - 1
    samples = random.integers(0, most + 1, (HEIGHT, WIDTH, CHANNELS[colour]))
    samples[0] = samples[0, 0]
    samples[1] = samples[0, 0] ^ 1  # the lowest bit tells it from the first row
    eight, alpha = samples * 255 / most, np.full((HEIGHT, WIDTH), 255.0)
    before: list[tuple[bytes, bytes]] = []
    if colour == PALETTE:
        palette, alphas = random.integers(0, 256, (most + 1, 3)), random.integers(0, 256, most + 1)
        before = [(b"PLTE", palette.astype(np.uint8).tobytes()), (b"tRNS", alphas.astype(np.uint8).tobytes())]
        eight, alpha = palette[samples[..., 0]], alphas[samples[..., 0]]
    elif colour in {GREY_ALPHA, RGB_ALPHA}:
        alpha = eight[..., -1]
    eight = eight[..., :3] if colour in {RGB, RGB_ALPHA, PALETTE} else eight[..., :1].repeat(3, axis=2)
    if colour in {GREY, RGB}:
        plain = image.decode_picture(written(samples, bits, colour, interlaced), Limits())
        assert plain.alpha is None
        assert np.abs(plain.pixels - eight).max() <= 1
        for key, beyond in ((samples[0, 0], 0), (samples[1, 0], 0), (samples[0, 0], 0xFFFF & ~most if bits > 1 else 0)):
            clear = (b"tRNS", struct.pack(f">{len(key)}H", *(key | beyond).tolist()))  # only the lower bits count
            found = image.decode_picture(written(samples, bits, colour, interlaced, clear), Limits())
            assert np.abs(found.pixels - eight).max() <= 1
            assert found.alpha is not None
            assert np.array_equal(found.alpha, np.where((samples == key).all(axis=2), 0, 255))
        return
    found = image.decode_picture(written(samples, bits, colour, interlaced, *before), Limits())
    assert np.abs(found.pixels - eight).max() <= 1
    assert found.alpha is not None
    assert np.abs(found.alpha - alpha).max() <= 1
