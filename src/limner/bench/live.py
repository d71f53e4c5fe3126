"""Live detection as a client meets it: the time from a frame sent to its faces received. Read `run`.

The yardstick is not ours: decoding and one pass of YuNet in a bare loop.
"""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from limner.bench.client import percentile
from limner.bench.detect import PASS_HEIGHT, PASS_WIDTH, bare_pass
from limner.bench.processes import Server, server
from limner.bench.report import Row
from limner.settings import Settings
from limner.vision.yunet import YuNet

SIZES = ((640, 480), (1280, 720), (1920, 1080))
AIM_MS = 40.0
PAUSE_S = 1 / 25  # between two frames of a camera
TIMEOUT_S = 60


def run(settings: Settings, photo: bytes, *, frames: int, sockets: int) -> list[tuple[str, list[Row]]]:
    """Sections of the table: one socket with frames of several sizes, then `sockets` at once."""
    cv2.setNumThreads(1)
    yunet = YuNet(settings.models_dir)
    made = {size: _frame(photo, size) for size in SIZES}
    one = []
    with server(settings, LIMNER_LIVE_SOCKETS=str(sockets)) as ours:
        for size in SIZES:
            bare = [_timed(yunet, made[size]) for _ in range(frames)]
            with _opened(ours) as socket:
                _ask(socket, made[size])  # the process starts
                times = []
                for _ in range(frames):
                    times.append(_ask(socket, made[size]))
                    time.sleep(max(0.0, PAUSE_S - times[-1] / 1000))
            one += _rows(size, bare, times)
        many = _together(ours, made[SIZES[0]], frames, sockets)
    return [(f"One socket, {frames} frames of each size, 25 a second", one), (f"{sockets} sockets at once", many)]


def _rows(size: tuple[int, int], bare: list[float], times: list[float]) -> list[Row]:
    ratio = percentile(times, 0.5) / percentile(bare, 0.5)
    aimed = size == SIZES[0]
    return [
        Row(
            name=f"{size[0]}×{size[1]}: a bare loop, decode and one pass of {PASS_WIDTH}×{PASS_HEIGHT}",
            p50_ms=percentile(bare, 0.5),
            p99_ms=percentile(bare, 0.99),
        ),
        Row(
            name="  frame sent to faces received",
            p50_ms=percentile(times, 0.5),
            p99_ms=percentile(times, 0.99),
            ratio=ratio,
            aim=f"p50 ≤ {AIM_MS:g} ms" if aimed else "",
            met=percentile(times, 0.5) <= AIM_MS if aimed else None,
        ),
    ]


def _together(ours: Server, frame: bytes, frames: int, sockets: int) -> list[Row]:
    """Each sends the next frame when it has the last one's faces."""

    def ask_all(_: int) -> list[float]:
        with _opened(ours) as socket:
            return [_ask(socket, frame) for _ in range(frames)]

    begun = time.perf_counter()
    with ThreadPoolExecutor(sockets) as pool:
        times = [each for of_one in pool.map(ask_all, range(sockets)) for each in of_one]
    return [
        Row(
            name="640×480, each sends when it is answered",
            rate=len(times) / (time.perf_counter() - begun),
            p50_ms=percentile(times, 0.5),
            p99_ms=percentile(times, 0.99),
        )
    ]


def _opened(ours: Server) -> ClientConnection:
    headers = {} if ours.token is None else {"Authorization": f"Bearer {ours.token}"}
    return connect(
        f"ws://127.0.0.1:{ours.port}/v1/live/detect", proxy=None, compression=None, additional_headers=headers
    )


def _ask(socket: ClientConnection, frame: bytes) -> float:
    """Milliseconds until the answer to a frame."""
    begun = time.perf_counter()
    socket.send(frame)
    told = json.loads(socket.recv(TIMEOUT_S))
    spent = (time.perf_counter() - begun) * 1000
    assert "faces" in told, told
    return spent


def _timed(yunet: YuNet, frame: bytes) -> float:
    """Milliseconds of the bare loop."""
    begun = time.perf_counter()
    bare_pass(yunet, frame)
    return (time.perf_counter() - begun) * 1000


def _frame(photo: bytes, size: tuple[int, int]) -> bytes:
    """The photo's middle in this size, compressed as browsers do it."""
    picture = Image.open(io.BytesIO(photo)).convert("RGB")
    factor = max(size[0] / picture.width, size[1] / picture.height)
    whole = picture.resize((round(picture.width * factor), round(picture.height * factor)))
    left, top = (whole.width - size[0]) // 2, (whole.height - size[1]) // 2
    file = io.BytesIO()
    whole.crop((left, top, left + size[0], top + size[1])).save(file, "JPEG", quality=75)
    return file.getvalue()
