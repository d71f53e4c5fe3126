"""WebP: canvas, frames and pictures agree in size; an animation's first frame becomes a still picture."""

import struct

import numpy as np
import pytest

from limner.domain.errors import BadImageError, TooLargeError, UnsupportedMediaError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import look
from tests.hostile.pictures import noise, saved

LIMITS = Limits()
FRAMES = [noise(40, 24), noise(40, 24).rotate(180), noise(40, 24)]
ANIMATED = saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True)


def test_golden() -> None:
    for lossless in (False, True):
        assert look(saved(noise(40, 24), "WEBP", lossless=lossless), LIMITS) == ImageInfo("image/webp", 40, 24)
    assert look(ANIMATED, LIMITS) == ImageInfo("image/webp", 40, 24, 3)


def test_the_first_frame_is_decoded_alone() -> None:
    assert np.array_equal(image.decode(ANIMATED, LIMITS), np.asarray(FRAMES[0]))


def test_a_transparent_first_frame() -> None:
    clear = FRAMES[0].convert("RGBA")
    clear.putalpha(100)
    data = saved(clear, "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True, exact=True)
    alpha = image.decode_picture(data, LIMITS).alpha
    assert alpha is not None
    assert set(np.unique(alpha)) == {100}


def test_a_canvas_of_another_size() -> None:
    data = bytearray(saved(noise(40, 24).convert("RGBA"), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:27] = (5000).to_bytes(3, "little")
    with pytest.raises(BadImageError, match="differ"):
        look(bytes(data), LIMITS)
    data[24:27] = (16384).to_bytes(3, "little")
    with pytest.raises(TooLargeError):
        look(bytes(data), LIMITS)


def test_frames_beside_the_canvas() -> None:
    at = ANIMATED.index(b"ANMF") + 8
    for moved in (b"\5\0\0", b"\xff\xff\xff"):
        with pytest.raises(UnsupportedMediaError, match="first frame"):
            look(ANIMATED[:at] + moved + ANIMATED[at + 3 :], LIMITS)


def test_a_chunk_longer_than_the_file() -> None:
    with pytest.raises(BadImageError, match="outside"):
        look(ANIMATED[:16] + struct.pack("<I", 1 << 31) + ANIMATED[20:], LIMITS)
