"""Small files that ask for much work or memory, made from harmless pictures; others lie in `tests/cases`."""

import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

CASES = Path(__file__).parents[1] / "cases"


def case(name: str) -> bytes:
    """A file of `tests/cases`."""
    return (CASES / name).read_bytes()


def noise(width: int = 64, height: int = 64) -> Image.Image:
    """A picture of squares, the same each time."""
    small = np.random.default_rng(0).integers(0, 255, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Image.fromarray(small.repeat(8, 0).repeat(8, 1)[:height, :width])


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


# --- JPEG -------------------------------------------------------------------------------------------------------------


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with(segments: bytes, jpeg: bytes | None = None) -> bytes:
    """A JPEG with these segments behind its start."""
    jpeg = jpeg or saved(noise(), "JPEG")
    return jpeg[:2] + segments + jpeg[2:]


def many_scans(count: int, size: int = 64) -> bytes:
    """A progressive JPEG whose last scan is there so many times."""
    data = saved(noise(size, size), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + b"\xff\xd9"


def scans_behind_a_thumbnail(count: int = 300, size: int = 64) -> bytes:
    """The end of the thumbnail, and the beginning of its pixels, come first in the file."""
    thumbnail = saved(noise(16, 16), "JPEG")
    return jpeg_with(segment(0xE1, b"Exif\0\0" + thumbnail), many_scans(count, size))


def scans_behind_a_comment(count: int = 300, size: int = 64) -> bytes:
    """The same with a comment that looks like a scan and an end."""
    return jpeg_with(segment(0xFE, b"\xff\xda\xff\xd9"), many_scans(count, size))


# --- PNG --------------------------------------------------------------------------------------------------------------


def png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, and IEND."""
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in [*chunks, (b"IEND", b"")]:
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


# --- BMP --------------------------------------------------------------------------------------------------------------


def bmp_of_runs(width: int = 7000, height: int = 7000) -> bytes:
    """A run-length coded BMP of one pixel: a decoder fills the rest, byte by byte."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    offset = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + header + bytes(1024) + b"\1\1" + b"\0\0" * height + b"\0\1"


# --- HEIC and AVIF ----------------------------------------------------------------------------------------------------


def box(kind: bytes, content: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I", len(content) + 8) + kind + content


def full_box(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def container(
    brand: bytes,
    items: Sequence[tuple[bytes, Sequence[int], bytes]],
    properties: Sequence[bytes],
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
    primary: int = 1,
) -> bytes:
    """A file of items (kind, numbers of its properties, data); items and properties count from 1."""
    file_type = box(b"ftyp", brand + bytes(4) + b"mif1" + brand)
    entries = b"".join(
        full_box(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), 2) for number, (kind, *_) in enumerate(items, 1)
    )
    associations = b"".join(
        struct.pack(">HB", number, len(its)) + bytes(its) for number, (_, its, _) in enumerate(items, 1)
    )
    described = box(b"ipco", b"".join(properties))
    described += full_box(b"ipma", struct.pack(">I", len(items)) + associations)
    pointing = b"".join(
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    )

    def meta(at: int) -> bytes:
        places = b""
        for number, (*_, data) in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(data))
            at += len(data)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", primary))
            + full_box(b"iloc", struct.pack(">HH", 0x4400, len(items)) + places)
            + full_box(b"iinf", struct.pack(">H", len(items)) + entries)
            + box(b"iprp", described)
            + full_box(b"iref", pointing),
        )

    start = len(file_type) + len(meta(0)) + 8
    return file_type + meta(start) + box(b"mdat", b"".join(data for *_, data in items))


def extent(width: int, height: int) -> bytes:
    """The property `ispe`."""
    return full_box(b"ispe", struct.pack(">II", width, height))


def grid(columns: int, rows: int, width: int, height: int) -> bytes:
    """The data of an item `grid`."""
    return struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)


@cache
def tile(brand: bytes = b"heic", width: int = 64, height: int = 64) -> tuple[bytes, bytes]:
    """One coded picture: the property that tells its code, and its data."""
    if brand == b"heic":
        out = io.BytesIO()
        pillow_heif.from_pillow(noise(width, height)).save(out, quality=50)
        data, name = out.getvalue(), b"hvcC"
    else:
        data, name = saved(noise(width, height), "AVIF", quality=50, speed=10), b"av1C"
    at = data.index(name) - 4
    content = data.rindex(b"mdat") + 4
    return data[at : at + int.from_bytes(data[at : at + 4])], data[content:]


def _kind(brand: bytes) -> bytes:
    return b"hvc1" if brand == b"heic" else b"av01"


def one_picture(brand: bytes, claimed: tuple[int, int] = (64, 64), more: Sequence[bytes] = ()) -> bytes:
    """A picture of 64 × 64 that claims a size, with more properties."""
    code, data = tile(brand)
    numbers = [1, 2, *range(3, 3 + len(more))]
    return container(brand, [(_kind(brand), numbers, data)], [code, extent(*claimed), *more])


def grid_picture(brand: bytes, columns: int, rows: int, width: int, height: int, tiles: int | None = None) -> bytes:
    """A grid of tiles of 64 × 64."""
    code, data = tile(brand)
    count = columns * rows if tiles is None else tiles
    items = [(b"grid", [3], grid(columns, rows, width, height)), *[(_kind(brand), [1, 2], data)] * count]
    references = [(b"dimg", 1, range(2, 2 + count))]
    return container(brand, items, [code, extent(64, 64), extent(width, height)], references)


def many_layers(count: int) -> bytes:
    """A HEIC of pictures laid over one another."""
    code, data = tile()
    overlay = bytes(2) + bytes(8) + struct.pack(">HH", 4096, 4096) + bytes(4 * count)
    items = [(b"iovl", [3], overlay), (b"hvc1", [1, 2], data)]
    return container(b"heic", items, [code, extent(64, 64), extent(4096, 4096)], [(b"dimg", 1, [2] * count)])
