"""HEIC and AVIF: what the container claims is what is coded, and nothing is made of something else."""

import struct
from collections.abc import Callable

import pytest

from limner.domain.errors import BadImageError, LimnerError, TooLargeError, UnsupportedMediaError
from limner.vision import image
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import look
from tests.hostile.pictures import (
    box,
    case,
    container,
    extent,
    full_box,
    grid,
    grid_picture,
    many_layers,
    noise,
    one_picture,
    saved,
    tile,
)

LIMITS = Limits()
BRANDS = [b"heic", b"avif"]


@pytest.mark.parametrize("brand", BRANDS)
def test_golden(brand: bytes) -> None:
    media_type = f"image/{brand.decode()}"
    assert look(one_picture(brand), LIMITS) == ImageInfo(media_type, 64, 64)
    assert look(grid_picture(brand, 2, 3, 128, 190), LIMITS) == ImageInfo(media_type, 128, 190)
    assert image.decode(grid_picture(brand, 2, 3, 128, 190), LIMITS).shape == (190, 128, 3)


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_picture(brand: bytes, quarters: int) -> None:
    code, data = tile(brand)
    kind = b"hvc1" if brand == b"heic" else b"av01"
    turn = box(b"irot", bytes([quarters]))
    items = [(b"grid", [3, 0x84], grid(1, 2, 64, 128)), (kind, [1, 2], data), (kind, [1, 2], data)]
    file = container(brand, items, [code, extent(64, 64), extent(64, 128), turn], [(b"dimg", 1, [2, 3])])
    found = look(file, LIMITS)
    assert (found.width, found.height) == ((128, 64) if quarters % 2 else (64, 128))
    assert image.decode(file, LIMITS).shape[:2] == (found.height, found.width)


def test_a_clean_aperture() -> None:
    crop = box(b"clap", struct.pack(">IIIIiIiI", 33, 1, 49, 1, -31, 2, -15, 2))
    file = one_picture(b"heic", more=[crop])
    found = look(file, LIMITS)
    assert (found.width, found.height) == (33, 49)
    assert image.decode(file, LIMITS).shape[:2] == (49, 33)


@pytest.mark.parametrize(
    "data",
    [case("hostile/pair30.heic"), case("hostile/canvas32767.heic"), many_layers(300)],
    ids=["nested", "canvas", "layers"],
)
def test_overlays_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaError, match="overlays"):
        look(data, LIMITS)


@pytest.mark.parametrize("brand", BRANDS)
def test_sizes_that_are_not_coded(brand: bytes) -> None:
    for claimed in ((63, 64), (65, 64), (4000, 4000), (64, 16_000)):
        with pytest.raises(BadImageError, match="size"):
            look(one_picture(brand, claimed), LIMITS)
    with pytest.raises(TooLargeError):
        look(one_picture(brand, (20_000, 64)), LIMITS)
    with pytest.raises(BadImageError):
        look(case("hostile/ispelie16384.avif"), LIMITS)


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize(
    ("columns", "rows", "width", "height", "tiles"),
    [(2, 2, 4000, 4000, None), (2, 2, 64, 128, None), (2, 2, 128, 128, 3), (256, 256, 16_384, 3000, 1)],
)
def test_grids_that_lie(brand: bytes, columns: int, rows: int, width: int, height: int, tiles: int | None) -> None:
    with pytest.raises(BadImageError):
        look(grid_picture(brand, columns, rows, width, height, tiles), LIMITS)


def test_a_grid_of_grids() -> None:
    code, data = tile()
    items = [(b"grid", [2], grid(1, 1, 64, 64)), (b"grid", [2], grid(1, 1, 64, 64)), (b"hvc1", [1, 2], data)]
    file = container(b"heic", items, [code, extent(64, 64)], [(b"dimg", 1, [2]), (b"dimg", 2, [3])])
    with pytest.raises(UnsupportedMediaError, match="grid of grids"):
        look(file, LIMITS)


def test_an_item_of_several_pictures() -> None:
    code, data = tile()
    with pytest.raises(BadImageError, match="not one picture"):
        look(container(b"heic", [(b"hvc1", [1, 2], data * 2)], [code, extent(64, 64)]), LIMITS)
    code, data = tile(b"avif")
    with pytest.raises(BadImageError, match="not one picture"):
        look(container(b"avif", [(b"av01", [1, 2], data * 20)], [code, extent(64, 64)]), LIMITS)


def test_other_codes_are_named() -> None:
    with pytest.raises(UnsupportedMediaError, match="j2k1"):
        look(container(b"heic", [(b"j2k1", [1], b"data")], [extent(64, 64)]), LIMITS)


def test_a_film_without_a_still() -> None:
    with pytest.raises(UnsupportedMediaError, match="animation"):
        look(box(b"ftyp", b"avis" + bytes(4) + b"avis") + box(b"moov", b""), LIMITS)


def test_an_animations_still_is_decoded_alone() -> None:
    frames = [noise(64, 48), noise(64, 48).rotate(180)]
    data = saved(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert look(data, LIMITS) == ImageInfo("image/avif", 64, 48, 2)
    assert image.decode(data, LIMITS).shape == (48, 64, 3)


@pytest.mark.parametrize("brand", BRANDS)
def test_every_cut_is_an_error_of_ours(brand: bytes) -> None:
    file = grid_picture(brand, 2, 1, 128, 64)
    for end in range(0, len(file) - 1, 7):
        with pytest.raises(LimnerError):
            look(file[:end], LIMITS)


def test_a_property_twice() -> None:
    for more in (extent(64, 64), extent(32, 32), tile()[0]):
        with pytest.raises(BadImageError, match="twice"):
            look(one_picture(b"heic", more=[more]), LIMITS)


def test_a_box_twice() -> None:
    file = one_picture(b"heic")
    at = file.index(b"meta") - 4
    meta = file[at : at + int.from_bytes(file[at : at + 4])]
    with pytest.raises(BadImageError, match="twice"):
        look(file + meta, LIMITS)
    with pytest.raises(BadImageError):
        look(file.replace(full_box(b"iref", b""), full_box(b"pitm", b"\0\1")), LIMITS)


MANY = 50


def _with_metadata(brand: bytes, images: int, size: int) -> bytes:
    """Pictures that all have the same metadata."""
    code, data = tile(brand)
    items = [*[(b"hvc1" if brand == b"heic" else b"av01", [1, 2], data)] * images, (b"Exif", [], bytes(size))]
    return container(brand, items, [code, extent(64, 64)], [(b"cdsc", images + 1, range(1, images + 1))])


def _with_profile(brand: bytes, images: int, size: int) -> bytes:
    """Pictures that all have the same colour profile."""
    code, data = tile(brand)
    profile = box(b"colr", b"prof" + bytes(size))
    items = [(b"hvc1" if brand == b"heic" else b"av01", [1, 2, 3], data)] * images
    return container(brand, items, [code, extent(64, 64), profile])


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("make", [_with_metadata, _with_profile])
def test_what_pictures_share_is_bounded(brand: bytes, make: Callable[[bytes, int, int], bytes]) -> None:
    """libheif copies it for each picture: 18 MB for 900 pictures took all memory of a worker, for 215 s."""
    assert look(make(brand, MANY, 100_000), LIMITS).width == 64
    with pytest.raises(BadImageError, match="overlap"):
        look(make(brand, MANY, 1_000_000), LIMITS)


def test_metadata_that_overlap_are_bounded() -> None:
    code, data = tile()
    file = bytearray(
        container(
            b"heic",
            [(b"hvc1", [1, 2], data), *[(b"Exif", [], b"")] * MANY],
            [code, extent(64, 64)],
            [(b"cdsc", number, [1]) for number in range(2, 2 + MANY)],
        )
    )
    assert look(bytes(file), LIMITS).width == 64
    rest = bytes(1_000_000)
    for number in range(2, 2 + MANY):
        at = file.index(b"iloc") + 12 + 14 * (number - 1) + 6  # offset and length of an item
        struct.pack_into(">II", file, at, 0, len(file) + len(rest))
    with pytest.raises(BadImageError, match="overlap"):
        look(bytes(file) + rest, LIMITS)
