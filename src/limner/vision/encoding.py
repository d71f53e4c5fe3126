"""Write pictures as JPEG, PNG and WebP. Read `encode`."""

import io
import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image

from limner.domain.errors import TooLargeError
from limner.vision.header import Format
from limner.vision.structure.reading import METRE

Pixels = npt.NDArray[np.uint8]
Density = tuple[float, float]
"""Pixels per inch, across and down."""

JPEG_QUALITY = 92
_WEBP_MAX_SIDE = 16383
_WEBP_EFFORT = 20  # of lossless: 0 to 100; more takes longer and saves little
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"


def encode(
    image: Pixels,
    format: Format,  # noqa: A002
    *,
    quality: int = JPEG_QUALITY,
    alpha: Pixels | None = None,
    profile: bytes | None = None,
    subsampling: str = "444",
    xmp: bytes | None = None,
    density: Density | None = None,
    lossless: bool = False,
) -> bytes:
    """The bytes of a file, from (H, W, 3) uint8 RGB. `alpha` (H, W) is for png and webp, `quality` for jpeg and webp.

    `profile` is an ICC profile; without one the colours are sRGB. `xmp` is a packet of at most 65,000 bytes. `lossless`
    is for webp; png always is.

    TooLargeError for webp with a side over 16,383 px.
    """
    if format == "jpeg":
        pixels = np.ascontiguousarray(image)
        return _with_segments(simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling), profile, xmp, density)
    if format == "png":
        return _png(image, alpha, profile, xmp, density)
    if max(image.shape[:2]) > _WEBP_MAX_SIDE:
        raise TooLargeError(f"A WebP picture can have at most {_WEBP_MAX_SIDE} pixels per side. Choose another format.")
    out = io.BytesIO()
    picture = Image.fromarray(image if alpha is None else np.dstack([image, alpha]))
    picture.save(
        out,
        "WEBP",
        quality=_WEBP_EFFORT if lossless else quality,
        lossless=lossless,
        method=1,
        icc_profile=profile or b"",
        xmp=xmp or b"",
        exif=b"" if density is None else _exif(density),
    )
    return out.getvalue()


def _exif(density: Density) -> bytes:
    """A block that tells nothing else: WebP has no other place for it."""
    block = Image.Exif()
    block[0x11A], block[0x11B], block[0x128] = *density, 2
    return block.tobytes()


def _png(
    image: Pixels, alpha: Pixels | None, profile: bytes | None, xmp: bytes | None, density: Density | None
) -> bytes:
    """A PNG with run-length compression: for photos, smaller files than deflate level 1 in half the time."""
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if alpha is None else np.dstack([image[:, :, ::-1], alpha])
    speed = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    data = cv2.imencode(".png", stored, speed)[1].tobytes()
    chunks = b""
    if profile is not None:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))
    if density is not None:
        chunks += _chunk(b"pHYs", struct.pack(">IIB", *(round(each * METRE) for each in density), 1))
    if xmp is not None:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    return data[:33] + chunks + data[33:]  # after the signature and IHDR


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _with_segments(jpeg: bytes, profile: bytes | None, xmp: bytes | None, density: Density | None) -> bytes:
    """The JPEG with XMP in an APP1 segment (ISO 16684-3), a profile in APP2 segments (ICC.1:2010, annex B.4), and the
    density in its JFIF segment.
    """
    packet = b"" if xmp is None else _XMP_IN_JPEG + xmp
    segments = b"" if xmp is None else b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
    profile = profile or b""
    pieces = [profile[at : at + 65519] for at in range(0, len(profile), 65519)]
    segments += b"".join(
        b"\xff\xe2" + struct.pack(">H", len(piece) + 16) + b"ICC_PROFILE\0" + bytes([number, len(pieces)]) + piece
        for number, piece in enumerate(pieces, 1)
    )
    has_jfif = jpeg[2:4] == b"\xff\xe0"
    after = 4 + int.from_bytes(jpeg[4:6]) if has_jfif else 2
    head = jpeg[:after]
    if density is not None and has_jfif:
        head = head[:13] + struct.pack(">BHH", 1, *map(round, density)) + head[18:]
    return head + segments + jpeg[after:]
