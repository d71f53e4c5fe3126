"""Label maps are read exactly as they are stored, or refused with the reason."""

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.domain.errors import InvalidRequestError
from limner.vision import labels
from limner.vision.header import Limits
from tests.hostile.pictures import case
from tests.vision import synthetic
from tests.vision.tiffs import DEFLATE, LZW, NONE, SIGNED, UNSIGNED, Kind, tiff

Mask = npt.NDArray[np.uint8]


def saved(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def drawn() -> Mask:
    return synthetic.label_map(pixels=300)


@pytest.mark.parametrize("name", ["map_16bit_grey.png", "map_4bit_grey.png", "map_grey_alpha.png"])
def test_grey_of_any_depth_is_read_exactly(name: str) -> None:
    reference = labels.decode(case("map_grey.png"), Limits())
    assert np.unique(reference).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10]
    assert np.array_equal(labels.decode(case(name), Limits()), reference)


def test_one_and_two_bits() -> None:
    assert np.unique(labels.decode(case("map_1bit.png"), Limits())).tolist() == [0, 1]
    values = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((40, 40), np.uint8))
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 6:].reshape(80, -1), axis=1)
    data = saved(Image.frombytes("L", (80, 80), values.tobytes()))

    # Pillow writes no two bits of grey: its file with the header and rows of one.
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", 80, 80, 2, 0, 0, 0, 0)
    two_bits = data[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(labels.decode(two_bits, Limits()), values)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_files_are_read_exactly(drawn: Mask, file_format: str, options: dict[str, Any]) -> None:
    picture = Image.fromarray(drawn)
    if file_format == "WEBP":
        picture = picture.convert("RGB")
    assert np.array_equal(labels.decode(saved(picture, file_format, **options), Limits()), drawn)
    wide = Image.fromarray(drawn.astype(np.uint16))
    if file_format in {"PNG", "TIFF"}:
        assert np.array_equal(labels.decode(saved(wide, file_format, **options), Limits()), drawn)


@pytest.mark.parametrize(("bits", "form"), [(2, UNSIGNED), (4, UNSIGNED), (8, UNSIGNED), (16, UNSIGNED), (16, SIGNED),
                                            (32, SIGNED)])  # fmt: skip
def test_numbers_in_a_tiff_are_read_exactly_in_both_byte_orders(bits: int, form: int) -> None:
    values = np.kron(np.array([[0, 1], [2, 3]], np.uint8), np.ones((20, 21), np.uint8))
    shares = (values[..., None].astype(float) + (2 ** (bits - 1) if form == SIGNED else 0)) / (2**bits - 1)
    for order, compression, planar, tiled in itertools.product(
        "<>", (NONE, LZW, DEFLATE), (False, True), (False, True)
    ):
        kind = Kind(bits, form, order, compression, planar=planar, tiled=tiled)
        assert np.array_equal(labels.decode(tiff(kind, shares), Limits()), values), kind


def test_a_palette_is_read_only_if_its_indices_are_meant(drawn: Mask) -> None:
    for name in ("map_optimised_palette.png", "map_optimised_palette_by_frequency.png"):
        with pytest.raises(InvalidRequestError, match=r"palette.*`indices`"):
            labels.decode(case(name), Limits())
    colourful = Image.fromarray(drawn, "P")
    colourful.putpalette([(number * 37) % 256 for number in range(768)])
    with pytest.raises(InvalidRequestError, match="palette"):
        labels.decode(saved(colourful), Limits())
    assert np.array_equal(labels.decode(saved(colourful), Limits(), "indices"), drawn)
    plain = Image.fromarray(drawn, "P")
    plain.putpalette([number // 3 for number in range(768)])
    assert np.array_equal(labels.decode(saved(plain), Limits()), drawn), "indices and greys are the same"
    with pytest.raises(InvalidRequestError, match="no palette"):
        labels.decode(case("map_grey.png"), Limits(), "indices")


def test_hidden_pixels_are_background_and_soft_edges_are_refused(drawn: Mask) -> None:
    alpha = np.full_like(drawn, 255)
    alpha[:150] = 0
    data = saved(Image.fromarray(np.dstack([drawn, alpha]), "LA"))
    found = labels.decode(data, Limits())
    assert not found[:150].any()
    assert np.array_equal(found[150:], drawn[150:])
    alpha[150:160] = 128
    with pytest.raises(InvalidRequestError, match="transparent"):
        labels.decode(saved(Image.fromarray(np.dstack([drawn, alpha]), "LA")), Limits())


@pytest.mark.parametrize(
    ("file_format", "options", "said"),
    [("JPEG", {"quality": 100}, "JPEG"), ("WEBP", {"quality": 100}, "lossy WebP"), ("AVIF", {"quality": 100}, "AVIF")],
)
def test_lossy_files_are_refused(drawn: Mask, file_format: str, options: dict[str, Any], said: str) -> None:
    data = saved(Image.fromarray(drawn).convert("RGB"), file_format, **options)
    with pytest.raises(InvalidRequestError, match=f"{said} changes labels"):
        labels.decode(data, Limits())


def test_maps_of_the_cases_that_lost_their_labels() -> None:
    for name in ("map_jpeg_q95.jpg", "map_resized_bilinear.png", "map_broken.avif"):
        with pytest.raises(InvalidRequestError):
            labels.decode(case(name), Limits())


@pytest.mark.parametrize("side", [120, 260, 700, 1500])
@pytest.mark.parametrize(
    "how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS], ids=lambda how: how.name
)
def test_interpolated_maps_are_refused(drawn: Mask, side: int, how: Image.Resampling) -> None:
    with pytest.raises(InvalidRequestError, match="nearest neighbour"):
        labels.decode(saved(Image.fromarray(drawn).resize((side, side), how)), Limits())
    plain = Image.fromarray(drawn).resize((side, side), Image.Resampling.NEAREST)
    assert np.array_equal(labels.decode(saved(plain), Limits()), np.asarray(plain))


@pytest.mark.parametrize("quality", [50, 90, 100])
def test_maps_that_were_jpeg_once_are_refused(drawn: Mask, quality: int) -> None:
    was_jpeg = Image.open(io.BytesIO(saved(Image.fromarray(drawn), "JPEG", quality=quality)))
    with pytest.raises(InvalidRequestError, match="mixed"):
        labels.decode(saved(was_jpeg), Limits())


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.fromarray(np.full((20, 20), 300, np.uint16)), "outside 0 to 255"),
        (Image.fromarray(np.full((20, 20, 3), (1, 2, 3), np.uint8)), "colours"),
        (Image.fromarray(np.full((20, 20), 0.5, np.float32)), "grey"),
    ],
)
def test_what_is_no_label_picture_says_why(picture: Image.Image, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        labels.decode(saved(picture, "TIFF"), Limits())


def test_every_cut_of_a_file_is_read_or_refused() -> None:
    for name in ("map_grey.png", "map_broken.avif", "map_16bit_grey.png"):
        data = case(name)
        for length in range(0, len(data), 41):
            try:
                labels.decode(data[:length], Limits())
            except InvalidRequestError:
                continue
