"""CPU time and peak memory of each drawn style on a 12-megapixel portrait, each in a process of its own, one thread."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, Pixels
from limner.painters.drawn.paint import paint
from limner.painters.drawn.styles import DRAWN_STYLES
from limner.vision import image
from limner.vision.detector import Detector
from limner.vision.faces import Box
from limner.vision.header import Limits
from limner.vision.mesh import FaceMesh

PIXELS = 12e6
AIM_S, AIM_MB = 3.0, 400


def run(folder: Path, photo: bytes, *, full_size: bool) -> None:
    """Print a line for each style. The photo is enlarged to `PIXELS`; the result is as large if `full_size`, otherwise
    of its natural size. Memory is what the process needs beside its libraries and the photo (Linux)."""
    portrait = image.decode(photo, Limits())
    faces = Detector(folder).detect(portrait)
    meshes = [result.points for result in FaceMesh(folder).fit(portrait, faces)]
    factor = (PIXELS / (portrait.shape[0] * portrait.shape[1])) ** 0.5
    large = np.asarray(cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    boxes = [
        Box(face.box.x * factor, face.box.y * factor, face.box.width * factor, face.box.height * factor)
        for face in faces
    ]
    print(f"{large.shape[1]}×{large.shape[0]}, {len(faces)} faces")
    for name in DRAWN_STYLES:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        arguments = (theirs, name, large, boxes, [mesh * np.float32(factor) for mesh in meshes], full_size)
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=arguments)
        process.start()
        theirs.close()
        width, height, seconds, megabytes = ours.recv()
        process.join()
        print(f"{name:12} {width:5}×{height:<5} {seconds:5.2f} s of CPU  {megabytes:4.0f} MB", flush=True)
    print(f"aim: {AIM_S:.0f} s, {AIM_MB} MB")


def _measure(
    answer: Connection,
    name: str,
    photo: Pixels,
    boxes: list[Box],
    meshes: list[Field],
    full_size: bool,
) -> None:
    cv2.setNumThreads(1)
    size = (photo.shape[1], photo.shape[0]) if full_size else None
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: receiving the photo does not count
    before, start = _peak_mb(), time.process_time()
    drawn = paint(photo, DRAWN_STYLES[name](), faces=boxes, meshes=meshes, size=size)
    seconds = time.process_time() - start
    answer.send((drawn.shape[1], drawn.shape[0], seconds, _peak_mb() - before))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1000
