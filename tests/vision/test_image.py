"""Every format and orientation is decoded upright; a hostile file raises one of three errors and nothing else."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from limner.domain.errors import BadImageError, LimnerError, TooLargeError, UnsupportedMediaError
from limner.vision import header, image
from limner.vision.structure import look, media_type_of

LIMITS = header.Limits()
SMALL = header.Limits(max_bytes=100_000, max_pixels=10_000, max_side=200)
Pixels = npt.NDArray[np.uint8]


def scene(width: int = 48, height: int = 32) -> Pixels:
    """Four quarters of different colours: red and green above blue and white."""
    out = np.zeros((height, width, 3), np.uint8)
    out[: height // 2, : width // 2] = (200, 30, 30)
    out[: height // 2, width // 2 :] = (30, 180, 30)
    out[height // 2 :, : width // 2] = (30, 30, 200)
    out[height // 2 :, width // 2 :] = (240, 240, 240)
    return out


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x112] = orientation
    return block.tobytes()


def stored_for(orientation: int, upright: Pixels) -> Image.Image:
    """The picture as a camera stores it: `orientation` makes it upright."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    picture = Image.fromarray(upright)
    picture.getexif()[0x112] = inverse
    return ImageOps.exif_transpose(picture)


def heic(pixels: Pixels) -> bytes:
    return saved_heif(pillow_heif.from_pillow(Image.fromarray(pixels)))


def saved_heif(file: pillow_heif.HeifFile, **options: object) -> bytes:
    out = io.BytesIO()
    file.save(out, quality=95, **options)
    return out.getvalue()


def assert_like(found: Pixels, wanted: Pixels, tolerance: int = 24) -> None:
    """Same size, and the same colours away from the edges between quarters."""
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    height, width = wanted.shape[:2]
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            assert np.abs(found[y, x].astype(int) - wanted[y, x]).max() <= tolerance, (y, x)


FORMATS: dict[str, Callable[[Pixels], bytes]] = {
    "image/jpeg": lambda pixels: saved(Image.fromarray(pixels), "JPEG", quality=95),
    "image/png": lambda pixels: saved(Image.fromarray(pixels), "PNG"),
    "image/webp": lambda pixels: saved(Image.fromarray(pixels), "WEBP", quality=95),
    "image/gif": lambda pixels: saved(Image.fromarray(pixels), "GIF"),
    "image/bmp": lambda pixels: saved(Image.fromarray(pixels), "BMP"),
    "image/tiff": lambda pixels: saved(Image.fromarray(pixels), "TIFF", compression="tiff_lzw"),
    "image/avif": lambda pixels: saved(Image.fromarray(pixels), "AVIF", quality=95),
    "image/heic": heic,
}


@pytest.mark.parametrize("media_type", FORMATS)
def test_every_format_is_detected_by_its_content(media_type: str) -> None:
    data = FORMATS[media_type](scene())
    assert look(data, LIMITS) == header.ImageInfo(media_type, 48, 32)
    assert_like(image.decode(data, LIMITS), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_decoded_upright(kind: str, orientation: int) -> None:
    options: dict[str, object] = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}.get(
        kind, {}
    )
    data = saved(stored_for(orientation, scene()), kind, exif=exif(orientation), **options)
    info = look(data, LIMITS)
    assert (info.width, info.height) == (48, 32)
    assert_like(image.decode(data, LIMITS), scene())
    assert_like(image.decode_picture(data, LIMITS).pixels, scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_shrunk_jpeg_is_upright_too(orientation: int) -> None:
    data = saved(stored_for(orientation, scene(480, 320)), "JPEG", quality=95, exif=exif(orientation))
    found = image.decode(data, LIMITS, at_least=100)
    assert 100 <= max(found.shape) < 240
    assert found.shape[1] > found.shape[0]
    assert_like(found, scene(found.shape[1], found.shape[0]))


def test_an_uncompressed_tiff_is_rotated_once() -> None:
    data = saved(stored_for(6, scene()), "TIFF", tiffinfo={0x112: 6})
    assert look(data, LIMITS).width == 48
    assert_like(image.decode(data, LIMITS), scene())


def test_heic_is_rotated_by_its_container_only() -> None:
    data = saved_heif(pillow_heif.from_pillow(stored_for(6, scene())), exif=exif(6))
    info = look(data, LIMITS)
    found = image.decode(data, LIMITS)
    assert found.shape[:2] == (info.height, info.width)


def test_wide_and_high_limits_are_of_the_upright_picture() -> None:
    data = saved(Image.fromarray(scene(300, 20)), "JPEG", exif=exif(6))
    assert look(data, LIMITS) == header.ImageInfo("image/jpeg", 20, 300)
    with pytest.raises(TooLargeError):
        look(data, SMALL)


class TestModes:
    """How pixels can be stored."""

    def test_grey(self) -> None:
        grey = Image.fromarray(scene()).convert("L")
        for kind in ("JPEG", "PNG", "TIFF", "GIF", "BMP"):
            found = image.decode(saved(grey, kind), LIMITS)
            assert np.abs(found.astype(int) - np.asarray(grey)[:, :, None]).max() < 24

    def test_sixteen_bits_are_scaled_not_clipped(self) -> None:
        ramp = np.linspace(0, 65535, 64 * 8).reshape(8, 64).astype(np.uint16)
        for kind in ("PNG", "TIFF"):
            found = image.decode(saved(Image.fromarray(ramp), kind), LIMITS)
            assert np.abs(found[:, :, 0].astype(int) - ramp // 257).max() <= 1

    def test_sixteen_bit_colour_png(self) -> None:
        wide = scene().astype(">u2") * 257
        rows = b"".join(b"\0" + row.tobytes() for row in wide)
        data = png([(b"IHDR", struct.pack(">IIBBBBB", 48, 32, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))])
        assert_like(image.decode(data, LIMITS), scene(), tolerance=1)

    def test_one_bit(self) -> None:
        bits = Image.fromarray((np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)).convert("1")
        for kind in ("PNG", "TIFF", "BMP"):
            assert np.array_equal(image.decode(saved(bits, kind), LIMITS)[:, :, 0], np.asarray(bits.convert("L")))

    def test_floats(self) -> None:
        ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
        found = image.decode(saved(Image.fromarray(ramp), "TIFF"), LIMITS)
        assert np.abs(found[:, :, 0].ravel().astype(int) - np.arange(256)).max() <= 1
        ramp[0, 0] = np.nan
        assert image.decode(saved(Image.fromarray(ramp * 1000), "TIFF"), LIMITS).max() == 255

    def test_thirty_two_bits(self) -> None:
        ramp = np.arange(256, dtype=np.int32).reshape(16, 16) * 100_000
        found = image.decode(saved(Image.fromarray(ramp), "TIFF"), LIMITS)
        assert np.array_equal(found[:, :, 0].ravel(), np.arange(256))

    def test_transparency_is_white(self) -> None:
        alpha = np.full((32, 48), 255, np.uint8)
        alpha[:16, :24] = 0
        picture = Image.fromarray(np.dstack([scene(), alpha]))
        wanted = scene()
        wanted[:16, :24] = 255
        for kind in ("PNG", "WEBP", "TIFF"):
            assert_like(image.decode(saved(picture, kind), LIMITS), wanted)
        assert_like(
            image.decode(saved(picture.convert("LA"), "PNG"), LIMITS),
            np.asarray(Image.fromarray(wanted).convert("L").convert("RGB")),
        )

    def test_palette_with_transparency(self) -> None:
        picture = Image.fromarray(scene()).convert("P", palette=Image.Palette.ADAPTIVE)
        clear = picture.getpixel((2, 2))
        wanted = scene()
        wanted[:16, :24] = 255
        for kind in ("PNG", "GIF"):
            assert_like(image.decode(saved(picture, kind, transparency=clear), LIMITS), wanted)

    @pytest.mark.parametrize("inverted", [False, True])
    def test_cmyk(self, inverted: bool) -> None:
        picture = Image.fromarray(scene()).convert("CMYK")
        data = saved(picture, "JPEG", quality=95)
        if not inverted:  # Pillow writes as Adobe does; without Adobe's marker nothing is inverted
            at = data.index(b"\xff\xee")
            size = struct.unpack_from(">H", data, at + 2)[0]
            assert image.decode(data[:at] + data[at + 2 + size :], LIMITS).shape == (32, 48, 3)
            return
        assert_like(image.decode(data, LIMITS), np.asarray(picture.convert("RGB")))
        assert_like(image.decode(saved(picture, "TIFF"), LIMITS), np.asarray(picture.convert("RGB")), tolerance=2)

    def test_the_first_frame_of_an_animation(self) -> None:
        frames = [Image.fromarray(scene()), Image.fromarray(255 - scene())]
        for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
            data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
            assert_like(image.decode(data, LIMITS), scene(), tolerance=40)

    def test_progressive_jpeg(self) -> None:
        assert_like(image.decode(saved(Image.fromarray(scene()), "JPEG", progressive=True), LIMITS), scene())


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in [*chunks, (b"IEND", b"")]:
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


class TestHostile:
    """Files with false headers, truncated files and decompression bombs."""

    def test_too_many_bytes(self) -> None:
        with pytest.raises(TooLargeError):
            look(bytes(100_001), SMALL)

    @pytest.mark.parametrize("media_type", FORMATS)
    def test_too_many_pixels_are_refused_by_the_header(self, media_type: str) -> None:
        data = FORMATS[media_type](scene(180, 60))
        with pytest.raises(TooLargeError):
            look(data, SMALL)

    @pytest.mark.parametrize("media_type", FORMATS)
    def test_a_truncated_file_is_broken(self, media_type: str) -> None:
        noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
        data = FORMATS[media_type](noise)
        with pytest.raises(BadImageError):
            image.decode(data[: len(data) * 2 // 3], LIMITS)

    @pytest.mark.parametrize(
        "data", [b"", b"GIF", b"%PDF-1.7", b"<svg/>", b"\0" * 64, b"RIFF1234WAVE", b"BMW is a car"]
    )
    def test_no_picture(self, data: bytes) -> None:
        with pytest.raises(UnsupportedMediaError):
            look(data, LIMITS)

    def test_a_bomb_is_not_decoded(self) -> None:
        rows = zlib.compress(bytes(60_000 * 100), 9)
        start = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        with pytest.raises(TooLargeError):
            look(png([(b"IHDR", start), (b"IDAT", rows)]), LIMITS)

    def test_a_text_that_inflates(self) -> None:
        header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
        text = b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9)
        data = png([(b"IHDR", header), (b"zTXt", text), (b"IDAT", zlib.compress(b"\0\0"))])
        assert image.decode(data, LIMITS).shape == (1, 1, 3)  # texts are kept from the codec

    def test_a_jpeg_of_a_thousand_scans(self) -> None:
        data = saved(Image.fromarray(scene()), "JPEG", progressive=True)
        start = data.rindex(b"\xff\xda")
        scan = data[start:-2]
        with pytest.raises(BadImageError, match="scans"):
            image.decode(data[:start] + scan * 1000 + b"\xff\xd9", LIMITS)

    def test_a_tiff_of_one_huge_tile(self) -> None:
        entries = [(0x100, 4, 64), (0x101, 4, 64), (0x102, 3, 8), (0x103, 3, 5), (0x106, 3, 1), (0x115, 3, 1)]
        entries += [(0x142, 4, 60_000), (0x143, 4, 60_000), (0x144, 4, 8), (0x145, 4, 100)]
        ifd = struct.pack("<H", len(entries))
        for tag, kind, value in entries:
            ifd += struct.pack("<HHII", tag, kind, 1, value)
        with pytest.raises(BadImageError):
            image.decode(b"II*\0" + struct.pack("<I", 8) + ifd + bytes(200), LIMITS)

    def test_a_gif_frame_larger_than_its_screen(self) -> None:
        data = bytearray(saved(Image.fromarray(scene()), "GIF"))
        at = data.index(b",\0\0\0\0")
        data[at + 5 : at + 9] = struct.pack("<HH", 30_000, 30_000)
        with pytest.raises((TooLargeError, BadImageError)):
            image.decode(bytes(data), LIMITS)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_a_broken_exif_block_is_ignored(self) -> None:
        for block in (
            b"Exif\0\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
            b"Exif\0\0" + exif(3)[6:20],
        ):
            data = saved(Image.fromarray(scene()), "JPEG", quality=95, exif=block)
            assert_like(image.decode(data, LIMITS), scene())

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        media_type=st.sampled_from(sorted(FORMATS)),
        cut=st.floats(0, 1),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
        head=st.booleans(),
    )
    def test_mutated_files_raise_nothing_else(
        self, media_type: str, cut: float, changes: list[tuple[float, int]], head: bool
    ) -> None:
        data = bytearray(SAMPLES[media_type])
        for place, value in changes:
            data[int(place * (min(len(data), 120) if head else len(data)))] = value
        if cut > 0.3:
            data = data[: int(len(data) * cut)]
        try:
            info = look(bytes(data), SMALL)
            assert info.width * info.height <= SMALL.max_pixels
            found = image.decode(bytes(data), SMALL)
            assert found.shape == (info.height, info.width, 3)
            image.decode(bytes(data), SMALL, at_least=16)
        except LimnerError:
            pass


SAMPLES = {
    media_type: write(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8))
    for media_type, write in FORMATS.items()
}


class TestEncode:
    """Encoding."""

    def test_like_the_input(self) -> None:
        wanted = {
            "image/gif": "png",
            "image/bmp": "png",
            "image/tiff": "png",
            "image/avif": "jpeg",
            "image/heic": "jpeg",
        }
        for media_type, write in FORMATS.items():
            picture = image.decode_picture(write(scene()), LIMITS)
            out = image.encode_picture(picture)
            assert media_type_of(out) == "image/" + wanted.get(media_type, media_type.removeprefix("image/"))
            assert_like(image.decode(out, LIMITS), scene())

    def test_transparency_is_kept_except_in_jpeg(self) -> None:
        alpha = np.full((32, 48), 255, np.uint8)
        alpha[:16, :24] = 0
        picture = image.decode_picture(saved(Image.fromarray(np.dstack([scene(), alpha])), "PNG"), LIMITS)
        for kind in ("png", "webp"):
            again = image.decode_picture(image.encode_picture(picture, kind), LIMITS)
            assert again.alpha is not None
            assert np.array_equal(again.alpha, alpha)
        assert np.array_equal(again.on_white()[2, 2], [255, 255, 255])
        assert image.decode(image.encode_picture(picture, "jpeg"), LIMITS)[2, 2].min() > 240

    def test_subsampling_is_kept(self) -> None:
        for subsampling in ("420", "422", "444"):
            data = simplejpeg.encode_jpeg(scene(), 90, colorsubsampling=subsampling)
            out = image.encode_picture(image.decode_picture(data, LIMITS))
            assert simplejpeg.decode_jpeg_header(out)[3] == subsampling

    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
    def test_the_colour_profile_is_kept_and_exif_is_removed(self, kind: image.Format) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = saved(Image.fromarray(scene()), kind.upper(), icc_profile=profile, exif=exif(1))
        out = Image.open(io.BytesIO(image.encode_picture(image.decode_picture(data, LIMITS))))
        assert out.info["icc_profile"] == profile
        assert not out.getexif()

    def test_a_large_profile_is_cut_into_segments(self) -> None:
        profile = bytearray(np.random.default_rng(0).integers(0, 255, 150_000, np.uint8).tobytes())
        profile[16:20] = b"RGB "
        out = Image.open(io.BytesIO(image.encode(scene(), "jpeg", profile=bytes(profile))))
        assert out.info["icc_profile"] == bytes(profile)

    @pytest.mark.parametrize("profile", [None, b"\0" * 16 + b"CMYK" + b"\0" * 200])
    def test_cmyk_without_a_usable_profile_is_converted_and_told(self, profile: bytes | None) -> None:
        picture = image.decode_picture(
            saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", icc_profile=profile), LIMITS
        )
        assert picture.profile is None
        assert [note for note in picture.notes if "CMYK" in note and "sRGB" in note] == list(picture.notes) != []

    def test_a_webp_has_its_own_limit(self) -> None:
        with pytest.raises(TooLargeError):
            image.encode(np.zeros((1, 16384, 3), np.uint8), "webp")

    def test_strange_sizes(self) -> None:
        for shape in ((1, 1, 3), (1, 16383, 3), (5000, 1, 3)):
            for kind in ("jpeg", "png", "webp"):
                data = image.encode(np.full(shape, 90, np.uint8), kind)
                assert image.decode(data, LIMITS).shape == shape


DENSITY = (300.0, 150.0)


class TestKept:
    """What a picture made from another keeps beside the pixels, and what it says that it does not."""

    @pytest.mark.parametrize("source", ["JPEG", "JPEG by EXIF", "PNG", "TIFF", "TIFF in centimetres", "WEBP"])
    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
    def test_the_density(self, source: str, kind: image.Format) -> None:
        picture = Image.fromarray(scene())
        block = Image.Exif()
        block[0x11A], block[0x11B], block[0x128] = 300.0, 150.0, 2
        data = {
            "JPEG": lambda: saved(picture, "JPEG", dpi=(300, 150)),
            "JPEG by EXIF": lambda: saved(picture, "JPEG", exif=block.tobytes()),
            "PNG": lambda: saved(picture, "PNG", dpi=DENSITY),
            "TIFF": lambda: saved(picture, "TIFF", dpi=DENSITY),
            "TIFF in centimetres": lambda: saved(picture, "TIFF", tiffinfo={282: 300 / 2.54, 283: 150 / 2.54, 296: 3}),
            "WEBP": lambda: saved(picture, "WEBP", exif=block.tobytes()),
        }[source]()
        found = image.decode_picture(data, LIMITS)
        assert found.density == pytest.approx(DENSITY, rel=0.001)
        again = image.decode_picture(image.encode_picture(found, kind), LIMITS)
        assert again.density == pytest.approx(DENSITY, rel=0.001)

    def test_the_density_is_turned_with_the_picture(self) -> None:
        data = saved(Image.fromarray(scene()), "JPEG", dpi=(300, 150), exif=exif(6))
        assert image.decode_picture(data, LIMITS).density == (150, 300)

    @pytest.mark.parametrize("dpi", [(0, 0), (1, 0)])
    def test_no_density_is_made_up(self, dpi: tuple[int, int]) -> None:
        for kind in ("JPEG", "PNG", "WEBP"):
            assert image.decode_picture(saved(Image.fromarray(scene()), kind, dpi=dpi), LIMITS).density is None
        assert image.decode_picture(FORMATS["image/heic"](scene()), LIMITS).density is None

    def test_a_lossless_webp_stays_so(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        alpha = np.full((64, 64), 255, np.uint8)
        alpha[:8] = 100
        for pixels in (noise, np.dstack([noise, alpha])):
            picture = image.decode_picture(saved(Image.fromarray(pixels), "WEBP", lossless=True), LIMITS)
            again = image.decode_picture(image.encode_picture(picture), LIMITS)
            assert again.info.media_type == "image/webp"
            assert np.array_equal(again.pixels, noise)
            assert again.alpha is None or np.array_equal(again.alpha, alpha)
        lossy = image.decode_picture(saved(Image.fromarray(noise), "WEBP", quality=90), LIMITS)
        assert not np.array_equal(image.decode(image.encode_picture(lossy), LIMITS), lossy.pixels)

    def test_bits_that_are_lost_are_told(self) -> None:
        ramp = Image.fromarray(np.linspace(0, 65535, 512).reshape(8, 64).astype(np.uint16))
        for kind in ("PNG", "TIFF"):
            (note,) = image.decode_picture(saved(ramp, kind), LIMITS).notes
            assert "16 bits" in note
            assert "has 8" in note
        for write in FORMATS.values():
            assert image.decode_picture(write(scene()), LIMITS).notes == ()
