"""TIFF: kinds of pixels are read right or named, and every offset lies in the file."""

import struct

import numpy as np
import pytest

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import look
from tests.hostile.pictures import case, noise, saved

LIMITS = Limits()
Tags = dict[int, tuple[int, list[int]]]
GREY: Tags = {
    0x100: (4, [4]),
    0x101: (4, [2]),
    0x102: (3, [8]),
    0x103: (3, [1]),
    0x106: (3, [1]),
    0x111: (4, [8]),
    0x115: (3, [1]),
    0x116: (3, [2]),
    0x117: (4, [8]),
}
SIZES = {3: "H", 4: "I", 5: "Q", 16: "Q"}
PIXELS = bytes(range(0, 240, 30))


def tiff(tags: Tags, order: str = "<", after: int = 0, big: bool = False) -> bytes:
    """A TIFF of eight bytes of pixels behind its header, and one directory."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), 24 if big else 16
    )
    out, extra = b"", b""
    start = len(head) + 8
    step, inline = (20, 8) if big else (12, 4)
    end = start + (8 if big else 2) + step * len(tags) + inline
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{SIZES[kind]}", *values)
        if len(packed) > inline:
            place = struct.pack(order + ("Q" if big else "I"), end + len(extra))
            extra += packed
        else:
            place = packed.ljust(inline, b"\0")
        out += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values)) + place
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return head + PIXELS + count + out + struct.pack(order + ("Q" if big else "I"), after) + extra


def test_golden() -> None:
    for order in "<>":
        assert look(tiff(GREY, order), LIMITS) == ImageInfo("image/tiff", 4, 2)
        assert image.decode(tiff(GREY, order), LIMITS)[..., 0].tobytes() == PIXELS
    big = {**GREY, 0x111: (16, [16])}
    assert look(tiff(big, big=True), LIMITS) == ImageInfo("image/tiff", 4, 2)
    assert image.decode(tiff(big, big=True), LIMITS)[..., 0].tobytes() == PIXELS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiff_float16_grey.tif", "16-bit floating-point"),
        ("tiff_float32_rgb.tif", "32-bit floating-point"),
        ("tiff_planar16.tif", "separate planes"),
        ("tiff_planar16_deflate.tif", "separate planes"),
        ("raw.dng", "DNG"),
    ],
)
def test_kinds_that_are_not_read_right_are_named(name: str, words: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=words):
        look(case(name), LIMITS)


def test_white_may_be_zero() -> None:
    assert image.decode(case("tiff_miniswhite8.tif"), LIMITS).shape == (200, 200, 3)
    assert np.array_equal(
        image.decode(tiff({**GREY, 0x106: (3, [0])}), LIMITS)[..., 0].ravel(), 255 - np.arange(0, 240, 30)
    )


@pytest.mark.parametrize(
    "change",
    [
        {0x111: (5, [8])},
        {0x111: (4, [2**31])},
        {0x117: (4, [8]), 0x111: (4, [125])},
        {0x116: (3, [0])},
        {0x116: (3, [1])},
        {0x100: (4, [0])},
        {0x100: (4, [4, 4])},
        {0x142: (4, [60_000]), 0x143: (4, [60_000]), 0x144: (4, [8])},
        {0x142: (4, [16]), 0x143: (4, [0]), 0x144: (4, [8])},
    ],
)
def test_offsets_and_sizes_that_lie(change: Tags) -> None:
    with pytest.raises(BadImageError):
        look(tiff(GREY | change), LIMITS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0x103: (3, [6])}, "old-style JPEG"),
        ({0x106: (3, [8])}, "colour space"),
        ({0x106: (3, [32803])}, "colour space"),
        ({0x0FE: (4, [1])}, "preview"),
        ({0x153: (3, [2])}, "8-bit signed"),
        ({0x102: (3, [12])}, "12-bit"),
    ],
)
def test_other_kinds_are_named(change: Tags, words: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=words):
        look(tiff(GREY | change), LIMITS)


def test_a_tag_twice() -> None:
    file = tiff(GREY).replace(struct.pack("<HHII", 0x106, 3, 1, 1), struct.pack("<HHII", 0x100, 4, 1, 2000))
    with pytest.raises(BadImageError, match="twice"):
        look(file, LIMITS)


def test_a_loop_of_pages_ends() -> None:
    assert look(tiff(GREY, after=16), LIMITS).frames == 1
    frames = [noise(8, 8)] * 3
    assert look(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), LIMITS).frames == 3


def test_strips_that_overlap_are_refused() -> None:
    """libtiff copies each strip whole where its bits are in reverse order: 100,000 strips of one megabyte took 26 s."""
    strips = {0x101: (4, [8]), 0x111: (4, [8] * 8), 0x116: (3, [1]), 0x103: (3, [8])}
    size = len(tiff(GREY | strips | {0x117: (4, [0] * 8)}))
    assert look(tiff(GREY | strips | {0x117: (4, [size // 4 - 8] * 8)}), LIMITS).media_type == "image/tiff"
    with pytest.raises(BadImageError, match="overlap"):
        look(tiff(GREY | strips | {0x117: (4, [size // 2] * 8)}), LIMITS)


def test_tags_that_overlap_are_refused() -> None:
    size = len(tiff(GREY))
    more = {0xC000 + number: (3, [0] * size) for number in range(4)}
    whole = tiff(GREY | more)
    assert look(whole, LIMITS).media_type == "image/tiff"
    head = whole.index(struct.pack("<HH", 0xC000, 3))
    for number in range(4):
        at = head + 12 * number + 4
        whole = whole[:at] + struct.pack("<II", len(whole) // 2 - 4, 8) + whole[at + 8 :]
    with pytest.raises(BadImageError, match="overlap"):
        look(whole, LIMITS)
