"""The rows of finished jobs for `limner bench scale`: `ROWS` gives the values of each table, by column name.

Jobs are numbered by age: number 0 is the newest. Job n is the same in a database of any size, so that equal pages of a
large and a small one have equal content.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

AGE_S = 20 * 86400  # the oldest job's: within the default retention
FAILED_EVERY = 33  # every so many detect jobs failed
CONTOURS_EVERY = 10  # every so many jobs are contours: none of them failed, and none has left an event
GENERATED_OF, GENERATED = 60, (2, 9)  # of so many jobs, those with these numbers are generate; the first has an owner
OWNED_EVERY = 20  # every so many jobs belong to a key
RARE = (100, 200, 300)  # the only jobs of another key: old or new, none failed
WAITING = 200  # jobs that wait in a lane without workers, older than all others
KEY_ID, RARE_KEY_ID = "bench-key", "bench-rare-key"
IDLE_LANE = "bench"
SIMILARITY_KEY = "0" * 64

Values = dict[str, Any]


def when_us(number: int, newest_us: int, jobs: int) -> int:
    return newest_us - 60_000_000 - number * (AGE_S * 1_000_000 // jobs)


def uuid_of(number: int, newest_us: int, jobs: int, kind: int = 0) -> str:
    """The id of job `number` (kind 0), of its input (1) or its artifact (2)."""
    stamp = f"{when_us(number, newest_us, jobs) // 1000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7000-8{kind:03x}-{0xFFFFFFFFFFFF - number:012x}"


def _sha256(number: int, what: str) -> str:
    return hashlib.sha256(f"{what} {number}".encode()).hexdigest()


def _is_contours(number: int) -> bool:
    return number % CONTOURS_EVERY == 5


def _operation(number: int) -> str:
    if _is_contours(number):
        return "contours"
    return "generate" if number % GENERATED_OF in GENERATED else "detect"


def _is_failed(number: int) -> bool:
    return number % FAILED_EVERY == 7 and not _is_contours(number)


def _owner(number: int) -> str | None:
    if number in RARE:
        return RARE_KEY_ID
    return KEY_ID if number % OWNED_EVERY == 2 else None


def _job(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    """Values by column name."""
    at = when_us(number, newest_us, jobs)
    waits = number >= jobs
    failed = _is_failed(number) and not waits
    input_sha256 = _sha256(number, "input")
    yield {
        "id": uuid_of(number, newest_us, jobs),
        "operation": _operation(number),
        "lane": IDLE_LANE if waits else "cpu",
        "status": "queued" if waits else "failed" if failed else "succeeded",
        "progress": 0.0 if waits else 1.0,
        "cached": None,
        "cache_distance": None,
        "phash": input_sha256[:16],
        "similarity_key": SIMILARITY_KEY,
        "params": _PARAMS % input_sha256,
        "cache_key": _sha256(number, "key"),
        "leader_id": None,
        "attempt": 0 if waits else 1,
        "lease_until": None,
        "worker": None,
        "idempotency_key": None,
        "created_at": at,
        "started_at": None if waits else at + 2_000,
        "finished_at": None if waits else at + 60_000,
        "computed_at": None if failed or waits else at + 60_000,
        "result": None if failed or waits else _RESULT,
        "error": _ERROR if failed else None,
        "summary": None if failed or waits else '{"faces_count":7}',
        "key_id": None if waits else _owner(number),
        "sent_at": None,
    }


def _files(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    file = {
        "job_id": uuid_of(number, newest_us, jobs),
        "media_type": "image/jpeg",
        "size": 123_456,
        "width": 1280,
        "height": 720,
    }
    yield {
        **file,
        "id": uuid_of(number, newest_us, jobs, 1),
        "position": 0,
        "role": "input",
        "name": "image",
        "sha256": _sha256(number, "input"),
    }
    if not _is_failed(number) and number < jobs:
        yield {
            **file,
            "id": uuid_of(number, newest_us, jobs, 2),
            "position": 1,
            "role": "artifact",
            "name": "marked.jpg",
            "sha256": _sha256(number, "artifact"),
        }


def _blobs(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    for file in _files(number, newest_us, jobs):
        yield {
            "sha256": file["sha256"],
            "size": file["size"],
            "state": "kept",
            "changed_at": when_us(number, newest_us, jobs),
        }


def _events(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    if _is_contours(number) or number >= jobs:
        return
    event = {"job_id": uuid_of(number, newest_us, jobs), "operation": _operation(number), "key_id": _owner(number)}
    at = when_us(number, newest_us, jobs)
    yield {**event, "type": "job.queued", "time": at, "content": _QUEUED}
    yield {**event, "type": "job.running", "time": at + 2_000, "content": _RUNNING}
    if _is_failed(number):
        yield {**event, "type": "job.failed", "time": at + 60_000, "content": _FAILED}
    else:
        yield {**event, "type": "job.succeeded", "time": at + 60_000, "content": _SUCCEEDED}


ROWS: dict[str, Callable[[int, int, int], Iterator[Values]]] = {
    "jobs": _job,
    "files": _files,
    "events": _events,
    "blobs": _blobs,
}


def _text(value: Values) -> str:
    return json.dumps(value, separators=(",", ":"))


def _content(status: str, **more: Any) -> str:
    content = {
        "status": status,
        "progress": 0.0,
        "cached": None,
        "summary": None,
        "created_at": "2026-01-01T00:00:00.123456+00:00",
        "finished_at": None,
        "error": None,
        "artifacts": [],
    }
    return _text(content | more)


_FACE = {
    "box": {"x": 533.328, "y": 86.343, "width": 128.405, "height": 162.695},
    "box_relative": {"x": 0.41666, "y": 0.11992, "width": 0.10031, "height": 0.22596},
    "score": 0.939,
    "landmarks": {
        name: {"x": 563.819, "y": 144.571} for name in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    },
    "roll_degrees": 2.5,
}
_PROBLEM = {
    "type": "/problems/model-error",
    "title": "The model failed",
    "status": 500,
    "detail": "a filler job that failed",
    "retryable": False,
}
_FINISHED = "2026-01-01T00:00:00.183456+00:00"
_ARTIFACT = {
    "id": "019b7400-0000-7000-8002-fffffffffffe",
    "name": "marked.jpg",
    "media_type": "image/jpeg",
    "size": 123_456,
    "width": 1280,
    "height": 720,
}
_PARAMS = '{"image":{"sha256":"%s","media_type":"image/jpeg","width":1280,"height":720,"size":123456},"min_score":0.7}'
_RESULT = _text({"image": {"width": 1280, "height": 720}, "faces": [_FACE] * 6})
_ERROR = _text(_PROBLEM)
_QUEUED = _content("queued")
_RUNNING = _content("running")
_FAILED = _content("failed", finished_at=_FINISHED, error=_PROBLEM)
_SUCCEEDED = _content(
    "succeeded",
    progress=1.0,
    summary={"faces_count": 7},
    finished_at=_FINISHED,
    artifacts=[_ARTIFACT],
)
