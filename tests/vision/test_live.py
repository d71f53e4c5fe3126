"""One quick look at a frame: what it finds, and in which pixels it tells it."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.domain.errors import TooLargeError, UnsupportedMediaError
from limner.vision.detector import Detector
from limner.vision.live import FrameDetector
from tests.conftest import as_jpeg


@pytest.fixture(scope="module")
def detector(models_dir: Path) -> FrameDetector:
    return FrameDetector(models_dir)


def test_it_finds_what_the_thorough_detector_finds(
    detector: FrameDetector, models_dir: Path, astronaut: npt.NDArray[np.uint8]
) -> None:
    """Faces from a fifteenth of the frame's height to all of it."""
    thorough = Detector(models_dir)
    face = Image.fromarray(astronaut[20:280, 90:350])
    for side in (80, 150, 300, 480):
        frame = Image.new("RGB", (640, 480), (90, 96, 104))
        frame.paste(face.resize((side, side)), (640 - side, 480 - side))
        data = as_jpeg(np.asarray(frame), quality=75)
        info, (found,) = detector.detect(data)
        assert (info.width, info.height) == (640, 480)
        assert found.box.overlap(thorough.detect(np.asarray(frame))[0].box) > 0.7, side


def test_several_faces_come_best_first(detector: FrameDetector, astronaut: npt.NDArray[np.uint8]) -> None:
    face = Image.fromarray(astronaut[20:280, 90:350])
    frame = Image.new("RGB", (640, 480), (90, 96, 104))
    for number, side in enumerate((200, 150, 100)):
        frame.paste(face.resize((side, side)), (210 * number, 100))
    _, found = detector.detect(as_jpeg(np.asarray(frame)))
    assert len(found) == 3
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_boxes_are_those_of_the_upright_frame(
    detector: FrameDetector, astronaut: npt.NDArray[np.uint8], mode: str
) -> None:
    upright = Image.fromarray(astronaut).crop((0, 0, 512, 384))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    file = io.BytesIO()
    upright.rotate(90, expand=True).convert(mode).save(file, "JPEG", exif=exif, quality=90)
    info, (turned,) = detector.detect(file.getvalue())
    assert (info.width, info.height) == (512, 384)
    _, (plain,) = detector.detect(as_jpeg(np.asarray(upright)))
    assert turned.box.overlap(plain.box) > 0.9


def test_what_is_no_frame_is_refused(detector: FrameDetector) -> None:
    with pytest.raises(TooLargeError):
        detector.detect(as_jpeg(np.zeros((1500, 1500, 3), np.uint8)))
    with pytest.raises(TooLargeError):
        detector.detect(as_jpeg(np.zeros((8, 4097, 3), np.uint8)))
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "WEBP")
    with pytest.raises(UnsupportedMediaError):
        detector.detect(file.getvalue())
