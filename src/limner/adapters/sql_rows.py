"""Rows and objects: how jobs, files and events stand in the tables, and come back."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Role, Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def job(row: Mapping[Any, Any], named: Sequence[File]) -> Job:
    return Job(
        id=row["id"],
        operation=row["operation"],
        lane=row["lane"],
        params=json.loads(row["params"]),
        cache_key=row["cache_key"],
        created_at=moment(row["created_at"]),
        status=Status(row["status"]),
        progress=row["progress"],
        cached=row["cached"],
        cache_distance=row["cache_distance"],
        look=row["look"],
        rest_key=row["rest_key"],
        attempt=row["attempt"],
        leader_id=row["leader_id"],
        started_at=moment(row["started_at"]) if row["started_at"] is not None else None,
        finished_at=moment(row["finished_at"]) if row["finished_at"] is not None else None,
        computed_at=moment(row["computed_at"]) if row["computed_at"] is not None else None,
        result=json.loads(row["result"]) if row["result"] is not None else None,
        error=json.loads(row["error"]) if row["error"] is not None else None,
        faces_count=row["faces_count"],
        files=tuple(named),
    )


def file(row: Mapping[Any, Any]) -> File:
    return File(
        id=row["id"],
        job_id=row["job_id"],
        role=Role(row["role"]),
        name=row["name"],
        sha256=row["sha256"],
        media_type=row["media_type"],
        size=row["size"],
        width=row["width"],
        height=row["height"],
    )


def event(row: Mapping[Any, Any]) -> Event:
    return Event(
        id=row["id"],
        type=EventType(row["type"]),
        time=moment(row["time"]),
        job_id=row["job_id"],
        operation=row["operation"],
        content=json.loads(row["content"]) if row["content"] is not None else None,
    )


def json_text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))


def micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
