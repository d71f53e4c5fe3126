"""ICC profiles as bytes (ICC.1:2022): keep only what is known of one, and write a small one for colours in numbers.

Nothing here computes colours; that is `colour_profile`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 4 << 20
"""Of a profile that is read. Those of presses have up to three megabytes."""
MAX_KEPT_BYTES = 1 << 20
"""Of a profile that is written into a picture."""

_MAX_TAGS = 100
_CLASSES = {b"mntr", b"scnr", b"prtr", b"spac"}  # not device links, abstract and named colours
# Without calculator elements (D2Bx), which can ask for any amount of work, and without private tags.
_KNOWN = {
    b"desc", b"cprt", b"wtpt", b"bkpt", b"chad", b"chrm", b"lumi", b"meas", b"tech", b"view", b"vued", b"dmnd", b"dmdd",
    b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"cicp", b"dscm", b"calt", b"gamt", b"rig0", b"rig2",
    b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2",
}  # fmt: skip
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
Curve = tuple[float, ...]
"""A parametric curve (10.18): (g,) for x ** g; (g, a, b, c, d) for (a x + b) ** g from d on, and c x below."""
Matrix = NDArray[np.float64]


def space_of(profile: bytes) -> bytes:
    """The colours that a profile is for: `RGB `, `GRAY`, `CMYK` or others."""
    return profile[16:20]


def cleaned(profile: bytes) -> bytes | None:
    """The profile with the known tags alone, which is itself where it has no others; None if it is not usable."""
    if not 128 + 4 < len(profile) <= MAX_BYTES or profile[36:40] != b"acsp" or profile[12:16] not in _CLASSES:
        return None
    count = _count(profile)
    if count > _MAX_TAGS or 132 + 12 * count > len(profile):
        return None
    tags: dict[bytes, bytes] = {}
    for name, start, size in _table(profile):
        if start + size > len(profile):
            return None
        if name in _KNOWN:
            tags[name] = profile[start : start + size]
    written = _written(profile[:128], tags)
    return profile if written[128:] == profile[128:] else written


def for_reading(profile: bytes) -> bytes:
    """The profile with one table at most, that for perception, which is what browsers use."""
    names = {name for name, _, _ in _table(profile)}
    dropped = {b"B2A0", b"B2A1", b"B2A2", b"A2B2", *((b"A2B1",) if b"A2B0" in names else ())}
    if not names & dropped:
        return profile
    tags = {name: profile[start : start + size] for name, start, size in _table(profile) if name not in dropped}
    return _written(profile[:128], tags)


def code_points_of(profile: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of ITU-T H.273, if the profile has a tag for them (9.2.17)."""
    for name, start, size in _table(profile):
        if name == b"cicp" and size >= 12:
            return profile[start + 8], profile[start + 9]
    return None


def _count(profile: bytes) -> int:
    return int.from_bytes(profile[128:132])


def _table(profile: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each tag (7.3)."""
    return struct.iter_unpack(">4sII", profile[132 : 132 + 12 * _count(profile)])


def _written(header: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """A profile of these tags; equal contents are written once. Its identifier is left out, because it may differ."""
    table, body, places = b"", b"", {}
    start = 132 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    size = start + len(body)
    return (
        struct.pack(">I", size)
        + header[4:84]
        + bytes(16)
        + header[100:128]
        + struct.pack(">I", len(tags))
        + table
        + body
    )


def to_xyz(chromaticities: Sequence[tuple[float, float]]) -> Matrix | None:
    """Linear RGB → XYZ of D50, (3, 3), from xy of white, red, green and blue; None if they are no colours."""
    points = np.array(chromaticities, np.float64)
    if points.shape != (4, 2) or not np.isfinite(points).all() or points[0, 1] <= 0:
        return None
    columns = np.vstack([points[:, 0], points[:, 1], 1 - points.sum(1)])
    white, primaries = columns[:, 0] / points[0, 1], columns[:, 1:]
    if abs(np.linalg.det(primaries)) < 1e-6 or (np.linalg.inv(primaries) @ white <= 0).any():
        return None
    of_white = primaries * (np.linalg.inv(primaries) @ white)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ of_white
    return adapted if np.abs(adapted).max() < 8 else None


def matrix_profile(matrix: Matrix, curves: Sequence[Curve]) -> bytes:
    """A display profile (8.4.3): linear RGB → XYZ of D50, and what makes red, green and blue linear."""
    header = bytearray(128)
    struct.pack_into(">4s4s4s4s6H4s", header, 8, b"\4\x30\0\0", b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0, b"acsp")
    struct.pack_into(">3i", header, 68, *(round(value * 65_536) for value in _D50))
    tags = {b"desc": _text("RGB"), b"cprt": _text("CC0"), b"wtpt": _xyz(_D50)}
    for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ")):
        tags[name] = _xyz(matrix[:, column])
    for name, curve in zip((b"rTRC", b"gTRC", b"bTRC"), curves, strict=True):
        kind = 0 if len(curve) == 1 else 3
        tags[name] = b"para" + struct.pack(f">4xHxx{len(curve)}i", kind, *(round(value * 65_536) for value in curve))
    return _written(bytes(header), tags)


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(coded), 28) + coded


def _xyz(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(float(value) * 65_536) for value in values))
