"""Counts of the accuracy benchmark: hits, misses, false positives, ignored boxes, duplicates, both label formats."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.bench import accuracy
from limner.domain.errors import InvalidRequestError
from limner.vision.faces import Box, Face, Landmarks, Point

ORIGIN = Point(0, 0)


def face(x: float, y: float, side: float, score: float) -> Face:
    return Face(Box(x, y, side, side), score, Landmarks(ORIGIN, ORIGIN, ORIGIN, ORIGIN, ORIGIN))


FOUND = [
    face(10, 10, 20, 0.95),  # correct
    face(11, 10, 20, 0.9),  # a duplicate, so a false positive
    face(51, 50, 10, 0.8),  # correct
    face(80, 10, 10, 0.85),  # ignored in the labels
    face(0, 80, 10, 0.7),  # a false positive
    face(80, 80, 12, 0.4),  # correct, but below the default minimum score
]


def detect(image: npt.NDArray[np.uint8], min_score: float) -> list[Face]:
    assert image.shape == (100, 120, 3)
    return [found for found in FOUND if found.score >= min_score]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    Image.new("RGB", (120, 100)).save(tmp_path / "a.jpg")
    boxes = [
        ([10, 10, 20, 20], ["hard"]),
        ([50, 50, 10, 10], ["hard"]),
        ([80, 10, 10, 10], []),
        ([80, 80, 12, 12], ["hard"]),
    ]
    labels = {"a.jpg": {"faces": [{"box": box, "sets": sets} for box, sets in boxes]}}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return tmp_path


def test_counts(labelled: Path) -> None:
    report = accuracy.evaluate(detect, labelled)
    assert (report.pictures, report.faces, report.found, report.false_alarms) == (1, 3, 2, 2)
    assert report.recall == pytest.approx(2 / 3)
    assert report.precision == pytest.approx(0.5)
    assert list(report.by_size.values()) == [[1, 2], [1, 1], [0, 0], [0, 0]]
    # By score: correct, wrong, correct, wrong, correct. Precisions: 1, 2/3 and 3/5, each for a third of the faces.
    assert report.average_precision == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_wider_layout(tmp_path: Path) -> None:
    (tmp_path / "images" / "0--Parade").mkdir(parents=True)
    Image.new("RGB", (120, 100)).save(tmp_path / "images" / "0--Parade" / "a.jpg")
    lines = ["0--Parade/a.jpg", "3", "10 10 20 20 0 0 0 0 0 0", "50 50 10 10 0 0 0 1 0 0", "80 80 12 9 0 0 0 0 0 0"]
    (tmp_path / "wider_face_val_bbx_gt.txt").write_text("\n".join(lines))
    (labelled,) = accuracy.read(tmp_path)
    assert labelled.counted == (True, False, False)
    assert accuracy.evaluate(detect, tmp_path).found == 1


def test_a_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        list(accuracy.read(tmp_path))


def test_the_table(labelled: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy.main(labelled, models_dir)
    printed = capsys.readouterr().out
    assert "default" in printed
    assert "precise" in printed
