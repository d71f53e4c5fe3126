"""Measures the accuracy of the face detector on a folder of labelled pictures. Read `evaluate`, then `Report`."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from limner.domain.errors import InvalidRequestError
from limner.vision import image as pictures
from limner.vision.detector import Detector
from limner.vision.faces import COVER_MIN_SCORE, DEFAULT_MIN_SCORE, Box, Face
from limner.vision.header import Limits

Detect = Callable[[npt.NDArray[np.uint8], float], list[Face]]

MIN_OVERLAP = 0.5
SIZES = ((0, 16), (16, 32), (32, 96), (96, float("inf")))  # the labelled box's height, pixels, half-open
GROWN, MIN_COVERED = 1.3, 0.8
_LABEL_GROWN = 1.8  # a box of this size is still at the labelled face
_CURVE_SCORE = 0.1  # average precision needs detections far below the default minimum score
_WIDER = "wider_face_val_bbx_gt.txt"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and its labelled faces; only boxes with `counted` are counted as found or missed."""

    file: Path
    boxes: tuple[Box, ...]
    counted: tuple[bool, ...]


@dataclass(slots=True)
class Report:
    """Counts at one score, and the average precision over all scores."""

    pictures: int = 0
    faces: int = 0
    found: int = 0
    false_alarms: int = 0
    average_precision: float = 0.0
    covered: int = 0  # labelled faces that the found boxes, `GROWN` times as large, cover by `MIN_COVERED`
    elsewhere: float = 0.0  # sum over the pictures of the share of their area that these boxes cover away from labels
    cpu_ms: float = 0.0  # median of a picture's detection, decoding not counted
    by_size: dict[tuple[float, float], list[int]] = field(default_factory=lambda: {size: [0, 0] for size in SIZES})
    false_alarms_by_file: dict[str, int] = field(default_factory=dict)
    missed_by_file: dict[str, int] = field(default_factory=dict)

    @property
    def recall(self) -> float:
        return self.found / self.faces if self.faces else 1.0

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.false_alarms) if self.found + self.false_alarms else 1.0


def evaluate(detect: Detect, folder: Path, *, min_score: float = DEFAULT_MIN_SCORE) -> Report:
    """Run `detect(image, min_score)` over a labelled folder and compare, best score first, at an overlap of 0.5 (IoU).

    Average precision is the area under the precision-recall curve with precision made monotone (PASCAL VOC 2010).
    InvalidRequestError when the folder holds no labels.
    """
    report = Report()
    scores: list[float] = []
    right: list[bool] = []
    times: list[float] = []
    for labelled in read(folder):
        image = pictures.decode(labelled.file.read_bytes(), Limits())
        begun = time.thread_time()
        shown = detect(image, min_score)
        times.append(time.thread_time() - begun)
        _count(report, labelled, shown)
        _cover(report, labelled, shown, (image.shape[0], image.shape[1]))
        for face, verdict in zip(*_judged(labelled, detect(image, min(min_score, _CURVE_SCORE))), strict=True):
            if verdict is not None:
                scores.append(face.score)
                right.append(verdict >= 0)
    report.average_precision = _average_precision(scores, right, report.faces)
    report.cpu_ms = float(np.median(times)) * 1000 if times else 0.0
    return report


def read(folder: Path) -> Iterator[Labelled]:
    """The labelled pictures of a folder, in the order of their names. Two layouts are supported:

    `labels.json`: `{file: {"faces": [{"box": [x, y, width, height], "sets": [...]}]}}`, in pixels of the upright
    picture; boxes with empty `sets` are ignored. Or WIDER FACE's `wider_face_val_bbx_gt.txt`, with the pictures below
    the folder; boxes that are marked invalid or under 10 px high are ignored.
    """
    if (folder / "labels.json").is_file():
        labels = json.loads((folder / "labels.json").read_text())
        for name in sorted(labels):
            faces = labels[name]["faces"]
            boxes = tuple(Box(*map(float, face["box"])) for face in faces)
            yield Labelled(folder / name, boxes, tuple(face.get("sets") != [] for face in faces))
    elif (folder / _WIDER).is_file():
        lines = iter((folder / _WIDER).read_text().splitlines())
        for name in lines:
            rows = [[float(word) for word in next(lines).split()] for _ in range(max(1, int(next(lines))))]
            rows = [row for row in rows if row[2] > 0 and row[3] > 0]
            counted = tuple(row[3] >= 10 and not row[7] for row in rows)
            yield Labelled(next(folder.rglob(name)), tuple(Box(*row[:4]) for row in rows), counted)
    else:
        raise InvalidRequestError(f"{folder} holds neither labels.json nor {_WIDER}.")


def main(folder: Path, models: Path) -> None:
    """Print a table of the default, the precise and the covering detector over a labelled folder."""
    detector = Detector(models)
    reports = []
    modes: dict[str, tuple[float, dict[str, bool]]] = {
        f"default, from {DEFAULT_MIN_SCORE}": (DEFAULT_MIN_SCORE, {}),
        f"precise, from {DEFAULT_MIN_SCORE}": (DEFAULT_MIN_SCORE, {"precise": True}),
        f"cover, from {COVER_MIN_SCORE}": (COVER_MIN_SCORE, {"cover": True}),
    }
    for min_score, given in modes.values():

        def detect(image: npt.NDArray[np.uint8], score: float, given: dict[str, bool] = given) -> list[Face]:
            return detector.detect(image, min_score=score, **given)

        reports.append(evaluate(detect, folder, min_score=min_score))
    rows: dict[str, Callable[[Report], str]] = {
        "average precision": lambda report: f"{report.average_precision:.3f}",
        "recall": lambda report: f"{report.recall:.3f}",
        "precision": lambda report: f"{report.precision:.3f}",
        "false alarms": lambda report: str(report.false_alarms),
        f"covered by {GROWN:g} boxes": lambda report: f"{report.covered}/{report.faces}",
        "area covered elsewhere": lambda report: f"{100 * report.elsewhere / max(report.pictures, 1):.1f} %",
        "CPU ms, median": lambda report: f"{report.cpu_ms:.1f}",
    }
    caption = f"{reports[0].faces} faces in {reports[0].pictures} pictures, overlap {MIN_OVERLAP}"
    table = Table(title=f"Faces in {folder.name}", caption=caption)
    table.add_column("")
    for heading in modes:
        table.add_column(heading, justify="right")
    for name, show in rows.items():
        table.add_row(name, *map(show, reports))
    for size in SIZES:
        table.add_row(f"found, {_size_name(size)}", *("{}/{}".format(*report.by_size[size]) for report in reports))
    Console().print(table)


def _size_name(size: tuple[float, float]) -> str:
    low, high = size
    if low == 0:
        return f"under {high:g} px"
    return f"{low:g} px and more" if high == float("inf") else f"{low:g} to {high:g} px"


def _judged(labelled: Labelled, faces: Sequence[Face]) -> tuple[list[Face], list[int | None]]:
    """Faces, best first, each with the label it matches, -1 for a false alarm, None if it is ignored."""
    ordered = sorted(faces, key=lambda face: -face.score)
    taken: set[int] = set()
    verdicts: list[int | None] = []
    for face in ordered:
        overlaps = [_overlap(face.box, box) for box in labelled.boxes]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] < MIN_OVERLAP:
            verdicts.append(-1)
        elif not labelled.counted[best]:
            verdicts.append(None)
        else:
            verdicts.append(-1 if best in taken else best)
            taken.add(best)
    return ordered, verdicts


def _count(report: Report, labelled: Labelled, faces: Sequence[Face]) -> None:
    verdicts = _judged(labelled, faces)[1]
    found = {verdict for verdict in verdicts if verdict is not None and verdict >= 0}
    missed = 0
    for index, (box, counted) in enumerate(zip(labelled.boxes, labelled.counted, strict=True)):
        if counted:
            bucket = report.by_size[next(size for size in SIZES if size[0] <= box.height < size[1])]
            bucket[0] += index in found
            bucket[1] += 1
            missed += index not in found
    report.pictures += 1
    report.faces += sum(labelled.counted)
    report.found += len(found)
    report.false_alarms += verdicts.count(-1)
    report.missed_by_file[labelled.file.name] = missed
    report.false_alarms_by_file[labelled.file.name] = verdicts.count(-1)


def _cover(report: Report, labelled: Labelled, faces: Sequence[Face], shape: tuple[int, int]) -> None:
    covered = _mask([face.box for face in faces], GROWN, shape)
    for box, counted in zip(labelled.boxes, labelled.counted, strict=True):
        inside = _part(covered, box)
        report.covered += bool(counted and inside.size and inside.mean() >= MIN_COVERED)
    report.elsewhere += float((covered & ~_mask(labelled.boxes, _LABEL_GROWN, shape)).mean())


def _mask(boxes: Sequence[Box], grown: float, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for box in boxes:
        x, y = box.x - box.width * (grown - 1) / 2, box.y - box.height * (grown - 1) / 2
        _part(mask, Box(x, y, box.width * grown, box.height * grown))[:] = True
    return mask


def _part(mask: npt.NDArray[np.bool_], box: Box) -> npt.NDArray[np.bool_]:
    """The pixels that the box touches."""
    bottom, right = math.ceil(box.y + box.height), math.ceil(box.x + box.width)
    return mask[max(0, math.floor(box.y)) : max(0, bottom), max(0, math.floor(box.x)) : max(0, right)]


def _overlap(one: Box, other: Box) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one.width * one.height + other.width * other.height - shared)


def _average_precision(scores: list[float], right: list[bool], faces: int) -> float:
    if not faces or not scores:
        return 0.0
    hits = np.cumsum(np.asarray(right)[np.argsort(-np.asarray(scores), kind="stable")])
    recall = hits / faces
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
