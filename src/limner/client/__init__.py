"""A client of a Limner service, for threads (`Client`) and for asyncio (`AsyncClient`). It needs only httpx.

Both run the same calls (`calls.py`), which do no input and output themselves. `docs/client.md` shows how to use it.
"""

from limner.client.async_client import AsyncClient, AsyncJob
from limner.client.client import Client, Job
from limner.client.errors import (
    ClientError,
    JobCancelledError,
    JobFailedError,
    NoPictureError,
    NotReachedError,
    ProblemError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from limner.client.jobs import Artifact, Event, Problem
from limner.client.pictures import Photo
from limner.client.results import (
    ContoursResult,
    CropResult,
    DetectResult,
    GenerateResult,
    PipelineResult,
    SamplesResult,
)

__all__ = [
    "Artifact",
    "AsyncClient",
    "AsyncJob",
    "Client",
    "ClientError",
    "ContoursResult",
    "CropResult",
    "DetectResult",
    "Event",
    "GenerateResult",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "NoPictureError",
    "NotReachedError",
    "Photo",
    "PipelineResult",
    "Problem",
    "ProblemError",
    "SamplesResult",
    "UnexpectedAnswerError",
    "WaitTimeoutError",
]
