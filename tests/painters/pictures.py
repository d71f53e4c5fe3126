"""Small pictures for the drawn effects: a face from formulas, ramps, discs, noise."""

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision.faces import Box

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

WIDTH, HEIGHT = 120, 150  # the portrait is described in these units,
SCALE = 0.5  # and is this much smaller, so that it is drawn quickly
FACE = Box(35 * SCALE, 40 * SCALE, 50 * SCALE, 65 * SCALE)
EYES = ((48.0, 65.0), (72.0, 65.0))
EYE_CORNERS = {33: (43.0, 65.0), 133: (53.0, 65.0), 362: (67.0, 65.0), 263: (77.0, 65.0)}


def portrait(skin: tuple[int, int, int] = (214, 172, 148)) -> Pixels:
    """A face with dark hair, eyes, brows and a mouth, in front of a plain wall; a little noise."""
    drawn = np.full((HEIGHT, WIDTH, 3), (150, 165, 180), np.uint8)
    cv2.ellipse(drawn, (60, 66), (34, 42), 0, 0, 360, (50, 38, 30), -1)
    cv2.ellipse(drawn, (60, 150), (58, 42), 0, 0, 360, (170, 60, 50), -1)
    cv2.ellipse(drawn, (60, 74), (25, 33), 0, 0, 360, skin, -1)
    dark = tuple(channel // 3 for channel in skin)
    for x, y in EYES:
        cv2.ellipse(drawn, (int(x), int(y)), (5, 3), 0, 0, 360, (240, 240, 238), -1)
        cv2.circle(drawn, (int(x), int(y)), 2, (25, 20, 20), -1)
        cv2.ellipse(drawn, (int(x), int(y) - 7), (7, 2), 0, 180, 360, dark, 2)
    cv2.ellipse(drawn, (60, 92), (10, 4), 0, 0, 180, (150, 40, 50), 3)
    drawn = cv2.resize(drawn, (round(WIDTH * SCALE), round(HEIGHT * SCALE)), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(1).normal(0, 3, drawn.shape)
    return np.clip(drawn + noise, 0, 255).astype(np.uint8)


def mesh() -> Points:
    """478 points in the face; those of the eyes' corners are where the eyes are."""
    points = np.zeros((478, 3), np.float32)
    turn = np.arange(478) * 2.399963  # the golden angle spreads points evenly over a disc
    reach = np.sqrt(np.arange(478) / 478.0)
    points[:, 0] = 60 + 24 * reach * np.cos(turn)
    points[:, 1] = 74 + 32 * reach * np.sin(turn)
    for index, place in EYE_CORNERS.items():
        points[index, :2] = place
    return points * np.float32(SCALE)


def ramp(width: int = 160, height: int = 80) -> Pixels:
    """Grey, from black at the left to white at the right."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return np.repeat(np.repeat(row[None, :, None], height, axis=0), 3, axis=2)


def blocks(picture: npt.NDArray[np.generic], columns: int, rows: int) -> npt.NDArray[np.float64]:
    """Mean colours of `columns` × `rows` equal parts: (rows, columns, 3)."""
    small = cv2.resize(picture.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64)
