"""ICC profiles: what is kept of one, what is refused, and that none costs much or ends a process."""

import io
import struct
import time
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.vision import code_points, colour_profile, icc, image
from limner.vision.colour_profile import Kind
from limner.vision.header import Limits
from limner.vision.structure.reading import Calibration, CodePoints
from tests.hostile.pictures import saved
from tests.vision import coloured
from tests.vision.coloured import ADOBE, P3, PROPHOTO, SWAPPED, profile, tagged, tags_of

LIMITS = Limits()
MAX_SECONDS = 30.0  # a busy machine's; the slowest takes half a second
IGNORED = "cannot be used"


@pytest.mark.parametrize(
    ("colours", "kind"),
    [
        (P3, Kind.NEAR),
        (ADOBE, Kind.NEAR),
        (PROPHOTO, Kind.FAR),
        (SWAPPED, Kind.FAR),
        (CodePoints(1, 8), Kind.FAR),
        (CodePoints(1, 4), Kind.NEAR),
    ],
)
def test_how_far_a_profile_is_from_srgb(colours: CodePoints | Calibration, kind: Kind) -> None:
    assert colour_profile.usable(profile(colours)) == profile(colours)
    assert colour_profile.kind_of(profile(colours)) is kind


def test_srgb_itself_changes_nothing() -> None:
    own = code_points.profile_of(CodePoints(1, 13))
    assert own is None
    described = icc.matrix_profile(
        icc.to_xyz(code_points.PRIMARIES[1]), [(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)] * 3
    )
    assert colour_profile.kind_of(described) is Kind.SAME
    picture = image.decode_picture(saved(Image.fromarray(coloured.portrait()), "PNG", icc_profile=described), LIMITS)
    assert picture.profile == described
    assert picture.srgb() is picture.pixels  # nothing is converted or copied


def test_private_tags_and_what_lies_between_tags_do_not_leave_with_a_picture() -> None:
    clean = profile(P3)
    secret = b"a face, uncovered"
    full = tagged(clean, {**tags_of(clean), b"priv": secret * 100}) + secret
    picture = image.decode_picture(saved(Image.fromarray(coloured.portrait()), "JPEG", icc_profile=full), LIMITS)
    assert picture.profile is not None
    assert tags_of(picture.profile) == tags_of(clean)
    assert secret not in image.encode_picture(picture)


def _calculator(elements: int) -> bytes:
    """A tag of a profile that multiplies each colour by so many matrices, which are all the same bytes."""
    matrix = b"matf" + struct.pack(">4xHH12f", 3, 3, *([1, 0, 0, 0, 1, 0, 0, 0, 1] + [0] * 3))
    places = struct.pack(">II", 16 + 8 * elements, len(matrix)) * elements
    return b"mpet" + struct.pack(">4xHHI", 3, 3, elements) + places + matrix


def _large_curve() -> bytes:
    return b"curv" + struct.pack(">4xI", 1_900_000) + np.linspace(0, 65535, 1_900_000).astype(">u2").tobytes()


HOSTILE: dict[str, bytes] = {
    "rubbish": b"\0" * 5000,
    "cut off": profile(P3)[:200],
    "100,000 matrices": tagged(profile(P3), {**tags_of(profile(P3)), b"D2B0": _calculator(100_000)}),
    "100,000 matrices as a table": tagged(profile(P3), {**tags_of(profile(P3)), b"A2B0": _calculator(100_000)}),
    "a curve of a million steps": tagged(profile(P3), {**tags_of(profile(P3)), b"rTRC": _large_curve()}),
    "more tags than bytes": profile(P3)[:128] + struct.pack(">I", 2**32 - 1) + profile(P3)[132:],
    "a tag outside": profile(P3)[:136] + b"\xff" + profile(P3)[137:],
    "five megabytes": profile(P3) + bytes(5_000_000),
    "a device link": profile(P3)[:12] + b"link" + profile(P3)[16:],
    "no colours at all": profile(P3)[:16] + b"15CL" + profile(P3)[20:],
    "HDR in colours that are not known": tagged(
        profile(P3), {**tags_of(profile(P3)), b"cicp": b"cicp" + bytes([0, 0, 0, 0, 2, 16, 0, 1])}
    ),
    "zero primaries": tagged(
        profile(P3), {**tags_of(profile(P3)), **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ"), b"XYZ " + bytes(16))}
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_hostile_profile_costs_little_and_breaks_nothing(what: str, kind: str) -> None:
    if kind == "JPEG" and len(HOSTILE[what]) > 255 * 65_519:
        pytest.skip("no JPEG can hold it")
    photo = Image.fromarray(coloured.portrait(64))
    data = saved(photo, kind, icc_profile=HOSTILE[what])
    started = time.perf_counter()
    picture = image.decode_picture(data, LIMITS)
    out = image.encode_picture(picture)
    assert time.perf_counter() - started < MAX_SECONDS
    assert picture.pixels.shape == (64, 64, 3)
    assert len(out) < icc.MAX_KEPT_BYTES + 100_000
    if picture.profile is None:
        assert picture.notes
    else:
        assert icc.cleaned(picture.profile) == picture.profile


def test_a_profile_that_cannot_be_used_is_told() -> None:
    data = saved(Image.fromarray(coloured.portrait(64)), "JPEG", icc_profile=HOSTILE["cut off"])
    (note,) = image.decode_picture(data, LIMITS).notes
    assert IGNORED in note


def test_a_profile_that_inflates_without_end_is_cut_off() -> None:
    """A gigabyte in a megabyte; it is inflated up to the largest profile that is used."""
    bomb = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
    data = coloured.chunk_of(coloured.portrait(64), (b"iCCP", bomb))
    picture = image.decode_picture(data, LIMITS)
    assert picture.pixels.shape == (64, 64, 3)
    assert IGNORED in picture.notes[0]


def test_megabytes_of_metadata_in_any_chunk_are_read() -> None:
    photo = coloured.portrait(64)
    noise = np.random.default_rng(0).integers(0, 255, 2_500_000, np.uint8).tobytes()
    for kind in (b"iCCP", b"eXIf", b"sPLT", b"tEXt", b"prVt", b"caBX"):
        data = coloured.chunk_of(photo, (kind, b"x\0\0" + noise))
        assert np.array_equal(image.decode(data, LIMITS), photo), kind


@settings(max_examples=150)
@given(
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=10),
    cut=st.floats(0.3, 1),
    press=st.booleans(),
)
@example(changes=[(8, 128)], cut=1.0, press=False)  # a version that littleCMS does not know
def test_changed_profiles_are_used_or_ignored(changes: list[tuple[int, int]], cut: float, press: bool) -> None:
    whole = bytearray(coloured.press() if press else profile(P3))
    for at, value in changes:
        whole[at % len(whole)] = value
    pixels = coloured.portrait(16)
    photo = Image.fromarray(pixels).convert("CMYK") if press else Image.fromarray(pixels)
    data = saved(photo, "JPEG", icc_profile=bytes(whole[: int(len(whole) * cut)]))
    assert image.decode(data, LIMITS).shape == pixels.shape


def test_heic_and_png_with_the_same_code_points_look_alike() -> None:
    pixels = coloured.portrait()
    for points in ((12, 13), (9, 16), (9, 18), (9, 13)):
        out = io.BytesIO()
        options = dict(zip(("color_primaries", "transfer_characteristics"), points, strict=True))
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(
            out, quality=-1, chroma=444, matrix_coefficients=0, full_range_flag=1, save_nclx_profile=True, **options
        )
        heic = image.decode(out.getvalue(), LIMITS).astype(int)
        wanted = image.decode(coloured.chunk_of(pixels, coloured.cicp(*points)), LIMITS)
        assert np.abs(heic - wanted).mean() < 1, points
        assert np.abs(wanted.astype(int) - pixels).mean() > 2
