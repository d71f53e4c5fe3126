"""CPU time and peak memory of `generate` on a portrait of 12 megapixels, beside a bare loop round the same work.

The bare loop of `styles` is OpenCV and ONNX Runtime alone. No library has the drawn styles, so theirs calls the style
itself between OpenCV's decoding and encoding. Each style is measured in a process of its own, with one thread.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from limner import local
from limner.bench.report import Row
from limner.operations import CATALOGUE
from limner.painters import styles
from limner.painters.drawn.fields import Pixels
from limner.painters.drawn.paint import paint
from limner.painters.drawn.styles import DRAWN_STYLES
from limner.vision import image, weights
from limner.vision.header import Limits
from limner.vision.models import Models

PIXELS = 12e6
AIM_S, AIM_MB, AIM_RATIO = 3.0, 400.0, 0.97
LARGEST_SIDE = 4096  # that a request may ask for
QUALITY = 90


@dataclass(frozen=True, slots=True)
class _Task:
    painter: str
    style: str
    folder: Path
    portrait: bytes
    size: str | None
    times: int


@dataclass(frozen=True, slots=True)
class _Found:
    width: int
    height: int
    ours_s: float
    bare_s: float
    peak_mb: float


def run(folder: Path, photo: bytes, *, times: int, full_size: bool) -> Iterator[tuple[str, list[Row]]]:
    """Sections of the table, each when it is measured; `styles` only where its models are. The photo is enlarged to
    `PIXELS`; pictures have `LARGEST_SIDE` pixels if `full_size`, otherwise the size that the painter chooses."""
    decoded = image.decode(photo, Limits())
    factor = (PIXELS / (decoded.shape[0] * decoded.shape[1])) ** 0.5
    large = np.asarray(cv2.resize(decoded, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    portrait = image.encode(large, "jpeg")
    size = str(LARGEST_SIDE) if full_size else None
    shown = f"{large.shape[1]}×{large.shape[0]}"
    yield (
        f"drawn, from {shown}; beside: the style between OpenCV's decoding and encoding",
        [_row(_Task("drawn", style, folder, portrait, size, times)) for style in DRAWN_STYLES],
    )
    if weights.is_here(folder, "multistyle26"):
        yield (
            f"styles, from {shown}; beside: OpenCV and ONNX Runtime alone",
            [_row(_Task("styles", style, folder, portrait, size, times)) for style in list(styles.NUMBERS)[:2]],
        )


def _row(task: _Task) -> Row:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, task))
    process.start()
    theirs.close()
    found: _Found = ours.recv()
    process.join()
    ratio = found.bare_s / found.ours_s
    drawn = task.painter == "drawn"
    met = ratio >= AIM_RATIO and (not drawn or (found.ours_s <= AIM_S and found.peak_mb <= AIM_MB))
    return Row(
        name=f"{task.style}, {found.width}×{found.height}",
        cpu_ms=found.ours_s * 1000,
        beside=f"{found.bare_s * 1000:,.0f} ms; our peak memory {found.peak_mb:,.0f} MB",
        ratio=ratio,
        aim=f"≥ {AIM_RATIO:g}" + (f", {AIM_S:g} s, {AIM_MB:g} MB" if drawn else ""),
        met=met,
    )


def _measure(answer: Connection, task: _Task) -> None:
    """In a process of its own: both loops in turn, the least CPU time of each; the memory of our first run."""
    models = Models(task.folder)  # it has OpenCV use one thread
    models.detector(), models.mesh()
    values = {"painter": task.painter, "style": task.style, "seed": 1, **({"size": task.size} if task.size else {})}

    def ours() -> tuple[int, int]:
        made = local.run(CATALOGUE["generate"], values, {"image": task.portrait}, models=models, limits=Limits())
        picture = made.result.pictures[0]  # type: ignore[attr-defined]
        return picture.width, picture.height

    before = _memory_mb(peak=False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    width, height = ours()
    peak = _memory_mb(peak=True) - before
    bare = _bare(task, models, (width, height))
    bare()
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(task.times):
        for function, listed in ((ours, spent[0]), (bare, spent[1])):
            start = time.process_time()
            function()
            listed.append(time.process_time() - start)
    answer.send(_Found(width, height, min(spent[0]), min(spent[1]), peak))


def _bare(task: _Task, models: Models, size: tuple[int, int]) -> Callable[[], object]:
    """The same picture without Limner's operation: the faces are known beforehand, and nothing is told of it."""
    photo = image.decode(task.portrait, Limits())
    faces = models.detector().detect(photo)
    meshes = [each.points for each in models.mesh().fit(photo, faces)] if task.style == "low-poly" else []
    boxes = [face.box for face in faces]
    del photo

    def decoded() -> Pixels:
        found = cv2.imdecode(np.frombuffer(task.portrait, np.uint8), cv2.IMREAD_COLOR_RGB)
        return np.asarray(found, np.uint8)

    def encoded(made: Pixels) -> object:
        return cv2.imencode(".jpg", cv2.cvtColor(made, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])

    if task.painter == "drawn":
        style = DRAWN_STYLES[task.style]()
        return lambda: encoded(paint(decoded(), style, faces=boxes, meshes=meshes, seed=1, size=size))
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        weights.path(task.folder, "multistyle26"), options, providers=["CPUExecutionProvider"]
    )
    chosen = np.zeros(styles.STYLES_IN_NETWORK, np.float32)
    chosen[styles.NUMBERS[task.style]] = 1

    def styled() -> object:
        whole = decoded()
        face = max((box.width for box in boxes), default=None)
        small = cv2.resize(
            whole, styles.work_size(whole.shape[1], whole.shape[0], face, 1), interpolation=cv2.INTER_AREA
        )
        given = np.asarray(small, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        down, across = -given.shape[2] % 4, -given.shape[3] % 4
        given = np.pad(given, ((0, 0), (0, 0), (16, 16 + down), (16, 16 + across)), mode="reflect")
        (made,) = session.run(None, {"image": given, "style_weights": chosen})
        inner = made[0, :, 16 : 16 + small.shape[0], 16 : 16 + small.shape[1]].transpose(1, 2, 0)
        painted = (inner.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return encoded(np.asarray(cv2.resize(painted, size, interpolation=cv2.INTER_CUBIC), np.uint8))

    return styled


def _memory_mb(*, peak: bool) -> float:
    status = Path("/proc/self/status").read_text()
    word = "VmHWM" if peak else "VmRSS"
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(word))) / 1000
