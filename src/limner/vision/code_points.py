"""Colours by number (ITU-T H.273), as AVIF, HEIC and PNG tell them: the ICC profile that says the same."""

from limner.vision import icc
from limner.vision.structure.reading import Calibration, CodePoints

PQ, HLG = 16, 18
"""Transfers of pictures brighter than a screen's white, which no matrix profile can tell; see `tone_map`."""

BT709, BT2020, P3 = 1, 9, 12
_D65, _C, _CENTRE = (0.3127, 0.329), (0.31, 0.316), (1 / 3, 1 / 3)
PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    BT709: (_D65, (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)),
    4: (_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (_D65, (0.64, 0.33), (0.29, 0.6), (0.15, 0.06)),
    6: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    7: (_D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),
    8: (_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    BT2020: (_D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    P3: (_D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
    10: (_CENTRE, (1, 0), (0, 1), (0, 0)),
    22: (_D65, (0.63, 0.34), (0.295, 0.605), (0.155, 0.077)),
}
"""xy of white, red, green and blue (table 2)."""

_SRGB: icc.Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_TELEVISION: icc.Curve = (2.4,)  # the screen of BT.1886, for which such a picture was made
_TRANSFERS: dict[int, icc.Curve] = {
    1: _TELEVISION,
    4: (2.2,),
    5: (2.8,),
    6: _TELEVISION,
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913),
    8: (1.0,),
    11: _TELEVISION,
    13: _SRGB,
    14: _TELEVISION,
    15: _TELEVISION,
    17: (2.6, (52.37 / 48) ** (1 / 2.6), 0.0, 0.0, 0.0),
}
"""What makes the channels linear (table 3)."""


def is_known(points: CodePoints) -> bool:
    """Whether both numbers stand for colours that are known here. Browsers take the others for not told."""
    return points.primaries in PRIMARIES and (points.transfer in _TRANSFERS or points.transfer in {PQ, HLG})


def profile_of(colours: CodePoints | Calibration) -> bytes | None:
    """The ICC profile that says the same; None for sRGB, and for what is no colour or HDR."""
    if isinstance(colours, Calibration):
        curves: list[icc.Curve] = [(gamma,) for gamma in colours.gammas]
        chromaticities = colours.chromaticities
        if not all(0.1 <= gamma <= 10 for gamma in colours.gammas):
            return None
    elif colours.transfer not in _TRANSFERS or (colours.primaries, colours.transfer) == (BT709, 13):
        return None
    else:
        curves, chromaticities = [_TRANSFERS[colours.transfer]] * 3, PRIMARIES[colours.primaries]
    matrix = icc.to_xyz(chromaticities)
    return None if matrix is None else icc.matrix_profile(matrix, curves)
