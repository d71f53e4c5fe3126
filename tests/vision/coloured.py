"""The portrait in the colours that each format can state, as files of one size; and profiles made for them."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from limner.vision import code_points, icc
from limner.vision.structure.reading import Calibration, CodePoints
from tests.hostile.pictures import case, png, saved

Pixels = npt.NDArray[np.uint8]
D65 = (0.3127, 0.329)
ADOBE = Calibration((D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (2.2, 2.2, 2.2))
PROPHOTO = Calibration(((0.3457, 0.3585), (0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (1.8, 1.8, 1.8))
SWAPPED = Calibration((D65, (0.15, 0.06), (0.3, 0.6), (0.64, 0.33)), (2.2, 2.2, 2.2))
P3 = CodePoints(code_points.P3, 13)
P3_XY = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def profile(colours: CodePoints | Calibration) -> bytes:
    """The ICC profile of colours in numbers."""
    found = code_points.profile_of(colours)
    assert found is not None
    return found


def portrait(side: int = 160) -> Pixels:
    """The portrait's head, square."""
    pixels = skimage.data.astronaut()[:300, 80:380]
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def chunk_of(pixels: Pixels, *told: tuple[bytes, bytes]) -> bytes:
    """An 8-bit PNG of (H, W, 3) or (H, W) with further chunks before the pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return png([(b"IHDR", head), *told, (b"IDAT", zlib.compress(rows))])


def cicp(primaries: int, transfer: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, 1])


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(values: tuple[int, ...] = P3_XY) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def iccp(of: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(of)


def tagged(header: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """A profile of tags as they are, known or not."""
    table, body = b"", b""
    start = 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    return struct.pack(">I", start + len(body)) + header[4:128] + struct.pack(">I", len(tags)) + table + body


def tags_of(of: bytes) -> dict[bytes, bytes]:
    """The tags of a profile."""
    (count,) = struct.unpack_from(">I", of, 128)
    entries = [struct.unpack_from(">4sII", of, at) for at in range(132, 132 + 12 * count, 12)]
    return {name: of[start : start + size] for name, start, size in entries}


def press() -> bytes:
    """A profile of CMYK: inks darker than Pillow's, in a table of 9 × 9 × 9 × 9 colours in Lab."""
    steps = np.linspace(0, 1, 9)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 4)
    linear = np.clip((1 - 0.9 * inks[:, :3] ** 0.8) * (1 - 0.95 * inks[:, 3:]), 0, 1) ** 2.2
    matrix = icc.to_xyz(code_points.PRIMARIES[code_points.BT709])
    assert matrix is not None
    xyz = linear @ matrix.T / (0.9642, 1, 0.8249)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack(
        [1.16 * f[:, 1] - 0.16, (500 * (f[:, 0] - f[:, 1]) + 128) / 255, (200 * (f[:, 1] - f[:, 2]) + 128) / 255]
    )
    table = np.clip(lab.T * 255, 0, 255).round().astype(np.uint8).tobytes()
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    header = bytearray(profile(ADOBE)[:128])
    header[8:24] = b"\2\x40\0\0prtrCMYKLab "
    return tagged(
        bytes(header),
        {
            b"desc": b"desc" + struct.pack(">4xI", 6) + b"press\0" + bytes(78),
            b"cprt": b"text\0\0\0\0CC0\0",
            b"wtpt": tags_of(profile(ADOBE))[b"wtpt"],
            b"A2B0": b"mft1" + struct.pack(">4x4B", 4, 3, 9, 0) + identity + ramp * 4 + table + ramp * 3,
        },
    )


def avif(points: tuple[int, int], *, in_box: bool = True) -> bytes:
    """The case with other code points in its container, or without that box, so that its sequence header tells them."""
    data = case("colour_avif_nclx_P3.avif")
    at = data.index(b"nclx")
    changed = data[: at + 4] + struct.pack(">HH", *points) + data[at + 8 :]
    return changed if in_box else changed.replace(b"colrnclx", b"freenclx")


def bmp(pixels: Pixels, embedded: bytes) -> bytes:
    """A BMP of version 5 with a profile."""
    height, width = pixels.shape[:2]
    rows = [row[:, ::-1].tobytes() + bytes(-3 * width % 4) for row in pixels[::-1]]
    body = b"".join(rows)
    start = 14 + 124
    header = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(body), 2835, 2835, 0, 0)
    header += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(body), len(embedded), 0)
    size = start + len(body) + len(embedded)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, start) + header + body + embedded


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _cmyk(**options: object) -> bytes:
    return saved(Image.fromarray(portrait()).convert("CMYK"), "JPEG", quality=95, **options)


def _ycck() -> bytes:
    """The CMYK picture coded as YCCK: libjpeg does so where Adobe's marker says 2."""
    data = bytearray(_cmyk(icc_profile=press()))
    at = data.index(b"Adobe")
    data[at + 11] = 2
    return bytes(data)


def _palette() -> bytes:
    picture = Image.fromarray(portrait()).convert("P", palette=Image.Palette.ADAPTIVE)
    return saved(picture, "PNG", icc_profile=profile(P3))


def _grey_profile() -> bytes:
    found = Image.open(io.BytesIO(case("colour_grey_png_gamma1.8.png"))).info["icc_profile"]
    assert isinstance(found, bytes)
    return found


CASES = [
    "colour_16-bit_grey_png.png",
    "colour_avif_nclx_P3.avif",
    "colour_avif_nclx_PQ.avif",
    "colour_cmyk_without_Adobe_marker.jpg",
    "colour_grey_jpeg_gamma1.8.jpg",
    "colour_grey_png_gamma1.8.png",
    "colour_jpeg_P3_icc.jpg",
    "colour_png_cHRM+gAMA_P3.png",
]
MADE: dict[str, Callable[[], bytes]] = {
    "JPEG with Adobe RGB": lambda: saved(Image.fromarray(portrait()), "JPEG", quality=95, icc_profile=profile(ADOBE)),
    "JPEG with ProPhoto": lambda: saved(Image.fromarray(portrait()), "JPEG", quality=95, icc_profile=profile(PROPHOTO)),
    "JPEG with red and blue swapped": lambda: saved(
        Image.fromarray(portrait()[..., ::-1]), "JPEG", quality=95, icc_profile=profile(SWAPPED)
    ),
    "grey JPEG with a profile of RGB": lambda: saved(
        Image.fromarray(_grey(portrait())), "JPEG", quality=95, icc_profile=profile(PROPHOTO)
    ),
    "JPEG of RGB with a profile of grey": lambda: saved(
        Image.fromarray(portrait()), "JPEG", quality=95, icc_profile=_grey_profile()
    ),
    "CMYK JPEG": _cmyk,
    "CMYK JPEG with a profile": lambda: _cmyk(icc_profile=press()),
    "YCCK JPEG with a profile": _ycck,
    "WebP with P3": lambda: saved(Image.fromarray(portrait()), "WEBP", quality=95, icc_profile=profile(P3)),
    "lossless WebP with ProPhoto": lambda: saved(
        Image.fromarray(portrait()), "WEBP", lossless=True, icc_profile=profile(PROPHOTO)
    ),
    "palette PNG with P3": _palette,
    "PNG with gAMA alone": lambda: chunk_of(portrait(), gama(55556)),
    "PNG with cHRM alone": lambda: chunk_of(portrait(), chrm()),
    "PNG with gAMA of 1": lambda: chunk_of(portrait(), gama(100_000)),
    "grey PNG with gAMA": lambda: chunk_of(_grey(portrait()), gama(55556)),
    "PNG with sRGB before gAMA": lambda: chunk_of(portrait(), (b"sRGB", b"\0"), chrm(), gama(100_000)),
    "PNG with iCCP before sRGB": lambda: chunk_of(portrait(), (b"sRGB", b"\0"), iccp(profile(P3))),
    "PNG with cICP before iCCP": lambda: chunk_of(portrait(), iccp(profile(PROPHOTO)), cicp(12, 13)),
    "PNG with cICP of television": lambda: chunk_of(portrait(), cicp(9, 1)),
    "PNG with cICP for video, and gAMA": lambda: chunk_of(portrait(), (b"cICP", bytes([12, 13, 0, 0])), gama(55556)),
    "PNG with unknown cICP, and gAMA": lambda: chunk_of(portrait(), cicp(2, 2), gama(55556)),
    "PNG with cICP of cinemas": lambda: chunk_of(portrait(), cicp(11, 17)),
    "PNG with cICP of XYZ": lambda: chunk_of(portrait(), cicp(10, 13)),
    "PNG with PQ": lambda: chunk_of(portrait(), cicp(9, 16)),
    "PNG with PQ of 4,000 nits": lambda: chunk_of(
        portrait(), cicp(9, 16), (b"cLLI", struct.pack(">II", 40_000_000, 0))
    ),
    "PNG with HLG": lambda: chunk_of(portrait(), cicp(9, 18)),
    "PNG with a broken profile, and gAMA": lambda: chunk_of(portrait(), iccp(profile(P3)[:200]), gama(55556)),
    "PNG with 3 MB behind its profile": lambda: chunk_of(portrait(), iccp(profile(PROPHOTO) + bytes(3 << 20))),
    "AVIF with BT.2020": lambda: avif((9, 13)),
    "AVIF with television's transfer": lambda: avif((1, 6)),
    "AVIF with HLG": lambda: avif((9, 18)),
    "AVIF with SMPTE 240M": lambda: avif((7, 7)),
    "AVIF without colr": lambda: avif((1, 13), in_box=False),
    "BMP with a profile": lambda: bmp(portrait(), profile(PROPHOTO)),
}
