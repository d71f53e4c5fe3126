"""The clean aperture of a picture in HEIC and AVIF: which part of it is shown."""

from fractions import Fraction

from limner.domain.errors import BadImageError


def cropped(side: int, numerator: int, denominator: int, shift: int, divisor: int) -> int:
    """A side after a clean aperture (ISO/IEC 14496-12, 12.1.4), rounded as libheif does."""
    if not denominator or not divisor:
        raise BadImageError("The crop of the picture is not valid.")
    wanted = Fraction(numerator, denominator)
    first = Fraction(shift, divisor) + Fraction(side - 1, 2) - (wanted - 1) / 2
    left = first.__floor__()
    right = int(wanted - 1 + left + Fraction(1, 2))
    return max(0, min(right, side - 1) - max(left, 0) + 1)
