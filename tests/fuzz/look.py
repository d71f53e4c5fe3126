"""Fuzz target: the look at a picture's structure. `python -m tests.fuzz.look CORPUS -max_total_time=600`."""

import sys

import atheris

with atheris.instrument_imports(include=["limner.vision.structure"]):
    from limner.vision.structure import look

from limner.domain.errors import BadImageError, TooLargeError, UnsupportedMediaError
from limner.vision.header import Limits

LIMITS = Limits()


def one_input(data: bytes) -> None:
    """Nothing but the errors that it promises, and a size within the limits."""
    try:
        found = look(data, LIMITS)
    except (BadImageError, TooLargeError, UnsupportedMediaError):
        return
    assert 0 < found.width <= LIMITS.max_side
    assert 0 < found.height <= LIMITS.max_side
    assert found.width * found.height <= LIMITS.max_pixels
    assert found.frames >= 1


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
