"""Decode pictures to upright RGB. `structure/` finds their type and checks the limits before; `encoding` writes them.

Whatever a codec raises, the caller gets only errors of `domain/errors.py`. Read `decode`, then `Picture`.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image, ImageFile

from limner.domain.errors import BadImageError, LimnerError, UnsupportedMediaError
from limner.vision import colour_profile, picture_colours, wide_samples
from limner.vision.colour_profile import Kind
from limner.vision.encoding import JPEG_QUALITY, Density, encode
from limner.vision.header import Format, ImageInfo, Limits
from limner.vision.memory import is_out_of_memory
from limner.vision.structure import described, inspect

# `structure` checks the size before decoding. Pillow's own limit would add a warning or another error.
Image.MAX_IMAGE_PIXELS = None

__all__ = ["Picture", "Pixels", "broken_is_bad", "decode", "decode_picture", "encode", "encode_picture", "within"]

Pixels = npt.NDArray[np.uint8]

_ROWS = 512  # rows converted at a time, so that a large picture is not in memory three times


@dataclass(slots=True)
class Picture:
    """A picture at full size and what a picture made from it keeps: not EXIF, which may contain the location."""

    info: ImageInfo
    pixels: Pixels  # (H, W, 3) RGB, also under transparent pixels; may be changed
    alpha: Pixels | None = None  # (H, W), 255 = opaque
    profile: bytes | None = None  # ICC profile of the pixels, near sRGB; None: they are sRGB
    subsampling: str = "444"  # JPEG chroma subsampling: 444, 422, 420, 440 or 411
    density: Density | None = None
    lossless: bool = False  # of a WebP
    notes: tuple[str, ...] = ()  # what is not kept of the file, as sentences

    def on_white(self) -> Pixels:
        """The picture composed on white, (H, W, 3); `pixels` itself if every pixel is opaque."""
        return self.pixels if self.alpha is None else on_white(self.pixels, self.alpha)

    def srgb(self) -> Pixels:
        """The same in sRGB exactly; `pixels` itself if they are that and opaque."""
        composed = self.on_white()
        if self.profile is None or colour_profile.kind_of(self.profile) is Kind.SAME:
            return composed
        converted = composed.copy() if composed is self.pixels else composed
        colour_profile.to_srgb(converted, self.profile)
        return converted

    def notes_in(self, form: Format | None) -> list[str]:
        """`notes`, and what a picture of this one loses in a format; None: it is drawn anew, without transparency."""
        kept = self.alpha is None or form in {"png", "webp"}
        return [*self.notes, *([] if kept else ["What is transparent in the photo is white in the picture."])]

    def copy(self) -> "Picture":
        """The picture with pixels of its own."""
        return replace(self, pixels=self.pixels.copy(), alpha=None if self.alpha is None else self.alpha.copy())


def decode(data: bytes, limits: Limits, *, at_least: int | None = None) -> Pixels:
    """Upright sRGB on white, (H, W, 3) uint8, C order, writable; the first frame of an animation.

    With `at_least`, a JPEG may be decoded at a reduced size whose longer side is at least this. Raises what `look`
    raises, and BadImageError for a truncated file.
    """
    return decode_picture(data, limits, at_least=at_least).srgb()


def decode_picture(data: bytes, limits: Limits, *, at_least: int | None = None) -> Picture:
    """The same with transparency and colour profile kept separately, for `encode_picture`; colours are near sRGB."""
    source = _Source(data, limits)
    pixels, alpha = source.pixels(at_least)
    return Picture(
        source.info,
        pixels,
        alpha,
        source.colours.kept,
        source.subsampling,
        source.density,
        source.lossless,
        source.notes,
    )


def encode_picture(picture: Picture, format: Format | None = None, *, quality: int = JPEG_QUALITY) -> bytes:  # noqa: A002
    """The picture as a file: format, transparency, colours, density and kind of compression as its source."""
    target = format or picture.info.output_format
    return encode(
        picture.on_white() if target == "jpeg" else picture.pixels,
        target,
        quality=quality,
        alpha=None if target == "jpeg" else picture.alpha,
        profile=picture.profile,
        subsampling=picture.subsampling,
        density=picture.density,
        lossless=picture.lossless,
    )


def within(image: Pixels, side: int) -> Pixels:
    """The picture, made smaller if its longer side has more than `side` pixels."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


_PILLOW = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}


@contextmanager
def broken_is_bad() -> Iterator[None]:
    """Turn everything that a codec raises for a broken file into BadImageError; MemoryError if memory ran out."""
    try:
        yield
    except LimnerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise BadImageError from error


def open_pillow(media_type: str, data: bytes) -> ImageFile.ImageFile:
    """The file as Pillow opens it, by this type's codec alone. BadImageError for HEIC, which Pillow cannot read."""
    if media_type not in _PILLOW:
        raise BadImageError
    if media_type == "image/avif":
        from PIL import AvifImagePlugin  # most pictures are not AVIF

        # A worker is one thread, as for the models; each more takes memory, and libheif ends the process without it.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    opened = Image.open(io.BytesIO(data), formats=[_PILLOW[media_type]])
    if media_type == "image/tiff":
        wide_samples.set_byte_order(opened)
    return opened


class _Source:
    """A picture's file whose structure was checked, and the ways to decode it."""

    subsampling = "444"
    image: Any = None
    heif: Any = None

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.media_type, structure = inspect(data, limits)
        self.info = described(self.media_type, structure)
        self.orientation = structure.orientation
        self.data = structure.for_codec(data)
        profile: object = None if structure.profile is None else data[structure.profile]
        if isinstance(profile, bytes) and structure.deflated:
            profile = picture_colours.inflated(profile)
        mode = "RGB"
        size = (structure.width, structure.height)
        with broken_is_bad():
            if self.media_type == "image/heic":
                import pi_heif  # type: ignore[import-untyped]  # most pictures are not HEIC

                pi_heif.options.DECODE_THREADS = 1
                self.heif = pi_heif.open_heif(self.data)  # libheif turns the picture itself
                size, mode, profile = self.heif.size, self.heif.mode, self.heif.info.get("icc_profile")
            elif self.media_type != "image/webp":
                # Pillow takes a JPEG without its end marker for cut short, which is right where it decides.
                self.image = open_pillow(self.media_type, data if self.media_type == "image/jpeg" else self.data)
                size, mode = self.image.size, self.image.mode
                profile = profile or self.image.info.get("icc_profile")
            self.colours = picture_colours.told(structure, profile or None, mode)
            if sorted(size) != sorted((structure.width, structure.height)):
                raise BadImageError("The picture has another size than its file says.")

        self.density = structure.density
        if structure.density is not None and structure.orientation > 4:
            self.density = (structure.density[1], structure.density[0])
        self.lossless = structure.lossless
        told = (self.colours.note, _bits_note(structure.bits), _frames_note(structure.frames))
        self.notes = tuple(note for note in told if note)

    def pixels(self, at_least: int | None) -> tuple[Pixels, Pixels | None]:
        """Upright RGB (H, W, 3), and alpha (H, W) or None if every pixel is opaque."""
        with broken_is_bad():
            if self.media_type == "image/jpeg":
                rgb, alpha = self._jpeg(at_least), None
            elif self.media_type == "image/webp":
                rgb, alpha = _webp(self.data)
            elif self.media_type == "image/heic":
                rgb, alpha = self._heic()
            else:
                keyed = None
                if self.media_type == "image/png":
                    keyed = wide_samples.png_alpha(self.image, lambda: open_pillow(self.media_type, self.data))
                self.image.load()
                if self.media_type == "image/tiff":
                    # Pillow applies the orientation while loading a TIFF, but not for other formats.
                    self.orientation = 1
                # The codec of AVIF keeps the picture as it decoded it, and the bytes that it gave.
                for name in ("fp", "_decoder"):
                    setattr(self.image, name, None)
                if wide_samples.is_wide(self.image):
                    (rgb, note), alpha = wide_samples.eight_bit(self.image), keyed
                    self.notes += () if note is None else (note,)
                else:
                    rgb, alpha = _split(self.image, self.colours.cmyk)
                    alpha = alpha if keyed is None else keyed
                    if self.media_type == "image/bmp" and alpha is not None and not alpha.any():
                        alpha = None  # many programs leave it empty, and browsers show such a picture
            self.image = self.heif = None  # their memory is needed to turn the picture
            self.colours.apply(rgb)
            rgb = _upright(rgb, self.orientation)
            if at_least is None and rgb.shape[:2] != (self.info.height, self.info.width):
                raise BadImageError("The picture has another size than its file says.")
            return rgb, None if alpha is None else _upright(alpha, self.orientation)

    def _heic(self) -> tuple[Pixels, Pixels | None]:
        """RGB and alpha from libheif's own memory: Pillow would make a copy between."""
        if self.heif.mode != "RGB":
            return _split(self.heif.to_pillow())
        return np.array(self.heif, np.uint8), None

    def _jpeg(self, at_least: int | None) -> Pixels:
        size = max(self.info.width, self.info.height)
        shrink = at_least is not None and size >= 2 * at_least
        try:
            *_, colours, subsampling = simplejpeg.decode_jpeg_header(self.data)
            if subsampling in {"422", "420", "440", "411"}:
                self.subsampling = subsampling
            if colours not in {"CMYK", "YCCK"}:
                landscape = self.image.width >= self.image.height
                return np.asarray(
                    simplejpeg.decode_jpeg(
                        self.data,
                        "RGB",
                        min_width=at_least if shrink and landscape else 0,
                        min_height=at_least if shrink and not landscape else 0,
                        min_factor=2 if shrink else 1,
                    )
                )
        except ValueError:
            # libjpeg found an error. Pillow accepts the errors that browsers accept, and refuses truncated files.
            pass
        if shrink and at_least is not None:
            self.image.draft("RGB", (at_least, at_least))
        self.image.load()
        return _split(self.image, self.colours.cmyk)[0]


def _bits_note(bits: int) -> str | None:
    return f"The photo has {bits} bits per channel; what is made from it has 8." if bits > 8 else None


def _frames_note(frames: int) -> str | None:
    return f"The photo has {frames:,} frames or pages; only the first is used." if frames > 1 else None


def _webp(data: bytes) -> tuple[Pixels, Pixels | None]:
    """RGB and alpha of a still WebP, by OpenCV: Pillow decodes each as an animation, in twice the memory."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint8 or found.ndim != 3:
        raise BadImageError
    if found.shape[2] == 3:
        return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB, dst=found), np.uint8), None
    alpha = np.asarray(cv2.extractChannel(found, 3), np.uint8)
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGRA2RGB), np.uint8), None if alpha.min() == 255 else alpha


_UPRIGHT: dict[int, Callable[[Pixels], npt.ArrayLike]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}  # EXIF 2.32, tag 0x112


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    return pixels if orientation == 1 else np.asarray(_UPRIGHT[orientation](pixels), np.uint8)


def _split(image: Image.Image, cmyk: bytes | None = None) -> tuple[Pixels, Pixels | None]:
    """A Pillow image of any mode as RGB (H, W, 3) and alpha (H, W), or None if every pixel is opaque.

    `cmyk` is the usable profile of an image of that mode.
    """
    if image.mode in {"LAB", "HSV"}:
        raise UnsupportedMediaError(f"Pictures in the colour space {image.mode} are not accepted. Convert it to RGB.")
    transparent = image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info
    mode = "RGBA" if transparent else "RGB"
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if transparent else None
    for top in range(0, height, _ROWS):
        strip = image.crop((0, top, width, min(top + _ROWS, height)))
        strip.info = image.info  # it holds the transparent colour of a palette or grey picture
        if cmyk is not None:
            strip = colour_profile.strip_to_srgb(strip, cmyk)
        if strip.mode == "La":
            strip = strip.convert("LA")  # Pillow knows no shorter way
        rows = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        if alpha is None:
            pixels[top : top + _ROWS] = rows
        else:
            cv2.cvtColor(rows, cv2.COLOR_RGBA2RGB, dst=pixels[top : top + _ROWS])
            cv2.extractChannel(rows, 3, dst=alpha[top : top + _ROWS])
    return pixels, None if alpha is None or alpha.min() == 255 else alpha


def on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """RGB (H, W, 3) with alpha (H, W), laid on white."""
    out = np.empty_like(pixels)
    for top in range(0, len(pixels), _ROWS):
        rows = slice(top, top + _ROWS)
        weight = cv2.cvtColor(alpha[rows], cv2.COLOR_GRAY2RGB)
        dark = cv2.multiply(cv2.bitwise_not(pixels[rows]), weight, scale=1 / 255)
        cv2.bitwise_not(dark, dst=out[rows])
    return out
