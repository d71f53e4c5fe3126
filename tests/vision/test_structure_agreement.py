"""The look agrees with the decoders on every valid picture, raises only our errors, and takes bounded time."""

import contextlib
import io
import time

import numpy as np
import pi_heif
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from limner.domain.errors import BadImageError, LimnerError, TooLargeError, UnsupportedMediaError
from limner.vision import image
from limner.vision.header import Limits
from limner.vision.structure import look
from tests.hostile import pictures
from tests.hostile.pictures import box, jpeg_with, noise, png, saved, segment

LIMITS = Limits()
MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["RGB", "L", "P"],
    "BMP": ["RGB", "L", "P", "1"],
    "TIFF": ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"],
    "AVIF": ["RGB", "RGBA", "L"],
    "HEIF": ["RGB", "RGBA", "L"],
}
VARIANTS: dict[str, list[dict[str, object]]] = {
    "JPEG": [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"comment": b"\xff\xda"}],
    "WEBP": [{}, {"lossless": True}],
    "TIFF": [{}, *({"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"))],
    "AVIF": [{"speed": 10}, {"speed": 10, "subsampling": "4:4:4"}],
    "HEIF": [{}, {"chroma": 444}],
}
TURNED = {"JPEG", "PNG", "WEBP", "TIFF", "AVIF"}


def in_mode(width: int, height: int, mode: str) -> Image.Image:
    """A picture in one of Pillow's modes."""
    picture = noise(width, height)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert("L").convert(mode) if mode == "F" else picture.convert(mode)


def decoders_size(data: bytes, kind: str) -> tuple[int, int]:
    """Width and height of the upright picture, by the library that decodes it."""
    if kind == "HEIF":
        width, height = pi_heif.open_heif(data).size
        return width, height
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size


@settings(max_examples=150)
@given(data=st.data())
def test_size_and_orientation_are_those_of_the_decoder(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(MODES)))
    width, height = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    options = dict(data.draw(st.sampled_from(VARIANTS.get(kind, [{}]))))
    if kind in TURNED and (orientation := data.draw(st.integers(0, 8))):
        exif = Image.Exif()
        exif[0x112] = orientation
        options["exif"] = exif.tobytes()
    picture = in_mode(width, height, data.draw(st.sampled_from(MODES[kind])))
    if kind == "HEIF":
        out = io.BytesIO()
        pillow_heif.from_pillow(picture).save(out, **options)
        file = out.getvalue()
    else:
        file = saved(picture, kind, **options)
    found = look(file, LIMITS)
    assert (found.width, found.height) == decoders_size(file, kind)
    assert image.decode(file, LIMITS).shape == (found.height, found.width, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_are_counted(kind: str, count: int) -> None:
    frames = [noise(64, 48).rotate(90 * number) for number in range(count)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert look(data, LIMITS).frames == Image.open(io.BytesIO(data)).n_frames == count


N = 19_900_000
JPEG_HEAD = saved(noise(), "JPEG").partition(b"\xff\xda")[0]
LONG = {
    "JPEG of stuffed bytes": JPEG_HEAD + segment(0xDA, bytes(10)) + b"\xff\0" * (N // 2),
    "JPEG of fill bytes": JPEG_HEAD + segment(0xDA, bytes(10)) + b"\xff" * N,
    "JPEG of restarts": JPEG_HEAD + segment(0xDA, bytes(10)) + b"\xff\xd0" * (N // 2),
    "JPEG of empty segments": jpeg_with(segment(0xE5, b"") * (N // 4)),
    "PNG of empty chunks": saved(noise(), "PNG")[:33] + png([(b"IDAT", b"")])[8:-12] * (N // 12),
    "GIF of one-byte blocks": saved(noise(), "GIF")[:-1] + b"!\xfe" + b"\1a" * (N // 2),
    "GIF of empty extensions": saved(noise(), "GIF")[:13] + b"!\xfe\0" * (N // 3),
    "GIF of frames": saved(noise(), "GIF")[:-1] + (b"," + bytes(4) + b"\1\0\1\0\0\2\0") * (N // 12),
    "HEIC of empty boxes": box(b"ftyp", b"heic" + bytes(4) + b"heic") + box(b"free", b"") * (N // 8),
}


@pytest.mark.parametrize("what", LONG)
def test_twenty_megabytes_of_the_smallest_parts_take_a_tenth_of_a_second(what: str) -> None:
    data = LONG[what]
    assert len(data) < LIMITS.max_bytes
    start = time.process_time()
    with contextlib.suppress(LimnerError):
        look(data, LIMITS)
    assert time.process_time() - start < 1.0  # 0.1 s; a busy machine is no error


SEEDS = [
    saved(noise(24, 16), "JPEG", progressive=True),
    saved(noise(24, 16), "PNG"),
    saved(noise(24, 16), "GIF"),
    saved(noise(24, 16), "WEBP"),
    saved(noise(24, 16), "TIFF"),
    saved(noise(24, 16), "BMP"),
    pictures.one_picture(b"heic"),
    pictures.grid_picture(b"avif", 2, 1, 128, 64),
]


@settings(max_examples=400)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), max_size=6),
    cut=st.integers(0, 3000),
)
def test_mutated_files_raise_only_our_errors(seed: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data) : at % len(data) + len(value)] = value
    with contextlib.suppress(TooLargeError, UnsupportedMediaError, BadImageError):
        found = look(bytes(data[:cut] if cut > 8 else data), LIMITS)
        assert 0 < found.width * found.height <= LIMITS.max_pixels
