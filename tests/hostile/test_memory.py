"""A picture takes at most three times its pixel budget: width × height × 4 bytes, which is how decoders hold pixels."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hostile.pictures import container, extent, grid, png, saved, tile
from tests.vision.coloured import PROPHOTO, press, profile

SIDE = 7952  # just under 64 megapixels, in a grid of tiles too
BYTES_A_PIXEL = 3 * 4
FAR = profile(PROPHOTO)
FIXED = 30_000_000  # bytes: tables and buffers that do not grow with the picture

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")]


def picture() -> Image.Image:
    """63 megapixels."""
    small = np.random.default_rng(0).integers(0, 255, (28, 28, 3), np.uint8)
    return Image.fromarray(small.repeat(SIDE // 28, 0).repeat(SIDE // 28, 1))


def clear() -> Image.Image:
    """The same with transparency."""
    out = picture()
    out.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    return out


def _wide(kind: type) -> Image.Image:
    return Image.fromarray(np.asarray(picture().convert("L")).astype(kind) * 200)


def _grid() -> bytes:
    code, data = tile(b"heic", SIDE // 4, SIDE // 4)
    items = [(b"grid", [3], grid(4, 4, SIDE, SIDE)), *[(b"hvc1", [1, 2], data)] * 16]
    return container(
        b"heic", items, [code, extent(SIDE // 4, SIDE // 4), extent(SIDE, SIDE)], [(b"dimg", 1, range(2, 18))]
    )


def _wide_colour(transparent: bool = False) -> bytes:
    row = np.asarray(picture())[:1].astype(">u2") * 256
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    key = [(b"tRNS", row[0, 0].tobytes())] if transparent else []
    return png([(b"IHDR", head), *key, (b"IDAT", zlib.compress((b"\0" + row.tobytes()) * SIDE, 1))])


def _bright() -> bytes:
    """PQ, by the numbers in the file's container, where libavif writes those of BT.709 and sRGB."""
    data = saved(picture(), "AVIF", speed=10)
    at = data.index(b"nclx")
    return data[: at + 4] + struct.pack(">HH", 9, 16) + data[at + 8 :]


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


FILES: dict[str, Callable[[Path], object]] = {
    "JPEG 4:2:0": lambda path: picture().save(path, "JPEG", subsampling=2),
    "JPEG 4:4:4": lambda path: picture().save(path, "JPEG", subsampling=0),
    "JPEG turned": lambda path: picture().save(path, "JPEG", exif=_turned(6)),
    "JPEG progressive 4:4:4": lambda path: picture().save(path, "JPEG", progressive=True, subsampling=0),
    "JPEG CMYK": lambda path: picture().convert("CMYK").save(path, "JPEG"),
    "JPEG CMYK with a profile": lambda path: picture().convert("CMYK").save(path, "JPEG", icc_profile=press()),
    "JPEG with a profile far from sRGB": lambda path: picture().save(path, "JPEG", icc_profile=FAR),
    "JPEG CMYK progressive": lambda path: picture().convert("CMYK").save(path, "JPEG", progressive=True),
    "PNG": lambda path: picture().save(path, "PNG", compress_level=1),
    "PNG turned": lambda path: picture().save(path, "PNG", compress_level=1, exif=_turned(6)),
    "PNG transparent": lambda path: clear().save(path, "PNG", compress_level=1),
    "PNG of 16 bits": lambda path: _wide(np.uint16).save(path, "PNG", compress_level=1),
    "PNG of 16 bits in colour": lambda path: path.write_bytes(_wide_colour()),
    "PNG of 16 bits with a transparent colour": lambda path: path.write_bytes(_wide_colour(transparent=True)),
    "PNG with a profile far from sRGB": lambda path: picture().save(path, "PNG", compress_level=1, icc_profile=FAR),
    "PNG palette": lambda path: picture().convert("P").save(path, "PNG", compress_level=1),
    "GIF": lambda path: picture().convert("P").save(path, "GIF"),
    "BMP": lambda path: picture().save(path, "BMP"),
    "TIFF LZW": lambda path: picture().save(path, "TIFF", compression="tiff_lzw"),
    "TIFF in one strip": lambda path: picture().save(
        path, "TIFF", compression="tiff_adobe_deflate", strip_size=1 << 30
    ),
    "TIFF transparent": lambda path: clear().save(path, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF of floats": lambda path: _wide(np.float32).save(path, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF of one plane": lambda path: picture().convert("L").save(path, "TIFF", tiffinfo={0x11C: 2}),
    "WebP": lambda path: picture().save(path, "WEBP", method=0),
    "WebP lossless": lambda path: picture().save(path, "WEBP", method=0, lossless=True, quality=0),
    "WebP transparent": lambda path: clear().save(path, "WEBP", method=0),
    "AVIF": lambda path: picture().save(path, "AVIF", speed=10),
    "AVIF 4:4:4": lambda path: picture().save(path, "AVIF", speed=10, subsampling="4:4:4"),
    "AVIF brighter than a screen": lambda path: path.write_bytes(_bright()),
    "AVIF transparent": lambda path: clear().save(path, "AVIF", speed=10),
    "HEIC in tiles": lambda path: path.write_bytes(_grid()),
}


@pytest.mark.parametrize("what", FILES)
def test_the_largest_pictures(what: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    FILES[what](path)
    command = [sys.executable, "-m", "tests.hostile.peak", str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    width, height, peak = map(int, done.stdout.split())
    assert (width, height) == (SIDE, SIDE)
    print(f"| {what} | {path.stat().st_size / 1e6:.1f} MB | {peak / 1e6:.0f} MB | {peak / (width * height):.1f} |")
    assert peak <= BYTES_A_PIXEL * width * height + FIXED
