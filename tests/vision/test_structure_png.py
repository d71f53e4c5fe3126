"""PNG: which chunks reach the codec, and which files are refused."""

import io
import struct
import zlib

import pytest
from PIL import Image

from limner.domain.errors import BadImageError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import inspect, look, png
from tests.hostile import pictures
from tests.hostile.pictures import case, noise, saved

LIMITS = Limits()
PNG = saved(noise(40, 24), "PNG")
HEADER = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
PIXEL = zlib.compress(b"\0\0")


def test_golden() -> None:
    assert look(PNG, LIMITS) == ImageInfo("image/png", 40, 24)
    assert inspect(PNG, LIMITS)[1].pieces == ()  # nothing is cut, so nothing is copied


def test_an_animation_reaches_the_codec_as_a_still() -> None:
    frames = [noise(40, 24), noise(40, 24).rotate(180)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    media_type, found = inspect(data, LIMITS)
    assert (media_type, found.frames) == ("image/png", 2)
    still = found.for_codec(data)
    for chunk in (b"acTL", b"fcTL", b"fdAT"):
        assert chunk in data
        assert chunk not in still
    assert Image.open(io.BytesIO(still)).convert("RGB").tobytes() == frames[0].tobytes()


def test_the_case_that_ends_opencv() -> None:
    assert look(case("hostile/segv218.png"), LIMITS) == ImageInfo("image/png", 1, 1, 2)
    assert image.decode(case("hostile/segv218.png"), LIMITS).shape == (1, 1, 3)


def test_a_chunk_longer_than_the_file() -> None:
    with pytest.raises(BadImageError, match="outside"):
        look(case("hostile/212bytes.png"), LIMITS)


@pytest.mark.parametrize("name", ["png_iTXt_compressed_2_MB.png", "png_zTXt_2_MB.png"])
def test_large_texts_are_kept_from_the_codec(name: str) -> None:
    _, found = inspect(case(name), LIMITS)
    assert b"TXt" not in found.for_codec(case(name))
    assert image.decode(case(name), LIMITS).shape == (256, 256, 3)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"IDAT", PIXEL)],
        [(b"IHDR", HEADER)],
        [(b"IHDR", HEADER[:8] + bytes([8, 3, 0, 0, 0])), (b"IDAT", PIXEL)],
        [(b"IHDR", HEADER[:8] + bytes([3, 0, 0, 0, 0])), (b"IDAT", PIXEL)],
        [(b"IHDR", HEADER), (b"WHAT", b""), (b"IDAT", PIXEL)],
        [(b"IHDR", HEADER), *[(b"IDAT", b"")] * png.MAX_CHUNKS],
    ],
    ids=["no header", "no pixels", "no palette", "three bits", "unknown critical chunk", "chunks"],
)
def test_what_is_refused(chunks: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadImageError):
        look(pictures.png(chunks), LIMITS)


def test_the_end_chunk_may_be_missing() -> None:
    assert image.decode(PNG[:-12], LIMITS).shape == (24, 40, 3)
