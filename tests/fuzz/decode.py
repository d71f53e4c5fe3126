"""Fuzz target: decoding what passes the look. `python -m tests.fuzz.decode CORPUS -max_total_time=600`."""

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["limner.vision.structure", "limner.vision.image"]):
    from limner.vision import image
    from limner.vision.structure import look

from limner.domain.errors import BadImageError, TooLargeError, UnsupportedMediaError
from limner.vision.header import Limits

LIMITS = Limits(max_pixels=1_000_000, max_side=4000)


def one_input(data: bytes) -> None:
    """A picture of the size that was told before, or an error that it promises; no crash of a codec."""
    try:
        found = look(data, LIMITS)
        picture = image.decode_picture(data, LIMITS)
        shape = image.decode(data, LIMITS, at_least=16).shape
    except (BadImageError, TooLargeError, UnsupportedMediaError):
        return
    assert picture.pixels.shape == (found.height, found.width, 3)
    assert shape[2] == 3


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
