"""What the service answers is what its OpenAPI models say; jobs and events of every kind."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from limner.domain.errors import BadImageError
from limner.domain.event import Event, EventType, content_of
from limner.domain.job import File, Job, Role, Status
from limner.web import shapes
from tests.contract.test_job_store import new_job

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
BASE = "https://faces.example"


def _jobs() -> list[Job]:
    job = new_job(created_at=NOW)
    artifact = File("f", job.id, Role.ARTIFACT, "marked.jpg", "0" * 64, "image/jpeg", 5, 6, None)
    done = replace(job, status=Status.SUCCEEDED, progress=1.0, started_at=NOW, finished_at=NOW, result={"faces": []})
    return [
        job,
        replace(job, status=Status.RUNNING, started_at=NOW, progress=0.5),
        replace(done, files=(*job.files, artifact), faces_count=0),
        replace(done, cached="exact"),
        replace(done, cached="similar"),
        replace(job, status=Status.FAILED, error=BadImageError().problem(), finished_at=NOW),
        replace(job, status=Status.CANCELLED, finished_at=NOW),
    ]


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: f"{job.status}-{job.cached}")
def test_every_job_is_of_the_shape(job: Job) -> None:
    told = shapes.job(job, BASE)
    shape = shapes.JobShape.model_validate(told, extra="forbid")
    assert set(told) >= {name for name, field in shapes.JobShape.model_fields.items() if field.is_required()}
    assert told["created_at"] == "2026-01-02T03:04:05.678901Z"
    assert shape.created_at == NOW
    assert told["url"] == f"{BASE}/v1/jobs/{job.id}"
    assert "sha256" not in str(told)
    for file in told["artifacts"]:
        assert file["url"] == f"{told['url']}/artifacts/{file['name']}"


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: f"{job.status}-{job.cached}")
@pytest.mark.parametrize("erased", [False, True])
def test_every_event_is_of_the_shape(job: Job, erased: bool) -> None:
    event = Event(1, EventType.entering(job.status), NOW, job.id, "detect", None if erased else content_of(job))
    told = shapes.event(event, BASE)
    shapes.EventShape.model_validate(told, extra="forbid")
    if erased:
        assert told["job"] == {"id": job.id, "operation": "detect"}
    else:
        assert told["job"]["artifacts"] == shapes.job(job, BASE)["artifacts"]


def test_a_whole_second_has_its_microseconds_too() -> None:
    assert shapes.moment(NOW.replace(microsecond=0)) == "2026-01-02T03:04:05.000000Z"
    assert shapes.moment(None) is None
