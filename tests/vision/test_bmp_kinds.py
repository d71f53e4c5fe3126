"""Each kind of pixels that a BMP can have is read right, or refused by a name."""

import struct

import numpy as np
import numpy.typing as npt
import pytest

from limner.domain.errors import UnsupportedMediaError
from limner.vision import image
from limner.vision.header import Limits

HEIGHT, WIDTH = 6, 13
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3))
ALPHA = np.random.default_rng(1).integers(1, 256, (HEIGHT, WIDTH))


def bmp(
    bits: int, pixels: npt.NDArray[np.int64], masks: tuple[int, ...] = (), size: int = 40, up: bool = True
) -> bytes:
    """Of (H, W) numbers, each a pixel; `size` is the header's."""
    rows = [row.astype("<u4").view(np.uint8).reshape(WIDTH, 4)[:, : bits // 8].tobytes() for row in pixels]
    body = b"".join(row + bytes(-len(row) % 4) for row in (rows[::-1] if up else rows))
    head = struct.pack("<IiiHHI", size, WIDTH, HEIGHT if up else -HEIGHT, 1, bits, 3 if masks else 0) + bytes(20)
    head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(size, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def packed(masks: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The pixels as these bits of red, green, blue and alpha."""
    out = np.zeros((HEIGHT, WIDTH), np.int64)
    for mask, channel in zip(masks, (*np.moveaxis(COLOURS, 2, 0), ALPHA), strict=False):
        low = (mask & -mask).bit_length() - 1 if mask else 0
        out |= (channel >> 8 - mask.bit_count()) << low
    return out


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    ("bits", "masks", "size"),
    [
        (24, (), 40),
        (32, (), 40),
        (16, (), 40),
        (16, (0x7C00, 0x3E0, 0x1F), 40),
        (16, (0xF800, 0x7E0, 0x1F), 40),
        (32, (0xFF0000, 0xFF00, 0xFF), 40),
        (32, (0xFF000000, 0xFF0000, 0xFF00), 40),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 56),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 108),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), 124),
    ],
)
def test_what_is_read(bits: int, masks: tuple[int, ...], size: int, up: bool) -> None:
    usual = {16: (0x7C00, 0x3E0, 0x1F)}.get(bits, (0xFF0000, 0xFF00, 0xFF))
    found = image.decode_picture(bmp(bits, packed(masks or usual), masks, size, up), Limits())
    assert np.abs(found.pixels - COLOURS).max() <= (8 if bits == 16 else 0)
    if len(masks) == 4:
        assert found.alpha is not None
        assert np.array_equal(found.alpha, ALPHA)
    else:
        assert found.alpha is None


@pytest.mark.parametrize(
    ("bits", "masks", "size"),
    [
        (32, (0xFF, 0xFF00, 0xFF0000), 40),
        (32, (0x3FF00000, 0xFFC00, 0x3FF), 40),
        (16, (0xF00, 0xF0, 0xF), 40),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 108),
    ],
)
def test_other_arrangements_are_named(bits: int, masks: tuple[int, ...], size: int) -> None:
    with pytest.raises(UnsupportedMediaError, match="arrangement of colours"):
        image.decode(bmp(bits, np.zeros((HEIGHT, WIDTH), np.int64), masks, size), Limits())


def test_an_alpha_that_was_left_empty_hides_nothing() -> None:
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    found = image.decode_picture(bmp(32, packed(masks) & 0xFFFFFF, masks, 108), Limits())
    assert found.alpha is None
    assert np.array_equal(found.pixels, COLOURS)
