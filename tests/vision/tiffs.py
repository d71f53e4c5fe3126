"""TIFF files of any kind of pixels, written sample by sample as TIFF 6.0 says, and what they show. Read `Kind`."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Samples = npt.NDArray[np.float64]

WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
CHANNELS = {WHITE_IS_0: 1, BLACK_IS_0: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
IGNORED, ASSOCIATED, UNASSOCIATED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Kind:
    """How the samples of a TIFF are stored. `extra` is the meaning of one more sample: none, or of ExtraSamples."""

    bits: int = 8
    form: int = UNSIGNED
    order: str = "<"
    compression: int = NONE
    space: int = BLACK_IS_0
    planar: bool = False
    extra: int | None = None
    predictor: int = 1
    tiled: bool = False
    reversed_bits: bool = False

    @property
    def channels(self) -> int:
        """Samples of a pixel."""
        return CHANNELS[self.space] + (self.extra is not None)


def picture(kind: Kind, height: int = 20, width: int = 37) -> Samples:
    """(H, W, channels) of 0..1: ramps in several directions, so that a wrong order of anything shows."""
    across, down = np.linspace(0, 1, width)[None], np.linspace(0, 1, height)[:, None]
    ramps = np.broadcast_arrays(across, down, (across + 2 * down) % 1, (1 - across) / 2)
    colours = np.stack(ramps[: CHANNELS[kind.space]], axis=2)
    if kind.space == PALETTE:
        steps = 2 ** min(kind.bits, 8) - 1
        colours = np.round(colours * steps) / (2 ** min(kind.bits, 30) - 1)
    if kind.extra is None:
        return colours
    alpha = np.maximum(np.broadcast_to(0.2 + 0.8 * down, (height, width)), across < 0.1)[..., None]
    return np.concatenate([colours * alpha if kind.extra == ASSOCIATED else colours, alpha], axis=2)


def on_white(kind: Kind, values: Samples) -> Samples:
    """What a picture of such values shows, (H, W, 3) of 0..255; without a profile, as Pillow converts colours."""
    steps = 1 if kind.form == FLOAT else 2**kind.bits - 1
    rounded = values if kind.form == FLOAT else np.round(values * steps) / steps
    colours, alpha = rounded[..., : CHANNELS[kind.space]], np.ones((*values.shape[:2], 1))
    if kind.extra in {ASSOCIATED, UNASSOCIATED}:
        alpha = rounded[..., -1:]
    if kind.extra == ASSOCIATED:
        colours = colours / alpha
    if kind.space == WHITE_IS_0:
        colours = 1 - colours
    if kind.space == PALETTE:
        colours = colours * steps / (2 ** min(kind.bits, 8) - 1)
    eight = np.round(colours.clip(0, 1) * 255).astype(np.uint8)
    if kind.space in {CMYK, YCBCR}:
        eight = np.asarray(Image.fromarray(eight, "CMYK" if kind.space == CMYK else "YCbCr").convert("RGB"))
    return np.broadcast_to(eight * alpha + 255 * (1 - alpha), (*values.shape[:2], 3))


def stored(kind: Kind, values: Samples) -> npt.NDArray[np.int64] | Samples:
    """The numbers in the file for values of 0..1, each from the least that the kind of sample can hold to the most.

    Floats stay as they are.
    """
    if kind.form == FLOAT:
        return values
    steps = 2**kind.bits - 1
    whole = np.round(values * steps) if kind.bits < 53 else values * float(steps - 2**12)
    numbers = whole.astype(np.uint64)
    if kind.form == SIGNED:
        return (numbers - np.uint64(2 ** (kind.bits - 1))).astype(np.int64)
    return numbers.astype(np.int64)


def tiff(kind: Kind, values: Samples) -> bytes:
    """The file of (H, W, channels) values of 0..1."""
    height, width, _ = values.shape
    numbers = stored(kind, values)
    planes = [numbers[..., [each]] for each in range(numbers.shape[2])] if kind.planar else [numbers]
    pieces = []
    side = 16
    for plane in planes:
        if kind.tiled:
            padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)))
            pieces += [
                _piece(kind, padded[top : top + side, left : left + side])
                for top in range(0, height, side)
                for left in range(0, width, side)
            ]
        else:
            pieces += [_piece(kind, plane[top : top + side]) for top in range(0, height, side)]
    tags: dict[int, tuple[str, list[int]]] = {
        0x100: ("I", [width]),
        0x101: ("I", [height]),
        0x102: ("H", [kind.bits] * kind.channels),
        0x103: ("H", [kind.compression]),
        0x106: ("H", [kind.space]),
        0x10A: ("H", [2 if kind.reversed_bits else 1]),
        0x115: ("H", [kind.channels]),
        0x11C: ("H", [2 if kind.planar else 1]),
        0x13D: ("H", [kind.predictor]),
        0x153: ("H", [kind.form] * kind.channels),
    }
    if kind.extra is not None:
        tags[0x152] = ("H", [kind.extra])
    if kind.space == PALETTE:
        tags[0x140] = ("H", [round(each) for each in np.linspace(0, 65535, 2 ** min(kind.bits, 8))] * 3)
    if kind.space == YCBCR:
        tags[0x212] = ("H", [1, 1])
    return _file(kind, tags, pieces)


def _file(kind: Kind, tags: dict[int, tuple[str, list[int]]], pieces: list[bytes]) -> bytes:
    sizes = [len(piece) for piece in pieces]
    starts = [8 + sum(sizes[:number]) for number in range(len(pieces))]
    if kind.tiled:
        tags |= {0x142: ("I", [16]), 0x143: ("I", [16]), 0x144: ("I", starts), 0x145: ("I", sizes)}
    else:
        tags |= {0x111: ("I", starts), 0x116: ("I", [16]), 0x117: ("I", sizes)}
    pixels = b"".join(pieces)
    pixels += bytes(len(pixels) % 2)
    directory, further = struct.pack(kind.order + "H", len(tags)), b""
    beyond = 8 + len(pixels) + 2 + 12 * len(tags) + 4
    for tag, (form, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{kind.order}{len(numbers)}{form}", *numbers)
        directory += struct.pack(kind.order + "HHI", tag, {"H": 3, "I": 4}[form], len(numbers))
        if len(packed) > 4:
            directory += struct.pack(kind.order + "I", beyond + len(further))
            further += packed
        else:
            directory += packed.ljust(4, b"\0")
    head = (b"II" if kind.order == "<" else b"MM") + struct.pack(kind.order + "HI", 42, 8 + len(pixels))
    return head + pixels + directory + bytes(4) + further


def _piece(kind: Kind, numbers: npt.NDArray[np.int64] | Samples) -> bytes:
    """A strip or tile as it is in the file."""
    if kind.predictor == 2 and kind.form != FLOAT:
        numbers = np.diff(numbers, axis=1, prepend=np.zeros_like(numbers[:, :1]))
    rows = [_row(kind, row) for row in numbers]
    data = {NONE: b"".join, LZW: _lzw, DEFLATE: _deflated, PACKBITS: _packed}[kind.compression](rows)
    if kind.reversed_bits:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    return data


def _row(kind: Kind, row: npt.NDArray[np.int64] | Samples) -> bytes:
    row = row.reshape(-1, row.shape[-1])
    if kind.form == FLOAT:
        if kind.predictor == 3:
            parts = row.ravel().astype(f">f{kind.bits // 8}").view(np.uint8).reshape(-1, kind.bits // 8).T.ravel()
            spaced = np.concatenate([np.zeros(row.shape[1], np.uint8), parts[: -row.shape[1]]])
            return (parts - spaced).tobytes()
        return row.astype(f"{kind.order}f{kind.bits // 8}").tobytes()
    if kind.bits in {8, 16, 32, 64}:
        return row.astype(f"{kind.order}i8").astype(f"{kind.order}i{kind.bits // 8}").tobytes()
    places = np.arange(kind.bits - 1, -1, -1)
    return np.packbits((row.ravel()[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _deflated(rows: list[bytes]) -> bytes:
    return zlib.compress(b"".join(rows))


def _lzw(rows: list[bytes]) -> bytes:
    """Codes of nine bits only: the table is emptied before it needs ten."""
    data = b"".join(rows)
    codes = [256]
    for start in range(0, len(data), 250):
        codes += [*data[start : start + 250], 256]
    codes += [257]
    return np.packbits((np.array(codes)[:, None] >> np.arange(8, -1, -1) & 1).astype(np.uint8)).tobytes()


def _packed(rows: list[bytes]) -> bytes:
    """Each row by itself, without a repetition."""
    return b"".join(
        bytes([len(row[at : at + 128]) - 1]) + row[at : at + 128] for row in rows for at in range(0, len(row), 128)
    )
