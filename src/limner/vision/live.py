"""Faces in the frames of a camera, one quick look at each. Read `FrameDetector.detect`."""

from pathlib import Path

import cv2

from limner.domain.errors import UnsupportedMediaError
from limner.vision import hits, image, scales
from limner.vision.detector import scaled
from limner.vision.faces import Face
from limner.vision.header import LIVE_LIMITS, ImageInfo
from limner.vision.pyramid import Pyramid
from limner.vision.structure import described, inspect
from limner.vision.yunet import YuNet

MIN_SCORE = 0.7  # higher than for a photo, because nothing is verified
MAX_FACES = 100
MAX_SCANS = 12
"""Of a progressive picture: encoders write about ten, and each takes as long as a whole picture."""
_MIN_SIDE = 8  # a smaller picture cannot show a face
_AT_LEAST = 640  # the longer side that the coarse scale can use


class FrameDetector:
    """YuNet alone, at two small scales: a few milliseconds a frame. Not for several threads."""

    def __init__(self, weights_folder: Path) -> None:
        """Load the network. ModelError when its file is missing."""
        cv2.setNumThreads(1)
        self._yunet = YuNet(weights_folder)

    def detect(self, frame: bytes) -> tuple[ImageInfo, list[Face]]:
        """Size and faces of a JPEG within `LIVE_LIMITS`, best score first; boxes in pixels of the upright frame.

        UnsupportedMediaError for another kind of picture, and what `structure.inspect` and `image.decode` raise.
        """
        media_type, structure = inspect(frame, LIVE_LIMITS)
        if media_type != "image/jpeg" or structure.scans > MAX_SCANS:
            raise UnsupportedMediaError(f"A frame must be a JPEG of at most {MAX_SCANS} scans.")
        info = described(media_type, structure)
        if min(info.width, info.height) < _MIN_SIDE:
            return info, []
        pixels = image.decode(frame, LIVE_LIMITS, at_least=_AT_LEAST)
        height, width = pixels.shape[:2]
        found = hits.clipped(scales.glance(self._yunet, Pyramid(pixels), MIN_SCORE), width, height)
        found = found[found[:, hits.SCORE].argsort()[::-1][:MAX_FACES]]
        return info, scaled(hits.faces(found), info.width / width, info.height / height)
