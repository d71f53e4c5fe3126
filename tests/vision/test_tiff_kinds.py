"""Each kind of pixels that a TIFF can have is read right, or refused by a name; none gives wrong pixels in silence."""

import dataclasses
import itertools

import numpy as np
import pytest

from limner.domain.errors import UnsupportedMediaError
from limner.vision import image
from limner.vision.header import Limits
from tests.vision.tiffs import (
    ASSOCIATED,
    BLACK_IS_0,
    CHANNELS,
    CMYK,
    DEFLATE,
    FLOAT,
    IGNORED,
    LZW,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    SIGNED,
    UNASSOCIATED,
    UNSIGNED,
    WHITE_IS_0,
    YCBCR,
    Kind,
    on_white,
    picture,
    tiff,
)

SAMPLES = [
    *((bits, UNSIGNED) for bits in (1, 2, 4, 8, 12, 16, 24, 32, 64)),
    *((bits, SIGNED) for bits in (8, 16, 32, 64)),
    *((bits, FLOAT) for bits in (16, 32, 64)),
]
READ = {
    *((bits, UNSIGNED, space) for bits in (1, 2, 4, 8) for space in (WHITE_IS_0, BLACK_IS_0, PALETTE)),
    *((bits, UNSIGNED, space) for bits in (8, 16) for space in (RGB, CMYK)),
    (8, UNSIGNED, YCBCR),
    *((16, form, BLACK_IS_0) for form in (UNSIGNED, SIGNED)),
    *((32, form, BLACK_IS_0) for form in (SIGNED, FLOAT)),
}  # with any compression (YCbCr: not without), in both byte orders, with a pixel's channels together
EXTRAS = {
    *((8, space, extra) for space in (BLACK_IS_0, RGB) for extra in (IGNORED, ASSOCIATED, UNASSOCIATED)),
    *((16, RGB, extra) for extra in (IGNORED, ASSOCIATED, UNASSOCIATED)),
    *((8, PALETTE, extra) for extra in (IGNORED, UNASSOCIATED)),
    (8, CMYK, IGNORED),
}


def is_read(kind: Kind) -> bool:
    """Whether a TIFF of this kind is read. Fails if it shows something else, or counts as damaged."""
    values = picture(kind)
    data = tiff(kind, values)
    try:
        found = image.decode_picture(data, Limits())
    except UnsupportedMediaError:
        return False
    off = np.abs(found.on_white() - on_white(kind, values))
    assert off.mean() < 1.5, kind
    assert off.max() < 8, kind
    return True


@pytest.mark.parametrize(("bits", "form"), SAMPLES)
def test_samples_in_every_order_and_compression(bits: int, form: int) -> None:
    for order, compression, space, planar, extra in itertools.product(
        "<>", (NONE, LZW, DEFLATE, PACKBITS), CHANNELS, (False, True), (None, IGNORED, ASSOCIATED, UNASSOCIATED)
    ):
        kind = Kind(bits, form, order, compression, space, planar, extra)
        read = is_read(kind)
        if not planar:
            is_known = (bits, form, space) in READ and (space != YCBCR or compression != NONE)
            assert read == (is_known and (extra is None or (bits, space, extra) in EXTRAS)), kind
        elif CHANNELS[space] == 1 and extra is None:
            assert read == ((bits, form, space) in READ), kind  # one plane is no plane


@pytest.mark.parametrize(("bits", "form", "space"), sorted(READ))
def test_tiles_predictors_and_reversed_bits(bits: int, form: int, space: int) -> None:
    predictors = {FLOAT: (1, 3)}.get(form, (1, 2) if bits >= 8 else (1,))
    for order, compression, planar, tiled, reversed_bits in itertools.product(
        "<>", (NONE, LZW), (False, True), (False, True), (False, True)
    ):
        kind = Kind(bits, form, order, compression, space, planar, tiled=tiled, reversed_bits=reversed_bits)
        for predictor in (1,) if compression == NONE else predictors:
            is_read(dataclasses.replace(kind, predictor=predictor))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind(extra=7), "with extra channels"),
        (Kind(16, space=WHITE_IS_0), "16-bit unsigned samples, 1 a pixel, with 0 as white"),
        (Kind(space=CMYK, reversed_bits=True), "with reversed bits"),
        (Kind(space=RGB, planar=True, extra=ASSOCIATED), "in separate planes"),
    ],
)
def test_refused_kinds_are_named(kind: Kind, words: str) -> None:
    with pytest.raises(UnsupportedMediaError, match=words):
        image.decode(tiff(kind, picture(kind)), Limits())
