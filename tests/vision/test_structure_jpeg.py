"""JPEG: what is refused before decoding, and what is not."""

import struct

import pytest

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import jpeg, look
from tests.hostile import pictures
from tests.hostile.pictures import case, jpeg_with, noise, saved, segment

LIMITS = Limits()
JPEG = saved(noise(40, 24), "JPEG")
SOF = JPEG.index(b"\xff\xc0")


def changed(at: int, value: bytes) -> bytes:
    return JPEG[:at] + value + JPEG[at + len(value) :]


def test_golden() -> None:
    assert look(JPEG, LIMITS) == ImageInfo("image/jpeg", 40, 24)


@pytest.mark.parametrize("make", [pictures.scans_behind_a_thumbnail, pictures.scans_behind_a_comment])
def test_scans_are_counted_in_the_picture_alone(make: type) -> None:
    assert look(make(jpeg.MAX_SCANS - 10), LIMITS).width == 64
    with pytest.raises(BadImageError, match="scans"):
        look(make(jpeg.MAX_SCANS), LIMITS)


def test_scans_in_a_thumbnail_do_not_count() -> None:
    thumbnail = b"Exif\0\0" + b"\xff\xda\0\x02" * 1000
    assert look(jpeg_with(segment(0xE1, thumbnail)), LIMITS).width == 64


def test_scans_after_the_end_do_not_count() -> None:
    assert look(JPEG + b"\xff\xda\0\x02" * 1000, LIMITS).width == 40


@pytest.mark.parametrize(
    ("marker", "words"), [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xC9, "arithmetic"), (0xCA, "arithmetic")]
)
def test_other_kinds_are_named(marker: int, words: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=words):
        look(changed(SOF + 1, bytes([marker])), LIMITS)


def test_twelve_bits_are_named() -> None:
    with pytest.raises(UnsupportedMediaError, match="12 bits"):
        look(case("jpeg_12bit.jpg"), LIMITS)


def test_a_height_after_the_pixels_is_named() -> None:
    with pytest.raises(UnsupportedMediaError, match="DNL"):
        look(changed(SOF + 5, b"\0\0"), LIMITS)


def test_two_frame_headers() -> None:
    (length,) = struct.unpack_from(">H", JPEG, SOF + 2)
    with pytest.raises(BadImageError, match="more than one"):
        look(JPEG[:SOF] + JPEG[SOF : SOF + 2 + length] * 2 + JPEG[SOF + 2 + length :], LIMITS)


def test_too_many_segments() -> None:
    assert look(jpeg_with(segment(0xE5, b"") * 5000), LIMITS).width == 64
    with pytest.raises(BadImageError, match="segments"):
        look(jpeg_with(segment(0xE5, b"") * jpeg.MAX_SEGMENTS), LIMITS)


def test_a_missing_end_is_no_damage_but_missing_pixels_are() -> None:
    whole = case("colour_jpeg_missing_EOI.jpg")
    assert image.decode(whole, LIMITS).shape == (400, 320, 3)
    with pytest.raises(BadImageError):
        image.decode(whole[:-2000], LIMITS)


def test_cmyk_without_adobes_marker() -> None:
    assert image.decode(case("colour_cmyk_without_Adobe_marker.jpg"), LIMITS).shape == (400, 320, 3)
