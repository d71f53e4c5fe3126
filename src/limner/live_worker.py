"""The process that looks at live frames: `python -m limner.live_worker`. Only `adapters/live_process.py` starts it.

It has no database, no store and no secrets, and keeps nothing of a frame.
"""

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.adapters.process_worker import connect, limit_memory

if TYPE_CHECKING:
    from limner.vision.faces import Face

log = logging.getLogger("limner.live_worker")  # it runs as `__main__`

NICENESS = 5
"""A lower priority than the web process, and a higher one than jobs: somebody is looking."""


def main() -> None:
    """Load the detector, then answer each frame that arrives through the pipe, until it is closed."""
    pipe, greeting = connect()

    from limner.domain.errors import LimnerError
    from limner.telemetry import set_up_log
    from limner.vision.live import FrameDetector
    from limner.vision.memory import is_out_of_memory

    set_up_log(greeting["log_level"], greeting["log_format"])
    limit_memory(greeting["memory_bytes"])
    try:
        detector = FrameDetector(Path(greeting["models_dir"]))
    except LimnerError as error:
        log.error("live detection cannot start: %s: %s", error.title, error.detail)  # noqa: TRY400  # no bug of ours
        raise SystemExit(1) from None

    def answer(frame: bytes, *, landmarks: bool) -> dict[str, Any]:
        try:
            info, faces = detector.detect(frame)
        except LimnerError as error:
            return {"error": error.problem()}
        except Exception as error:
            if is_out_of_memory(error):
                raise SystemExit(1) from None  # a new process has all its memory
            raise
        told = [_told(face, landmarks=landmarks) for face in faces]
        return {"width": info.width, "height": info.height, "faces": told}

    os.nice(NICENESS)
    pipe.send({"ready": True})
    while (message := pipe.receive()) is not None:
        frame = pipe.receive_bytes(message["bytes"])
        if frame is None:
            break
        pipe.send(answer(frame, landmarks=message["landmarks"]))
    logging.shutdown()
    os._exit(0)  # the exit handlers of native libraries may be slow or crash


def _told(face: "Face", *, landmarks: bool) -> dict[str, Any]:
    """A face as clients get it; a tenth of a pixel is enough."""
    points = {name: _rounded(point) for name, point in asdict(face.landmarks).items()}
    told = {"box": _rounded(asdict(face.box)), "score": round(face.score, 3)}
    return {**told, "landmarks": points} if landmarks else told


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


if __name__ == "__main__":
    main()
