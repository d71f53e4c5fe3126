"""CPU time of the stages of `contours`, with and without the client's landmarks and map."""

import io
import json
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from limner import local
from limner.bench.client import percentile
from limner.operations import CATALOGUE
from limner.settings import Settings
from limner.vision import image, labels, structure
from limner.vision.header import Limits
from limner.vision.models import Models

SIDE = 1100


def run(
    settings: Settings, photo: bytes, *, landmarks: Path | None, label_map: Path | None, times: int, as_sent: bool
) -> None:
    """Print CPU ms of each case and stage, and the ratio of each case to decoding the photo and encoding it again."""
    models = Models(settings.models_dir)
    if not as_sent:
        photo = _portrait(photo)
    points, values = _given(models, photo)
    if landmarks is not None:
        read = json.loads(landmarks.read_bytes())
        points = read["landmarks"] if isinstance(read, dict) else read
    if label_map is not None:
        values = label_map.read_bytes()
    info = structure.look(photo, Limits())
    reference = _reference(photo, times)
    print(
        f"{info.media_type} of {info.width}×{info.height}; decoded and encoded again as JPEG: {reference:.1f} ms of CPU"
    )
    for title, fields, pictures in (
        ("landmarks and map", {"landmarks": points}, {"segmentation_map": values}),
        ("landmarks", {"landmarks": points}, {}),
        ("map", {}, {"segmentation_map": values}),
        ("photo alone", {}, {}),
    ):
        spent, stages = _measure(models, fields, {"image": photo, **pictures}, times)
        p50 = percentile(spent, 0.5)
        parts = "  ".join(f"{name} {ms:.1f}" for name, ms in stages.items())
        print(
            f"{title:18} p50 {p50:6.1f} ms of CPU   p95 {percentile(spent, 0.95):6.1f}   "
            f"ratio to the reference {p50 / reference:.2f}   ({parts})"
        )
    print("aim: p50 of 60 ms with both given")


def _measure(
    models: Models, fields: dict[str, Any], pictures: dict[str, bytes], times: int
) -> tuple[list[float], dict[str, float]]:
    """CPU ms of each run, and the median duration of each stage in ms. A first run loads the models."""
    spent: list[float] = []
    stages: dict[str, list[float]] = {}
    for number in range(times + 1):
        start = time.process_time()
        made = local.run(CATALOGUE["contours"], fields, pictures, models=models, limits=Limits())
        if number > 0:
            spent.append((time.process_time() - start) * 1000)
            for name, seconds in made.stages.items():
                stages.setdefault(name, []).append(seconds * 1000)
    return spent, {name: statistics.median(each) for name, each in stages.items()}


def _reference(photo: bytes, times: int) -> float:
    spent = []
    for _ in range(times):
        start = time.process_time()
        image.encode(image.decode(photo, Limits()), "jpeg")
        spent.append((time.process_time() - start) * 1000)
    return statistics.median(spent)


def _portrait(photo: bytes) -> bytes:
    """The middle square of the photo, `SIDE` pixels wide, as JPEG."""
    whole = Image.fromarray(image.decode(photo, Limits()))
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    file = io.BytesIO()
    whole.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).save(file, "JPEG", quality=92)
    return file.getvalue()


def _given(models: Models, photo: bytes) -> tuple[list[dict[str, float]], bytes]:
    """Landmarks as a client sends them, and a label map drawn from the regions that were found."""
    made = local.run(CATALOGUE["contours"], {}, {"image": photo}, models=models, limits=Limits())
    result = made.result.model_dump(mode="json")
    width, height = result["image"]["width"], result["image"]["height"]
    drawn = np.zeros((height, width), np.uint8)
    back = np.linalg.inv(np.array(result["transform"]))
    points = np.array([(point["x"], point["y"]) for point in result["landmarks"]])
    cv2.fillPoly(drawn, [cv2.convexHull(points.astype(np.float32)).astype(np.int32)], (1,))
    for value, name in labels.MEANINGS.items():
        for ring in result["mask_contours"].get(name, []):
            placed = np.c_[np.array(ring), np.ones(len(ring))] @ back.T
            cv2.fillPoly(drawn, [placed[:, :2].astype(np.int32)], (value,))
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG")
    return result["landmarks"], file.getvalue()
