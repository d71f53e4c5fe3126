"""CPU time of `detect` beside one pass of YuNet and a bare loop round it, and its rate as a service beside thumbor's.

The yardstick is not ours: a slow detector or pipeline cannot hide behind itself. Read `run`.
"""

import io
import os
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from limner import local
from limner.bench import overhead
from limner.bench.client import percentile, version
from limner.bench.processes import Server, free_port, server, started
from limner.bench.report import Row
from limner.operations import CATALOGUE
from limner.settings import Settings
from limner.vision import image as pictures
from limner.vision.detector import Detector
from limner.vision.faces import Face
from limner.vision.header import Limits
from limner.vision.models import Models
from limner.vision.yunet import YuNet

PASS_WIDTH, PASS_HEIGHT = 640, 448
AIM, AIM_LARGE = 2.0, 3.0  # passes that the detection of a photo may cost, up to one megapixel and above
AIM_THUMBOR = 6.0


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG and what it is called in the table."""

    name: str
    data: bytes


def made_photos(photo: bytes) -> list[Photo]:
    """The photo as it is, six small ones of it in 800×533, and it in the middle of 12 megapixels."""
    whole = Image.open(io.BytesIO(photo)).convert("RGB")
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    square = whole.crop((left, top, left + side, top + side))
    group = Image.new("RGB", (800, 533), (90, 96, 104))
    for number in range(6):
        group.paste(square.resize((240, 240)), (20 + 260 * (number % 3), 10 + 262 * (number // 3)))
    large = Image.new("RGB", (4000, 3000), (90, 96, 104))
    large.paste(square.resize((3000, 3000)), (500, 0))
    return [
        Photo("the photo", photo),
        *(Photo(name, _jpeg(each)) for name, each in (("six faces", group), ("a large portrait", large))),
    ]


def run(settings: Settings, photos: list[Photo], *, rounds: int, thumbor: Path | None) -> list[tuple[str, list[Row]]]:
    """Sections of the table. `thumbor` is the Python of an environment with thumbor and OpenCV 4, if there is one."""
    cv2.setNumThreads(1)
    models, yunet = Models(settings.models_dir), YuNet(settings.models_dir)
    detections = [_detection(models.detector(), yunet, photo, rounds) for photo in photos]
    pipelines = [_pipeline(models, yunet, photo, rounds) for photo in photos]
    return [
        (f"Detection alone, one thread; lower quartile of {rounds} runs", detections),
        ("Decode, detect, mark, encode", [row for rows in pipelines for row in rows]),
        ("All of them in turn", _rates(settings, yunet, photos, rounds, thumbor)),
    ]


def _detection(detector: Detector, yunet: YuNet, photo: Photo, rounds: int) -> Row:
    pixels = pictures.decode(photo.data, Limits())
    small = np.asarray(cv2.resize(pixels, (PASS_WIDTH, PASS_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
    found = len(detector.detect(pixels))
    one, ours = _paired(lambda: yunet.detect(small, overhead.PASS_MIN_SCORE), lambda: detector.detect(pixels), rounds)
    aim = AIM if pixels.shape[0] * pixels.shape[1] <= 1_000_000 else AIM_LARGE
    return Row(
        name=f"{photo.name}: {pixels.shape[1]}×{pixels.shape[0]}, {found} face{'s' * (found != 1)}",
        cpu_ms=ours,
        beside=f"one pass of {PASS_WIDTH}×{PASS_HEIGHT}: {one:.1f} ms",
        ratio=ours / one,
        aim=f"≤ {aim:g}; crowds and doubtful faces may cost more",
        met=ours / one <= aim,
    )


def _pipeline(models: Models, yunet: YuNet, photo: Photo, rounds: int) -> list[Row]:
    def ours() -> dict[str, float]:
        return local.run(CATALOGUE["detect"], {}, {"image": photo.data}, models=models, limits=Limits()).stages

    bare, spent = _paired(lambda: bare_loop(yunet, photo.data), ours, rounds)
    parts = ", ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in ours().items())
    return [
        Row(name=f"{photo.name}: decode, one pass, boxes, encode", cpu_ms=bare),
        Row(name="  the pipeline of detect", cpu_ms=spent, beside=f"ms of one run: {parts}", ratio=spent / bare),
    ]


def bare_pass(yunet: YuNet, data: bytes) -> tuple[npt.NDArray[np.uint8], list[Face]]:
    """Decode to BGR (H, W, 3) uint8, and one pass of YuNet in 640×448 whatever the photo's shape, with its faces."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    image: npt.NDArray[np.uint8] = np.asarray(decoded, np.uint8)
    small = cv2.resize(image, (PASS_WIDTH, PASS_HEIGHT), interpolation=cv2.INTER_LINEAR)
    return image, yunet.detect(np.asarray(small[:, :, ::-1], np.uint8), overhead.PASS_MIN_SCORE)


def bare_loop(yunet: YuNet, data: bytes) -> bytes:
    """`bare_pass`, a rectangle round each face, encode."""
    image, faces = bare_pass(yunet, data)
    across, down = image.shape[1] / PASS_WIDTH, image.shape[0] / PASS_HEIGHT
    for face in faces:
        box = face.box
        corners = ((box.x, box.y), (box.x + box.width, box.y + box.height))
        first, last = ((round(x * across), round(y * down)) for x, y in corners)
        cv2.rectangle(image, first, last, (0, 255, 0), 2)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _paired(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float]:
    """CPU ms of both, lower quartiles of alternating runs; the first run of each is not counted."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for times, work in zip(spent, (one, other), strict=True):
            begun = time.process_time()
            work()
            if number > 0:
                times.append((time.process_time() - begun) * 1000)
    return percentile(spent[0], 0.25), percentile(spent[1], 0.25)


def _rates(settings: Settings, yunet: YuNet, photos: list[Photo], rounds: int, thumbor: Path | None) -> list[Row]:
    """Photos a second, on as many threads, workers or processes as there are workers."""
    clients, numbers = 2 * settings.workers, count()
    bare, served = overhead.Tally(), overhead.Tally()
    amount = len(photos) * rounds

    def versions() -> list[bytes]:
        return [version(photo.data, next(numbers)) for _ in range(rounds) for photo in photos]

    overhead.directly(bare, lambda data: bare_loop(yunet, data), versions(), settings.workers)
    with server(settings) as ours:
        overhead.through_service(overhead.Tally(), ours, versions()[: 4 * clients], clients)
        overhead.through_service(served, ours, versions(), clients)
    rows = [
        bare.row(f"the bare loop, {settings.workers} threads", amount),
        served.row(
            f"  the service, {settings.workers} workers, {clients} clients, picture fetched",
            amount,
            beside=f"the bare loop {bare.rate(amount):.1f}/s",
            ratio=served.rate(amount) / bare.rate(amount),
        ),
    ]
    if thumbor is not None:
        theirs = _by_thumbor(thumbor, photos, rounds, settings.workers)
        ratio = served.rate(amount) / theirs.rate(amount)
        rows.append(
            theirs.row(
                f"  thumbor, {settings.workers} processes, {clients} clients: smart crop about faces",
                amount,
                beside=f"the service {served.rate(amount):.1f}/s, with {served.cpu_ms(amount):.1f} ms of CPU a photo: "
                f"{theirs.cpu_ms(amount) / served.cpu_ms(amount):.1f} times less",
                ratio=ratio,
                aim=f"the service ≥ {AIM_THUMBOR:g} times",
                met=ratio >= AIM_THUMBOR,
            )
        )
    return rows


def _by_thumbor(python: Path, photos: list[Photo], rounds: int, processes: int) -> overhead.Tally:
    """thumbor finds the faces with its Haar cascade and crops one pixel off, so that it has to look and to encode."""
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        folder, port = Path(name), free_port()
        paths = ["/healthcheck"]
        for number, photo in enumerate(photos):
            (folder / f"{number}.jpg").write_bytes(photo.data)
            width, height = Image.open(io.BytesIO(photo.data)).size
            paths.append(f"/unsafe/{width - 1}x{height}/smart/{number}.jpg")
        (folder / "thumbor.conf").write_text(
            "LOADER = 'thumbor.loaders.file_loader'\nSTORAGE = 'thumbor.storages.no_storage'\n"
            f"FILE_LOADER_ROOT_PATH = {str(folder)!r}\nQUALITY = 90\nALLOW_UNSAFE_URL = True\n"
            "DETECTORS = ['thumbor.detectors.face_detector']\n"
        )
        command = [str(python), "-c", "from thumbor.server import main; main()", "-p", str(port), "-i", "127.0.0.1"]
        command += ["-c", str(folder / "thumbor.conf"), "--processes", str(processes)]
        with started(command, port, paths[0], folder / "log", dict(os.environ)) as running:
            _fetch_all(overhead.Tally(), running, paths[1:], 2 * processes)
            tally = overhead.Tally()
            _fetch_all(tally, running, paths[1:] * rounds, 2 * processes)
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        for child in children:  # they outlive thumbor's first process
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGTERM)
        return tally


def _fetch_all(tally: overhead.Tally, running: Server, paths: list[str], clients: int) -> None:
    def share(of: list[str]) -> list[float]:
        client, spent = running.client(), []
        for path in of:
            begun = time.perf_counter()
            status, body = client.get(path)
            assert (status, body[:2]) == (200, b"\xff\xd8"), (status, path)
            spent.append(time.perf_counter() - begun)
        client.close()
        return spent

    with ThreadPoolExecutor(clients) as pool:
        cpu, begun = running.cpu_s(), time.perf_counter()
        for spent in pool.map(share, [paths[number::clients] for number in range(clients)]):
            tally.spent += spent
        tally.wall_s.append(time.perf_counter() - begun)
        tally.cpu_s.append(running.cpu_s() - cpu)


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()
