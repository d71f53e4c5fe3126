"""The objects that the routes use, and the pool of threads in which they call synchronous code."""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, TypeVar, TypeVarTuple

from fastapi import Depends
from starlette.datastructures import URL
from starlette.requests import HTTPConnection

from limner.domain.errors import NotFoundError
from limner.domain.job import Job
from limner.jobs.queue import Queue
from limner.jobs.submit import Submissions
from limner.operation import Operation
from limner.ports import BlobStore, JobReader
from limner.settings import Settings
from limner.vision.header import Limits
from limner.web.event_streams import Streams
from limner.web.upload_memory import UploadMemory
from limner.webhook_ports import HookReader

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREADS = 16
READERS = 8


@dataclass
class Services:
    """One object for the whole application; each route gets it through `Depends`."""

    settings: Settings
    catalogue: Mapping[str, Operation[Any, Any]]
    reader: JobReader
    hooks: HookReader
    queue: Queue
    blobs: BlobStore
    submissions: Submissions
    streams: Streams
    limits: Limits
    memory: UploadMemory
    check_ready: Callable[[], None]
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "web"))
    readers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS, "web-read"))

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run blocking code in the pool of threads, with the request's context (its id is needed for the log)."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: context.run(function, *args))

    async def read(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """The same for what only reads: threads of its own, so that it need not wait behind writers that wait."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self.readers, lambda: context.run(function, *args))

    async def job(self, job_id: str) -> Job:
        """The job. NotFoundError."""
        found = await self.read(self.reader.get, job_id)
        if found is None:
            raise NotFoundError("The job does not exist. It may have been erased.")
        return found

    def base_url(self, connection: HTTPConnection) -> str:
        """The beginning of all URLs in answers to this client, without a slash at the end."""
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        scope = connection.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), None)
        return _origin(scope["scheme"], host, scope.get("server"))


@lru_cache(maxsize=256)  # `Host` comes from clients
def _origin(scheme: str, host: bytes | None, server: tuple[str, int | None] | None) -> str:
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": server})
    return f"{'https' if scheme in ('https', 'wss') else 'http'}://{url.netloc}"


async def find_services(connection: HTTPConnection) -> Services:
    """The application's services. It is async because FastAPI would send a plain function to a thread."""
    services = connection.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(find_services)]
