"""YuNet, the default detector: small and fast; boxes and five landmarks.

Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision import hits, runtime, weights
from limner.vision.faces import Face
from limner.vision.hits import Hits

MAX_OVERLAP = 0.3
_STRIDES = (8, 16, 32)
_OUTPUTS = [f"{kind}_{stride}" for stride in _STRIDES for kind in ("cls", "obj", "bbox", "kps")]


class YuNet:
    """One loaded network; safe to use from several threads."""

    tile_side = 768
    """Larger pictures are processed in tiles: this bounds the memory and uses the processor's cache better."""
    hint = 0.08
    """The least score of a face that is a little too small to be found."""

    def __init__(self, weights_folder: Path) -> None:
        self._session = runtime.session(weights.path(weights_folder, "yunet"))

    def detect(self, image: npt.NDArray[np.uint8], min_score: float) -> list[Face]:
        """Faces in `image` (H, W, 3) uint8 RGB at its own size; best score first. Boxes may exceed the picture."""
        return hits.faces(self.hits(image, min_score))

    def hits(self, image: npt.NDArray[np.uint8], min_score: float, shape: tuple[int, int] | None = None) -> Hits:
        """`detect` as rows of `hits`. The picture is padded right and below with black to `shape` (height, width)."""
        rows, columns = shape or _padded(image)
        blob = np.zeros((1, 3, rows, columns), np.float32)  # BGR, 0..255
        for channel, plane in enumerate(cv2.split(image)):
            blob[0, 2 - channel, : image.shape[0], : image.shape[1]] = plane
        outputs = self._session.run(_OUTPUTS, {"input": blob})
        found = [
            _decoded(stride, columns // stride, [each[0] for each in outputs[4 * at : 4 * at + 4]], min_score)
            for at, stride in enumerate(_STRIDES)
        ]
        return hits.best(hits.joined(found), MAX_OVERLAP)


def _padded(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return max(32, -(-image.shape[0] // 32) * 32), max(32, -(-image.shape[1] // 32) * 32)


def _decoded(stride: int, columns: int, outputs: list[npt.NDArray[np.float32]], min_score: float) -> Hits:
    """Hits of at least `min_score` from the cells of one stride.

    `outputs`, cells in row-major order: cls (N, 1), obj (N, 1), bbox (N, 4), kps (N, 10); boxes and points are relative
    to the cell. The eye on the left of the picture comes first. The threshold is applied before decoding, because few
    of the tens of thousands of cells pass it. Ported from OpenCV's `face_detect.cpp` (Apache-2.0).
    """
    cls, obj, bbox, kps = outputs
    squares = cls[:, 0].clip(0, 1) * obj[:, 0].clip(0, 1)
    index = np.flatnonzero(squares >= min_score * min_score)
    rows = np.empty((len(index), 15), np.float32)
    if not len(index):
        return rows
    cell = np.stack([index % columns, index // columns], axis=1).astype(np.float32)
    centre = (cell + bbox[index, :2]) * stride
    half = np.exp(bbox[index, 2:]) * (stride / 2)
    rows[:, 0:2] = centre - half
    rows[:, 2:4] = centre + half
    rows[:, hits.SCORE] = np.sqrt(squares[index])
    rows[:, 5:] = ((kps[index].reshape(-1, 5, 2) + cell[:, None]) * stride).reshape(-1, 10)
    return rows
